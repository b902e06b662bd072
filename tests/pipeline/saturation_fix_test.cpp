// weights.saturation_fix: which layers get coarser weights, and that those then fit.
#include <gtest/gtest.h>

#include "core/numeric/quantization.hpp"
#include "core/pipeline/pipeline.hpp"
#include "core/report/report.hpp"
#include "tests/pipeline/tiny.hpp"

namespace quern {
namespace {

using namespace testing_tiny;

class SaturationFixTest : public ::testing::Test {
 protected:
  void SetUp() override {
    SKIP_WITHOUT_BUILD();
    write_tiny(folder.path);
  }
  RunResult run(const std::string& target, const std::string& fix) {
    Config config = load_config(folder.path / "c.yaml", {.target = target, .set = {"pipeline.quantize.weights.saturation_fix=" + fix}});
    PluginRegistry registry(built_plugins());
    RunResult r = quantize(config, registry, {.threads = 2});
    OutputFolder out(folder.path / "out");
    write_output(config, r, out);
    return r;
  }
  // By node: the largest sum of two products of codes up to 255 with weights of one channel, and the scales.
  struct Layer { int64_t worst = 0; std::vector<float> scale; bool first = false, depthwise = false; };
  static std::map<std::string, Layer> layers(const RunResult& r) {
    std::map<std::string, Layer> out;
    for (const PlacedUnit& u : r.placement.units)
      for (const PlacedOperand& o : u.operands) {
        if (o.role != "weight" || o.quantizer < 0) continue;
        const QuantParams& p = r.placement.quantizers.at(static_cast<size_t>(o.quantizer)).params;
        const Tensor& w = *r.graph.value(o.value).constant;
        const auto codes = quantize(w, p).to_ints();
        const int64_t channels = w.dims().at(static_cast<size_t>(std::max(0, p.axis)));
        int64_t inner = 1;
        for (size_t a = static_cast<size_t>(std::max(0, p.axis)) + 1; a < w.dims().size(); ++a) inner *= w.dims()[a];
        Layer& layer = out[r.graph.node(u.members.front()).name];
        layer.scale = p.scale;
        layer.depthwise = r.graph.node(u.members.front()).integer("group", 1) > 1;
        for (const PlacedOperand& x : u.operands)
          if (x.role == "input") layer.first = r.graph.value(x.value).producer < 0;
        for (int64_t c = 0; c < channels; ++c) {
          std::vector<int64_t> own{0, 0};
          for (size_t i = 0; i < codes.size(); ++i)
            if (static_cast<int64_t>(i) / inner % channels == c) own.push_back(codes[i]);
          std::sort(own.begin(), own.end());
          layer.worst = std::max({layer.worst, 255 * (own[own.size() - 1] + own[own.size() - 2]), -255 * (own[0] + own[1]) - 1});
        }
      }
    return out;
  }
  Folder folder;
};

TEST_F(SaturationFixTest, OnlyWhatCouldSaturateGetsCoarserAndThenFits) {
  const auto plain = layers(run("cpu:avx2", "no")), all = layers(run("cpu:avx2", "all")), first = layers(run("cpu:avx2", "first_layer"));
  ASSERT_EQ(plain.size(), all.size());
  size_t changed = 0, firsts = 0, depthwise = 0;
  for (const auto& [name, before] : plain) {
    const Layer &after = all.at(name), &one = first.at(name);
    if (before.depthwise) {  // no neighbours: one channel's products are taps of its own
      EXPECT_EQ(after.scale, before.scale) << name;
      ++depthwise;
      continue;
    }
    EXPECT_LE(after.worst, 32767) << name;
    for (size_t c = 0; c < before.scale.size(); ++c) {
      EXPECT_GE(after.scale[c], before.scale[c]) << name;
      EXPECT_LE(after.scale[c], before.scale[c] * 2.02f) << name;
    }
    if (before.worst <= 32767) { EXPECT_EQ(after.scale, before.scale) << name; }
    else ++changed;
    firsts += before.first;
    EXPECT_EQ(one.scale, before.first ? after.scale : before.scale) << name;
  }
  EXPECT_EQ(depthwise, 1u);
  EXPECT_GT(changed, 1u);
  EXPECT_GT(firsts, 0u);
  EXPECT_LT(firsts, plain.size());
}

TEST_F(SaturationFixTest, TheReportSaysSoAndTheIntegersStayExact) {
  const RunResult r = run("cpu:avx2", "all");
  const auto notes = std::count_if(r.integer.notes.begin(), r.integer.notes.end(), [](const auto& n) { return n.text.find("no two products") != std::string::npos; });
  EXPECT_GT(notes, 1);
  PluginRegistry registry(built_plugins());
  std::string reason;
  if (!registry.target("cpu")->available("avx2", &reason)) GTEST_SKIP() << "this machine can't run the profile: " << reason;
  const Verification v = verify(folder.path / "out", registry, {.threads = 2});
  EXPECT_EQ(v.mismatches, 0);
  EXPECT_GT(v.elements, 0);
}

TEST_F(SaturationFixTest, WithoutALimitInTheRulesNothingChanges) {
  EXPECT_EQ(layers(run("cpu:vnni", "all")).begin()->second.scale, layers(run("cpu:vnni", "no")).begin()->second.scale);
  EXPECT_TRUE(run("cpu:vnni", "all").integer.notes.empty());
}

}  // namespace
}  // namespace quern
