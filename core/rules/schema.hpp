// JSON against a JSON Schema (draft 7), with errors a person can act on.
//
// Our own walk runs first: it finds unknown keys (with the nearest legal one), wrong types, words that are not in an
// enumeration, missing keys, numbers out of bounds, and says where. What it does not know of the schema language is
// left to valijson, which has the last word.
//
//   validate_json(value, rules_schema(), "npu.json");
//   -> Error: npu.json: $.ops[0].configs[1]: unknown key 'contrct' (did you mean 'contract'?)
//
// For a format with positions of its own (YAML), find_problem() gives the path as steps, to be looked up there.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.hpp"
#include "core/base/json.hpp"

namespace quern {

struct JsonProblem {
  std::vector<std::string> path;  // keys and indices from the root, {"ops", "0", "configs"}
  std::string key;                // the unknown or missing key in the object at `path`, else ""
  bool unknown_key = false;
  std::string message;            // "unknown key 'contrct' (did you mean 'contract'?)"
};

// The first problem in document order; none when the value is legal. Keys match `patternProperties` only in the form
// "^literal". Throws Error(internal) when the schema itself can't be used.
std::optional<JsonProblem> find_problem(const json::value& value, std::string_view schema_text);

// Throws Error(code) "$.path: message" at file `source`.
void validate_json(const json::value& value, std::string_view schema_text, const std::string& source,
                   ErrorCode code = ErrorCode::config);

// {"ops", "0", "match"} -> "$.ops[0].match".
std::string json_path(const std::vector<std::string>& steps);

// A copy without the members whose keys begin with "x-", at every depth.
json::value without_x_keys(const json::value& value);
// A copy with the members of every object sorted by key: the canonical form that digests are taken of.
json::value with_sorted_keys(const json::value& value);
// RFC 7396: objects merge key by key, null removes, anything else replaces.
void merge_patch(json::value& target, const json::value& patch);

}  // namespace quern
