#include "core/statistics/exact_sum.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace quern {
namespace {

double mean_of(const std::vector<float>& v) {
  ExactSum s;
  for (float x : v) s.add(x);
  return s.mean(v.size());
}

TEST(ExactSum, CancelsExactly) {
  EXPECT_EQ(mean_of({3e38f, 1e-45f, -3e38f}), static_cast<double>(std::numeric_limits<float>::denorm_min()) / 3);
  EXPECT_EQ(mean_of({1, 1e-30f, -1}), static_cast<double>(1e-30f) / 3);
  EXPECT_EQ(mean_of({}), 0);
  EXPECT_EQ(mean_of({0.0f, -0.0f}), 0);
  EXPECT_EQ(mean_of({-1.5f, -2.5f}), -2);
  EXPECT_EQ(mean_of({std::numeric_limits<float>::max(), std::numeric_limits<float>::max()}), static_cast<double>(std::numeric_limits<float>::max()));
}

TEST(ExactSum, RoundsOnce) {
  // Integers: the sum is exact in 64 bits and the mean is one division of long doubles, rounded to double.
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    const int n = 1 + static_cast<int>(random() % 50);
    int64_t sum = 0;
    ExactSum s;
    for (int i = 0; i < n; ++i) {
      const int v = static_cast<int>(random() % 2000001) - 1000000;
      sum += v;
      s.add(v);
    }
    ASSERT_EQ(s.mean(static_cast<uint64_t>(n)), static_cast<double>(sum) / n) << sum << "/" << n;
  }
  // A tie of the 53rd bit, and just above one.
  ExactSum tie;
  tie.add(0x1p60);
  tie.add(0x1p7);
  EXPECT_EQ(tie.mean(1), 0x1p60);
  tie.add(0x1p-140);
  EXPECT_EQ(tie.mean(1), 0x1p60 + 0x1p8);
}

TEST(ExactSum, RunsAndRowsEqualSingleAdditions) {
  std::mt19937 random(2);
  for (int kind = 0; kind < 4; ++kind)
    for (int64_t count : {1, 3, 4, 5, 8, 31, 1000, 40000, 70001}) {
      std::vector<float> v(static_cast<size_t>(count));
      for (float& x : v) {
        const float u = std::uniform_real_distribution<float>(-1, 1)(random);
        switch (kind) {
          case 0: x = u; break;
          case 1: x = std::max(u, 0.0f) * 7; break;
          case 2: x = std::ldexp(u, static_cast<int>(random() % 60)); break;
          default: x = std::ldexp(u, static_cast<int>(random() % 250) - 125); break;  // beyond both splits
        }
      }
      float bound = 0;
      for (float x : v) bound = std::max(bound, std::fabs(x));
      ExactSum one, run, loose;
      for (float x : v) one.add(x);
      add_run(v.data(), count, bound, run);
      add_run(v.data(), count, 3e38f, loose);
      ASSERT_EQ(one.limbs(), run.limbs()) << kind << " " << count;
      ASSERT_EQ(one.limbs(), loose.limbs()) << kind << " " << count;
      for (int64_t channels : {1, 2, 7, 16, 33}) {
        const int64_t rows = count / channels;
        std::vector<ExactSum> a(static_cast<size_t>(channels)), b(static_cast<size_t>(channels));
        for (int64_t i = 0; i < rows * channels; ++i) a[static_cast<size_t>(i % channels)].add(v[static_cast<size_t>(i)]);
        add_rows(v.data(), rows, channels, bound, b.data());
        for (size_t c = 0; c < a.size(); ++c) ASSERT_EQ(a[c].limbs(), b[c].limbs()) << kind << " " << count << " " << channels;
      }
    }
}

TEST(ExactSum, MergingIsAddition) {
  std::mt19937 random(3);
  ExactSum all, parts[3];
  for (int i = 0; i < 30000; ++i) {
    float f;
    do f = std::bit_cast<float>(static_cast<uint32_t>(random())); while (!std::isfinite(f));
    all.add(f);
    parts[random() % 3].add(f);
  }
  ExactSum merged;
  for (int k : {2, 0, 1}) merged.merge(parts[k]);
  EXPECT_EQ(merged.limbs(), all.limbs());
}

}  // namespace
}  // namespace quern
