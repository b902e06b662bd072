// Rules of a target, with the contract language.
#include <filesystem>

#include "core/graph/graph.hpp"
#include "core/rules/contract_json.hpp"
#include "core/rules/rules.hpp"
#include "tests/fuzz/fuzzing.hpp"

namespace quern::fuzz {

std::vector<Seed> seeds() {
  std::vector<Seed> out;
  out.push_back({"cpu", source_file("plugins/cpu/rules.json")});
  // One seed an entry, so that each can be changed without the others.
  const json::value whole = parse_json(out[0].bytes, "rules.json");
  for (const auto& [id, contract] : whole.at("contracts").as_object()) {
    json::object small = whole.as_object();
    small["contracts"] = json::object{{id, contract}};
    json::array ops;
    for (const auto& op : whole.at("ops").as_array()) {
      json::object entry = op.as_object();
      json::array configs;
      for (const auto& c : entry["configs"].as_array())
        if (c.as_object().contains("contract") && c.at("contract").as_string() == id) configs.push_back(c);
      if (configs.empty()) continue;
      entry["configs"] = configs;
      ops.push_back(entry);
      break;
    }
    small["ops"] = ops;
    small.erase("profiles");
    small.erase("default_profile");
    out.push_back({"contract_" + std::string(id), to_text(small)});
  }
  const std::string root = std::string(std::getenv("QUERN_SOURCE_DIR")) + "/tests/rules/contracts";
  for (const auto& file : std::filesystem::directory_iterator(root))
    if (file.path().extension() == ".json") out.push_back({file.path().stem().string(), source_file("tests/rules/contracts/" + file.path().filename().string())});
  return out;
}

namespace {

// What a target's rules are asked for every node.
void use(const Rules& rules) {
  Graph graph;
  const ValueId x = graph.add_value("x", DType::f32, Dims{1, 8, 6, 6}), y = graph.add_value("y", DType::f32, Dims{1, 8, 6, 6});
  graph.set_inputs({x});
  const ValueId w = graph.add_constant("w", Tensor(DType::f32, {8, 8, 3, 3}));
  Node conv;
  conv.name = "conv";
  conv.op = "Conv";
  conv.since_version = 11;
  conv.inputs = {x, w};
  conv.outputs = {y};
  conv.attributes["pads"] = std::vector<int64_t>{1, 1, 1, 1};
  const NodeId id = graph.add_node(std::move(conv));
  graph.set_outputs({y});
  std::string why;
  if (const OpRule* rule = match_op(rules, graph, graph.node(id), &why)) {
    for (const auto& config : rule->configs)
      for (const auto& input : config.inputs) {
        tolerate([&] {
          for (const auto& name : narrow(rules, input.second, input.first == "weight", {}, "conv", "Conv")) describe_type(rules.type(name));
        });
      }
  }
  for (const auto& [key, contract] : rules.contracts) {
    const json::value written = contract_to_json(*contract);
    const Contract again = parse_contract(key, written, "again");
    expect(contract_to_json(again) == written, "a written contract reads as the same");
  }
}

}  // namespace
}  // namespace quern::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace quern;
  const std::string_view text = fuzz::text_of(data, size);
  std::vector<std::string> profiles{""};
  fuzz::tolerate([&] {
    const Rules rules = parse_rules(text, "fuzz");
    for (const auto& p : rules.profiles)
      if (profiles.size() < 4) profiles.push_back(p.name);
    fuzz::use(rules);
  });
  for (size_t i = 1; i < profiles.size(); ++i) fuzz::tolerate([&] { fuzz::use(parse_rules(text, "fuzz", profiles[i])); });
  fuzz::tolerate([&] { parse_contract("alone", parse_json(text, "fuzz"), "fuzz"); });
  fuzz::tolerate([&] {
    const json::value value = parse_json(text, "fuzz", true);
    for (const bool indent : {false, true}) fuzz::expect(parse_json(to_text(value, indent), "written") == value, "parse_json(to_text(v)) == v");
  });
  return 0;
}
