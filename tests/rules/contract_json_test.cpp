#include "core/rules/contract_json.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <set>

#include "core/base/error.hpp"
#include "core/base/files.hpp"

namespace quern {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

Contract parse(const std::string& text) { return parse_contract("c", parse_json(text, "c.json"), "c.json"); }

std::string error_of(const std::string& text) {
  try {
    parse(text);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::plugin);
    return e.what();
  }
  return "no error";
}

void expect_roundtrip(const Contract& c) {
  const json::value first = contract_to_json(c);
  const Contract again = parse_contract(c.id, first, "again");
  EXPECT_EQ(to_text(contract_to_json(again)), to_text(first));
  ASSERT_EQ(again.post.size(), c.post.size());
  for (size_t i = 0; i < c.post.size(); ++i) {
    const Stage &a = c.post[i], &b = again.post[i];
    EXPECT_EQ(a.kind, b.kind);
    EXPECT_EQ(a.round, b.round);
    EXPECT_EQ(a.width, b.width);
    EXPECT_EQ(a.when, b.when);
    for (const auto& [x, y] : {std::pair(&a.a, &b.a), std::pair(&a.b, &b.b)}) {
      EXPECT_EQ(x->kind, y->kind);
      EXPECT_EQ(x->name, y->name);
      EXPECT_EQ(x->negate, y->negate);
      EXPECT_EQ(x->integer, y->integer);
      EXPECT_EQ(x->real, y->real);
    }
  }
}

TEST(ContractJson, TheCompletenessList) {
  const char* source = std::getenv("QUERN_SOURCE_DIR");
  if (!source) GTEST_SKIP() << "QUERN_SOURCE_DIR is not set";
  std::set<std::string> seen;
  for (const auto& entry : fs::directory_iterator(fs::path(source) / "tests/rules/contracts")) {
    const std::string name = entry.path().stem().string();
    const Contract c = parse_contract(name, parse_json(read_text(entry.path()), name), name);
    EXPECT_TRUE(c.exact);
    expect_roundtrip(c);
    seen.insert(name);
  }
  EXPECT_EQ(seen, (std::set<std::string>{"average_pool_counted", "average_pool_valid", "border_dequantize", "border_quantize",
                                         "concat_requantized", "cpu_dot", "function_table", "resample", "tflite_add"}));
}

// What a lut gives is known by its table: codes or floats may follow.
TEST(ContractJson, ALutMayGiveFloats) {
  EXPECT_NO_THROW(parse(R"({"form": "table", "post": [{"lut": "t"}, {"fadd32": 1.5}]})"));
  EXPECT_NO_THROW(parse(R"({"form": "table", "post": [{"lut": "t"}, {"add": 1}]})"));
}

TEST(ContractJson, EveryStageAndOption) {
  const Contract c = parse(R"json({
    "form": "elementwise2", "combine": "max", "exact": false, "max_error_lsb": 1.5,
    "acc": {"bits": 48, "signed": false, "overflow": "saturate", "order": "ordered", "saturate_every": 12, "init": "bias", "padding": "zero"},
    "operands": {"a": [{"i2f16": {}}, {"f32_f16": {}}], "b": []},
    "post": [{"add": 3}, {"mul": "-m", "width": 40}, {"shl_sat": "s", "width": 16}, {"shr": ["t", {"round": "floor"}]},
             {"shr": {"by": 4, "round": "to_zero"}}, {"clamp": [-5, "high"]}, {"clamp": {"low": "qmin", "high": "qmax"}},
             {"lut": "table"}, {"lut": ["table", -128]}, {"pwl": "segments"}, {"i2f32": {}, "when": "t"}, {"fadd32": 1}, {"fmul32": 0.1},
             {"ffma32": ["@b", "-k"]}, {"fdiv32": "-@b"}, {"clamp": [0.5, 6]}, {"f2i": {"round": "half_down", "low": -8, "high": "qmax"}}]
  })json");
  EXPECT_EQ(c.combine, Combine::max);
  EXPECT_FALSE(c.exact);
  EXPECT_EQ(c.max_error_lsb, 1.5);
  EXPECT_EQ(c.acc.bits, 48);
  EXPECT_EQ(c.acc.saturate_every, 12);
  EXPECT_TRUE(c.acc.ordered);
  EXPECT_FALSE(c.acc.pad_with_zero_point);
  EXPECT_EQ(c.post[1].a.kind, StageOperand::Kind::table);
  EXPECT_TRUE(c.post[1].a.negate);
  EXPECT_EQ(c.post[1].width, 40);
  EXPECT_EQ(c.post[3].round, Round::floor);
  EXPECT_EQ(c.post[4].a.integer, 4);
  EXPECT_EQ(c.post[7].b.integer, 0);
  EXPECT_EQ(c.post[8].b.integer, -128);
  EXPECT_EQ(c.post[10].when, "t");
  EXPECT_EQ(c.post[11].a.kind, StageOperand::Kind::real);  // 1 means 1.0 for a float stage
  EXPECT_EQ(c.post[12].a.real, 0.1f);
  EXPECT_EQ(c.post[13].a.kind, StageOperand::Kind::tensor);
  EXPECT_EQ(c.post[13].a.name, "b");
  EXPECT_EQ(c.post[14].a.kind, StageOperand::Kind::tensor);
  EXPECT_TRUE(c.post[14].a.negate);
  expect_roundtrip(c);
}

