#include "core/graph/graph.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <set>

#include "core/base/error.hpp"

namespace quern {
namespace {

NodeId relu(Graph& g, ValueId x, const std::string& out) {
  const ValueId y = g.add_value(out);
  return g.add_node({.name = "make_" + out, .op = "Relu", .since_version = 14, .inputs = {x}, .outputs = {y}});
}

std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return std::string(e.what());
  }
  return "no error";
}

TEST(Graph, KeepsProducersAndNames) {
  Graph g;
  const ValueId x = g.add_value("x", DType::f32, Dims{-1, 3});
  g.set_inputs({x});
  const NodeId n = relu(g, x, "y");
  g.set_outputs({g.find_value("y")});
  EXPECT_EQ(g.value(g.find_value("y")).producer, n);
  EXPECT_EQ(g.find_node("make_y"), n);
  EXPECT_EQ(g.find_value("z"), no_value);
  EXPECT_TRUE(g.is_output(g.find_value("y")));
  g.check();
  g.remove_node(n);
  EXPECT_EQ(g.value(g.find_value("y")).producer, no_node);
  EXPECT_EQ(g.find_node("make_y"), no_node);
  EXPECT_NE(message_of([&] { g.check(); }).find("'y' is made by no node"), std::string::npos);
}

TEST(Graph, NamesInUse) {
  Graph g;
  g.add_value("x");
  EXPECT_THROW(g.add_value("x"), Error);
  const ValueId c = g.add_constant("x", Tensor::scalar(1.0F));
  EXPECT_EQ(g.value(c).name, "x_1");
  std::set<std::string> names;
  for (int i = 0; i < 100; ++i) names.insert(g.value(g.add_constant("w", Tensor::scalar(1.0F))).name);
  EXPECT_EQ(names.size(), 100U);
  EXPECT_TRUE(names.count("w_99"));
  const NodeId a = relu(g, 0, "y");
  Node copy = g.node(a);
  copy.outputs = {g.add_value("y2")};
  EXPECT_EQ(g.node(g.add_node(copy)).name, "make_y_1");
}

TEST(Graph, OrderIsStableAndTopological) {
  Graph g;
  const ValueId x = g.add_value("x"), a = g.add_value("a"), b = g.add_value("b"), c = g.add_value("c");
  // Written backwards on purpose.
  g.add_node({.name = "last", .op = "Add", .inputs = {a, b}, .outputs = {c}});
  g.add_node({.name = "b", .op = "Relu", .inputs = {x}, .outputs = {b}});
  g.add_node({.name = "a", .op = "Relu", .inputs = {x}, .outputs = {a}});
  g.set_inputs({x});
  g.set_outputs({c});
  EXPECT_EQ(g.order(), (std::vector<NodeId>{1, 2, 0}));
  const auto uses = g.uses();
  ASSERT_EQ(uses[static_cast<size_t>(x)].size(), 2U);
  EXPECT_EQ(uses[static_cast<size_t>(x)][0].node, 1);
  EXPECT_EQ(uses[static_cast<size_t>(a)][0].slot, 0);
  EXPECT_EQ(uses[static_cast<size_t>(b)][0].slot, 1);
}

TEST(Graph, NamesANodeOnTheCycle) {
  Graph g;
  const ValueId x = g.add_value("x"), a = g.add_value("a"), b = g.add_value("b"), c = g.add_value("c");
  g.add_node({.name = "behind", .op = "Relu", .inputs = {b}, .outputs = {c}});
  g.add_node({.name = "one", .op = "Add", .inputs = {x, b}, .outputs = {a}});
  g.add_node({.name = "two", .op = "Relu", .inputs = {a}, .outputs = {b}});
  g.set_inputs({x});
  g.set_outputs({c});
  const std::string m = message_of([&] { g.order(); });
  EXPECT_NE(m.find("cycle"), std::string::npos);
  EXPECT_EQ(m.find("behind"), std::string::npos) << m;
}

TEST(Graph, CheckFindsDanglingAndDoubleProducers) {
  Graph g;
  const ValueId x = g.add_value("x");
  relu(g, x, "y");
  EXPECT_NE(message_of([&] { g.check(); }).find("input 0 ('x')"), std::string::npos);
  Node second{.name = "again", .op = "Relu", .inputs = {x}, .outputs = {g.find_value("y")}};
  EXPECT_NE(message_of([&] { g.add_node(second); }).find("made by two nodes"), std::string::npos);
  EXPECT_THROW(g.set_constant(g.find_value("y"), Tensor::scalar(1.0F)), Error);
}

TEST(Graph, AttributesOfTheWrongKindNameTheNode) {
  Node n{.name = "conv1", .op = "Conv"};
  n.attributes["group"] = 1.5F;
  EXPECT_EQ(n.integer("other", 7), 7);
  const std::string m = message_of([&] { n.integer("group", 1); });
  EXPECT_NE(m.find("conv1"), std::string::npos);
  EXPECT_NE(m.find("group"), std::string::npos);
  EXPECT_THROW(n.text("group", ""), Error);
  EXPECT_THROW(n.integers("group"), Error);
  EXPECT_FLOAT_EQ(n.real("group", 0), 1.5F);
}

TEST(Graph, ReplaceUsesReachesNodesAndOutputs) {
  Graph g;
  const ValueId x = g.add_value("x"), z = g.add_value("z");
  const NodeId n = relu(g, x, "y");
  g.set_outputs({x});
  g.replace_uses(x, z);
  EXPECT_EQ(g.node(n).inputs[0], z);
  EXPECT_EQ(g.outputs()[0], z);
}

TEST(Graph, FindsConstantsThatAreNotFinite) {
  Graph g;
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  g.add_constant("good", Tensor::of<float>({2}, std::vector<float>{1, -3e38F}));
  g.add_constant("nan", Tensor::of<float>({2}, std::vector<float>{1, nan}));
  g.add_constant("double", Tensor::scalar(-std::numeric_limits<double>::infinity()));
  const std::vector<uint16_t> half{0x7c00};
  g.add_constant("half", Tensor(DType::f16, {1}, nullptr, half.data()));
  g.add_constant("ints", Tensor::scalar(int32_t{0x7f800000}));
  g.add_constant("inf", Tensor::scalar(inf));
  EXPECT_EQ(non_finite_constants(g), (std::vector<std::string>{"nan", "double", "half", "inf"}));
}

}  // namespace
}  // namespace quern
