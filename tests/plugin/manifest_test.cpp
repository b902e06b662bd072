#include "core/plugin/manifest.hpp"

#include "core/rules/schema.hpp"
#include "tests/plugin/support.hpp"

namespace quern {
namespace {
using ::testing::HasSubstr;
using namespace quern::testing;

const char* good = R"({
  "quern_manifest": 1, "id": "org.example.npu", "kind": "target", "name": "Example", "version": "1.2.3", "vendor": "E",
  "license": "Apache-2.0", "abi": {"major": 1, "minor": 0}, "arch": "x86_64", "provides": {"targets": ["npu"]},
  "x-note": {"anything": [1, 2]} })";

json::value changed(const std::string& pointer, json::value value) {
  json::value v = parse_json(good, "good");
  boost::system::error_code error;
  const size_t slash = pointer.rfind('/');
  json::value* parent = v.find_pointer(std::string_view(pointer).substr(0, slash), error);
  parent->as_object()[pointer.substr(slash + 1)] = std::move(value);
  return v;
}
std::string problem_of(const json::value& v) { return error_of([&] { parse_manifest(to_text(v), "m.json"); }); }

TEST(Manifest, GoodOneIsRead) {
  const Manifest m = parse_manifest(good, "m.json");
  EXPECT_EQ(m.id, "org.example.npu");
  EXPECT_EQ(m.kind, "target");
  EXPECT_EQ(m.abi_major, 1);
  EXPECT_EQ(m.license, "Apache-2.0");
}

// The published schema and the reader must agree, verdict by verdict.
TEST(Manifest, SchemaAndReaderAgree) {
  const std::string schema = read_text(source_folder() / "sdk/schemas/manifest.schema.json");
  struct Case { json::value value; const char* says; };
  json::value without_license = parse_json(good, "good");
  without_license.as_object().erase("license");
  const Case cases[] = {
      {parse_json(good, "good"), "no error"},
      {changed("/version", "2.0.0-rc1"), "no error"},
      {changed("/quern_manifest", 2), "format 2"},
      {changed("/id", "npu"), "org.example.npu"},
      {changed("/id", "org..npu"), "org.example.npu"},
      {changed("/id", "org.npu "), "org.example.npu"},
      {changed("/id", 3), "no text at 'id'"},
      {changed("/kind", "metric"), "kind 'metric'"},
      {changed("/name", ""), "'name'"},
      {changed("/version", "1.2"), "1.2.3"},
      {changed("/version", "1.2.3_4"), "1.2.3"},
      {changed("/abi", json::object{{"major", 1}}), "lacks 'abi.minor'"},
      {changed("/abi/major", 0), "abi.major"},
      {changed("/abi/patch", 0), "unknown key 'abi.patch'"},
      {changed("/licence", "MIT"), "did you mean 'license'"},
      {changed("/provides", json::object{}), "provides"},
      {changed("/provides/targets", json::array{}), "provides.targets"},
      {changed("/provides/targets", json::array{"a", "a"}), "twice"},
      {changed("/provides/targets", json::array{"NPU"}), "lower-case"},
      {changed("/provides/targets", json::array{"a", "b"}), "exactly one target"},
      {changed("/provides/metric", json::array{"a"}), "unknown key 'provides.metric' (did you mean 'metrics'?)"},
      {without_license, "lacks 'license'"},
      {json::value(json::array{}), "no object"},
  };
  for (const Case& c : cases) {
    const std::string mine = problem_of(c.value);
    EXPECT_THAT(mine, HasSubstr(c.says)) << to_text(c.value);
    EXPECT_EQ(mine == "no error", !find_problem(c.value, schema)) << to_text(c.value);
  }
  // What a schema can't say plainly: what belongs to which kind.
  EXPECT_THAT(problem_of(changed("/kind", "algorithm")), HasSubstr("estimators, stages, readers or metrics"));
  EXPECT_THAT(problem_of(changed("/arch", "aarch64")), HasSubstr("for aarch64"));
  EXPECT_THAT(error_of([] { parse_manifest("{\"id\": 1,\n \"id\": 2}", "m"); }), HasSubstr("line 2"));
  EXPECT_THAT(error_of([] { parse_manifest(std::string(100000, '['), "m"); }), HasSubstr("can't be read"));
}

}  // namespace
}  // namespace quern
