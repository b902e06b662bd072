// Operators written in several nodes are recognised in every arrangement, and the network computes what it did before.
#include <chrono>
#include <functional>

#include "tests/graph/net.hpp"

namespace quern {
namespace {

using namespace net;

const Node& only(const Graph& g) {
  const auto order = g.order();
  EXPECT_EQ(order.size(), 1U) << ops(g);
  return g.node(order.at(0));
}

// `write` in every arrangement: both orders of operands, numbers as scalars and as arrays of ones' shape.
void everywhere(const std::string& expected, const std::function<ValueId(Net&, ValueId)>& write,
                const std::function<void(const Node&)>& check = {}) {
  for (const bool swapped : {false, true})
    for (const Dims& ones : {Dims{}, Dims{1}, Dims{1, 1, 1}, Dims{5}}) {
      Net n;
      n.swapped = swapped;
      n.ones = ones;
      const ValueId x = n.input({-1, 4, 5});
      const ValueId y = write(n, x);
      const std::string name = n.g.value(y).name;
      const Graph g = n.done({y});
      const size_t before = g.order().size();
      const Graph r = rewritten(g);
      ASSERT_EQ(ops(r), expected);
      EXPECT_EQ(r.value(r.outputs()[0]).name, name);
      EXPECT_EQ(only(r).origin.size(), before) << "a node stands for all of the file's";
      if (check) check(only(r));
    }
}

TEST(Patterns, Swish) {
  const auto alpha = [](float want) { return [want](const Node& n) { EXPECT_EQ(n.since_version, 24); EXPECT_NEAR(n.real("alpha", 0), want, 1e-6); }; };
  everywhere("Swish", [](Net& n, ValueId x) { return n.mul(x, n.op("Sigmoid", {x})); }, alpha(1));
  everywhere("Swish", [](Net& n, ValueId x) { return n.mul(n.op("Sigmoid", {n.mul(x, n.c(1.702))}), x); }, alpha(1.702F));
  everywhere("Swish", [](Net& n, ValueId x) { return n.mul(x, n.op("Reciprocal", {n.add(n.op("Exp", {n.op("Neg", {x})}), n.c(1))})); }, alpha(1));
  everywhere("Swish", [](Net& n, ValueId x) { return n.op("Div", {x, n.add(n.c(1), n.op("Exp", {n.mul(x, n.c(-1.5))}))}); }, alpha(1.5F));
  everywhere("Swish", [](Net& n, ValueId x) { return n.mul(n.mul(x, n.c(0.5)), n.add(n.op("Tanh", {n.mul(x, n.c(0.5))}), n.c(1))); }, alpha(1));
}

TEST(Patterns, LogisticWrittenOut) {
  everywhere("Sigmoid", [](Net& n, ValueId x) { return n.op("Div", {n.c(1), n.add(n.c(1), n.op("Exp", {n.op("Neg", {x})}))}); });
  everywhere("Sigmoid", [](Net& n, ValueId x) { return n.op("Reciprocal", {n.add(n.op("Exp", {n.mul(x, n.c(-1))}), n.c(1))}); });
}

TEST(Patterns, HardSwishAndHardSigmoid) {
  const auto relu6 = [](Net& n, ValueId v) { return n.op("Clip", {v, n.g.add_constant("low", Tensor::scalar(0.0F)), n.g.add_constant("high", Tensor::scalar(6.0F))}); };
  const auto unit = [](Net& n, ValueId v) { return n.op("Clip", {v, n.g.add_constant("low", Tensor::scalar(0.0F)), n.g.add_constant("high", Tensor::scalar(1.0F))}); };
  everywhere("HardSwish", [&](Net& n, ValueId x) { return n.op("Div", {n.mul(x, relu6(n, n.add(x, n.c(3)))), n.c(6)}); });
  everywhere("HardSwish", [&](Net& n, ValueId x) { return n.mul(x, n.op("Div", {relu6(n, n.add(x, n.c(3))), n.c(6)})); });
  everywhere("HardSwish", [&](Net& n, ValueId x) { return n.mul(n.mul(x, n.c(1.0 / 6)), relu6(n, n.add(n.c(3), x))); });
  everywhere("HardSwish", [&](Net& n, ValueId x) { return n.mul(x, unit(n, n.add(n.op("Div", {x, n.c(6)}), n.c(0.5)))); });
  everywhere("HardSwish", [&](Net& n, ValueId x) { return n.mul(x, n.op("HardSigmoid", {x}, {{"alpha", 1.0F / 6}, {"beta", 0.5F}})); });
  everywhere("HardSwish", [](Net& n, ValueId x) { return n.mul(x, n.mul(n.two("Min", n.op("Relu", {n.add(x, n.c(3))}), n.c(6)), n.c(1.0 / 6))); });
  const auto parameters = [](float alpha) { return [alpha](const Node& n) { EXPECT_NEAR(n.real("alpha", 0), alpha, 1e-7); EXPECT_NEAR(n.real("beta", 0), 0.5, 1e-7); }; };
  everywhere("HardSigmoid", [&](Net& n, ValueId x) { return n.op("Div", {relu6(n, n.add(x, n.c(3))), n.c(6)}); }, parameters(1.0F / 6));
  everywhere("HardSigmoid", [&](Net& n, ValueId x) { return n.mul(relu6(n, n.add(x, n.c(3))), n.c(1.0 / 6)); }, parameters(1.0F / 6));
  everywhere("HardSigmoid", [&](Net& n, ValueId x) { return unit(n, n.add(n.mul(x, n.c(0.2)), n.c(0.5))); }, parameters(0.2F));
  everywhere("HardSigmoid", [](Net& n, ValueId x) { return n.two("Min", n.two("Max", n.add(n.mul(x, n.c(0.2)), n.c(0.5)), n.c(0)), n.c(1)); }, parameters(0.2F));
}

TEST(Patterns, Mish) {
  everywhere("Mish", [](Net& n, ValueId x) { return n.mul(x, n.op("Tanh", {n.op("Softplus", {x})})); });
  everywhere("Mish", [](Net& n, ValueId x) { return n.mul(n.op("Tanh", {n.op("Log", {n.add(n.op("Exp", {x}), n.c(1))})}), x); });
}

TEST(Patterns, GeluByErf) {
  const auto none = [](const Node& n) { EXPECT_EQ(n.text("approximate", "none"), "none"); };
  const auto gate = [](Net& n, ValueId x) { return n.add(n.op("Erf", {n.op("Div", {x, n.c(std::sqrt(2.0))})}), n.c(1)); };
  everywhere("Gelu", [&](Net& n, ValueId x) { return n.mul(n.mul(x, gate(n, x)), n.c(0.5)); }, none);
  everywhere("Gelu", [&](Net& n, ValueId x) { return n.mul(n.mul(x, n.c(0.5)), gate(n, x)); }, none);
  everywhere("Gelu", [&](Net& n, ValueId x) { return n.mul(x, n.mul(n.c(0.5), gate(n, x))); }, none);
  everywhere("Gelu", [&](Net& n, ValueId x) { return n.op("Div", {n.mul(gate(n, x), x), n.c(2)}); }, none);
  everywhere("Gelu", [](Net& n, ValueId x) { return n.mul(x, n.add(n.mul(n.op("Erf", {n.mul(x, n.c(std::sqrt(0.5)))}), n.c(0.5)), n.c(0.5))); }, none);
  everywhere("Gelu", [](Net& n, ValueId x) {
    return n.mul(n.mul(x, n.c(0.5)), n.op("Sub", {n.c(1), n.op("Erf", {n.mul(n.op("Neg", {x}), n.c(std::sqrt(0.5)))})}));
  }, none);
}

TEST(Patterns, GeluByTanh) {
  const auto approximate = [](const Node& n) { EXPECT_EQ(n.text("approximate", "none"), "tanh"); };
  const double k = std::sqrt(2 / std::acos(-1.0));
  const auto outer = [](Net& n, ValueId x, ValueId u) { return n.mul(n.mul(x, n.c(0.5)), n.add(n.op("Tanh", {u}), n.c(1))); };
  everywhere("Gelu", [&](Net& n, ValueId x) {
    return outer(n, x, n.mul(n.add(x, n.mul(n.op("Pow", {x, n.c(3)}), n.c(0.044715))), n.c(k)));
  }, approximate);
  everywhere("Gelu", [&](Net& n, ValueId x) {
    return outer(n, x, n.mul(n.mul(x, n.c(k)), n.add(n.mul(n.mul(n.c(0.044715), x), x), n.c(1))));
  }, approximate);
  everywhere("Gelu", [&](Net& n, ValueId x) {
    const ValueId cube = n.mul(n.mul(x, x), x);
    return n.mul(n.c(0.5), n.mul(x, n.add(n.c(1), n.op("Tanh", {n.mul(n.c(k), n.add(x, n.mul(n.c(0.044715), cube)))}))));
  }, approximate);
  everywhere("Gelu", [&](Net& n, ValueId x) {
    return n.mul(x, n.op("Sigmoid", {n.mul(n.c(2 * k), n.add(x, n.mul(n.c(0.044715), n.op("Pow", {x, n.c(3)}))))}));
  }, approximate);
}

TEST(Patterns, CutOffsAndLeakyRelu) {
  everywhere("Clip", [](Net& n, ValueId x) { return n.two("Min", n.two("Max", x, n.c(0)), n.c(6)); });
  everywhere("Clip", [](Net& n, ValueId x) { return n.two("Max", n.two("Min", x, n.c(2)), n.c(-1)); });
  everywhere("Clip", [](Net& n, ValueId x) { return n.two("Min", n.op("Relu", {x}), n.c(6)); });
  everywhere("Relu", [](Net& n, ValueId x) { return n.two("Max", x, n.c(0)); });
  const auto alpha = [](float want) { return [want](const Node& n) { EXPECT_NEAR(n.real("alpha", 0), want, 1e-7); }; };
  everywhere("LeakyRelu", [](Net& n, ValueId x) { return n.two("Max", x, n.mul(x, n.c(0.1))); }, alpha(0.1F));
  everywhere("LeakyRelu", [](Net& n, ValueId x) { return n.two("Min", x, n.mul(x, n.c(3))); }, alpha(3));
  everywhere("LeakyRelu", [](Net& n, ValueId x) { return n.op("PRelu", {x, n.c(0.25)}); }, alpha(0.25F));
  everywhere("LeakyRelu", [](Net& n, ValueId x) { return n.add(n.op("Relu", {x}), n.mul(n.op("Relu", {n.op("Neg", {x})}), n.c(-0.2))); }, alpha(0.2F));
  everywhere("LeakyRelu", [](Net& n, ValueId x) { return n.op("Sub", {n.op("Relu", {x}), n.mul(n.c(0.2), n.op("Relu", {n.op("Neg", {x})}))}); }, alpha(0.2F));
}

// What only looks like a pattern, or is seen by others.
TEST(Patterns, WhatIsAnotherFunctionStays) {
  const auto stays = [](const std::string& expected, const std::function<std::vector<ValueId>(Net&, ValueId)>& write) {
    Net n;
    const ValueId x = n.input({3, 4, 5});
    EXPECT_EQ(ops(rewritten(n.done(write(n, x)))), expected);
  };
  stays("Sigmoid Mul", [](Net& n, ValueId x) { const ValueId s = n.op("Sigmoid", {x}); return std::vector{n.mul(x, s), s}; });
  stays("Sigmoid Mul Neg", [](Net& n, ValueId x) { const ValueId s = n.op("Sigmoid", {x}); return std::vector{n.mul(x, s), n.op("Neg", {s})}; });
  stays("Sigmoid Mul", [](Net& n, ValueId x) { return std::vector{n.mul(n.input({3, 4, 5}, "other"), n.op("Sigmoid", {x}))}; });
  stays("Add Sigmoid Mul", [](Net& n, ValueId x) { return std::vector{n.mul(x, n.op("Sigmoid", {n.add(x, n.c(1))}))}; });
  stays("Sigmoid Mul", [](Net& n, ValueId x) { return std::vector{n.mul(n.input({1, 4, 1}, "gate"), n.op("Sigmoid", {x}))}; });
  stays("Div Erf Add Mul Mul", [](Net& n, ValueId x) {  // another factor inside
    return std::vector{n.mul(n.mul(x, n.add(n.op("Erf", {n.op("Div", {x, n.c(1.5)})}), n.c(1))), n.c(0.5))};
  });
  stays("Mul Max", [](Net& n, ValueId x) { return std::vector{n.two("Max", x, n.mul(x, n.c(1.5)))}; });
  stays("PRelu", [](Net& n, ValueId x) { return std::vector{n.op("PRelu", {x, n.c({4, 1})})}; });
  stays("Neg Add Clip", [](Net& n, ValueId x) { return std::vector{n.op("Clip", {n.add(n.op("Neg", {x}), n.c(0.5)), n.c(0), n.c(1)})}; });
  // A constant that stretches the tensor.
  Net n;
  const ValueId x = n.input({1, 5});
  n.ones = {3, 5};
  const Graph r = rewritten(n.done({n.mul(n.mul(x, n.c(0.5)), n.add(n.op("Tanh", {n.mul(x, n.c(0.5))}), n.c(1)))}));
  EXPECT_EQ(ops(r), "Mul Tanh Add Mul Mul");
}

enum class How { div, reciprocal, power, folded };

ValueId normalized(Net& n, ValueId x, const L& axes, How how, bool twice) {
  const std::map<std::string, Attribute> reduce{{"axes", axes}, {"keepdims", int64_t{1}}};
  const ValueId mean = n.op("ReduceMean", {x}, reduce), centred = n.op("Sub", {x, mean});
  const ValueId again = twice ? n.op("Sub", {x, mean}) : centred;
  const ValueId square = how == How::reciprocal ? n.op("Mul", {again, again}) : n.op("Pow", {again, n.c(2)});
  const ValueId sum = n.add(n.op("ReduceMean", {square}, reduce), n.c(1e-3));
  if (how == How::div) return n.op("Div", {centred, n.op("Sqrt", {sum})});
  if (how == How::power) return n.mul(centred, n.op("Pow", {sum, n.c(-0.5)}));
  return n.mul(centred, n.op("Reciprocal", {n.op("Sqrt", {sum})}));
}

TEST(Patterns, LayerNormalization) {
  for (const bool swapped : {false, true})
    for (const bool twice : {false, true})
      for (const How how : {How::div, How::reciprocal, How::power})
        for (const L& axes : {L{-1}, L{3}, L{1, 2, 3}}) {
          Net n;
          n.swapped = swapped;
          const ValueId x = n.input({-1, 4, 5, 6});
          const Dims dims = axes.size() == 1 ? Dims{6} : Dims{4, 5, 6};
          const ValueId y = normalized(n, x, axes, how, twice);
          const Graph r = rewritten(n.done({n.add(n.mul(y, n.c(dims)), n.c(dims, -1))}), 2, 5);
          ASSERT_EQ(ops(r), "LayerNormalization");
          EXPECT_NEAR(only(r).real("epsilon", 0), 1e-3, 1e-9);
          EXPECT_EQ(only(r).integer("axis", 0), axes.size() == 1 ? -1 : 1);
          EXPECT_EQ(r.constant_input(only(r), 1)->dims(), dims);
          EXPECT_EQ(r.constant_input(only(r), 2)->dims(), dims);
        }
  Net n;  // one scale for all, no bias
  const ValueId x = n.input({2, 7});
  const Graph r = rewritten(n.done({n.mul(normalized(n, x, {1}, How::div, false), n.c(3))}));
  ASSERT_EQ(ops(r), "LayerNormalization");
  EXPECT_EQ(r.constant_input(only(r), 1)->to_floats(), F(7, 3.0F));
}

TEST(Patterns, LayerNormalizationAsTensorFlowFoldsIt) {
  for (const bool gamma : {false, true})
    for (const bool swapped : {false, true}) {
      Net n;
      n.swapped = swapped;
      const ValueId x = n.input({-1, 3, 6});
      const std::map<std::string, Attribute> reduce{{"axes", L{2}}};
      const ValueId mean = n.op("ReduceMean", {x}, reduce), centred = n.op("Sub", {x, mean});
      const ValueId variance = n.op("ReduceMean", {n.op("Mul", {centred, centred})}, reduce);
      ValueId k = n.op("Reciprocal", {n.op("Sqrt", {n.add(variance, n.c(1e-3))})});
      if (gamma) k = n.mul(k, n.c(Dims{6}));
      const Graph r = rewritten(n.done({n.add(n.mul(x, k), n.op("Sub", {n.c(Dims{6}, 2), n.mul(mean, k)}))}));
      EXPECT_EQ(ops(r), "LayerNormalization");
      EXPECT_EQ(only(r).inputs.size(), 3U);
    }
}

TEST(Patterns, InstanceNormalization) {
  for (const int64_t rank : {3, 4, 5}) {
    Net n;
    Dims dims{2, 3, 4, 5, 2};
    dims.resize(static_cast<size_t>(rank));
    L axes;
    for (int64_t a = 2; a < rank; ++a) axes.push_back(a);
    Dims per_channel(static_cast<size_t>(rank) - 1, 1);
    per_channel[0] = 3;
    const ValueId y = normalized(n, n.input(dims), axes, How::div, false);
    const Graph r = rewritten(n.done({n.add(n.mul(y, n.c(per_channel)), n.c(per_channel, -1))}));
    ASSERT_EQ(ops(r), "InstanceNormalization") << rank;
    EXPECT_EQ(r.constant_input(only(r), 1)->dims(), Dims{3});
  }
  Net n;  // in the middle: no operator
  const Graph r = rewritten(n.done({normalized(n, n.input({2, 3, 4}), {1}, How::div, false)}));
  EXPECT_EQ(ops(r), "ReduceMean Sub Pow ReduceMean Add Sqrt Div");
}

TEST(Patterns, Softmax) {
  for (const int64_t axis : {1, 2, -1})
    for (const bool reciprocal : {false, true}) {
      Net n;
      const ValueId x = n.input({-1, 4, 5});
      const ValueId e = n.op("Exp", {n.op("Sub", {x, n.op("ReduceMax", {x}, {{"axes", L{axis}}})})});
      const ValueId sum = n.op("ReduceSum", {e, n.i({axis})});
      const Graph r = rewritten(n.done({reciprocal ? n.mul(e, n.op("Reciprocal", {sum})) : n.op("Div", {e, sum})}));
      ASSERT_EQ(ops(r), "Softmax");
      EXPECT_EQ(only(r).integer("axis", 0), axis == 1 ? 1 : -1);
    }
  Net n;  // sums along another axis
  const ValueId x = n.input({3, 4, 5});
  const ValueId e = n.op("Exp", {n.op("Sub", {x, n.op("ReduceMax", {x}, {{"axes", L{2}}})})});
  EXPECT_EQ(ops(rewritten(n.done({n.op("Div", {e, n.op("ReduceSum", {e, n.i({1})})})}))), "ReduceMax Sub Exp ReduceSum Div");
}

TEST(Patterns, SplitsAndGathersBecomeSlices) {
  {
    Net n;
    const ValueId x = n.input({-1, 6, 2});
    n.op("Split", {x, n.i({1, 2, 3})}, {{"axis", int64_t{1}}}, 3);
    const ValueId a = n.g.find_value("Split0_out"), c = n.g.find_value("Split0_2_out");
    const Graph r = rewritten(n.done({n.op("Relu", {a}), c}));
    EXPECT_EQ(ops(r), "Slice Relu Slice") << "the part that nobody uses is not made";
    for (NodeId id : r.order())
      if (r.node(id).op == "Slice") { EXPECT_EQ(r.node(id).origin, std::vector<std::string>{"Split0"}); }
    EXPECT_EQ(*r.value(r.outputs()[1]).shape, (Dims{-1, 3, 2}));
  }
  {
    Net n;
    const ValueId x = n.input({3, 5, 4});
    const ValueId one = n.g.add_constant("index", Tensor::scalar(int64_t{-1}));
    const ValueId a = n.op("Gather", {x, one}, {{"axis", int64_t{2}}}), b = n.op("Gather", {x, n.i({1, 2, 3})}, {{"axis", int64_t{1}}});
    const ValueId c = n.op("Gather", {x, n.i({0, 2})}, {{"axis", int64_t{1}}}), d = n.op("Gather", {x, n.i({2, 1})}, {{"axis", int64_t{1}}});
    const Graph r = rewritten(n.done({a, b, c, d}));
    EXPECT_EQ(std::multiset<std::string>({"Slice", "Squeeze", "Slice", "Gather", "Gather"}), [&] {
      std::multiset<std::string> s;
      for (NodeId id : r.order()) s.insert(r.node(id).op);
      return s;
    }());
  }
}

TEST(Patterns, MeansOfImagesArePools) {
  for (const int64_t keep : {0, 1}) {
    Net n;
    const ValueId y = n.op("ReduceMean", {n.input({-1, 3, 4, 5})}, {{"axes", L{-1, 2}}, {"keepdims", keep}});
    const std::string name = n.g.value(y).name;
    const Graph r = rewritten(n.done({y}));
    EXPECT_EQ(ops(r), keep ? "GlobalAveragePool" : "GlobalAveragePool Squeeze");
    EXPECT_EQ(*r.value(r.find_value(name)).shape, keep ? (Dims{-1, 3, 1, 1}) : (Dims{-1, 3}));
  }
  Net n;
  const ValueId x = n.input({2, 3, 4, 5});
  const auto mean = [&](const L& axes) { return n.op("ReduceMean", {x}, {{"axes", axes}}); };
  EXPECT_EQ(ops(rewritten(n.done({mean({2}), mean({1, 2, 3}), n.op("ReduceMean", {n.input({2, 3, 4}, "row")}, {{"axes", L{2}}})}))), "ReduceMean ReduceMean ReduceMean");
}

TEST(Patterns, FactorsGoIntoProjections) {
  // softmax(q k^T / sqrt(d)): the factor ends in the weights and the bias of the queries.
  Net n;
  const ValueId x = n.input({2, 6, 8});
  const auto projection = [&] {
    return n.op("Transpose", {n.op("Reshape", {n.add(n.op("MatMul", {x, n.c({8, 8})}), n.c(Dims{8})), n.i({2, 6, 2, 4})})}, {{"perm", L{0, 2, 1, 3}}});
  };
  const ValueId q = projection(), k = projection(), v = projection();
  const ValueId scores = n.op("Div", {n.op("MatMul", {q, n.op("Transpose", {k}, {{"perm", L{0, 1, 3, 2}}})}), n.c(2)});
  const Graph g = n.done({n.op("MatMul", {n.op("Softmax", {scores}, {{"axis", int64_t{-1}}}), v})});
  const Graph r = rewritten(g, -0.1F, 0.1F);
  EXPECT_EQ(ops(r).find("Div"), std::string::npos) << ops(r);
  const ValueId w = r.node(r.find_node("MatMul0")).inputs[1];
  EXPECT_EQ(r.value(w).constant->to_floats()[3], 0.5F * g.constant_input(g.node(g.find_node("MatMul0")), 1)->to_floats()[3]) << "halving is exact";
  EXPECT_EQ(run(g, -0.1F, 0.1F), run(r, -0.1F, 0.1F));
}

TEST(Patterns, FactorsBeforeAndBehindLinearNodes) {
  {
    Net n;  // pixels, with zeros around them
    const ValueId y = n.op("Conv", {n.op("Div", {n.input({1, 3, 6, 6}), n.c(255)}), n.c({4, 3, 3, 3}), n.c(Dims{4})}, {{"pads", L{1, 1, 1, 1}}});
    EXPECT_EQ(ops(rewritten(n.done({n.op("Relu", {y})}), 0, 255)), "Conv Relu");
  }
  {
    Net n;
    const ValueId y = n.op("ReduceMean", {n.op("Conv", {n.input({1, 3, 6, 6}), n.c({4, 3, 3, 3}), n.c(Dims{4})})}, {{"axes", L{2, 3}}});
    EXPECT_EQ(ops(rewritten(n.done({n.mul(n.op("Flatten", {y}), n.c(-0.3))}))), "Conv GlobalAveragePool Flatten");
  }
  {
    Net n;  // seen by another, or not linear
    const ValueId x = n.input({2, 4}), y = n.op("MatMul", {x, n.c({4, 4})});
    const Graph r = rewritten(n.done({n.mul(y, n.c(0.3)), n.op("Neg", {y}), n.mul(n.op("Relu", {n.op("MatMul", {x, n.c({4, 4})})}), n.c(0.3))}));
    EXPECT_EQ(ops(r), "MatMul Mul Neg MatMul Relu Mul");
  }
}

TEST(Patterns, ChannelShuffleStays) {
  Net n;
  const ValueId x = n.input({-1, 4, 3, 3});
  const ValueId s = n.op("Reshape", {n.op("Transpose", {n.op("Reshape", {x, n.i({-1, 2, 2, 3, 3})})}, {{"perm", L{0, 2, 1, 3, 4}}}), n.i({-1, 4, 3, 3})});
  EXPECT_EQ(ops(rewritten(n.done({s}))), "Reshape Transpose Reshape");
}

// A function of the graph alone, and near linear.
TEST(Patterns, TenThousandNodes) {
  const auto build = [](int blocks) {
    Net n;
    ValueId x = n.input({1, 8});
    for (int b = 0; b < blocks; ++b) {
      x = n.mul(x, n.op("Sigmoid", {x}));
      x = n.op("Div", {n.mul(x, n.two("Min", n.op("Relu", {n.add(x, n.c(3))}), n.c(6))), n.c(6)});
      x = n.add(x, normalized(n, x, {1}, How::div, false));
    }
    return n.done({x});
  };
  const auto took = [&](int blocks) {
    Graph g = build(blocks);
    const auto start = std::chrono::steady_clock::now();
    recognize_activations(g);
    infer_shapes(g);
    recognize_normalizations(g);
    split_to_slices(g);
    fold_scalars(g);
    const double s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    EXPECT_EQ(g.order().size(), static_cast<size_t>(blocks) * 4) << "Swish, HardSwish, LayerNormalization, Add";
    return s;
  };
  if (!std::getenv("QUERN_SANITIZED")) {
    double seconds = 1e9;
    for (int i = 0; i < 3; ++i) seconds = std::min(seconds, took(700));
    EXPECT_LT(seconds, 0.5) << "9,800 nodes; 0.05 s where this was written, and a pass that looks at pairs of nodes takes seconds";
  }
  Graph a = build(20), b = build(20);
  canonicalize(a, evaluate_constant_node);
  canonicalize(b, evaluate_constant_node);
  ASSERT_EQ(a.node_slots(), b.node_slots());
  for (NodeId id : a.order()) EXPECT_EQ(a.node(id).origin, b.node(id).origin);
}

}  // namespace
}  // namespace quern
