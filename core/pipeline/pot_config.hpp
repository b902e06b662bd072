// Configurations of Intel's POT (model, engine, compression) in our own words. Every key means what it means there, or is an error that
// says what to write instead; none is passed over. docs/pot.md lists them.
//
//   Document d = parse_configuration(text, "pot.json");   // JSON (comments, trailing commas) or YAML, ours or POT's
//   d.value.at("target").at("device")                      // ours in any case; errors stand where POT's file says it
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "core/pipeline/yaml.hpp"

namespace quern {

// `notes`, where given, gets a line for each thing of POT's file that needs no counterpart. Error(config) at its place.
Document parse_configuration(std::string_view text, const std::string& file_name, std::vector<std::string>* notes = nullptr);

// A mapping with `compression` and without `quern`.
bool is_pot_configuration(const json::value& value);
Document convert_pot(const Document& pot, std::vector<std::string>* notes = nullptr);

}  // namespace quern
