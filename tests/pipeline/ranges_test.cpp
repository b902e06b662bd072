#include "core/pipeline/ranges.hpp"

#include <gtest/gtest.h>

namespace quern {
namespace {

TypeRule type(const std::string& name, int bits, bool is_signed, ZeroPointRule zero) {
  TypeRule t;
  t.name = name;
  t.format = make_format(bits, is_signed, false);
  t.zero_point = zero;
  return t;
}

StatisticResult extremes(double low, double high) {
  StatisticResult r;
  r.kind = StatisticKind::min_max;
  r.low = {low};
  r.high = {high};
  r.count = 1;
  return r;
}

StatisticResult rows(StatisticKind kind, std::vector<float> values) {
  StatisticResult r;
  r.kind = kind;
  for (size_t i = 0; i < values.size(); ++i) r.sample_ids.push_back(static_cast<int64_t>(i));
  r.rows = std::move(values);
  return r;
}

TEST(MergeTied, ExtremesTakeTheWidest) {
  const auto r = merge_tied({"a", StatisticKind::min_max, -1, 0}, {extremes(-1, 2), extremes(-3, 1)});
  EXPECT_EQ(r.low[0], -3);
  EXPECT_EQ(r.high[0], 2);
}

TEST(MergeTied, RowsSampleBySample) {
  const StatisticRequest high{"a", StatisticKind::sample_max, -1, 0}, low{"a", StatisticKind::sample_min, -1, 0};
  EXPECT_EQ(merge_tied(high, {rows(high.kind, {1, 5}), rows(high.kind, {2, 3})}).rows, (std::vector<float>{2, 5}));
  EXPECT_EQ(merge_tied(low, {rows(low.kind, {1, -5}), rows(low.kind, {2, 3})}).rows, (std::vector<float>{1, -5}));
  // A constant has one row for all samples, in either place.
  EXPECT_EQ(merge_tied(high, {rows(high.kind, {4}), rows(high.kind, {2, 5, 3})}).rows, (std::vector<float>{4, 5, 4}));
  EXPECT_EQ(merge_tied({"a", StatisticKind::sample_quantile, -1, 0.01}, {rows(low.kind, {1}), rows(low.kind, {0})}).rows, std::vector<float>{0});
}

TEST(MergeTied, HistogramsOfDifferentRange) {
  StatisticResult a, b;
  a.kind = b.kind = StatisticKind::histogram;
  a.exponent = 0;
  b.exponent = 2;
  a.positive.assign(2048, 0);
  a.negative.assign(2048, 0);
  b.positive = a.positive;
  b.negative = a.negative;
  a.positive[2047] = 8;   // just below 1: after two doublings bin 511
  b.positive[511] = 1;
  a.zeros = 2;
  for (const auto& r : {merge_tied({"a", StatisticKind::histogram, -1, 0}, {a, b}), merge_tied({"a", StatisticKind::histogram, -1, 0}, {b, a})}) {
    EXPECT_EQ(r.exponent, 2);
    EXPECT_EQ(r.positive[511], 9);
    EXPECT_EQ(r.zeros, 2);
  }
}

TEST(ParamsFor, SymmetricAsymmetricUnsigned) {
  const Range r[] = {{-1, 2}};
  const auto symmetric = params_for(type("s8", 8, true, ZeroPointRule::zero), r, -1);
  EXPECT_EQ(symmetric.zero_point[0], 0);
  EXPECT_NEAR(symmetric.scale[0], 2.0 / 127, 1e-7);
  const auto asymmetric = params_for(type("u8", 8, false, ZeroPointRule::free), r, -1);
  EXPECT_EQ(asymmetric.zero_point[0], 85);
  EXPECT_NEAR(asymmetric.scale[0], 3.0 / 255, 1e-7);
  const auto positive = params_for(type("u8", 8, false, ZeroPointRule::zero), r, -1);
  EXPECT_EQ(positive.zero_point[0], 0);
  EXPECT_NEAR(positive.scale[0], 2.0 / 255, 1e-7);
}

TEST(ParamsFor, AListOfZeroPoints) {
  TypeRule t = type("u8", 8, false, ZeroPointRule::list);
  t.zero_points = {0, 128};
  const Range both[] = {{-1, 2}}, positive[] = {{0, 2}};
  const auto p = params_for(t, both, -1);
  EXPECT_EQ(p.zero_point[0], 128);
  EXPECT_GE(p.scale[0] * 127, 2.0f - 1e-6f);  // 2 is still covered
  EXPECT_EQ(params_for(t, positive, -1).zero_point[0], 0);
}

TEST(ParamsFor, PowersOfTwo) {
  TypeRule t = type("s8", 8, true, ZeroPointRule::zero);
  t.scale = ScaleRule::pow2;
  t.scale_min = -10;
  t.scale_max = 4;
  const Range r[] = {{-1, 1}};
  EXPECT_EQ(params_for(t, r, -1).scale[0], 1.0f / 64);  // 1/127 rounded up to a power of two
}

}  // namespace
}  // namespace quern
