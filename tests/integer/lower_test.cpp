// From a placed and ranged network to integers and out again: bias rule, borders, names, package, QDQ, estimates. The rules are
// the cpu target's; the target itself is a stand-in that derives the tables of its dot contract in plain code.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <random>

#include "core/base/error.hpp"
#include "core/engine/engine.hpp"
#include "core/graph/shapes.hpp"
#include "core/integer/build_unit.hpp"
#include "core/integer/integer.hpp"
#include "core/numeric/rounding.hpp"
#include "core/rules/fallback.hpp"

namespace quern {
namespace {

std::string rules_json() {
  const char* source = std::getenv("QUERN_SOURCE_DIR");
  return read_text(fs::path(source ? source : ".") / "plugins" / "cpu" / "rules.json");
}

class StandIn : public Target {
 public:
  bool refuse = false, half = false;  // half: its rules let the host fall back to f16
  std::string name() const override { return "stand_in"; }
  std::string id() const override { return "org.quern.test.stand_in"; }
  std::string version() const override { return "1.0.0"; }
  fs::path path() const override { return {}; }
  std::string rules_text() const override {
    std::string text = rules_json();
    const std::string f32 = "\"fallback\": [\"f32\"]";
    if (half) text.replace(text.find(f32), f32.size(), "\"fallback\": [\"f16\", \"f32\"]");
    return text;
  }
  Rules rules(const std::string& profile) const override { return parse_rules(rules_text(), "rules.json", profile); }
  bool available(const std::string&, std::string* reason) const override { *reason = "it has no kernels"; return false; }
  bool supports(const std::string&, const IntegerUnit&, std::string* reason) const override {
    if (refuse) *reason = "not today";
    return !refuse;
  }
  std::map<std::string, Tensor> derive(const std::string&, const IntegerUnit& unit) const override {
    const UnitOperand *x = unit.operand("input"), *w = unit.operand("weight"), *b = unit.operand("bias");
    const double sy = unit.output.params ? unit.output.params->scale[0] : 1.0;
    std::vector<float> multiplier, bias;
    for (float s : w->params->scale) multiplier.push_back(static_cast<float>(static_cast<double>(x->params->scale[0]) * s / sy));
    std::map<std::string, Tensor> tables;
    tables["multiplier"] = Tensor::of<float>({static_cast<int64_t>(multiplier.size())}, multiplier);
    if (b) tables["bias_f32"] = Tensor::of<float>(b->dims, b->constant->to_floats());
    if (unit.output.params) tables["output_zero_point"] = Tensor::scalar<float>(static_cast<float>(unit.output.params->zero_point[0]));
    if (unit.members.back().op == "Relu") {
      tables["act_low"] = Tensor::scalar<float>(0);
      tables["act_high"] = Tensor::scalar<float>(std::numeric_limits<float>::infinity());
    }
    return tables;
  }
  std::unique_ptr<TargetKernel> compile(const std::string&, const IntegerUnit&, const std::vector<Dims>&, const Dims&, int) const override {
    throw Error(ErrorCode::plugin, "it has no kernels");
  }
  bool cost(const std::string&, const IntegerUnit&, double*, double*) const override { return false; }
};

// x -> conv (3 -> 4) -> Relu -> gemm-like 1x1 conv (4 -> 2) -> y
struct Network {
  Graph graph;
  std::vector<float> w1, b1;
  explicit Network(const std::string& hidden = "hidden") : w1(4 * 3 * 3 * 3), b1{0.5f, -0.25f, 0.1f, 0} {
    std::mt19937 random(7);
    std::uniform_real_distribution<float> any(-1, 1);
    for (float& w : w1) w = any(random);
    std::vector<float> w2(8);
    for (float& w : w2) w = any(random);
    const ValueId x = graph.add_value("x", DType::f32, Dims{-1, 3, 6, 6});
    const ValueId c = graph.add_value("conv_out"), h = graph.add_value(hidden), y = graph.add_value("y");
    graph.set_inputs({x});
    graph.add_node({.name = "conv1", .domain = "", .op = "Conv", .since_version = 11,
                    .inputs = {x, graph.add_constant("w1", Tensor::of<float>({4, 3, 3, 3}, w1)), graph.add_constant("b1", Tensor::of<float>({4}, b1))},
                    .outputs = {c}});
    graph.add_node({.name = "relu", .domain = "", .op = "Relu", .since_version = 14, .inputs = {c}, .outputs = {h}});
    graph.add_node({.name = "conv2", .domain = "", .op = "Conv", .since_version = 11,
                    .inputs = {h, graph.add_constant("w2", Tensor::of<float>({2, 4, 1, 1}, w2))}, .outputs = {y}});
    graph.set_outputs({y});
    infer_shapes(graph);
  }
};

// Every quantizer gets the first type that holds its range.
void set_ranges(const Graph& graph, const Rules& rules, Placement& placement, double largest) {
  for (Quantizer& q : placement.quantizers) {
    q.type = q.types.front();
    const TypeRule& type = rules.type(q.type);
    const Tensor* constant = graph.value(q.value).constant.get();
    if (!constant) {
      const bool input = q.value == graph.inputs()[0];
      const Range r{input ? -largest : 0, input ? largest : 8 * largest};  // what the hidden tensor reaches with these weights
      q.ranges = asymmetric_ranges(std::span(&r, 1), type.format);
      q.params = params_from_ranges(q.ranges, type.format, -1);
      continue;
    }
    const int64_t channels = constant->dims()[0], each = constant->count() / channels;
    std::vector<double> largest_of(static_cast<size_t>(channels), 0);
    for (int64_t i = 0; i < constant->count(); ++i)
      largest_of[static_cast<size_t>(i / each)] = std::max<double>(largest_of[static_cast<size_t>(i / each)], std::abs(constant->values<float>()[i]));
    q.ranges = symmetric_ranges(largest_of, type.format);
    q.params = params_from_ranges(q.ranges, type.format, 0);
  }
}

struct Lowered {
  StandIn target;
  Rules rules;
  Placement placement;
  IntegerModel model;
  explicit Lowered(const Graph& graph, double largest = 2, bool refuse = false, bool half = false) {
    target.refuse = refuse;
    target.half = half;
    rules = target.rules("");
    placement = place(graph, rules);
    set_ranges(graph, rules, placement, largest);
    model = lower(graph, placement, rules, target);
  }
  const IntegerUnit& unit(const std::string& name) const {
    return dynamic_cast<const IntegerUnit&>(*model.graph.node(model.graph.find_node(name)).payload);
  }
};

Tensor sample() {
  std::mt19937 random(9);
  std::uniform_real_distribution<float> any(-2, 2);
  Tensor x(DType::f32, {2, 3, 6, 6});
  for (float& v : x.mutable_values<float>()) v = any(random);
  return x;
}

std::vector<float> run(Graph graph, bool interpreted = false) {
  std::vector<std::shared_ptr<const Provider>> providers{onednn_provider(), own_float_provider()};
  if (interpreted) providers.insert(providers.begin(), interpreter_provider());
  Engine engine(std::move(graph), {.providers = providers});
  const NamedTensors out = engine.runner().run({{"x", sample()}});
  const auto v = out.at(0).second.values<float>();
  return {v.begin(), v.end()};
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double d = 0;
  for (size_t i = 0; i < a.size(); ++i) d = std::max<double>(d, std::abs(a[i] - b[i]));
  return d;
}

TEST(Lower, IntegersBetweenOneBorderAndAFloatOutput) {
  Network net;
  const Lowered l(net.graph);
  std::string text;
  for (NodeId id : l.model.graph.order()) text += l.model.graph.node(id).op + " ";
  EXPECT_EQ(text, "Quantize Unit Unit ");
  EXPECT_EQ(l.model.integer_nodes, 3);
  EXPECT_EQ(l.model.float_nodes, 0);
  EXPECT_EQ(l.model.total_macs, 4 * 16 * 27 + 2 * 16 * 4);
  EXPECT_EQ(l.model.integer_macs, l.model.total_macs);
  EXPECT_EQ(l.model.graph.value(l.model.graph.outputs()[0]).name, "y");
  EXPECT_EQ(l.model.graph.value(l.model.graph.outputs()[0]).dtype, DType::f32);
  EXPECT_NE(l.model.graph.find_value("hidden_quantized"), no_value);
  EXPECT_EQ(l.unit("conv1").members.size(), 2u);
  EXPECT_LT(largest_difference(run(l.model.graph, true), run(net.graph)), 0.3);
}

TEST(Lower, BiasIsInStepsOfTheAccumulator) {
  Network net;
  const Lowered l(net.graph);
  const IntegerUnit& unit = l.unit("conv1");
  const UnitOperand& bias = *unit.operand("bias");
  ASSERT_EQ(bias.dtype, DType::s32);
  for (size_t c = 0; c < 4; ++c) {
    const double step = static_cast<double>(unit.operand("input")->params->scale[0]) * unit.operand("weight")->params->scale[c];
    EXPECT_NEAR(bias.constant->values<int32_t>()[c] * step, net.b1[c], step / 2 * 1.0001) << c;
  }
  EXPECT_TRUE(l.model.notes.empty());
}

// A tiny weight beside a large bias: without the rule the bias would need more than 30 bits.
TEST(Lower, WeightScaleIsRaisedWhereTheBiasWouldNotFit) {
  Network net;
  std::vector<float> w = net.w1;
  for (size_t i = 0; i < 27; ++i) w[i] *= 1e-9f;
  net.graph.set_constant(net.graph.find_value("w1"), Tensor::of<float>({4, 3, 3, 3}, w));
  net.graph.set_constant(net.graph.find_value("b1"), Tensor::of<float>({4}, std::vector<float>{100, -0.25f, 0.1f, 0}));
  StandIn target;
  const Rules rules = target.rules("");
  Placement placement = place(net.graph, rules);
  set_ranges(net.graph, rules, placement, 2);
  for (Quantizer& q : placement.quantizers)  // past the floor of 1 % of the largest channel, as a user's range may be
    if (q.kind == QuantizerKind::weight && q.params.scale.size() == 4) q.params.scale[0] = 1e-11f;
  const IntegerModel model = lower(net.graph, placement, rules, target);
  const auto& unit = dynamic_cast<const IntegerUnit&>(*model.graph.node(model.graph.find_node("conv1")).payload);
  const double step = static_cast<double>(unit.operand("input")->params->scale[0]) * unit.operand("weight")->params->scale[0];
  const int64_t b = unit.operand("bias")->constant->values<int32_t>()[0];
  EXPECT_LE(std::abs(b), bias_limit);
  EXPECT_GT(std::abs(b), bias_limit / 2) << "raised no further than needed";
  EXPECT_NEAR(b * step, 100, step);
  ASSERT_EQ(model.notes.size(), 1u);
  EXPECT_EQ(model.notes[0].node, "conv1");
  EXPECT_NE(model.notes[0].text.find("weight scale raised in 1 channel"), std::string::npos);
  // The weights were quantized with the raised scale, and the other channels not touched.
  EXPECT_GT(unit.operand("weight")->params->scale[0], 1e-11f);
  for (const Quantizer& q : placement.quantizers)
    if (q.params.scale.size() == 4) {
      EXPECT_EQ(unit.operand("weight")->params->scale[1], q.params.scale[1]);
    }
}

TEST(Lower, WhatTheTargetRefusesStaysFloat) {
  Network net;
  const Lowered l(net.graph, 2, true);
  EXPECT_EQ(l.model.integer_nodes, 0);
  EXPECT_EQ(l.model.float_nodes, 3);
  ASSERT_EQ(l.model.notes.size(), 2u);
  EXPECT_NE(l.model.notes[0].text.find("not today"), std::string::npos);
  EXPECT_EQ(largest_difference(run(l.model.graph), run(net.graph)), 0);
  const Graph qdq = export_qdq(net.graph, l.placement, l.model).graph;
  for (NodeId id : qdq.order()) EXPECT_NE(qdq.node(id).op, "QuantizeLinear");
}

float half(double v) { return from_half(to_half(static_cast<float>(v))); }

// What the contract of f16 says, in plain code: operands rounded, sums of taps in the order of channels and taps, each output rounded once.
std::vector<float> network_in_half(const Network& net, const Tensor& x) {
  const auto in = x.values<float>();
  std::vector<float> out;
  const auto w2 = net.graph.value(net.graph.find_value("w2")).constant->values<float>();
  for (int64_t n = 0; n < 2; ++n) {
    std::vector<float> hidden;
    for (int64_t c = 0; c < 4; ++c)
      for (int64_t y = 0; y < 4; ++y)
        for (int64_t z = 0; z < 4; ++z) {
          double sum = half(net.b1[static_cast<size_t>(c)]);
          for (int64_t i = 0; i < 3; ++i)
            for (int64_t k = 0; k < 9; ++k)
              sum += static_cast<double>(half(in[static_cast<size_t>(((n * 3 + i) * 6 + y + k / 3) * 6 + z + k % 3)])) * half(net.w1[static_cast<size_t>((c * 3 + i) * 9 + k)]);
          hidden.push_back(std::max(0.f, half(sum)));
        }
    for (size_t c = 0; c < 2; ++c)
      for (size_t p = 0; p < 16; ++p) {
        double sum = 0;
        for (size_t i = 0; i < 4; ++i) sum += static_cast<double>(hidden[i * 16 + p]) * half(w2[c * 4 + i]);
        out.push_back(half(sum));
      }
  }
  return out;
}

TEST(Lower, WhatTheRulesLetFallBackToHalfIsRoundedOncePerNode) {
  Network net;
  const Lowered l(net.graph, 2, true, true);
  EXPECT_EQ(l.model.float_nodes, 3);
  EXPECT_EQ(l.model.f16_nodes, 3);
  EXPECT_EQ(l.model.f16_macs, l.model.total_macs);
  EXPECT_EQ(run(l.model.graph), network_in_half(net, sample()));
  // No library computes them, and their bytes are the same on every machine.
  Engine engine(l.model.graph, {.providers = {onednn_provider(), own_float_provider()}});
  for (const PlanStep& step : engine.plan_info({{"x", sample()}}).steps) {
    EXPECT_NE(step.provider, "onednn") << step.node;
    EXPECT_TRUE(step.portable) << step.node;
  }
  // An operand is rounded once, and what a node in f16 makes needs no rounding.
  std::map<std::string, int> count;
  for (NodeId id : l.model.graph.order()) ++count[l.model.graph.node(id).op];
  EXPECT_EQ(count["Cast"], 8) << "x and three outputs, to f16 and back";
  EXPECT_EQ(l.model.graph.value(l.model.graph.outputs()[0]).name, "y");
}

TEST(Lower, PackageAndQdqKnowHalf) {
  Network net;
  const Lowered l(net.graph, 2, true, true);
  const fs::path folder = fs::path(::testing::TempDir()) / "quern_package_half";
  fs::remove_all(folder);
  write_package(l.model, folder);
  const IntegerModel back = read_package(folder);
  fs::remove_all(folder);
  EXPECT_EQ(back.f16_nodes, 3);
  EXPECT_EQ(back.f16_macs, l.model.f16_macs);
  EXPECT_EQ(run(back.graph), run(l.model.graph));
  const Graph qdq = export_qdq(net.graph, l.placement, l.model).graph;
  std::map<std::string, int> count;
  for (NodeId id : qdq.order()) {
    ++count[qdq.node(id).op];
    EXPECT_FALSE(is_f16(qdq.node(id))) << "an attribute that no other runtime knows";
  }
  EXPECT_EQ(count["Cast"], 8);
  EXPECT_EQ(qdq.value(qdq.outputs()[0]).name, "y");
  EXPECT_LT(largest_difference(run(qdq), run(l.model.graph)), 0.02);  // a step of f16 where a library sums in another order
}

// Integers where there are some; only what is left is in f16.
TEST(Lower, UnitsStayIntegersBesideHalf) {
  Network net;
  const Lowered l(net.graph, 2, false, true);
  EXPECT_EQ(l.model.f16_nodes, 0);
  EXPECT_EQ(l.model.integer_nodes, 3);
}

TEST(Fallback, NumbersThatHalfCannotHoldStayInFloat) {
  StandIn target;
  const Rules f32 = target.rules("");
  target.half = true;
  const Rules f16 = target.rules("");
  Graph g;
  const ValueId x = g.add_value("x", DType::f32, Dims{1, 4}), n = g.add_value("n", DType::s64, Dims{1, 4});
  g.set_inputs({x, n});
  const auto node = [&](const char* op, std::vector<ValueId> inputs, DType out) {
    Node made;
    made.name = g.unique_name(op);
    made.op = op;
    made.inputs = std::move(inputs);
    made.outputs = {g.add_value(g.unique_name("y"), out, Dims{1, 4})};
    return made;
  };
  const auto constant = [&](float v) { return g.add_constant("c", Tensor::of<float>({1}, std::vector<float>{v})); };
  std::string why;
  EXPECT_EQ(fallback_of(f32, g, node("Softmax", {x}, DType::f32), &why), Precision::f32);
  EXPECT_EQ(why, "");
  EXPECT_EQ(fallback_of(f16, g, node("Softmax", {x}, DType::f32), &why), Precision::f16);
  EXPECT_EQ(fallback_of(f16, g, node("Mul", {x, constant(65504)}, DType::f32), &why), Precision::f16);
  EXPECT_EQ(fallback_of(f16, g, node("Add", {x, constant(-1e30f)}, DType::f32), &why), Precision::f16) << "a mask";
  EXPECT_EQ(fallback_of(f16, g, node("Mul", {x, constant(70000)}, DType::f32), &why), Precision::f32);
  EXPECT_NE(why.find("beyond those of f16"), std::string::npos) << why;
  EXPECT_EQ(fallback_of(f16, g, node("Cast", {n}, DType::f32), &why), Precision::f32);
  EXPECT_EQ(fallback_of(f16, g, node("ArgMax", {x}, DType::s64), &why), Precision::f32);
  EXPECT_EQ(fallback_of(f16, g, node("Range", {n}, DType::f32), &why), Precision::f32);
  EXPECT_EQ(fallback_of(f16, g, node("Resize", {x, no_value, constant(1e5f)}, DType::f32), &why), Precision::f16) << "a factor is no operand";
}

TEST(Lower, NamesOfTheModelAreNeverTakenAway) {
  Network net("x_quantized");  // what the integer form of x would be called
  const Lowered l(net.graph);
  EXPECT_LT(largest_difference(run(l.model.graph, true), run(net.graph)), 0.3);
  EXPECT_LT(largest_difference(run(export_qdq(net.graph, l.placement, l.model).graph), run(net.graph)), 0.3);
}

TEST(Package, ReadsBackToTheSameBytes) {
  Network net;
  const Lowered l(net.graph);
  const fs::path folder = fs::path(::testing::TempDir()) / "quern_package_roundtrip";
  fs::remove_all(folder);
  write_package(l.model, folder / "a");
  const IntegerModel back = read_package(folder / "a");
  write_package(back, folder / "b");
  for (const char* file : {"index.json", "data.bin"}) EXPECT_EQ(read_text(folder / "a" / file), read_text(folder / "b" / file)) << file;
  EXPECT_EQ(run(back.graph, true), run(l.model.graph, true));
  fs::remove_all(folder);
}

TEST(Qdq, ComputesWhatTheIntegersMean) {
  Network net;
  const Lowered l(net.graph);
  const Graph qdq = export_qdq(net.graph, l.placement, l.model).graph;
  std::map<std::string, int> count;
  for (NodeId id : qdq.order()) ++count[qdq.node(id).op];
  EXPECT_EQ(count["QuantizeLinear"], 2);    // x, hidden
  EXPECT_EQ(count["DequantizeLinear"], 5);  // and two weights and a bias
  EXPECT_EQ(qdq.value(qdq.outputs()[0]).name, "y");
  EXPECT_EQ(qdq.find_value("w1"), no_value) << "the float weights are gone";
  // Float arithmetic on the same integers: at most one step of the hidden tensor apart here and there.
  EXPECT_LT(largest_difference(run(qdq), run(l.model.graph, true)), 0.1);
}

TEST(Estimated, FakeQuantizesWhatItIsAskedFor) {
  Network net;
  const Lowered l(net.graph);
  EXPECT_EQ(run(estimated_graph(net.graph, l.placement, false, false)), run(net.graph));
  const std::vector<float> both = run(estimated_graph(net.graph, l.placement)), weights = run(estimated_graph(net.graph, l.placement, false, true));
  EXPECT_NE(both, weights);
  EXPECT_NE(weights, run(net.graph));
  EXPECT_LT(largest_difference(both, run(l.model.graph, true)), 0.1);
}

}  // namespace
}  // namespace quern
