// The estimators that clip: against plain implementations of their definitions, and against each other.
#include <fmt/format.h>

#include <random>

#include "tests/plugin/estimator.hpp"

namespace quern {
namespace {
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using namespace quern::testing;

std::vector<float> laplace(size_t n, unsigned seed, float scale = 1) {
  std::mt19937 random(seed);
  std::exponential_distribution<float> d(1 / scale);
  std::vector<float> out(n);
  for (size_t i = 0; i < n; ++i) out[i] = (random() % 2 ? 1.0f : -1.0f) * d(random);
  return out;
}

double width_of(const std::vector<float>& data) {
  double largest = 0;
  for (float v : data) largest = std::max(largest, std::abs(static_cast<double>(v)));
  return std::exp2(std::floor(std::log2(largest)) + 1) / 2048;
}

// ---- KL, written from the description with explicit distributions and logarithms of whole vectors.
double plain_kl_threshold(const std::vector<float>& data, int groups) {
  const double width = width_of(data);
  std::vector<double> counts(2048, 0);
  for (float v : data)
    if (v != 0) counts[static_cast<size_t>(std::abs(v) / width)] += 1;
  int used = 2048;
  while (counts[static_cast<size_t>(used) - 1] == 0) --used;
  double best = 0, least = 1e300;
  for (int i = groups; i <= used; ++i) {
    std::vector<double> p(counts.begin(), counts.begin() + i), q(static_cast<size_t>(i), 0);
    for (int b = i; b < used; ++b) p.back() += counts[static_cast<size_t>(b)];
    for (int g = 0; g < groups; ++g) {
      std::vector<int> members;
      double sum = 0;
      for (int b = g * i / groups; b < (g + 1) * i / groups; ++b) {
        sum += counts[static_cast<size_t>(b)];
        if (p[static_cast<size_t>(b)] > 0) members.push_back(b);
      }
      for (int b : members) q[static_cast<size_t>(b)] = sum / static_cast<double>(members.size());
    }
    double p_sum = 0, q_sum = 0, kl = 0;
    for (double v : p) p_sum += v;
    for (double v : q) q_sum += v;
    for (size_t b = 0; b < p.size(); ++b)
      if (p[b] > 0) kl += q[b] > 0 ? p[b] / p_sum * std::log((p[b] / p_sum) / (q[b] / q_sum)) : 1e300;
    if (kl < least) { least = kl; best = i * width; }
  }
  return best;
}

TEST(Clipping, KlIsThatOfAPlainImplementation) {
  for (unsigned seed = 0; seed < 6; ++seed) {
    std::vector<float> data = laplace(20000, seed);
    if (seed % 2) for (float& v : data) v = v * v * v;  // heavy tails
    double largest = 0;
    for (float v : data) largest = std::max(largest, std::abs(static_cast<double>(v)));
    const auto r = Estimator("kl").format(8, true, false).symmetric().extremes_and_histogram(data).estimate();
    const double plain = std::min(largest, plain_kl_threshold(data, 128));
    EXPECT_NEAR(r[0].high, plain, 1e-9 * plain) << seed;
    EXPECT_LT(r[0].high, (seed % 2 ? 0.8 : 1.0) * largest) << "min-max in disguise";
    EXPECT_EQ(r[0].low, -r[0].high);
  }
  // Unsigned: 256 levels on one side.
  std::vector<float> positive = laplace(20000, 9);
  for (float& v : positive) v = std::abs(v);
  const auto r = Estimator("kl").format(8, false, false).symmetric().extremes_and_histogram(positive).estimate();
  EXPECT_NEAR(r[0].high, plain_kl_threshold(positive, 256), 1e-9);
}

TEST(Clipping, PercentileKeepsItsShare) {
  const std::vector<float> data = laplace(50000, 3);
  std::vector<float> sorted = data, absolute = data;
  for (float& v : absolute) v = std::abs(v);
  std::sort(sorted.begin(), sorted.end());
  std::sort(absolute.begin(), absolute.end());
  const double width = width_of(data);
  for (double p : {0.9, 0.99, 0.999, 0.9999}) {
    const std::string parameters = fmt::format(R"({{"percentile": {}}})", p);
    const auto s = Estimator("percentile").format(8, true, false).symmetric().extremes_and_histogram(data).estimate(parameters);
    EXPECT_NEAR(s[0].high, absolute[static_cast<size_t>(p * 50000) - 1], width) << p;
    const auto a = Estimator("percentile").extremes_and_histogram(data).estimate(parameters);
    EXPECT_NEAR(a[0].high, sorted[static_cast<size_t>(p * 50000) - 1], width) << p;
    EXPECT_NEAR(a[0].low, sorted[static_cast<size_t>((1 - p) * 50000)], width) << p;
  }
  const auto all = Estimator("percentile").extremes_and_histogram(data).estimate(R"({"percentile": 1})");
  EXPECT_EQ(all[0].high, sorted.back());
  EXPECT_EQ(all[0].low, sorted.front());
  // Weights: the elements themselves, per channel.
  const auto w = Estimator("percentile").format(8, true, true).symmetric().channels(0, 2)
                     .weight(Tensor::of<float>({2, 4}, std::vector<float>{1, -2, 3, 4, 0, 0, 0, 8})).estimate(R"({"percentile": 0.75})");
  EXPECT_EQ(w[0].high, 3);
  EXPECT_EQ(w[1].high, 0);  // three quarters are zeros
}

// Mean |x - q(x)|^norm with the levels of a symmetric 8- or 4-bit quantizer.
double error_of_clip(const std::vector<float>& data, double clip, int bits, int norm) {
  const double top = (1 << (bits - 1)) - 1, scale = clip / top;
  double sum = 0;
  for (float v : data) {
    const double e = std::abs(v - std::clamp(std::nearbyint(v / scale), -top - 1, top) * scale);
    sum += norm == 2 ? e * e : e;
  }
  return sum;
}

TEST(Clipping, SearchesComeNearTheBestThreshold) {
  const std::vector<float> data = laplace(40000, 11);
  double largest = 0;
  for (float v : data) largest = std::max(largest, std::abs(static_cast<double>(v)));
  for (int bits : {4, 8}) {
    for (int norm : {1, 2}) {
      double least = 1e300;
      for (int i = 1; i <= 400; ++i) least = std::min(least, error_of_clip(data, largest * i / 400, bits, norm));
      const auto at = [&](const char* name) {
        const auto r = Estimator(name).format(bits, true, false).symmetric().extremes_and_histogram(data).estimate();
        return error_of_clip(data, r[0].high, bits, norm);
      };
      if (norm == 1) {
        EXPECT_LE(at("mae"), 1.03 * least) << bits;
        continue;
      }
      EXPECT_LE(at("mse"), 1.03 * least) << bits;
      EXPECT_LE(at("octav"), 1.10 * least) << bits;
      EXPECT_LE(at("admm"), error_of_clip(data, largest, bits, 2) * (1 + 1e-9)) << bits;  // from there it only goes down
    }
  }
  const auto mae = Estimator("mae").format(4, true, false).symmetric().extremes_and_histogram(data).estimate();
  const auto mse = Estimator("mse").format(4, true, false).symmetric().extremes_and_histogram(data).estimate();
  EXPECT_LT(mae[0].high, mse[0].high);  // absolute errors weigh outliers less
}

TEST(Clipping, HistogramSearchCutsTheTailAndKeepsWhatWouldCostMore) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  std::vector<float> data(32768);
  for (float& v : data) v = normal(random);
  const auto plain = Estimator("histogram").extremes_and_histogram(data).estimate();
  EXPECT_LE(plain[0].high, *std::max_element(data.begin(), data.end()));
  EXPECT_GT(plain[0].high, 3);
  EXPECT_LT(plain[0].low, -3);
  for (size_t i = 0; i < data.size(); i += 4096) data[i] = 40;
  const auto outlier = Estimator("histogram").extremes_and_histogram(data).estimate();
  EXPECT_GT(outlier[0].high, 39.9);  // one in 4,096: under squares alone it stays
}

TEST(Clipping, MovingAverageGoesFromSampleToSample) {
  const auto r = Estimator("moving_average").rows(QUERN_STAT_SAMPLE_MIN, {-1, -2, 0}).rows(QUERN_STAT_SAMPLE_MAX, {1, 3, 5}).estimate(R"({"c": 0.5})");
  EXPECT_EQ(r[0].low, -0.75);   // -1, -1.5, -0.75
  EXPECT_EQ(r[0].high, 3.5);    // 1, 2, 3.5
  const auto s = Estimator("moving_average").format(8, true, false).symmetric().rows(QUERN_STAT_SAMPLE_MIN, {-1, -2}).rows(QUERN_STAT_SAMPLE_ABS_MAX, {1, 3}).estimate();
  EXPECT_NEAR(s[0].high, 1.02, 1e-12);
  EXPECT_EQ(s[0].low, -s[0].high);
}

TEST(Clipping, NothingToClip) {
  for (const char* name : {"mae", "percentile", "kl", "octav", "admm", "histogram"}) {
    // All zeros; one value; per channel, where there is no histogram.
    EXPECT_EQ(Estimator(name).extremes_and_histogram({0, 0, 0}).estimate()[0].high, 0) << name;
    const auto one = Estimator(name).extremes_and_histogram({2, 2, 2, 2}).estimate();
    EXPECT_NEAR(one[0].high, 2, 1e-9) << name;
    EXPECT_THAT(error_of([&] { Estimator(name).asks(R"({"threshold": 3})"); }), HasSubstr("threshold")) << name;
    const auto w = Estimator(name).format(8, true, true).symmetric().channels(0, 2).weight(Tensor::of<float>({2, 2}, std::vector<float>{0, 0, -1, 1})).estimate();
    EXPECT_EQ(w[0].high, 0) << name;
    EXPECT_GT(w[1].high, 0) << name;
    EXPECT_LE(w[1].high, 1) << name;
  }
}

}  // namespace
}  // namespace quern
