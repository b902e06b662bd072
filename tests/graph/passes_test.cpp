#include "core/graph/passes.hpp"

#include "core/base/error.hpp"
#include "tests/graph/net.hpp"

namespace quern {
namespace {

using namespace net;

const Node& only(const Graph& g, const std::string& op) {
  for (NodeId id : g.order())
    if (g.node(id).op == op) return g.node(id);
  throw std::runtime_error("no " + op);
}

TEST(Passes, IdentitiesGo) {
  Net b;
  ValueId x = b.input({-1, 6}, "x");
  ValueId y = b.op("Identity", {x});
  y = b.op("Relu", {y});
  y = b.op("Dropout", {y, b.c({}, {0.5F})});
  y = b.op("Cast", {y}, {{"to", int64_t{1}}});
  y = b.op("Reshape", {y, b.i({-1, 6})});
  y = b.op("Flatten", {y});
  y = b.op("Pad", {y, b.i({0, 0, 0, 0})});
  Graph& g = b.done({y});
  const std::string name = g.value(y).name;
  canonicalize(g, {});
  EXPECT_EQ(ops(g), "Relu");
  EXPECT_EQ(g.value(g.outputs()[0]).name, name) << "the graph's output keeps its name";
  g.check();
}

TEST(Passes, WhatLooksLikeAnIdentityStays) {
  Net b;
  ValueId x = b.input({-1, -1}, "x");
  ValueId y = b.op("Reshape", {x, b.i({-1, 1})});                                          // shapes not known to agree
  ValueId z = b.op("Slice", {b.op("Relu", {b.input({4}, "z")}), b.i({-1}), b.i({INT64_MIN + 2}), b.i({0}), b.i({-1})});  // reversed
  ValueId t = b.op("Dropout", {b.input({4}, "t"), b.c({}, {0.5F}), b.g.add_constant("training", Tensor::of<uint8_t>({}, std::vector<uint8_t>{1}))});
  Graph& g = b.done({y, z, t});
  EXPECT_EQ(remove_identities(g), 0);
}

TEST(Passes, AnIdentityFromInputToOutputStays) {
  Net b;
  ValueId x = b.input({2}, "x");
  ValueId y = b.op("Identity", {x});
  Graph& g = b.done({y});
  canonicalize(g, {});
  EXPECT_EQ(ops(g), "Identity");
}

TEST(Passes, TransposesCancelAcrossElementwiseNodes) {
  Net b;
  const L there{0, 3, 1, 2}, back{0, 2, 3, 1};
  ValueId x = b.input({-1, 4, 5, 3}, "x");
  ValueId a = b.op("Transpose", {x}, {{"perm", there}});
  a = b.op("Relu", {a});
  a = b.op("Mul", {a, b.c({3, 1, 1}, {1, 2, 3})});
  a = b.op("Transpose", {a}, {{"perm", back}});
  Graph& g = b.done({a});
  canonicalize(g, {});
  EXPECT_EQ(ops(g), "Relu Mul");
  const Tensor* c = g.constant_input(only(g, "Mul"), 1);
  EXPECT_EQ(c->dims(), (Dims{1, 1, 1, 3})) << "the factor is per channel still, in the other order";
  EXPECT_EQ(c->to_floats(), (F{1, 2, 3}));
  EXPECT_EQ(*g.value(g.outputs()[0]).shape, (Dims{-1, 4, 5, 3}));
  g.check();
}

TEST(Passes, TransposesMeetAtAddConcatPadAndReduce) {
  const L there{0, 3, 1, 2}, back{0, 2, 3, 1};
  auto turned = [&](Net& b, const char* name) { return b.op("Transpose", {b.input({1, 4, 5, 3}, name)}, {{"perm", there}}); };
  {
    Net b;
    ValueId s = b.op("Add", {turned(b, "x"), turned(b, "y")});
    s = b.op("Concat", {s, turned(b, "z")}, {{"axis", int64_t{1}}});
    s = b.op("Pad", {s, b.i({0, 0, 1, 2, 0, 0, 3, 4})});
    Graph& g = b.done({b.op("Transpose", {s}, {{"perm", back}})});
    canonicalize(g, {});
    EXPECT_EQ(ops(g), "Add Concat Pad");
    EXPECT_EQ(only(g, "Concat").integer("axis", -1), 3);
    EXPECT_EQ(g.constant_input(only(g, "Pad"), 1)->to_ints(), (L{0, 1, 2, 0, 0, 3, 4, 0}));
    EXPECT_EQ(*g.value(g.outputs()[0]).shape, (Dims{1, 8, 11, 6}));
  }
  {
    Net b;
    ValueId m = b.op("ReduceMean", {b.op("Transpose", {b.input({1, 3, 4, 5}, "x")}, {{"perm", back}})}, {{"axes", L{1, 2}}, {"keepdims", int64_t{0}}});
    Graph& g = b.done({m});
    canonicalize(g, {});
    EXPECT_EQ(ops(g), "GlobalAveragePool Squeeze");
    EXPECT_EQ(*g.value(g.outputs()[0]).shape, (Dims{1, 3}));
  }
  {
    Net b;  // two different orders do not join
    ValueId s = b.op("Add", {b.op("Transpose", {b.input({2, 2, 2}, "x")}, {{"perm", L{0, 2, 1}}}), b.op("Transpose", {b.input({2, 2, 2}, "y")}, {{"perm", L{1, 0, 2}}})});
    Graph& g = b.done({s});
    EXPECT_EQ(move_transposes(g), 0);
  }
}

TEST(Passes, ATransposeOfSingleAxesGoesIntoTheReshape) {
  Net b;
  ValueId x = b.input({-1, 64, 1, 1}, "x");
  ValueId y = b.op("Reshape", {b.op("Transpose", {x}, {{"perm", L{0, 2, 3, 1}}}), b.i({-1, 64})});
  ValueId z = b.input({-1, 64, 2, 1}, "z");
  ValueId w = b.op("Reshape", {b.op("Transpose", {z}, {{"perm", L{0, 2, 3, 1}}}), b.i({-1, 128})});
  Graph& g = b.done({y, w});
  canonicalize(g, {});
  EXPECT_EQ(ops(g), "Reshape Transpose Reshape");
}

TEST(Passes, ShapeArithmeticFoldsWithoutAnEvaluator) {
  Net b;
  ValueId x = b.input({-1, 4, 6}, "x");
  ValueId s = b.op("Shape", {x});
  ValueId n = b.op("Gather", {s, b.i({1})});
  ValueId t = b.op("Concat", {b.i({-1}), b.op("Mul", {n, b.i({6})})}, {{"axis", int64_t{0}}});
  Graph& g = b.done({b.op("Reshape", {x, t})});
  canonicalize(g, {});
  EXPECT_EQ(ops(g), "Reshape");
  EXPECT_EQ(g.constant_input(only(g, "Reshape"), 1)->to_ints(), (L{-1, 24}));
}

// view(x.size(0), -1): the batch stays open, and still no shape arithmetic is left.
TEST(Passes, ReshapesByTheBatchGetConstantShapes) {
  Net b;
  ValueId x = b.input({-1, 4, 6}, "x");
  ValueId n = b.op("Gather", {b.op("Shape", {x}), b.i({0})});
  ValueId y = b.op("Relu", {x});
  ValueId flat = b.op("Reshape", {y, b.op("Concat", {n, b.i({-1})}, {{"axis", int64_t{0}}})});
  ValueId merged = b.op("Reshape", {y, b.op("Concat", {b.op("Mul", {n, b.i({2})}), b.i({12})}, {{"axis", int64_t{0}}})});
  ValueId open = b.op("Reshape", {y, b.op("Concat", {b.op("Mul", {n, b.i({2})}), b.i({-1})}, {{"axis", int64_t{0}}})});
  Graph& g = b.done({flat, merged, open});
  canonicalize(g, {});
  EXPECT_EQ(g.constant_input(g.node(g.value(flat).producer), 1)->to_ints(), (L{0, -1}));
  EXPECT_EQ(g.constant_input(g.node(g.value(merged).producer), 1)->to_ints(), (L{-1, 12}));
  EXPECT_EQ(g.constant_input(g.node(g.value(open).producer), 1), nullptr) << "two open entries can't be written as constants";
  EXPECT_EQ(*g.value(flat).shape, (Dims{-1, 24}));
}

TEST(Passes, ConstantsFoldThroughTheCallback) {
  Net b;
  ValueId x = b.input({2}, "x");
  ValueId k = b.op("Relu", {b.c({2}, {-1, 2})});
  ValueId big = b.op("Expand", {b.c({1}, {1}), b.i({1 << 23})});
  Graph& g = b.done({b.op("Add", {x, k}), big});
  int asked = 0;
  fold_constants(g, [&](const Graph&, const Node& n) -> std::optional<std::vector<Tensor>> {
    ++asked;
    if (n.op == "Relu") return std::vector<Tensor>{Tensor::of<float>({2}, F{0, 2})};
    return std::vector<Tensor>{Tensor(DType::f32, {1 << 23})};
  });
  EXPECT_EQ(asked, 2);
  EXPECT_EQ(ops(g), "Expand Add") << "a constant of 32 MB is not worth a node";
  EXPECT_EQ(g.constant_input(only(g, "Add"), 1)->to_floats(), (F{0, 2}));
}

TEST(Passes, BatchNormGoesIntoConv) {
  Net b;
  ValueId x = b.input({-1, 2, 4, 4}, "x");
  ValueId y = b.op("Conv", {x, b.c({3, 2, 1, 1}, {1, 2, 3, 4, 5, 6}), b.c({3}, {1, 2, 3})});
  y = b.op("BatchNormalization", {y, b.c({3}, {2, 1, 0.5F}), b.c({3}, {0.1F, 0.2F, 0.3F}), b.c({3}, {1, 1, 1}), b.c({3}, {4, 1, 0.25F})}, {{"epsilon", 0.0F}});
  Graph& g = b.done({y});
  canonicalize(g, {});
  EXPECT_EQ(ops(g), "Conv");
  const Node& n = only(g, "Conv");
  EXPECT_EQ(g.constant_input(n, 1)->to_floats(), (F{1, 2, 3, 4, 5, 6}));  // factors 2/2, 1/1, 0.5/0.5
  EXPECT_EQ(g.constant_input(n, 2)->to_floats(), (F{0.1F, 1.2F, 2.3F}));
  EXPECT_EQ(n.origin.size(), 2U);
}

TEST(Passes, BatchNormFactorsReachTheRightWeights) {
  Net b;
  const F one4{1, 1, 1, 1}, zero4{0, 0, 0, 0}, by{1, 10, 100, 1000};
  ValueId x = b.input({1, 2, 3, 3}, "x");
  ValueId y = b.op("ConvTranspose", {x, b.c({2, 2, 1, 2}, {1, 2, 3, 4, 5, 6, 7, 8})}, {{"group", int64_t{2}}});
  y = b.op("BatchNormalization", {y, b.c({4}, by), b.c({4}, zero4), b.c({4}, zero4), b.c({4}, one4)}, {{"epsilon", 0.0F}});
  ValueId r = b.input({-1, 2}, "r");
  ValueId t = b.op("Gemm", {r, b.c({4, 2}, {1, 2, 3, 4, 5, 6, 7, 8}), b.c({1}, {1})}, {{"transB", int64_t{1}}, {"beta", 2.0F}});
  t = b.op("BatchNormalization", {t, b.c({4}, by), b.c({4}, zero4), b.c({4}, zero4), b.c({4}, one4)}, {{"epsilon", 0.0F}});
  ValueId m = b.op("MatMul", {r, b.c({2, 4}, {1, 2, 3, 4, 5, 6, 7, 8})});
  m = b.op("BatchNormalization", {m, b.c({4}, by), b.c({4}, one4), b.c({4}, zero4), b.c({4}, one4)}, {{"epsilon", 0.0F}});
  Graph& g = b.done({y, t, m});
  canonicalize(g, {});
  EXPECT_EQ(ops(g), "ConvTranspose Gemm Gemm");
  EXPECT_EQ(g.constant_input(only(g, "ConvTranspose"), 1)->to_floats(), (F{1, 2, 30, 40, 500, 600, 7000, 8000}));
  const Node& gemm = only(g, "Gemm");
  EXPECT_EQ(g.constant_input(gemm, 1)->to_floats(), (F{1, 2, 30, 40, 500, 600, 7000, 8000}));
  EXPECT_EQ(g.constant_input(gemm, 2)->to_floats(), (F{2, 20, 200, 2000}));
  EXPECT_FALSE(gemm.has("beta"));
  const Node& made = g.node(g.value(m).producer);
  EXPECT_EQ(g.constant_input(made, 1)->to_floats(), (F{1, 20, 300, 4000, 5, 60, 700, 8000}));
  EXPECT_EQ(g.constant_input(made, 2)->to_floats(), one4);
}

TEST(Passes, SharedWeightsAndBranchesAreNotTouched) {
  Net b;
  ValueId x = b.input({1, 2, 3, 3}, "x"), w = b.c({2, 2, 1, 1}, {1, 2, 3, 4});
  ValueId a = b.op("Conv", {x, w}), c = b.op("Conv", {x, w});
  ValueId scaled = b.op("Mul", {a, b.c({2, 1, 1}, {2, 3})});
  ValueId d = b.op("Conv", {x, b.c({2, 2, 1, 1})});
  ValueId used_twice = b.op("Mul", {d, b.c({2, 1, 1}, {2, 3})});
  Graph& g = b.done({scaled, c, used_twice, d});
  canonicalize(g, {});
  EXPECT_EQ(g.value(w).constant->to_floats(), (F{1, 2, 3, 4}));
  EXPECT_EQ(g.constant_input(g.node(g.value(scaled).producer), 1)->to_floats(), (F{2, 4, 9, 12}));
  EXPECT_EQ(g.node(g.value(used_twice).producer).op, "Mul");
}

TEST(Passes, BiasMeansOneThing) {
  Net b;
  ValueId x = b.input({-1, 2}, "x");
  ValueId y = b.op("Add", {b.c({1, 3}, {1, 2, 3}), b.op("MatMul", {x, b.c({2, 3})})});
  ValueId q = b.input({-1, 5, 2}, "q");
  ValueId z = b.op("Add", {b.op("MatMul", {q, b.c({2, 3})}), b.c({3}, {1, 2, 3})});  // rank 3: stays
  ValueId im = b.input({-1, 2, 4, 4}, "im");
  ValueId c = b.op("Sub", {b.op("Conv", {im, b.c({3, 2, 1, 1})}), b.c({1, 3, 1, 1}, {1, 2, 3})});
  ValueId k = b.op("Add", {b.op("Conv", {im, b.c({3, 2, 1, 1})}), b.c({1, 1, 1, 4}, {1, 2, 3, 4})});  // per column: stays
  ValueId s = b.op("Gemm", {x, b.c({2, 3}, {1, 2, 3, 4, 5, 6}), b.c({1, 1}, {4})}, {{"alpha", 2.0F}, {"beta", 0.5F}});
  Graph& g = b.done({y, z, c, k, s});
  canonicalize(g, {});
  EXPECT_EQ(ops(g), "Gemm MatMul Add Conv Conv Add Gemm");
  EXPECT_EQ(g.constant_input(g.node(g.value(y).producer), 2)->dims(), (Dims{3}));
  EXPECT_EQ(g.constant_input(g.node(g.value(c).producer), 2)->to_floats(), (F{-1, -2, -3}));
  const Node& gemm = g.node(g.value(s).producer);
  EXPECT_EQ(g.constant_input(gemm, 1)->to_floats(), (F{2, 4, 6, 8, 10, 12}));
  EXPECT_EQ(g.constant_input(gemm, 2)->to_floats(), (F{2, 2, 2}));
  EXPECT_EQ(gemm.real("alpha", 1), 1.0F);
}

TEST(Passes, DeadNodesConstantsAndOutputsGo) {
  Net b;
  ValueId x = b.input({2}, "x"), unused = b.input({2}, "unused");
  ValueId w = b.c({2}, {1, 2});
  b.op("Relu", {b.op("Add", {x, w})});
  ValueId y = b.op("Relu", {x});
  Graph& g = b.done({y});
  EXPECT_EQ(remove_dead(g), 3);
  EXPECT_EQ(ops(g), "Relu");
  EXPECT_TRUE(g.value(w).name.empty());
  EXPECT_FALSE(g.value(w).constant) << "its memory is let go";
  EXPECT_EQ(g.value(unused).name, "unused") << "inputs stay";
  EXPECT_EQ(remove_dead(g), 0);
  g.check();
}

TEST(Passes, IfWithAConstantConditionBecomesItsBranch) {
  for (bool condition : {true, false}) {
    Net b;
    ValueId x = b.input({2}, "x");
    auto branch = [](const std::string& op) {
      auto inner = std::make_shared<Graph>();
      const ValueId in = inner->add_value("x", DType::f32), out = inner->add_value("inner");
      inner->set_inputs({in});
      inner->add_node({.name = "n", .op = op, .since_version = 13, .inputs = {in}, .outputs = {out}});
      inner->set_outputs({out});
      return std::shared_ptr<const Graph>(inner);
    };
    auto pass_on = std::make_shared<Graph>();
    pass_on->set_inputs({pass_on->add_value("x", DType::f32)});
    pass_on->set_outputs({0});
    ValueId c = b.g.add_constant("c", Tensor::of<bool>({}, std::span<const bool>(&condition, 1)));
    ValueId y = b.op("If", {c, x}, {{"then_branch", branch("Relu")}, {"else_branch", std::shared_ptr<const Graph>(pass_on)},
                                    {"quern.captured", std::vector<std::string>{"x"}}});
    Graph& g = b.done({y});
    canonicalize(g, {});
    EXPECT_EQ(ops(g), condition ? "Relu" : "Identity");
    EXPECT_EQ(*g.value(g.outputs()[0]).shape, (Dims{2}));
    g.check();
  }
}

TEST(Passes, TenThousandNodesAreNoMatter) {
  Net b;
  ValueId y = b.input({1, 4, 8, 8}, "x");
  for (int i = 0; i < 3300; ++i) {
    y = b.op("Conv", {y, b.c({4, 4, 1, 1})});
    y = b.op("Identity", {y});
    y = b.op("Add", {y, b.c({4, 1, 1})});
  }
  Graph& g = b.done({y});
  const auto reports = canonicalize(g, {});
  EXPECT_EQ(g.order().size(), 3300U);
  int64_t changed = 0;
  for (const auto& r : reports) changed += r.changed;
  EXPECT_GE(changed, 6600);
}

}  // namespace
}  // namespace quern
