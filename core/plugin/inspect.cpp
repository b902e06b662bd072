// Checks that need no loading. Order: who could have changed the file, what it is, what it says about itself.
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/base/error.hpp"
#include "core/plugin/elf.hpp"
#include "core/plugin/manifest.hpp"
#include "quern/abi.h"

namespace quern {
namespace {

constexpr const char* entry_symbol = "quern_plugin_entry_v1";

void check_owner(const struct stat& info, const std::string& what) {
  const bool sticky = S_ISDIR(info.st_mode) && (info.st_mode & S_ISVTX);
  if (!sticky && (info.st_mode & (S_IWGRP | S_IWOTH)))
    throw Error(ErrorCode::plugin, fmt::format("{} may be written by {} (mode {:o})", what,
                                               (info.st_mode & S_IWOTH) ? "everybody" : "its group", info.st_mode & 07777))
        .hint("chmod go-w");
  if (info.st_uid != 0 && info.st_uid != ::geteuid())
    throw Error(ErrorCode::plugin, fmt::format("{} belongs to user {}, who is neither root nor you", what, info.st_uid));
}

struct stat stat_of(const fs::path& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0)
    throw Error(ErrorCode::plugin, errno == ENOENT ? "does not exist" : fmt::format("can't be read: {}", std::strerror(errno)));
  return info;
}

}  // namespace

void check_ownership(const fs::path& path) {
  const struct stat file = stat_of(path);
  if (S_ISDIR(file.st_mode)) throw Error(ErrorCode::plugin, "is a folder, not a plugin");
  if (!S_ISREG(file.st_mode)) throw Error(ErrorCode::plugin, "is not a regular file");
  check_owner(file, "the file");
  // The folder of the file itself, and that of the link by which it was found.
  std::error_code error;
  const fs::path real = fs::canonical(path, error);
  if (error) throw Error(ErrorCode::plugin, fmt::format("can't be read: {}", error.message()));
  for (const fs::path& folder : {fs::absolute(path).parent_path(), real.parent_path()})
    check_owner(stat_of(folder), fmt::format("its folder {}", folder.string()));
}

Manifest inspect_plugin(const fs::path& path) {
  check_ownership(path);
  std::shared_ptr<const MappedFile> file;
  try {
    file = MappedFile::open(path);
  } catch (const Error& e) {
    throw Error(ErrorCode::plugin, e.message());
  }
  const ElfView elf(file->bytes());
  if (!elf.problem().empty()) throw Error(ErrorCode::plugin, elf.problem());
  const auto section = elf.section(".quern");
  if (!section) throw Error(ErrorCode::plugin, "is a shared object without a Quern manifest (no section .quern)");
  Manifest m = parse_manifest(manifest_text(*section), path.string());
  if (m.abi_major != QUERN_ABI_MAJOR)
    throw Error(ErrorCode::plugin, fmt::format("is built for plugin interface {}.{}; this Quern has {}.{}", m.abi_major, m.abi_minor,
                                               QUERN_ABI_MAJOR, QUERN_ABI_MINOR));
  if (m.abi_minor > QUERN_ABI_MINOR)
    throw Error(ErrorCode::plugin, fmt::format("needs plugin interface {}.{}; this Quern has {}.{}", m.abi_major, m.abi_minor,
                                               QUERN_ABI_MAJOR, QUERN_ABI_MINOR))
        .hint("install a newer Quern");
  const auto symbols = elf.exported_symbols();
  if (std::find(symbols.begin(), symbols.end(), entry_symbol) == symbols.end())
    throw Error(ErrorCode::plugin, fmt::format("does not export {}", entry_symbol));
  for (const std::string& folder : elf.run_paths())
    if (folder.empty() || (folder[0] != '/' && folder.rfind("$ORIGIN", 0) != 0 && folder.rfind("${ORIGIN}", 0) != 0))
      throw Error(ErrorCode::plugin, fmt::format("looks for libraries in the relative path '{}' (RPATH)", folder));
  return m;
}

}  // namespace quern
