// Checks a value against a JSON Schema and fills in what the schema gives as default, in the schema's order of keys.
//
// The part of JSON Schema that our own schemas and those of plugin parameters use: type, enum, const, properties,
// required, additionalProperties, items, minItems, maxItems, minimum, maximum, exclusiveMinimum, exclusiveMaximum,
// minLength, pattern is not; oneOf and anyOf (the best fitting branch gives the message), if / then / else (alone in its schema), $ref
// to "#/$defs/...", default.
// A validator from a library says only that something does not fit; here an error carries the place and the nearest legal
// key.
#pragma once
#include <string>
#include <vector>

#include "core/base/json.hpp"

namespace quern {

struct SchemaIssue {
  std::string pointer;   // of the offending value
  bool at_key = false;   // point at the key rather than at the value
  std::string message, hint;
};

struct SchemaResult {
  json::value value;               // normalised; only meaningful when there are no issues
  std::vector<SchemaIssue> issues;
};

// `pointer`: where `value` stands in its document; prefix of the pointers in the issues.
SchemaResult apply_schema(const json::value& schema, const json::value& value, const std::string& pointer = "");

}  // namespace quern
