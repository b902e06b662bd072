// Finding, checking, listing and loading plugins.
#include <immintrin.h>

#include <clocale>

#include "tests/plugin/support.hpp"

namespace quern {
namespace {
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using namespace quern::testing;

PluginListing look_at(const fs::path& path) {
  PluginRegistry registry(only({path}));
  const auto list = registry.listing();
  EXPECT_EQ(list.size(), 1u);
  return list.empty() ? PluginListing{} : list[0];
}
std::string reason(const fs::path& path) {
  const PluginListing l = look_at(path);
  EXPECT_EQ(l.state, PluginState::rejected) << path;
  return l.reason;
}
// The reason why a plugin that passes every check without loading is refused when it is loaded.
std::string loading(const std::string& name, const std::string& target) {
  PluginRegistry registry(only({test_plugin(name)}));
  EXPECT_EQ(registry.listing()[0].state, PluginState::usable);
  const std::string text = error_of([&] { registry.target(target); });
  EXPECT_EQ(registry.listing()[0].state, PluginState::rejected);
  EXPECT_NE(registry.listing()[0].reason, "");
  // A second look at it remembers and does not load again.
  PluginRegistry again(only({test_plugin(name)}));
  EXPECT_EQ(error_of([&] { again.target(target); }), text);
  return text;
}

TEST(Registry, ListsAGoodPluginWithoutLoadingIt) {
  PluginRegistry registry(only({test_plugin("test_npu")}));
  const auto list = registry.listing();
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0].state, PluginState::usable);
  EXPECT_EQ(list[0].reason, "");
  EXPECT_EQ(list[0].id, "test.npu");
  EXPECT_EQ(list[0].kind, "target");
  EXPECT_EQ(list[0].version, "1.2.3");
  EXPECT_THAT(list[0].provides, ElementsAre("npu"));
  EXPECT_THAT(registry.target_names(), ElementsAre("npu"));
  const auto target = registry.target("npu");
  EXPECT_EQ(target->name(), "npu");
  EXPECT_EQ(target->id(), "test.npu");
  EXPECT_EQ(registry.target("npu"), target);
  EXPECT_EQ(registry.listing()[0].state, PluginState::loaded);
}

TEST(Registry, BadFilesAreListedWithTheReason) {
  const TempFolder folder;
  const std::string good = read_text(test_plugin("test_npu"));
  EXPECT_EQ(reason(folder.path() / "missing.so"), "does not exist");
  EXPECT_EQ(reason(folder.put("empty.so", "")), "is empty");
  EXPECT_THAT(reason(folder.put("text.so", "this is no plugin\n")), HasSubstr("not a shared object"));
  EXPECT_THAT(reason(folder.put("cut.so", good.substr(0, 3000))), HasSubstr("truncated"));
  EXPECT_THAT(reason(folder.put("header.so", good.substr(0, 50))), HasSubstr("truncated"));
  std::string other = good;
  for (size_t at; (at = other.find("quern_plugin_entry_v1")) != std::string::npos;) other[at + 20] = '9';
  EXPECT_THAT(reason(folder.put("symbol.so", other)), HasSubstr("does not export quern_plugin_entry_v1"));
  std::string no_section = good;
  const size_t name = no_section.rfind(".quern");
  ASSERT_NE(name, std::string::npos);
  no_section[name + 1] = 'Q';
  EXPECT_THAT(reason(folder.put("section.so", no_section)), HasSubstr("without a Quern manifest"));
  std::string damaged = good;
  damaged[damaged.find("\"id\": \"test.npu\", \"kind\"") + 9] = 'X';
  EXPECT_THAT(reason(folder.put("damaged.so", damaged)), HasSubstr("checksum"));
  EXPECT_THAT(reason(test_plugin("test_next_abi")), HasSubstr("interface 2.0; this Quern has 1."));
  fs::create_directories(folder.path() / "hidden.so");
  EXPECT_TRUE(PluginRegistry(only({folder.path() / "hidden.so"})).listing().empty());  // an empty folder
  fs::create_symlink(folder.path() / "nowhere", folder.path() / "dangling.so");
  EXPECT_EQ(reason(folder.path() / "dangling.so"), "does not exist");
}

