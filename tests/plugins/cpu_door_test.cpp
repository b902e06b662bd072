// The cpu target as the host meets it: its rules, what it says where the instruction set is missing, and that its pure
// functions are pure.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <thread>

#include "core/rules/rules.hpp"
#include "tests/plugins/cpu_support.hpp"

namespace cpu_test {
namespace {

std::string rules_text() {
  quern_str text{};
  const auto& t = Plugin::get().target();
  EXPECT_EQ(t.describe(t.self, &text), nullptr);
  return std::string(text.data, text.size);
}

TEST(CpuDoor, RulesAreReadByTheHost) {
  const quern::Rules rules = quern::parse_rules(rules_text(), "cpu.so");
  EXPECT_EQ(rules.id, "org.quern.cpu");
  EXPECT_EQ(rules.profile, "vnni");
  EXPECT_EQ(rules.default_profiles, (std::vector<std::string>{"vnni", "avx512", "avx2", "sse41"}));
  ASSERT_EQ(rules.profiles.size(), 4u);
  EXPECT_EQ(rules.profiles[0].requires_cpu, std::vector<std::string>{"avx512_vnni"});
  // Profiles are a choice of kernels alone: everything else is one for all of them, but for what the fast kernels would like.
  for (const std::string& name : rules.default_profiles) {
    auto other = quern::parse_rules(rules_text(), "cpu.so", name).effective.as_object(), own = rules.effective.as_object();
    EXPECT_EQ(other.contains("limits"), name != "vnni") << name;
    for (const char* key : {"profiles", "default_profile", "limits"}) other.erase(key), own.erase(key);
    EXPECT_EQ(other, own) << name;
  }
  for (const char* name : {"dot", "dot_float", "add", "add_float", "average", "average_float", "max", "max_float", "move", "move_float", "concat"}) {
    ASSERT_EQ(rules.contracts.count(name), 1u) << name;
    EXPECT_TRUE(rules.contracts.at(name)->exact) << name;
  }
  EXPECT_EQ(rules.presets.count("mixed") + rules.presets.count("performance"), 2u);
  EXPECT_EQ(rules_text(), rules_text());
}

TEST(CpuDoor, UnknownProfilesAreNamed) {
  const auto& t = Plugin::get().target();
  int32_t yes = 1;
  std::string reason;
  EXPECT_NE(t.available(t.self, {"amx9", 4}, &yes, nullptr), nullptr);
}

Unit small_conv() {
  Unit u;
  u.contract = "dot";
  u.operands = {flowing("input", {1, 2, 3, 3}, u8(0.02f, 7))};
  u.operands[0].codes.assign(18, 9);
  Operand w;
  w.role = "weight";
  w.dtype = QUERN_DTYPE_S8;
  w.dims = {3, 2, 1, 1};
  w.quant = Quant{true, {0.01f, 0.02f, 0.03f}, 0, 0, true};
  w.codes = {1, 2, 3, 4, 5, 6};
  w.constant = true;
  u.operands.push_back(w);
  Operand b;
  b.role = "bias";
  b.dtype = QUERN_DTYPE_S32;
  b.dims = {3};
  b.quant = Quant{true, {1, 1, 1}, 0, 0, false};
  b.codes = {16777217, -3, 1 << 30};
  b.constant = true;
  u.operands.push_back(b);
  u.output.role = "output";
  u.output.dims = {1, 3, 3, 3};
  u.output.quant = u8(0.05f, 12);
  u.nodes = {{"Conv", {0, 1, 2}, {}, 11}, {"Relu", {-1}, {}, 14}};
  return u;
}

TEST(CpuDoor, DeriveGivesTheTablesOfTheContract) {
  std::map<std::string, Table> t;
  ASSERT_EQ(Plugin::get().derive(small_conv(), t), "");
  const auto product = [](float w) { return static_cast<float>(static_cast<double>(0.02f) * w / 0.05f); };
  EXPECT_EQ(t.at("multiplier").floats, (std::vector<float>{product(0.01f), product(0.02f), product(0.03f)}));
  EXPECT_EQ(t.at("bias_f32").floats, (std::vector<float>{16777216.f, -3.f, 1073741824.f}));  // 2^24 + 1 is a tie: even
  EXPECT_EQ(t.at("act_low").floats, std::vector<float>{0.f});
  EXPECT_EQ(t.at("output_zero_point").floats, std::vector<float>{12.f});
  EXPECT_EQ(t.count("residual_scale"), 0u);
  // Without a batch size, and from several threads at once: the same.
  Unit unknown = small_conv();
  unknown.operands[0].dims[0] = -1;
  unknown.output.dims[0] = -1;
  std::vector<std::thread> threads;
  std::vector<std::map<std::string, Table>> results(4);
  for (auto& r : results) threads.emplace_back([&] { Plugin::get().derive(unknown, r); });
  for (auto& thread : threads) thread.join();
  for (auto& r : results) {
    ASSERT_EQ(r.size(), t.size());
    for (const auto& [name, table] : t) EXPECT_EQ(r.at(name).floats, table.floats) << name;
  }
}

// Run again by the test below, with oneDNN held to an instruction set without VNNI.
TEST(CpuDoor, DISABLED_Masked) {
  std::string why;
  const std::string best = std::getenv("QUERN_BEST_PROFILE");
  const std::vector<std::string> order = {"vnni", "avx512", "avx2", "sse41"};
  bool there = false;
  std::map<std::string, Table> tables;
  EXPECT_EQ(Plugin::get().derive(small_conv(), tables), "");  // quantizing works all the same
  for (const std::string& profile : order) {
    there = there || profile == best;
    why.clear();
    EXPECT_EQ(Plugin::get().available(why, profile), there) << profile << ": " << why;
    const Result r = Plugin::get().run(small_conv(), {}, profile);
    if (there) {
      EXPECT_EQ(r.error, "");
      EXPECT_NE(r.kernel.find(profile), std::string::npos) << r.kernel;
    } else {
      EXPECT_NE(why.find(profile == "vnni" ? "VNNI" : profile == "avx512" ? "AVX-512" : "AVX2"), std::string::npos) << why;
      EXPECT_EQ(r.code, QUERN_FAILED_PRECONDITION) << r.error;
      EXPECT_NE(r.error, "");
    }
  }
}

std::string self() {
  char path[4096];
  const ssize_t n = readlink("/proc/self/exe", path, sizeof(path));
  return std::string(path, n > 0 ? static_cast<size_t>(n) : 0);
}

// The same program again, with oneDNN held to instruction sets without VNNI: the profiles above them say no and refuse to
// compile, those below run.
TEST(CpuDoor, ProfilesRespectTheMask) {
  for (const auto& [isa, best] : {std::pair{"SSE41", "sse41"}, {"AVX2", "avx2"}, {"AVX512_CORE", "avx512"}}) {
    REQUIRE_PROFILE(best);
    const std::string command = std::string("QUERN_BEST_PROFILE=") + best + " ONEDNN_MAX_CPU_ISA=" + isa + " '" + self() +
                                "' --gtest_also_run_disabled_tests --gtest_filter=CpuDoor.DISABLED_Masked 2>&1";
    FILE* pipe = popen(command.c_str(), "r");
    ASSERT_NE(pipe, nullptr);
    std::string output;
    char buffer[512];
    while (size_t n = fread(buffer, 1, sizeof(buffer), pipe)) output.append(buffer, n);
    EXPECT_EQ(pclose(pipe), 0) << isa << ":\n" << output;
    EXPECT_NE(output.find("[  PASSED  ] 1 test"), std::string::npos) << output;
  }
}

}  // namespace
}  // namespace cpu_test
