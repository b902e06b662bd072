#include "core/numeric/portable_erf.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "core/numeric/portable_math.hpp"

namespace quern {
namespace {

// Every 1021st float: all exponents, both signs, infinities, NaNs, subnormals.
std::vector<float> sweep() {
  std::vector<float> v;
  for (uint64_t bits = 0; bits <= 0xffffffffu; bits += 1021) v.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  for (float x : {0.0f, -0.0f, 1.0f, -1.0f, std::nextafter(1.0f, 0.0f), 4.0f, std::nextafter(4.0f, 0.0f), 1e-45f, INFINITY, -INFINITY, NAN}) v.push_back(x);
  return v;
}

TEST(PortableErf, IsWithinTwoUlp) {
  double worst = 0;
  const auto x = sweep();
  std::vector<float> y(x.size());
  portable::erf_array(x.data(), y.data(), static_cast<long>(x.size()));
  for (size_t i = 0; i < x.size(); ++i) {
    if (std::isnan(x[i])) { EXPECT_TRUE(std::isnan(y[i])); continue; }
    const double want = portable::erf(static_cast<double>(x[i]));
    const float size = std::max(std::fabs(static_cast<float>(want)), std::numeric_limits<float>::min());
    const double ulp = static_cast<double>(std::nextafter(size, INFINITY)) - static_cast<double>(size);
    worst = std::max(worst, std::fabs(static_cast<double>(y[i]) - want) / ulp);
    ASSERT_EQ(std::signbit(y[i]), std::signbit(x[i])) << x[i];
    ASSERT_LE(std::fabs(y[i]), 1.0f) << x[i];
  }
  EXPECT_LT(worst, 2.0);
}

TEST(PortableErf, EveryFormGivesTheSameBits) {
  const auto x = sweep();
  std::vector<float> fast(x.size()), plain(x.size());
  portable::erf_array(x.data(), fast.data(), static_cast<long>(x.size()));
  portable::erf_array_scalar(x.data(), plain.data(), static_cast<long>(x.size()));
  EXPECT_EQ(std::memcmp(fast.data(), plain.data(), 4 * x.size()), 0);
  for (long n = 0; n < 40; ++n)
    for (long offset : {0, 1, 3}) {  // lengths, alignments, in place
      std::vector<float> v(50, 7.0f), want(50, 7.0f);
      for (long i = 0; i < n; ++i) v[static_cast<size_t>(offset + i)] = want[static_cast<size_t>(offset + i)] = 0.1f * static_cast<float>(i) - 1.5f;
      portable::erf_array(v.data() + offset, v.data() + offset, n);
      portable::erf_array_scalar(want.data() + offset, want.data() + offset, n);
      EXPECT_EQ(v, want) << n << " " << offset;
    }
}

}  // namespace
}  // namespace quern