TEST(Registry, FilesOthersCouldHaveChangedAreRefused) {
  const std::string good = read_text(test_plugin("test_npu"));
  const TempFolder folder;
  const fs::path file = folder.put("p.so", good);
  EXPECT_EQ(look_at(file).state, PluginState::usable);
  ::chmod(file.c_str(), 0775);
  EXPECT_THAT(reason(file), HasSubstr("may be written by its group"));
  ::chmod(file.c_str(), 0757);
  EXPECT_THAT(reason(file), HasSubstr("may be written by everybody"));
  ::chmod(file.c_str(), 0755);
  ::chmod(folder.path().c_str(), 0777);
  EXPECT_THAT(reason(file), HasSubstr("its folder"));
  ::chmod(folder.path().c_str(), 01777);  // sticky, like /tmp: others can't replace our file
  EXPECT_EQ(look_at(file).state, PluginState::usable);
  ::chmod(folder.path().c_str(), 0755);
  // Through a link: the folder of the file counts, too.
  const TempFolder links;
  fs::create_symlink(file, links.path() / "link.so");
  EXPECT_EQ(look_at(links.path() / "link.so").state, PluginState::usable);
  ::chmod(folder.path().c_str(), 0777);
  EXPECT_THAT(reason(links.path() / "link.so"), HasSubstr("its folder"));
  ::chmod(folder.path().c_str(), 0755);
  ASSERT_EQ(::mkfifo((folder.path() / "pipe.so").c_str(), 0600), 0);
  EXPECT_THAT(reason(folder.path() / "pipe.so"), HasSubstr("not a regular file"));
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a file away: the check of the owner was not run";
  ASSERT_EQ(::chown(file.c_str(), 12345, 0), 0);
  EXPECT_THAT(reason(file), HasSubstr("belongs to user 12345"));
}

TEST(Registry, BadPluginsAreRefusedWhenLoaded) {
  EXPECT_THAT(loading("test_old_table", "old"), HasSubstr("interface 7.0"));
  EXPECT_THAT(loading("test_short", "short_table"), HasSubstr("has 40 bytes"));
  EXPECT_THAT(loading("test_hole", "hole"), HasSubstr("lacks execute"));
  EXPECT_THAT(loading("test_refuses", "refuses"), HasSubstr("the driver is not installed"));
  EXPECT_THAT(loading("test_overflows", "overflows"), HasSubstr("writes beyond"));
  EXPECT_THAT(loading("test_escapes", "escapes"), HasSubstr("let an exception cross"));
  PluginRegistry liar(only({test_plugin("test_liar")}));
  EXPECT_THAT(error_of([&] { liar.estimator("lies"); }), HasSubstr("manifest says algorithm"));
}

TEST(Registry, APluginMustNotChangeTheProcess) {
  const unsigned mode = _mm_getcsr() & 0x8040;
  EXPECT_THAT(loading("test_mxcsr", "mxcsr"), HasSubstr("floating-point mode"));
  EXPECT_EQ(_mm_getcsr() & 0x8040, mode);
  const std::string before = std::setlocale(LC_ALL, nullptr);
  if (std::setlocale(LC_ALL, "C.UTF-8")) {
    std::setlocale(LC_ALL, before.c_str());
    EXPECT_THAT(loading("test_locale", "locale"), HasSubstr("locale"));
    EXPECT_EQ(before, std::setlocale(LC_ALL, nullptr));
  }
}

TEST(Registry, TheFirstIdWins) {
  PluginRegistry registry(only({test_plugin("test_npu"), test_plugin("test_npu_again"), test_plugin("test_npu_rival"), test_plugin("test_npu")}));
  const auto list = registry.listing();
  ASSERT_EQ(list.size(), 3u);  // the fourth is the first once more
  EXPECT_EQ(list[0].state, PluginState::usable);
  EXPECT_EQ(list[1].state, PluginState::shadowed);
  EXPECT_THAT(list[1].reason, HasSubstr("same id"));
  EXPECT_EQ(list[2].state, PluginState::shadowed);
  EXPECT_THAT(list[2].reason, HasSubstr("target 'npu' as well"));
  EXPECT_THAT(registry.target_names(), ElementsAre("npu"));
  EXPECT_EQ(registry.target("npu")->id(), "test.npu");
  // The other way round the rival wins.
  PluginRegistry other(only({test_plugin("test_npu_rival"), test_plugin("test_npu")}));
  EXPECT_EQ(other.target("npu")->id(), "test.rival");
}

