// The gna_sim target through its door: what the host's interpreter computes from the rules alone and what the kernels compute are the same
// bytes and the same number of saturated sums, unit by unit, on every profile.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <random>

#include "core/base/error.hpp"
#include "core/engine/engine.hpp"
#include "core/numeric/multiples.hpp"
#include "core/pipeline/fit_accumulators.hpp"
#include "core/pipeline/target_provider.hpp"
#include "core/plugin/plugin.hpp"
#include "core/rules/unit.hpp"

namespace quern {
namespace {

const char* const profiles[] = {"gna1", "gna2", "gna3"};

const Target& gna() {
  static PluginRegistry registry([] {
    const char* build = std::getenv("QUERN_BUILD_DIR");
    return PluginOptions{{fs::path(build ? build : ".") / "lib/quern/plugins/gna_sim.so"}, false, false};
  }());
  static const std::shared_ptr<const Target> target = registry.target("gna_sim");
  return *target;
}
std::shared_ptr<const Target> shared_gna() { return {std::shared_ptr<void>(), &gna()}; }

QuantParams params(int bits, std::vector<float> scale, int axis = -1, bool narrow = false) {
  QuantParams p;
  p.format = make_format(bits, true, narrow);
  p.axis = axis;
  p.zero_point.assign(scale.size(), 0);
  p.scale = std::move(scale);
  return p;
}

struct Maker {
  std::mt19937 r{23};
  int64_t pick(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(r); }
  float real(float low, float high) { return std::uniform_real_distribution<float>(low, high)(r); }

  Tensor codes(const Dims& dims, DType type, int64_t low, int64_t high) {
    Tensor t(type, dims);
    for (int64_t i = 0; i < t.count(); ++i) {
      const int64_t v = pick(0, 15) ? pick(low, high) : pick(0, 1) ? low : high;  // the ends often
      if (type == DType::s16) t.mutable_values<int16_t>()[static_cast<size_t>(i)] = static_cast<int16_t>(v);
      else if (type == DType::s8) t.mutable_values<int8_t>()[static_cast<size_t>(i)] = static_cast<int8_t>(v);
      else t.mutable_values<int32_t>()[static_cast<size_t>(i)] = static_cast<int32_t>(v);
    }
    return t;
  }
};

// A unit put together operand by operand, and the tensors that flow into it.
struct Case {
  std::shared_ptr<IntegerUnit> unit = std::make_shared<IntegerUnit>();
  NamedTensors feed;

  Case(const std::string& contract, const std::string& op, const Dims& out, float scale, int since = 13) {
    unit->name = "unit";
    unit->config = contract;
    unit->members.push_back({op, "", op, since, {}, {}});
    unit->output.role = "output";
    unit->output.value = "y";
    unit->output.dims = out;
    unit->output.dtype = DType::f32;
    if (scale > 0) {
      unit->output.params = params(16, {scale});
      unit->output.dtype = DType::s16;
    }
    contract_ = contract;
  }
  int add(const std::string& role, Tensor t, std::optional<QuantParams> p, bool constant) {
    UnitOperand o;
    o.role = role;
    o.value = "v" + std::to_string(unit->operands.size());
    o.dtype = t.type();
    o.dims = t.dims();
    o.params = std::move(p);
    if (constant) o.constant = std::make_shared<const Tensor>(t);
    else feed.emplace_back(o.value, t);
    unit->operands.push_back(std::move(o));
    const int index = static_cast<int>(unit->operands.size()) - 1;
    unit->members[0].inputs.push_back(index);
    return index;
  }
  void then(const std::string& op) {
    unit->members.push_back({op, "", op, 14, {}, {-static_cast<int>(unit->members.size())}});
  }

