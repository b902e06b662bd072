// One end of a pair of sockets between the host and the process of a plugin: messages of a number and bytes, with file
// descriptors where needed, and a deadline for each step. One thread at a time per channel.
#pragma once
#include <chrono>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace quern::remote {

class File {  // owns a descriptor
 public:
  File() = default;
  explicit File(int fd) : fd_(fd) {}
  File(File&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  File& operator=(File&& other) noexcept { std::swap(fd_, other.fd_); return *this; }
  ~File();
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

struct Message {
  uint32_t what = 0;
  std::string bytes;
  std::vector<File> files;
};

using Clock = std::chrono::steady_clock;
inline constexpr Clock::time_point never = Clock::time_point::max();

enum class Transfer { done, closed, late, cancelled };  // closed: the other side is gone

class Channel {
 public:
  Channel() = default;
  explicit Channel(File socket);
  Transfer send(uint32_t what, std::string_view bytes, Clock::time_point deadline, std::span<const int> files = {});
  Transfer receive(Message& message, Clock::time_point deadline);
  explicit operator bool() const { return static_cast<bool>(socket_); }

 private:
  Transfer wait(short events, Clock::time_point deadline) const;
  Transfer read(void* to, size_t bytes, Clock::time_point deadline, std::vector<File>* files);
  File socket_;
};

std::pair<File, File> socket_pair();  // close-on-exec; Error(io) when there is none

}  // namespace quern::remote
