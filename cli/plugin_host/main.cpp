// quern-plugin-host: the process that a plugin runs in when it is tried (--probe) or kept apart (--serve). Started by the host
// alone, with a connection to it as descriptor 3; ends when the host hangs up or dies.
//
//   quern-plugin-host --probe|--serve PLUGIN.so PID
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "core/base/error.hpp"
#include "core/plugin/library.hpp"
#include "core/plugin/remote/codec.hpp"
#include "core/plugin/remote/process.hpp"
#include "core/plugin/remote/server.hpp"

namespace {

using namespace quern;

int probe(const fs::path& plugin, remote::File socket) {
  remote::Channel channel(std::move(socket));
  try {
    load_plugin(plugin, inspect_plugin(plugin));
    channel.send(remote::answered, {}, remote::never);
  } catch (const Error& e) {
    channel.send(remote::failed, remote::Writer().number(static_cast<int32_t>(e.code())).text(e.what()).bytes(), remote::never);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fputs("quern-plugin-host is started by quern, not by hand\n", stderr);
    return 2;
  }
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != std::atoi(argv[3])) return 0;  // it died before the line above
  const rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);  // a crash is an answer here
  ::fcntl(quern::remote::plugin_socket, F_SETFD, FD_CLOEXEC);
  quern::remote::File socket(quern::remote::plugin_socket);
  // Without the destructors of a plugin that may be broken.
  try {
    if (std::strcmp(argv[1], "--probe") == 0) ::_exit(probe(argv[2], std::move(socket)));
    quern::remote::serve(argv[2], std::move(socket));
  } catch (const std::exception& e) {
    std::fprintf(stderr, "quern-plugin-host: %s\n", e.what());
    ::_exit(1);
  }
  ::_exit(0);
}
