// Compiled programs on disk, so that the second process does not compile them again: $QUERN_CACHE_DIR, else $XDG_CACHE_HOME/quern, else
// ~/.cache/quern. A file that is damaged, or not ours, counts as absent; a file that can't be written is not written.
#pragma once
#include <string>
#include <vector>

namespace quern_gpu {

// All that a binary depends on. A file is taken only where all of it is the same, byte for byte.
struct ProgramKey { std::string device, version, driver, source; };

std::vector<unsigned char> cached_program(const ProgramKey& key);  // empty: there is none
void keep_program(const ProgramKey& key, const std::vector<unsigned char>& binary);
std::string program_file(const ProgramKey& key);  // "" where no folder is known

}  // namespace quern_gpu
