// What the kit watches and disturbs while a plugin works: the host's table (every plugin gets this one in the kit's worker), the
// memory of the process, and the state of the process that no plugin may change.
#pragma once
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

namespace quern::conform {

struct Probe {
  std::atomic<int64_t> live{0};            // blocks that the plugin has from the host
  std::atomic<bool> cancel{false};         // what `cancelled` answers; parallel_for then fails, as the host's does
  std::atomic<bool> refuse_parallel{false};
  // The n-th allocation from now fails, by the host's alloc and by operator new alike; 0: none does.
  std::atomic<int64_t> fail_at{0};
  std::atomic<int64_t> failed{0};          // how many have failed since fail_at was set
  std::atomic<int64_t> logged{0};
};
Probe& probe();
// Before the plugin is loaded: its host table becomes the watched one.
void watch_host(const std::string& plugin_id);

// MXCSR, x87 control word, locale, signal handlers, working folder, umask, environment, open files, threads.
class ProcessState {
 public:
  static ProcessState now();
  // What differs from `before`, in words; "" when nothing does. Modes, locale and signal handlers are put back.
  std::string changes_since(const ProcessState& before) const { return list(settings_changed(before), counts_changed(before)); }
  std::string settings_changed(const ProcessState& before) const;  // all but the next
  std::string counts_changed(const ProcessState& before) const;    // more open files, more threads
  static std::string list(const std::string& a, const std::string& b) { return a + (a.empty() || b.empty() ? "" : ", ") + b; }

 private:
  unsigned mxcsr_ = 0;
  unsigned short x87_ = 0;
  std::string locale_, folder_, environment_;
  std::vector<void*> handlers_;
  unsigned mask_ = 0;
  int64_t threads_ = 0, files_ = 0;
};
// Within this scope, floating-point mode and locale are the host's again at the end, silently: later checks see what they see.
class KeepMode {
 public:
  KeepMode();
  ~KeepMode();
  KeepMode(const KeepMode&) = delete;
  KeepMode& operator=(const KeepMode&) = delete;

 private:
  unsigned mxcsr_;
  unsigned short x87_;
};

// Bytes that lie between two pages no one may touch. Touching them ends the process with a sentence on `report`.
class Guarded {
 public:
  enum class Side { end, begin };  // which of the two pages is next to the bytes
  Guarded(std::string what, size_t bytes, size_t readable_tail, Side side, unsigned char fill);
  ~Guarded();
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  void* data() const { return data_; }
  bool untouched_around() const;  // the bytes beside `bytes` inside of the pages still hold `fill`

 private:
  unsigned char *base_ = nullptr, *data_ = nullptr;
  size_t bytes_ = 0, pages_ = 0;
  unsigned char fill_ = 0;
};
// Turns a death by a guard page into a sentence: called once in a worker; `report` gets it before the process ends.
void watch_guards(void (*report)(const char* sentence));

}  // namespace quern::conform
