// One of POT's hardware files as it is read: errors at their place, quantizations with their lists multiplied out. Private to core/rules.
#pragma once
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.hpp"
#include "core/base/json.hpp"
#include "core/rules/pot/positions.hpp"

namespace quern {

// One combination of an alias's lists.
struct Numbers {
  int64_t bits = 8;
  bool symmetric = true, per_channel = false, unified = false;
  std::optional<int64_t> low, high;
};

class PotFile {
 public:
  PotFile(std::string_view text, const std::string& file)
      : file_(file), document_(parse_json(text, file, true)), places_(positions_in_json(text)) {}
  const json::value& document() const { return document_; }
  const std::string& name() const { return file_; }

  // At the place of a JSON pointer.
  Error error(const std::string& pointer, const std::string& message) const;
  const json::object& object_at(const json::value& v, const std::string& pointer) const;
  const json::array& array_at(const json::value& v, const std::string& pointer) const;
  const json::value& needed(const json::object& o, const std::string& pointer, const char* key) const;
  std::string text_at(const json::object& o, const std::string& pointer, const char* key) const;
  int64_t whole(const json::value& v, const std::string& pointer, int64_t low, int64_t high) const;

  void read_aliases(const json::object& quantization, const std::string& at);
  // What a group (activations, weights, outputs) of an operation stands for: aliases by name, or written out.
  std::vector<Numbers> group(const json::object& quantization, const char* key, const std::string& at);

  // What could not be imported, each line once.
  void skip(const std::string& what, const std::string& why);
  std::vector<std::string> skipped;

 private:
  std::vector<Numbers> expand(const json::object& alias, const std::string& at);
  Numbers with(Numbers n, const std::string& key, const json::value& v, const std::string& at) const;
  void check_levels(const Numbers& n, const std::string& at) const;

  std::string file_;
  json::value document_;
  std::map<std::string, TextPosition> places_;
  std::map<std::string, std::vector<Numbers>> aliases_;
  std::vector<std::string> alias_names_;
};

}  // namespace quern
