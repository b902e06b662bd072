#include "core/rules/pot/file.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/numeric/quantization.hpp"

namespace quern {
namespace {

using Words = std::vector<std::string>;

bool has(const Words& list, const std::string& word) { return std::find(list.begin(), list.end(), word) != list.end(); }
std::string shown(const std::string& pointer) { return pointer.empty() ? "the file" : "'" + pointer.substr(1) + "'"; }

}  // namespace

Error PotFile::error(const std::string& pointer, const std::string& message) const {
  const auto at = places_.find(pointer);
  const TextPosition p = at == places_.end() ? TextPosition{} : at->second;
  return Error(ErrorCode::config, message).at_file(file_, p.line, p.column);
}
const json::object& PotFile::object_at(const json::value& v, const std::string& pointer) const {
  if (!v.is_object()) throw error(pointer, fmt::format("{} should be an object ({{...}})", shown(pointer)));
  return v.get_object();
}
const json::array& PotFile::array_at(const json::value& v, const std::string& pointer) const {
  if (!v.is_array()) throw error(pointer, fmt::format("{} should be a list ([...])", shown(pointer)));
  return v.get_array();
}
const json::value& PotFile::needed(const json::object& o, const std::string& pointer, const char* key) const {
  if (const auto* v = o.if_contains(key)) return *v;
  Words keys;
  for (const auto& [name, v] : o) keys.emplace_back(name);
  const std::string near = keys.empty() ? "" : fmt::format("; it has {}", list_of(keys));
  throw error(pointer, fmt::format("{} lacks '{}'{}", shown(pointer), key, near));
}
std::string PotFile::text_at(const json::object& o, const std::string& pointer, const char* key) const {
  const json::value& v = needed(o, pointer, key);
  if (!v.is_string() || v.get_string().empty()) throw error(fmt::format("{}/{}", pointer, key), fmt::format("'{}' should be text", key));
  return std::string(v.get_string());
}
int64_t PotFile::whole(const json::value& v, const std::string& pointer, int64_t low, int64_t high) const {
  if (!v.is_int64() || v.get_int64() < low || v.get_int64() > high)
    throw error(pointer, fmt::format("{} should be a whole number from {} to {}", shown(pointer), low, high));
  return v.get_int64();
}
void PotFile::skip(const std::string& what, const std::string& why) {
  const std::string line = what + ": " + why;
  if (!has(skipped, line)) skipped.push_back(line);
}

// Every list of an alias against every other, the last key of the file running fastest.
std::vector<Numbers> PotFile::expand(const json::object& alias, const std::string& at) {
  static const Words known = {"bits", "mode", "granularity", "level_low", "level_high", "unified_zeropoint"};
  std::vector<Numbers> all(1);
  if (!alias.contains("bits")) (void)needed(alias, at, "bits");
  for (const auto& [name, v] : alias) {
    const std::string key(name), here = at + "/" + key;
    if (!has(known, key)) {
      const std::string near = did_you_mean(key, known);
      if (!near.empty()) throw error(here, fmt::format("unknown key '{}'{}", key, near));
      skip(fmt::format("'{}' of {}", key, shown(at)), "what it means is not known here");
      continue;
    }
    std::vector<Numbers> more;
    for (const Numbers& before : all) {
      if (!v.is_array()) {
        more.push_back(with(before, key, v, here));
      } else {
        if (v.get_array().empty()) throw error(here, fmt::format("'{}' is an empty list", key));
        for (size_t i = 0; i < v.get_array().size(); ++i) more.push_back(with(before, key, v.get_array()[i], fmt::format("{}/{}", here, i)));
      }
    }
    all = std::move(more);
    if (all.size() > 256) throw error(at, "stands for more than 256 combinations");
  }
  for (const Numbers& n : all) check_levels(n, at);
  return all;
}

Numbers PotFile::with(Numbers n, const std::string& key, const json::value& v, const std::string& at) const {
  const auto word = [&](const Words& legal) {
    if (v.is_string() && has(legal, std::string(v.get_string()))) return std::string(v.get_string());
    throw error(at, fmt::format("'{}' should be {}{}", key, fmt::join(legal, " or "), v.is_string() ? did_you_mean(std::string_view(v.get_string()), legal) : ""));
  };
  if (key == "bits") n.bits = whole(v, at, 1, 32);
  else if (key == "mode") n.symmetric = word({"symmetric", "asymmetric"}) == "symmetric";
  else if (key == "granularity") n.per_channel = word({"pertensor", "perchannel"}) == "perchannel";
  else if (key == "level_low") n.low = whole(v, at, -(int64_t{1} << 31), int64_t{1} << 31);
  else if (key == "level_high") n.high = whole(v, at, -(int64_t{1} << 31), int64_t{1} << 32);
  else {
    if (!v.is_bool()) throw error(at, "'unified_zeropoint' should be true or false");
    n.unified = v.get_bool();
  }
  return n;
}

void PotFile::check_levels(const Numbers& n, const std::string& at) const {
  if (n.low.has_value() != n.high.has_value()) throw error(at, "has one of level_low and level_high; both are needed");
  if (!n.low) return;
  const NumberFormat full = make_format(static_cast<int>(n.bits), *n.low < 0, false);
  if (*n.low < full.qmin || *n.high > full.qmax || *n.low >= *n.high)
    throw error(at, fmt::format("levels {}..{} do not fit {} bits ({}..{})", *n.low, *n.high, n.bits, full.qmin, full.qmax));
  if (n.symmetric && (*n.low > 0 || *n.high < 0)) throw error(at, fmt::format("symmetric levels {}..{} lack zero", *n.low, *n.high));
}

std::vector<Numbers> PotFile::group(const json::object& quantization, const char* key, const std::string& at) {
  const auto* v = quantization.if_contains(key);
  const std::string here = fmt::format("{}/{}", at, key);
  std::vector<Numbers> out;
  const auto add = [&](const json::value& one, const std::string& place) {
    if (one.is_object()) {
      for (const Numbers& n : expand(one.get_object(), place)) out.push_back(n);
      return;
    }
    if (!one.is_string()) throw error(place, fmt::format("{} should be the name of a quantization", shown(place)));
    const std::string name(one.get_string());
    const auto alias = aliases_.find(name);
    if (alias == aliases_.end())
      throw error(place, fmt::format("there is no quantization '{}'{}; there are {}", name, did_you_mean(name, alias_names_), list_of(alias_names_)));
    for (const Numbers& n : alias->second) out.push_back(n);
  };
  if (!v) return out;
  if (!v->is_array()) add(*v, here);
  else for (size_t i = 0; i < v->get_array().size(); ++i) add(v->get_array()[i], fmt::format("{}/{}", here, i));
  return out;
}

void PotFile::read_aliases(const json::object& quantization, const std::string& at) {
  for (const auto& [name, v] : quantization) {
    const std::string here = fmt::format("{}/{}", at, std::string_view(name));
    aliases_[std::string(name)] = expand(object_at(v, here), here);
    alias_names_.emplace_back(name);
  }
}

}  // namespace quern
