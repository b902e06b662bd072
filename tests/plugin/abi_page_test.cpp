// docs/abi.md describes every function of the interface: each member of sdk/include/quern/abi.h that is a function pointer stands there.
#include <regex>
#include <set>

#include "core/base/files.hpp"
#include "tests/plugin/support.hpp"

namespace quern {
namespace {

TEST(AbiPage, NamesEveryFunction) {
  const char* source = std::getenv("QUERN_SOURCE_DIR");
  if (!source) GTEST_SKIP() << "QUERN_SOURCE_DIR is not set: run through ctest";
  const std::string header = read_text(fs::path(source) / "sdk/include/quern/abi.h");
  const std::string page = read_text(fs::path(source) / "docs/abi.md");
  std::set<std::string> functions{"quern_plugin_entry_v1"};
  const std::regex pointer(R"(\(\*(\w+)\)\()");
  for (std::sregex_iterator it(header.begin(), header.end(), pointer), end; it != end; ++it) functions.insert((*it)[1]);
  EXPECT_GT(functions.size(), 40u);
  for (const std::string& name : functions)
    EXPECT_TRUE(std::regex_search(page, std::regex("\\| `(quern_\\w+\\.)?" + name + "\\("))) << "docs/abi.md has no row for " << name << "()";
}

}  // namespace
}  // namespace quern
