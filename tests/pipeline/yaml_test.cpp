#include "core/pipeline/yaml.hpp"

#include <gtest/gtest.h>

#include <locale>

namespace quern {
namespace {

json::value parse(const std::string& text) { return parse_yaml(text, "t.yaml").value; }

// The error's text, or "" when there is none.
std::string failure(const std::string& text) {
  try {
    parse_yaml(text, "t.yaml");
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::config);
    return e.what();
  }
  return "";
}

TEST(Yaml, ScalarsByTheCoreSchema) {
  EXPECT_EQ(parse("{a: 1, b: -2, c: 0x1F, d: 1.5, e: 1e-4, f: 1.0e-4, g: true, h: ~, i: '1', j: \"x\"}"),
            (json::value{{"a", 1}, {"b", -2}, {"c", 31}, {"d", 1.5}, {"e", 1e-4}, {"f", 1e-4}, {"g", true}, {"h", nullptr}, {"i", "1"}, {"j", "x"}}));
}

TEST(Yaml, NoAndOffAreWords) {
  EXPECT_EQ(parse("[no, off, yes, on, n, y]"), (json::value{"no", "off", "yes", "on", "n", "y"}));
}

TEST(Yaml, NumbersDoNotDependOnTheLocale) {
  struct Comma : std::numpunct<char> {
    char do_decimal_point() const override { return ','; }
    char do_thousands_sep() const override { return '.'; }
    std::string do_grouping() const override { return "\3"; }
  };
  const std::locale before = std::locale::global(std::locale(std::locale::classic(), new Comma));
  const json::value v = parse("{a: 0.25, b: 12345678, c: '0,5', d: 1.0e-4}");
  const std::string text = to_yaml(v);
  std::locale::global(before);
  EXPECT_EQ(v, (json::value{{"a", 0.25}, {"b", 12345678}, {"c", "0,5"}, {"d", 1e-4}}));
  EXPECT_EQ(text, "a: 0.25\nb: 12345678\nc: \"0,5\"\nd: 1e-04\n");
}

TEST(Yaml, PositionsOfKeysAndValues) {
  const Document d = parse_yaml("quern: 1\ntarget:\n  device: cpu\n  preset: [a, b]\n", "t.yaml");
  EXPECT_EQ(d.keys.at("/target/device").line, 3);
  EXPECT_EQ(d.keys.at("/target/device").column, 3);
  EXPECT_EQ(d.values.at("/target/device").column, 11);
  EXPECT_EQ(d.values.at("/target/preset/1").column, 15);
  EXPECT_EQ(d.position("/target/absent/deeper").line, 3);  // the nearest above: the mapping
}

TEST(Yaml, DuplicateKeysAreErrors) {
  EXPECT_EQ(failure("a: 1\nb: 2\na: 3\n"), "t.yaml:3:1: the key 'a' stands twice in one mapping; first in line 1");
}

TEST(Yaml, SyntaxErrorsHaveAPlace) {
  EXPECT_NE(failure("a: [1, 2\nb: 3\n").find("t.yaml:2:"), std::string::npos);
  EXPECT_NE(failure("").find("is empty"), std::string::npos);
  EXPECT_NE(failure("a: 1\n---\nb: 2\n").find("second document"), std::string::npos);
  EXPECT_NE(failure("a: !python/object x\n").find("tag"), std::string::npos);
  EXPECT_NE(failure(std::string("a\0b", 3)).find("not a text file"), std::string::npos);
}

TEST(Yaml, AliasesExpand) {
  EXPECT_EQ(parse("a: &x {k: 1}\nb: *x\n"), (json::value{{"a", {{"k", 1}}}, {"b", {{"k", 1}}}}));
}

TEST(Yaml, AliasBombsAreRefusedQuickly) {
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 12; ++i) {
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int k = 0; k < 10; ++k) bomb += (k ? ", *a" : "*a") + std::to_string(i - 1);
    bomb += "]\n";
  }
  EXPECT_NE(failure(bomb).find("aliases expand to more than"), std::string::npos);
  EXPECT_NE(failure("a: &a [*a]\n").find("contains itself"), std::string::npos);
}

TEST(Yaml, DepthIsLimited) {
  EXPECT_NE(failure(std::string(200, '[') + std::string(200, ']')).find("nested deeper"), std::string::npos);
  EXPECT_NE(failure(std::string(5000, '[')), "");
}

TEST(Yaml, WritingReadsBackToTheSame) {
  const json::value v{{"quern", 1},
                      {"text", "no"},
                      {"empty", ""},
                      {"path", "../a b/c.onnx"},
                      {"dot", "."},
                      {"number text", "1e5"},
                      {"colon", "a: b # c"},
                      {"line", "a\nb\t\"q\" \\"},
                      {"unicode", "\xC3\xA4\xE2\x82\xAC"},
                      {"none", nullptr},
                      {"small", 1e-4},
                      {"whole", 2.0},
                      {"list", {1, 2.5, "x", true}},
                      {"nested", {{{"quantize", {{"activations", json::object{}}, {"pin", json::array{}}}}}, {{"b", {{"mode", "full"}}}}, "word"}},
                      {"deep", {json::array{json::array{1, 2}, json::array{}}}}};
  const std::string text = to_yaml(v);
  EXPECT_EQ(parse(text), v) << text;
  EXPECT_EQ(to_yaml(parse(text)), text);
}

}  // namespace
}  // namespace quern
