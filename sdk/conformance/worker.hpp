// The side that touches the plugin. Lines in: case ids. Lines out, as JSON: what became of each. The process may die at any moment;
// the other side (supervisor.hpp) knows which case was running.
#pragma once
#include <string>

#include "core/base/files.hpp"

namespace quern::conform {

struct WorkerArguments {
  fs::path plugin;
  std::string profile;
  uint64_t seed = 1;
  int report = 3;  // the pipe for answers
};
int work(const WorkerArguments& arguments);

}  // namespace quern::conform
