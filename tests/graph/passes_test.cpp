#include "core/graph/passes.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "core/base/error.hpp"
#include "core/graph/shapes.hpp"

namespace quern {
namespace {

using L = std::vector<int64_t>;
using F = std::vector<float>;

// Writes graphs in a line per node.
struct Build {
  Graph g;
  int count = 0;

  ValueId input(const std::string& name, Dims dims, DType type = DType::f32) {
    const ValueId v = g.add_value(name, type, dims);
    auto inputs = g.inputs();
    inputs.push_back(v);
    g.set_inputs(inputs);
    return v;
  }
  ValueId f(Dims dims, const F& v) { return g.add_constant("c", Tensor::of<float>(std::move(dims), v)); }
  ValueId f(Dims dims) {
    F v(static_cast<size_t>(element_count(dims)));
    for (size_t i = 0; i < v.size(); ++i) v[i] = 0.25F * static_cast<float>(i) - 1;
    return f(dims, v);
  }
  ValueId i(const L& v) { return g.add_constant("i", Tensor::of<int64_t>({static_cast<int64_t>(v.size())}, v)); }
  ValueId op(const std::string& op, std::vector<ValueId> in, std::map<std::string, Attribute> attributes = {}) {
    const ValueId y = g.add_value("v" + std::to_string(count++));
    Node n{.name = op + "_" + g.value(y).name, .op = op, .since_version = 13, .inputs = std::move(in), .outputs = {y}};
    n.origin = {n.name};
    n.attributes = std::move(attributes);
    g.add_node(std::move(n));
    return y;
  }
  Graph& done(std::vector<ValueId> outputs) {
    g.set_outputs(std::move(outputs));
    infer_shapes(g);
    return g;
  }
};

std::string ops(const Graph& g) {
  std::string s;
  for (NodeId id : g.order()) s += (s.empty() ? "" : " ") + g.node(id).op;
  return s;
}
const Node& only(const Graph& g, const std::string& op) {
  for (NodeId id : g.order())
    if (g.node(id).op == op) return g.node(id);
  throw std::runtime_error("no " + op);
}

TEST(Passes, IdentitiesGo) {
  Build b;
  ValueId x = b.input("x", {-1, 6});
  ValueId y = b.op("Identity", {x});
  y = b.op("Relu", {y});
  y = b.op("Dropout", {y, b.f({}, {0.5F})});
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
  Build b;
  ValueId x = b.input("x", {-1, -1});
  ValueId y = b.op("Reshape", {x, b.i({-1, 1})});                                          // shapes not known to agree
  ValueId z = b.op("Slice", {b.op("Relu", {b.input("z", {4})}), b.i({-1}), b.i({INT64_MIN + 2}), b.i({0}), b.i({-1})});  // reversed
  ValueId t = b.op("Dropout", {b.input("t", {4}), b.f({}, {0.5F}), b.g.add_constant("training", Tensor::of<uint8_t>({}, std::vector<uint8_t>{1}))});
  Graph& g = b.done({y, z, t});
  EXPECT_EQ(remove_identities(g), 0);
}

TEST(Passes, AnIdentityFromInputToOutputStays) {
  Build b;
  ValueId x = b.input("x", {2});
  ValueId y = b.op("Identity", {x});
  Graph& g = b.done({y});
  canonicalize(g, {});
  EXPECT_EQ(ops(g), "Identity");
}

TEST(Passes, TransposesCancelAcrossElementwiseNodes) {
  Build b;
  const L there{0, 3, 1, 2}, back{0, 2, 3, 1};
  ValueId x = b.input("x", {-1, 4, 5, 3});
  ValueId a = b.op("Transpose", {x}, {{"perm", there}});
  a = b.op("Relu", {a});
  a = b.op("Mul", {a, b.f({3, 1, 1}, {1, 2, 3})});
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
  auto turned = [&](Build& b, const char* name) { return b.op("Transpose", {b.input(name, {1, 4, 5, 3})}, {{"perm", there}}); };
  {
    Build b;
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
    Build b;
    ValueId m = b.op("ReduceMean", {b.op("Transpose", {b.input("x", {1, 3, 4, 5})}, {{"perm", back}})}, {{"axes", L{1, 2}}, {"keepdims", int64_t{0}}});
    Graph& g = b.done({m});
    canonicalize(g, {});
    EXPECT_EQ(ops(g), "GlobalAveragePool Squeeze");
    EXPECT_EQ(*g.value(g.outputs()[0]).shape, (Dims{1, 3}));
  }
  {
    Build b;  // two different orders do not join
    ValueId s = b.op("Add", {b.op("Transpose", {b.input("x", {2, 2, 2})}, {{"perm", L{0, 2, 1}}}), b.op("Transpose", {b.input("y", {2, 2, 2})}, {{"perm", L{1, 0, 2}}})});
    Graph& g = b.done({s});
    EXPECT_EQ(move_transposes(g), 0);
  }
}

TEST(Passes, ATransposeOfSingleAxesGoesIntoTheReshape) {
  Build b;
  ValueId x = b.input("x", {-1, 64, 1, 1});
  ValueId y = b.op("Reshape", {b.op("Transpose", {x}, {{"perm", L{0, 2, 3, 1}}}), b.i({-1, 64})});
  ValueId z = b.input("z", {-1, 64, 2, 1});
  ValueId w = b.op("Reshape", {b.op("Transpose", {z}, {{"perm", L{0, 2, 3, 1}}}), b.i({-1, 128})});
  Graph& g = b.done({y, w});
  canonicalize(g, {});
  EXPECT_EQ(ops(g), "Reshape Transpose Reshape");
}

TEST(Passes, ShapeArithmeticFoldsWithoutAnEvaluator) {
  Build b;
  ValueId x = b.input("x", {-1, 4, 6});
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
  Build b;
  ValueId x = b.input("x", {-1, 4, 6});
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
  Build b;
  ValueId x = b.input("x", {2});
  ValueId k = b.op("Relu", {b.f({2}, {-1, 2})});
  ValueId big = b.op("Expand", {b.f({1}, {1}), b.i({1 << 23})});
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
  Build b;
  ValueId x = b.input("x", {-1, 2, 4, 4});
  ValueId y = b.op("Conv", {x, b.f({3, 2, 1, 1}, {1, 2, 3, 4, 5, 6}), b.f({3}, {1, 2, 3})});
  y = b.op("BatchNormalization", {y, b.f({3}, {2, 1, 0.5F}), b.f({3}, {0.1F, 0.2F, 0.3F}), b.f({3}, {1, 1, 1}), b.f({3}, {4, 1, 0.25F})}, {{"epsilon", 0.0F}});
  Graph& g = b.done({y});
  canonicalize(g, {});
  EXPECT_EQ(ops(g), "Conv");
  const Node& n = only(g, "Conv");
  EXPECT_EQ(g.constant_input(n, 1)->to_floats(), (F{1, 2, 3, 4, 5, 6}));  // factors 2/2, 1/1, 0.5/0.5
  EXPECT_EQ(g.constant_input(n, 2)->to_floats(), (F{0.1F, 1.2F, 2.3F}));
  EXPECT_EQ(n.origin.size(), 2U);
}

TEST(Passes, BatchNormFactorsReachTheRightWeights) {
  Build b;
  const F one4{1, 1, 1, 1}, zero4{0, 0, 0, 0}, by{1, 10, 100, 1000};
  ValueId x = b.input("x", {1, 2, 3, 3});
  ValueId y = b.op("ConvTranspose", {x, b.f({2, 2, 1, 2}, {1, 2, 3, 4, 5, 6, 7, 8})}, {{"group", int64_t{2}}});
  y = b.op("BatchNormalization", {y, b.f({4}, by), b.f({4}, zero4), b.f({4}, zero4), b.f({4}, one4)}, {{"epsilon", 0.0F}});
  ValueId r = b.input("r", {-1, 2});
  ValueId t = b.op("Gemm", {r, b.f({4, 2}, {1, 2, 3, 4, 5, 6, 7, 8}), b.f({1}, {1})}, {{"transB", int64_t{1}}, {"beta", 2.0F}});
  t = b.op("BatchNormalization", {t, b.f({4}, by), b.f({4}, zero4), b.f({4}, zero4), b.f({4}, one4)}, {{"epsilon", 0.0F}});
  ValueId m = b.op("MatMul", {r, b.f({2, 4}, {1, 2, 3, 4, 5, 6, 7, 8})});
  m = b.op("BatchNormalization", {m, b.f({4}, by), b.f({4}, one4), b.f({4}, zero4), b.f({4}, one4)}, {{"epsilon", 0.0F}});
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
  Build b;
  ValueId x = b.input("x", {1, 2, 3, 3}), w = b.f({2, 2, 1, 1}, {1, 2, 3, 4});
  ValueId a = b.op("Conv", {x, w}), c = b.op("Conv", {x, w});
  ValueId scaled = b.op("Mul", {a, b.f({2, 1, 1}, {2, 3})});
  ValueId d = b.op("Conv", {x, b.f({2, 2, 1, 1})});
  ValueId used_twice = b.op("Mul", {d, b.f({2, 1, 1}, {2, 3})});
  Graph& g = b.done({scaled, c, used_twice, d});
  canonicalize(g, {});
  EXPECT_EQ(g.value(w).constant->to_floats(), (F{1, 2, 3, 4}));
  EXPECT_EQ(g.constant_input(g.node(g.value(scaled).producer), 1)->to_floats(), (F{2, 4, 9, 12}));
  EXPECT_EQ(g.node(g.value(used_twice).producer).op, "Mul");
}

TEST(Passes, BiasMeansOneThing) {
  Build b;
  ValueId x = b.input("x", {-1, 2});
  ValueId y = b.op("Add", {b.f({1, 3}, {1, 2, 3}), b.op("MatMul", {x, b.f({2, 3})})});
  ValueId q = b.input("q", {-1, 5, 2});
  ValueId z = b.op("Add", {b.op("MatMul", {q, b.f({2, 3})}), b.f({3}, {1, 2, 3})});  // rank 3: stays
  ValueId im = b.input("im", {-1, 2, 4, 4});
  ValueId c = b.op("Sub", {b.op("Conv", {im, b.f({3, 2, 1, 1})}), b.f({1, 3, 1, 1}, {1, 2, 3})});
  ValueId k = b.op("Add", {b.op("Conv", {im, b.f({3, 2, 1, 1})}), b.f({1, 1, 1, 4}, {1, 2, 3, 4})});  // per column: stays
  ValueId s = b.op("Gemm", {x, b.f({2, 3}, {1, 2, 3, 4, 5, 6}), b.f({1, 1}, {4})}, {{"alpha", 2.0F}, {"beta", 0.5F}});
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
  Build b;
  ValueId x = b.input("x", {2}), unused = b.input("unused", {2});
  ValueId w = b.f({2}, {1, 2});
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
    Build b;
    ValueId x = b.input("x", {2});
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
  Build b;
  ValueId y = b.input("x", {1, 4, 8, 8});
  for (int i = 0; i < 3300; ++i) {
    y = b.op("Conv", {y, b.f({4, 4, 1, 1})});
    y = b.op("Identity", {y});
    y = b.op("Add", {y, b.f({4, 1, 1})});
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
