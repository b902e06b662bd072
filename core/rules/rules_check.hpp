// Checks of parsed rules that no schema can make: references, contradictions, things that can never match.
// Private to core/rules.
#pragma once
#include "core/rules/rules.hpp"

namespace quern {

// Throws Error(plugin) at file `source` with the JSON path.
void check_rules(const Rules& rules, const std::string& source);

// Throws Error(plugin) "SOURCE: PATH: TEXT".
[[noreturn]] void rules_error(const std::string& source, const std::string& path, const std::string& text);

// Where an OpRule came from, kept for messages: rules of "op": ["A", "B"] share one entry of the JSON.
std::string rule_path(const Rules& rules, size_t rule);

}  // namespace quern
