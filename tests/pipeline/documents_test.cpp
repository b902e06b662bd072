// What the pages and configs/ show must be legal: every YAML block that is a configuration goes through the schema.
#include <gtest/gtest.h>

#include <cstdlib>
#include <set>

#include "core/base/error.hpp"
#include "core/pipeline/config.hpp"

namespace quern {
namespace {

fs::path source_folder() {
  const char* folder = std::getenv("QUERN_SOURCE_DIR");
  return folder ? fs::path(folder) : fs::path();
}

// The ```yaml blocks of a page.
std::vector<std::string> yaml_blocks(const std::string& page) {
  static const std::string open = "```yaml\n", close = "```";
  std::vector<std::string> out;
  for (size_t at = page.find(open); at != std::string::npos; at = page.find(open, at)) {
    at += open.size();
    const size_t end = page.find(close, at);
    if (end == std::string::npos) break;
    out.push_back(page.substr(at, end - at));
    at = end + close.size();
  }
  return out;
}

void expect_legal(const std::string& text, const std::string& name) {
  try {
    load_config_text(text, name, "/data");
  } catch (const Error& e) {
    ADD_FAILURE() << e.what() << "\n" << text;
  }
}

TEST(Documents, EveryYamlBlockIsAConfiguration) {
  if (source_folder().empty()) GTEST_SKIP() << "QUERN_SOURCE_DIR is not set";
  size_t blocks = 0;
  for (const char* page : {"README.md", "docs/configuration.md", "docs/metrics.md", "docs/data.md"}) {
    for (const auto& block : yaml_blocks(read_text(source_folder() / page, size_t{1} << 20))) {
      expect_legal(block, page);
      ++blocks;
    }
  }
  EXPECT_GE(blocks, 7u);
}

TEST(Documents, ConfigsAreLegalAndTheTemplateSaysTheDefaults) {
  if (source_folder().empty()) GTEST_SKIP() << "QUERN_SOURCE_DIR is not set";
  size_t files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(source_folder() / "configs")) {
    if (entry.path().extension() != ".yaml") continue;
    expect_legal(read_text(entry.path(), size_t{1} << 20), entry.path().filename().string());
    ++files;
  }
  EXPECT_GE(files, 4u);

  // configs/default.yaml: its pipeline is what an empty configuration gets.
  const Config shown = load_config_text(read_text(source_folder() / "configs" / "default.yaml", size_t{1} << 20), "default.yaml", "/data");
  const Config plain = load_config_text("quern: 1\nmodel: model.onnx\n", "plain.yaml", "/data");
  ASSERT_EQ(shown.stages.size(), plain.stages.size());
  for (size_t i = 0; i < plain.stages.size(); ++i) EXPECT_EQ(shown.stages[i].name, plain.stages[i].name);
  EXPECT_EQ(shown.activation_range.estimator, plain.activation_range.estimator);
  EXPECT_EQ(shown.weight_range.estimator, plain.weight_range.estimator);
  EXPECT_EQ(shown.device, plain.device);
  EXPECT_EQ(shown.threads, plain.threads);
  EXPECT_EQ(shown.seed, plain.seed);
  EXPECT_EQ(shown.output, plain.output);
}

// Every key of the schema is on the page.
void keys_of(const json::value& schema, std::set<std::string>& out) {
  if (const auto* list = schema.if_array()) {
    for (const auto& e : *list) keys_of(e, out);
  } else if (const auto* o = schema.if_object()) {
    if (const auto* p = o->if_contains("properties"))
      for (const auto& e : p->as_object()) out.insert(std::string(e.key()));
    for (const auto& e : *o) keys_of(e.value(), out);
  }
}
TEST(Documents, ThePageNamesEveryKey) {
  if (source_folder().empty()) GTEST_SKIP() << "QUERN_SOURCE_DIR is not set";
  const std::string page = read_text(source_folder() / "docs" / "configuration.md", size_t{1} << 20);
  const std::string show_all = read_text(source_folder() / "configs" / "default.yaml", size_t{1} << 20);
  std::set<std::string> keys;
  keys_of(parse_json(config_schema(), "config.schema.json"), keys);
  EXPECT_GE(keys.size(), 25u);
  for (const auto& key : keys) {
    EXPECT_NE(page.find(key), std::string::npos) << key;
    EXPECT_NE(show_all.find(key), std::string::npos) << key;
  }
}

TEST(Documents, FaultsOfYamlAreSaidInPlainWords) {
  const auto failure = [](const std::string& text) -> std::string {
    try {
      load_config_text(text, "c.yaml", "/data");
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::config);
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(failure("quern: 1\nmodel: m\ntarget:\n\tdevice: cpu\n"), "c.yaml:4:1: not valid YAML: a tab in the indentation\n  indent with spaces");
  EXPECT_NE(failure("quern: 1\nmodel: m\npipeline: [quantize\n").find("a list opened with '['"), std::string::npos);
  EXPECT_NE(failure("quern: 1\nmodel: m\ntarget: cpu\n").find("write target: {device: cpu}"), std::string::npos);
  EXPECT_NE(failure("quern: 2\nmodel: m\n").find("this Quern reads version 1"), std::string::npos);
}

TEST(Documents, SetReachesIntoTheDefaultPipeline) {
  const Config c = load_config_text("quern: 1\nmodel: m\n", "c.yaml", "/data", {.set = {"pipeline.quantize.activations.range=min_max"}});
  EXPECT_EQ(c.stages.size(), 3u);
  EXPECT_EQ(c.activation_range.estimator, "min_max");
}

}  // namespace
}  // namespace quern
