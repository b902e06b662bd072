#include "core/pipeline/sample_store.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "core/base/error.hpp"
#include "core/base/files.hpp"

namespace quern {
namespace {

int unnamed_file() {
  std::error_code error;
  const fs::path folder = fs::temp_directory_path(error);
  if (error) return -1;
#ifdef O_TMPFILE
  if (const int fd = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600); fd >= 0) return fd;
#endif
  std::string name = (folder / "quern-XXXXXX").string();
  const int fd = ::mkostemp(name.data(), O_CLOEXEC);
  if (fd >= 0) ::unlink(name.c_str());
  return fd;
}

bool write_at(int fd, const void* data, size_t bytes, int64_t at) {
  const auto* p = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = ::pwrite(fd, p, bytes, at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    p += n, at += n, bytes -= static_cast<size_t>(n);
  }
  return true;
}

}  // namespace

SampleStore::SampleStore(size_t samples, size_t memory) : samples_(samples), memory_(memory) {}
SampleStore::~SampleStore() {
  if (fd_ >= 0) ::close(fd_);
}

bool SampleStore::spill(Slot& slot) {
  if (no_file_) return false;
  if (fd_ < 0 && (fd_ = unnamed_file()) < 0) { no_file_ = true; return false; }
  int64_t at = end_;
  const auto hole = free_.find(slot.bytes);
  if (hole != free_.end()) at = hole->second;
  if (!write_at(fd_, slot.tensor.data(), slot.bytes, at)) { no_file_ = true; return false; }
  if (hole != free_.end()) free_.erase(hole);
  else end_ += static_cast<int64_t>(slot.bytes);
  slot.at = at;
  slot.tensor = Tensor();
  used_ -= slot.bytes;
  return true;
}

// Sends the earliest to the file until so much more would fit.
bool SampleStore::make_room(size_t bytes) {
  while (used_ + bytes > memory_) {
    Kept* earliest = nullptr;
    for (auto& [value, kept] : kept_) {
      const bool any = std::any_of(kept.slots.begin(), kept.slots.end(), [](const Slot& s) { return !s.tensor.empty() && s.bytes > 0; });
      if (any && (!earliest || kept.position < earliest->position)) earliest = &kept;
    }
    if (!earliest) return false;
    for (Slot& slot : earliest->slots) {
      if (slot.tensor.empty() || slot.bytes == 0) continue;
      if (!spill(slot)) return false;
      if (used_ + bytes <= memory_) break;
    }
  }
  return true;
}

void SampleStore::put(ValueId value, int position, size_t sample, Tensor tensor) {
  std::lock_guard lock(mutex_);
  Kept& kept = kept_[value];
  kept.position = position;
  kept.slots.resize(samples_);
  Slot& slot = kept.slots.at(sample);
  slot.type = tensor.type();
  slot.dims = tensor.dims();
  slot.bytes = tensor.bytes();
  make_room(slot.bytes);
  slot.tensor = std::move(tensor);
  used_ += slot.bytes;
  if (used_ > memory_ && slot.bytes > 0) spill(slot);
}

bool SampleStore::has(ValueId value) const {
  std::lock_guard lock(mutex_);
  return kept_.count(value) != 0;
}

Tensor SampleStore::get(ValueId value, size_t sample) const {
  DType type;
  Dims dims;
  int64_t at = 0;
  {
    std::lock_guard lock(mutex_);
    const Slot& slot = kept_.at(value).slots.at(sample);
    if (slot.at < 0) return slot.tensor;
    type = slot.type, dims = slot.dims, at = slot.at;
  }
  Tensor out(type, dims);
  auto* p = static_cast<char*>(out.mutable_bytes());
  for (size_t left = out.bytes(); left > 0;) {
    const ssize_t n = ::pread(fd_, p, left, at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) throw Error(ErrorCode::io, "the temporary file of intermediate values can't be read").hint("TMPDIR names the folder it lies in");
    p += n, at += n, left -= static_cast<size_t>(n);
  }
  return out;
}

void SampleStore::erase(ValueId value) {
  std::lock_guard lock(mutex_);
  const auto it = kept_.find(value);
  if (it == kept_.end()) return;
  for (const Slot& slot : it->second.slots) {
    if (slot.at >= 0) free_.emplace(slot.bytes, slot.at);
    else if (!slot.tensor.empty()) used_ -= slot.bytes;
  }
  kept_.erase(it);
}

std::vector<ValueId> SampleStore::values() const {
  std::lock_guard lock(mutex_);
  std::vector<std::pair<int, ValueId>> order;
  for (const auto& [value, kept] : kept_) order.emplace_back(kept.position, value);
  std::sort(order.begin(), order.end());
  std::vector<ValueId> out;
  for (const auto& [position, value] : order) out.push_back(value);
  return out;
}

size_t SampleStore::bytes(ValueId value) const {
  std::lock_guard lock(mutex_);
  const auto it = kept_.find(value);
  size_t total = 0;
  if (it != kept_.end())
    for (const Slot& slot : it->second.slots) total += slot.bytes;
  return total;
}

size_t SampleStore::in_memory() const {
  std::lock_guard lock(mutex_);
  return used_;
}

}  // namespace quern
