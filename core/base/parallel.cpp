#include "core/base/parallel.hpp"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <limits>
#include <mutex>
#include <thread>
#include <vector>

#include "core/base/error.hpp"

namespace quern {
namespace {
std::atomic<bool> cancelled{false};
static_assert(std::atomic<bool>::is_always_lock_free, "request_cancel is called from signal handlers");
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
  std::vector<std::thread> pool;
  try {
    pool.reserve(static_cast<size_t>(threads) - 1);
    for (int w = 1; w < threads; ++w) pool.emplace_back(work, w);
  } catch (const std::exception&) {  // no more threads or memory to be had: those that run do the work
  }
  work(0);
  for (auto& t : pool) t.join();
  if (error) std::rethrow_exception(error);
}

}  // namespace quern
