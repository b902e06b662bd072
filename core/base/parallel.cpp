#include "core/base/parallel.hpp"

#include <sched.h>
#include <xmmintrin.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <limits>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "core/base/error.hpp"

namespace quern {
namespace {
std::atomic<bool> cancelled{false};
static_assert(std::atomic<bool>::is_always_lock_free, "request_cancel is called from signal handlers");
}  // namespace

namespace {

// Threads that are kept: kernels ask for help thousands of times a second, and starting a thread takes longer than many of them. Helpers
// sleep between jobs; they are never joined, and the pool is never destroyed, so the end of the process needs no order.
class Helpers {
 public:
  struct Helper {
    std::atomic<int> state{idle};
    const std::function<void(int)>* work = nullptr;
    int worker = 0;
    unsigned int mxcsr = 0;
  };
  enum { idle, busy, leave };

  // Up to `count` helpers; fewer where there are no more threads or memory to be had.
  std::vector<Helper*> take(size_t count) {
    std::vector<Helper*> taken;
    try {
      taken.reserve(count);
      {
        std::lock_guard lock(mutex_);
        for (; taken.size() < count && !free_.empty(); free_.pop_back()) taken.push_back(free_.back());
      }
      while (taken.size() < count) {
        auto helper = std::make_unique<Helper>();
        std::thread(run, helper.get()).detach();
        taken.push_back(helper.release());
      }
    } catch (const std::exception&) {
    }
    return taken;
  }

  void start(Helper& h, const std::function<void(int)>& work, int worker) {
    h.work = &work;
    h.worker = worker;
    h.mxcsr = _mm_getcsr();
    h.state.store(busy, std::memory_order_release);
    h.state.notify_one();
  }

  // Waits for a helper and puts it back.
  void finish(Helper& h) noexcept {
    await(h.state, busy);
    {
      std::lock_guard lock(mutex_);
      if (free_.size() < free_.capacity()) { free_.push_back(&h); return; }
    }
    h.state.store(leave, std::memory_order_release);
    h.state.notify_one();
  }

  Helpers() { free_.reserve(64); }

 private:
  // Looks for some microseconds, then sleeps, until the state is another.
  static int await(std::atomic<int>& state, int while_it_is) noexcept {
    for (int i = 0; i < 1000; ++i) {
      const int now = state.load(std::memory_order_acquire);
      if (now != while_it_is) return now;
      _mm_pause();
    }
    state.wait(while_it_is, std::memory_order_acquire);
    return state.load(std::memory_order_acquire);
  }

  static void run(Helper* h) {
    while (await(h->state, idle) == busy) {
      _mm_setcsr(h->mxcsr);  // as a new thread would inherit it: what a job before left behind is nothing to this one
      (*h->work)(h->worker);
      h->state.store(idle, std::memory_order_release);
      h->state.notify_one();
    }
    delete h;
  }

  std::mutex mutex_;
  std::vector<Helper*> free_;
};

Helpers& helpers() {
  static Helpers& all = *new Helpers;
  return all;
}

}  // namespace

void request_cancel() noexcept { cancelled.store(true, std::memory_order_relaxed); }
bool cancel_requested() noexcept { return cancelled.load(std::memory_order_relaxed); }
void clear_cancel() noexcept { cancelled.store(false, std::memory_order_relaxed); }
void throw_if_cancelled() {
  if (cancel_requested()) throw Error(ErrorCode::interrupted, "interrupted; nothing was written");
}

int usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

void parallel_for(int64_t count, int threads, const std::function<void(int64_t, int)>& body) {
  threads = static_cast<int>(std::min<int64_t>(std::max(1, threads), std::max<int64_t>(1, count)));
  if (threads == 1) {
    for (int64_t i = 0; i < count; ++i) { throw_if_cancelled(); body(i, 0); }
    return;
  }
  std::atomic<int64_t> next{0};
  std::mutex mutex;
  std::exception_ptr error;
  int64_t error_index = std::numeric_limits<int64_t>::max();
  std::atomic<int64_t> stop_at{std::numeric_limits<int64_t>::max()};
  auto work = [&](int worker) {
    for (;;) {
      // Indices are handed out in order, so when one fails all smaller ones have been started and will finish: the
      // error reported is the one of the smallest failing index, with any number of threads.
      const int64_t i = next.fetch_add(1);
      if (i >= count || i > stop_at.load()) return;
      try {
        throw_if_cancelled();
        body(i, worker);
      } catch (...) {
        std::lock_guard lock(mutex);
        if (i < error_index) { error_index = i; error = std::current_exception(); stop_at = i; }
      }
    }
  };
  const std::function<void(int)> job = std::ref(work);
  const auto team = helpers().take(static_cast<size_t>(threads) - 1);
  for (size_t w = 0; w < team.size(); ++w) helpers().start(*team[w], job, static_cast<int>(w) + 1);
  work(0);
  for (auto* h : team) helpers().finish(*h);
  if (error) std::rethrow_exception(error);
}

}  // namespace quern
