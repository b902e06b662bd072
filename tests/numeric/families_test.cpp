// The requantization of ten hardware families, each written once by hand as plain code and once as a stage list: random
// values, ties and extremes, no difference allowed.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <random>

#include "tests/numeric/stage_helpers.hpp"

namespace quern {
namespace {

using namespace test;
using K = StageKind;

constexpr int64_t i32_min = std::numeric_limits<int32_t>::min(), i32_max = std::numeric_limits<int32_t>::max();

// Accumulators of `bits` bits: uniform, of every magnitude, near zero, extremes.
std::vector<int64_t> accumulators(int bits, int count, uint64_t seed) {
  std::mt19937_64 random(seed);
  const int64_t high = (int64_t{1} << (bits - 1)) - 1, low = -high - 1;
  std::vector<int64_t> v{low, low + 1, high, high - 1, 0, 1, -1};
  for (int i = -300; i <= 300; ++i) v.push_back(i);
  for (int k = 1; k < bits - 1; ++k)
    for (int64_t d : {-1, 0, 1}) { v.push_back((int64_t{1} << k) + d); v.push_back(-(int64_t{1} << k) + d); }
  while (static_cast<int>(v.size()) < count) {
    const int64_t x = static_cast<int64_t>(random()) >> (64 - bits);
    v.push_back(random() % 2 ? x : x >> (random() % static_cast<uint64_t>(bits)));
  }
  return v;
}

// Compares over all accumulators with the parameters of channel i % channels.
void compare(const std::vector<Stage>& stages, const Tables& tables, int64_t channels, const std::vector<int64_t>& acc,
             const std::function<int64_t(int64_t acc, size_t channel)>& plain) {
  const StageProgram program("family", stages, tables, {}, channels);
  size_t checked = 0;
  for (int64_t a : acc)
    for (int64_t c = 0; c < channels; ++c, ++checked) {
      const StageValue got = program.run(integer(a), c);
      ASSERT_FALSE(got.is_float);
      ASSERT_EQ(got.i, plain(a, static_cast<size_t>(c))) << "accumulator " << a << ", channel " << c;
    }
  EXPECT_GE(checked, 200000u);
}

std::vector<int64_t> multipliers(int64_t low, int64_t high, int count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<int64_t> v{low, high};
  while (static_cast<int>(v.size()) < count) v.push_back(low + static_cast<int64_t>(random() % static_cast<uint64_t>(high - low + 1)));
  return v;
}

// gemmlowp: doubling high multiplication that saturates, then a rounding division by a power of two.
int32_t high_mul(int32_t a, int32_t b) {
  if (a == b && a == i32_min) return static_cast<int32_t>(i32_max);
  const int64_t ab = static_cast<int64_t>(a) * b;
  const int64_t nudge = ab >= 0 ? (int64_t{1} << 30) : 1 - (int64_t{1} << 30);
  return static_cast<int32_t>((ab + nudge) / (int64_t{1} << 31));
}
int32_t divide_by_power(int32_t x, int exponent) {
  const int32_t mask = static_cast<int32_t>((int64_t{1} << exponent) - 1);
  const int32_t remainder = x & mask, threshold = (mask >> 1) + (x < 0 ? 1 : 0);
  return (x >> exponent) + (remainder > threshold ? 1 : 0);
}

TEST(Families, GemmlowpRightShift) {
  const auto m = multipliers(int64_t{1} << 30, i32_max, 20, 1);
  std::vector<int64_t> s;
  for (size_t i = 0; i < m.size(); ++i) s.push_back(static_cast<int64_t>(i * 31 / m.size()));
  Tables t;
  t.ints("m", m).ints("s", s);
  compare({stage(K::mul, named("m")), shr(whole(31), Round::half_up), stage(K::clamp, whole(i32_min), whole(i32_max)), shr(named("s"), Round::half_away),
           stage(K::add, whole(-7)), stage(K::clamp, whole(-128), whole(127))},
          t, 20, accumulators(32, 12000, 2), [&](int64_t a, size_t c) {
            const int64_t q = divide_by_power(high_mul(static_cast<int32_t>(a), static_cast<int32_t>(m[c])), static_cast<int>(s[c])) - int64_t{7};
            return std::clamp<int64_t>(q, -128, 127);
          });
}

TEST(Families, GemmlowpLeftShiftAndExtremes) {
  auto m = multipliers(int64_t{1} << 30, i32_max, 9, 3);
  m.push_back(i32_min);  // the one product that saturates
  std::vector<int64_t> s;
  for (size_t i = 0; i < m.size(); ++i) s.push_back(static_cast<int64_t>(i % 9));
  Tables t;
  t.ints("m", m).ints("s", s);
  compare({stage(K::shl_sat, named("s"), {}, Round::half_even, 32), stage(K::mul, named("m")), shr(whole(31), Round::half_up),
           stage(K::clamp, whole(i32_min), whole(i32_max))},
          t, 10, accumulators(32, 21000, 4), [&](int64_t a, size_t c) {
            const int64_t left = std::clamp<int64_t>(a * (int64_t{1} << s[c]), i32_min, i32_max);
            return int64_t{high_mul(static_cast<int32_t>(left), static_cast<int32_t>(m[c]))};
          });
}

TEST(Families, TfliteSingleRounding) {
  const auto m = multipliers(0, i32_max, 20, 5);
  std::vector<int64_t> total;  // 31 - shift, shift -25 .. 8
  for (size_t i = 0; i < m.size(); ++i) total.push_back(static_cast<int64_t>(23 + i * 33 / m.size()));
  Tables t;
  t.ints("m", m).ints("t", total);
  compare({stage(K::mul, named("m")), shr(named("t"), Round::half_up), stage(K::clamp, whole(i32_min), whole(i32_max))}, t, 20, accumulators(32, 12000, 6),
          [&](int64_t a, size_t c) {
            const int64_t round = int64_t{1} << (total[c] - 1);
            return std::clamp<int64_t>((a * m[c] + round) >> total[c], i32_min, i32_max);
          });
}

TEST(Families, Int16By8) {
  const auto m = multipliers(0, i32_max, 20, 7);
  std::vector<int64_t> reduced, total;
  for (size_t i = 0; i < m.size(); ++i) {
    reduced.push_back(m[i] < 0x7fff0000 ? (m[i] + (1 << 15)) >> 16 : 0x7fff);
    total.push_back(static_cast<int64_t>(8 + i * 30 / m.size()));
  }
  Tables t;
  t.ints("r", reduced).ints("t", total);
  compare({stage(K::mul, named("r")), shr(named("t"), Round::half_up), stage(K::clamp, whole(-32768), whole(32767))}, t, 20, accumulators(48, 12000, 8),
          [&](int64_t a, size_t c) {
            return std::clamp<int64_t>((a * reduced[c] + (int64_t{1} << (total[c] - 1))) >> total[c], -32768, 32767);
          });
}

TEST(Families, Nvdla) {
  const auto m = multipliers(-32768, 32767, 20, 9), offset = multipliers(-1000, 1000, 20, 10);
  std::vector<int64_t> s;
  for (int i = 0; i < 20; ++i) s.push_back(i);
  Tables t;
  t.ints("m", m).ints("o", offset).ints("s", s);
  compare({stage(K::add, minus("o")), stage(K::mul, named("m")), shr(named("s"), Round::half_away), stage(K::clamp, whole(-128), whole(127))}, t, 20,
          accumulators(34, 12000, 11), [&](int64_t a, size_t c) {
            const int64_t product = (a - offset[c]) * m[c];
            const int64_t size = product < 0 ? -product : product;
            const int64_t rounded = s[c] == 0 ? size : (size + (int64_t{1} << (s[c] - 1))) >> s[c];
            return std::clamp<int64_t>(product < 0 ? -rounded : rounded, -128, 127);
          });
}

TEST(Families, PowerOfTwoHalfUp) {  // ESP32-S3
  std::vector<int64_t> s{0, 1, 2, 3, 4, 5, 7, 9, 12, 17};
  Tables t;
  t.ints("s", s);
  compare({shr(named("s"), Round::half_up), stage(K::clamp, whole(-128), whole(127))}, t, 10, accumulators(20, 21000, 12), [&](int64_t a, size_t c) {
    return std::clamp<int64_t>(s[c] == 0 ? a : (a + (int64_t{1} << (s[c] - 1))) >> s[c], -128, 127);
  });
}

TEST(Families, PowerOfTwoHalfEven) {  // ESP32-P4
  std::vector<int64_t> s{-2, 0, 1, 2, 3, 4, 6, 8, 12, 17};
  Tables t;
  t.ints("s", s);
  compare({shr(named("s"), Round::half_even), stage(K::clamp, whole(-32768), whole(32767))}, t, 10, accumulators(40, 21000, 13), [&](int64_t a, size_t c) {
    if (s[c] <= 0) return std::clamp<int64_t>(a * (int64_t{1} << -s[c]), -32768, 32767);
    const double exact = static_cast<double>(a) / static_cast<double>(int64_t{1} << s[c]);  // 40 bits: exact in double
    return std::clamp<int64_t>(static_cast<int64_t>(std::nearbyint(exact)), -32768, 32767);
  });
}

TEST(Families, FloatMultiplierHalfEven) {  // oneDNN, XNNPACK
  std::mt19937 random(14);
  std::uniform_real_distribution<float> exponent(-20, -2);
  std::vector<float> scale{0.5f, 0.25f, 0.125f, 1.0f / 1024}, bias{0, 3, -100, 16777216};
  while (scale.size() < 20) {
    scale.push_back(std::exp2(exponent(random)));
    bias.push_back(static_cast<float>(static_cast<int>(random() % 20001) - 10000));
  }
  std::vector<int64_t> z{101};
  Tables t;
  t.floats("s", scale).floats("b", bias).ints("z", z);
  compare({stage(K::i2f32), stage(K::fadd32, named("b")), stage(K::fmul32, named("s")), stage(K::fadd32, named("z")),
           stage(K::f2i, whole(0), whole(255), Round::half_even)},
          t, 20, accumulators(32, 12000, 15), [&](int64_t a, size_t c) {
            volatile float v = static_cast<float>(a);
            v = v + bias[c];
            v = v * scale[c];
            v = v + 101.0f;
            const float clamped = std::min(std::max(static_cast<float>(v), 0.0f), 255.0f);
            return static_cast<int64_t>(std::lrintf(clamped));
          });
}

TEST(Families, NpuMultiplierHalfEven) {  // u16 multiplier and shift
  const auto m = multipliers(1, 65535, 20, 16);
  std::vector<int64_t> s, post{0};
  for (int i = 0; i < 20; ++i) s.push_back(i + 6);
  Tables t;
  t.ints("m", m).ints("s", s);
  compare({stage(K::mul, named("m")), shr(named("s"), Round::half_even), stage(K::add, whole(128)), stage(K::clamp, whole(0), whole(255))}, t, 20,
          accumulators(32, 12000, 17), [&](int64_t a, size_t c) {
            const int64_t p = a * m[c], unit = int64_t{1} << s[c];
            int64_t q = p / unit, rest = p % unit;  // towards zero
            if (rest < 0) { rest += unit; --q; }
            if (2 * rest > unit || (2 * rest == unit && q % 2 != 0)) ++q;
            return std::clamp<int64_t>(q + 128, 0, 255);
          });
}

TEST(Families, GnaPiecewiseLinear) {
  std::mt19937_64 random(18);
  std::vector<int32_t> rows;
  int64_t x = i32_min + 1000;
  for (int i = 0; i < 64; ++i) {
    const int32_t base = static_cast<int32_t>((x & ~int64_t{3}) | (i % 4));
    rows.insert(rows.end(), {base, static_cast<int32_t>(random() % 65536) - 32768, static_cast<int32_t>(random() % 65536) - 32768});
    x += 4 + static_cast<int64_t>(random() % 60000000);
  }
  Tables t;
  t.all["segments"] = Tensor::of<int32_t>({64, 3}, rows);
  auto acc = accumulators(32, 200000, 19);
  for (size_t i = 0; i < rows.size(); i += 3)
    for (int64_t d = -5; d <= 5; ++d) acc.push_back(std::clamp<int64_t>(int64_t{rows[i]} + d, i32_min, i32_max));
  compare({stage(K::pwl, named("segments")), stage(K::clamp, whole(-32768), whole(32767))}, t, 1, acc, [&](int64_t a, size_t) {
    int64_t y = rows[2];
    for (size_t i = 0; i < rows.size(); i += 3) {
      const int64_t base = rows[i] - (rows[i] & 3);
      if (a < base) break;
      const int64_t units[] = {256, 65536, 16777216, int64_t{1} << 32};
      const int64_t p = (a - base) * rows[i + 1], unit = units[rows[i] & 3];
      y = (p >= 0 ? p / unit : -((-p + unit - 1) / unit)) + rows[i + 2];
    }
    return std::clamp<int64_t>(y, -32768, 32767);
  });
}

TEST(Families, K210BatchNorm) {
  const auto m = multipliers(-(1 << 23), (1 << 23) - 1, 20, 20), add = multipliers(i32_min, i32_max, 20, 21);
  std::vector<int64_t> s;
  for (int i = 0; i < 20; ++i) s.push_back(i % 16);
  Tables t;
  t.ints("m", m).ints("s", s).ints("a", add);
  const int64_t high = (int64_t{1} << 35) - 1;
  compare({stage(K::mul, named("m")), shr(named("s"), Round::floor), stage(K::add, named("a")), stage(K::clamp, whole(-high - 1), whole(high))}, t, 20,
          accumulators(36, 12000, 22), [&](int64_t a, size_t c) {
            const int64_t p = a * m[c], unit = int64_t{1} << s[c];
            const int64_t down = p >= 0 ? p / unit : -((-p + unit - 1) / unit);
            return std::clamp<int64_t>(down + add[c], -high - 1, high);
          });
}

}  // namespace
}  // namespace quern
