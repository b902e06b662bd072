#include "core/base/files.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
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

void MappedFile::release(const void* from, size_t bytes) const {
  static const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto base = reinterpret_cast<uintptr_t>(data_), first = reinterpret_cast<uintptr_t>(from) / page * page;
  const uintptr_t last = std::min(reinterpret_cast<uintptr_t>(from) + bytes, base + size_);
  if (!data_ || first < base || first >= last) return;
  ::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
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

FileWriter::FileWriter(const fs::path& path) : path_(path) {
  struct stat there {};
  if (::stat(path.c_str(), &there) == 0 && !S_ISREG(there.st_mode))
    throw Error(ErrorCode::io, S_ISDIR(there.st_mode) ? "can't be written: it is a folder" : "can't be written: it is not a regular file").at_file(path.string());
  // The number of the process alone would not do: two containers that share a folder may both be process 1.
  uint32_t chance = 0;
  (void)!::getrandom(&chance, sizeof chance, GRND_NONBLOCK);
  temporary_ = path.string() + fmt::format(".{}-{:08x}.tmp", ::getpid(), chance);
  fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd_ < 0) throw io_error("can't be written", path, errno);
}

FileWriter::~FileWriter() {
  if (fd_ >= 0) ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void FileWriter::put(std::span<const std::byte> bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = ::write(fd_, bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw io_error("can't be written", path_, errno);
    done += static_cast<size_t>(n);
  }
}

void FileWriter::add(std::span<const std::byte> bytes) {
  constexpr size_t small = size_t{64} << 10;
  size_ += bytes.size();
  if (waiting_.size() + bytes.size() > small) {
    put(std::as_bytes(std::span(waiting_.data(), waiting_.size())));
    waiting_.clear();
  }
  if (bytes.size() > small) put(bytes);
  else waiting_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

void FileWriter::pad_to(uint64_t alignment) { add(std::string(static_cast<size_t>((alignment - size_ % alignment) % alignment), '\0')); }

void FileWriter::finish() {
  put(std::as_bytes(std::span(waiting_.data(), waiting_.size())));
  waiting_.clear();
  if (::fsync(fd_) != 0 && errno != EINVAL) throw io_error("can't be written", path_, errno);
  // Some file systems (NFS, quotas) say only here that the data did not fit.
  if (::close(std::exchange(fd_, -1)) != 0 && errno != EINTR) throw io_error("can't be written", path_, errno);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) throw io_error("can't be written", path_, errno);
  temporary_.clear();
}

void write_file(const fs::path& path, std::span<const std::byte> bytes) {
  FileWriter out(path);
  out.add(bytes);
  out.finish();
}

void write_file(const fs::path& path, std::string_view text) {
  write_file(path, std::as_bytes(std::span(text.data(), text.size())));
}

}  // namespace quern
