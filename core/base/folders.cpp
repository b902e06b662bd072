#include "core/base/folders.hpp"

#include <dirent.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

namespace quern {

std::vector<std::string> names_in(const std::filesystem::path& folder, std::error_code& error) {
  error.clear();
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> open(::opendir(folder.c_str()), &::closedir);
  if (!open) {
    error.assign(errno, std::generic_category());
    return names;
  }
  for (;;) {
    errno = 0;
    const dirent* entry = ::readdir(open.get());
    if (!entry) break;
    if (std::strcmp(entry->d_name, ".") != 0 && std::strcmp(entry->d_name, "..") != 0) names.emplace_back(entry->d_name);
  }
  if (errno != 0) error.assign(errno, std::generic_category());
  return names;
}

void remove_tree(const std::filesystem::path& path) noexcept {
  if (::unlink(path.c_str()) == 0 || errno == ENOENT) return;
  try {
    std::error_code error;
    for (const std::string& name : names_in(path, error)) remove_tree(path / name);
  } catch (const std::exception&) {  // no memory for the names: the rest stays
  }
  ::rmdir(path.c_str());
}

}  // namespace quern
