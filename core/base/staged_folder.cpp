// StagedFolder: everything is written beside or inside of the folder, and moved into place at the end.
//
// The staging folder is locked as long as its process lives. One that nobody holds and that is not new was left by a process
// that was killed: it is removed. If it was killed in the short time of the moving, what it had replaced goes back first.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <utility>
#include <vector>

#include "core/base/error.hpp"
#include "core/base/files.hpp"
#include "core/base/folders.hpp"

namespace quern {
namespace {

constexpr const char* ending = ".partial";
constexpr const char* replaced = ".replaced";  // what the entries replace, until all are in place
constexpr const char* finished = ".finished";  // its name then
constexpr time_t new_seconds = 60;             // between its making and its locking a folder has no lock

std::atomic<int> moving{0};
static_assert(std::atomic<int>::is_always_lock_free, "committing() is called from signal handlers");

struct Moving {
  Moving() { moving.fetch_add(1); }
  ~Moving() { moving.fetch_sub(1); }
};

Error io_error(const char* doing, const fs::path& path, int number) {
  return Error(ErrorCode::io, fmt::format("{}: {}", doing, std::strerror(number))).at_file(path.string());
}

int open_folder(const fs::path& path) { return ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC); }

// Two processes move one after the other; it takes them milliseconds. Where there are no locks, there is no turn.
void wait_for_turn(int fd, const fs::path& folder) {
  for (int tenths = 0; ::flock(fd, LOCK_EX | LOCK_NB) != 0 && (errno == EWOULDBLOCK || errno == EINTR); ++tenths) {
    if (tenths == 300) throw Error(ErrorCode::io, "can't be written: another process has been writing it for half a minute").at_file(folder.string());
    ::usleep(100'000);
  }
}

// Puts back what an interrupted move had taken away, then removes the folder.
void put_in_order(const fs::path& left, const fs::path& final) {
  std::error_code error;
  if (fs::is_directory(left / replaced, error)) {
    for (const std::string& name : names_in(left / replaced, error)) {
      if (fs::exists(fs::symlink_status(final / name, error))) fs::rename(final / name, left / name, error);
      fs::rename(left / replaced / name, final / name, error);
      if (error) return;  // better untidy than lost
    }
  }
  remove_tree(left);
}

void remove_leftovers(const fs::path& folder, const std::string& beginning, const fs::path& final) {
  std::error_code error;
  std::vector<fs::path> found;
  for (const std::string& name : names_in(folder, error))
    if (name.starts_with(beginning) && name.ends_with(ending)) found.push_back(folder / name);
  for (const auto& path : found) {
    const std::string name = path.filename().string();
    const std::string_view middle = std::string_view(name).substr(beginning.size(), name.size() - beginning.size() - std::strlen(ending));
    if (middle.empty() || middle.find_first_not_of("0123456789abcdef-") != std::string_view::npos) continue;
    const int fd = open_folder(path);
    if (fd < 0) continue;
    struct stat info {};
    if (::fstat(fd, &info) == 0 && info.st_mtime + new_seconds < ::time(nullptr) && ::flock(fd, LOCK_EX | LOCK_NB) == 0) put_in_order(path, final);
    ::close(fd);
  }
}

}  // namespace

bool committing() noexcept { return moving.load() != 0; }

StagedFolder::StagedFolder(fs::path final_path) {
  final_ = fs::absolute(final_path).lexically_normal();
  if (!final_.has_filename()) final_ = final_.parent_path();
  std::error_code error;
  fs::create_directories(final_.parent_path(), error);
  if (error) throw io_error("can't be created", final_.parent_path(), error.value());
  const auto status = fs::symlink_status(final_, error);
  inside_ = fs::exists(status);
  if (inside_ && !fs::is_directory(final_, error)) {
    if (error) throw io_error("can't be written", final_, error.value());  // a loop of links
    throw Error(ErrorCode::io, fs::is_symlink(status) ? "is a link that leads to no folder; give another one with -o" : "exists and is not a folder; give another one with -o")
        .at_file(final_path.string());
  }
  const fs::path where = inside_ ? final_ : final_.parent_path();
  const std::string beginning = (inside_ ? std::string(".quern") : final_.filename().string()) + ".";
  remove_leftovers(where, beginning, final_);
  uint32_t chance = 0;
  (void)!::getrandom(&chance, sizeof chance, GRND_NONBLOCK);
  fs::path staging = where / fmt::format("{}{}-{:08x}{}", beginning, ::getpid(), chance, ending);
  if (::mkdir(staging.c_str(), 0777) != 0) throw io_error("can't be created", inside_ ? final_ : staging, errno);
  staging_ = std::move(staging);
  alive_ = open_folder(staging_);
  if (alive_ >= 0) ::flock(alive_, LOCK_EX | LOCK_NB);  // where there are no locks, leftovers stay
}

StagedFolder::~StagedFolder() {
  if (!done_) remove_tree(staging_);  // what stays for lack of memory, the next run removes
  if (alive_ >= 0) ::close(alive_);
}

void StagedFolder::commit() {
  const Moving moving_now;
  if (!inside_) {
    if (::rename(staging_.c_str(), final_.c_str()) == 0) {
      done_ = true;
      if (alive_ >= 0) ::close(std::exchange(alive_, -1));  // the folder is final now, and free for the next
      return;
    }
    // Somebody else has made the folder meanwhile.
    const int number = errno;
    std::error_code error;
    if ((number != ENOTEMPTY && number != EEXIST) || !fs::is_directory(final_, error)) throw io_error("can't be written", final_, number);
  }
  const int fd = open_folder(final_);
  try {
    if (fd >= 0) wait_for_turn(fd, final_);
    move_entries();
  } catch (...) {
    if (fd >= 0) ::close(fd);
    throw;
  }
  if (fd >= 0) ::close(fd);
}

// Entry by entry: what is replaced waits in the staging folder until all is in place, and goes back if a step fails.
void StagedFolder::move_entries() {
  std::error_code error;
  const fs::path aside = staging_ / replaced;
  std::vector<std::string> names = names_in(staging_, error);
  if (error) throw io_error("can't be written", staging_, error.value());
  std::sort(names.begin(), names.end());
  // Every path beforehand, so that nothing is allocated between the first move and the last.
  struct Entry { fs::path from, to, old; bool out = false, in = false; };
  std::vector<Entry> entries;
  for (const auto& name : names) entries.push_back({staging_ / name, final_ / name, aside / name});
  if (::mkdir(aside.c_str(), 0777) != 0) throw io_error("can't be written", final_, errno);
  int number = 0;
  const fs::path* at = nullptr;
  for (Entry& e : entries) {
    e.out = ::rename(e.to.c_str(), e.old.c_str()) == 0;
    if (!e.out && errno != ENOENT) { number = errno; at = &e.to; break; }
  }
  for (Entry& e : entries) {
    if (number) break;
    e.in = ::rename(e.from.c_str(), e.to.c_str()) == 0;
    if (!e.in) { number = errno; at = &e.to; }
  }
  if (number) {
    for (const Entry& e : entries) {
      if (e.in) ::rename(e.to.c_str(), e.from.c_str());
      if (e.out) ::rename(e.old.c_str(), e.to.c_str());
    }
    throw io_error("can't be written", *at, number);
  }
  done_ = true;
  fs::rename(aside, staging_ / finished, error);
  remove_tree(staging_);
}

}  // namespace quern
