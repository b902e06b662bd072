// JSON as the host reads and writes it (Boost.JSON behind).
//
// Reading: errors carry file, line and column; a duplicate key is an error (the library would keep the last); depth is
// limited to 64. `relaxed` allows // and /* */ comments and trailing commas, as POT's files have them.
// Writing: keys in the order of insertion, two spaces of indent, floats in the shortest form that reads back to the
// same value (f32 values as f32), no locale: the same value always gives the same bytes.
#pragma once
#include <boost/json.hpp>
#include <string>
#include <string_view>

namespace quern {

namespace json = boost::json;

json::value parse_json(std::string_view text, const std::string& file_name, bool relaxed = false);
std::string to_text(const json::value& value, bool indent = true);

// The shortest decimal that reads back to exactly this float, as a double for JSON.
double json_number(float value);

// Nearest word of `choices` for a message: " (did you mean 'preset'?)", or "" when nothing is near.
std::string did_you_mean(std::string_view word, const std::vector<std::string>& choices);
std::string list_of(const std::vector<std::string>& words);  // "a, b and c"

}  // namespace quern
