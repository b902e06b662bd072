#include "core/base/json.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <clocale>
#include <cmath>
#include <limits>
#include <random>

#include "core/base/error.hpp"

namespace quern {
namespace {

using ::testing::HasSubstr;

std::string error_of(const std::string& text, bool relaxed = false) {
  try { parse_json(text, "file.json", relaxed); } catch (const Error& e) { return e.what(); }
  return "no error";
}

TEST(Json, ErrorsHaveAPlace) {
  EXPECT_THAT(error_of("{\n  \"a\": 1,\n  \"b\" 2\n}"), HasSubstr("file.json:3:"));
  EXPECT_THAT(error_of("{\"a\": 1}\n x"), HasSubstr("file.json:2:2"));
  EXPECT_THAT(error_of(""), HasSubstr("file.json:1:1"));
  EXPECT_THAT(error_of("{\"a\": 1,\n\"a\": 2}"), HasSubstr("file.json:2:1: the key 'a' stands twice"));
  EXPECT_EQ(error_of("{\"a\": {\"b\": 1}, \"c\": {\"b\": 2}}"), "no error");
  EXPECT_EQ(error_of("{\"a\": \"\\\"a\\\": 1\", \"b\": [\"a\", \"a\"]}"), "no error");
}

TEST(Json, CommentsAndTrailingCommasOnlyWhenRelaxed) {
  const std::string pot = "{ // a\n \"a\": [1, 2,], /* \"a\": */ \"b\": 3, }\n";
  EXPECT_NE(error_of(pot), "no error");
  EXPECT_EQ(error_of(pot, true), "no error");
}

TEST(Json, DepthIsLimited) {
  EXPECT_EQ(error_of(std::string(60, '[') + std::string(60, ']')), "no error");
  EXPECT_NE(error_of(std::string(100000, '[')), "no error");
}

TEST(Json, MutationsNeverCrash) {
  const std::string text = R"({"a": [1, -2.5e3, true, null], "b": {"c": "x\u00e4\n"}})";
  std::mt19937 random(1);
  for (int i = 0; i < 20000; ++i) {
    std::string s = text;
    for (int k = 0; k < 1 + i % 4; ++k) s[random() % s.size()] = static_cast<char>(random());
    error_of(s, i % 2);
  }
}

TEST(Json, FloatsReadBackExactly) {
  std::mt19937 random(2);
  for (int i = 0; i < 20000; ++i) {
    const float f = std::ldexp(static_cast<float>(random()), static_cast<int>(random() % 200) - 140);
    const json::value back = parse_json(to_text(json::value(json_number(f)), false), "x");
    ASSERT_EQ(static_cast<float>(back.as_double()), f);
  }
  EXPECT_EQ(to_text(json::value(json_number(0.1f)), false), "0.1");
  EXPECT_EQ(to_text(json::value(2.0), false), "2.0");
}

TEST(Json, TextIsStable) {
  const json::value v = parse_json(R"({"z": 1, "a": [1, 2], "n": [], "o": {}, "l": [{"k": 1.5}]})", "x");
  EXPECT_EQ(to_text(v), "{\n  \"z\": 1,\n  \"a\": [1, 2],\n  \"n\": [],\n  \"o\": {},\n  \"l\": [\n    {\n      \"k\": 1.5\n    }\n  ]\n}\n");
  EXPECT_EQ(to_text(v, false), R"({"z":1,"a":[1,2],"n":[],"o":{},"l":[{"k":1.5}]})");
}

TEST(Json, TheLocaleHasNoSay) {
  const std::string before = std::setlocale(LC_ALL, nullptr);
  bool found = false;
  for (const char* name : {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "fr_FR.utf8", "de_DE", "nl_NL.UTF-8"})
    if (std::setlocale(LC_ALL, name)) { found = true; break; }
  const std::string text = to_text(json::value(1234.5), false);
  const double read = parse_json("1234.5", "x").as_double(), shortest = json_number(1.5f);
  std::setlocale(LC_ALL, before.c_str());
  EXPECT_EQ(text, "1234.5");
  EXPECT_EQ(read, 1234.5);
  EXPECT_EQ(shortest, 1.5);
  if (!found) GTEST_SKIP() << "no locale with a decimal comma is installed; checked in the C locale only";
}

TEST(Json, NearestWord) {
  EXPECT_EQ(did_you_mean("presett", {"model", "preset"}), " (did you mean 'preset'?)");
  EXPECT_EQ(did_you_mean("zzzzzz", {"model", "preset"}), "");
  EXPECT_EQ(list_of({"a", "b", "c"}), "a, b and c");
  EXPECT_EQ(list_of({"a"}), "a");
}

}  // namespace
}  // namespace quern
