#include "core/base/parallel.hpp"

#include <gtest/gtest.h>
#include <xmmintrin.h>

#include <atomic>
#include <mutex>
#include <numeric>
#include <set>
#include <thread>
#include <vector>

#include "core/base/error.hpp"

namespace quern {
namespace {

TEST(Parallel, EveryIndexOnce) {
  for (int threads : {1, 2, 3, 8, 100})
    for (int64_t count : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> seen(static_cast<size_t>(count));
      std::atomic<int> largest{-1};
      parallel_for(count, threads, [&](int64_t i, int worker) {
        ++seen[static_cast<size_t>(i)];
        int l = largest;
        while (worker > l && !largest.compare_exchange_weak(l, worker)) {}
      });
      for (auto& s : seen) EXPECT_EQ(s, 1);
      EXPECT_LT(largest, std::min<int64_t>(threads, std::max<int64_t>(count, 1)));
    }
}

TEST(Parallel, TheErrorOfTheLowestIndexWins) {
  for (int threads : {1, 2, 4})
    for (int repeat = 0; repeat < 50; ++repeat) {
      try {
        parallel_for(200, threads, [](int64_t i, int) {
          if (i == 50) std::this_thread::sleep_for(std::chrono::milliseconds(1));  // the others fail first
          if (i >= 50) throw Error(ErrorCode::data, "sample " + std::to_string(i));
        });
        FAIL();
      } catch (const Error& e) {
        EXPECT_STREQ(e.what(), "sample 50");
      }
    }
}

TEST(Parallel, CancelStops) {
  for (int threads : {1, 3}) {
    std::atomic<int> done{0};
    try {
      parallel_for(100000, threads, [&](int64_t, int) { if (++done == 10) request_cancel(); });
      clear_cancel();
      FAIL();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::interrupted);
    }
    clear_cancel();
    EXPECT_LT(done, 1000);
  }
  EXPECT_FALSE(cancel_requested());
  throw_if_cancelled();
}

TEST(Parallel, ThreadsAreKept) {
  std::set<std::thread::id> ids;
  std::mutex mutex;
  for (int call = 0; call < 200; ++call)
    parallel_for(3, 3, [&](int64_t, int) {
      std::this_thread::sleep_for(std::chrono::microseconds(50));
      std::lock_guard lock(mutex);
      ids.insert(std::this_thread::get_id());
    });
  EXPECT_GE(ids.size(), 2u);
  EXPECT_LE(ids.size(), 20u);  // 600 if each call started its own; other tests' helpers may be among them
}

TEST(Parallel, LoopsWithinLoopsAndFromManyThreads) {
  std::atomic<int64_t> sum{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c)
    callers.emplace_back([&] {
      for (int repeat = 0; repeat < 20; ++repeat)
        parallel_for(5, 3, [&](int64_t i, int) { parallel_for(7, 2, [&](int64_t j, int) { sum += 10 * i + j; }); });
    });
  for (auto& t : callers) t.join();
  EXPECT_EQ(sum, 4 * 20 * (7 * 10 * 10 + 5 * 21));
}

// A job that leaves another rounding mode in its thread changes nothing for the next one.
TEST(Parallel, EveryJobBeginsWithItsCallersRoundingMode) {
  const unsigned int usual = _mm_getcsr();
  for (int repeat = 0; repeat < 50; ++repeat) {
    parallel_for(8, 4, [&](int64_t, int worker) { if (worker > 0) _mm_setcsr(usual | 0x6000); });
    std::atomic<int> others{0};
    parallel_for(8, 4, [&](int64_t, int) { others += (_mm_getcsr() & 0x6000) != (usual & 0x6000); });
    EXPECT_EQ(others, 0);
  }
}

TEST(Parallel, AtLeastOneCore) { EXPECT_GE(usable_cores(), 1); }

}  // namespace
}  // namespace quern
