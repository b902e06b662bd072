#include "core/base/files.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "core/base/error.hpp"

namespace quern {
namespace {

Error io_error(const char* doing, const fs::path& path, int number) {
  return Error(ErrorCode::io, fmt::format("{}: {}", doing, std::strerror(number))).at_file(path.string());
}

struct Descriptor {
  int fd = -1;
  ~Descriptor() { if (fd >= 0) ::close(fd); }
};

}  // namespace

std::shared_ptr<const MappedFile> MappedFile::open(const fs::path& path) {
  // Not blocking: opening a named pipe would wait for a writer for ever.
  Descriptor d{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (d.fd < 0) throw io_error("can't be read", path, errno);
  struct stat info {};
  if (::fstat(d.fd, &info) != 0) throw io_error("can't be read", path, errno);
  if (!S_ISREG(info.st_mode)) throw Error(ErrorCode::io, "is not a regular file").at_file(path.string());
  std::shared_ptr<MappedFile> file(new MappedFile);
  file->size_ = static_cast<size_t>(info.st_size);
  if (file->size_ > 0) {
    file->data_ = ::mmap(nullptr, file->size_, PROT_READ, MAP_PRIVATE, d.fd, 0);
    if (file->data_ == MAP_FAILED) {
      file->data_ = nullptr;
      throw io_error("can't be mapped", path, errno);
    }
  }
  return file;
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(data_, size_);
}

std::string read_text(const fs::path& path, size_t limit) {
  auto file = MappedFile::open(path);
  if (file->text().size() > limit)
    throw Error(ErrorCode::io, fmt::format("is {} bytes long; a text file here may have {} at most", file->text().size(), limit))
        .at_file(path.string());
  return std::string(file->text());
}

void write_file(const fs::path& path, std::span<const std::byte> bytes) {
  const fs::path temporary = path.string() + fmt::format(".{}.tmp", ::getpid());
  Descriptor d{::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)};
  if (d.fd < 0) throw io_error("can't be written", path, errno);
  auto fail = [&](int number) {
    ::unlink(temporary.c_str());
    throw io_error("can't be written", path, number);
  };
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = ::write(d.fd, bytes.data() + done, bytes.size() - done);
    if (n < 0) {
      if (errno == EINTR) continue;
      fail(errno);
    }
    done += static_cast<size_t>(n);
  }
  if (::fsync(d.fd) != 0 && errno != EINVAL) fail(errno);
  if (::rename(temporary.c_str(), path.c_str()) != 0) fail(errno);
}

void write_file(const fs::path& path, std::string_view text) {
  write_file(path, std::as_bytes(std::span(text.data(), text.size())));
}

StagedFolder::StagedFolder(fs::path final_path) {
  final_ = fs::absolute(final_path).lexically_normal();
  if (!final_.has_filename()) final_ = final_.parent_path();
  std::error_code error;
  fs::create_directories(final_.parent_path(), error);
  if (error) throw io_error("can't be created", final_.parent_path(), error.value());
  inside_ = fs::exists(final_, error);
  if (inside_ && !fs::is_directory(final_, error))
    throw Error(ErrorCode::io, "exists and is not a folder; give another one with -o").at_file(final_path.string());
  staging_ = inside_ ? final_ / fmt::format(".quern.{}.partial", ::getpid()) : fs::path(final_.string() + fmt::format(".{}.partial", ::getpid()));
  fs::remove_all(staging_, error);
  fs::create_directory(staging_, error);
  if (error) throw io_error("can't be created", staging_, error.value());
}

StagedFolder::~StagedFolder() {
  std::error_code ignored;
  if (!done_) fs::remove_all(staging_, ignored);
}

void StagedFolder::commit() {
  std::error_code error;
  if (!inside_) {
    fs::rename(staging_, final_, error);
    if (error) throw io_error("can't be written", final_, error.value());
    done_ = true;
    return;
  }
  // Entry by entry: what is replaced waits in the staging folder until all is in place, and goes back if a step fails.
  const fs::path aside = staging_ / ".replaced";
  fs::create_directory(aside, error);
  if (error) throw io_error("can't be written", staging_, error.value());
  std::vector<fs::path> names, moved_in, moved_out;
  for (const auto& entry : fs::directory_iterator(staging_))
    if (entry.path() != aside) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  const auto move = [&](const fs::path& from, const fs::path& to) {
    fs::rename(from, to, error);
    if (!error) return;
    const int number = error.value();
    std::error_code ignored;
    for (const auto& n : moved_in) fs::rename(final_ / n, staging_ / n, ignored);
    for (const auto& n : moved_out) fs::rename(aside / n, final_ / n, ignored);
    throw io_error("can't be written", to, number);
  };
  for (const auto& name : names)
    if (fs::exists(fs::symlink_status(final_ / name, error))) {
      move(final_ / name, aside / name);
      moved_out.push_back(name);
    }
  for (const auto& name : names) {
    move(staging_ / name, final_ / name);
    moved_in.push_back(name);
  }
  done_ = true;
  fs::remove_all(staging_, error);
}

}  // namespace quern
