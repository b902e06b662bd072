// Adaptive rounding through the whole job: four-bit weights, better than without, and the same for any number of threads.
#include <gtest/gtest.h>

#include "core/pipeline/pipeline.hpp"
#include "tests/pipeline/tiny.hpp"

namespace quern {
namespace {
using namespace testing_tiny;

RunResult run(const fs::path& folder, const char* pipeline, int threads = 1) {
  Config config = load_config(folder / "c.yaml", {.target = "vpu_sim", .set = {std::string("pipeline=") + pipeline}});
  PluginRegistry registry(built_plugins());
  return quantize(config, registry, {.threads = threads});
}
std::vector<std::vector<float>> weights(const RunResult& r) {
  std::vector<std::vector<float>> out;
  for (const char* name : {"w1", "w2", "w3", "b1", "b3"}) {
    const ValueId v = r.graph.find_value(name);
    if (v != no_value && r.graph.value(v).constant) out.push_back(r.graph.value(v).constant->to_floats());
  }
  return out;
}

TEST(AdaRoundStage, LowersTheErrorOfFourBitWeights) {
  SKIP_WITHOUT_BUILD();
  Folder f;
  write_tiny(f.path, 40, 16);
  const RunResult plain = run(f.path, "[quantize: {weights: {bits: 4}}]");
  const RunResult bias = run(f.path, "[quantize: {weights: {bits: 4}}, bias_correction]");
  const RunResult rounded = run(f.path, "[quantize: {weights: {bits: 4}}, adaround]");
  EXPECT_GT(rounded.sqnr.at(0).db, plain.sqnr.at(0).db + 1);
  EXPECT_GT(rounded.sqnr.at(0).db, bias.sqnr.at(0).db);
  size_t lines = 0;
  for (const auto& line : rounded.stage_lines) {
    EXPECT_EQ(line.stage, "adaround");
    if (line.action != "rounded") continue;
    ++lines;
    EXPECT_LT(line.after, line.before) << line.node;
  }
  EXPECT_GT(lines, 0u);
  ASSERT_FALSE(weights(rounded).empty());
  EXPECT_EQ(weights(rounded), weights(run(f.path, "[quantize: {weights: {bits: 4}}, adaround]", 2)));
}

}  // namespace
}  // namespace quern
