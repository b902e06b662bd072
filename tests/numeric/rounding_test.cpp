#include "core/numeric/rounding.hpp"

#include <gtest/gtest.h>
#include <immintrin.h>

#include <bit>
#include <cfenv>
#include <cmath>
#include <limits>
#include <random>

#include "core/numeric/rounding_f32.hpp"

namespace quern {
namespace {

constexpr Round all[] = {Round::floor, Round::to_zero, Round::half_up, Round::half_down, Round::half_away, Round::half_even};

TEST(Rounding, NamesReadBack) {
  for (Round r : all) {
    Round back = Round::floor;
    ASSERT_TRUE(round_from_name(name_of(r), back));
    EXPECT_EQ(back, r);
  }
  Round r;
  EXPECT_FALSE(round_from_name("nearest", r));
}

TEST(Rounding, ShiftByTheBook) {
  // value / 4 for -6 .. 6, by rule.
  const int table[6][13] = {
      {-2, -2, -1, -1, -1, -1, 0, 0, 0, 0, 1, 1, 1},    // floor
      {-1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1},       // to_zero
      {-1, -1, -1, -1, 0, 0, 0, 0, 1, 1, 1, 1, 2},      // half_up
      {-2, -1, -1, -1, -1, 0, 0, 0, 0, 1, 1, 1, 1},     // half_down
      {-2, -1, -1, -1, -1, 0, 0, 0, 1, 1, 1, 1, 2},     // half_away
      {-2, -1, -1, -1, 0, 0, 0, 0, 0, 1, 1, 1, 2},      // half_even
  };
  for (int r = 0; r < 6; ++r)
    for (int v = -6; v <= 6; ++v) {
      EXPECT_EQ(static_cast<int>(shift_right(v, 2, all[r])), table[r][v + 6]) << name_of(all[r]) << " " << v;
      EXPECT_EQ(shift_right64(v, 2, all[r]), table[r][v + 6]) << name_of(all[r]) << " " << v;
      EXPECT_EQ(to_integer(v / 4.0f, all[r]), table[r][v + 6]) << name_of(all[r]) << " " << v;
      EXPECT_EQ(to_integer(v / 4.0, all[r]), table[r][v + 6]) << name_of(all[r]) << " " << v;
    }
}

TEST(Rounding, WideAndNarrowShiftsAgree) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 200000; ++i) {
    const int64_t v = static_cast<int64_t>(random()) >> (random() % 64);
    const int shift = static_cast<int>(random() % 64);
    for (Round r : all) ASSERT_EQ(static_cast<int64_t>(shift_right(v, shift, r)), shift_right64(v, shift, r)) << v << " >> " << shift;
  }
  EXPECT_EQ(static_cast<int64_t>(shift_right(static_cast<i128>(-3) << 100, 101, Round::half_even)), -2);
  EXPECT_EQ(static_cast<int64_t>(shift_right(static_cast<i128>(1) << 125, 126, Round::half_up)), 1);
  EXPECT_EQ(static_cast<int64_t>(shift_right(-1, 126, Round::floor)), -1);
}

TEST(Rounding, FloatsAgreeWithTheLibrary) {
  std::mt19937_64 random(2);
  for (int i = 0; i < 400000; ++i) {
    const float f = std::bit_cast<float>(static_cast<uint32_t>(random()));
    if (!(std::fabs(f) < 9e18f)) continue;
    ASSERT_EQ(rne(f), std::llrint(f)) << f;
    ASSERT_EQ(to_integer(f, Round::floor), static_cast<int64_t>(std::floor(f))) << f;
    ASSERT_EQ(to_integer(f, Round::to_zero), static_cast<int64_t>(f)) << f;
    ASSERT_EQ(to_integer(f, Round::half_away), std::llround(f)) << f;
    const double d = std::bit_cast<double>(random());
    if (!(std::fabs(d) < 9e18)) continue;
    ASSERT_EQ(to_integer(d, Round::half_even), std::llrint(d)) << d;
    ASSERT_EQ(to_integer(d, Round::half_away), std::llround(d)) << d;
  }
}

TEST(Rounding, SpecialValues) {
  const float inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(rne(std::numeric_limits<float>::quiet_NaN()), 0);
  EXPECT_EQ(rne(inf), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(rne(-inf), std::numeric_limits<int64_t>::min());
  EXPECT_EQ(rne(0x1p63f), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(rne(-0x1p63f), std::numeric_limits<int64_t>::min());
  EXPECT_EQ(rne(0x1p62f), int64_t{1} << 62);
  EXPECT_EQ(rne(-0.0f), 0);
  EXPECT_EQ(to_integer(-1e-40f, Round::floor), -1);
  EXPECT_EQ(to_integer(1e-40f, Round::half_up), 0);
  EXPECT_EQ(to_integer(-1e-300, Round::floor), -1);
  EXPECT_EQ(to_integer(0x1.fffffffffffffp+62, Round::half_even), 0x7ffffffffffffc00);
}

TEST(Rounding, IndependentOfTheRoundingMode) {
  const int before = std::fegetround();
  std::fesetround(FE_UPWARD);
  volatile float half = 2.5f;
  const int64_t r = rne(half);
  const float wide = to_float((int64_t{1} << 40) + 1);
  std::fesetround(before);
  EXPECT_EQ(r, 2);
  EXPECT_EQ(wide, 0x1p40f);
}

TEST(Rounding, IntegersToFloat) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 300000; ++i) {
    const int64_t v = static_cast<int64_t>(random()) >> (random() % 64);
    ASSERT_EQ(to_float(v), static_cast<float>(v)) << v;
    ASSERT_EQ(to_float_wide(v), static_cast<float>(v)) << v;
  }
  for (int64_t v : {int64_t{0}, std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min(), int64_t{16777217}, int64_t{16777219}, int64_t{-16777217}})
    EXPECT_EQ(to_float(v), static_cast<float>(v)) << v;
}

