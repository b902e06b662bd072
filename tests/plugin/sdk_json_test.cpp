// The JSON reader that plugins get. (Included here as a plugin includes it.)
#include "quern/json.hpp"

#include "core/plugin/host.hpp"
#include "tests/plugin/support.hpp"

namespace quern {
namespace {
using quern_sdk::Json;
using ::testing::HasSubstr;

std::string failure(std::string_view text) {
  try {
    Json::parse(text);
  } catch (const quern_sdk::Failure& e) {
    return e.what();
  }
  return "no failure";
}

TEST(SdkJson, ReadsWhatParametersAre) {
  const Json j = Json::parse(R"( {"a": -1.5e2, "b": {"c": [1, true, null, "x"]}, "t": "q\"\\\/\u00e4\ud83d\ude00\n", "n": 12, "on": true} )");
  EXPECT_EQ(j.number("a", 0), -150);
  EXPECT_EQ(j.integer("n", 0), 12);
  EXPECT_TRUE(j.flag("on", false));
  EXPECT_EQ(j["b"]["c"].items().size(), 4u);
  EXPECT_EQ(j["missing"]["deeper"].text("x", "fallback"), "fallback");
  EXPECT_EQ(j.text("t", ""), "q\"\\/\xC3\xA4\xF0\x9F\x98\x80\n");
  EXPECT_TRUE(Json::parse("").is_object());
  EXPECT_EQ(Json::parse(R"({"p": 1e-4})").number("p", 0), 1e-4);
}

TEST(SdkJson, DefectsHaveAPosition) {
  EXPECT_THAT(failure("{"), HasSubstr("character 2"));
  EXPECT_THAT(failure("{} x"), HasSubstr("something follows"));
  EXPECT_THAT(failure(R"({"a": 1, "a": 2})"), HasSubstr("twice"));
  EXPECT_THAT(failure(R"({"a": 1,})"), HasSubstr("key is expected"));
  EXPECT_THAT(failure("[1,]"), HasSubstr("value is expected"));
  EXPECT_THAT(failure(R"({"a": 01})"), HasSubstr("expected"));
  EXPECT_THAT(failure(R"({"a": 0,5})"), HasSubstr("expected"));
  EXPECT_THAT(failure(R"({"a": 1.})"), HasSubstr("digit"));
  EXPECT_THAT(failure(R"({"a": 1e999})"), HasSubstr("does not fit"));
  EXPECT_THAT(failure("{\"a\": \"x"), HasSubstr("without end"));
  EXPECT_THAT(failure(R"({"a": "\ud800"})"), HasSubstr("surrogate"));
  EXPECT_THAT(failure(R"({"a": "\x"})"), HasSubstr("escape"));
  EXPECT_THAT(failure(std::string(1000, '[')), HasSubstr("too deeply"));
  EXPECT_THAT(failure("nul"), HasSubstr("value is expected"));
}

// The reader against the host's: the same verdict on damaged texts.
TEST(SdkJson, AgreesWithTheHostOnDamagedTexts) {
  const std::string good = R"({"preset": "quantile", "max": {"type": "abs_max", "p": 1.25e-3, "on": [true, false, null]}, "k": "\u00e4"})";
  const char alphabet[] = "{}[]\",:\\0123456789.eE+-tfn \t\xC3";
  int rejected = 0;
  for (size_t i = 0; i < good.size(); ++i) {
    for (const char c : alphabet) {
      if (c == '\0') continue;
      std::string text = good;
      text[i] = c;
      bool host = true;
      try {
        parse_json(text, "t");
      } catch (const Error&) {
        host = false;
      }
      const bool mine = failure(text) == "no failure";
      if (text.find('\xC3') == std::string::npos) {  // broken UTF-8 is the host's to refuse
        EXPECT_EQ(mine, host) << text;
      }
      rejected += !mine;
    }
  }
  EXPECT_GT(rejected, 1000);
}

}  // namespace
}  // namespace quern
