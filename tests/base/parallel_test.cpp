#include "core/base/parallel.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <numeric>
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

TEST(Parallel, AtLeastOneCore) { EXPECT_GE(usable_cores(), 1); }

}  // namespace
}  // namespace quern