__attribute__((target("f16c"))) uint16_t hardware_half(float f) {
  return static_cast<uint16_t>(_mm_extract_epi16(_mm_cvtps_ph(_mm_set_ss(f), _MM_FROUND_TO_NEAREST_INT), 0));
}

TEST(Rounding, HalfPrecision) {
  for (uint32_t h = 0; h < 65536; ++h) {
    const float f = from_half(static_cast<uint16_t>(h));
    if ((h & 0x7fff) > 0x7c00) { EXPECT_TRUE(std::isnan(f)); EXPECT_TRUE(std::isnan(from_half(to_half(f)))); continue; }
    ASSERT_EQ(to_half(f), h);
  }
  EXPECT_EQ(from_half(0x3c00), 1.0f);
  EXPECT_EQ(from_half(0x0001), 0x1p-24f);
  EXPECT_EQ(to_half(65519.0f), 0x7bff);
  EXPECT_EQ(to_half(65520.0f), 0x7c00);
  EXPECT_EQ(to_half(0x1p-25f), 0x0000);       // tie to even
  EXPECT_EQ(to_half(0x1.000002p-25f), 0x0001);
  EXPECT_EQ(to_half(-1e-45f), 0x8000);
  if (!__builtin_cpu_supports("f16c")) GTEST_SKIP() << "no F16C on this machine";
  std::mt19937 random(4);
  for (int i = 0; i < 1000000; ++i) {
    uint32_t bits = random();
    if (i % 2) bits = (bits & 0x87ffffff) | (0x30000000 + (random() % 0x1a) * 0x800000);  // near the range of f16
    const float f = std::bit_cast<float>(bits);
    if (std::isnan(f)) continue;
    ASSERT_EQ(to_half(f), hardware_half(f)) << f;
  }
}

}  // namespace
}  // namespace quern

namespace quern {
namespace {

TEST(RoundingF32, GivesTheValuesOfToInteger) {
  const auto same = [](float a, float b) { return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b); };
  std::vector<float> values{0.0f, -0.0f, 0.5f, -0.5f, 1.5f, 2.5f, -1.5f, -2.5f, 0.49999997f, 8388607.5f, 8388608.0f, -8388607.5f, 4194303.5f, 16777216.0f, 1e30f, 1e-45f, INFINITY, -INFINITY};
  for (uint64_t bits = 0; bits <= 0xffffffffu; bits += 4093) values.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  for (float x : values) {
    if (std::isnan(x)) {
      ASSERT_TRUE(std::isnan(nearest_even(x)) && std::isnan(round_down(x)) && std::isnan(round_up(x)));
      ASSERT_EQ(bounded_int(x), 0);
      continue;
    }
    const bool whole = std::fabs(x) >= 8388608.0f;
    const auto want = [&](Round rule) { return whole ? x : std::copysign(static_cast<float>(to_integer(x, rule)), x); };
    ASSERT_TRUE(same(nearest_even(x), want(Round::half_even))) << x;
    ASSERT_TRUE(same(round_down(x), want(Round::floor))) << x;
    ASSERT_TRUE(same(round_up(x), whole ? x : -std::copysign(static_cast<float>(to_integer(-x, Round::floor)), -x))) << x;
    ASSERT_EQ(bounded_int(nearest_even(x)), std::clamp<int64_t>(to_integer(x, Round::half_even), -16777216, 16777216)) << x;
  }
}

TEST(Rounding, HalfWithoutBranchesHasTheSameBits) {
  for (uint32_t h = 0; h < 65536; ++h) {
    const float a = from_half(static_cast<uint16_t>(h)), b = half_value(static_cast<uint16_t>(h));
    ASSERT_EQ(std::bit_cast<uint32_t>(a), std::bit_cast<uint32_t>(b)) << h;
    // Every f16, its neighbours in f32, and the ties between it and the next.
    const uint32_t bits = std::bit_cast<uint32_t>(a);
    for (uint32_t d : {0u, 1u, 0xfffu, 0x1000u, 0x1001u, 0xffffffffu}) {
      const float x = std::bit_cast<float>(bits + d);
      ASSERT_EQ(half_bits(x), to_half(x)) << x;
    }
  }
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 9973) {
    const float x = std::bit_cast<float>(static_cast<uint32_t>(bits));
    ASSERT_EQ(half_bits(x), to_half(x)) << x;
  }
}

}  // namespace
}  // namespace quern