TEST(ContractJson, Defaults) {
  const Contract dot = parse(R"({"form": "dot"})");
  EXPECT_EQ(dot.combine, Combine::mul);
  EXPECT_EQ(dot.acc.bits, 32);
  EXPECT_EQ(dot.acc.overflow, Overflow::must_not);
  EXPECT_EQ(parse(R"({"form": "move"})").combine, Combine::first);
  expect_roundtrip(dot);
}

TEST(ContractJson, ErrorsNameContractAndStage) {
  EXPECT_THAT(error_of(R"([])"), HasSubstr("c.json: contract 'c': the contract has to be an object"));
  EXPECT_THAT(error_of(R"({})"), HasSubstr("'form' is missing"));
  EXPECT_THAT(error_of(R"({"form": "dott"})"), HasSubstr("'dot'"));
  EXPECT_THAT(error_of(R"({"form": "dot", "pots": []})"), HasSubstr("'post'"));
  EXPECT_THAT(error_of(R"({"form": "elementwise2"})"), HasSubstr("combine is missing"));
  EXPECT_THAT(error_of(R"({"form": "dot", "combine": "add"})"), HasSubstr("combine is mul"));
  EXPECT_THAT(error_of(R"({"form": "dot", "acc": {"bits": 4}})"), HasSubstr("acc.bits has to be an integer from 8 to 64"));
  EXPECT_THAT(error_of(R"({"form": "dot", "acc": {"saturate_every": 4, "overflow": "saturate"}})"), HasSubstr("depends on the order"));
  EXPECT_THAT(error_of(R"({"form": "dot", "acc": {"saturate_every": 4}})"), HasSubstr("to be saturate"));
  const auto stage = [](const std::string& text) { return error_of(R"({"form": "dot", "post": [{"add": 1}, )" + text + "]}"); };
  EXPECT_THAT(stage(R"({"addd": 1})"), AllOf(HasSubstr("post[1]"), HasSubstr("'add'")));
  EXPECT_THAT(stage(R"({"add": 1, "mul": 2})"), HasSubstr("two stage keys"));
  EXPECT_THAT(stage(R"({"when": "x"})"), HasSubstr("no stage key"));
  EXPECT_THAT(stage(R"({"add": 1.5})"), AllOf(HasSubstr("post[1] (add)"), HasSubstr("wants an integer")));
  EXPECT_THAT(stage(R"({"add": 1, "width": 65})"), HasSubstr("width"));
  EXPECT_THAT(stage(R"({"add": 1, "when": ""})"), HasSubstr("when"));
  EXPECT_THAT(stage(R"({"add": "#windw"})"), HasSubstr("#window"));
  EXPECT_THAT(stage(R"({"add": "#window"})"), HasSubstr("pool_sum"));
  EXPECT_THAT(stage(R"({"add": "-"})"), HasSubstr("empty"));
  EXPECT_THAT(stage(R"({"add": "a b"})"), HasSubstr("is no name"));
  EXPECT_THAT(stage(R"({"add": null})"), HasSubstr("a number or a word"));
  EXPECT_THAT(stage(R"({"shr": 4})"), HasSubstr("wants [by"));
  EXPECT_THAT(stage(R"({"shr": [4, {"round": "nearest"}]})"), AllOf(HasSubstr("'nearest'"), HasSubstr("half_even")));
  EXPECT_THAT(stage(R"({"shr": {"by": 4}})"), HasSubstr("'round' is missing"));
  EXPECT_THAT(stage(R"({"clamp": [1]})"), HasSubstr("[low, high]"));
  EXPECT_THAT(stage(R"({"i2f32": 1})"), HasSubstr("takes nothing"));
  EXPECT_THAT(stage(R"({"lut": 3})"), HasSubstr("name of a table"));
  EXPECT_THAT(stage(R"({"fadd32": "x"})"), HasSubstr("put i2f32 before it"));
  EXPECT_THAT(stage(R"({"i2f32": {}}, {"mul": 2})"), AllOf(HasSubstr("post[2]"), HasSubstr("put f2i before it")));
  EXPECT_THAT(stage(R"({"i2f32": {}}, {"f2i": {"round": "half_even", "low": 0.5, "high": 1}})"), HasSubstr("wants an integer"));
  EXPECT_THAT(stage(R"({"i2f32": {}}, {"fmul32": 1e300})"), HasSubstr("no 32-bit float"));
  EXPECT_THAT(error_of(R"({"form": "dot", "operands": {"input": [{"add": "@residual"}]}})"), HasSubstr("may not read another operand"));
  EXPECT_THAT(error_of(R"({"form": "dot", "exact": true, "max_error_lsb": 1})"), HasSubstr("max_error_lsb"));
  // A conditional change of type leaves it open.
  EXPECT_EQ(error_of(R"({"form": "move", "post": [{"add": 1}, {"i2f32": {}, "when": "r"}, {"fmul32": "r", "when": "r"}]})"), "no error");
}

}  // namespace
}  // namespace quern
