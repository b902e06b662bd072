#include "core/pipeline/progress.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace quern {
namespace {

std::string bytes_text(int64_t bytes) {
  return bytes >= int64_t{1} << 30 ? fmt::format("{:.2f} GiB", static_cast<double>(bytes) / (1 << 30))
                                   : fmt::format("{:.0f} MiB", static_cast<double>(bytes) / (1 << 20));
}

std::string time_text(double seconds) {
  if (seconds < 60) return fmt::format("{:.1f} s", seconds);
  const auto s = static_cast<int64_t>(seconds);
  return s < 3600 ? fmt::format("{}:{:02}", s / 60, s % 60) : fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

void put(const std::string& text) {
  (void)!::write(STDERR_FILENO, text.data(), text.size());
}

}  // namespace

int64_t peak_memory_bytes() {
  // Not getrusage: its figure is inherited through exec from whoever started the process.
  int64_t kilobytes = 0;
  if (std::FILE* status = std::fopen("/proc/self/status", "re")) {
    char line[128];
    while (std::fgets(line, sizeof line, status))
      if (std::strncmp(line, "VmHWM:", 6) == 0) kilobytes = std::strtoll(line + 6, nullptr, 10);
    std::fclose(status);
  }
  return kilobytes * 1024;
}

Progress::Progress(ProgressStyle style) : style_(style) {
  if (style_ == ProgressStyle::automatic) style_ = ::isatty(STDERR_FILENO) ? ProgressStyle::terminal : ProgressStyle::lines;
}
Progress::~Progress() = default;

Progress::Stage::Stage(Progress* owner, std::string name, int64_t total)
    : owner_(owner), name_(std::move(name)), total_(total), start_(std::chrono::steady_clock::now()), shown_(start_) {
  if (owner_ && owner_->style_ == ProgressStyle::terminal) show(false);
}

Progress::Stage::~Stage() {
  if (!owner_) return;
  std::lock_guard lock(owner_->mutex_);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  try {
    owner_->seconds_.emplace_back(name_, seconds);
    show(true);
  } catch (...) {  // a progress line is not worth an error
  }
}

void Progress::Stage::advance(int64_t by) {
  if (!owner_) return;
  std::lock_guard lock(owner_->mutex_);
  done_ += by;
  if (owner_->style_ == ProgressStyle::silent) return;
  const auto now = std::chrono::steady_clock::now();
  const auto pause = owner_->style_ == ProgressStyle::terminal ? std::chrono::milliseconds(100) : std::chrono::milliseconds(5000);
  if (now - shown_ < pause) return;
  shown_ = now;
  show(false);
}

void Progress::Stage::show(bool end) {
  if (owner_->style_ == ProgressStyle::silent) return;
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  std::string text = fmt::format("{:<22}", name_);
  if (total_ > 0) text += fmt::format(" {:>6}/{}", done_, total_);
  if (done_ > 0 && seconds > 0.05) text += fmt::format("  {:.1f}/s", static_cast<double>(done_) / seconds);
  if (end) {
    text += fmt::format("  {}", time_text(seconds));
  } else if (done_ > 0 && total_ > done_) {
    text += fmt::format("  {} left", time_text(seconds / static_cast<double>(done_) * static_cast<double>(total_ - done_)));
  }
  text += "  peak " + bytes_text(peak_memory_bytes());
  if (owner_->style_ == ProgressStyle::terminal) put("\r\033[K" + text + (end ? "\n" : ""));
  else put(text + "\n");
}

}  // namespace quern
