// Unrolled recurrent networks compute what the recurrent kernels compute; one constant serves all steps; what is not unrolled
// says why.
#include "core/graph/unroll.hpp"

#include <gmock/gmock.h>

#include <cmath>
#include <random>

#include "core/engine/engine.hpp"
#include "core/graph/passes.hpp"
#include "core/graph/shapes.hpp"

namespace quern {
namespace {

class Random {
 public:
  explicit Random(unsigned seed) : engine_(seed) {}
  int64_t integer(int64_t low, int64_t high) { return low + static_cast<int64_t>(engine_() % static_cast<uint64_t>(high - low + 1)); }
  Tensor tensor(Dims dims, double size) {
    Tensor t(DType::f32, std::move(dims));
    for (float& v : t.mutable_values<float>()) v = static_cast<float>(size * (2 * (static_cast<double>(engine_()) / 4294967296.0) - 1));
    return t;
  }

 private:
  std::mt19937 engine_;
};

struct Spec {
  std::string op = "LSTM", direction = "forward";
  int64_t steps = 4, batch = 2, inputs = 3, hidden = 5;
  bool layout = false, bias = true, h0 = false, c0 = false, peephole = false, zero_h0 = false;
  std::map<std::string, Attribute> more = {};
  std::vector<int32_t> lengths = {};
  std::vector<size_t> outputs = {0, 1, 2};  // that are outputs of the graph
};

// The node alone, and its inputs.
std::pair<Graph, NamedTensors> graph_of(const Spec& s, Random& random) {
  Graph g;
  NamedTensors feed;
  Node n{.name = "rec", .op = s.op, .since_version = 14};
  const int64_t d = s.direction == "bidirectional" ? 2 : 1, rows = (s.op == "LSTM" ? 4 : s.op == "GRU" ? 3 : 1) * s.hidden;
  std::vector<ValueId> inputs;
  const auto flows = [&](const char* name, Dims dims) {
    const ValueId v = g.add_value(name, DType::f32, dims);
    inputs.push_back(v);
    feed.emplace_back(name, random.tensor(dims, 1));
    return v;
  };
  const Dims state = s.layout ? Dims{s.batch, d, s.hidden} : Dims{d, s.batch, s.hidden};
  n.inputs = {flows("x", s.layout ? Dims{s.batch, s.steps, s.inputs} : Dims{s.steps, s.batch, s.inputs}),
              g.add_constant("W", random.tensor({d, rows, s.inputs}, 0.5)), g.add_constant("R", random.tensor({d, rows, s.hidden}, 0.4)),
              s.bias ? g.add_constant("B", random.tensor({d, 2 * rows}, 0.5)) : no_value,
              s.lengths.empty() ? no_value : g.add_constant("lens", Tensor::of<int32_t>({s.batch}, s.lengths)),
              s.zero_h0 ? g.add_constant("zero", Tensor(DType::f32, state)) : s.h0 ? flows("h0", state) : no_value};
  if (s.op == "LSTM") {
    n.inputs.push_back(s.c0 ? flows("c0", state) : no_value);
    n.inputs.push_back(s.peephole ? g.add_constant("P", random.tensor({d, 3 * s.hidden}, 0.5)) : no_value);
  }
  n.attributes = s.more;
  n.attributes["hidden_size"] = s.hidden;
  n.attributes["direction"] = s.direction;
  n.attributes["layout"] = int64_t{s.layout};
  for (const char* name : {"Y", "Y_h", "Y_c"})
    if (s.op == "LSTM" || std::string(name) != "Y_c") n.outputs.push_back(g.add_value(name));
  g.set_inputs(inputs);
  const NodeId id = g.add_node(n);
  std::vector<ValueId> outputs;
  for (size_t i : s.outputs)
    if (i < g.node(id).outputs.size()) outputs.push_back(g.node(id).outputs[i]);
  g.set_outputs(outputs);
  infer_shapes(g);
  return {std::move(g), std::move(feed)};
}

NamedTensors run(const Graph& g, const NamedTensors& feed) { return Engine(g, {.providers = {own_float_provider()}}).runner().run(feed); }

int count(const Graph& g, const std::string& op) {
  int n = 0;
  for (NodeId id : g.order()) n += g.node(id).op == op;
  return n;
}

bool all(const Node&) { return true; }

void expect_equal(const Spec& s, unsigned seed) {
  Random random(seed);
  auto [g, feed] = graph_of(s, random);
  const NamedTensors want = run(g, feed);
  Graph unrolled = g;
  const Unrolling u = unroll_recurrent(unrolled, all);
  ASSERT_EQ(u.unrolled, 1) << (u.kept.empty() ? "" : u.kept.begin()->second);
  unrolled.check();
  EXPECT_EQ(count(unrolled, s.op), 0);
  const NamedTensors got = run(unrolled, feed);
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) {
    EXPECT_EQ(got[i].first, want[i].first);
    ASSERT_EQ(got[i].second.dims(), want[i].second.dims());
    const auto a = want[i].second.values<float>(), b = got[i].second.values<float>();
    for (size_t k = 0; k < a.size(); ++k) ASSERT_NEAR(a[k], b[k], 2e-6 * (1 + std::fabs(a[k]))) << s.op << " " << s.direction << " " << want[i].first << " seed " << seed;
  }
}

TEST(Unroll, ComputesTheSame) {
  Random random(1);
  const char* ops[] = {"LSTM", "GRU", "RNN"};
  const char* ways[] = {"forward", "reverse", "bidirectional"};
  for (unsigned round = 0; round < 120; ++round) {
    Spec s;
    s.op = ops[round % 3];
    s.direction = ways[random.integer(0, 2)];
    s.steps = random.integer(1, 6);
    s.batch = random.integer(1, 3);
    s.layout = random.integer(0, 1) != 0;
    s.bias = random.integer(0, 3) != 0;
    s.h0 = random.integer(0, 1) != 0;
    s.zero_h0 = random.integer(0, 3) == 0;
    s.c0 = random.integer(0, 1) != 0;
    s.peephole = random.integer(0, 2) == 0;
    if (random.integer(0, 2) == 0) s.more["clip"] = 0.6f;
    if (random.integer(0, 2) == 0) s.more["input_forget"] = int64_t{1};
    if (random.integer(0, 1)) s.more["linear_before_reset"] = int64_t{1};
    if (random.integer(0, 1)) s.lengths.assign(static_cast<size_t>(s.batch), static_cast<int32_t>(s.steps));
    if (s.op != "LSTM") s.more.erase("input_forget");
    if (s.op != "GRU") s.more.erase("linear_before_reset");
    const int64_t d = s.direction == "bidirectional" ? 2 : 1;
    if (random.integer(0, 2) == 0) {
      const std::vector<std::string> first{"HardSigmoid", "Tanh", "Softsign"}, second{"Sigmoid", "Relu", "Elu"};
      std::vector<std::string> names;
      for (int64_t k = 0; k < d; ++k) {
        const auto& from = k == 0 ? first : second;
        names.insert(names.end(), from.begin(), from.begin() + (s.op == "LSTM" ? 3 : s.op == "GRU" ? 2 : 1));
      }
      s.more["activations"] = names;
      s.more["activation_alpha"] = std::vector<float>{0.3f, 0.7f};
      s.more["activation_beta"] = std::vector<float>{0.4f};
    }
    expect_equal(s, round + 10);
  }
}

TEST(Unroll, OneProductForAllInputsAndOneForEveryStep) {
  Random random(2);
  auto [g, feed] = graph_of({.op = "LSTM", .steps = 26, .h0 = true, .outputs = {0}}, random);
  unroll_recurrent(g, all);
  EXPECT_EQ(count(g, "MatMul"), 27);
  std::set<ValueId> weights;
  size_t bytes = 0;
  for (NodeId id : g.order())
    if (g.node(id).op == "MatMul" && weights.insert(g.node(id).inputs[1]).second) bytes += g.value(g.node(id).inputs[1]).constant->bytes();
  EXPECT_EQ(weights.size(), 2u) << "all steps share the recurrent weights";
  EXPECT_EQ(bytes, 4u * 20 * (3 + 5));
  EXPECT_EQ(g.find_value("W") == no_value || !g.value(g.find_value("W")).is_constant(), true) << "the node's own weights are gone";
}

TEST(Unroll, AFirstStateOfZerosNeedsNoProduct) {
  for (const char* op : {"LSTM", "GRU", "RNN"})
    for (const bool zero : {false, true}) {
      Random random(3);
      auto [g, feed] = graph_of({.op = op, .steps = 5, .zero_h0 = zero, .outputs = {0}}, random);
      unroll_recurrent(g, all);
      // A GRU that resets before its product has two a step.
      EXPECT_EQ(count(g, "MatMul"), 1 + 4 * (std::string(op) == "GRU" ? 2 : 1));
    }
}

TEST(Unroll, CellsAreWhatLiesBetweenTheProducts) {
  Random random(4);
  auto [g, feed] = graph_of({.op = "GRU", .steps = 3, .h0 = true, .more = {{"linear_before_reset", int64_t{1}}}}, random);
  const Unrolling u = unroll_recurrent(g, all);
  for (NodeId id : g.order()) {
    const Node& n = g.node(id);
    EXPECT_EQ(n.origin, std::vector<std::string>{"rec"});
    const bool bias = n.op == "Add" && g.constant_input(n, 1) && g.node(g.value(n.inputs[0]).producer).op == "MatMul";
    EXPECT_EQ(u.cells.count(n.name) == 0, n.op == "MatMul" || bias) << n.name;
  }
}

TEST(Unroll, WhatIsNotUnrolledSaysWhy) {
  const auto why = [](Spec s, const std::function<void(Graph&)>& change = {}) {
    Random random(5);
    auto [g, feed] = graph_of(s, random);
    if (change) change(g);
    const Unrolling u = unroll_recurrent(g, all);
    EXPECT_EQ(u.unrolled, 0);
    EXPECT_EQ(count(g, s.op), 1);
    return u.kept.count("rec") ? u.kept.at("rec") : "";
  };
  using ::testing::HasSubstr;
  EXPECT_THAT(why({.steps = 65}), HasSubstr("65 steps are more than the 64"));
  EXPECT_THAT(why({.direction = "bidirectional", .steps = 40}), HasSubstr("in two directions"));
  EXPECT_THAT(why({.lengths = {4, 2}}), HasSubstr("different lengths"));
  EXPECT_THAT(why({.more = {{"activations", std::vector<std::string>{"Sigmoid", "ScaledTanh", "Tanh"}}}}), HasSubstr("'ScaledTanh' is not unrolled"));
  EXPECT_THAT(why({}, [](Graph& g) { g.value(g.find_value("x")).shape = Dims{-1, 2, 3}; infer_shapes(g); }), HasSubstr("number of steps is not known"));
  const auto flowing = [](const char* name) {
    return [name](Graph& g) {
      const ValueId v = g.find_value(name);
      g.value(v).constant = nullptr;
      auto inputs = g.inputs();
      inputs.push_back(v);
      g.set_inputs(inputs);
    };
  };
  EXPECT_THAT(why({}, flowing("W")), HasSubstr("weights are not constant"));
  EXPECT_THAT(why({}, flowing("B")), HasSubstr("bias are not constant"));
  EXPECT_THAT(why({.lengths = {4, 4}}, flowing("lens")), HasSubstr("lengths are not constant"));
}

TEST(Unroll, OnlyWhatIsWanted) {
  Random random(6);
  auto [g, feed] = graph_of({}, random);
  const Unrolling u = unroll_recurrent(g, [](const Node& n) { return n.op != "LSTM"; });
  EXPECT_EQ(u.unrolled, 0);
  EXPECT_TRUE(u.kept.empty());
}

TEST(Unroll, TheBatchMayBeOpen) {
  Random random(7);
  auto [g, feed] = graph_of({.op = "GRU", .steps = 4}, random);
  g.value(g.find_value("x")).shape = Dims{4, -1, 3};
  infer_shapes(g);
  const NamedTensors want = run(g, feed);
  ASSERT_EQ(unroll_recurrent(g, all).unrolled, 1);
  const NamedTensors got = run(g, feed);
  for (size_t k = 0; k < want[0].second.values<float>().size(); ++k) ASSERT_NEAR(want[0].second.values<float>()[k], got[0].second.values<float>()[k], 2e-6);
}

// What unrolling makes of an LSTM is an LSTM written out: its cells are found again, up to what gathers the results.
TEST(FindCells, Lstm) {
  Random random(8);
  auto [g, feed] = graph_of({.op = "LSTM", .steps = 3, .h0 = true, .c0 = true, .outputs = {0, 2}}, random);
  const Unrolling made = unroll_recurrent(g, all);
  Unrolling found;
  find_cells(g, found);
  EXPECT_EQ(found.biases, made.biases);
  for (const auto& name : found.cells) EXPECT_TRUE(made.cells.count(name)) << name;
  for (NodeId id : g.order()) {
    const Node& n = g.node(id);
    if (!made.cells.count(n.name) || found.cells.count(n.name)) continue;
    EXPECT_THAT(n.op, ::testing::AnyOf("Concat", "Unsqueeze", "Identity")) << n.name;
  }
}

TEST(FindCells, GruAndWhatOnlyLooksLikeOne) {
  Graph g;
  const ValueId x = g.add_value("x", DType::f32, Dims{1, 4}), h = g.add_value("h", DType::f32, Dims{1, 4});
  g.set_inputs({x, h});
  Random random(9);
  const auto op = [&](const std::string& op, const std::string& name, std::vector<ValueId> in) {
    const ValueId y = g.add_value(name + "_out");
    g.add_node({.name = name, .op = op, .since_version = 13, .inputs = std::move(in), .outputs = {y}});
    return y;
  };
  const auto times = [&](const std::string& name, ValueId v) { return op("MatMul", name, {v, g.add_constant(name + "_w", random.tensor({4, 4}, 1))}); };
  const ValueId one = g.add_constant("one", Tensor::of<float>({1}, std::vector<float>{1}));
  const ValueId bias = g.add_constant("bias", random.tensor({4}, 1));
  const ValueId z = op("Sigmoid", "z", {op("Add", "z_sum", {op("Add", "z_bias", {times("zx", x), bias}), times("zh", h)})});
  const ValueId r = op("Sigmoid", "r", {op("Add", "r_sum", {times("rx", x), times("rh", h)})});
  const ValueId n = op("Tanh", "n", {op("Add", "n_sum", {times("nx", x), op("Mul", "n_reset", {r, times("nh", h)})})});
  const ValueId next = op("Add", "next", {op("Mul", "keep", {z, h}), op("Mul", "take", {op("Sub", "rest", {one, z}), n})});
  // A gated sum of two branches is no cell: nothing complements its gate.
  const ValueId other = op("Add", "other", {op("Mul", "m1", {op("Sigmoid", "s1", {times("ox", x)}), x}), op("Mul", "m2", {x, h})});
  g.set_outputs({next, other});
  infer_shapes(g);
  Unrolling found;
  find_cells(g, found);
  EXPECT_EQ(found.cells, (std::set<std::string>{"z", "z_sum", "r", "r_sum", "n", "n_sum", "n_reset", "next", "keep", "take", "rest"}));
  EXPECT_EQ(found.biases, (std::set<std::string>{"z_bias"}));
}

}  // namespace
}  // namespace quern