  struct Run { Tensor y; uint64_t saturations = 0; };
  Run run(const std::shared_ptr<const Provider>& provider) const {
    Graph g;
    Node node;
    node.name = "unit";
    node.domain = "quern";
    node.op = "Unit";
    for (const auto& [name, t] : feed) node.inputs.push_back(g.add_value(name, t.type(), t.dims()));
    node.outputs = {g.add_value("y", unit->output.dtype, unit->output.dims)};
    node.payload = unit;
    g.set_inputs(node.inputs);
    const auto out = node.outputs;
    g.add_node(node);
    g.set_outputs(out);
    Engine engine(g, {.providers = {provider, own_float_provider()}});
    Runner runner = engine.runner(2);
    Run result;
    result.y = runner.run(feed).at(0).second;
    for (const auto& [name, n] : runner.saturations()) result.saturations += n;
    return result;
  }
  // Both ways, on a profile; they have to agree.
  Run both(const std::string& profile, const std::string& what) const {
    const Rules rules = gna().rules(profile);
    unit->contract = rules.contracts.at(contract_);
    std::string reason;
    EXPECT_TRUE(gna().supports(profile, *unit, &reason)) << what << ": " << reason;
    unit->tables = gna().derive(profile, *unit);
    for (const auto& [name, again] : gna().derive(profile, *unit)) {  // pure: the same bytes
      const auto first = unit->tables.find(name);
      const bool same = first != unit->tables.end() && first->second.bytes() == again.bytes() && std::memcmp(first->second.data(), again.data(), again.bytes()) == 0;
      EXPECT_TRUE(same) << what << ": table " << name;
    }
    const Run a = run(interpreter_provider()), b = run(target_provider(shared_gna(), profile));
    EXPECT_EQ(a.y.dims(), b.y.dims()) << what;
    EXPECT_EQ(std::memcmp(a.y.data(), b.y.data(), a.y.bytes()), 0) << what << " on " << profile;
    EXPECT_EQ(a.saturations, b.saturations) << what << " on " << profile;
    return b;
  }

