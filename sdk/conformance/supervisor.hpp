// The side that never loads the plugin: starts a worker (posix_spawn of this same program), asks it case by case, and knows what
// happened when no answer comes.
#pragma once
#include <sys/types.h>

#include "core/base/json.hpp"
#include "sdk/conformance/worker.hpp"

namespace quern::conform {

class Supervisor {
 public:
  Supervisor(const WorkerArguments& arguments, double deadline_seconds);
  ~Supervisor();
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;

  // The answer, or {"died": "killed by signal 11 ..."}; then this worker is gone.
  json::object ask(const std::string& line);
  // Lets the worker end by itself: "" when it does so well.
  std::string finish();

 private:
  std::string read_line(double seconds, bool* ended);
  std::string cause_of_death(bool hung);
  std::string said() const;  // the end of what it wrote to standard error
  void kill();

  double deadline_;
  pid_t pid_ = -1;
  int to_ = -1, from_ = -1, output_ = -1;
  std::string buffer_, last_words_;
};

}  // namespace quern::conform
