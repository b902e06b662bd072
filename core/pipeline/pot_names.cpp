#include "core/pipeline/pot_names.hpp"

#include <algorithm>

#include "core/base/json.hpp"

namespace quern {

std::string target_of_pot_name(const std::string& name, const std::vector<std::string>& targets) {
  if (std::find(targets.begin(), targets.end(), name) != targets.end()) return name;
  static const json::value table = parse_json(pot_names(), "pot_names.json");
  std::string upper = name;
  for (char& c : upper)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');  // no locale
  const auto* target = table.get_object().if_contains(upper);
  return target ? std::string(target->get_string()) : name;
}

}  // namespace quern
