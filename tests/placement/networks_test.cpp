// Placement of real networks under the rules of the cpu target: nothing but the final Softmax is left in float.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "core/graph/passes.hpp"
#include "core/onnx/onnx.hpp"
#include "core/placement/placement.hpp"

namespace quern {
namespace {

class Networks : public ::testing::TestWithParam<const char*> {};

TEST_P(Networks, OnlySoftmaxIsFloat) {
  const char* source = std::getenv("QUERN_SOURCE_DIR");
  if (!source) GTEST_SKIP() << "QUERN_SOURCE_DIR is not set";
  const fs::path model = fs::path(source) / "../shared/models" / GetParam(), rules_path = fs::path(source) / "plugins/cpu/rules.json";
  if (!fs::exists(model)) GTEST_SKIP() << "the models are not there";
  if (!fs::exists(rules_path)) GTEST_SKIP() << "the rules of the cpu target are not there";
  Graph g = import_onnx(model);
  canonicalize(g, [](const Graph&, const Node&) { return std::nullopt; });
  const Rules rules = parse_rules(read_text(rules_path), rules_path.string());
  const Placement p = place(g, rules);
  if (std::getenv("QUERN_PRINT_PLACEMENT")) std::puts(explain(g, rules, p).c_str());
  for (const auto& f : p.floats) EXPECT_EQ(g.node(f.node).op, "Softmax") << g.node(f.node).name << ": " << f.reason;
  EXPECT_GE(p.units.size(), 10u);
  // Inside of the network nothing requantizes and every activation has one quantizer.
  for (const auto& q : p.quantizers) EXPECT_EQ(q.consumer, no_node) << q.reason;
}

INSTANTIATE_TEST_SUITE_P(Models, Networks,
                         ::testing::Values("kws_dscnn/model.onnx", "vww_mobilenetv1/model.onnx", "mnv2_signs/model.onnx", "mnv2_signs/model_stretched.onnx"));

// Networks with attention, recurrence, resizing, control of shapes: every node is in a unit or has a reason.
class OtherNetworks : public ::testing::TestWithParam<const char*> {};

TEST_P(OtherNetworks, EveryNodeIsAccountedFor) {
  const char* source = std::getenv("QUERN_SOURCE_DIR");
  if (!source) GTEST_SKIP() << "QUERN_SOURCE_DIR is not set";
  const fs::path model = fs::path(source) / "../shared/models" / GetParam(), rules_path = fs::path(source) / "plugins/cpu/rules.json";
  if (!fs::exists(model) || !fs::exists(rules_path)) GTEST_SKIP() << "the models or the rules of the cpu target are not there";
  Graph g = import_onnx(model);
  canonicalize(g, [](const Graph&, const Node&) { return std::nullopt; });
  const Rules rules = parse_rules(read_text(rules_path), rules_path.string());
  const Placement p = place(g, rules);
  if (std::getenv("QUERN_PRINT_PLACEMENT")) std::puts(explain(g, rules, p).c_str());
  std::vector<int> seen(g.node_slots(), 0);
  for (const auto& u : p.units) for (const NodeId n : u.members) ++seen[static_cast<size_t>(n)];
  for (const auto& f : p.floats) { ++seen[static_cast<size_t>(f.node)]; EXPECT_NE(f.reason, "left in float") << g.node(f.node).name; }
  for (const NodeId n : g.order()) EXPECT_EQ(seen[static_cast<size_t>(n)], 1);
  for (const auto& u : p.units) EXPECT_NE(g.node(u.members[0]).op, "Softmax");
}

INSTANTIATE_TEST_SUITE_P(Models, OtherNetworks,
                         ::testing::Values("fastestdet_coco/model.onnx", "unet_nuclei/model.onnx", "tinyvit_mnist/model.onnx", "ae_mnist100/model.onnx",
                                           "gru_spoken_digits/model.onnx", "dtln_denoise/model_1.onnx", "dtln_denoise/model_2.onnx"));

}  // namespace
}  // namespace quern
