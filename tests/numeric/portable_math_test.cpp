#include "core/numeric/portable_math.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "core/base/digest.hpp"
#include "quern/portable_math.hpp"

namespace quern {
namespace {

// Distance from the true value (long double of the library, 64 bits of mantissa) in units of the last place.
double ulps(double got, long double want) {
  if (std::isinf(got) || std::isinf(static_cast<double>(want))) return got == static_cast<double>(want) ? 0 : 1e9;
  const double rounded = static_cast<double>(want);
  const double unit = std::max(std::nextafter(std::fabs(rounded), INFINITY) - std::fabs(rounded), std::numeric_limits<double>::denorm_min());
  return static_cast<double>(std::fabs(static_cast<long double>(got) - want) / unit);
}

template <class F, class G>
double worst(F f, G g, double low, double high, int count) {
  std::mt19937_64 random(7);
  std::uniform_real_distribution<double> uniform(low, high);
  double w = 0;
  for (int i = 0; i < count; ++i) {
    const double x = uniform(random);
    w = std::max(w, ulps(f(x), g(static_cast<long double>(x))));
  }
  return w;
}

double e(double x) { return portable::exp(x); }
double l(double x) { return portable::log(x); }
double t(double x) { return portable::tanh(x); }
double r(double x) { return portable::erf(x); }
double s(double x) { return portable::sigmoid(x); }

TEST(PortableMath, ErrorBounds) {
  const auto exp_l = [](long double x) { return std::exp(x); };
  const auto log_l = [](long double x) { return std::log(x); };
  const auto tanh_l = [](long double x) { return std::tanh(x); };
  const auto erf_l = [](long double x) { return std::erf(x); };
  const auto sigmoid_l = [](long double x) { return 1 / (1 + std::exp(-x)); };
  for (const auto& [low, high] : {std::pair{-745.0, 709.7}, {-1.0, 1.0}, {-0.02, 0.02}, {-745.0, -708.0}}) EXPECT_LE(worst(e, exp_l, low, high, 200000), 1.0);
  for (const auto& [low, high] : {std::pair{0.0, 1e300}, {0.5, 2.0}, {0.99, 1.01}, {0.0, 1e-307}}) EXPECT_LE(worst(l, log_l, low, high, 200000), 1.5);
  for (const auto& [low, high] : {std::pair{-22.0, 22.0}, {-1.0, 1.0}, {-0.01, 0.01}}) EXPECT_LE(worst(t, tanh_l, low, high, 200000), 5.0);
  for (const auto& [low, high] : {std::pair{-6.5, 6.5}, {-0.6, 0.6}, {-1e-3, 1e-3}}) EXPECT_LE(worst(r, erf_l, low, high, 200000), 2.0);
  for (const auto& [low, high] : {std::pair{-740.0, 40.0}, {-5.0, 5.0}}) EXPECT_LE(worst(s, sigmoid_l, low, high, 200000), 3.0);
}

TEST(PortableMath, SpecialValues) {
  const double inf = INFINITY, nan = NAN;
  EXPECT_EQ(e(0), 1);
  EXPECT_EQ(e(-inf), 0);
  EXPECT_EQ(e(inf), inf);
  EXPECT_EQ(e(710), inf);
  EXPECT_EQ(e(-746), 0);
  EXPECT_GT(e(-745), 0);
  EXPECT_EQ(l(1), 0);
  EXPECT_EQ(l(0), -inf);
  EXPECT_EQ(l(inf), inf);
  EXPECT_TRUE(std::isnan(l(-1)));
  EXPECT_EQ(t(inf), 1);
  EXPECT_EQ(t(-inf), -1);
  EXPECT_TRUE(std::signbit(t(-0.0)));
  EXPECT_EQ(r(inf), 1);
  EXPECT_EQ(r(-7), -1);
  EXPECT_EQ(r(0), 0);
  EXPECT_EQ(s(inf), 1);
  EXPECT_EQ(s(-inf), 0);
  EXPECT_EQ(s(0), 0.5);
  for (auto f : {e, l, t, r, s}) EXPECT_TRUE(std::isnan(f(nan)));
}

// The bits themselves: a compiler flag or a processor that changes one of them fails here.
TEST(PortableMath, GoldenDigest) {
  std::mt19937_64 random(11);
  Sha256 sha;
  for (int i = 0; i < 20000; ++i) {
    const double x = static_cast<double>(static_cast<int64_t>(random() >> 11)) * 0x1p-52 * 20 - 20;
    for (double y : {e(x), l(std::fabs(x)), t(x), r(x / 4), s(x)}) sha.add(std::span(reinterpret_cast<const std::byte*>(&y), sizeof y));
    const float in = static_cast<float>(x);
    float out = 0;
    portable::exp_array(&in, &out, 1);
    sha.add(std::span(reinterpret_cast<const std::byte*>(&out), sizeof out));
  }
  EXPECT_EQ(sha.hex(), "39a9e59d096a581fdccf1f7641ecd9c62273cfde43d61debb91f2af4607612a7");
}

// The same bits whatever the place in the array (vector body, tail, piece), and close to the function itself.
TEST(PortableMath, ActivationsOfArrays) {
  struct Case { const char* name; void (*fast)(const float*, float*, long); double (*want)(double); double low; };
  const Case cases[] = {
      {"sigmoid", portable::sigmoid_array, [](double x) { return 1 / (1 + std::exp(-x)); }, -80},
      {"swish", [](const float* x, float* y, long n) { portable::swish_array(x, y, n, 1); }, [](double x) { return x / (1 + std::exp(-x)); }, -80},
      {"swish 1.702", [](const float* x, float* y, long n) { portable::swish_array(x, y, n, 1.702f); }, [](double x) { return x / (1 + std::exp(-static_cast<double>(1.702f) * x)); }, -45},
      {"gelu", portable::gelu_array, [](double x) { return 0.5 * x * std::erfc(-x / std::sqrt(2.0)); }, -12},
      {"gelu_tanh", portable::gelu_tanh_array,
       [](double x) { return x / (1 + std::exp(-2 * std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x))); }, -8},
      {"mish", portable::mish_array, [](double x) { return x * std::tanh(std::log1p(std::exp(x))); }, -80},
  };
  for (const Case& c : cases) {
    std::mt19937 random(5);
    std::uniform_real_distribution<float> wide(static_cast<float>(c.low), 80), narrow(-4, 4);
    std::vector<float> in;
    for (int i = 0; i < 100003; ++i) in.push_back(i % 2 ? wide(random) : narrow(random));
    for (float f : {0.0f, -0.0f, 1e-40f, -1e-38f, 3e38f}) in.push_back(f);
    std::vector<float> fast(in.size());
    c.fast(in.data(), fast.data(), static_cast<long>(in.size()));
    double worst = 0, worst_near = 0;
    for (size_t i = 0; i < in.size(); ++i) {
      float alone = 0;
      c.fast(&in[i], &alone, 1);
      ASSERT_EQ(std::bit_cast<uint32_t>(alone), std::bit_cast<uint32_t>(fast[i])) << c.name << " " << in[i];
      const double want = c.want(static_cast<double>(in[i]));
      if (std::fabs(want) < 1e-35) { EXPECT_NEAR(fast[i], want, 1e-35) << c.name << " " << in[i]; continue; }
      const double error = std::fabs(static_cast<double>(fast[i]) - want) / std::fabs(want);
      worst = std::max(worst, error);
      if (std::fabs(in[i]) <= 2.5f) worst_near = std::max(worst_near, error);
    }
    EXPECT_LE(worst_near, 1e-6) << c.name;
    EXPECT_LE(worst, 8e-6) << c.name << ": where the exponent itself is large, its last bit is worth more";
    std::vector<float> same = in;
    c.fast(same.data(), same.data(), static_cast<long>(same.size()));
    EXPECT_EQ(std::memcmp(same.data(), fast.data(), same.size() * 4), 0) << c.name;
    float nan = std::numeric_limits<float>::quiet_NaN(), out = 0;
    c.fast(&nan, &out, 1);
    EXPECT_TRUE(std::isnan(out)) << c.name;
  }
}

TEST(PortableMath, ExpArrayFormsAreEqualAndAccurate) {
  std::mt19937 random(5);
  std::vector<float> in;
  std::uniform_real_distribution<float> wide(-110, 95), narrow(-2, 2);
  for (int i = 0; i < 400003; ++i) in.push_back(i % 2 ? wide(random) : narrow(random));
  for (float f : {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 88.72284f, 88.73f, -103.97f, -104.1f, 1e-40f, std::numeric_limits<float>::max()}) in.push_back(f);
  for (int i = 0; i < 50000; ++i) in.push_back(std::bit_cast<float>(static_cast<uint32_t>(random())));
  std::vector<float> fast(in.size()), plain(in.size());
  portable::exp_array(in.data(), fast.data(), static_cast<long>(in.size()));
  portable::exp_array_scalar(in.data(), plain.data(), static_cast<long>(in.size()));
  double worst_ulps = 0;
  for (size_t i = 0; i < in.size(); ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(fast[i]), std::bit_cast<uint32_t>(plain[i])) << in[i];
    if (std::isnan(in[i])) { EXPECT_TRUE(std::isnan(fast[i])); continue; }
    const double want = std::exp(static_cast<double>(in[i]));
    if (want >= 0x1.ffffffp127) { EXPECT_EQ(fast[i], INFINITY) << in[i]; continue; }
    const float rounded = static_cast<float>(want);
    const double unit = std::max(static_cast<double>(std::nextafterf(rounded, INFINITY)) - rounded, 1.4e-45);
    if (std::isfinite(rounded) && std::isfinite(fast[i])) worst_ulps = std::max(worst_ulps, std::fabs(fast[i] - want) / unit);
  }
  EXPECT_LE(worst_ulps, 2.0);
  std::vector<float> same = in;
  portable::exp_array(same.data(), same.data(), static_cast<long>(same.size()));
  EXPECT_EQ(std::memcmp(same.data(), fast.data(), same.size() * 4), 0);
}

