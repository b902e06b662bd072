// What one expects to find in a configuration of POT, or an error at its place. Private to pot_config.cpp.
#pragma once
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.hpp"
#include "core/pipeline/pot_words.hpp"
#include "core/pipeline/yaml.hpp"

namespace quern {

class PotReader {
 public:
  using Words = std::vector<std::string>;
  explicit PotReader(const Document& in) : in_(in) {}

 protected:
  const Document& in_;

  // What is known, and has no counterpart: `at` is its place, or its key.
  [[noreturn]] void refuse(const std::string& at, const std::string& what, std::string_view instead, bool key = true) const {
    throw in_.error(at, fmt::format("{} is not taken: {}", what, instead), key);
  }

  const json::object& mapping(const json::value& v, const std::string& at) const {
    if (!v.is_object()) throw in_.error(at, fmt::format("'{}' should be a mapping", at.empty() ? "the configuration" : at.substr(at.rfind('/') + 1)));
    return v.get_object();
  }
  std::string text(const json::value& v, const std::string& at) const {
    if (!v.is_string() || v.get_string().empty()) throw in_.error(at, fmt::format("'{}' should be a text that is not empty", at.substr(at.rfind('/') + 1)));
    return std::string(v.get_string());
  }
  bool boolean(const json::value& v, const std::string& at) const {
    if (!v.is_bool()) throw in_.error(at, fmt::format("'{}' should be true or false", at.substr(at.rfind('/') + 1)));
    return v.get_bool();
  }
  int64_t whole(const json::value& v, const std::string& at, int64_t low) const {
    if (!v.is_int64() || v.get_int64() < low) throw in_.error(at, fmt::format("'{}' should be a whole number, at least {}", at.substr(at.rfind('/') + 1), low));
    return v.get_int64();
  }
  double number(const json::value& v, const std::string& at) const {
    if (!v.is_number()) throw in_.error(at, fmt::format("'{}' should be a number", at.substr(at.rfind('/') + 1)));
    return v.to_number<double>();
  }
  std::string one_of(const json::value& v, const std::string& at, const Words& words) const {
    const std::string word = text(v, at);
    if (std::find(words.begin(), words.end(), word) == words.end())
      throw in_.error(at, fmt::format("'{}' has no value '{}'{}; it has {}", at.substr(at.rfind('/') + 1), word, did_you_mean(word, words), list_of(words)));
    return word;
  }
  void only(const json::object& o, const std::string& at, const Words& known) const {
    for (const auto& [k, v] : o) {
      const std::string key(k);
      if (std::find(known.begin(), known.end(), key) == known.end())
        throw in_.error(child(at, key), fmt::format("unknown key '{}'{}", key, did_you_mean(key, known)), true).hint("here can stand: " + list_of(known));
    }
  }
  template <size_t N> void refuse_words(const json::object& o, const std::string& at, const RefusedWord (&words)[N]) const {
    for (const auto& [key, v] : o)
      for (const RefusedWord& w : words)
        if (key == w.word) refuse(child(at, key), fmt::format("'{}'", w.word), w.instead);
  }
  // A key of which only POT's default can be meant here.
  void only_false(const json::object& o, const std::string& at, const char* key, std::string_view instead) const {
    if (const auto* v = o.if_contains(key))
      if (boolean(*v, child(at, key))) refuse(child(at, key), fmt::format("'{}: true'", key), instead, false);
  }
};

}  // namespace quern
