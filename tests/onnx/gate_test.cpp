#include <gtest/gtest.h>

#include <algorithm>

#include "tests/onnx/models.hpp"

namespace quern {
namespace {

using test::refusal;

TEST(Gate, SinceVersions) {
  EXPECT_EQ(since_version_for("", "Conv", 7), 1);
  EXPECT_EQ(since_version_for("", "Conv", 13), 11);
  EXPECT_EQ(since_version_for("ai.onnx", "Relu", 17), 14);
  EXPECT_EQ(since_version_for("", "Clip", 10), 6);
  EXPECT_EQ(since_version_for("", "QuantizeLinear", 12), 10);
  EXPECT_EQ(since_version_for("", "ReduceMean", 20), 18);
  EXPECT_EQ(since_version_for("", "Gelu", 19), 0) << "not yet in that opset";
  EXPECT_EQ(since_version_for("", "Upsample", 9), 9);
  EXPECT_EQ(since_version_for("", "Upsample", 10), -1) << "withdrawn";
  EXPECT_EQ(since_version_for("", "Conv", 6), 1) << "older opset, same definition";
  EXPECT_EQ(since_version_for("", "Relu", 5), -1) << "another definition than opset 7's";
  EXPECT_EQ(since_version_for("", "Relu", 0), -1);
  EXPECT_EQ(since_version_for("", "Conv", 1000), -1);
  EXPECT_EQ(since_version_for("", "NoSuchThing", 13), 0);
  EXPECT_EQ(since_version_for("com.microsoft", "Conv", 13), 0);
}

TEST(Gate, TableIsSortedAndComplete) {
  const auto& gates = operator_gates();
  EXPECT_GE(gates.size(), 145U);
  for (size_t i = 1; i < gates.size(); ++i) EXPECT_LT(gates[i - 1].op, gates[i].op);
  for (const auto& g : gates) {
    EXPECT_FALSE(g.since_versions.empty()) << g.op;
    EXPECT_TRUE(std::is_sorted(g.since_versions.begin(), g.since_versions.end())) << g.op;
  }
}

TEST(Gate, TheIrNumberAloneNeverRefuses) {
  for (int64_t ir : {1, 3, 8, 13, 99}) EXPECT_EQ(test::import(test::relu_model(13, ir)).order().size(), 1U) << ir;
  EXPECT_EQ(test::import(test::relu_model(28, 14)).node(0).since_version, 14);
}

TEST(Gate, OpsetsOutsideTheTableAreNamed) {
  for (int64_t opset : {1, 5, 99}) {
    const std::string m = refusal(test::relu_model(opset));
    EXPECT_NE(m.find("node 'relu'"), std::string::npos) << m;
    EXPECT_NE(m.find("opset " + std::to_string(opset)), std::string::npos) << m;
  }
  auto none = test::relu_model();
  none.clear_opset_import();
  EXPECT_NE(refusal(none).find("declares no opset"), std::string::npos);
}

TEST(Gate, UnknownOperatorsAreKeptOrNamed) {
  auto m = test::relu_model();
  m.mutable_graph()->mutable_node(0)->set_op_type("Relux");
  const Graph g = test::import(m);
  EXPECT_EQ(g.node(0).since_version, 0);
  EXPECT_EQ(*g.value(g.outputs()[0]).shape, (Dims{-1, 2})) << "what the file declares";
  const fs::path file = fs::path(::testing::TempDir()) / "quern_gate_unknown.onnx";
  write_file(file, std::string_view(m.SerializeAsString()));
  const std::string text = refusal([&] { import_onnx(file, {.refuse_unknown = true}); });
  EXPECT_NE(text.find("Relux is not known (did you mean 'Relu'?)"), std::string::npos) << text;
  fs::remove(file);
  m.mutable_graph()->mutable_node(0)->set_domain("com.microsoft");
  EXPECT_EQ(test::import(m).node(0).domain, "com.microsoft");
  m.mutable_graph()->mutable_node(0)->set_domain("quern");
  EXPECT_NE(refusal(m).find("reserved"), std::string::npos);
}

TEST(Gate, NewFeaturesOfKnownOperatorsAreNamed) {
  auto m = test::relu_model(21, 10);
  auto* n = m.mutable_graph()->mutable_node(0);
  n->set_op_type("DequantizeLinear");
  n->add_input("s");
  test::add_floats(m, "s", {1, 2}, {1, 1});
  test::add_int(n, "block_size", 2);
  EXPECT_NE(refusal(m).find("block_size"), std::string::npos);
}

// Definitions from before opset 13 come in the form of opset 13.
TEST(Gate, OldDefinitionsBecomeNewOnes) {
  auto m = test::empty_model(9);
  auto* g = m.mutable_graph();
  test::describe(g->add_input(), "x", {1, 1, 4, 6});
  test::describe(g->add_output(), "y", {});
  auto* clip = test::add_node(m, "Clip", {"x"}, {"a"}, "clip");
  test::add_float(clip, "max", 6);
  auto* slice = test::add_node(m, "Slice", {"a"}, {"b"}, "slice");
  test::add_ints(slice, "starts", {1});
  test::add_ints(slice, "ends", {3});
  test::add_ints(slice, "axes", {3});
  auto* pad = test::add_node(m, "Pad", {"b"}, {"c"}, "pad");
  test::add_ints(pad, "pads", {0, 0, 1, 0, 0, 0, 0, 2});
  test::add_float(pad, "value", 3);
  auto* squeeze = test::add_node(m, "Squeeze", {"c"}, {"d"}, "squeeze");
  test::add_ints(squeeze, "axes", {0, 1});
  auto* softmax = test::add_node(m, "Softmax", {"d"}, {"e"}, "softmax");
  test::add_int(softmax, "axis", 0);
  auto* drop = test::add_node(m, "Dropout", {"e"}, {"f"}, "drop");
  test::add_float(drop, "ratio", 0.5F);
  test::add_floats(m, "scales", {2}, {2, 1});
  test::add_node(m, "Upsample", {"f", "scales"}, {"y"}, "up");
  const Graph graph = test::import(m);
  EXPECT_EQ(*graph.value(graph.outputs()[0]).shape, (Dims{10, 4}));
  const Node& c = graph.node(graph.find_node("clip"));
  ASSERT_EQ(c.inputs.size(), 3U);
  EXPECT_EQ(c.inputs[1], no_value);
  EXPECT_EQ(graph.constant_input(c, 2)->to_floats()[0], 6.0F);
  EXPECT_EQ(graph.constant_input(graph.node(graph.find_node("pad")), 2)->to_floats()[0], 3.0F);
  EXPECT_EQ(graph.node(graph.find_node("up")).op, "Resize");
  EXPECT_EQ(graph.node(graph.find_node("up")).text("coordinate_transformation_mode", ""), "asymmetric");
  EXPECT_EQ(graph.value(graph.node(graph.find_node("softmax")).inputs[0]).shape, (Dims{1, 20})) << "flattened at axis 0";
  for (NodeId id : graph.order()) EXPECT_GE(graph.node(id).since_version, 9) << graph.node(id).op;
  EXPECT_NO_THROW(export_onnx(graph));  // no definition left that opset 13 does not have
}

TEST(Gate, SoftmaxOnTheLastAxisStaysOneNode) {
  auto m = test::relu_model(11);
  m.mutable_graph()->mutable_node(0)->set_op_type("Softmax");
  const Graph g = test::import(m);
  EXPECT_EQ(g.order().size(), 1U);
  EXPECT_EQ(g.node(0).since_version, 13);
}

}  // namespace
}  // namespace quern
