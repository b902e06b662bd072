// Files in the layout of POT's four hardware descriptions, written for these tests, and bad ones.
#include "core/rules/pot/import.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/base/error.hpp"
#include "core/base/files.hpp"
#include "core/rules/rules.hpp"

namespace quern {
namespace {

using Words = std::vector<std::string>;

ImportedRules imported(const std::string& name) {
  const char* source = std::getenv("QUERN_SOURCE_DIR");
  const fs::path folder = source ? fs::path(source) : fs::path(".");
  return import_pot_hardware(read_text(folder / "tests/rules/pot" / name), name);
}
Rules rules_of(const ImportedRules& r) { return parse_rules(to_text(r.rules), "imported.json"); }

std::vector<const OpRule*> of(const Rules& rules, const std::string& op) {
  std::vector<const OpRule*> out;
  for (const OpRule& r : rules.ops) if (r.match.op == op) out.push_back(&r);
  return out;
}
bool says(const ImportedRules& r, const std::string& text) {
  return std::any_of(r.not_imported.begin(), r.not_imported.end(), [&](const auto& line) { return line.find(text) != std::string::npos; });
}
std::string failure(const std::string& text) {
  try {
    import_pot_hardware(text, "hw.json");
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::config) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "was imported: " << text;
  return "";
}

TEST(PotImport, Cpu) {
  const ImportedRules r = imported("cpu.json");
  const Rules rules = rules_of(r);
  EXPECT_EQ(rules.id, "imported.cpu");
  const auto conv = of(rules, "Conv");
  ASSERT_EQ(conv.size(), 2u);
  EXPECT_TRUE(conv[0]->match.attributes.count("group"));  // depthwise goes first
  EXPECT_EQ(conv[0]->configs[0].inputs.at("input"), (Words{"as8_sym_channel", "au8_sym_channel", "au8_asym_channel"}));
  EXPECT_EQ(conv[1]->configs[0].inputs.at("input"), (Words{"as8_sym_tensor", "au8_sym_tensor", "au8_asym_tensor"}));
  EXPECT_EQ(conv[1]->configs[0].inputs.at("weight"), (Words{"ws8_sym_channel", "wu8_asym_channel"}));
  EXPECT_EQ(conv[1]->configs[0].output, (Words{"as8_sym_tensor", "au8_sym_tensor", "au8_asym_tensor", "f32"}));
  EXPECT_EQ(rules.type("ws8_sym_channel").format.qmin, -127);
  EXPECT_EQ(rules.type("wu8_asym_channel").zero_point, ZeroPointRule::free);
  EXPECT_EQ(of(rules, "MatMul").size(), 2u);  // with constant weights, and of two tensors
  EXPECT_EQ(of(rules, "Gemm").size(), 1u);
  EXPECT_EQ(rules.passthrough, (Words{"Resize", "Concat", "MaxPool", "GlobalMaxPool", "Reshape", "Slice"}));
  EXPECT_EQ(of(rules, "Resize").size(), 2u);
  ASSERT_EQ(rules.tie.size(), 1u);
  EXPECT_TRUE(rules.tie[0].inputs && rules.tie[0].output);
  EXPECT_EQ(rules.presets.size(), 3u);
  for (const char* line : {"NotEqual: ", "LSTMSequence: ", "ShuffleChannels: ", "arithmetic: "}) EXPECT_TRUE(says(r, line)) << line;
  EXPECT_EQ(r.rules.at("x-not-imported").as_array().size(), r.not_imported.size());
  for (const auto& [name, contract] : r.rules.at("contracts").as_object()) {
    EXPECT_TRUE(name.starts_with("assumed_"));
    EXPECT_TRUE(contract.as_object().contains("x-assumed"));
  }
}

TEST(PotImport, Gpu) {
  const ImportedRules r = imported("gpu.json");
  const Rules rules = rules_of(r);
  for (const char* op : {"Conv", "ConvTranspose", "Sub", "Max", "ReduceMean", "Transpose"}) EXPECT_EQ(of(rules, op).size(), 1u) << op;
  EXPECT_TRUE(of(rules, "Resize").empty());
  EXPECT_TRUE(says(r, "attribute 'axes'"));
  EXPECT_FALSE(rules.presets.count("accuracy"));
}

TEST(PotImport, Vpu) {
  const ImportedRules r = imported("vpu.json");
  const Rules rules = rules_of(r);
  const OpConfig& conv = of(rules, "Conv")[0]->configs[0];
  EXPECT_EQ(conv.inputs.at("input"), (Words{"au8_asym_tensor", "as4_sym_tensor", "au4_sym_tensor"}));
  EXPECT_EQ(conv.inputs.at("weight"), (Words{"ws8_sym_channel", "ws4_sym_channel", "ws2_sym_channel", "wu8_one_zero_channel"}));
  EXPECT_EQ(rules.type("wu8_one_zero_channel").zero_point, ZeroPointRule::unified);
  EXPECT_EQ(rules.type("ws2_sym_channel").format.qmin, -1);
  ASSERT_EQ(rules.tie.size(), 3u);
  EXPECT_EQ(rules.tie[0].op, "Add");
  EXPECT_FALSE(rules.tie[0].output);
  EXPECT_EQ(of(rules, "AveragePool")[0]->configs[0].inputs.at("input"), (Words{"as8_sym_channel", "au8_sym_channel"}));
}

TEST(PotImport, Gna3) {
  const ImportedRules r = imported("gna3.json");
  const Rules rules = rules_of(r);
  EXPECT_EQ(rules.limits.at("primary_bitwidth"), 16);
  EXPECT_EQ(rules.type("as16_sym_tensor").format.qmin, -32768);
  EXPECT_EQ(of(rules, "Conv")[0]->configs[0].inputs.at("weight"), (Words{"ws8_sym_tensor", "ws16_sym_tensor"}));
  EXPECT_EQ(of(rules, "MatMul")[0]->configs[0].inputs.at("weight"), (Words{"ws8_sym_channel", "ws16_sym_tensor"}));
  EXPECT_EQ(of(rules, "Conv")[0]->configs[0].output, (Words{"as16_sym_tensor", "f32"}));
  EXPECT_TRUE(of(rules, "Sigmoid").empty());
  for (const char* line : {"Sigmoid: takes more than 16 bits", "Convolution: outputs of more than 16 bits", "Add: activations of more than 16 bits", "input_priority_types", "Parameter: ", "Result: "})
    EXPECT_TRUE(says(r, line)) << line;
}

TEST(PotImport, TheSameBytesEveryTime) { EXPECT_EQ(to_text(imported("vpu.json").rules), to_text(imported("vpu.json").rules)); }

TEST(PotImport, BadFilesAreNamedWithTheirPlace) {
  const auto with = [](const std::string& alias, const std::string& operations) {
    return "{\"target_device\": \"X\",\n // a remark\n \"config\": {\"quantization\": {\n  \"q\": " + alias + "\n }},\n \"operations\": " + operations + "\n}\n";
  };
  const std::string good = R"({"bits": 8, "mode": "symmetric"})", list = R"([{"type": "MatMul", "quantization": {"activations": "q", "weights": "q"}}])";
  EXPECT_NO_THROW(import_pot_hardware(with(good, list), "hw.json"));
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "hw.json:1:1: not valid JSON"},
      {"{\"target_device\": \"X\",\n\"config\": }", "hw.json:2:11: not valid JSON"},
      {"[1]", "hw.json:1:1: the file should be an object"},
      {"{\"config\": {}}", "hw.json:1:1: the file lacks 'target_device'; it has config"},
      {"{\"target_device\": 3}", "hw.json:1:19: 'target_device' should be text"},
      {with(R"({"mode": "symmetric"})", list), "hw.json:4:8: 'config/quantization/q' lacks 'bits'"},
      {with(R"({"bits": 80})", list), "hw.json:4:17: 'config/quantization/q/bits' should be a whole number from 1 to 32"},
      {with(R"({"bits": [8, 2.5]})", list), "hw.json:4:21: 'config/quantization/q/bits/1' should be a whole number"},
      {with(R"({"bits": [], "mode": "symmetric"})", list), "hw.json:4:17: 'bits' is an empty list"},
      {with(R"({"bits": 8, "mode": "symetric"})", list), "'mode' should be symmetric or asymmetric (did you mean 'symmetric'?)"},
      {with(R"({"bits": 8, "granulrity": "pertensor"})", list), "hw.json:4:34: unknown key 'granulrity' (did you mean 'granularity'?)"},
      {with(R"({"bits": 8, "level_low": -127})", list), "hw.json:4:8: has one of level_low and level_high"},
      {with(R"({"bits": 8, "level_low": -200, "level_high": 127})", list), "levels -200..127 do not fit 8 bits (-128..127)"},
      {with(R"({"bits": 8, "level_low": 3, "level_high": 127})", list), "symmetric levels 3..127 lack zero"},
      {with(good, R"([{"type": "Add", "quantization": {"activations": "p8"}}])"), "there is no quantization 'p8'"},
      {with(good, R"([{"quantization": {}}])"), "'operations/0' lacks 'type'"},
      {with(good, R"(["Add"])"), "hw.json:6:17: 'operations/0' should be an object"},
      {with(good, "{}"), "hw.json:6:16: 'operations' should be a list"},
      {with(good, "[]"), "lists no operation"},
      {with(good, R"([{"type": "Reshape"}])"), "nothing could be imported"},
      {with(good, R"([{"type": "Wonder", "quantization": {"activations": "q"}}])"), "Wonder: no counterpart in ONNX is known here"},
      {with(good + ", \"q\": " + good, list), "the key 'q' stands twice"}};
  for (const auto& [text, wanted] : cases) {
    const std::string e = failure(text);
    EXPECT_NE(e.find(wanted), std::string::npos) << text << "\n" << e;
  }
}

}  // namespace
}  // namespace quern
