// What came out, for people (text), for tools (JSON) and for test servers (JUnit).
#pragma once
#include <string>
#include <vector>

#include "core/base/json.hpp"

namespace quern::conform {

inline constexpr int kit_version = 1;

struct Result { std::string id, verdict, text, unit; double seconds = 0; };
struct LevelResult {
  int level = 0;
  std::vector<Result> results;
  double seconds = 0;
  bool cut = false;  // ended early: too many failures
  int64_t count(const char* verdict) const;
};
struct Report {
  std::string path, id, version, target;
  uint64_t seed = 1;
  std::vector<LevelResult> levels;
  std::vector<std::string> left_out;
  json::array profiles;
  int64_t failures() const;
  bool approximate() const;
  std::string badge() const;             // "hardware-true, quern-conform 1, levels 0-6"
  std::string reproduce(const std::string& id) const;
};

std::string level_line(const LevelResult& level);
std::string finding_lines(const Report& report, const Result& result);
std::string summary(const Report& report);
json::value to_json(const Report& report);
std::string to_junit(const Report& report);

}  // namespace quern::conform
