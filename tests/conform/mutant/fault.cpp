#include "fault.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cfenv>
#include <clocale>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <thread>

namespace mutant {
namespace {

// Before main, and after it: what static objects can do.
struct AtLoading {
  AtLoading() {
    if (is("static-prints")) std::puts("loaded");
    if (is("static-crash")) std::abort();
    if (is("static-hang")) for (;;) ::sleep(1);
    if (is("static-exit")) ::_exit(0);
    if (is("static-thread")) std::thread([] { for (;;) ::sleep(1); }).detach();
    if (is("static-folder") && ::chdir("/") != 0) std::abort();
  }
  ~AtLoading() {
    if (is("dies-at-exit")) std::abort();
    if (is("exit-code")) ::_exit(3);
  }
} at_loading;

}  // namespace

std::string_view fault() {
  static const char* const name = std::getenv("QUERN_MUTANT");
  return name ? name : "";
}

void misbehave_at_entry() {
  if (is("entry-locale")) std::setlocale(LC_ALL, "C.UTF-8");
  if (is("entry-rounding")) std::fesetround(FE_UPWARD);
  if (is("entry-signal")) std::signal(SIGUSR1, SIG_IGN);
  if (is("entry-environment")) ::setenv("MUTANT_WAS_HERE", "1", 1);
  if (is("entry-file")) (void)::open("/dev/null", O_RDONLY);
  if (is("entry-prints")) std::fputs("entered\n", stderr);
  if (is("entry-crash")) *reinterpret_cast<volatile int*>(8) = 1;
}

}  // namespace mutant