TEST(Registry, FoldersAreSortedAndNotSearchedDeeper) {
  const TempFolder folder;
  folder.put("b.so", read_text(test_plugin("test_npu")));
  folder.put("a.so", read_text(test_plugin("test_throws")));
  folder.put("c.txt", "not looked at");
  fs::create_directories(folder.path() / "deeper");
  write_file(folder.path() / "deeper/d.so", "x");
  std::vector<std::string> names;
  for (const auto& l : PluginRegistry(only({folder.path()})).listing()) names.push_back(l.path.filename().string());
  EXPECT_THAT(names, ElementsAre("a.so", "b.so"));
}

TEST(Registry, EnvironmentAddsOrReplaces) {
  const fs::path npu = test_plugin("test_npu"), throws = test_plugin("test_throws");
  PluginOptions options{.plugins = {npu}, .environment = true, .standard_folders = false};
  auto ids = [&] {
    std::vector<std::string> out;
    for (const auto& l : PluginRegistry(options).listing()) out.push_back(l.id);
    return out;
  };
  EXPECT_THAT(ids(), ElementsAre("test.npu"));
  {
    const Environment path("QUERN_PLUGIN_PATH", "::" + throws.parent_path().string() + ":");
    EXPECT_THAT(ids(), ElementsAre("test.npu", "test.throws"));
    const Environment alone("QUERN_PLUGIN_ONLY", throws.string());
    EXPECT_THAT(ids(), ElementsAre("test.throws"));
    options.environment = false;
    EXPECT_THAT(ids(), ElementsAre("test.npu"));
    options.environment = true;
  }
  const TempFolder home;
  const Environment data("XDG_DATA_HOME", home.path().string());
  const fs::path folder = home.path() / "quern/plugins";
  fs::create_directories(folder);
  ::chmod(folder.c_str(), 0755);
  write_file(folder / "t.so", read_text(throws));
  options.standard_folders = true;
  const auto list = PluginRegistry(options).listing();
  ASSERT_GE(list.size(), 2u);
  EXPECT_EQ(list[0].id, "test.npu");
  EXPECT_EQ(list[1].id, "test.throws");
  // And what is installed beside the program: lib/quern/plugins.
  bool ranges = false;
  for (const auto& l : list) ranges = ranges || l.id == "org.quern.ranges";
  EXPECT_TRUE(ranges);
}

TEST(Registry, UnknownNamesSayWhatThereIs) {
  PluginRegistry registry(only({test_plugin("test_npu"), own_plugin("ranges"), test_plugin("test_next_abi")}));
  const std::string target = error_of([&] { registry.target("npuu"); });
  EXPECT_THAT(target, HasSubstr("there is no target 'npuu' (did you mean 'npu'?)"));
  EXPECT_THAT(target, HasSubstr("1 file was rejected"));
  EXPECT_THAT(error_of([&] { registry.estimator("minmax"); }), HasSubstr("did you mean 'min_max'?"));
  EXPECT_THAT(error_of([&] { registry.stage("x"); }), HasSubstr("no plugin with a stage was found"));
  std::vector<std::string> names;
  for (const auto& e : registry.estimators()) {
    names.push_back(e.name);
    EXPECT_TRUE(e.parameters_schema.is_object());
    EXPECT_EQ(e.plugin, "org.quern.ranges");
  }
  EXPECT_THAT(names, ElementsAre("admm", "histogram", "kl", "mae", "min_max", "moving_average", "mse", "octav", "percentile", "pot"));
  EXPECT_TRUE(registry.stages().empty());
}

}  // namespace
}  // namespace quern
