#include "core/plugin/remote/shared.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/base/error.hpp"

namespace quern::remote {
namespace {

constexpr size_t page = 4096, alignment = 64, readable = 64;
constexpr unsigned char pattern = 0xA5;

size_t up(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

[[noreturn]] void no_room(const char* what) {
  throw Error(errno == ENOMEM || errno == ENOSPC ? ErrorCode::memory : ErrorCode::io,
              std::string("no memory can be shared with a plugin's process: ") + what + ": " + std::strerror(errno));
}

bool all(const char* from, const char* to) {
  return std::all_of(from, to, [](char c) { return static_cast<unsigned char>(c) == pattern; });
}

}  // namespace

std::vector<SharedMemory::Slot> SharedMemory::slots_of(std::span<const Place> places) {
  std::vector<Slot> out;
  size_t at = page;  // a guard first
  for (const Place& p : places) {
    const size_t tail = up(p.bytes, alignment) + readable;
    const size_t pages = up(tail + alignment, page);  // at least one line of pattern before the data
    out.push_back({at, at + pages - tail, at + pages, p.bytes});
    at += pages + page;
  }
  return out;
}

SharedMemory& SharedMemory::operator=(SharedMemory&& other) noexcept {
  std::swap(file_, other.file_);
  std::swap(slots_, other.slots_);
  std::swap(base_, other.base_);
  std::swap(size_, other.size_);
  return *this;
}

SharedMemory::~SharedMemory() {
  if (base_) ::munmap(base_, size_);
}

SharedMemory SharedMemory::make(std::span<const Place> places) {
  SharedMemory m;
  m.slots_ = slots_of(places);
  m.size_ = m.slots_.empty() ? page : m.slots_.back().end + page;
  m.file_ = File(::memfd_create("quern", MFD_CLOEXEC));
  if (!m.file_) no_room("memfd_create");
  if (::ftruncate(m.file_.get(), static_cast<off_t>(m.size_)) != 0) no_room("ftruncate");
  void* at = ::mmap(nullptr, m.size_, PROT_READ | PROT_WRITE, MAP_SHARED, m.file_.get(), 0);
  if (at == MAP_FAILED) no_room("mmap");
  m.base_ = static_cast<char*>(at);
  for (const Slot& s : m.slots_) {
    std::memset(m.base_ + s.begin, pattern, s.data - s.begin);
    std::memset(m.base_ + s.data + s.bytes, pattern, s.end - s.data - s.bytes);
  }
  return m;
}

SharedMemory SharedMemory::open(File file, std::span<const Place> places) {
  SharedMemory m;
  m.slots_ = slots_of(places);
  m.size_ = m.slots_.empty() ? page : m.slots_.back().end + page;
  m.file_ = std::move(file);
  // Nothing is accessible but the places.
  void* at = ::mmap(nullptr, m.size_, PROT_NONE, MAP_SHARED, m.file_.get(), 0);
  if (at == MAP_FAILED) no_room("mmap");
  m.base_ = static_cast<char*>(at);
  for (size_t i = 0; i < places.size(); ++i) {
    const Slot& s = m.slots_[i];
    if (::mprotect(m.base_ + s.begin, s.end - s.begin, places[i].writable ? PROT_READ | PROT_WRITE : PROT_READ) != 0) no_room("mprotect");
  }
  return m;
}

bool SharedMemory::whole() const {
  for (const Slot& s : slots_)
    if (!all(base_ + s.begin, base_ + s.data) || !all(base_ + s.data + s.bytes, base_ + s.end)) return false;
  return true;
}

}  // namespace quern::remote
