// Codes that adaptive rounding finds, against the nearest ones and against all that lie next to the weights.
#include "plugins/algorithms/adaround/rounding.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace {
using namespace adaround;

struct Problem {
  static constexpr int64_t inputs = 8, positions = 600;
  std::vector<float> x, y, w;
  Grid grid{0.25, 0, -7, 7};

  explicit Problem(unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (int64_t k = 0; k < inputs; ++k) w.push_back(normal(random) * 0.5f);
    for (int64_t p = 0; p < positions; ++p) {
      const float common = normal(random);  // inputs that go together, away from zero
      float target = 0.3f;
      for (int64_t k = 0; k < inputs; ++k) {
        x.push_back(1 + common + 0.4f * normal(random));
        target += w[static_cast<size_t>(k)] * x.back();
      }
      y.push_back(target);
    }
  }
  float value(int64_t code) const { return static_cast<float>(static_cast<double>(code - grid.zero) * grid.scale); }
  // As defined, in plain loops; `centred`: about the means.
  double error(const std::vector<float>& q, bool centred) const {
    double sum = 0, square = 0;
    for (int64_t p = 0; p < positions; ++p) {
      double d = -static_cast<double>(y[static_cast<size_t>(p)]);
      for (int64_t k = 0; k < inputs; ++k) d += static_cast<double>(q[static_cast<size_t>(k)]) * x[static_cast<size_t>(p * inputs + k)];
      sum += d;
      square += d * d;
    }
    const double mean = sum / positions;
    return square / positions - (centred ? mean * mean : 0);
  }
  std::vector<float> rounded(bool centred, std::vector<int64_t>* codes = nullptr) const {
    Moments m(inputs, 1);
    m.add(x.data(), y.data(), positions / 2);
    m.add(x.data() + positions / 2 * inputs, y.data() + positions / 2, positions / 2);
    const Rounder r(std::move(m), 1e-4, centred);
    const std::vector<int64_t> found = r.round(0, w.data(), grid);
    std::vector<float> q;
    for (int64_t c : found) q.push_back(value(c));
    if (codes) *codes = found;
    return q;
  }
  std::vector<float> nearest() const {
    std::vector<float> q;
    for (float v : w) q.push_back(value(std::clamp<int64_t>(std::lround(v / grid.scale), grid.qmin, grid.qmax)));
    return q;
  }
  double best(bool centred) const {
    double least = 1e300;
    for (unsigned bits = 0; bits < 1u << inputs; ++bits) {
      std::vector<float> q;
      for (int64_t k = 0; k < inputs; ++k) q.push_back(value(std::clamp<int64_t>(static_cast<int64_t>(std::floor(w[static_cast<size_t>(k)] / grid.scale)) + (bits >> k & 1), grid.qmin, grid.qmax)));
      least = std::min(least, error(q, centred));
    }
    return least;
  }
};

TEST(AdaRounding, IsFarBetterThanTheNearestAndCloseToTheBest) {
  for (bool centred : {true, false}) {
    double nearest = 0, found = 0, best = 0;
    for (unsigned seed = 0; seed < 60; ++seed) {
      const Problem p(seed);
      const double e = p.error(p.rounded(centred), centred), plain = p.error(p.nearest(), centred);
      EXPECT_LE(e, plain * 1.001) << seed;
      nearest += plain;
      found += e;
      best += p.best(centred);
    }
    EXPECT_LT(found, 0.6 * nearest) << centred;
    EXPECT_LT(found, 1.3 * best) << centred;
  }
}

TEST(AdaRounding, TheErrorIsTheOneDefined) {
  const Problem p(3);
  Moments m(Problem::inputs, 1);
  m.add(p.x.data(), p.y.data(), Problem::positions);
  const Rounder r(std::move(m), 1e-4, true);
  const std::vector<float> a = p.nearest(), b = p.rounded(true);
  EXPECT_NEAR(r.error(0, a) - r.error(0, b), p.error(a, true) - p.error(b, true), 1e-3);
  // With its bias the output has the target's mean.
  double mean = 0;
  for (int64_t i = 0; i < Problem::positions; ++i) {
    mean += r.bias(0, b) - static_cast<double>(p.y[static_cast<size_t>(i)]);
    for (int64_t k = 0; k < Problem::inputs; ++k) mean += static_cast<double>(b[static_cast<size_t>(k)]) * p.x[static_cast<size_t>(i * Problem::inputs + k)];
  }
  EXPECT_NEAR(mean / Problem::positions, 0, 1e-4);
}

TEST(AdaRounding, CodesStayInTheirRangeAndConstantInputsDoNoHarm) {
  Problem p(4);
  p.grid = {0.05, 1, -2, 3};  // far too small: all would saturate
  std::vector<int64_t> codes;
  p.rounded(true, &codes);
  for (int64_t c : codes) EXPECT_TRUE(c >= -2 && c <= 3);
  std::fill(p.x.begin(), p.x.end(), 0.0f);
  p.grid = {0.25, 0, -7, 7};
  p.rounded(true, &codes);
  for (size_t k = 0; k < codes.size(); ++k) EXPECT_EQ(codes[k], std::lround(p.w[k] / 0.25f));
}

}  // namespace
