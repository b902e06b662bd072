#include "core/plugin/remote/channel.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/base/error.hpp"
#include "core/base/parallel.hpp"

namespace quern::remote {
namespace {

struct Head { uint32_t what = 0, files = 0; uint64_t bytes = 0; };
constexpr size_t most_files = 4;
constexpr uint64_t most_bytes = uint64_t{1} << 36;

}  // namespace

File::~File() {
  if (fd_ >= 0) ::close(fd_);
}

std::pair<File, File> socket_pair() {
  int fds[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
    throw Error(ErrorCode::io, std::string("no connection to a plugin's process: ") + std::strerror(errno));
  return {File(fds[0]), File(fds[1])};
}

Channel::Channel(File socket) : socket_(std::move(socket)) {
  ::fcntl(socket_.get(), F_SETFL, ::fcntl(socket_.get(), F_GETFL) | O_NONBLOCK);
}

Transfer Channel::wait(short events, Clock::time_point deadline) const {
  while (true) {
    if (cancel_requested()) return Transfer::cancelled;
    int milliseconds = -1;
    if (deadline != never) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
      if (left < 0) return Transfer::late;
      milliseconds = static_cast<int>(std::min<int64_t>(left + 1, 100));
    }
    pollfd p{socket_.get(), events, 0};
    const int n = ::poll(&p, 1, milliseconds);
    if (n > 0) return Transfer::done;
    if (n < 0 && errno != EINTR) return Transfer::closed;
  }
}

Transfer Channel::send(uint32_t what, std::string_view bytes, Clock::time_point deadline, std::span<const int> files) {
  Head head{what, static_cast<uint32_t>(files.size()), bytes.size()};
  size_t done = 0;
  const size_t all = sizeof head + bytes.size();
  while (done < all) {
    iovec parts[2];
    int count = 0;
    if (done < sizeof head) parts[count++] = {reinterpret_cast<char*>(&head) + done, sizeof head - done};
    const size_t from = done > sizeof head ? done - sizeof head : 0;
    if (from < bytes.size()) parts[count++] = {const_cast<char*>(bytes.data()) + from, bytes.size() - from};
    msghdr m{};
    m.msg_iov = parts;
    m.msg_iovlen = static_cast<size_t>(count);
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * most_files)] = {};
    if (done == 0 && !files.empty()) {
      m.msg_control = control;
      m.msg_controllen = CMSG_SPACE(files.size_bytes());
      cmsghdr* c = CMSG_FIRSTHDR(&m);
      c->cmsg_level = SOL_SOCKET;
      c->cmsg_type = SCM_RIGHTS;
      c->cmsg_len = CMSG_LEN(files.size_bytes());
      std::memcpy(CMSG_DATA(c), files.data(), files.size_bytes());
    }
    const ssize_t n = ::sendmsg(socket_.get(), &m, MSG_NOSIGNAL);
    if (n >= 0) { done += static_cast<size_t>(n); continue; }
    if (errno == EINTR) continue;
    if (errno != EAGAIN && errno != EWOULDBLOCK) return Transfer::closed;
    if (const Transfer t = wait(POLLOUT, deadline); t != Transfer::done) return t;
  }
  return Transfer::done;
}

Transfer Channel::read(void* to, size_t bytes, Clock::time_point deadline, std::vector<File>* files) {
  size_t done = 0;
  while (done < bytes) {
    iovec part{static_cast<char*>(to) + done, bytes - done};
    msghdr m{};
    m.msg_iov = &part;
    m.msg_iovlen = 1;
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * most_files)];
    m.msg_control = control;
    m.msg_controllen = sizeof control;
    const ssize_t n = ::recvmsg(socket_.get(), &m, MSG_CMSG_CLOEXEC);
    if (n == 0) return Transfer::closed;
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN && errno != EWOULDBLOCK) return Transfer::closed;
      if (const Transfer t = wait(POLLIN, deadline); t != Transfer::done) return t;
      continue;
    }
    for (cmsghdr* c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
      if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
      const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (size_t i = 0; i < count; ++i) {
        int fd;
        std::memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
        File owned(fd);
        if (files) files->push_back(std::move(owned));
      }
    }
    done += static_cast<size_t>(n);
  }
  return Transfer::done;
}

Transfer Channel::receive(Message& message, Clock::time_point deadline) {
  Head head;
  message.files.clear();
  if (const Transfer t = read(&head, sizeof head, deadline, &message.files); t != Transfer::done) return t;
  if (head.bytes > most_bytes || head.files > most_files) return Transfer::closed;
  message.what = head.what;
  message.bytes.resize(head.bytes);
  return read(message.bytes.data(), head.bytes, deadline, &message.files);
}

}  // namespace quern::remote
