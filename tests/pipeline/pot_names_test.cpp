#include "core/pipeline/pot_names.hpp"

#include <gtest/gtest.h>

#include "core/pipeline/pipeline.hpp"
#include "tests/pipeline/tiny.hpp"

namespace quern {
namespace {

TEST(PotNames, AnyCaseAndARealTargetGoesFirst) {
  const std::vector<std::string> targets{"cpu", "gna_sim"};
  EXPECT_EQ(target_of_pot_name("ANY", targets), "cpu");
  EXPECT_EQ(target_of_pot_name("Cpu", targets), "cpu");
  EXPECT_EQ(target_of_pot_name("cpu_spr", targets), "cpu:vnni");
  EXPECT_EQ(target_of_pot_name("GPU", targets), "gpu_opencl");
  EXPECT_EQ(target_of_pot_name("VPU", targets), "vpu_sim");
  EXPECT_EQ(target_of_pot_name("GNA", targets), "gna_sim");
  EXPECT_EQ(target_of_pot_name("gna3.5", targets), "gna_sim:gna3");
  EXPECT_EQ(target_of_pot_name("GPU", {"GPU", "gpu_opencl"}), "GPU");
  EXPECT_EQ(target_of_pot_name("gpu", {"GPU", "gpu_opencl"}), "gpu_opencl");
  for (const char* other : {"", "npu2", "x-what", "X-WHAT", "org.example", "CPU:avx2"}) EXPECT_EQ(target_of_pot_name(other, targets), other);
}

TEST(PotNames, TheEffectiveConfigurationHasTheTargetsName) {
  SKIP_WITHOUT_BUILD();
  PluginRegistry registry(testing_tiny::built_plugins());
  for (const auto& [written, profile] : {std::pair{"ANY", ""}, {"cpu_spr", "vnni"}, {"CPU_SPR:sse41", "sse41"}, {"Cpu:avx2", "avx2"}}) {
    Config c = load_config_text("quern: 1\nmodel: m.onnx\n", "c.yaml", "/data", {.target = written});
    complete_config(c, registry);
    EXPECT_EQ(c.device, "cpu") << written;
    EXPECT_EQ(std::string(c.effective.at("target").at("device").as_string()), "cpu") << written;
    if (*profile) { EXPECT_EQ(c.profile, profile) << written; }
    EXPECT_EQ(std::string(c.effective.at("target").at("profile").as_string()), c.profile);
  }
  Config c = load_config_text("quern: 1\nmodel: m.onnx\ntarget: {device: [ANY]}\n", "c.yaml", "/data");
  complete_config(c, registry);
  EXPECT_EQ(c.device, "cpu");
}

}  // namespace
}  // namespace quern
