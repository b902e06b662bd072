#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "core/base/error.hpp"
#include "core/base/files.hpp"
#include "core/rules/schema.hpp"
#include "tests/rules/sample_rules.hpp"

namespace quern {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using test::Builder;
using test::sample_rules;
using test::sample_rules_text;

// The message of the error that parsing gives after `from` was replaced by `to` in the sample.
std::string error_after(const std::string& from, const std::string& to, const std::string& profile = "") {
  std::string text = sample_rules_text;
  const size_t at = text.find(from);
  if (at == std::string::npos) return "the test's text '" + from + "' is not in the sample";
  text.replace(at, from.size(), to);
  try {
    parse_rules(text, "npu.json", profile);
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(Rules, ReadsEverySection) {
  const Rules r = sample_rules();
  EXPECT_EQ(r.id, "org.example.npu");
  EXPECT_EQ(r.profile, "v1");
  EXPECT_EQ(r.profiles.size(), 2u);
  EXPECT_EQ(r.profiles[0].requires_cpu, std::vector<std::string>{"sse2"});
  const TypeRule& w8 = r.type("w8");
  EXPECT_EQ(w8.format.qmin, -127);
  EXPECT_EQ(w8.format.qmax, 127);
  EXPECT_EQ(w8.granularity, GranularityRule::channel);
  EXPECT_TRUE(w8.symmetric());
  EXPECT_FALSE(r.type("u8").symmetric());
  EXPECT_TRUE(r.type("f32").is_float());
  EXPECT_EQ(r.type("a16").scale, ScaleRule::pow2);
  EXPECT_EQ(r.type("a16").scale_min, -20);
  EXPECT_EQ(r.type("b32").product_of, (std::vector<std::string>{"input", "weight"}));
  EXPECT_EQ(r.ops.size(), 13u);  // lists of operators make a rule each
  EXPECT_EQ(r.ops[1].match.op, "Gemm");
  EXPECT_EQ(r.ops[2].match.op, "MatMul");
  EXPECT_EQ(r.ops[0].configs[0].contract, "dot");
  EXPECT_EQ(r.fuse[0].steps[1].other, "residual");
  EXPECT_TRUE(r.fuse[0].steps[1].optional);
  EXPECT_EQ(r.tie[0].op, "Concat");
  EXPECT_FALSE(r.presets.at("mixed").symmetric_activations);
  EXPECT_EQ(r.limits.at("max_channels"), 8192);
  EXPECT_EQ(r.contracts.at("dot")->post.size(), 7u);
  EXPECT_THROW(r.type("u4"), Error);
}

TEST(Rules, ProfileIsMergedAndDigestFollows) {
  const Rules v1 = sample_rules(), v2 = sample_rules("v2");
  EXPECT_EQ(v2.type("w8").format.bits, 7);
  EXPECT_EQ(v2.type("w8").format.qmin, -63);
  EXPECT_TRUE(v2.fuse.empty());
  EXPECT_EQ(v2.limits.at("max_channels"), 64);
  EXPECT_EQ(v1.digest.size(), 64u);
  EXPECT_NE(v1.digest, v2.digest);
  // The effective text reads back to the same rules.
  const Rules again = parse_rules(to_text(v2.effective), "effective");
  EXPECT_EQ(again.digest, v2.digest);
  EXPECT_EQ(again.profile, "v2");
}

TEST(Rules, DigestIgnoresOrderAndRemarks) {
  std::string text = sample_rules_text;
  text.replace(text.find("\"bits\": 8, \"signed\": false"), 26, "\"signed\": false, \"x-why\": \"order\", \"bits\": 8");
  EXPECT_EQ(parse_rules(text, "npu.json").digest, sample_rules().digest);
}

TEST(Rules, UnknownKeysAreErrorsWithASuggestion) {
  EXPECT_THAT(error_after("\"passthrough\"", "\"passthru\""), AllOf(HasSubstr("npu.json: $: unknown key 'passthru'"), HasSubstr("passthrough")));
  EXPECT_THAT(error_after("\"zero_point\": \"free\"", "\"zeropoint\": \"free\""), AllOf(HasSubstr("$.types.u8"), HasSubstr("'zero_point'")));
  EXPECT_THAT(error_after("\"contract\": \"dot\"", "\"contrct\": \"dot\""), AllOf(HasSubstr("$.ops[0].configs[0]"), HasSubstr("'contract'")));
  EXPECT_THAT(error_after("\"override\": {\"types\"", "\"override\": {\"typs\""), AllOf(HasSubstr("$.profiles.v2.override"), HasSubstr("'types'")));
  EXPECT_THAT(error_after("{\"fmul32\"", "{\"fmull32\""), AllOf(HasSubstr("$.contracts.dot.post[2]"), HasSubstr("'fmul32'")));
}

TEST(Rules, WrongTypesAndWordsAreNamed) {
  EXPECT_THAT(error_after("\"bits\": 8", "\"bits\": \"8\""), AllOf(HasSubstr("$.types.u8.bits"), HasSubstr("string"), HasSubstr("integer")));
  EXPECT_THAT(error_after("\"bits\": 8", "\"bits\": 64"), AllOf(HasSubstr("$.types.u8.bits"), HasSubstr("the most is 32")));
  EXPECT_THAT(error_after("\"zero_point\": \"free\"", "\"zero_point\": \"fre\""), AllOf(HasSubstr("'free'"), HasSubstr("legal")));
  EXPECT_THAT(error_after("\"zero_point\": \"free\"", "\"zero_point\": 3"), AllOf(HasSubstr("$.types.u8.zero_point"), HasSubstr("has to be a string or an object")));
  EXPECT_THAT(error_after("\"form\": \"pool_max\"", "\"form\": \"poolmax\""), HasSubstr("'pool_max'"));
  EXPECT_THAT(error_after("\"quern_rules\": 1,", ""), HasSubstr("'quern_rules' is missing"));
  EXPECT_THAT(error_after("\"quern_rules\": 1", "\"quern_rules\": 2"), HasSubstr("this host reads quern.rules/1"));
  EXPECT_THAT(error_after("\"signed\": false", "\"signed\": false, \"signed\": true"), HasSubstr("npu.json:4:"));  // twice
  EXPECT_THAT(error_after("\"quern_rules\": 1,", "\"quern_rules\": 1"), HasSubstr("not valid JSON"));
}

TEST(Rules, ReferencesAreChecked) {
  EXPECT_THAT(error_after("\"input\": [\"u8\", \"s8\"]", "\"input\": [\"u9\", \"s8\"]"), AllOf(HasSubstr("$.ops[0].configs[0].inputs.input"), HasSubstr("there is no type 'u9'"), HasSubstr("'u8'")));
  EXPECT_THAT(error_after("\"contract\": \"dot\"", "\"contract\": \"dott\""), AllOf(HasSubstr("there is no contract 'dott'"), HasSubstr("'dot'")));
  EXPECT_THAT(error_after("\"inputs\": {\"input\"", "\"inputs\": {\"inpt\""), AllOf(HasSubstr("no operand 'inpt'"), HasSubstr("'input'")));
  EXPECT_THAT(error_after("\"op\": \"Conv\"", "\"op\": \"Covn\""), AllOf(HasSubstr("no operator 'Covn'"), HasSubstr("'Conv'")));
  EXPECT_THAT(error_after("\"op\": \"Concat\", \"members\"", "\"op\": \"Concut\", \"members\""), HasSubstr("$.tie[0].op"));
  EXPECT_THAT(error_after("\"weight\": [\"w8\", \"w8t\"], ", ""), HasSubstr("says nothing about the operand 'weight' of Conv"));
  EXPECT_THAT(error_after("@residual", "@residul"), AllOf(HasSubstr("$.contracts.dot.post[3]"), HasSubstr("'residul'"), HasSubstr("'residual'")));
  EXPECT_THAT(error_after("-residual.zero_point", "-residual.zeropoint"), HasSubstr(".scale and .zero_point only"));
  EXPECT_THAT(error_after("\"operands\": {\"a\"", "\"operands\": {\"c\""), HasSubstr("'c' is an operand of no config"));
  EXPECT_THAT(error_after("\"default_profile\": \"v1\"", "\"default_profile\": \"v3\""), HasSubstr("no profile 'v3'"));
  EXPECT_THAT(error_after("\"default_profile\": \"v1\"", "\"default_profile\": [\"v2\", \"v3\"]"), AllOf(HasSubstr("$.default_profile"), HasSubstr("no profile 'v3'")));
  EXPECT_THAT(error_after("\"x-note\": \"ignored\"", "\"x-note\": 1", "v9"), AllOf(HasSubstr("no profile 'v9'"), HasSubstr("v1 and v2")));
  EXPECT_THAT(error_after("\"fallback\": [\"f32\"]", "\"fallback\": [\"f64\"]"), HasSubstr("$.fallback[0]"));
  EXPECT_THAT(error_after("\"weights\": \"symmetric\"}", "\"weights\": \"symmetric\", \"prefer\": {\"Gemm\": \"dense9\"}}"), HasSubstr("no config 'dense9'"));
}

TEST(Rules, DefaultProfilesStandInOrderOfPreference) {
  std::string text(sample_rules_text);
  const std::string one = "\"default_profile\": \"v1\"";
  EXPECT_EQ(parse_rules(text, "npu.json").default_profiles, std::vector<std::string>{"v1"});
  text.replace(text.find(one), one.size(), "\"default_profile\": [\"v2\", \"v1\"]");
  const Rules rules = parse_rules(text, "npu.json");
  EXPECT_EQ(rules.default_profiles, (std::vector<std::string>{"v2", "v1"}));
  EXPECT_EQ(rules.profile, "v2");
  EXPECT_EQ(parse_rules(text, "npu.json", "v1").profile, "v1");
}

TEST(Rules, PatternsThatLimit) {
  std::string text = sample_rules_text;
  const std::string from = "{\"name\": \"pair_act\", \"steps\": [{\"op\": [\"Add\", \"Mul\"]}, {\"op\": [\"Relu\", \"Clip\"]";
  text.replace(text.find(from), from.size(), "{\"name\": \"pair_act\", \"output\": \"s8\", \"steps\": [{\"op\": [\"Add\", \"Mul\"]}, {\"op\": [\"PRelu\"], \"scalar\": true");
  const Rules r = parse_rules(text, "npu.json");
  EXPECT_EQ(r.fuse[1].output, std::vector<std::string>{"s8"});
  EXPECT_TRUE(r.fuse[1].steps[1].scalar);
  EXPECT_FALSE(r.fuse[0].steps[1].scalar);
  EXPECT_THAT(error_after("\"name\": \"pair_act\"", "\"name\": \"pair_act\", \"output\": [\"u9\"]"), AllOf(HasSubstr("$.fuse[1].output"), HasSubstr("'u9'")));
  EXPECT_THAT(error_after("\"other\": \"residual\"", "\"scalar\": true, \"other\": \"residual\""), HasSubstr("$.fuse[0].steps[1].scalar"));
}

TEST(Rules, ContradictionsAreErrors) {
  EXPECT_THAT(error_after("\"output\": [\"u8\", \"s8\", \"f32\"]", "\"output\": [\"u8\", \"u8\"]"), HasSubstr("'u8' stands twice"));
  EXPECT_THAT(error_after("\"output\": [\"u8\", \"s8\", \"f32\"]", "\"output\": [\"b32\"]"), HasSubstr("an output can't"));
  EXPECT_THAT(error_after("\"output\": [\"u8\", \"s8\", \"f32\"], \"contract\": \"dot\"", "\"output\": [\"u8\"], \"contract\": \"max\""), HasSubstr("can't compute Conv"));
  EXPECT_THAT(error_after("\"op\": [\"Add\", \"Mul\"]}", "\"op\": [\"Add\", \"Add\"]}"), HasSubstr("can never be reached"));
  EXPECT_THAT(error_after("\"group\": {\"min\": 1, \"max\": 4096}", "\"group\": {\"min\": 2, \"max\": 1}"), HasSubstr("min is above max"));
  EXPECT_THAT(error_after("\"Squeeze\", \"MaxPool\", \"Concat\"]", "\"Squeeze\", \"Add\"]"), HasSubstr("a quantizer can't move through Add"));
  EXPECT_THAT(error_after("\"Squeeze\", \"MaxPool\", \"Concat\"]", "\"Sqeeze\"]"), AllOf(HasSubstr("$.passthrough[3]"), HasSubstr("'Squeeze'")));
  EXPECT_THAT(error_after("\"bits\": 8, \"signed\": true, \"zero_point\": \"zero\"", "\"bits\": 8, \"signed\": true, \"qmin\": -200"), HasSubstr("do not fit"));
  EXPECT_THAT(error_after("\"zero_point\": \"free\"", "\"zero_point\": {\"list\": [0, 300]}"), HasSubstr("300 is outside"));
  EXPECT_THAT(error_after("\"types\": [\"u8\", \"s8\"], \"optional\"", "\"optional\""), HasSubstr("needs its types"));
  EXPECT_THAT(error_after("\"steps\": [{\"op\": [\"Add\", \"Mul\"]}", "\"steps\": [{\"op\": [\"Softmax\"]}"), HasSubstr("can never match"));
}

TEST(Rules, HostileTextsGiveErrors) {
  const auto fails = [](const std::string& text) { EXPECT_THROW(parse_rules(text, "x"), Error) << text.substr(0, 80); };
  fails("");
  fails("null");
  fails("[]");
  fails("{}");
  fails(std::string(100000, '['));
  fails(R"({"quern_rules": 1e400})");
  fails(R"({"quern_rules": 1, "id": "", "types": {}, "ops": [], "contracts": {}})");
  fails(R"({"quern_rules": 1, "id": "a", "types": [], "ops": [], "contracts": {}})");
  fails(R"({"quern_rules": 1, "id": "a", "types": {"f32": {"bits": 8, "signed": true}}, "ops": [], "contracts": {}})");
  // Every prefix of the sample is an error, and none is a crash.
  const std::string sample = sample_rules_text;
  for (size_t n = 0; n < sample.size(); n += 37) fails(sample.substr(0, n));
  EXPECT_NO_THROW(parse_rules(R"({"quern_rules": 1, "id": "a", "types": {}, "ops": [], "contracts": {}})", "x"));
}

// Each value of the sample in turn replaced by something else: an error or other rules, never a crash.
void replace_each(json::value& root, json::value& here, const json::value& by, int& tried) {
  const auto visit = [&](json::value& member) {
    replace_each(root, member, by, tried);
    json::value kept = member;
    member = by;
    ++tried;
    try {
      parse_rules(to_text(root, false), "mutant");
    } catch (const Error& e) {
      EXPECT_NE(e.code(), ErrorCode::internal) << e.what();
    }
    member = std::move(kept);
  };
  if (here.is_object()) for (auto& [key, member] : here.get_object()) { (void)key; visit(member); }
  if (here.is_array()) for (auto& member : here.get_array()) visit(member);
}

TEST(Rules, AnyValueReplacedIsNoCrash) {
  json::value root = parse_json(sample_rules_text, "sample");
  // A smaller document keeps the number of mutants in the hundreds.
  root.as_object().erase("profiles");
  root.as_object().erase("default_profile");
  int tried = 0;
  for (const json::value& by : {json::value(nullptr), json::value(-1), json::value("x"), json::value(json::object()), json::value(json::array())}) {
    replace_each(root, root, by, tried);
  }
  EXPECT_GT(tried, 500);
}

TEST(Rules, PublishedSchemaIsTheEmbeddedOne) {
  const char* source = std::getenv("QUERN_SOURCE_DIR");
  if (!source) GTEST_SKIP() << "QUERN_SOURCE_DIR is not set";
  EXPECT_EQ(read_text(fs::path(source) / "sdk/schemas/rules.schema.json"), rules_schema());
}

TEST(Rules, RulesOfTheCpuTargetAreLegal) {
  const char* source = std::getenv("QUERN_SOURCE_DIR");
  if (!source) GTEST_SKIP() << "QUERN_SOURCE_DIR is not set";
  const fs::path path = fs::path(source) / "plugins/cpu/rules.json";
  if (!fs::exists(path)) GTEST_SKIP() << "plugins/cpu/rules.json is not there";
  const std::string text = read_text(path);
  const Rules first = parse_rules(text, path.string());
  ASSERT_FALSE(first.profiles.empty());
  for (const auto& p : first.profiles) EXPECT_EQ(parse_rules(text, path.string(), p.name).profile, p.name);
}

// Attributes that a Resize has only since later versions need not be stated.
TEST(Rules, ResizeMatchesTheCpuTargetAsExportersWriteIt) {
  const char* source = std::getenv("QUERN_SOURCE_DIR");
  if (!source) GTEST_SKIP() << "QUERN_SOURCE_DIR is not set";
  const fs::path path = fs::path(source) / "plugins/cpu/rules.json";
  const Rules rules = parse_rules(read_text(path), path.string());
  for (const auto& [mode, matches] : {std::pair{"nearest", true}, {"linear", true}, {"cubic", false}}) {
    test::Builder b;
    const ValueId y = b.op("Resize", "r", {b.input("x"), no_value, b.constant("scales", {4})}, {{"mode", std::string(mode)}});
    std::string why;
    EXPECT_EQ(match_op(rules, b.g, b.g.node(b.g.value(y).producer), &why) != nullptr, matches) << mode << ": " << why;
  }
}

TEST(Rules, TheExampleOfThePageIsLegal) {
  const char* source = std::getenv("QUERN_SOURCE_DIR");
  if (!source) GTEST_SKIP() << "QUERN_SOURCE_DIR is not set";
  const std::string page = read_text(fs::path(source) / "docs/rules.md");
  const size_t begin = page.find("```json\n") + 8;
  const Rules r = parse_rules(page.substr(begin, page.find("```", begin) - begin), "docs/rules.md");
  EXPECT_EQ(r.ops.size(), 1u);
  EXPECT_EQ(r.contracts.at("dot")->post.size(), 5u);
}

TEST(Schema, OwnWalkAndValijsonAgree) {
  const char* schema = R"({"type": "object", "properties": {"a": {"type": "integer", "multipleOf": 4}, "b": {"type": "array",
    "items": {"anyOf": [{"type": "string", "enum": ["on", "off"]}, {"type": "object", "required": ["k"], "properties": {"k": {}}, "additionalProperties": false}]}}},
    "additionalProperties": false})";
  const auto problem = [&](const char* text) { return find_problem(parse_json(text, "t"), schema); };
  EXPECT_FALSE(problem(R"({"a": 8, "b": ["on", {"k": 1}]})"));
  // multipleOf is left to valijson.
  auto p = problem(R"({"a": 7})");
  ASSERT_TRUE(p);
  EXPECT_THAT(p->path, ElementsAre("a"));
  p = problem(R"({"b": ["on", "oof"]})");
  ASSERT_TRUE(p);
  EXPECT_EQ(json_path(p->path), "$.b[1]");
  EXPECT_THAT(p->message, HasSubstr("'off'"));
  p = problem(R"({"b": [{"q": 1}]})");
  ASSERT_TRUE(p);
  EXPECT_TRUE(p->unknown_key);
  EXPECT_EQ(p->key, "q");
  p = problem(R"({"b": [1]})");
  ASSERT_TRUE(p);
  EXPECT_THAT(p->message, HasSubstr("has to be a string or an object"));
  EXPECT_THROW(find_problem(parse_json("{}", "t"), R"({"$ref": "#/nowhere"})"), Error);
}

TEST(Schema, MergePatch) {
  json::value v = parse_json(R"({"a": {"b": 1, "c": 2}, "d": [1, 2]})", "t");
  merge_patch(v, parse_json(R"({"a": {"b": null, "e": {"f": 1}}, "d": [3]})", "t"));
  EXPECT_EQ(to_text(with_sorted_keys(v), false), R"({"a":{"c":2,"e":{"f":1}},"d":[3]})");
}

// ---- match -------------------------------------------------------------------------------------------------------

std::string miss(const Builder& b, const std::string& node) {
  std::string why;
  const OpRule* rule = match_op(sample_rules(), b.g, b.g.node(b.g.find_node(node)), &why);
  return rule ? "matches" : why;
}

TEST(Match, NearestMissIsTold) {
  Builder b;
  const ValueId x = b.input("x");
  b.conv("ok", x);
  b.conv("group", x, {{"group", int64_t{5000}}});
  b.conv("pad", x, {{"auto_pad", std::string("SAME_UPPER")}});
  b.conv("dilated", x, {{"dilations", std::vector<int64_t>{2, 2}}});
  b.conv("too_dilated", x, {{"dilations", std::vector<int64_t>{2, 3}}});
  b.op("Conv", "dynamic", {x, x});
  b.op("Conv", "no_bias", {x, b.constant("w", {8, 8, 3, 3})});
  b.op("Softmax", "soft", {x});
  b.shape = {-1, 8, 16};
  b.conv("rank3", b.input("x3"));
  EXPECT_EQ(miss(b, "ok"), "matches");
  EXPECT_EQ(miss(b, "no_bias"), "matches");
  EXPECT_EQ(miss(b, "dilated"), "matches");
  EXPECT_EQ(miss(b, "group"), "Conv: group 5000 is above the limit of 4096");
  EXPECT_EQ(miss(b, "pad"), "Conv: auto_pad SAME_UPPER is not one of NOTSET");
  EXPECT_EQ(miss(b, "too_dilated"), "Conv: dilations [2,3] is not one of 1, 2");
  EXPECT_EQ(miss(b, "dynamic"), "Conv: weight is not constant");
  EXPECT_EQ(miss(b, "rank3"), "Conv: input has rank 3, not 4");
  EXPECT_EQ(miss(b, "soft"), "Softmax has no rule in 'org.example.npu'");
}

TEST(Match, DefaultsAndKernelOfWeight) {
  Builder b;
  const ValueId x = b.input("x");
  b.conv("plain", x);
  b.op("Conv", "depthwise", {x, b.constant("dw", {8, 1, 3, 3})}, {{"group", int64_t{8}}});
  const auto holds = [&](const char* node, const char* name, AttributeLimit limit) {
    std::string why;
    return attributes_hold(b.g, b.g.node(b.g.find_node(node)), {{name, limit}}, &why);
  };
  const auto in = [](std::vector<Attribute> v) { AttributeLimit l; l.one_of = std::move(v); return l; };
  EXPECT_TRUE(holds("plain", "kernel_shape", in({std::vector<int64_t>{3, 3}})));
  EXPECT_TRUE(holds("plain", "kernel_shape", in({int64_t{1}, int64_t{3}})));
  EXPECT_FALSE(holds("plain", "kernel_shape", in({std::vector<int64_t>{1, 1}})));
  EXPECT_TRUE(holds("plain", "strides", in({std::vector<int64_t>{1, 1}})));  // the default, whatever its length
  EXPECT_FALSE(holds("plain", "strides", in({std::vector<int64_t>{2, 2}})));
  EXPECT_TRUE(holds("depthwise", "group", in({int64_t{1}, std::string("depthwise")})));
  EXPECT_FALSE(holds("plain", "group", in({std::string("depthwise")})));
  EXPECT_FALSE(holds("plain", "unheard_of", in({int64_t{1}})));
  // Files of opset 11 and 13 can't state `antialias` at all.
  b.op("Resize", "twice", {x, no_value, b.constant("scales", {4})});
  for (const char* name : {"antialias", "exclude_outside"}) EXPECT_TRUE(holds("twice", name, in({int64_t{0}}))) << name;
  EXPECT_TRUE(holds("twice", "mode", in({std::string("nearest")})));
}

TEST(Match, Roles) {
  const auto roles = [](const char* op, size_t n) {
    Node node;
    node.op = op;
    node.inputs.assign(n, no_value);
    return roles_of(node);
  };
  EXPECT_THAT(roles("Conv", 3), ElementsAre("input", "weight", "bias"));
  EXPECT_THAT(roles("Conv", 2), ElementsAre("input", "weight"));
  EXPECT_THAT(roles("MatMul", 2), ElementsAre("input", "weight"));
  EXPECT_THAT(roles("Mul", 2), ElementsAre("a", "b"));
  EXPECT_THAT(roles("Concat", 3), ElementsAre("in0", "in1", "in2"));
  EXPECT_THAT(roles("Reshape", 2), ElementsAre("input", ""));
  EXPECT_THAT(roles("Clip", 3), ElementsAre("input", "", ""));
}

// ---- narrow ------------------------------------------------------------------------------------------------------

TEST(Narrow, PresetOrdersAndEntriesFilter) {
  const Rules r = sample_rules();
  Narrowing n;
  EXPECT_THAT(narrow(r, {"s8", "u8", "f32"}, false, n, "c", "Conv"), ElementsAre("u8", "s8", "f32"));  // mixed
  n.preset = "performance";
  EXPECT_THAT(narrow(r, {"u8", "s8"}, false, n, "c", "Conv"), ElementsAre("s8", "u8"));
  n.activations = {{.nodes = "c*", .op = "", .bits = {}, .symmetric = true, .per_channel = {}}};
  EXPECT_THAT(narrow(r, {"u8", "s8"}, false, n, "c1", "Conv"), ElementsAre("s8"));
  EXPECT_THAT(narrow(r, {"u8", "s8"}, false, n, "d1", "Conv"), ElementsAre("s8", "u8"));
  EXPECT_THAT(narrow(r, {"w8", "w8t"}, true, n, "c1", "Conv"), ElementsAre("w8", "w8t"));  // weights are not meant
  n.weights = {{.nodes = "", .op = "Conv", .bits = {}, .symmetric = {}, .per_channel = false}};
  EXPECT_THAT(narrow(r, {"w8", "w8t"}, true, n, "c1", "Conv"), ElementsAre("w8t"));
}

TEST(Narrow, NeverWidens) {
  const Rules r = sample_rules();
  Narrowing n;
  n.activations = {{.nodes = "", .op = "", .bits = 4, .symmetric = {}, .per_channel = {}}};
  try {
    narrow(r, {"u8", "s8", "f32"}, false, n, "c1", "Conv");
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::config);
    EXPECT_EQ(e.node(), "c1");
    EXPECT_THAT(e.what(), AllOf(HasSubstr("4 bits"), HasSubstr("u8 (8 bits, unsigned, asymmetric, per tensor)"), HasSubstr("s8 (8 bits")));
  }
  n.activations.clear();
  n.preset = "mxed";
  EXPECT_THROW(narrow(r, {"u8"}, false, n, "c1", "Conv"), Error);
}

TEST(Narrow, Globs) {
  EXPECT_TRUE(glob_match("conv*", "conv12"));
  EXPECT_TRUE(glob_match("*", ""));
  EXPECT_TRUE(glob_match("/a/*/b", "/a/x/y/b"));
  EXPECT_TRUE(glob_match("c?", "c1"));
  EXPECT_FALSE(glob_match("c?", "c"));
  EXPECT_FALSE(glob_match("conv", "conv1"));
  EXPECT_TRUE(glob_match(std::string(50, '*') + "b", std::string(200, 'a') + "b"));
}

}  // namespace
}  // namespace quern
