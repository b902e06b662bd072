#include "core/base/files.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

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
  struct stat there {};
  if (::stat(path.c_str(), &there) == 0 && !S_ISREG(there.st_mode))
    throw Error(ErrorCode::io, S_ISDIR(there.st_mode) ? "can't be written: it is a folder" : "can't be written: it is not a regular file").at_file(path.string());
  // The number of the process alone would not do: two containers that share a folder may both be process 1.
  uint32_t chance = 0;
  (void)!::getrandom(&chance, sizeof chance, GRND_NONBLOCK);
  const fs::path temporary = path.string() + fmt::format(".{}-{:08x}.tmp", ::getpid(), chance);
  Descriptor d{::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644)};
  if (d.fd < 0) throw io_error("can't be written", path, errno);
  try {
    size_t done = 0;
    while (done < bytes.size()) {
      const ssize_t n = ::write(d.fd, bytes.data() + done, bytes.size() - done);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) throw io_error("can't be written", path, errno);
      done += static_cast<size_t>(n);
    }
    if (::fsync(d.fd) != 0 && errno != EINVAL) throw io_error("can't be written", path, errno);
    // Some file systems (NFS, quotas) say only here that the data did not fit.
    if (::close(std::exchange(d.fd, -1)) != 0 && errno != EINTR) throw io_error("can't be written", path, errno);
    if (::rename(temporary.c_str(), path.c_str()) != 0) throw io_error("can't be written", path, errno);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
}

void write_file(const fs::path& path, std::string_view text) {
  write_file(path, std::as_bytes(std::span(text.data(), text.size())));
}

}  // namespace quern
