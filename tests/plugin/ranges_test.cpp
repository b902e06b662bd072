// The range estimators, through their tables as the host calls them. Golden values: POT's own code run on these numbers.
#include <algorithm>
#include <cmath>
#include <random>

#include <fmt/format.h>

#include "tests/plugin/estimator.hpp"

namespace quern {
namespace {
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using namespace quern::testing;

std::string max_by(const std::string& aggregator) { return R"({"max": {"type": "max", "aggregator": ")" + aggregator + R"("}})"; }

TEST(Ranges, AggregatorsGiveThePotValues) {
  const std::vector<float> v{1.0f, 1.2f, 0.9f, 1.1f, 10.0f};
  const std::pair<const char*, double> golden[] = {{"mean", 2.84}, {"max", 10}, {"min", 0.9}, {"median", 1.1},
                                                   {"mean_no_outliers", 1.1}, {"median_no_outliers", 1.1}, {"hl_estimator", 1.125}};
  for (const auto& [name, value] : golden) {
    const auto r = Estimator("pot").rows(QUERN_STAT_SAMPLE_MIN, {-9}).rows(QUERN_STAT_SAMPLE_MAX, v).estimate(max_by(name));
    EXPECT_NEAR(r[0].high, value, 1e-6) << name;
  }
  // The min side has its own aggregator, mean by default.
  const auto r = Estimator("pot").rows(QUERN_STAT_SAMPLE_MIN, {-4, -1}).rows(QUERN_STAT_SAMPLE_MAX, {1, 2}).estimate();
  EXPECT_EQ(r[0].low, -2.5);
  EXPECT_EQ(r[0].high, 1.5);
  // Samples far apart and odd aggregators: the ends are put in order.
  const auto odd = Estimator("pot").rows(QUERN_STAT_SAMPLE_MIN, {1, 9}).rows(QUERN_STAT_SAMPLE_MAX, {2, 10}).estimate(max_by("min"));
  EXPECT_EQ(odd[0].low, 2);
  EXPECT_EQ(odd[0].high, 5);
}

TEST(Ranges, AggregatorsOfFewSamples) {
  for (const char* name : {"mean", "max", "min", "median", "mean_no_outliers", "median_no_outliers", "hl_estimator"}) {
    auto one = Estimator("pot").rows(QUERN_STAT_SAMPLE_MIN, {0}).rows(QUERN_STAT_SAMPLE_MAX, {3}).estimate(max_by(name));
    EXPECT_EQ(one[0].high, 3) << name;
    // Of two different values both are "outliers": all are taken then.
    auto two = Estimator("pot").rows(QUERN_STAT_SAMPLE_MIN, {0, 0}).rows(QUERN_STAT_SAMPLE_MAX, {1, 3}).estimate(max_by(name));
    EXPECT_EQ(two[0].high, std::string(name) == "max" ? 3 : std::string(name) == "min" ? 1 : 2) << name;
  }
  EXPECT_THAT(error_of([] { Estimator("pot").rows(QUERN_STAT_SAMPLE_MIN, {}).rows(QUERN_STAT_SAMPLE_MAX, {}).estimate(); }), HasSubstr("no sample"));
}

TEST(Ranges, HodgesLehmannIsTheMedianOverPairs) {
  std::mt19937 random(5);
  for (int round = 0; round < 200; ++round) {
    std::vector<float> v(2 + random() % 40);
    for (float& x : v) x = static_cast<float>(static_cast<int>(random() % 19)) * 0.25f * (round % 3 == 0 ? 1e6f : 1.0f) + (round % 2 ? 0.1f : 0.0f);
    std::vector<double> sums;
    for (size_t i = 0; i < v.size(); ++i)
      for (size_t j = 0; j < i; ++j) sums.push_back(double{v[i]} + double{v[j]});
    std::sort(sums.begin(), sums.end());
    const size_t n = sums.size();
    const double expected = 0.5 * (n % 2 ? sums[n / 2] : 0.5 * (sums[n / 2 - 1] + sums[n / 2]));
    const auto r = Estimator("pot").rows(QUERN_STAT_SAMPLE_MIN, {-9}).rows(QUERN_STAT_SAMPLE_MAX, v).estimate(max_by("hl_estimator"));
    EXPECT_EQ(r[0].high, expected);
  }
}

TEST(Ranges, PotAsksForWhatItsPresetsMean) {
  constexpr uint32_t min = QUERN_STAT_SAMPLE_MIN, max = QUERN_STAT_SAMPLE_MAX, abs_max = QUERN_STAT_SAMPLE_ABS_MAX,
                     quantile = QUERN_STAT_SAMPLE_QUANTILE, abs_quantile = QUERN_STAT_SAMPLE_ABS_QUANTILE;
  const std::string cut = R"({"preset": "quantile"})";
  EXPECT_THAT(Estimator("pot").asks(), ElementsAre(Asked{min, -1, 0}, Asked{max, -1, 0}));
  EXPECT_THAT(Estimator("pot").asks(""), ElementsAre(Asked{min, -1, 0}, Asked{max, -1, 0}));
  EXPECT_THAT(Estimator("pot").asks(cut), ElementsAre(Asked{quantile, -1, 1e-4}, Asked{quantile, -1, 1 - 1e-4}));
  EXPECT_THAT(Estimator("pot").symmetric().asks(), ElementsAre(Asked{min, -1, 0}, Asked{abs_max, -1, 0}));
  EXPECT_THAT(Estimator("pot").symmetric().asks(cut), ElementsAre(Asked{min, -1, 0}, Asked{abs_quantile, -1, 1 - 1e-4}));
  EXPECT_THAT(Estimator("pot").channels(1, 3).asks(), ElementsAre(Asked{min, 1, 0}, Asked{max, 1, 0}));
  // The sign of a symmetric quantizer is one for the tensor.
  EXPECT_THAT(Estimator("pot").channels(1, 3).symmetric().asks(), ElementsAre(Asked{min, -1, 0}, Asked{abs_max, 1, 0}));
  // Fields replace single fields of the preset.
  EXPECT_THAT(Estimator("pot").asks(R"({"preset": "quantile", "max": {"outlier_prob": 0.01}, "min": {"type": "min"}})"),
              ElementsAre(Asked{min, -1, 0}, Asked{quantile, -1, 0.99}));
  // Symmetric: max would cut off a longer negative side.
  EXPECT_THAT(Estimator("pot").symmetric().asks(R"({"max": {"type": "max"}})"), ElementsAre(Asked{min, -1, 0}, Asked{abs_max, -1, 0}));
  EXPECT_TRUE(Estimator("pot").weight(Tensor::of<float>({2}, {1, 2})).asks().empty());
}

TEST(Ranges, PotSymmetricKeepsTheSign) {
  auto r = Estimator("pot").symmetric().rows(QUERN_STAT_SAMPLE_MIN, {0, 0.5f}).rows(QUERN_STAT_SAMPLE_ABS_MAX, {2, 4}).estimate();
  EXPECT_EQ(r[0].low, 0);
  EXPECT_EQ(r[0].high, 3);
  r = Estimator("pot").symmetric().rows(QUERN_STAT_SAMPLE_MIN, {0, -0.5f}).rows(QUERN_STAT_SAMPLE_ABS_MAX, {2, 4}).estimate();
  EXPECT_EQ(r[0].low, -3);
  // Per channel: the largest over samples, each channel for itself.
  r = Estimator("pot").symmetric().channels(1, 2).rows(QUERN_STAT_SAMPLE_MIN, {0, -1}).rows(QUERN_STAT_SAMPLE_ABS_MAX, {2, 5, 4, 1}).estimate();
  EXPECT_EQ(r[0].high, 4);
  EXPECT_EQ(r[0].low, -4);
  EXPECT_EQ(r[1].high, 5);
  r = Estimator("pot").symmetric().rows(QUERN_STAT_SAMPLE_MIN, {-1}).rows(QUERN_STAT_SAMPLE_ABS_MAX, {9}).estimate(R"({"max": {"clipping_value": 6}})");
  EXPECT_EQ(r[0].high, 6);
  EXPECT_EQ(r[0].low, -6);
}

TEST(Ranges, WeightsPerChannelOnTheData) {
  const Tensor w = Tensor::of<float>({2, 3}, {-1, 2, 0.5f, -7, 1, 3});
  auto r = Estimator("pot").format(8, true, true).symmetric().channels(0, 2).weight(w).estimate();
  EXPECT_EQ(r[0].high, 2);
  EXPECT_EQ(r[0].low, -2);
  EXPECT_EQ(r[1].high, 7);
  r = Estimator("pot").format(8, true, false).channels(1, 3).weight(w).estimate();
  EXPECT_EQ(r[0].low, -7);
  EXPECT_EQ(r[0].high, -1);
  EXPECT_EQ(r[2].high, 3);
  r = Estimator("pot").format(8, true, false).weight(w).estimate(R"({"max": {"type": "quantile", "outlier_prob": 0.2}})");
  EXPECT_DOUBLE_EQ(r[0].high, 2);  // h = 5 * 0.8 = 4 exactly
  EXPECT_EQ(r[0].low, -7);
  r = Estimator("min_max").format(8, true, true).symmetric().channels(0, 2).weight(w).estimate();
  EXPECT_EQ(r[0].low, -1);
  EXPECT_EQ(r[0].high, 2);
  EXPECT_THAT(error_of([&] { Estimator("min_max").channels(0, 5).weight(w).estimate(); }), HasSubstr("axis does not fit"));
}

TEST(Ranges, BadParametersAreToldInASentence) {
  auto says = [](const char* name, const std::string& parameters) { return error_of([&] { Estimator(name).asks(parameters); }); };
  EXPECT_THAT(says("pot", R"({"maxx": {}})"), HasSubstr("unknown parameter 'maxx'; there are preset, min, max"));
  EXPECT_THAT(says("pot", R"({"max": {"type": "min"}})"), HasSubstr("'max' has no type 'min'; there are max, abs_max"));
  EXPECT_THAT(says("pot", R"({"min": {"type": "abs_max"}})"), HasSubstr("there are min, quantile"));
  EXPECT_THAT(says("pot", R"({"max": {"aggregator": "average"}})"), HasSubstr("no aggregator 'average'; there are mean, max"));
  EXPECT_THAT(says("pot", R"({"max": {"outlier_prob": 1}})"), HasSubstr("outlier_prob"));
  EXPECT_THAT(says("pot", R"({"max": {"outlier_prob": "x"}})"), HasSubstr("must be a number"));
  EXPECT_THAT(says("pot", R"({"preset": "fast"})"), HasSubstr("no preset 'fast'"));
  EXPECT_THAT(says("pot", R"({"preset": 1)"), HasSubstr("JSON, character 13"));
  EXPECT_THAT(says("min_max", R"({"bins": 3})"), HasSubstr("unknown parameter 'bins'"));
  EXPECT_THAT(error_of([] { Estimator("pot").rows(QUERN_STAT_SAMPLE_MIN, {1}).estimate(); }), HasSubstr("more are needed"));
  EXPECT_THAT(error_of([] { Estimator("pot").rows(QUERN_STAT_SAMPLE_MIN, {1}).rows(QUERN_STAT_SAMPLE_MIN, {1}).estimate(); }), HasSubstr("order"));
  EXPECT_THAT(error_of([] {
    Estimator("pot").rows(QUERN_STAT_SAMPLE_MIN, {1}).rows(QUERN_STAT_SAMPLE_MAX, {2}).estimate(R"({"min": {"clipping_value": 5}})");
  }), HasSubstr("above the high end"));
}

// ---- mse ---------------------------------------------------------------------------------------------------------
// Mean squared error of the host's own quantizer for a range.
double error_of_range(const std::vector<float>& data, Range range, const NumberFormat& format, bool symmetric) {
  std::vector<Range> ranges;
  if (symmetric) {
    const double m = std::max(std::abs(range.low), std::abs(range.high));
    ranges = symmetric_ranges(std::span(&m, 1), format);
  } else {
    ranges = asymmetric_ranges(std::span(&range, 1), format);
  }
  const Tensor x = Tensor::of<float>({static_cast<int64_t>(data.size())}, data);
  const Tensor y = fake_quantize(x, params_from_ranges(ranges, format, -1));
  double sum = 0;
  for (size_t i = 0; i < data.size(); ++i) {
    const double e = double{y.values<float>()[i]} - double{data[i]};
    sum += e * e;
  }
  return sum / static_cast<double>(data.size());
}

std::vector<float> samples_of(int shape, size_t n) {
  std::mt19937 random(11);
  std::normal_distribution<float> normal;
  std::vector<float> v(n);
  for (size_t i = 0; i < n; ++i) {
    float x = normal(random);
    if (shape == 1) x = std::max(x, 0.0f);                              // after a Relu
    if (shape == 2) x = x * x * x;                                      // long tails
    if (shape == 3) x = i % 4096 == 0 ? 40.0f : x;                      // outliers
    if (shape == 4) x = std::min(std::max(3 + 2 * x, 0.0f), 6.0f);      // Relu6
    v[i] = x;
  }
  return v;
}

TEST(Ranges, MseIsNearTheBestRangeThereIs) {
  for (int shape = 0; shape < 5; ++shape) {
    const std::vector<float> data = samples_of(shape, 20000);
    const auto [low, high] = std::minmax_element(data.begin(), data.end());
    for (int bits : {8, 4}) {
      for (bool symmetric : {true, false}) {
        const bool is_signed = symmetric && *low < 0;
        Estimator e("mse");
        e.format(bits, is_signed, false).symmetric(symmetric).extremes_and_histogram(data);
        const Range r = e.estimate()[0];
        const double mine = error_of_range(data, r, e.number_format(), symmetric);
        const double whole = error_of_range(data, {*low, *high}, e.number_format(), symmetric);
        double best = whole;
        for (double a = 1; a > 0.02; a -= 0.01)
          for (double b = 1; b > 0.02; b -= symmetric ? 2 : 0.03)
            best = std::min(best, error_of_range(data, {*low * (symmetric ? a : b), *high * a}, e.number_format(), symmetric));
        SCOPED_TRACE(fmt::format("shape {} bits {} symmetric {}: [{}, {}] of [{}, {}], error {} best {} whole {}", shape, bits, symmetric, r.low,
                                 r.high, *low, *high, mine, best, whole));
        EXPECT_LE(mine, whole * 1.001);
        EXPECT_LE(mine, best * 1.05);
        EXPECT_GE(r.low, *low);
        EXPECT_LE(r.high, *high);
      }
    }
  }
}

TEST(Ranges, MseOfWeightsPerChannel) {
  const size_t n = 600;
  std::vector<float> all;
  std::vector<std::vector<float>> channels;
  for (int shape : {0, 2, 3}) {
    channels.push_back(samples_of(shape, n));
    all.insert(all.end(), channels.back().begin(), channels.back().end());
  }
  all.resize(4 * n, 0.0f);  // and a channel of zeros
  const Tensor w = Tensor::of<float>({4, static_cast<int64_t>(n)}, all);
  for (int bits : {8, 4}) {
    Estimator e("mse");
    e.format(bits, true, true).symmetric().channels(0, 4).weight(w);
    const auto ranges = e.estimate();
    set_plugin_threads(4);
    const auto again = Estimator("mse").format(bits, true, true).symmetric().channels(0, 4).weight(w).estimate();
    set_plugin_threads(1);
    EXPECT_EQ(ranges[3].high, 0);
    for (size_t c = 0; c < 4; ++c) {
      EXPECT_EQ(ranges[c].low, again[c].low);
      EXPECT_EQ(ranges[c].high, again[c].high);
    }
    for (size_t c = 0; c < 3; ++c) {
      double m = 0;
      for (float v : channels[c]) m = std::max(m, std::abs(double{v}));
      double best = 1e9;
      for (double a = 1; a > 0.05; a -= 0.002) best = std::min(best, error_of_range(channels[c], {-m * a, m * a}, e.number_format(), true));
      EXPECT_LE(error_of_range(channels[c], ranges[c], e.number_format(), true), best * 1.03) << c << ' ' << bits;
      EXPECT_EQ(ranges[c].low, -ranges[c].high);
    }
  }
}

TEST(Ranges, MseOfConstantsAndPerChannelActivations) {
  auto r = Estimator("mse").extremes_and_histogram(std::vector<float>(10, 0.0f)).estimate();
  EXPECT_EQ(r[0].low, 0);
  EXPECT_EQ(r[0].high, 0);
  r = Estimator("mse").extremes_and_histogram(std::vector<float>(10, 2.5f)).estimate();
  EXPECT_LE(r[0].high, 2.5);
  EXPECT_GT(r[0].high, 2.4);
  EXPECT_THAT(Estimator("mse").asks(), ElementsAre(Asked{QUERN_STAT_MIN_MAX, -1, 0}, Asked{QUERN_STAT_HISTOGRAM, -1, 0}));
  EXPECT_THAT(Estimator("mse").channels(1, 4).asks(), ElementsAre(Asked{QUERN_STAT_MIN_MAX, 1, 0}));
}

}  // namespace
}  // namespace quern
