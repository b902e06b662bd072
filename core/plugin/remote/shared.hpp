// The memory that the host and the process of a plugin share for one context: a place for every input and output and the
// workspace, each between pages that the plugin's process must not touch. Inputs are read-only there. What is written just
// beside a place, within its pages, is seen by the host afterwards.
//
//   | guard | .. pattern .. data | 64 bytes that may be read, pattern | guard | ...
#pragma once
#include <cstddef>
#include <span>
#include <vector>

#include "core/plugin/remote/channel.hpp"

namespace quern::remote {

class SharedMemory {
 public:
  struct Place { size_t bytes = 0; bool writable = true; };
  // The host's side: makes it. Error(memory) when there is no room.
  static SharedMemory make(std::span<const Place> places);
  // The plugin's side.
  static SharedMemory open(File file, std::span<const Place> places);
  SharedMemory() = default;
  SharedMemory(SharedMemory&& other) noexcept { *this = std::move(other); }
  SharedMemory& operator=(SharedMemory&& other) noexcept;
  ~SharedMemory();

  int file() const { return file_.get(); }
  void* data(size_t place) const { return base_ + slots_[place].data; }
  // Is the pattern around every place whole?
  bool whole() const;

 private:
  struct Slot { size_t begin = 0, data = 0, end = 0, bytes = 0; };  // begin, end: of its pages
  static std::vector<Slot> slots_of(std::span<const Place> places);
  File file_;
  std::vector<Slot> slots_;
  char* base_ = nullptr;
  size_t size_ = 0;
};

}  // namespace quern::remote
