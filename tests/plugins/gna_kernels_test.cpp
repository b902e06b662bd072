// The gna_sim target's pieces: the fit of functions, the evaluation of segments, the sums; fast versions against plain ones.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "plugins/gna_sim/fit.hpp"
#include "plugins/gna_sim/sums.hpp"
#include "quern/portable_math.hpp"

namespace {

using quern_gna::Fit;
using quern_gna::Segment;
using quern_gna::Segments;
using quern_gna::Target;
namespace portable = quern_sdk::portable;

Target target(std::function<double(double)> f, double x_scale, double y_scale, std::vector<double> kinks = {}, double turn = 0) {
  Target t;
  t.f = std::move(f);
  t.x_scale = x_scale;
  t.y_scale = y_scale;
  t.kinks = std::move(kinks);
  t.turn = turn;
  return t;
}

void check_form(const Fit& fit) {
  ASSERT_GE(fit.rows.size(), 2u);
  ASSERT_LE(fit.rows.size(), 128u);
  for (size_t i = 0; i < fit.rows.size(); ++i) {
    EXPECT_GE(fit.rows[i].slope, -32768);
    EXPECT_LE(fit.rows[i].slope, 32767);
    if (i) { EXPECT_GT(fit.rows[i].x_base & ~3, fit.rows[i - 1].x_base & ~3); }
  }
}

// The largest error in codes over places that the fit did not choose.
double largest_error(const Fit& fit, const Target& t, double from, double to) {
  const Segments s(fit.rows);
  std::mt19937_64 r(3);
  double worst = 0;
  for (int i = 0; i < 200000; ++i) {
    const auto x = static_cast<int32_t>(std::uniform_real_distribution<double>(std::max(from / t.x_scale, -2147483648.0), std::min(to / t.x_scale, 2147483647.0))(r));
    const double y = std::min(t.high, std::max(t.low, static_cast<double>(s(x))));
    worst = std::max(worst, std::abs(y - std::min(t.high, std::max(t.low, t.f(x * t.x_scale) / t.y_scale))));
  }
  return worst;
}

TEST(GnaFit, FunctionsOverTheWholeRangeOf16Bits) {
  const struct { const char* name; std::function<double(double)> f; double y_scale; std::vector<double> kinks; double turn, bound; } cases[] = {
      {"tanh", [](double x) { return portable::tanh(x); }, 1 / 32767.0, {}, 0, 7},
      {"sigmoid", [](double x) { return portable::sigmoid(x); }, 1 / 32767.0, {}, 0, 7},
      {"exp", [](double x) { return portable::exp(x); }, 20 / 32767.0, {}, 0, 3},
      {"swish", [](double x) { return x * portable::sigmoid(x); }, 8 / 32767.0, {}, -1.2784645427610738, 7},
      {"relu", [](double x) { return x > 0 ? x : 0; }, 6 / 32767.0, {0}, 0, 1.5},
      {"leaky", [](double x) { return x < 0 ? 0.1 * x : x; }, 6 / 32767.0, {0}, 0, 1.5},
      {"identity", [](double x) { return x; }, 3 / 32767.0, {}, 0, 1.5},
      {"negated", [](double x) { return -x; }, 3 / 32767.0, {}, 0, 1.5},
  };
  for (const auto& c : cases)
    for (const double x_scale : {1e-8, 3.7e-7, 5.1e-6}) {
      const Target t = target(c.f, x_scale, c.y_scale, c.kinks, c.turn);
      const Fit fit = quern_gna::fit_segments(t, 128);
      check_form(fit);
      // What the fit says of itself is looked at in few places: a tenth above it at most elsewhere.
      const double error = largest_error(fit, t, -12, 12);
      EXPECT_LE(error, quern_gna::fit_error(t, fit) * 1.1 + 0.1) << c.name << " " << x_scale;
      EXPECT_LE(error, c.bound) << c.name << " " << x_scale << ", " << fit.rows.size() << " segments";
    }
}

TEST(GnaFit, FewSegmentsMakeItCoarserNotWrong) {
  const Target t = target([](double x) { return portable::tanh(x); }, 1e-7, 1 / 32767.0);
  double before = 0;
  for (int most : {128, 32, 12, 6}) {
    const Fit fit = quern_gna::fit_segments(t, most);
    ASSERT_FALSE(fit.rows.empty());
    EXPECT_LE(fit.rows.size(), static_cast<size_t>(most));
    EXPECT_GT(quern_gna::fit_error(t, fit), before);
    before = quern_gna::fit_error(t, fit);
  }
  EXPECT_TRUE(quern_gna::fit_segments(target([](double x) { return x; }, 1e-7, 1e-4, {-3, -2, -1, 0, 1, 2, 3}), 6).rows.empty());
}

TEST(GnaFit, OneCodeWhateverComesIn) {
  const Target t = target([](double) { return 0.25; }, 1e-6, 1e-3);
  const Fit fit = quern_gna::fit_segments(t, 128);
  check_form(fit);
  const Segments s(fit.rows);
  for (int32_t x : {INT32_MIN, -5, 0, 7, INT32_MAX}) EXPECT_EQ(s(x), 250);
}

TEST(GnaSegments, FastIsPlainAtEveryBase) {
  std::mt19937 r(5);
  for (int round = 0; round < 200; ++round) {
    std::vector<Segment> rows;
    int64_t base = round % 5 == 0 ? INT32_MIN : -static_cast<int64_t>(r() % 100000000);
    const size_t n = 1 + r() % 128;
    const int64_t step = round % 3 == 0 ? 4 : 4 + r() % 3000000;
    for (size_t i = 0; i < n && base < INT32_MAX - 3; ++i) {
      rows.push_back({static_cast<int32_t>((base & ~int64_t{3}) | (r() & 3)), static_cast<int32_t>(r() % 65535) - 32767, static_cast<int32_t>(r() % 65536) - 32768});
      base += 4 * (1 + r() % step);
    }
    const Segments s(rows);
    std::vector<int32_t> x{INT32_MIN, INT32_MAX, 0};
    for (const Segment& row : rows)
      for (int64_t d : {-1, 0, 1, 3, 4}) x.push_back(static_cast<int32_t>(std::clamp<int64_t>((row.x_base & ~3) + d, INT32_MIN, INT32_MAX)));
    for (int i = 0; i < 500; ++i) x.push_back(static_cast<int32_t>(r()));
    std::vector<int16_t> a(x.size()), b(x.size());
    s.plain(x.data(), static_cast<int64_t>(x.size()), -32768, 32767, a.data());
    s.run(x.data(), static_cast<int64_t>(x.size()), -32768, 32767, b.data());
    ASSERT_EQ(a, b);
  }
}

TEST(GnaSums, FastIsPlain) {
  std::mt19937 r(7);
  for (int64_t n : {1, 7, 15, 16, 17, 64, 100, 1000}) {
    const int64_t pitch = (n + 15) / 16 * 16;
    std::vector<int16_t> x(static_cast<size_t>(pitch)), w(static_cast<size_t>(pitch * 4));
    // As large as n products in 32 bits allow, extremes among them.
    const int top = static_cast<int>(std::min<int64_t>(32767, (int64_t{1} << 31) / 32768 / n - 1));
    for (int64_t k = 0; k < n; ++k) {
      x[static_cast<size_t>(k)] = k % 3 ? static_cast<int16_t>(r()) : int16_t{-32768};
      for (int64_t row = 0; row < 4; ++row) w[static_cast<size_t>(row * pitch + k)] = static_cast<int16_t>(k % 2 ? -top : static_cast<int>(r() % (2 * top + 1)) - top);
    }
    for (int rows = 1; rows <= 4; ++rows) {
      int32_t a[4] = {}, b[4] = {};
      quern_gna::plain_sums(x.data(), w.data(), pitch, rows, n, a);
      quern_gna::exact_sums(x.data(), w.data(), pitch, rows, n, b);
      for (int i = 0; i < rows; ++i) {
        uint64_t saturated = 0;
        EXPECT_EQ(a[i], b[i]) << n;
        EXPECT_EQ(quern_gna::saturating_sum(x.data(), w.data() + i * pitch, n, 0, 12, saturated), a[i]) << n;
        EXPECT_EQ(saturated, 0u);
      }
    }
  }
}

TEST(GnaSums, SaturatesAfterEveryBlockAndCounts) {
  const std::vector<int16_t> x(9, 32767);
  const std::vector<int16_t> w{32767, 32767, 32767, -32767, -32767, -32767, 5, 5, 5};
  uint64_t n = 0;
  // Nothing leaves 32 bits at the end; in between it does.
  EXPECT_EQ(quern_gna::saturating_sum(x.data(), w.data(), 9, 0, 0, n), 15 * 32767);
  EXPECT_EQ(n, 0u);
  // 3 * 32767^2 is cut off at 2^31 - 1, then 3 * 32767^2 are taken off: below zero, but within.
  EXPECT_EQ(quern_gna::saturating_sum(x.data(), w.data(), 9, 0, 3, n), static_cast<int32_t>(INT32_MAX - 3 * 32767ll * 32767 + 15 * 32767));
  EXPECT_EQ(n, 1u);
  n = 0;
  EXPECT_EQ(quern_gna::saturating_sum(x.data(), w.data(), 3, 0, 12288, n), INT32_MAX);
  EXPECT_EQ(n, 1u);
  n = 0;
  EXPECT_EQ(quern_gna::saturating_sum(x.data(), w.data() + 3, 3, -5, 1, n), INT32_MIN);
  EXPECT_EQ(n, 1u);
}

}  // namespace
