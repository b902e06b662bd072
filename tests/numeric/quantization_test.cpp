#include "core/numeric/quantization.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <random>

#include "core/base/error.hpp"
#include "core/numeric/rounding.hpp"

namespace quern {
namespace {

const NumberFormat s8 = make_format(8, true, false), u8 = make_format(8, false, false), s8n = make_format(8, true, true);

void expect_range(const Range& r, double low, double high) {
  EXPECT_NEAR(r.low, low, std::fabs(low) * 1e-7);
  EXPECT_NEAR(r.high, high, std::fabs(high) * 1e-7);
}
std::vector<Range> symmetric(std::vector<double> m, const NumberFormat& f) { return symmetric_ranges(m, f); }
std::vector<Range> asymmetric(std::vector<Range> r, const NumberFormat& f) { return asymmetric_ranges(r, f); }

TEST(Formats, Codes) {
  EXPECT_EQ(s8.qmin, -128);
  EXPECT_EQ(s8.levels(), 256);
  EXPECT_EQ(s8n.qmin, -127);
  EXPECT_EQ(s8n.levels(), 255);
  EXPECT_EQ(u8.qmax, 255);
  EXPECT_EQ(make_format(32, false, false).qmax, 4294967295);
  EXPECT_EQ(make_format(1, true, false).qmin, -1);
  EXPECT_EQ(make_format(4, true, false).storage(), DType::s8);
  EXPECT_EQ(make_format(9, false, false).storage(), DType::u16);
  EXPECT_EQ(make_format(17, true, false).storage(), DType::s32);
  EXPECT_THROW(make_format(0, true, false), Error);
  EXPECT_THROW(make_format(33, true, false), Error);
  EXPECT_THROW(make_format(1, true, true), Error);
}

// Golden values of NNCF, which has POT's formulas and constants.
TEST(Ranges, GoldenSymmetric) {
  expect_range(symmetric({2}, s8)[0], -2.0157480240, 2);
  expect_range(symmetric({2}, u8)[0], 0, 2);
  expect_range(symmetric({0}, u8)[0], 0, 8e-5);
  const auto w = symmetric({1, 0.001, 0.5}, s8n);
  expect_range(w[0], -1, 1);
  expect_range(w[1], -0.01, 0.01);
  expect_range(w[2], -0.5, 0.5);
  expect_range(symmetric({1}, s8)[0], -1.0078740, 1);
  expect_range(symmetric({1}, make_format(2, true, false))[0], -2, 1);
}

TEST(Ranges, GoldenAsymmetric) {
  expect_range(asymmetric({{-0.5, 3.3}}, u8)[0], -0.5076923370, 3.2999999523);
  expect_range(asymmetric({{0.7, 3}}, u8)[0], 0, 3);
  expect_range(asymmetric({{-1e-5, 1e-5}}, u8)[0], -8.163779e-4, 8.1e-4);
  expect_range(asymmetric({{-3, -0.7}}, u8)[0], -3, 0);
  expect_range(asymmetric({{0, 0}}, u8)[0], asymmetric({{0, 0}}, s8)[0].low, asymmetric({{0, 0}}, s8)[0].high);
}

TEST(Ranges, ZeroIsExactAndNothingIsCutOff) {
  std::mt19937 random(1);
  std::uniform_real_distribution<double> u(-5, 5);
  for (int bits : {2, 4, 8, 16, 32})
    for (int i = 0; i < 3000; ++i) {
      const NumberFormat f = make_format(bits, i % 2 == 0, false);
      Range r{u(random), u(random)};
      if (r.low > r.high) std::swap(r.low, r.high);
      const Range t = asymmetric({r}, f)[0];
      const QuantParams p = params_from_ranges(std::vector<Range>{t}, f, -1);
      const double step = (t.high - t.low) / static_cast<double>(f.levels() - 1);
      const double zero = -t.low / step;
      ASSERT_NEAR(zero, std::round(zero), 1e-6 * std::max(1.0, zero)) << bits;
      ASSERT_EQ(p.zero_point[0] - f.qmin, std::llround(zero));
      // Only what lies within half a step (of the range before) of zero may be lost.
      const double lost = (std::max(r.high, 0.0) - std::min(r.low, 0.0)) / static_cast<double>(f.levels() - 1) / 2 + 1e-9;
      ASSERT_LE(t.low, std::min(r.low, 0.0) + lost);
      ASSERT_GE(t.high, std::max(r.high, 0.0) - lost);
    }
}

TEST(Ranges, UnifiedZeroPoint) {
  const std::vector<Range> r{{-1, 3}, {-2, 2}, {0, 4}, {-0.1, 0.5}};
  const auto t = unified_ranges(r, u8);
  // mean of 63.75, 127.5, 0, 42.5 = 58.4375 -> 58
  const QuantParams p = params_from_ranges(t, u8, 0);
  for (int64_t z : p.zero_point) EXPECT_EQ(z, 58);
  for (size_t i = 0; i < r.size(); ++i) {
    EXPECT_LE(t[i].low, r[i].low + 1e-12);
    EXPECT_GE(t[i].high, r[i].high - 1e-12);
  }
}

TEST(Ranges, SymmetricHasZeroPointZero) {
  for (int bits : {2, 4, 8, 16, 24, 32})
    for (double m : {1e-6, 0.3, 1.0, 77.7, 3e30}) {
      for (bool narrow : {false, true}) EXPECT_EQ(params_from_ranges(symmetric({m}, make_format(bits, true, narrow)), make_format(bits, true, narrow), -1).zero_point[0], 0) << bits;
      EXPECT_EQ(params_from_ranges(symmetric({m}, make_format(bits, false, false)), make_format(bits, false, false), -1).zero_point[0], 0) << bits;
    }
  EXPECT_FLOAT_EQ(params_from_ranges(symmetric({1.27}, s8), s8, -1).scale[0], 0.01f);
}

TEST(Ranges, NonsenseIsRefused) {
  EXPECT_THROW(symmetric({NAN}, s8), Error);
  EXPECT_THROW(symmetric({INFINITY}, s8), Error);
  EXPECT_THROW(asymmetric({{1, 0}}, s8), Error);
  EXPECT_THROW(asymmetric({{-INFINITY, 0}}, s8), Error);
  EXPECT_THROW(params_from_ranges(std::vector<Range>{{0, 0}}, s8, -1), Error);
  EXPECT_THROW(params_from_ranges(std::vector<Range>{{0, 1}, {0, 1}}, s8, -1), Error);
}

TEST(Params, PowersOfTwo) {
  QuantParams p{s8, 0, {0.5f, 0.3f, 0.25f, 0.2500001f, 1e-9f, 1e9f}, {0, 0, 0, 0, 0, 0}};
  EXPECT_EQ(to_power_of_two(p, -8, 4).scale, (std::vector<float>{0.5f, 0.5f, 0.25f, 0.5f, 1.0f / 256, 16}));
}

// ONNX's definition, written plainly.
int64_t plain_code(float x, float s, int64_t z, const NumberFormat& f) {
  if (std::isnan(x / s)) return z;
  const double q = std::nearbyint(static_cast<double>(x / s));
  return static_cast<int64_t>(std::clamp(q + static_cast<double>(z), static_cast<double>(f.qmin), static_cast<double>(f.qmax)));
}

std::vector<float> awkward(size_t count, float scale, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 40 * scale);
  std::vector<float> v;
  for (float x : {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 1e-45f, 3e38f, -3e38f}) v.push_back(x);
  while (v.size() < count) {
    const int k = static_cast<int>(random() % 1000) - 500;
    v.push_back(random() % 3 ? normal(random) : (static_cast<float>(k) + 0.5f) * scale);  // ties
  }
  return v;
}

template <class Q>
void check_format(const NumberFormat& f, int64_t z) {
  const float s = 0.037f;
  const auto x = awkward(4099, s, static_cast<uint32_t>(f.bits));
  const Tensor in = Tensor::of<float>({static_cast<int64_t>(x.size())}, x);
  const QuantParams p{f, -1, {s}, {z}};
  const Tensor q = quantize(in, p), fake = fake_quantize(in, p);
  ASSERT_EQ(q.type(), f.storage());
  Tensor back(DType::f32, q.dims());
  const Dims strides{1};
  dequantize({const_cast<void*>(q.data()), q.type(), q.dims(), strides}, p, {back.mutable_bytes(), DType::f32, back.dims(), strides});
  for (size_t i = 0; i < x.size(); ++i) {
    const int64_t want = plain_code(x[i], s, z, f);
    ASSERT_EQ(static_cast<int64_t>(q.values<Q>()[i]), want) << x[i] << " bits " << f.bits;
    const float real = static_cast<float>(want - z) * s;
    ASSERT_EQ(std::bit_cast<uint32_t>(fake.values<float>()[i]), std::bit_cast<uint32_t>(real)) << x[i];
    ASSERT_EQ(std::bit_cast<uint32_t>(back.values<float>()[i]), std::bit_cast<uint32_t>(real)) << x[i];
  }
}

TEST(Quantize, AllFormatsByTheDefinition) {
  check_format<uint8_t>(u8, 113);
  check_format<int8_t>(s8, -5);
  check_format<int8_t>(s8n, 0);
  check_format<int8_t>(make_format(4, true, false), 2);
  check_format<uint8_t>(make_format(2, false, false), 1);
  check_format<uint16_t>(make_format(16, false, false), 40000);
  check_format<int16_t>(make_format(16, true, false), -100);
  check_format<int32_t>(make_format(24, true, false), 7);
}

TEST(Quantize, PerChannelAndAnyStrides) {
  const Dims dims{2, 5, 3, 4};
  const auto x = awkward(120, 0.1f, 9);
  QuantParams p{u8, 1, {}, {}};
  for (int c = 0; c < 5; ++c) { p.scale.push_back(0.05f * static_cast<float>(c + 1)); p.zero_point.push_back(40 * c); }
  const Tensor rows = Tensor::of<float>(dims, x);
  const Tensor q = quantize(rows, p);
  for (int64_t i = 0; i < 120; ++i) {
    const size_t c = static_cast<size_t>(i / 12 % 5);
    ASSERT_EQ(q.values<uint8_t>()[static_cast<size_t>(i)], plain_code(x[static_cast<size_t>(i)], p.scale[c], p.zero_point[c], u8)) << i;
  }
  // channels-last in, row-major out and the other way round
  const Dims row = row_major_strides(dims), last = channels_last_strides(dims);
  std::vector<float> nhwc(120);
  copy({const_cast<float*>(x.data()), DType::f32, dims, row}, {nhwc.data(), DType::f32, dims, last});
  std::vector<uint8_t> a(120), b(120), c(120);
  quantize({nhwc.data(), DType::f32, dims, last}, p, {a.data(), DType::u8, dims, row});
  quantize({nhwc.data(), DType::f32, dims, last}, p, {b.data(), DType::u8, dims, last});
  copy({b.data(), DType::u8, dims, last}, {c.data(), DType::u8, dims, row});
  EXPECT_EQ(std::memcmp(a.data(), q.data(), 120), 0);
  EXPECT_EQ(std::memcmp(c.data(), q.data(), 120), 0);
}

TEST(Quantize, WideChannelLines) {  // the vector form with one scale per element
  const Dims dims{3, 37};
  const auto x = awkward(111, 0.1f, 10);
  QuantParams p{s8, 1, {}, {}};
  for (int c = 0; c < 37; ++c) { p.scale.push_back(0.01f * static_cast<float>(c + 1)); p.zero_point.push_back(c - 20); }
  const Tensor q = quantize(Tensor::of<float>(dims, x), p);
  for (size_t i = 0; i < 111; ++i) ASSERT_EQ(q.values<int8_t>()[i], plain_code(x[i], p.scale[i % 37], p.zero_point[i % 37], s8)) << i;
}

TEST(Quantize, WrongUseIsRefused) {
  const Tensor in = Tensor::of<float>({4}, std::vector<float>{1, 2, 3, 4});
  EXPECT_THROW(quantize(in, QuantParams{u8, 0, {1, 1}, {0, 0}}), Error);
  EXPECT_THROW(quantize(in, QuantParams{u8, -1, {1, 1}, {0, 0}}), Error);
  EXPECT_THROW(quantize(in, QuantParams{u8, -1, {}, {}}), Error);
  EXPECT_THROW(quantize(Tensor(DType::s32, {4}), QuantParams{u8, -1, {1}, {0}}), Error);
  EXPECT_EQ(quantize(Tensor(DType::f32, {0, 3}), QuantParams{u8, -1, {1}, {0}}).count(), 0);
}

TEST(FakeQuantizeOv, RoundsHalfToEvenAndSaturates) {
  for (auto [x, want] : {std::pair{0.5f, 0.0f}, {1.5f, 2.0f}, {2.5f, 2.0f}, {3.5f, 4.0f}, {254.5f, 254.0f}, {-3.0f, 0.0f}, {300.0f, 255.0f}})
    EXPECT_EQ(fake_quantize_ov(x, 0, 255, 0, 255, 256), want) << x;
  EXPECT_EQ(fake_quantize_ov(0.6f, 0, 1, -10, 10, 2), 10.0f);
}

}  // namespace
}  // namespace quern
