// What the fuzz targets share. A target is one source of this folder: it defines
//
//   int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);   // must not crash, hang or take memory without bounds
//   std::vector<Seed> quern::fuzz::seeds();                         // inputs to begin with
//
// and is started by scripts/fuzz.sh. With QUERN_FUZZ_SEEDS=FOLDER in its environment a target writes its seeds and ends.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.hpp"

namespace quern::fuzz {

struct Seed { std::string name, bytes; };
std::vector<Seed> seeds();

inline std::string_view text_of(const uint8_t* data, size_t size) { return {reinterpret_cast<const char*>(data), size}; }

// Whatever is wrong with an input is to be told as an Error that is no fault of Quern. Anything else ends the process, which
// the fuzzer reports: an exception of another type by itself.
template <class F>
bool tolerate(F&& body) {
  try {
    body();
    return true;
  } catch (const Error& e) {
    if (e.code() == ErrorCode::internal) {
      std::fprintf(stderr, "an internal error: %s\n", e.what());
      std::abort();
    }
    if (std::string_view(e.what()).empty()) std::abort();
    return false;
  }
}

inline void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

// Files of the project, for seeds. QUERN_SOURCE_DIR names it.
std::string source_file(const std::string& path);
// A file in memory, for readers that want a path; gone with the object.
class MemoryFile {
 public:
  MemoryFile();
  ~MemoryFile();
  void set(std::string_view bytes);
  const std::string& path() const { return path_; }

 private:
  int fd_ = -1;
  std::string path_;
};
// A folder in memory for this process.
std::string memory_folder();

}  // namespace quern::fuzz
