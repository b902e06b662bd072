// The host's table as plugins get it, and what stands behind its functions.
#pragma once
#include <string>

#include "core/plugin/plugin.hpp"

// Opaque to plugins.
struct quern_status {
  int32_t code = 0;
  std::string message;
};

namespace quern {

// Within this scope, parallel_for of plugins called by this thread uses `threads` threads.
class PluginThreads {
 public:
  explicit PluginThreads(int threads);
  ~PluginThreads();
  PluginThreads(const PluginThreads&) = delete;
  PluginThreads& operator=(const PluginThreads&) = delete;

 private:
  int before_;
};

// A status made by host code that a plugin called back (a sink). Never throws.
quern_status* new_status(int32_t code, std::string message) noexcept;
// The current exception as a status; to be called inside catch (...). Never throws.
quern_status* status_of_exception() noexcept;

inline std::string text_of(quern_str s) { return s.data ? std::string(s.data, s.size) : std::string(); }
inline quern_str str_of(std::string_view s) { return {s.data(), s.size()}; }

template <class T>
T abi_struct() {
  T t{};
  t.h.struct_size = sizeof(T);
  t.h.major = QUERN_ABI_MAJOR;
  t.h.minor = QUERN_ABI_MINOR;
  return t;
}

}  // namespace quern