TEST(PortableMath, SigmoidAndTanhArrayFormsAreEqualAndAccurate) {
  using Array = void (*)(const float*, float*, long);
  struct Case { Array fast, plain; double (*exact)(double); };
  const Case cases[] = {{portable::sigmoid_array, portable::sigmoid_array_scalar, portable::sigmoid}, {portable::tanh_array, portable::tanh_array_scalar, portable::tanh}};
  std::mt19937 random(6);
  std::vector<float> in;
  std::uniform_real_distribution<float> wide(-100, 100), narrow(-2, 2), tiny(-1e-3f, 1e-3f);
  for (int i = 0; i < 400003; ++i) in.push_back(i % 3 == 0 ? wide(random) : i % 3 == 1 ? narrow(random) : tiny(random));
  for (float f : {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 9.01f, -9.02f, 1e-40f, std::numeric_limits<float>::max()}) in.push_back(f);
  for (int i = 0; i < 50000; ++i) in.push_back(std::bit_cast<float>(static_cast<uint32_t>(random())));
  for (const Case& c : cases) {
    std::vector<float> fast(in.size()), plain(in.size());
    c.fast(in.data(), fast.data(), static_cast<long>(in.size()));
    c.plain(in.data(), plain.data(), static_cast<long>(in.size()));
    double worst_ulps = 0;
    for (size_t i = 0; i < in.size(); ++i) {
      ASSERT_EQ(std::bit_cast<uint32_t>(fast[i]), std::bit_cast<uint32_t>(plain[i])) << in[i];
      if (std::isnan(in[i])) { EXPECT_TRUE(std::isnan(fast[i])); continue; }
      const double want = c.exact(static_cast<double>(in[i]));
      const float rounded = static_cast<float>(std::fabs(want));
      const double unit = std::max(static_cast<double>(std::nextafterf(rounded, INFINITY)) - static_cast<double>(rounded), 0x1p-126);
      worst_ulps = std::max(worst_ulps, std::fabs(static_cast<double>(fast[i]) - want) / unit);
    }
    EXPECT_LE(worst_ulps, 4.0);
    std::vector<float> same = in;
    c.fast(same.data(), same.data(), static_cast<long>(same.size()));
    EXPECT_EQ(std::memcmp(same.data(), fast.data(), same.size() * 4), 0);
  }
  float zero = -0.0f;
  portable::tanh_array(&zero, &zero, 1);
  EXPECT_TRUE(std::signbit(zero));
}

