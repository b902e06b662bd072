#include "sdk/conformance/supervisor.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "core/base/error.hpp"
#include "core/base/parallel.hpp"

namespace quern::conform {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int answers_at = 3;

// Seconds of processor time that a process has used, all threads; -1 when it can't be read.
double used_by(pid_t pid) {
  const int fd = ::open(fmt::format("/proc/{}/stat", pid).c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  char text[1024];
  const ssize_t n = ::read(fd, text, sizeof text - 1);
  ::close(fd);
  if (n <= 0) return -1;
  text[n] = 0;
  const char* rest = std::strrchr(text, ')');  // the name before it may hold anything
  unsigned long user = 0, system = 0;
  if (!rest || std::sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2) return -1;
  return static_cast<double>(user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

std::string program() {
  char path[4096];
  const ssize_t n = ::readlink("/proc/self/exe", path, sizeof path);
  if (n <= 0) throw Error(ErrorCode::internal, "this program can't find itself in /proc");
  return std::string(path, static_cast<size_t>(n));
}

}  // namespace

Supervisor::Supervisor(const WorkerArguments& a, double deadline) : deadline_(deadline) {
  int in[2], out[2];
  output_ = ::memfd_create("output", MFD_CLOEXEC);
  if (output_ < 0 || ::pipe2(in, O_CLOEXEC) != 0) throw Error(ErrorCode::io, std::string("no pipe for a worker: ") + std::strerror(errno));
  if (::pipe2(out, O_CLOEXEC) != 0) throw Error(ErrorCode::io, std::string("no pipe for a worker: ") + std::strerror(errno));
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  // Away from the low numbers first, so that no dup2 covers what a later one needs.
  const int in_high = ::fcntl(in[0], F_DUPFD_CLOEXEC, 20), out_high = ::fcntl(out[1], F_DUPFD_CLOEXEC, 20), output_high = ::fcntl(output_, F_DUPFD_CLOEXEC, 20);
  posix_spawn_file_actions_adddup2(&actions, in_high, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output_high, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output_high, STDERR_FILENO);
  posix_spawn_file_actions_adddup2(&actions, out_high, answers_at);
  const std::string self = program(), seed = std::to_string(a.seed);
  const char* const arguments[] = {self.c_str(), "--worker", a.plugin.c_str(), "--seed", seed.c_str(), "--profile", a.profile.c_str(), nullptr};
  const int failed = ::posix_spawn(&pid_, self.c_str(), &actions, nullptr, const_cast<char* const*>(arguments), environ);
  posix_spawn_file_actions_destroy(&actions);
  for (const int fd : {in[0], out[1], in_high, out_high, output_high}) ::close(fd);
  to_ = in[1];
  from_ = out[0];
  if (failed != 0) throw Error(ErrorCode::io, std::string("a worker can't be started: ") + std::strerror(failed));
}

Supervisor::~Supervisor() {
  kill();
  for (const int fd : {to_, from_, output_})
    if (fd >= 0) ::close(fd);
}

void Supervisor::kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {}
  pid_ = -1;
}

std::string Supervisor::read_line(double seconds, bool* ended) {
  // A busy machine gives little time to a worker that is well: what counts is the processor time it has used, or that it uses none.
  const auto begin = Clock::now();
  auto moved = begin;
  const double used_before = used_by(pid_);
  double used = used_before;
  *ended = false;
  while (true) {
    if (const size_t at = buffer_.find('\n'); at != std::string::npos) {
      std::string line = buffer_.substr(0, at);
      buffer_.erase(0, at + 1);
      return line;
    }
    throw_if_cancelled();
    const double now_used = used_by(pid_);
    if (now_used > used) used = now_used, moved = Clock::now();
    const auto since = [](Clock::time_point t) { return std::chrono::duration<double>(Clock::now() - t).count(); };
    if (used - used_before >= seconds || since(moved) >= seconds || since(begin) >= 20 * seconds) return "";
    pollfd p{from_, POLLIN, 0};
    if (::poll(&p, 1, 250) <= 0) continue;
    char bytes[65536];
    const ssize_t n = ::read(from_, bytes, sizeof bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      *ended = true;
      return "";
    }
    buffer_.append(bytes, static_cast<size_t>(n));
  }
}

std::string Supervisor::said() const {
  struct stat info {};
  if (::fstat(output_, &info) != 0 || info.st_size == 0) return "";
  std::string text(static_cast<size_t>(std::min<off_t>(info.st_size, 300)), '\0');
  const ssize_t n = ::pread(output_, text.data(), text.size(), info.st_size - static_cast<off_t>(text.size()));
  text.resize(n > 0 ? static_cast<size_t>(n) : 0);
  for (char& c : text) if (static_cast<unsigned char>(c) < ' ') c = ' ';
  while (!text.empty() && text.back() == ' ') text.pop_back();
  return text;
}

std::string Supervisor::cause_of_death(bool hung) {
  if (hung) {
    kill();
    return fmt::format("no answer after {:g} s", deadline_);
  }
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {}
  pid_ = -1;
  if (!last_words_.empty()) return last_words_;
  std::string out = WIFSIGNALED(status) ? fmt::format("it kills the process by signal {} ({})", WTERMSIG(status), ::strsignal(WTERMSIG(status)))
                                        : fmt::format("it ends the process with exit code {}", WEXITSTATUS(status));
  if (const std::string text = said(); !text.empty()) out += ": " + text;
  return out;
}

json::object Supervisor::ask(const std::string& line) {
  if (pid_ <= 0) throw Error(ErrorCode::internal, "a dead worker is asked");
  const std::string text = line + "\n";
  if (::write(to_, text.data(), text.size()) != static_cast<ssize_t>(text.size())) return {{"died", cause_of_death(false)}};
  while (true) {
    bool ended = false;
    const std::string got = read_line(deadline_, &ended);
    if (got.empty()) return {{"died", cause_of_death(!ended)}};
    const json::value v = parse_json(got, "a worker's answer");
    if (const auto* words = v.as_object().if_contains("last_words")) {
      last_words_ = words->as_string().c_str();
      continue;
    }
    return v.as_object();
  }
}

std::string Supervisor::finish() {
  if (pid_ <= 0) return "";
  ::close(to_);
  to_ = -1;
  bool ended = false;
  while (!read_line(deadline_, &ended).empty()) {}
  if (!ended) return "the process does not end: " + cause_of_death(true);
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {}
  pid_ = -1;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return "";
  return WIFSIGNALED(status) ? fmt::format("at the end of the process it dies by signal {} ({})", WTERMSIG(status), ::strsignal(WTERMSIG(status)))
                             : fmt::format("at the end of the process the exit code becomes {}", WEXITSTATUS(status));
}

}  // namespace quern::conform
