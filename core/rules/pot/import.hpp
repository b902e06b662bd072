// POT's hardware files (which bits, modes and granularities a device has for which operator) as quern.rules/1.
//
//   ImportedRules r = import_pot_hardware(read_text("cpu.json"), "cpu.json");
//   write_file("rules.json", to_text(r.rules) + "\n");            // passes parse_rules
//   for (const std::string& line : r.not_imported) ...            // also in the rules, under x-not-imported
//
// POT says nothing of arithmetic: contracts are those of requantization in f32 and named assumed_*.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "core/base/json.hpp"

namespace quern {

struct ImportedRules {
  json::value rules;
  std::vector<std::string> not_imported;  // "NotEqual: ONNX has no such operator"
};

// Comments and trailing commas are accepted. Error(config) with file, line and column for what can't be read.
ImportedRules import_pot_hardware(std::string_view text, const std::string& file);

std::string_view pot_operators();  // embedded: operators.json, contracts.json
std::string_view pot_contracts();

}  // namespace quern
