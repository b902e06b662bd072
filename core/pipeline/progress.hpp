// Progress of long work, for people: stage, done of total, rate, time left, peak memory. On a terminal one line that is
// rewritten; otherwise a line when a stage begins and ends and every few seconds between. Always on standard error.
//
//   Progress progress(ProgressStyle::automatic);
//   auto stage = progress.stage("statistics", samples);
//   stage.advance();   // from any thread
#pragma once
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace quern {

enum class ProgressStyle { silent, automatic, lines, terminal };

class Progress {
 public:
  explicit Progress(ProgressStyle style = ProgressStyle::silent);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  class Stage {
   public:
    Stage(Progress* owner, std::string name, int64_t total);
    ~Stage();
    Stage(const Stage&) = delete;
    Stage& operator=(const Stage&) = delete;
    void advance(int64_t by = 1);

   private:
    Progress* owner_;
    std::string name_;
    int64_t total_, done_ = 0;
    std::chrono::steady_clock::time_point start_, shown_;
    void show(bool end);
  };
  // `total` 0: not known.
  Stage stage(std::string name, int64_t total = 0) { return Stage(this, std::move(name), total); }

  // Seconds per stage so far, in order; for the report's timing.
  const std::vector<std::pair<std::string, double>>& seconds() const { return seconds_; }

 private:
  ProgressStyle style_;
  std::mutex mutex_;
  std::vector<std::pair<std::string, double>> seconds_;
};

int64_t peak_memory_bytes();  // of this process

}  // namespace quern
