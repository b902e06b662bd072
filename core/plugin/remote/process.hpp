// The process that a plugin runs in (the helper `quern-plugin-host`): started when it is needed, given up with a reason when it
// crashes, ends or does not answer in time, and started again. Started with posix_spawn: a fork of a process that has used OpenMP hangs.
// Threads: everything may be called from several threads; calls on the main channel are made one after the other.
#pragma once
#include <sys/types.h>

#include <memory>
#include <mutex>
#include <string>

#include "core/base/files.hpp"
#include "core/plugin/plugin.hpp"
#include "core/plugin/remote/channel.hpp"

namespace quern::remote {

// Requests on the main channel; every one begins with the seed (u64). Answers: `answered` with a result, `failed` with an error code and a
// text, `stale` when a process that was started later does not know the kernel.
enum Request : uint32_t { rules_request = 1, available_request, supports_request, derive_request, compile_request, forget_request, cost_request, context_request, execute_request };
enum Answer : uint32_t { answered = 100, failed, stale };

inline constexpr int plugin_socket = 3;  // the helper's end
inline constexpr int most_restarts = 20;

fs::path helper_program();  // <prefix>/lib/quern/quern-plugin-host beside the running program; empty if it is not there

// A started helper; killed and waited for at the end.
class Child {
 public:
  // `mode`: --serve or --probe. Error(plugin) when it can't be started.
  Child(const std::string& mode, const fs::path& plugin, File helpers_end);
  ~Child();
  // Why it is gone: waits shortly for its end, kills it after that. "it crashed (SIGSEGV)", "it ended the process with code 3".
  std::string end();

 private:
  pid_t pid_ = -1;
};

class PluginProcess {
 public:
  PluginProcess(fs::path plugin, std::string id, double deadline_seconds);
  // One request and its answer. PluginLost when the process died of it twice, or once did not answer in time; Error as the plugin
  // answered. `files` are handed over with it.
  Message call(Request what, const std::string& request, const std::string& doing, std::span<const int> files = {});
  // Counts starts; what was made in an earlier process is gone.
  uint64_t generation();
  // Somebody saw the process of this generation die (or hang): ends it, and says why.
  std::string lost(uint64_t generation, Transfer how);
  Clock::time_point deadline() const;
  const std::string& id() const { return id_; }

 private:
  struct Live { std::unique_ptr<Child> child; Channel channel; };
  void start();               // under mutex_
  std::string give_up(Transfer how);  // under mutex_
  Transfer exchange(Request what, const std::string& request, std::span<const int> files, Message& answer);
  fs::path plugin_;
  std::string id_, last_reason_;
  double deadline_seconds_;
  std::mutex mutex_;
  std::unique_ptr<Live> live_;
  uint64_t generation_ = 0;
};

// Turns `failed` into the Error that it tells of.
void throw_if_failed(const Message& answer, const std::string& id, const std::string& doing);

}  // namespace quern::remote
