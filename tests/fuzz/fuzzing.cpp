#include "tests/fuzz/fuzzing.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "core/base/log.hpp"

namespace quern::fuzz {

std::string source_file(const std::string& path) {
  const char* root = std::getenv("QUERN_SOURCE_DIR");
  const std::string full = std::string(root ? root : ".") + "/" + path;
  std::ifstream file(full, std::ios::binary);
  if (!file) {
    std::fprintf(stderr, "no seed from %s: it can't be read\n", full.c_str());
    std::exit(2);
  }
  return {std::istreambuf_iterator<char>(file), {}};
}

MemoryFile::MemoryFile() : fd_(::memfd_create("fuzz", MFD_CLOEXEC)) {
  expect(fd_ >= 0, "memfd_create");
  path_ = "/proc/self/fd/" + std::to_string(fd_);
}
MemoryFile::~MemoryFile() { ::close(fd_); }
void MemoryFile::set(std::string_view bytes) {
  expect(::ftruncate(fd_, 0) == 0, "ftruncate");
  expect(::pwrite(fd_, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()), "pwrite");
}

std::string memory_folder() {
  const std::string shm = "/dev/shm";
  const std::string folder = (std::filesystem::is_directory(shm) ? shm : std::filesystem::temp_directory_path().string()) + "/quern-fuzz-" + std::to_string(::getpid());
  std::filesystem::create_directories(folder);
  return folder;
}

}  // namespace quern::fuzz

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  quern::log::set_level(quern::log::Level::error);
  if (const char* folder = std::getenv("QUERN_FUZZ_SEEDS")) {
    std::filesystem::create_directories(folder);
    for (const auto& [name, bytes] : quern::fuzz::seeds()) std::ofstream(std::string(folder) + "/" + name, std::ios::binary) << bytes;
    std::exit(0);
  }
  return 0;
}
