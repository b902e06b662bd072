#include "core/statistics/scan.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace quern {
namespace {

std::vector<float> data_of(int kind, int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> v(static_cast<size_t>(count));
  for (float& x : v) {
    const float g = normal(random);
    switch (kind) {
      case 0: x = g; break;
      case 1: x = std::max(g, 0.0f); break;                          // half zeros
      case 2: x = std::round(g * 2) / 2; break;                      // many ties
      case 3: x = std::exp(g * 5) * (g > 0 ? 1 : -1); break;         // heavy tails
      case 4: x = 3.0f; break;                                       // constant
      default: x = (random() % 2) ? -0.0f : 0.0f; break;
    }
  }
  return v;
}

// Every test with vectors of 512 and 256 bits (where the machine has them) and with plain loops: the same expectations.
class Scan : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override { limit_scan_vectors(GetParam()); }
  void TearDown() override { limit_scan_vectors(512); }
};
INSTANTIATE_TEST_SUITE_P(Vectors, Scan, ::testing::Values(128, 256, 512));

TEST_P(Scan, Extremes) {
  for (int kind = 0; kind < 6; ++kind)
    for (int64_t n : {1, 2, 7, 8, 31, 32, 33, 63, 64, 65, 127, 130, 1000, 1001}) {
      auto v = data_of(kind, n + 1, static_cast<uint32_t>(n));
      v.erase(v.begin());  // what follows in memory, and where it begins, is nothing to the result
      const Extremes e = extremes_of(v.data(), n);
      EXPECT_TRUE(e.finite);
      EXPECT_EQ(e.low, *std::min_element(v.begin(), v.end()));
      EXPECT_EQ(e.high, *std::max_element(v.begin(), v.end()));
      EXPECT_FALSE(e.low == 0 && std::signbit(e.low));
      EXPECT_FALSE(e.high == 0 && std::signbit(e.high));
    }
}

TEST_P(Scan, EveryPlaceOfABadValueIsSeen) {
  for (float bad : {NAN, INFINITY, -INFINITY, -std::numeric_limits<float>::quiet_NaN()})
    for (int64_t n : {1, 5, 32, 70, 128, 150})
      for (int64_t i = 0; i < n; ++i) {
        auto v = data_of(0, n, 1);
        v[static_cast<size_t>(i)] = bad;
        EXPECT_FALSE(extremes_of(v.data(), n).finite) << i;
      }
}

TEST_P(Scan, RowExtremes) {
  for (int64_t channels : {1, 3, 8, 19, 31, 32, 33, 40, 64, 77, 128})
    for (int64_t rows : {1, 2, 11}) {
      const auto v = data_of(0, channels * rows, 5);
      std::vector<float> low(v.begin(), v.begin() + channels), high = low;
      merge_row_extremes(v.data(), rows, channels, low.data(), high.data());
      for (int64_t c = 0; c < channels; ++c) {
        float least = v[static_cast<size_t>(c)], most = least;
        for (int64_t r = 0; r < rows; ++r) {
          least = std::min(least, v[static_cast<size_t>(r * channels + c)]);
          most = std::max(most, v[static_cast<size_t>(r * channels + c)]);
        }
        EXPECT_EQ(low[static_cast<size_t>(c)], least) << channels;
        EXPECT_EQ(high[static_cast<size_t>(c)], most) << channels;
      }
    }
}

TEST_P(Scan, HistogramBins) {
  EXPECT_EQ(histogram_exponent(1.0f), 1);
  EXPECT_EQ(histogram_exponent(0.999f), 0);
  EXPECT_EQ(histogram_exponent(0), histogram_lowest_exponent);
  EXPECT_EQ(histogram_exponent(1e-40f), histogram_lowest_exponent);
  EXPECT_EQ(histogram_exponent(std::numeric_limits<float>::max()), 128);
  for (int kind = 0; kind < 6; ++kind)
    for (float factor : {1.0f, 1e-30f, 1e30f}) {
      auto v = data_of(kind, 5003, 9);
      float largest = 0;
      for (float& x : v) { x *= factor; largest = std::max(largest, std::fabs(x)); }
      if (!std::isfinite(largest)) continue;
      const int e = histogram_exponent(largest);
      std::vector<int64_t> negative(2048), positive(2048), want_n(2048), want_p(2048);
      int64_t zeros = 0, want_z = 0;
      count_bins(v.data(), 5003, e, negative.data(), positive.data(), zeros);
      for (float x : v) {
        if (x == 0) { ++want_z; continue; }
        const size_t bin = static_cast<size_t>(std::floor(std::fabs(static_cast<double>(x)) * 2048 / std::ldexp(1.0, e)));
        ASSERT_LT(bin, 2048u);
        ++(x < 0 ? want_n : want_p)[bin];
      }
      EXPECT_EQ(negative, want_n);
      EXPECT_EQ(positive, want_p);
      EXPECT_EQ(zeros, want_z);
    }
}

TEST_P(Scan, QuantilesBySorting) {
  for (int kind = 0; kind < 6; ++kind)
    for (int64_t n : {1, 2, 3, 10, 17, 100, 1023, 20000})
      for (double q : {0.0, 1e-4, 0.01, 0.1, 0.25, 0.5, 0.9, 0.99, 0.9999, 1.0})
        for (bool absolute : {false, true}) {
          const auto v = data_of(kind, n, static_cast<uint32_t>(n) + 100);
          std::vector<float> sorted = v;
          if (absolute) for (float& x : sorted) x = std::fabs(x);
          std::sort(sorted.begin(), sorted.end());
          const double h = static_cast<double>(n - 1) * q;
          const size_t k = static_cast<size_t>(h);
          const double a = sorted[k], b = sorted[std::min(k + 1, sorted.size() - 1)];
          const float want = static_cast<float>(a + (h - static_cast<double>(k)) * (b - a)) + 0.0f;
          ASSERT_EQ(std::bit_cast<uint32_t>(quantile_of(v.data(), n, q, absolute)), std::bit_cast<uint32_t>(want)) << kind << " " << n << " " << q << " " << absolute;
        }
  std::vector<float> rising(50000);
  for (size_t i = 0; i < rising.size(); ++i) rising[i] = static_cast<float>(i);  // every value beats the threshold
  EXPECT_EQ(quantile_of(rising.data(), 50000, 0.999, false), static_cast<float>(49999 * 0.999));
}

}  // namespace
}  // namespace quern