// The SDK's own functions, for plugins: an evaluation of its own, the same values.
TEST(portable_math, sdk_functions_agree) {
  namespace sdk = quern_sdk::portable;
  std::mt19937_64 random(11);
  const auto near = [](double a, double b) { return std::fabs(a - b) <= 4e-15 * std::fabs(b) + 1e-320; };
  for (int i = 0; i < 200000; ++i) {
    const double span = i % 3 == 0 ? 1 : i % 3 == 1 ? 10 : 700;
    const double x = std::uniform_real_distribution<double>(-span, span)(random);
    EXPECT_TRUE(near(sdk::exp(x), portable::exp(x))) << x;
    EXPECT_TRUE(near(sdk::tanh(x), portable::tanh(x))) << x;
    EXPECT_TRUE(near(sdk::erf(x), portable::erf(x))) << x;
    EXPECT_TRUE(near(sdk::sigmoid(x), portable::sigmoid(x))) << x;
    EXPECT_TRUE(near(sdk::log(std::fabs(x)), portable::log(std::fabs(x))) || std::fabs(sdk::log(std::fabs(x)) - portable::log(std::fabs(x))) < 1e-17) << x;
    EXPECT_TRUE(near(sdk::softplus(x), static_cast<double>(std::log1p(std::exp(-std::fabs(static_cast<long double>(x)))) + std::max(x, 0.0)))) << x;
    EXPECT_TRUE(near(sdk::expm1(x), static_cast<double>(std::expm1(static_cast<long double>(x))))) << x;
  }
  EXPECT_EQ(sdk::exp(0), 1);
  EXPECT_EQ(sdk::exp(1000), INFINITY);
  EXPECT_EQ(sdk::exp(-1000), 0);
  EXPECT_EQ(sdk::log(0), -INFINITY);
  EXPECT_TRUE(std::isnan(sdk::log(-1)));
  EXPECT_EQ(sdk::log(INFINITY), INFINITY);
  EXPECT_EQ(sdk::tanh(50), 1);
  EXPECT_EQ(sdk::erf(-7), -1);
  for (double (*f)(double) : {sdk::exp, sdk::log, sdk::tanh, sdk::erf, sdk::sigmoid}) EXPECT_TRUE(std::isnan(f(NAN)));
  // The bits themselves: a change of evaluation is a change of every table.
  std::vector<double> bits;
  for (int i = -400; i <= 400; ++i)
    for (double (*f)(double) : {sdk::exp, sdk::tanh, sdk::erf, sdk::sigmoid, sdk::softplus}) bits.push_back(f(i * 0.0371));
  EXPECT_EQ(sha256(std::string_view(reinterpret_cast<const char*>(bits.data()), bits.size() * 8)).substr(0, 16), "c351397d12e6bb39");
}

}  // namespace
}  // namespace quern
