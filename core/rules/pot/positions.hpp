// Where values stand in JSON text that has been parsed, comments allowed: for errors about what a value says..
#pragma once
#include <map>
#include <string>
#include <string_view>

namespace quern {

struct TextPosition { int line = 0, column = 0; };

// By JSON pointer without escapes ("/operations/3/type"); the root is "".
std::map<std::string, TextPosition> positions_in_json(std::string_view text);

}  // namespace quern
