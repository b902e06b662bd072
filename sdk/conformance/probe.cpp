#include "sdk/conformance/probe.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <immintrin.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cfenv>
#include <clocale>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <new>

#include "core/plugin/plugin.hpp"

namespace quern::conform {
namespace {

bool allocation_fails() {
  Probe& p = probe();
  if (p.fail_at.load(std::memory_order_relaxed) <= 0) return false;
  if (p.fail_at.fetch_sub(1) != 1) return false;
  p.failed.fetch_add(1);
  return true;
}

quern_host original;  // one target a worker

void* watched_alloc(void* self, uint64_t size, uint64_t align) {
  if (allocation_fails()) return nullptr;
  void* memory = original.alloc(self, size, align);
  if (memory) probe().live.fetch_add(1);
  return memory;
}
void watched_release(void* self, void* memory) {
  if (memory) probe().live.fetch_sub(1);
  original.release(self, memory);
}
int32_t watched_cancelled(void*) { return probe().cancel.load() ? 1 : 0; }
quern_status* watched_parallel(void* self, int64_t count, quern_status* (*body)(void*, int64_t), void* arg) {
  static constexpr char stopped[] = "the run was cancelled", refused[] = "the host refuses, to see what happens";
  if (probe().cancel.load()) return original.make_status(self, QUERN_CANCELLED, {stopped, sizeof stopped - 1});
  if (probe().refuse_parallel.load()) return original.make_status(self, QUERN_RESOURCE_EXHAUSTED, {refused, sizeof refused - 1});
  return original.parallel_for(self, count, body, arg);
}
void watched_log(void*, int32_t, quern_str) { probe().logged.fetch_add(1); }

int64_t entries_in(const char* folder) {
  DIR* d = ::opendir(folder);
  if (!d) return -1;
  int64_t n = 0;
  while (::readdir(d)) ++n;
  ::closedir(d);
  return n;
}

unsigned short x87_word() {
  unsigned short w;
  __asm__ volatile("fnstcw %0" : "=m"(w));
  return w;
}
void set_x87_word(unsigned short w) { __asm__ volatile("fldcw %0" : : "m"(w)); }

constexpr unsigned mxcsr_flags = 0x3F;  // exceptions that have occurred

}  // namespace

Probe& probe() {
  static Probe p;
  return p;
}

void watch_host(const std::string& plugin_id) {
  auto* table = const_cast<quern_host*>(host_table(plugin_id));
  original = *table;
  table->alloc = watched_alloc;
  table->release = watched_release;
  table->cancelled = watched_cancelled;
  table->parallel_for = watched_parallel;
  table->log = watched_log;
}

ProcessState ProcessState::now() {
  ProcessState s;
  s.mxcsr_ = _mm_getcsr() & ~mxcsr_flags;
  s.x87_ = x87_word();
  s.locale_ = std::setlocale(LC_ALL, nullptr);
  char folder[4096];
  s.folder_ = ::getcwd(folder, sizeof folder) ? folder : "";
  for (char** e = environ; e && *e; ++e) s.environment_ += std::string(*e) + "\n";
  for (int n = 1; n < 32; ++n) {
    struct sigaction action {};
    s.handlers_.push_back(::sigaction(n, nullptr, &action) == 0 ? reinterpret_cast<void*>(action.sa_sigaction) : nullptr);
  }
  s.mask_ = ::umask(022);
  ::umask(static_cast<mode_t>(s.mask_));
  s.threads_ = entries_in("/proc/self/task");
  s.files_ = entries_in("/proc/self/fd");
  return s;
}

std::string ProcessState::settings_changed(const ProcessState& before) const {
  std::string out;
  const auto say = [&](const std::string& what) { out += (out.empty() ? "" : ", ") + what; };
  if (mxcsr_ != before.mxcsr_ || x87_ != before.x87_) {
    say("the floating-point mode (rounding, MXCSR)");
    _mm_setcsr(before.mxcsr_);
    set_x87_word(before.x87_);
  }
  if (locale_ != before.locale_) {
    say("the locale");
    std::setlocale(LC_ALL, before.locale_.c_str());
  }
  for (size_t i = 0; i < handlers_.size(); ++i)
    if (handlers_[i] != before.handlers_[i]) {
      say("the handler of signal " + std::to_string(i + 1));
      struct sigaction action {};
      action.sa_sigaction = reinterpret_cast<void (*)(int, siginfo_t*, void*)>(before.handlers_[i]);
      ::sigaction(static_cast<int>(i + 1), &action, nullptr);
    }
  if (folder_ != before.folder_) say("the working folder");
  if (mask_ != before.mask_) say("the umask");
  if (environment_ != before.environment_) say("the environment");
  return out;
}

std::string ProcessState::counts_changed(const ProcessState& before) const {
  return list(files_ > before.files_ ? "the number of open files" : "", threads_ > before.threads_ ? "the number of threads" : "");
}

KeepMode::KeepMode() : mxcsr_(_mm_getcsr() & ~mxcsr_flags), x87_(x87_word()) {}
KeepMode::~KeepMode() {
  _mm_setcsr(mxcsr_);
  if (x87_word() != x87_) set_x87_word(x87_);
}

// ---- guard pages -------------------------------------------------------------------------------------------------
namespace {

constexpr size_t page = 4096, guard = size_t{1} << 20;  // address space alone: what a wild stride jumps over is found too
struct GuardRange { const unsigned char *from = nullptr, *to = nullptr; char sentence[160] = {}; };
std::array<GuardRange, 64> guards;  // read by the signal handler
void (*report_death)(const char*) = nullptr;

void on_fault(int signal, siginfo_t* info, void*) {
  const auto* at = static_cast<const unsigned char*>(info->si_addr);
  for (const GuardRange& g : guards)
    if (g.from && at >= g.from && at < g.to) {
      if (report_death) report_death(g.sentence);
      ::_exit(99);
    }
  ::signal(signal, SIG_DFL);
  ::raise(signal);
}

void add_guard(const unsigned char* from, const unsigned char* to, const std::string& sentence) {
  for (GuardRange& g : guards)
    if (!g.from) {
      std::snprintf(g.sentence, sizeof g.sentence, "%s", sentence.c_str());
      g.to = to;
      g.from = from;
      return;
    }
}

}  // namespace

void watch_guards(void (*report)(const char*)) {
  report_death = report;
  static unsigned char stack[64 << 10];
  stack_t alternate{};
  alternate.ss_sp = stack;
  alternate.ss_size = sizeof stack;
  ::sigaltstack(&alternate, nullptr);
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  for (const int n : {SIGSEGV, SIGBUS}) ::sigaction(n, &action, nullptr);
}

Guarded::Guarded(std::string what, size_t bytes, size_t readable_tail, Side side, unsigned char fill) : bytes_(bytes), fill_(fill) {
  const size_t body = (std::max<size_t>(bytes, 1) + 63) / 64 * 64 + readable_tail;
  pages_ = (body + page - 1) / page * page;
  void* memory = ::mmap(nullptr, pages_ + 2 * guard, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  base_ = static_cast<unsigned char*>(memory);
  if (::mprotect(base_ + guard, pages_, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
  std::memset(base_ + guard, fill, pages_);
  data_ = side == Side::begin ? base_ + guard : base_ + guard + pages_ - body;
  add_guard(base_, base_ + guard, "it touches memory before its " + what);
  add_guard(base_ + guard + pages_, base_ + 2 * guard + pages_, "it touches memory behind its " + what);
}

Guarded::~Guarded() {
  for (GuardRange& g : guards)
    if (g.from && g.from >= base_ && g.from < base_ + pages_ + 2 * guard) g.from = nullptr;
  ::munmap(base_, pages_ + 2 * guard);
}

bool Guarded::untouched_around() const {
  for (const unsigned char* p = base_ + guard; p < base_ + guard + pages_; ++p)
    if ((p < data_ || p >= data_ + bytes_) && *p != fill_) return false;
  return true;
}

}  // namespace quern::conform

// ---- operator new, so that it can fail ----------------------------------------------------------------------------
// Only the throwing forms; the others come down to these.
namespace {
void* allocate(std::size_t size, std::size_t align) {
  if (quern::conform::allocation_fails()) throw std::bad_alloc();
  size = size == 0 ? 1 : size;
  void* memory = align <= alignof(std::max_align_t) ? std::malloc(size) : std::aligned_alloc(align, (size + align - 1) / align * align);
  if (!memory) throw std::bad_alloc();
  return memory;
}
}  // namespace
void* operator new(std::size_t size) { return allocate(size, 0); }
void* operator new[](std::size_t size) { return allocate(size, 0); }
void* operator new(std::size_t size, std::align_val_t align) { return allocate(size, static_cast<std::size_t>(align)); }
void* operator new[](std::size_t size, std::align_val_t align) { return allocate(size, static_cast<std::size_t>(align)); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
