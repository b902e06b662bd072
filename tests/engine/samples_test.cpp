// run_samples, folding, borders and the shapes of units.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "core/base/parallel.hpp"
#include "core/engine/reorder.hpp"
#include "core/numeric/quantization.hpp"
#include "core/rules/unit.hpp"
#include "tests/engine/engine_testing.hpp"

namespace quern::testing {
namespace {

Graph small_network() {
  Builder b;
  const ValueId x = b.input("x", {1, 8, 9, 9});
  const ValueId y = b.op("Relu", {b.conv(x, {16, 8, 3, 3})}, {}, 14, "relu");
  const ValueId z = b.op("MatMul", {b.reshape(y, {16, 81}), b.weights({81, 33})});
  return b.outputs({z});
}

TEST(RunSamples, same_bytes_for_any_number_of_threads_and_in_order) {
  EngineOptions options = usual();
  options.taps = {"relu_out"};
  options.op_threads = 2;  // not used here: one thread per kernel
  Engine engine(small_network(), options);
  std::vector<std::vector<Tensor>> results, taps;
  for (int threads : {1, 2, 5}) {
    std::vector<Tensor> outs, seen(40);
    run_samples(
        engine, 40, threads, [](int64_t i) { return NamedTensors{{"x", random_tensor({1, 8, 9, 9}, static_cast<uint32_t>(i))}}; },
        [&](int64_t i, int worker, const std::string& name, const TensorView& view) {
          EXPECT_LT(worker, threads);
          EXPECT_EQ(name, "relu_out");
          seen[static_cast<size_t>(i)] = dense(view);
        },
        [&](int64_t i, NamedTensors out) {
          EXPECT_EQ(i, static_cast<int64_t>(outs.size()));
          if (i % 7 == 3) std::this_thread::sleep_for(std::chrono::milliseconds(2));
          outs.push_back(out[0].second);
        });
    EXPECT_EQ(outs.size(), 40u);
    results.push_back(outs);
    taps.push_back(seen);
  }
  for (size_t t = 1; t < results.size(); ++t)
    for (size_t i = 0; i < 40; ++i) {
      expect_same_bytes(results[t][i], results[0][i]);
      expect_same_bytes(taps[t][i], taps[0][i]);
    }
}

TEST(RunSamples, the_first_failing_sample_is_reported_whatever_the_threads) {
  Engine engine(small_network(), usual());
  for (int threads : {1, 4})
    for (int64_t bad_done : {5, 30}) {
      std::atomic<int64_t> done{0};
      try {
        run_samples(
            engine, 40, threads,
            [](int64_t i) {
              if (i == 12 || i == 13) throw Error(ErrorCode::data, "sample " + std::to_string(i));
              return NamedTensors{{"x", random_tensor({1, 8, 9, 9}, 1)}};
            },
            {},
            [&](int64_t i, NamedTensors) {
              if (i == bad_done) throw Error(ErrorCode::data, "done " + std::to_string(i));
              ++done;
            });
        FAIL();
      } catch (const Error& e) {
        EXPECT_STREQ(e.what(), bad_done == 5 ? "done 5" : "sample 12");
      }
      EXPECT_EQ(done.load(), bad_done == 5 ? 5 : 12);
    }
}

TEST(RunSamples, nothing_to_do_and_cancellation) {
  Engine engine(small_network(), usual());
  auto input = [](int64_t i) {
    if (i == 3) request_cancel();
    return NamedTensors{{"x", random_tensor({1, 8, 9, 9}, 1)}};
  };
  run_samples(engine, 0, 4, input, {}, [](int64_t, NamedTensors) { FAIL(); });
  try {
    run_samples(engine, 1000, 3, input, {}, [](int64_t, NamedTensors) {});
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::interrupted);
  }
  clear_cancel();
}

TEST(Folding, computes_what_a_run_computes) {
  Builder b;
  const Tensor s = Tensor::of<int64_t>({2}, std::vector<int64_t>{4, 1});
  const ValueId a = b.weights({2, 2}), c = b.weights({2, 2}), x = b.input("x", {2, 2});
  const ValueId m = b.op("MatMul", {a, c}), sum = b.op("Add", {a, c}, {}, 14), r = b.reshape(a, {4, 1});
  const ValueId flows = b.op("Add", {a, x}, {}, 14), odd = b.op("Frobnicate", {a}), wrong = b.op("Add", {a, b.weights({3})}, {}, 14);
  const Graph g = b.outputs({m, sum, r, flows, odd, wrong});
  auto fold = [&](ValueId v) { return evaluate_constant_node(g, g.node(g.value(v).producer)); };
  auto want = [&](ValueId v) {
    const Array p = array_of(*g.value(a).constant), q = array_of(*g.value(c).constant);
    Array out = p;
    if (v == m) out.v = {p.v[0] * q.v[0] + p.v[1] * q.v[2], p.v[0] * q.v[1] + p.v[1] * q.v[3], p.v[2] * q.v[0] + p.v[3] * q.v[2],
                         p.v[2] * q.v[1] + p.v[3] * q.v[3]};
    if (v == sum) for (size_t i = 0; i < 4; ++i) out.v[i] += q.v[i];
    if (v == r) out.dims = {4, 1};
    return out;
  };
  for (ValueId v : {m, sum, r}) {
    const auto folded = fold(v);
    ASSERT_TRUE(folded) << g.value(v).name;
    ASSERT_EQ(folded->size(), 1u);
    expect_close((*folded)[0], want(v), 1e-6);
  }
  for (ValueId v : {flows, odd, wrong}) EXPECT_FALSE(fold(v)) << g.value(v).name;
}

Graph border_graph(const std::string& op, const QuantParams& params, const Dims& dims, DType from) {
  Builder b;
  const ValueId x = b.input("x", dims, from), y = b.g.add_value("y");
  auto payload = std::make_shared<QuantizePayload>();
  payload->params = params;
  b.g.add_node({.name = "border", .domain = "quern", .op = op, .since_version = 1, .inputs = {x}, .outputs = {y}, .attributes = {}, .origin = {}, .payload = payload});
  return b.outputs({y});
}

QuantParams some_params(int bits, bool is_signed, int axis, int64_t channels, uint32_t seed) {
  std::mt19937 random(seed);
  QuantParams p;
  p.format = make_format(bits, is_signed, false);
  p.axis = axis;
  for (int64_t i = 0; i < (axis < 0 ? 1 : channels); ++i) {
    p.scale.push_back(0.25f / static_cast<float>(1 + random() % 9));
    p.zero_point.push_back(p.format.qmin + static_cast<int64_t>(random() % 13));
  }
  return p;
}

// Ties, both ends, beyond them, NaN, infinities, negative zero.
Tensor hard_values(const Dims& dims, const QuantParams& p) {
  Tensor t = random_tensor(dims, 3, -30, 30);
  auto v = t.mutable_values<float>();
  const float s = p.scale[0];
  const float special[] = {0.5f * s, 1.5f * s, -0.5f * s, -2.5f * s, 1e30f, -1e30f, NAN, INFINITY, -INFINITY, -0.0f, 1e-40f, 2147483648.0f};
  for (size_t i = 0; i < v.size(); i += 5) v[i] = special[i / 5 % std::size(special)];
  return t;
}

TEST(Border, equals_the_definition_in_every_format_and_layout) {
  // The definition, one element at a time.
  auto code = [](float x, const QuantParams& p, size_t c) {
    const float q = x / p.scale[c];
    int64_t n = std::isnan(q) ? 0 : q > 1e15f ? int64_t{1} << 50 : q < -1e15f ? -(int64_t{1} << 50) : std::llrint(static_cast<double>(q));
    return std::clamp(n + p.zero_point[c], p.format.qmin, p.format.qmax);
  };
  for (int bits : {4, 8, 16})
    for (bool is_signed : {false, true})
      for (int axis : {-1, 0, 1, 3})
        for (const Dims& dims : {Dims{2, 5, 3, 7}, Dims{1, 19, 4, 4}}) {
          const QuantParams p = some_params(bits, is_signed, axis, axis < 0 ? 1 : dims[static_cast<size_t>(axis)], 4);
          const Tensor x = hard_values(dims, p);
          const DType storage = p.format.storage();
          Tensor codes(storage, dims), back(DType::f32, dims);
          const Dims strides = row_major_strides(dims);
          for (int64_t i = 0; i < x.count(); ++i) {
            const auto c = axis < 0 ? size_t{0} : static_cast<size_t>(i / strides[static_cast<size_t>(axis)] % dims[static_cast<size_t>(axis)]);
            const int64_t q = code(x.values<float>()[static_cast<size_t>(i)], p, c);
            char* at = static_cast<char*>(codes.mutable_bytes()) + i * static_cast<int64_t>(size_of(storage));
            std::memcpy(at, &q, size_of(storage));
            back.mutable_values<float>()[static_cast<size_t>(i)] = static_cast<float>(q - p.zero_point[c]) * p.scale[c];
          }
          SCOPED_TRACE(::testing::Message() << bits << is_signed << " axis " << axis << to_string(dims));
          const auto run = [&](const std::string& op, const Tensor& in) {
            Engine engine(border_graph(op, p, dims, in.type()), {});
            return engine.runner().run({{"x", in}})[0].second;
          };
          expect_same_bytes(run("Quantize", x), codes);
          expect_same_bytes(run("FakeQuantize", x), back);
          expect_same_bytes(run("Dequantize", codes), back);
          // The same kernel on channels-last memory.
          for (const char* op : {"Quantize", "Dequantize", "FakeQuantize"}) {
            const bool from_codes = std::string(op) == "Dequantize";
            const Graph g = border_graph(op, p, dims, from_codes ? storage : DType::f32);
            const Tensor& in = from_codes ? codes : x;
            const Tensor& want = std::string(op) == "Quantize" ? codes : back;
            register_quern_shape_rules();
            const auto made = border_provider()->prepare({.graph = g, .members = {0}, .inputs = {{.dtype = in.type(), .dims = dims, .layout = Layout::channels_last, .constant = nullptr}},
                                                          .outputs = {{.dtype = want.type(), .dims = dims, .layout = Layout::any, .constant = nullptr}},
                                                          .input_values = {0}, .output_values = {1}, .threads = 1});
            ASSERT_TRUE(made);
            const Dims last = channels_last_strides(dims);
            Tensor a(in.type(), dims), c(want.type(), dims), d(want.type(), dims);
            reorder({const_cast<void*>(in.data()), in.type(), dims, strides}, {a.mutable_bytes(), a.type(), dims, last});
            const TensorView va{a.mutable_bytes(), a.type(), dims, last}, vc{c.mutable_bytes(), c.type(), dims, last};
            made->kernel->run({&va, 1}, {&vc, 1}, nullptr, nullptr);
            reorder(vc, {d.mutable_bytes(), d.type(), dims, strides});
            expect_same_bytes(d, want, op);
          }
        }
}

TEST(Border, parameters_that_do_not_fit_are_refused) {
  QuantParams p = some_params(8, true, 1, 4, 1);
  auto refused = [](const QuantParams& params, const Dims& dims, DType type) {
    Engine engine(border_graph("Quantize", params, dims, type), {});
    EXPECT_THROW(engine.runner().run({{"x", Tensor(type, dims)}}), Error);
  };
  refused(p, {1, 5, 3, 3}, DType::f32);
  refused(p, {4}, DType::f32);
  refused(p, {1, 4, 3, 3}, DType::s32);
  p.scale[1] = 0;
  refused(p, {1, 4, 3, 3}, DType::f32);
}

TEST(UnitShapes, follow_from_the_members) {
  // conv (stride 2) + residual add, as a unit of u8 tensors: [N,3,9,9] -> [N,8,5,5].
  auto unit = std::make_shared<IntegerUnit>();
  unit->name = "u";
  const QuantParams q = some_params(8, false, -1, 1, 1);
  auto weights = std::make_shared<Tensor>(DType::s8, Dims{8, 3, 3, 3});
  unit->operands = {{"input", "x", DType::u8, {-1, 3, 9, 9}, q, nullptr}, {"weight", "w", DType::s8, {8, 3, 3, 3}, q, weights},
                    {"residual", "r", DType::u8, {-1, 8, 5, 5}, q, nullptr}};
  unit->members = {{"c", "", "Conv", 11, {{"strides", std::vector<int64_t>{2, 2}}, {"pads", std::vector<int64_t>{1, 1, 1, 1}}}, {0, 1, absent_input}},
                   {"a", "", "Add", 14, {}, {2, -1}},
                   {"r", "", "Relu", 14, {}, {-2}}};
  unit->output = {"output", "y", DType::u8, {-1, 8, 5, 5}, q, nullptr};
  Graph g;
  const ValueId x = g.add_value("x", DType::u8, Dims{-1, 3, 9, 9}), r = g.add_value("r", DType::u8, Dims{-1, 8, 5, 5}), y = g.add_value("y");
  g.set_inputs({x, r});
  g.add_node({.name = "u", .domain = "quern", .op = "Unit", .since_version = 1, .inputs = {x, r}, .outputs = {y}, .attributes = {}, .origin = {}, .payload = unit});
  g.set_outputs({y});
  register_quern_shape_rules();
  const ShapeTable table = shapes_for(g, {{"x", {4, 3, 9, 9}}, {"r", {4, 8, 5, 5}}});
  EXPECT_EQ(table.dims[static_cast<size_t>(y)], (Dims{4, 8, 5, 5}));
  EXPECT_EQ(table.dtype[static_cast<size_t>(y)], DType::u8);
  EXPECT_THROW(shapes_for(g, {{"x", {4, 3, 9, 9}}, {"r", {3, 8, 5, 5}}}), Error);
}

}  // namespace
}  // namespace quern::testing
