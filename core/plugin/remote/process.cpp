#include "core/plugin/remote/process.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "core/base/error.hpp"
#include "core/base/parallel.hpp"
#include "core/plugin/host.hpp"
#include "core/plugin/remote/codec.hpp"

extern char** environ;

namespace quern::remote {
namespace {

std::string signal_name(int number) {
  const char* abbreviation = ::sigabbrev_np(number);
  return abbreviation ? fmt::format("SIG{}", abbreviation) : fmt::format("signal {}", number);
}

}  // namespace

fs::path helper_program() {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  if (error) return {};
  const fs::path helper = program.parent_path().parent_path() / "lib/quern/quern-plugin-host";
  return fs::exists(helper, error) ? helper : fs::path();
}

Child::Child(const std::string& mode, const fs::path& plugin, File helpers_end) {
  const fs::path helper = helper_program();
  if (helper.empty())
    throw Error(ErrorCode::plugin, "the helper lib/quern/quern-plugin-host is not beside this program, so no plugin can run in a process of its own");
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_init(&attributes);
  // Standard output carries results; what a plugin prints goes where messages go.
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, helpers_end.get(), plugin_socket);
  // A group of its own: Ctrl-C is for the host, which ends its helpers. Signals as any program finds them.
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  const std::string program = helper.string(), file = plugin.string(), parent = std::to_string(::getpid());
  const char* arguments[] = {program.c_str(), mode.c_str(), file.c_str(), parent.c_str(), nullptr};
  const int failure = ::posix_spawn(&pid_, program.c_str(), &actions, &attributes, const_cast<char* const*>(arguments), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (failure != 0) {
    pid_ = -1;
    throw Error(failure == ENOMEM ? ErrorCode::memory : ErrorCode::plugin, fmt::format("{} can't be started: {}", program, ::strerror(failure)));
  }
}

Child::~Child() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {}
}

std::string Child::end() {
  int status = 0;
  pid_t got = 0;
  for (int i = 0; i < 200 && got == 0; ++i) {  // the connection closes a moment before the process is gone
    got = ::waitpid(pid_, &status, WNOHANG);
    if (got == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  if (got == 0) {
    ::kill(pid_, SIGKILL);
    while ((got = ::waitpid(pid_, &status, 0)) < 0 && errno == EINTR) {}
    pid_ = -1;
    return "it closed its connection to the host";
  }
  pid_ = -1;
  if (got > 0 && WIFSIGNALED(status)) return fmt::format("it crashed ({})", signal_name(WTERMSIG(status)));
  if (got > 0 && WIFEXITED(status)) return fmt::format("it ended the process with code {}", WEXITSTATUS(status));
  return "its process is gone";
}

PluginProcess::PluginProcess(fs::path plugin, std::string id, double deadline_seconds)
    : plugin_(std::move(plugin)), id_(std::move(id)), deadline_seconds_(deadline_seconds) {}

Clock::time_point PluginProcess::deadline() const {
  return Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(deadline_seconds_));
}

void PluginProcess::start() {
  if (generation_ > most_restarts)
    throw PluginLost(fmt::format("plugin {}: it is not started again after {} failures; the last: {}", id_, most_restarts, last_reason_));
  ++generation_;
  auto [ours, theirs] = socket_pair();
  auto live = std::make_unique<Live>();
  live->child = std::make_unique<Child>("--serve", plugin_, std::move(theirs));
  live->channel = Channel(std::move(ours));
  Message hello;
  const Transfer t = live->channel.receive(hello, deadline());
  live_ = std::move(live);
  if (t != Transfer::done) {
    const std::string why = give_up(t);
    throw PluginLost(fmt::format("plugin {}: {} while it was loaded", id_, why));
  }
  if (hello.what == failed) live_.reset();
  throw_if_failed(hello, id_, "load");
}

std::string PluginProcess::give_up(Transfer how) {
  if (live_) {
    last_reason_ = how == Transfer::late ? fmt::format("it did not answer within {:g} s", deadline_seconds_)
                   : how == Transfer::cancelled ? "interrupted" : live_->child->end();
    live_.reset();
  }
  throw_if_cancelled();
  return last_reason_;
}

uint64_t PluginProcess::generation() {
  std::lock_guard lock(mutex_);
  if (!live_) start();
  return generation_;
}

std::string PluginProcess::lost(uint64_t generation, Transfer how) {
  std::lock_guard lock(mutex_);
  if (generation != generation_) return last_reason_;  // another thread has seen it
  return give_up(how);
}

Transfer PluginProcess::exchange(Request what, const std::string& request, std::span<const int> files, Message& answer) {
  const auto until = deadline();
  const Transfer sent = live_->channel.send(what, request, until, files);
  return sent == Transfer::done ? live_->channel.receive(answer, until) : sent;
}

Message PluginProcess::call(Request what, const std::string& request, const std::string& doing, std::span<const int> files) {
  std::lock_guard lock(mutex_);
  // A process may have died of something else that ran at the same time, so a crash is believed when it happens twice.
  for (int attempt = 0;; ++attempt) {
    if (!live_) start();
    Message answer;
    const Transfer t = exchange(what, request, files, answer);
    if (t == Transfer::done) {
      throw_if_failed(answer, id_, doing);
      return answer;
    }
    const std::string why = give_up(t);
    if (t == Transfer::late || attempt > 0) throw PluginLost(fmt::format("plugin {}: {}: {}", id_, doing, why));
  }
}

void throw_if_failed(const Message& answer, const std::string& id, const std::string& doing) {
  if (answer.what == answered || answer.what == stale) return;
  if (answer.what != failed) throw PluginLost(fmt::format("plugin {}: {}: its process answers nonsense", id, doing));
  Reader r(answer.bytes);
  const int32_t code = r.number<int32_t>();
  throw Error(code == static_cast<int32_t>(ErrorCode::memory) ? ErrorCode::memory : ErrorCode::plugin, r.text());
}

}  // namespace quern::remote
