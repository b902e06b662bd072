#include <condition_variable>
#include <exception>
#include <limits>
#include <mutex>

#include "core/base/parallel.hpp"
#include "core/engine/engine.hpp"

namespace quern {
namespace {

// Hands results on in the order of indices. A worker that is too far ahead waits, so that memory stays bounded; the
// smallest index not handed on is always being computed by somebody, so nobody waits for ever. After a failure at index f
// everything before f is still handed on, so that the error reported (the smallest index) is the same with any threads.
class InOrder {
 public:
  InOrder(int64_t ahead, const std::function<void(int64_t, NamedTensors)>& done) : ahead_(ahead), done_(done) {}

  bool failed_before(int64_t index) {
    std::lock_guard lock(mutex_);
    return index > failed_;
  }

  void fail(int64_t index, std::exception_ptr error) {
    std::lock_guard lock(mutex_);
    if (index < failed_) { failed_ = index; error_ = std::move(error); }
    moved_.notify_all();
  }

  void put(int64_t index, NamedTensors outputs) {
    std::unique_lock lock(mutex_);
    waiting_.emplace(index, std::move(outputs));
    while (!handing_on_ && !waiting_.empty() && waiting_.begin()->first == next_ && next_ < failed_) {
      handing_on_ = true;
      NamedTensors first = std::move(waiting_.begin()->second);
      const int64_t i = next_;
      waiting_.erase(waiting_.begin());
      lock.unlock();
      std::exception_ptr error;
      try {
        if (done_) done_(i, std::move(first));
      } catch (...) {
        error = std::current_exception();
      }
      lock.lock();
      handing_on_ = false;
      if (error && i < failed_) { failed_ = i; error_ = error; }
      ++next_;
      moved_.notify_all();
    }
    // The timeout is for a cancelled loop, whose other workers may have left without a word.
    while (index >= next_ + ahead_ && index < failed_ && !cancel_requested())
      moved_.wait_for(lock, std::chrono::milliseconds(20));
  }

  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  const int64_t ahead_;
  const std::function<void(int64_t, NamedTensors)>& done_;
  std::mutex mutex_;
  std::condition_variable moved_;
  std::map<int64_t, NamedTensors> waiting_;
  int64_t next_ = 0, failed_ = std::numeric_limits<int64_t>::max();
  std::exception_ptr error_;
  bool handing_on_ = false;
};

}  // namespace

void run_samples(Engine& engine, int64_t count, int threads, const std::function<NamedTensors(int64_t)>& input,
                 const std::function<void(int64_t, int, const std::string&, const TensorView&)>& tap,
                 const std::function<void(int64_t, NamedTensors)>& done) {
  threads = static_cast<int>(std::min<int64_t>(std::max(1, threads), std::max<int64_t>(1, count)));
  std::vector<Runner> runners;
  for (int w = 0; w < threads; ++w) runners.push_back(engine.runner(1));
  InOrder order(2 * threads + 2, done);
  parallel_for(count, threads, [&](int64_t i, int worker) {
    if (order.failed_before(i)) return;
    try {
      TapFunction observe;
      if (tap) observe = [&](const std::string& value, const TensorView& view) { tap(i, worker, value, view); };
      order.put(i, runners[static_cast<size_t>(worker)].run(input(i), observe));
    } catch (...) {
      order.fail(i, std::current_exception());
    }
  });
  order.rethrow();
}

}  // namespace quern