 private:
  std::string contract_;
};

// Weight (and bias) of a dot: 8 bits with a multiplier a row, or 16 bits.
void add_weight(Case& c, Maker& m, const Dims& dims, int axis, bool rows, int64_t top, bool bias, float s_x) {
  const int64_t channels = dims[static_cast<size_t>(axis)];
  std::vector<float> scale{m.real(1e-5f, 1e-4f)};
  if (rows) {
    const float step = scale[0];
    scale.clear();
    for (int64_t k = 0; k < channels; ++k) scale.push_back(step * static_cast<float>(m.pick(1, 255)));
  }
  const QuantParams p = params(rows ? 8 : 16, scale, rows ? axis : -1, true);
  c.add("weight", m.codes(dims, rows ? DType::s8 : DType::s16, -std::min<int64_t>(top, rows ? 127 : 32767), std::min<int64_t>(top, rows ? 127 : 32767)), p, true);
  if (!bias) return;
  std::vector<float> scales;
  for (float s : p.scale) scales.push_back(s * s_x);
  c.add("bias", m.codes({channels}, DType::s32, -100000, 100000), params(32, scales, rows ? 0 : -1), true);
}

TEST(GnaTarget, AffineAndConvolution) {
  Maker m;
  const char* const functions[] = {"", "Relu", "Sigmoid", "Tanh", "HardSwish", "Gelu", "Elu"};
  for (int i = 0; i < 60; ++i) {
    const bool conv = i % 3 == 2, rows = !conv && i % 2, floats = i % 7 == 3, small = i % 4 != 0, narrow = conv && i % 5 == 1;
    const std::string op = conv ? "Conv" : i % 3 ? "Gemm" : "MatMul";
    const float s_x = m.real(1e-5f, 1e-3f);
    const int64_t batch = m.pick(1, 3), k = m.pick(1, 70), oc = m.pick(1, 19), width = m.pick(5, 20), taps = m.pick(1, 4), stride = m.pick(1, 2), pad = m.pick(0, 2);
    const int64_t out_width = (width + 2 * pad - taps) / stride + 1;
    Case c(floats ? "affine_float" : "affine", op, conv ? Dims{batch, oc, out_width} : Dims{batch, oc}, floats ? 0.f : m.real(1e-5f, 2e-4f));
    c.add("input", m.codes(conv ? Dims{batch, k, width} : Dims{batch, k}, narrow ? DType::s8 : DType::s16, narrow ? -128 : -32768, narrow ? 127 : 32767),
          params(narrow ? 8 : 16, {s_x}), false);
    const int64_t top = small ? 40 : 32767;
    if (conv) {
      c.unit->members[0].attributes = {{"strides", std::vector<int64_t>{stride}}, {"pads", std::vector<int64_t>{pad, pad}}};
      add_weight(c, m, {oc, k, taps}, 0, false, top, i % 2, s_x);
    } else {
      const bool by_rows = op == "Gemm" && i % 4 < 2;
      if (by_rows) c.unit->members[0].attributes["transB"] = int64_t{1};
      add_weight(c, m, by_rows ? Dims{oc, k} : Dims{k, oc}, by_rows ? 0 : 1, rows, top, op == "Gemm" && i % 5, s_x);
    }
    const std::string f = floats ? "" : functions[m.pick(0, 6)];
    if (!f.empty()) c.then(f);
    for (const char* profile : profiles) c.both(profile, op + " " + std::to_string(i) + " " + f);
  }
}

TEST(GnaTarget, SumsAndProducts) {
  Maker m;
  const Dims shapes[][3] = {{{4, 7}, {4, 7}, {4, 7}}, {{2, 3, 600}, {3, 1}, {2, 3, 600}}, {{1}, {5, 6}, {5, 6}}, {{2, 1, 5}, {1, 4, 1}, {2, 4, 5}}};
  const char* const functions[] = {"", "Relu", "Sigmoid", "Tanh"};
  for (int i = 0; i < 48; ++i) {
    const char* op = i % 3 == 0 ? "Add" : i % 3 == 1 ? "Sub" : "Mul";
    const auto& shape = shapes[static_cast<size_t>(i % 4)];
    Case c(i % 3 == 2 ? "product" : "sum", op, shape[2], m.real(1e-5f, 1e-3f), 14);
    const bool constant = i % 5 == 4;
    c.add("a", m.codes(shape[0], DType::s16, -32768, 32767), params(16, {m.real(1e-5f, 1e-3f)}), constant);
    c.add("b", m.codes(shape[1], DType::s16, -32768, 32767), params(16, {m.real(1e-5f, 1e-3f)}), false);
    const std::string f = functions[m.pick(0, 3)];
    if (!f.empty()) c.then(f);
    for (const char* profile : profiles) c.both(profile, std::string(op) + " " + std::to_string(i) + " " + f);
  }
}

TEST(GnaTarget, FunctionsAndMoves) {
  Maker m;
  for (const char* op : {"Relu", "Sigmoid", "Tanh", "Exp", "HardSigmoid", "HardSwish", "Swish", "Gelu", "Mish", "LeakyRelu", "Elu", "Celu", "Selu", "Softplus",
                         "Softsign", "Abs", "Neg", "Erf"}) {
    Case c("function", op, {3, 700}, m.real(2e-5f, 1e-3f), 20);
    c.add("input", m.codes({3, 700}, DType::s16, -32768, 32767), params(16, {m.real(1e-5f, 1e-3f)}), false);
    c.both("gna2", op);
  }
  for (const bool rescaled : {false, true}) {
    const float s = 1e-4f, y = rescaled ? 1.7e-4f : s;
    Case turn("copy", "Transpose", {5, 2, 3}, y);
    turn.unit->members[0].attributes["perm"] = std::vector<int64_t>{2, 0, 1};
    turn.add("input", m.codes({2, 3, 5}, DType::s16, -32768, 32767), params(16, {s}), false);
    turn.both("gna2", "Transpose");
    Case flat("copy", "Flatten", {2, 15}, y);
    flat.unit->members[0].attributes["axis"] = int64_t{1};
    flat.add("input", m.codes({2, 3, 5}, DType::s16, -32768, 32767), params(16, {s}), false);
    flat.both("gna2", "Flatten");
    Case part("copy", "Slice", {2, 2, 2}, y);
    part.add("input", m.codes({2, 3, 5}, DType::s16, -32768, 32767), params(16, {s}), false);
    const std::vector<std::vector<int64_t>> arguments{{1, 4}, {3, 0}, {1, 2}, {1, -2}};
    for (const auto& v : arguments) part.add("", Tensor::of<int64_t>({2}, v), {}, true);
    part.both("gna2", "Slice");
  }
  Case pool("max", "MaxPool", {2, 3, 4}, 1e-4f);
  pool.unit->members[0].attributes = {{"kernel_shape", std::vector<int64_t>{3}}, {"strides", std::vector<int64_t>{2}}, {"pads", std::vector<int64_t>{1, 1}}};
  pool.add("input", m.codes({2, 3, 8}, DType::s16, -32768, 32767), params(16, {1e-4f}), false);
  pool.both("gna2", "MaxPool");
  Case concat("concat", "Concat", {2, 9, 2}, 1e-4f);
  concat.unit->members[0].attributes["axis"] = int64_t{-2};
  concat.add("in0", m.codes({2, 3, 2}, DType::s16, -32768, 32767), params(16, {1e-4f}), false);
  concat.add("in1", m.codes({2, 2, 2}, DType::s16, -32768, 32767), params(16, {1e-4f}), false);
  concat.add("in2", m.codes({2, 4, 2}, DType::s16, -32768, 32767), params(16, {1e-4f}), false);
  concat.both("gna2", "Concat");
}

// Sums forced out of 32 bits: both count them, and a generation that saturates more often counts other ones.
TEST(GnaTarget, ForcedSaturationIsCounted) {
  constexpr int64_t depth = 16384;
  std::vector<int16_t> x(depth, 32767), w(depth);
  // The first 6,144 products leave 32 bits; up to 12,288 they are taken back.
  for (int64_t k = 0; k < depth; ++k) w[static_cast<size_t>(k)] = k < 6144 ? 100 : k < 12288 ? -100 : 1;
  Case c("affine_float", "MatMul", {1, 1}, 0);
  c.add("input", Tensor::of<int16_t>({1, depth}, x), params(16, {1e-4f}), false);
  c.add("weight", Tensor::of<int16_t>({depth, 1}, w), params(16, {1e-4f}, -1, true), true);
  EXPECT_EQ(c.both("gna1", "saturating").saturations, 2u);  // up, and down again
  EXPECT_EQ(c.both("gna2", "not saturating").saturations, 0u);
  for (auto& v : w) v = 100;
  Case all("affine_float", "MatMul", {1, 1}, 0);
  all.add("input", Tensor::of<int16_t>({1, depth}, x), params(16, {1e-4f}), false);
  all.add("weight", Tensor::of<int16_t>({depth, 1}, w), params(16, {1e-4f}, -1, true), true);
  EXPECT_EQ(all.both("gna2", "always").saturations, 2u);
  EXPECT_EQ(all.both("gna1", "always").saturations, 3u);
}

TEST(GnaTarget, WhatItRefuses) {
  Maker m;
  Case c("affine", "MatMul", {1, 2}, 1e-4f);
  c.add("input", m.codes({1, 3}, DType::s16, -9, 9), params(16, {1e-4f}), false);
  c.add("weight", m.codes({3, 2}, DType::s8, -9, 9), params(8, {1e-4f, 1.234567e-3f}, 1, true), true);
  c.unit->contract = gna().rules("gna2").contracts.at("affine");
  EXPECT_THROW(gna().derive("gna2", *c.unit), Error);  // not one step times whole numbers
  EXPECT_THROW(gna().derive("gna4", *c.unit), Error);
  // Attributes beyond the rules: refused with a reason, and not compiled.
  for (const auto& [attribute, value] : std::map<std::string, Attribute>{{"alpha", 2.f}, {"beta", 0.f}, {"transA", int64_t{1}}}) {
    Case gemm("affine", "Gemm", {1, 2}, 1e-4f);
    gemm.add("input", m.codes({1, 3}, DType::s16, -9, 9), params(16, {1e-4f}), false);
    gemm.add("weight", m.codes({3, 2}, DType::s16, -9, 9), params(16, {1e-4f}, -1, true), true);
    gemm.unit->contract = gna().rules("gna2").contracts.at("affine");
    gemm.unit->tables = gna().derive("gna2", *gemm.unit);
    gemm.unit->members[0].attributes[attribute] = value;
    std::string reason;
    EXPECT_FALSE(gna().supports("gna2", *gemm.unit, &reason)) << attribute;
    EXPECT_NE(reason, "");
    EXPECT_THROW(gna().compile("gna2", *gemm.unit, {{1, 3}}, {1, 2}, 1), Error) << attribute;
  }
}

// The host's step: a layer that could saturate gets coarser weights, and then can't.
TEST(GnaTarget, WeightsAreFittedToTheAccumulator) {
  for (const char* op : {"Gemm", "MatMul"})
    for (const std::string config : {"affine8", "affine16"}) {
      const int64_t depth = 400, channels = 6;
      Graph g;
      Maker m;
      std::vector<float> w, b(static_cast<size_t>(channels), 0.5f);
      for (int64_t i = 0; i < depth * channels; ++i) w.push_back(m.real(-1, 1) * static_cast<float>(1 + i % channels));
      const ValueId x = g.add_value("x", DType::f32, Dims{1, depth}), weight = g.add_constant("w", Tensor::of<float>({depth, channels}, w));
      const ValueId bias = g.add_constant("b", Tensor::of<float>({channels}, b)), y = g.add_value("y", DType::f32, Dims{1, channels});
      const NodeId node = g.add_node({.name = "layer", .op = op, .since_version = 13, .inputs = {x, weight, bias}, .outputs = {y}});
      const Rules rules = gna().rules("gna2");
      Placement p;
      p.quantizers.resize(2);
      p.quantizers[0].params = params(16, {1.f / 32767});
      const TypeRule& type = rules.type(config == "affine8" ? "w8" : "w16");
      Quantizer& q = p.quantizers[1];
      q.id = 1;
      q.kind = QuantizerKind::weight;
      q.value = weight;
      q.type = type.name;
      if (config == "affine8") {
        std::vector<float> scales;
        for (int64_t c = 0; c < channels; ++c) scales.push_back(static_cast<float>(1 + c) / 127);
        q.params = to_multiples(params(8, scales, 1, true), 1, 255);
      } else {
        q.params = params(16, {6.f / 32767}, -1, true);
      }
      PlacedUnit u;
      u.members = {node};
      u.contract = "affine";
      u.operands = {{"input", x, 0}, {"weight", weight, 1}, {"bias", bias, -1}};
      p.units.push_back(u);
      const auto fitted = fit_accumulators(g, p, rules);
      ASSERT_EQ(fitted.size(), 1u) << op << config;
      EXPECT_EQ(fitted[0].node, "layer");
      EXPECT_GT(fitted[0].worst, 1);
      EXPECT_GT(fitted[0].factor, 1);
      // All inputs at the end of their range with the sign of their weight.
      for (int64_t c = 0; c < channels; ++c) {
        Case unit("affine_float", "MatMul", {1, channels}, 0);
        const Tensor codes = quantize(*g.value(weight).constant, p.quantizers[1].params);
        Tensor worst(DType::s16, {1, depth});
        for (int64_t k = 0; k < depth; ++k) worst.mutable_values<int16_t>()[static_cast<size_t>(k)] = codes.to_ints()[static_cast<size_t>(k * channels + c)] < 0 ? -32768 : 32767;
        unit.add("input", worst, p.quantizers[0].params, false);
        unit.add("weight", codes, p.quantizers[1].params, true);
        EXPECT_EQ(unit.both("gna1", op + config).saturations, 0u);
      }
      if (config == "affine16") { EXPECT_TRUE(fit_accumulators(g, p, rules).empty()); }  // nothing left to do
    }
}

}  // namespace
}  // namespace quern
