// Logging of the host, to standard error. Standard output belongs to results.
// Levels: error, warning, info, debug. `once` prints a text a single time per process.
#pragma once
#include <fmt/format.h>

#include <string_view>

namespace quern::log {

enum class Level { error, warning, info, debug };

void set_level(Level level);
bool set_level(std::string_view name);  // "error", "warning", "info", "debug"; false when unknown
void write(Level level, std::string_view text);
void warning_once(std::string_view text);

template <class... A> void error(fmt::format_string<A...> f, A&&... a) { write(Level::error, fmt::format(f, std::forward<A>(a)...)); }
template <class... A> void warning(fmt::format_string<A...> f, A&&... a) { write(Level::warning, fmt::format(f, std::forward<A>(a)...)); }
template <class... A> void info(fmt::format_string<A...> f, A&&... a) { write(Level::info, fmt::format(f, std::forward<A>(a)...)); }
template <class... A> void debug(fmt::format_string<A...> f, A&&... a) { write(Level::debug, fmt::format(f, std::forward<A>(a)...)); }

}  // namespace quern::log
