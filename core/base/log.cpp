#include "core/base/log.hpp"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <mutex>
#include <set>
#include <string>

namespace quern::log {
namespace {
spdlog::logger& logger() {
  static auto instance = [] {
    auto l = std::make_shared<spdlog::logger>("quern", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    l->set_pattern("quern: %l: %v");
    l->set_level(spdlog::level::info);
    l->flush_on(spdlog::level::trace);
    return l;
  }();
  return *instance;
}
spdlog::level::level_enum level_of(Level level) {
  switch (level) {
    case Level::error: return spdlog::level::err;
    case Level::warning: return spdlog::level::warn;
    case Level::info: return spdlog::level::info;
    default: return spdlog::level::debug;
  }
}
}  // namespace

void set_level(Level level) { logger().set_level(level_of(level)); }
bool set_level(std::string_view name) {
  if (name == "error") set_level(Level::error);
  else if (name == "warning") set_level(Level::warning);
  else if (name == "info") set_level(Level::info);
  else if (name == "debug") set_level(Level::debug);
  else return false;
  return true;
}
void write(Level level, std::string_view text) { logger().log(level_of(level), "{}", text); }
void warning_once(std::string_view text) {
  static std::mutex mutex;
  static std::set<std::string, std::less<>> seen;
  {
    std::lock_guard lock(mutex);
    if (!seen.emplace(text).second) return;
  }
  write(Level::warning, text);
}

}  // namespace quern::log
