// A plugin in a process of its own, and one that goes wild there: the host gets PluginLost with the reason, and everything else
// goes on with the right bytes.
#include <gtest/gtest.h>

#include <chrono>
#include <random>
#include <thread>

#include "core/plugin/remote/codec.hpp"
#include "core/plugin/remote/probe.hpp"
#include "tests/plugin/support.hpp"

namespace quern {
namespace {
using ::testing::HasSubstr;
using namespace quern::testing;

IntegerUnit relu(const std::string& name) {
  IntegerUnit unit;
  unit.name = name;
  QuantParams p;
  p.format = make_format(8, false, false);
  p.zero_point = {0};
  p.scale = {0.5f};
  unit.operands.push_back({.role = "input", .value = "x", .dtype = DType::u8, .dims = {-1, 4, 8, 8}, .params = p, .constant = nullptr});
  unit.members.push_back({.name = "node", .domain = "", .op = "Relu", .since_version = 14, .attributes = {}, .inputs = {0}});
  p.scale = {0.25f};
  unit.output = {.role = "output", .value = "y", .dtype = DType::u8, .dims = {-1, 4, 8, 8}, .params = p, .constant = nullptr};
  return unit;
}

class Isolated : public ::testing::Test {
 protected:
  std::shared_ptr<const Target> wild(const std::string& fault, double deadline = 60) {
    fault_.emplace("QUERN_TEST_FAULT", fault);
    PluginOptions options = only({test_plugin("test_wild")});
    options.isolated = true;
    options.deadline_seconds = deadline;
    return PluginRegistry(options).target("wild");
  }
  // Compiles and runs the unit; the result has to be that of the inner plugin.
  void run(const Target& target, const std::string& name) {
    IntegerUnit unit = relu(name);
    unit.tables = target.derive("", unit);
    const Dims dims{2, 4, 8, 8}, strides = row_major_strides(dims);
    const auto kernel = target.compile("", unit, {dims}, dims, 1);
    const auto context = kernel->make_context();
    Tensor in(DType::u8, dims), out(DType::u8, dims);
    for (size_t i = 0; i < 512; ++i) in.mutable_values<uint8_t>()[i] = static_cast<uint8_t>(i);
    for (int again = 0; again < 2; ++again) {
      const TensorView from{in.mutable_bytes(), DType::u8, dims, strides}, to{out.mutable_bytes(), DType::u8, dims, strides};
      kernel->execute(*context, std::span(&from, 1), std::span(&to, 1), nullptr);
      for (size_t i = 0; i < 512; ++i) ASSERT_EQ(out.values<uint8_t>()[i], std::min<int>(255, static_cast<uint8_t>(i) * 2)) << i;
    }
  }
  Environment inner_{"QUERN_TEST_INNER", test_plugin("test_npu").string()};
  std::optional<Environment> fault_;
};

TEST_F(Isolated, ComputesTheSame) {
  const auto target = wild("none:none");
  EXPECT_TRUE(target->isolated());
  EXPECT_EQ(target->rules("").profile, "v1");
  std::string why;
  EXPECT_FALSE(target->available("v2", &why));
  EXPECT_EQ(why, "no silicon of v2");
  IntegerUnit two = relu("two");
  two.members.push_back(two.members[0]);
  EXPECT_FALSE(target->supports("", two, &why));
  EXPECT_EQ(why, "one member only");
  double cycles = 0, bytes = 0;
  EXPECT_FALSE(target->cost("", relu("x"), &cycles, &bytes));
  run(*target, "good");
  EXPECT_TRUE(target->incidents().empty());
  EXPECT_THAT(error_of([&] { target->derive("", relu("unwilling")); }), HasSubstr("this scale can't be had"));
}

struct Fault { const char *fault, *says; };
class IsolatedFault : public Isolated, public ::testing::WithParamInterface<Fault> {};

TEST_P(IsolatedFault, InExecuteCostsThisUnitOnly) {
  const auto target = wild(std::string("execute:") + GetParam().fault + ":bad", 0.5);
  run(*target, "good");
  EXPECT_THAT(error_of([&] { run(*target, "bad"); }), HasSubstr(GetParam().says));
  ASSERT_EQ(target->incidents().size(), 1u);
  EXPECT_THAT(target->incidents()[0], HasSubstr("bad"));
  run(*target, "good");
}
INSTANTIATE_TEST_SUITE_P(All, IsolatedFault,
                         ::testing::Values(Fault{"crash", "SIGSEGV"}, Fault{"exit", "code 3"}, Fault{"abort", "SIGABRT"}, Fault{"throw", "exception"},
                                           Fault{"hang", "did not answer within 0.5 s"}, Fault{"status", "the device has gone"},
                                           Fault{"behind", "outside of its buffers"}, Fault{"before", "outside of its buffers"},
                                           Fault{"far_behind", "SIGSEGV"}, Fault{"far_before", "SIGSEGV"}, Fault{"input", "SIGSEGV"}),
                         [](const auto& info) { return std::string(info.param.fault); });

TEST_F(Isolated, DeathInEveryOtherCall) {
  EXPECT_THAT(error_of([&] { wild("describe:crash")->rules(""); }), HasSubstr("SIGSEGV"));
  EXPECT_THAT(error_of([&] { wild("entry:exit")->rules(""); }), HasSubstr("ended the process with code 3 while it was loaded"));
  std::string why;
  EXPECT_FALSE(wild("available:crash")->available("v1", &why));
  EXPECT_THAT(why, HasSubstr("SIGSEGV"));
  EXPECT_FALSE(wild("supports:exit")->supports("v1", relu("x"), &why));
  EXPECT_THAT(why, HasSubstr("code 3"));
  const auto target = wild("derive:crash:bad");
  EXPECT_THROW(target->derive("v1", relu("bad")), PluginLost);
  run(*target, "good");
  EXPECT_THROW(run(*wild("compile:hang:bad", 0.3), "bad"), PluginLost);
}

TEST_F(Isolated, ThreadsAtOnce) {
  const auto target = wild("execute:crash:bad");
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) threads.emplace_back([&] { run(*target, "good"); });
  for (auto& t : threads) t.join();
}

TEST(IsolatedCodec, UnitsComeBackWhole) {
  IntegerUnit unit = relu("unit");
  unit.members[0].attributes = {{"i", int64_t{-3}}, {"f", 0.5f}, {"s", std::string("text")}, {"is", std::vector<int64_t>{1, -2}},
                                {"fs", std::vector<float>{1.5f}}, {"t", Tensor::of<int8_t>({2}, std::vector<int8_t>{1, -1})}};
  unit.operands.push_back({.role = "weight", .value = "w", .dtype = DType::s8, .dims = {2, 1}, .params = unit.operands[0].params,
                           .constant = std::make_shared<const Tensor>(Tensor::of<int8_t>({2, 1}, std::vector<int8_t>{3, -4}))});
  unit.tables.emplace("a", Tensor::of<float>({2}, std::vector<float>{1, 2}));
  const std::string bytes = remote::Writer().unit(unit).bytes();
  const IntegerUnit back = remote::Reader(bytes).unit();
  EXPECT_EQ(remote::Writer().unit(back).bytes(), bytes);
  EXPECT_EQ(back.operands[1].constant->values<int8_t>()[1], -4);
  // Any shortened or altered message is an Error, or another unit, never a crash.
  for (size_t n = 0; n < bytes.size(); ++n) EXPECT_ANY_THROW(remote::Reader(std::string_view(bytes).substr(0, n)).unit()) << n;
  std::mt19937 random(1);
  for (int i = 0; i < 2000; ++i) {
    std::string bad = bytes;
    bad[random() % bad.size()] = static_cast<char>(random());
    try {
      remote::Reader(bad).unit();
    } catch (const Error&) {
    }
  }
}

class Quarantine : public ::testing::Test {
 protected:
  TempFolder cache_;
  Environment home_{"XDG_CACHE_HOME", cache_.path().string()};
  Environment inner_{"QUERN_TEST_INNER", test_plugin("test_npu").string()};
};

TEST_F(Quarantine, APluginThatCrashesAtLoadIsKeptAwayUntilItChanges) {
  TempFolder folder;
  const fs::path plugin = folder.put("wild.so", read_text(test_plugin("test_wild")));
  {
    const Environment fault("QUERN_TEST_FAULT", "entry:crash");
    EXPECT_THAT(error_of([&] { PluginRegistry(only({plugin})).target("wild"); }), HasSubstr("it crashed (SIGSEGV) while it was loaded"));
  }
  // The fault is gone, the file is the same.
  PluginRegistry registry(only({plugin}));
  ASSERT_EQ(registry.listing().size(), 1u);
  EXPECT_EQ(registry.listing()[0].state, PluginState::rejected);
  EXPECT_THAT(registry.listing()[0].reason, HasSubstr("in quarantine"));
  EXPECT_THAT(registry.listing()[0].reason, HasSubstr("SIGSEGV"));
  // A new file is tried again.
  fs::remove(plugin);
  folder.put("wild.so", read_text(test_plugin("test_wild")) + "\n");
  EXPECT_EQ(PluginRegistry(only({plugin})).target("wild")->rules("").profile, "v1");
  write_file(remote::quarantine_file(), "{ damaged");
  EXPECT_EQ(remote::quarantined(plugin), "");
}

// Copies of a good plugin with a damaged byte or a cut end: each is refused by the checks, by the trial, or loads; the host lives.
TEST_F(Quarantine, MutatedCopies) {
  TempFolder folder;
  const std::string good = read_text(test_plugin("test_npu"));
  std::mt19937 random(7);
  const int count = std::getenv("QUERN_SANITIZED") ? 60 : 1500;
  int refused = 0, crashed = 0, loaded = 0;
  for (int i = 0; i < count; ++i) {
    std::string bytes = good;
    const int kind = i % 3;
    if (kind == 0) bytes.resize(random() % bytes.size());
    else
      for (int n = kind == 1 ? 1 : 16; n > 0; --n) bytes[random() % (n % 2 ? 4096u : bytes.size())] = static_cast<char>(random());
    const fs::path plugin = folder.put("copy.so", bytes);
    PluginRegistry registry(only({plugin}));
    if (registry.listing()[0].state == PluginState::rejected) { ++refused; continue; }
    const std::string failure = remote::probe(plugin);
    ++(failure.empty() ? loaded : crashed);
  }
  EXPECT_GT(refused, count / 4);
  EXPECT_GT(loaded, 0);
  std::printf("of %d copies %d refused by the checks, %d crash when loaded, %d load or are refused in words\n", count, refused, crashed, loaded);
}

}  // namespace
}  // namespace quern
