// `levels`: ranges spread over fewer codes than the target's type has.
#include <gmock/gmock.h>

#include "core/pipeline/pipeline.hpp"
#include "core/report/report.hpp"
#include "tests/pipeline/tiny.hpp"

namespace quern {
namespace {
using namespace testing_tiny;
using ::testing::HasSubstr;

struct LevelsTest : ::testing::TestWithParam<const char*> {
  Folder f;
  PluginRegistry registry{built_plugins()};
  void SetUp() override {
    SKIP_WITHOUT_BUILD();
    write_tiny(f.path);
  }
  Config config(std::vector<std::string> set) { return load_config(f.path / "c.yaml", {.target = GetParam(), .set = std::move(set)}); }
};
INSTANTIATE_TEST_SUITE_P(Targets, LevelsTest, ::testing::Values("cpu", "vpu_sim"));

TEST_P(LevelsTest, WeightsAreHeldToThem) {
  Config c = config({"pipeline.quantize.weights.levels={low: -31, high: 31}"});
  const RunResult r = quantize(c, registry, {});
  size_t weights = 0;
  for (const Quantizer& q : r.placement.quantizers) {
    if (q.kind != QuantizerKind::weight) continue;
    ++weights;
    EXPECT_EQ(q.params.format.qmin, -31);
    EXPECT_EQ(q.params.format.qmax, 31);
  }
  EXPECT_GE(weights, 3u);
  EXPECT_GT(r.sqnr.at(0).db, 15);
  OutputFolder folder(f.path / "out");
  write_output(c, r, folder);
  const Verification v = verify(f.path / "out", registry, {});
  EXPECT_EQ(v.mismatches, 0);
  EXPECT_GT(v.elements, 0);
  EXPECT_THAT(read_text(f.path / "out" / "effective.yaml"), HasSubstr("levels"));
}

TEST_P(LevelsTest, ActivationsAreSpreadOverThem) {
  Config whole = config({"pipeline.quantize.activations.range=min_max"});
  Config part = config({"pipeline.quantize.activations={range: min_max, levels: {low: 0, high: 127}}"});
  const RunResult a = quantize(whole, registry, {.evaluate = false}), b = quantize(part, registry, {.evaluate = false});
  size_t compared = 0;
  for (const Quantizer& q : a.placement.quantizers) {
    const Quantizer& p = b.placement.quantizers.at(static_cast<size_t>(q.id));
    if (q.kind != QuantizerKind::activation || q.params.format.is_signed || p.params.format.is_signed) continue;
    ++compared;
    EXPECT_EQ(p.params.format.qmax, q.params.format.qmax);
    EXPECT_NEAR(p.params.scale.at(0) / q.params.scale.at(0), 255.0 / 127, 0.06);
  }
  EXPECT_GE(compared, 1u);
}

TEST_P(LevelsTest, WhatTheTypeLacksIsNamed) {
  const auto text = [&](const std::string& levels) {
    try {
      Config c = config({levels});
      quantize(c, registry, {});
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  EXPECT_THAT(text("pipeline.quantize.weights.levels={low: -2000, high: 2000}"), AllOf(HasSubstr("-2000 to 2000"), HasSubstr("w1"), HasSubstr("127")));
  EXPECT_THAT(text("pipeline.quantize.weights.levels={low: 3, high: 31}"), HasSubstr("levels"));
  EXPECT_THAT(text("pipeline.quantize.weights.levels={low: -3}"), HasSubstr("high"));
}

}  // namespace
}  // namespace quern
