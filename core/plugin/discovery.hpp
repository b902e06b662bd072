// Where plugins are looked for, in order.
#pragma once
#include <vector>

#include "core/plugin/plugin.hpp"

namespace quern {

struct Candidate {
  fs::path path;
  bool asked_for = false;   // named by the user (option or environment), so a defect is worth a warning
  bool bundled = false;     // lies in the folder that was installed with this program
  std::string problem;      // why it can't even be looked at: does not exist, folder can't be read
};

// Every file to look at: files as named, and of folders what ends in ".so", sorted by name, not recursively. A file that is
// reached twice is there once.
std::vector<Candidate> find_candidates(const PluginOptions& options);

}  // namespace quern
