// YAML as configurations use it, turned into JSON with a position for every value and key.
//
// A strict subset with the rules of YAML 1.2: `no`, `off` and `yes` are words, not booleans; numbers are read without regard
// to the locale; a key written twice, a tag of an application and a second document are errors. Aliases are expanded, with
// a limit on the size of the result, so that a small file can't become a huge one.
//
//   Document d = parse_yaml(text, "pipeline.yaml");
//   d.value.at("target").at("preset");  d.position("/target/preset").line
#pragma once
#include <map>
#include <string>
#include <string_view>

#include "core/base/error.hpp"
#include "core/base/json.hpp"

namespace quern {

struct Position {
  int line = 0, column = 0;  // from 1; 0: none
  std::string source;        // "" = the document's file; else for example "--set target.preset=x"
};

struct Document {
  json::value value;
  std::string file;
  std::map<std::string, Position> values, keys;  // by JSON pointer

  // Of the value, or of the nearest one above it that has a position.
  Position position(const std::string& pointer, bool key = false) const;
  // Error(config) at that place.
  Error error(const std::string& pointer, const std::string& message, bool key = false) const;
};

inline constexpr size_t yaml_node_limit = 100'000;  // values after aliases are expanded
inline constexpr int yaml_depth_limit = 48;

Document parse_yaml(std::string_view text, const std::string& file_name);
// Block style, one key a line, lists of plain values on one line. parse_yaml(to_yaml(v)) == v.
std::string to_yaml(const json::value& value);

// One step down a JSON pointer ("/a" + "b/c" -> "/a/b~1c").
std::string child(const std::string& pointer, std::string_view key);
std::string child(const std::string& pointer, size_t index);

}  // namespace quern
