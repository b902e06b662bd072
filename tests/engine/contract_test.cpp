// The completeness of the contract language: arithmetic that real runtimes perform, each written only as a contract, run by
// the generic interpreter, and compared with an independent plain implementation. Zero differences.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <random>

#include "core/base/error.hpp"
#include "core/base/files.hpp"

#include "core/engine/provider.hpp"
#include "core/rules/contract_json.hpp"
#include "core/rules/unit.hpp"

namespace quern {
namespace {

std::shared_ptr<const Contract> contract(const char* text) {
  return std::make_shared<const Contract>(parse_contract("test", parse_json(text, "test"), "test"));
}

// One of tests/rules/contracts, where the completeness list stands as JSON.
std::shared_ptr<const Contract> contract_file(const std::string& name) {
  const char* source = std::getenv("QUERN_SOURCE_DIR");
  const fs::path path = fs::path(source ? source : ".") / "tests" / "rules" / "contracts" / (name + ".json");
  return std::make_shared<const Contract>(parse_contract(name, parse_json(read_text(path), path.string()), path.string()));
}

QuantParams tensor_params(bool is_signed, float scale, int64_t zero) { return {make_format(8, is_signed, false), -1, {scale}, {zero}}; }

// Runs one unit on flowing inputs (all distinct), output of the given dims.
Tensor run_unit(std::shared_ptr<IntegerUnit> unit, const std::vector<Tensor>& inputs, const Dims& out_dims, bool channels_last = false) {
  Graph graph;
  Node node;
  node.name = "unit";
  node.domain = "quern";
  node.op = "Unit";
  KernelRequest request{graph, {}, {}, {}, {}, {}, 1};
  for (size_t i = 0; i < inputs.size(); ++i) {
    node.inputs.push_back(graph.add_value("in" + std::to_string(i), inputs[i].type(), inputs[i].dims()));
    request.inputs.push_back({inputs[i].type(), inputs[i].dims(), Layout::row_major, nullptr});
    request.input_values.push_back(node.inputs.back());
  }
  graph.set_inputs(node.inputs);
  const ValueId out = graph.add_value("out", unit->output.dtype, out_dims);
  node.outputs = {out};
  node.payload = unit;
  request.members = {graph.add_node(node)};
  request.outputs = {{unit->output.dtype, out_dims, Layout::row_major, nullptr}};
  request.output_values = {out};
  auto prepared = interpreter_provider()->prepare(request);
  EXPECT_TRUE(prepared);
  std::vector<Tensor> held;
  std::vector<Dims> strides;
  std::vector<TensorView> views;
  strides.reserve(inputs.size() + 1);
  held.reserve(inputs.size());
  for (const Tensor& t : inputs) {
    held.push_back(Tensor(t.type(), t.dims()));
    const Dims row = row_major_strides(t.dims());
    strides.push_back(channels_last ? channels_last_strides(t.dims()) : row);
    const TensorView from{const_cast<void*>(t.data()), t.type(), t.dims(), row};
    views.push_back({held.back().mutable_bytes(), t.type(), held.back().dims(), strides.back()});
    copy(from, views.back());
  }
  Tensor result(unit->output.dtype, out_dims);
  const Dims row = row_major_strides(out_dims);
  const TensorView view{result.mutable_bytes(), result.type(), result.dims(), row};
  std::vector<std::byte> workspace(prepared->kernel->workspace_bytes() + 64);
  prepared->kernel->run(views, std::span(&view, 1), workspace.data(), nullptr);
  return result;
}

UnitOperand flowing(const std::string& role, DType type, std::optional<QuantParams> params) {
  UnitOperand o;
  o.role = o.value = role;
  o.dtype = type;
  o.params = std::move(params);
  return o;
}

template <class T>
Tensor random_tensor(const Dims& dims, std::mt19937& random, int low, int high) {
  Tensor t(dtype_of<T>::value, dims);
  std::uniform_int_distribution<int> any(low, high);
  for (auto& v : t.mutable_values<T>()) v = static_cast<T>(any(random));
  return t;
}

int64_t nearest_even(double v) {
  const double floor = std::floor(v), rest = v - floor;
  if (rest != 0.5) return static_cast<int64_t>(rest > 0.5 ? floor + 1 : floor);
  return static_cast<int64_t>(std::fmod(floor, 2) == 0 ? floor : floor + 1);
}

// oneDNN's int8 convolution with VNNI: float bias add, per-channel multiplier, fused sum, clamp, zero point before rounding.
TEST(contract, oneDNN_convolution) {
  std::mt19937 random(1);
  const int64_t ic = 5, oc = 4, size = 6;
  for (int round = 0; round < 40; ++round) {
    const bool same = round % 2, group = round % 3 == 0, residual = round % 4 < 2;
    const int64_t zx = random() % 256, zr = random() % 256, zy = random() % 256, groups = group ? ic : 1, outs = group ? ic : oc;
    auto unit = std::make_shared<IntegerUnit>();
    unit->contract = contract_file("cpu_dot");
    const Tensor w = random_tensor<int8_t>({outs, ic / groups, 3, 3}, random, -127, 127);
    const int64_t pad = same ? 1 : 0, out = size + 2 * pad - 2;
    UnitMember conv;
    conv.op = "Conv";
    conv.since_version = 11;
    conv.attributes = {{"group", groups}, {"pads", std::vector<int64_t>{pad, pad, pad, pad}}};
    conv.inputs = {0, 1};
    unit->members = {conv};
    unit->operands = {flowing("input", DType::u8, tensor_params(false, 0.1f, zx)), flowing("weight", DType::s8, tensor_params(true, 0.1f, 0))};
    unit->operands[1].constant = std::make_shared<const Tensor>(w);
    std::vector<float> multiplier(outs), bias(outs);
    for (auto& m : multiplier) m = std::ldexp(static_cast<float>(1 + random() % 1000), -18);
    for (auto& b : bias) b = static_cast<float>(static_cast<int>(random() % 200001) - 100000);
    unit->tables["multiplier"] = Tensor::of<float>({outs}, multiplier);
    unit->tables["bias_f32"] = Tensor::of<float>({outs}, bias);
    const float sum_scale = 0.37f, low = -20, high = 90;
    unit->tables["residual_scale"] = Tensor::scalar<float>(sum_scale);
    unit->tables["act_low"] = Tensor::scalar<float>(low);
    unit->tables["act_high"] = Tensor::scalar<float>(high);
    unit->tables["output_zero_point"] = Tensor::scalar<float>(static_cast<float>(zy));
    unit->output = flowing("output", DType::u8, tensor_params(false, 0.2f, zy));
    std::vector<Tensor> inputs{random_tensor<uint8_t>({2, ic, size, size}, random, 0, 255)};
    if (residual) {
      unit->operands.push_back(flowing("residual", DType::u8, tensor_params(false, 0.3f, zr)));
      inputs.push_back(random_tensor<uint8_t>({2, outs, out, out}, random, 0, 255));
    }
    const Tensor y = run_unit(unit, inputs, {2, outs, out, out}, round % 5 == 0);
    const auto x = inputs[0].values<uint8_t>(), got = y.values<uint8_t>();
    int64_t at = 0;
    for (int64_t n = 0; n < 2; ++n)
      for (int64_t o = 0; o < outs; ++o)
        for (int64_t h = 0; h < out; ++h)
          for (int64_t v = 0; v < out; ++v, ++at) {
            int64_t acc = 0;
            for (int64_t c = 0; c < ic / groups; ++c)
              for (int64_t i = 0; i < 3; ++i)
                for (int64_t j = 0; j < 3; ++j) {
                  const int64_t hh = h + i - pad, vv = v + j - pad, channel = group ? o : c;
                  if (hh < 0 || vv < 0 || hh >= size || vv >= size) continue;
                  acc += (x[((n * ic + channel) * size + hh) * size + vv] - zx) * w.values<int8_t>()[((o * (ic / groups) + c) * 3 + i) * 3 + j];
                }
            float t = static_cast<float>(acc) + bias[o];
            t = t * multiplier[o];
            if (residual) t = std::fma(static_cast<float>(inputs[1].values<uint8_t>()[at] - zr), sum_scale, t);
            t = std::min(std::max(t, low), high);
            t = t + static_cast<float>(zy);
            const int64_t want = std::clamp<int64_t>(nearest_even(t), 0, 255);
            ASSERT_EQ(got[at], want) << "round " << round << " element " << at;
          }
  }
}

// A function fused behind a sum by a table: the sum is never rounded to 8 bits. With codes and with floats in the table.
TEST(contract, fused_table) {
  std::mt19937 random(9);
  for (const bool floats : {false, true}) {
    auto unit = std::make_shared<IntegerUnit>();
    unit->contract = contract_file("cpu_dot");
    UnitMember product, function;
    product.op = "MatMul";
    product.inputs = {0, 1};
    function.op = "Sigmoid";
    function.inputs = {-1};
    unit->members = {product, function};
    unit->operands = {flowing("input", DType::u8, tensor_params(false, 0.1f, 100)), flowing("weight", DType::s8, tensor_params(true, 0.1f, 0))};
    const Tensor w = random_tensor<int8_t>({7, 3}, random, -127, 127);
    unit->operands[1].constant = std::make_shared<const Tensor>(w);
    const float multiplier = 0.0731f, offset = 2047.5f;
    unit->tables["multiplier"] = Tensor::scalar<float>(multiplier);
    unit->tables["act_offset"] = Tensor::scalar<float>(offset);
    std::vector<float> values(4096);
    std::vector<uint8_t> codes(4096);
    for (size_t i = 0; i < 4096; ++i) {
      values[i] = static_cast<float>(i) * 0.5f - 3;
      codes[i] = static_cast<uint8_t>(i * 31 % 256);
    }
    unit->tables["act_table"] = floats ? Tensor::of<float>({4096}, values) : Tensor::of<uint8_t>({4096}, codes);
    unit->output = floats ? flowing("output", DType::f32, std::nullopt) : flowing("output", DType::u8, tensor_params(false, 0.2f, 3));
    const Tensor x = random_tensor<uint8_t>({50, 7}, random, 0, 255);
    const Tensor y = run_unit(unit, {x}, {50, 3});
    int ends = 0;
    for (int64_t n = 0; n < 50; ++n)
      for (int64_t c = 0; c < 3; ++c) {
        int64_t acc = 0;
        for (int64_t k = 0; k < 7; ++k) acc += (x.values<uint8_t>()[n * 7 + k] - 100) * w.values<int8_t>()[k * 3 + c];
        const float t = static_cast<float>(acc) * multiplier;
        const auto at = static_cast<size_t>(std::clamp<int64_t>(nearest_even(t + offset), 0, 4095));
        ends += at == 0 || at == 4095;
        if (floats) ASSERT_EQ(y.values<float>()[n * 3 + c], values[at]);
        else ASSERT_EQ(y.values<uint8_t>()[n * 3 + c], codes[at]);
      }
    EXPECT_GT(ends, 0);
    EXPECT_LT(ends, 150);
  }
}

// Linear along one axis with 3 taps, nearest along the other, one axis as it is; then what must be refused.
TEST(contract, resample) {
  std::mt19937 random(12);
  const std::vector<int32_t> taps_2{0, 1, 2, 1, 2, 3, 3, 3, 0, 2, 2, 2}, weights_2{5, -3, 9, 1, 4, 1, 0, 0, 7, 2, 2, 2};
  const std::vector<int32_t> taps_3{1, 0, 0, 4, 3}, weights_3{1, 1, 2, 1, 3};
  auto unit = std::make_shared<IntegerUnit>();
  unit->contract = contract_file("resample");
  UnitMember resize;
  resize.op = "Resize";
  resize.inputs = {0};
  unit->members = {resize};
  unit->operands = {flowing("input", DType::u8, tensor_params(false, 0.1f, 77))};
  unit->output = flowing("output", DType::u8, tensor_params(false, 0.2f, 90));
  unit->tables = {{"taps_2", Tensor::of<int32_t>({4, 3}, taps_2)}, {"weights_2", Tensor::of<int32_t>({4, 3}, weights_2)},
                  {"taps_3", Tensor::of<int32_t>({5, 1}, taps_3)}, {"weights_3", Tensor::of<int32_t>({5, 1}, weights_3)},
                  {"ratio", Tensor::scalar<float>(0.037f)}, {"output_zero_point", Tensor::scalar<float>(90)}};
  const Tensor x = random_tensor<uint8_t>({2, 3, 4, 5}, random, 0, 255);
  for (const bool last : {false, true}) {
    const Tensor y = run_unit(unit, {x}, {2, 3, 4, 5}, last);
    int64_t at = 0;
    for (int64_t n = 0; n < 6; ++n)
      for (size_t h = 0; h < 4; ++h)
        for (size_t w = 0; w < 5; ++w, ++at) {
          int64_t sum = 0;
          for (size_t t = 0; t < 3; ++t)
            sum += int64_t{weights_2[3 * h + t]} * weights_3[w] * (x.values<uint8_t>()[(n * 4 + taps_2[3 * h + t]) * 5 + taps_3[w]] - 77);
          const float t = static_cast<float>(sum) * 0.037f + 90.f;
          ASSERT_EQ(y.values<uint8_t>()[at], std::clamp<int64_t>(nearest_even(t), 0, 255));
        }
  }
  const auto refused = [&](const char* name, Tensor table) {
    auto other = std::make_shared<IntegerUnit>(*unit);
    other->tables[name] = std::move(table);
    EXPECT_THROW(run_unit(other, {x}, {2, 3, 4, 5}), Error) << name;
  };
  refused("taps_3", Tensor::of<int32_t>({5, 1}, std::vector<int32_t>{1, 0, 5, 4, 3}));         // beyond the input
  refused("taps_3", Tensor::of<int32_t>({5}, taps_3));                                         // of another shape than the weights
  refused("weights_2", Tensor::of<int32_t>({4, 3}, std::vector<int32_t>(12, 1 << 24)));        // leaves 32 bits
  auto bare = std::make_shared<IntegerUnit>(*unit);
  bare->tables.erase("taps_2");
  EXPECT_THROW(run_unit(bare, {x}, {2, 3, 4, 5}), Error);
  bare->tables.erase("weights_2");
  EXPECT_THROW(run_unit(bare, {x}, {2, 3, 8, 5}), Error);  // no table, another size
}

// A Pad adds the code of its value, not the value itself.
TEST(contract, pad_adds_codes) {
  auto unit = std::make_shared<IntegerUnit>();
  unit->contract = contract(R"({"form": "move"})");
  UnitMember pad;
  pad.op = "Pad";
  pad.since_version = 13;
  pad.inputs = {0, 1};
  unit->members = {pad};
  UnitOperand pads;
  pads.value = "pads";
  pads.dtype = DType::s64;
  pads.constant = std::make_shared<const Tensor>(Tensor::of<int64_t>({2}, std::vector<int64_t>{1, 2}));
  unit->operands = {flowing("input", DType::u8, tensor_params(false, 0.5f, 77)), pads};
  unit->output = unit->operands[0];
  unit->output.role = "output";
  const Tensor x = Tensor::of<uint8_t>({2}, std::vector<uint8_t>{3, 4});
  EXPECT_EQ(run_unit(unit, {x}, {5}).to_ints(), (std::vector<int64_t>{77, 3, 4, 77, 77}));
  UnitOperand value;
  value.value = "value";
  value.constant = std::make_shared<const Tensor>(Tensor::scalar<float>(10.2f));
  unit->operands.push_back(value);
  unit->members[0].inputs = {0, 1, 2};
  EXPECT_EQ(run_unit(unit, {x}, {5}).to_ints(), (std::vector<int64_t>{97, 3, 4, 97, 97}));
}

TEST(contract, combine_div) {
  auto unit = std::make_shared<IntegerUnit>();
  unit->contract = contract(R"({"form": "elementwise2", "combine": "div", "operands": {"a": [{"i2f32": {}}], "b": [{"i2f32": {}}]}})");
  UnitMember div;
  div.op = "Div";
  div.inputs = {0, 1};
  unit->members = {div};
  unit->operands = {flowing("a", DType::u8, tensor_params(false, 1, 0)), flowing("b", DType::u8, tensor_params(false, 1, 0))};
  unit->output = flowing("output", DType::f32, std::nullopt);
  const Tensor a = Tensor::of<uint8_t>({3}, std::vector<uint8_t>{1, 255, 7}), b = Tensor::of<uint8_t>({3}, std::vector<uint8_t>{3, 7, 255});
  EXPECT_EQ(run_unit(unit, {a, b}, {3}).to_floats(), (std::vector<float>{1.f / 3, 255.f / 7, 7.f / 255}));
  unit->contract = contract(R"({"form": "elementwise2", "combine": "div"})");
  EXPECT_THROW(run_unit(unit, {a, b}, {3}), Error);  // integers are not divided
}

TEST(contract, function_table) {
  for (const bool floats : {false, true}) {
    auto unit = std::make_shared<IntegerUnit>();
    unit->contract = contract_file("function_table");
    UnitMember function;
    function.op = "Exp";
    function.inputs = {0};
    unit->members = {function};
    unit->operands = {flowing("input", DType::s8, tensor_params(true, 0.1f, 0))};
    unit->output = floats ? flowing("output", DType::f32, std::nullopt) : flowing("output", DType::s8, tensor_params(true, 0.2f, 0));
    std::vector<float> values(256);
    std::vector<int8_t> codes(256);
    std::vector<int8_t> all(256);
    for (int i = 0; i < 256; ++i) {
      all[static_cast<size_t>(i)] = static_cast<int8_t>(i - 128);
      values[static_cast<size_t>(i)] = std::exp(0.1f * static_cast<float>(i - 128));
      codes[static_cast<size_t>(i)] = static_cast<int8_t>(i * 7 % 256 - 128);
    }
    unit->tables["table_first"] = Tensor::scalar<int32_t>(-128);
    unit->tables["table"] = floats ? Tensor::of<float>({256}, values) : Tensor::of<int8_t>({256}, codes);
    const Tensor y = run_unit(unit, {Tensor::of<int8_t>({4, 64}, all)}, {4, 64});
    for (size_t i = 0; i < 256; ++i) {
      if (floats) ASSERT_EQ(y.values<float>()[i], values[i]);
      else ASSERT_EQ(y.values<int8_t>()[i], codes[i]);
    }
  }
}

int32_t saturating_rounding_doubling_high_mul(int32_t a, int32_t b) {
  if (a == b && a == INT32_MIN) return INT32_MAX;
  const int64_t product = static_cast<int64_t>(a) * b;
  // Ties toward plus infinity, as the reference's nudge and truncating division amount to.
  return static_cast<int32_t>((product + (int64_t{1} << 30)) >> 31);
}
int32_t rounding_divide_by_pot(int32_t x, int exponent) {
  const int32_t mask = static_cast<int32_t>((int64_t{1} << exponent) - 1), remainder = x & mask;
  const int32_t threshold = (mask >> 1) + (x < 0 ? 1 : 0);
  return (x >> exponent) + (remainder > threshold ? 1 : 0);
}

// TFLite's quantized ADD: both inputs shifted left by 20, scaled in Q31 with double rounding, added, scaled again.
TEST(contract, tflite_add) {
  std::mt19937 random(2);
  for (int round = 0; round < 30; ++round) {
    const int64_t za = static_cast<int64_t>(random() % 256) - 128, zb = static_cast<int64_t>(random() % 256) - 128, zy = static_cast<int64_t>(random() % 256) - 128;
    const int32_t ma = static_cast<int32_t>(1073741824u + random() % 1073741823u), mb = static_cast<int32_t>(1073741824u + random() % 1073741823u);
    const int32_t my = static_cast<int32_t>(1073741824u + random() % 1073741823u);
    const int sa = random() % 4, sb = random() % 4, sy = 17 + static_cast<int>(random() % 4);
    auto unit = std::make_shared<IntegerUnit>();
    unit->contract = contract_file("tflite_add");
    const auto scalar = [](int64_t v) { return Tensor::scalar<int64_t>(v); };
    unit->tables = {{"a_multiplier", scalar(ma)}, {"b_multiplier", scalar(mb)}, {"output_multiplier", scalar(my)},
                    {"a_shift", scalar(sa)}, {"b_shift", scalar(sb)}, {"output_shift", scalar(sy)}};
    UnitMember add;
    add.op = "Add";
    add.inputs = {0, 1};
    unit->members = {add};
    unit->operands = {flowing("a", DType::s8, tensor_params(true, 0.1f, za)), flowing("b", DType::s8, tensor_params(true, 0.2f, zb))};
    unit->output = flowing("output", DType::s8, tensor_params(true, 0.3f, zy));
    const Tensor a = random_tensor<int8_t>({3, 4, 5, 5}, random, -128, 127), b = random_tensor<int8_t>({3, 4, 5, 5}, random, -128, 127);
    const Tensor y = run_unit(unit, {a, b}, {3, 4, 5, 5});
    for (int64_t i = 0; i < y.count(); ++i) {
      const auto scaled = [](int64_t q, int64_t z, int32_t m, int s) {
        return rounding_divide_by_pot(saturating_rounding_doubling_high_mul(static_cast<int32_t>((q - z) * (1 << 20)), m), s);
      };
      const int32_t sum = scaled(a.values<int8_t>()[i], za, ma, sa) + scaled(b.values<int8_t>()[i], zb, mb, sb);
      const int64_t want = std::clamp<int64_t>(rounding_divide_by_pot(saturating_rounding_doubling_high_mul(sum, my), sy) + zy, -128, 127);
      ASSERT_EQ(y.values<int8_t>()[i], want) << "round " << round << " element " << i;
    }
  }
}

// Average pooling with and without counted padding: padding is the zero point, the divisor the window count.
TEST(contract, average_pooling) {
  std::mt19937 random(3);
  for (int round = 0; round < 40; ++round) {
    const bool counted = round % 2, ceil = round % 3 == 0;
    const int64_t zx = random() % 256, zy = random() % 256, size = 7, stride = 1 + round % 2;
    auto unit = std::make_shared<IntegerUnit>();
    unit->contract = contract_file(counted ? "average_pool_counted" : "average_pool_valid");
    const float ratio = 1.75f;
    const int64_t multiplier = 29127 + static_cast<int64_t>(random() % 1000), shift = 17;
    if (counted) unit->tables = {{"multiplier", Tensor::scalar<int64_t>(multiplier)}, {"shift", Tensor::scalar<int64_t>(shift)}};
    else unit->tables = {{"ratio", Tensor::scalar<float>(ratio)}, {"output_zero_point", Tensor::scalar<float>(static_cast<float>(zy))}};
    UnitMember pool;
    pool.op = "AveragePool";
    pool.since_version = 11;
    pool.attributes = {{"kernel_shape", std::vector<int64_t>{3, 3}}, {"pads", std::vector<int64_t>{1, 0, 1, 1}}, {"strides", std::vector<int64_t>{stride, stride}},
                       {"count_include_pad", int64_t{counted}}, {"ceil_mode", int64_t{ceil}}};
    pool.inputs = {0};
    unit->members = {pool};
    unit->operands = {flowing("input", DType::u8, tensor_params(false, 0.1f, zx))};
    unit->output = flowing("output", DType::u8, tensor_params(false, 0.2f, zy));
    const Tensor x = random_tensor<uint8_t>({2, 3, size, size}, random, 0, 255);
    const auto places = [&](int64_t padded) { return (padded - 3 + (ceil ? stride - 1 : 0)) / stride + 1; };
    const int64_t oh = places(size + 2), ow = places(size + 1);
    const Tensor y = run_unit(unit, {x}, {2, 3, oh, ow}, round % 5 == 0);
    int64_t at = 0;
    for (int64_t p = 0; p < 6; ++p)
      for (int64_t h = 0; h < oh; ++h)
        for (int64_t w = 0; w < ow; ++w, ++at) {
          int64_t sum = 0, count = 0;
          for (int64_t i = 0; i < 3; ++i)
            for (int64_t j = 0; j < 3; ++j) {
              const int64_t hh = h * stride + i - 1, ww = w * stride + j;
              const bool inside = hh >= 0 && ww >= 0 && hh < size && ww < size;
              if (inside) sum += x.values<uint8_t>()[(p * size + hh) * size + ww] - zx;
              if (inside || (counted && hh < size + 1 && ww < size + 1)) ++count;
            }
          int64_t want = 0;
          if (counted) {
            const int64_t product = sum * multiplier, size_of_it = product < 0 ? -product : product, half = int64_t{1} << (shift - 1);
            const int64_t rounded = (size_of_it + half) >> shift;  // ties away from zero
            want = (product < 0 ? -rounded : rounded) + zy;
          } else {
            want = nearest_even(static_cast<float>(sum) / static_cast<float>(count) * ratio + static_cast<float>(zy));
          }
          ASSERT_EQ(y.values<uint8_t>()[at], std::clamp<int64_t>(want, 0, 255)) << "round " << round << " element " << at;
        }
  }
}

// Concat whose inputs have parameters of their own: each is brought to the output's.
TEST(contract, concat_with_requantization) {
  std::mt19937 random(4);
  for (int round = 0; round < 20; ++round) {
    const int64_t z0 = random() % 256, z1 = random() % 256, zy = random() % 256;
    auto unit = std::make_shared<IntegerUnit>();
    unit->contract = contract_file("concat_requantized");
    const int64_t m0 = 20480 + static_cast<int64_t>(random() % 999), m1 = 31000, s0 = 15, s1 = 14;
    const auto scalar = [](int64_t v) { return Tensor::scalar<int64_t>(v); };
    unit->tables = {{"in0_multiplier", scalar(m0)}, {"in1_multiplier", scalar(m1)}, {"in0_shift", scalar(s0)}, {"in1_shift", scalar(s1)}};
    UnitMember concat;
    concat.op = "Concat";
    concat.since_version = 13;
    concat.attributes = {{"axis", int64_t{1}}};
    concat.inputs = {0, 1};
    unit->members = {concat};
    unit->operands = {flowing("in0", DType::u8, tensor_params(false, 0.1f, z0)), flowing("in1", DType::u8, tensor_params(false, 0.2f, z1))};
    unit->output = flowing("output", DType::u8, tensor_params(false, 0.16f, zy));
    const Tensor a = random_tensor<uint8_t>({2, 3, 4, 4}, random, 0, 255), b = random_tensor<uint8_t>({2, 2, 4, 4}, random, 0, 255);
    const Tensor y = run_unit(unit, {a, b}, {2, 5, 4, 4}, round % 2 == 0);
    for (int64_t n = 0; n < 2; ++n)
      for (int64_t c = 0; c < 5; ++c)
        for (int64_t i = 0; i < 16; ++i) {
          const bool first = c < 3;
          const int64_t q = first ? a.values<uint8_t>()[(n * 3 + c) * 16 + i] : b.values<uint8_t>()[(n * 2 + c - 3) * 16 + i];
          const int64_t product = (q - (first ? z0 : z1)) * (first ? m0 : m1), half = int64_t{1} << ((first ? s0 : s1) - 1);
          const int64_t rounded = ((product < 0 ? -product : product) + half) >> (first ? s0 : s1);  // ties away from zero
          ASSERT_EQ(y.values<uint8_t>()[(n * 5 + c) * 16 + i], std::clamp<int64_t>((product < 0 ? -rounded : rounded) + zy, 0, 255));
        }
  }
}

// The host's borders, written as contracts: ONNX QuantizeLinear and DequantizeLinear.
TEST(contract, border_quantize_and_dequantize) {
  const float scale = 0.25f;
  const int64_t zero = 113;
  auto quantizer = std::make_shared<IntegerUnit>();
  quantizer->contract = contract_file("border_quantize");
  UnitMember identity;
  identity.op = "Identity";
  identity.inputs = {0};
  quantizer->members = {identity};
  quantizer->operands = {flowing("input", DType::f32, std::nullopt)};
  quantizer->output = flowing("output", DType::u8, tensor_params(false, scale, zero));
  std::vector<float> values;
  for (int i = -2000; i <= 2000; ++i) values.push_back(static_cast<float>(i) * 0.0625f);  // every second one a tie
  values.insert(values.end(), {1e30f, -1e30f, INFINITY, -INFINITY, -0.0f});
  const Tensor x = Tensor::of<float>({static_cast<int64_t>(values.size())}, values);
  const Tensor q = run_unit(quantizer, {x}, x.dims());
  const Tensor host = quantize(x, *quantizer->output.params);
  for (size_t i = 0; i < values.size(); ++i) {
    const double r = std::clamp<double>(values[i] / scale, -1e9, 1e9);
    ASSERT_EQ(q.values<uint8_t>()[i], std::clamp<int64_t>(nearest_even(r) + zero, 0, 255)) << values[i];
    ASSERT_EQ(host.values<uint8_t>()[i], q.values<uint8_t>()[i]) << values[i];
  }

  auto back = std::make_shared<IntegerUnit>();
  back->contract = contract_file("border_dequantize");
  back->members = {identity};
  back->operands = {flowing("input", DType::u8, tensor_params(false, scale, zero))};
  back->output = flowing("output", DType::f32, std::nullopt);
  const Tensor f = run_unit(back, {q}, q.dims());
  for (int64_t i = 0; i < f.count(); ++i)
    ASSERT_EQ(f.values<float>()[i], static_cast<float>(q.values<uint8_t>()[i] - zero) * scale);
}

// A saturating accumulator: order and block size are part of the arithmetic (Intel GNA).
TEST(contract, saturating_accumulator_in_blocks) {
  std::mt19937 random(5);
  auto unit = std::make_shared<IntegerUnit>();
  unit->contract = contract(R"({"form": "dot", "acc": {"bits": 32, "overflow": "saturate", "saturate_every": 64, "order": "ordered", "init": "bias"}, "post": [{"clamp": [-2147483648, 2147483647]}]})");
  const int64_t k = 300, n = 8;
  const Tensor w = random_tensor<int16_t>({n, k}, random, -32768, 32767);
  const Tensor bias = random_tensor<int32_t>({n}, random, -1000000, 1000000);
  UnitMember gemm;
  gemm.op = "Gemm";
  gemm.attributes = {{"transB", int64_t{1}}};
  gemm.inputs = {0, 1, 2};
  unit->members = {gemm};
  const QuantParams p16{make_format(16, true, false), -1, {1.0f}, {0}};
  unit->operands = {flowing("input", DType::s16, p16), flowing("weight", DType::s16, p16), flowing("bias", DType::s32, std::nullopt)};
  unit->operands[1].constant = std::make_shared<const Tensor>(w);
  unit->operands[2].constant = std::make_shared<const Tensor>(bias);
  unit->output = flowing("output", DType::s32, QuantParams{make_format(32, true, false), -1, {1.0f}, {0}});
  const Tensor x = random_tensor<int16_t>({4, k}, random, -32768, 32767);
  const Tensor y = run_unit(unit, {x}, {4, n});
  int64_t saturated = 0;
  for (int64_t r = 0; r < 4; ++r)
    for (int64_t o = 0; o < n; ++o) {
      int64_t sum = bias.values<int32_t>()[o];
      for (int64_t i = 0; i < k; ++i) {
        sum += static_cast<int64_t>(x.values<int16_t>()[r * k + i]) * w.values<int16_t>()[o * k + i];
        if ((i + 1) % 64 == 0 || i + 1 == k) {
          const int64_t limited = std::clamp<int64_t>(sum, INT32_MIN, INT32_MAX);
          saturated += limited != sum;
          sum = limited;
        }
      }
      ASSERT_EQ(y.values<int32_t>()[r * n + o], sum);
    }
  EXPECT_GT(saturated, 0) << "the data must reach the limits for this test to say something";
}

}  // namespace
}  // namespace quern
