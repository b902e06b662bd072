#include "plugins/gpu_opencl/cache.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>

namespace quern_gpu {
namespace {

constexpr char magic[] = "quern.opencl.1\n";

uint64_t digest(const void* data, size_t size, uint64_t h = 0xcbf29ce484222325u) {  // FNV-1a, 64 bits
  const auto* p = static_cast<const unsigned char*>(data);
  for (size_t i = 0; i < size; ++i) h = (h ^ p[i]) * 0x100000001b3u;
  return h;
}

std::string hex(uint64_t v) {
  char text[17];
  std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(v));
  return text;
}

std::string folder() {
  const auto of = [](const char* name) {
    const char* v = std::getenv(name);
    return std::string(v ? v : "");
  };
  if (const std::string own = of("QUERN_CACHE_DIR"); !own.empty()) return own;
  if (const std::string xdg = of("XDG_CACHE_HOME"); !xdg.empty() && xdg[0] == '/') return xdg + "/quern";
  const std::string home = of("HOME");
  return home.empty() ? "" : home + "/.cache/quern";
}

// Everything before the binary: the key itself, so that no two keys are taken for one.
std::string header(const ProgramKey& key) {
  std::string h = magic;
  for (const std::string* part : {&key.device, &key.version, &key.driver, &key.source}) h += std::to_string(part->size()) + "\n" + *part + "\n";
  return h;
}

void make_folders(const std::string& path) {
  for (size_t i = 1; i <= path.size(); ++i)
    if (i == path.size() || path[i] == '/') mkdir(path.substr(0, i).c_str(), 0700);
}

struct Close {
  void operator()(std::FILE* f) const { std::fclose(f); }
};
using File = std::unique_ptr<std::FILE, Close>;

}  // namespace

std::string program_file(const ProgramKey& key) {
  const std::string where = folder(), h = header(key);
  return where.empty() ? "" : where + "/opencl/" + hex(digest(h.data(), h.size())) + ".bin";
}

std::vector<unsigned char> cached_program(const ProgramKey& key) {
  const std::string path = program_file(key), h = header(key);
  const File file(path.empty() ? nullptr : std::fopen(path.c_str(), "rbe"));
  struct stat about {};
  // What another user could have written is not run.
  if (!file || fstat(fileno(file.get()), &about) != 0 || !S_ISREG(about.st_mode) || about.st_uid != geteuid() || (about.st_mode & 022) != 0) return {};
  const auto size = static_cast<size_t>(about.st_size);
  if (size <= h.size() + 17 || size > (size_t{1} << 28)) return {};
  std::vector<unsigned char> all(size);
  if (std::fread(all.data(), 1, size, file.get()) != size) return {};
  const std::string text(all.begin(), all.begin() + static_cast<long>(h.size() + 17));
  const size_t begin = h.size() + 17;
  if (text != h + hex(digest(all.data() + begin, size - begin)) + "\n") return {};
  return {all.begin() + static_cast<long>(begin), all.end()};
}

void keep_program(const ProgramKey& key, const std::vector<unsigned char>& binary) {
  const std::string path = program_file(key);
  if (path.empty()) return;
  make_folders(path.substr(0, path.rfind('/')));
  const std::string temporary = path + "." + std::to_string(getpid());
  const std::string h = header(key) + hex(digest(binary.data(), binary.size())) + "\n";
  bool written = false;
  if (File file{std::fopen(temporary.c_str(), "wbxe")}) {
    written = std::fwrite(h.data(), 1, h.size(), file.get()) == h.size() && std::fwrite(binary.data(), 1, binary.size(), file.get()) == binary.size() &&
              std::fflush(file.get()) == 0 && fchmod(fileno(file.get()), 0600) == 0;
  } else {
    return;
  }
  if (!written || std::rename(temporary.c_str(), path.c_str()) != 0) std::remove(temporary.c_str());
}

}  // namespace quern_gpu
