// Own float kernels, element by element: values against libm in double, equal bytes in every layout and in place, broadcasting,
// integers at their limits.
#include <cmath>
#include <limits>

#include "core/engine/float/functions.hpp"
#include "core/engine/float/op.hpp"
#include "tests/engine/float_harness.hpp"

namespace quern::test {
namespace {

const float inf = std::numeric_limits<float>::infinity(), not_a_number = std::numeric_limits<float>::quiet_NaN();

struct Unary { const char* op; int since; double (*expected)(double); double low, high; };
double softplus(double x) { return std::log1p(std::exp(x)); }
const Unary unary[] = {
    {"Relu", 14, [](double x) { return x < 0 ? 0 : x; }, -5, 5},
    {"LeakyRelu", 16, [](double x) { return x < 0 ? x * double(0.01f) : x; }, -5, 5},
    {"Elu", 6, [](double x) { return x < 0 ? std::expm1(x) : x; }, -30, 5},
    {"Celu", 12, [](double x) { return x < 0 ? std::expm1(x) : x; }, -30, 5},
    {"Selu", 6, [](double x) { return 1.05070102214813232421875 * (x <= 0 ? 1.67326319217681884765625 * std::expm1(x) : x); }, -20, 5},
    {"Sigmoid", 13, [](double x) { return 1 / (1 + std::exp(-x)); }, -80, 80},
    {"Tanh", 13, [](double x) { return std::tanh(x); }, -20, 20},
    {"Erf", 13, [](double x) { return std::erf(x); }, -5, 5},
    {"Softplus", 1, softplus, -80, 80},
    {"Mish", 18, [](double x) { return x * std::tanh(softplus(x)); }, -20, 20},
    {"Softsign", 1, [](double x) { return x / (1 + std::fabs(x)); }, -20, 20},
    {"HardSigmoid", 6, [](double x) { return std::fmin(1, std::fmax(0, double(0.2f) * x + 0.5)); }, -5, 5},
    {"HardSwish", 14, [](double x) { return x * std::fmin(1, std::fmax(0, x / 6 + 0.5)); }, -5, 5},
    {"Gelu", 20, [](double x) { return 0.5 * x * std::erfc(-x / std::sqrt(2.0)); }, -4, 4},
    {"Swish", 24, [](double x) { return x / (1 + std::exp(-x)); }, -80, 80},
    {"Abs", 13, [](double x) { return std::fabs(x); }, -5, 5},
    {"Neg", 13, [](double x) { return -x; }, -5, 5},
    {"Sign", 13, [](double x) { return double((x > 0) - (x < 0)); }, -5, 5},
    {"Exp", 13, [](double x) { return std::exp(x); }, -80, 80},
    {"Log", 13, [](double x) { return std::log(x); }, 1e-3, 1e3},
    {"Sqrt", 13, [](double x) { return std::sqrt(x); }, 0, 1e3},
    {"Reciprocal", 13, [](double x) { return 1 / x; }, 0.1, 50},
    {"Floor", 13, [](double x) { return std::floor(x); }, -50, 50},
    {"Ceil", 13, [](double x) { return std::ceil(x); }, -50, 50},
    {"Round", 11, [](double x) { return std::nearbyint(x); }, -50, 50},
    {"Sin", 7, [](double x) { return std::sin(x); }, -1e4, 1e4},
    {"Cos", 7, [](double x) { return std::cos(x); }, -1e4, 1e4},
};

TEST(FloatElementwise, UnaryFunctionsAreCloseToLibm) {
  Random random(3);
  for (const Unary& u : unary) {
    const Tensor x = random.tensor({2, 37, 5, 7}, u.low, u.high), d = random.tensor<double>({300}, u.low, u.high);
    const Tensor y = FloatOp(u.op, u.since).in(x).run()[0], e = FloatOp(u.op, u.since).in(d).run()[0];
    for (int64_t i = 0; i < x.count(); ++i) {
      const double want = u.expected(x.values<float>()[size_t(i)]), got = y.values<float>()[size_t(i)];
      const double slack = u.op == std::string("HardSigmoid") || u.op == std::string("HardSwish") ? 1e-7 : 1e-37;  // sums that cancel
      ASSERT_LE(std::fabs(got - want), 6e-7 * std::fabs(want) + slack) << u.op << " of " << x.values<float>()[size_t(i)];
    }
    for (int64_t i = 0; i < d.count(); ++i) {
      const double want = u.expected(d.values<double>()[size_t(i)]), got = e.values<double>()[size_t(i)];
      ASSERT_LE(std::fabs(got - want), 2e-14 * std::fabs(want) + 2e-15) << u.op << " of " << d.values<double>()[size_t(i)];
    }
  }
}

TEST(FloatElementwise, EveryLayoutAndInPlaceGiveTheSameBytes) {
  Random random(4);
  for (const Unary& u : unary) {
    const Tensor x = random.tensor({2, 19, 3, 5}, u.low, u.high);
    const Tensor plain = FloatOp(u.op, u.since).in(x).run()[0];
    EXPECT_TRUE(same_bytes(plain, FloatOp(u.op, u.since).in(x).channels_last().run()[0])) << u.op;
    EXPECT_TRUE(same_bytes(plain, FloatOp(u.op, u.since).in(x).in_place().run()[0])) << u.op;
    EXPECT_TRUE(same_bytes(plain, FloatOp(u.op, u.since).constant(x).run()[0])) << u.op;
  }
}

TEST(FloatElementwise, NotANumberAndInfinityPass) {
  const Tensor x = Tensor::of<float>({3}, std::vector<float>{not_a_number, inf, -inf});
  const auto y = FloatOp("Relu", 14).in(x).run()[0];
  EXPECT_TRUE(std::isnan(y.values<float>()[0]));
  EXPECT_EQ(y.values<float>()[1], inf);
  EXPECT_EQ(y.values<float>()[2], 0);
  const auto s = FloatOp("Sigmoid", 13).in(x).run()[0];
  EXPECT_TRUE(std::isnan(s.values<float>()[0]));
  EXPECT_EQ(s.values<float>()[1], 1);
  EXPECT_EQ(s.values<float>()[2], 0);
  const auto n = FloatOp("Floor", 13).in(x).run()[0];
  EXPECT_TRUE(std::isnan(n.values<float>()[0]));
  EXPECT_EQ(n.values<float>()[2], -inf);
}

TEST(FloatElementwise, RoundingGoesToTheEvenNeighbour) {
  const Tensor x = Tensor::of<float>({8}, std::vector<float>{0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 8388609.0f, 1e30f});
  const auto y = FloatOp("Round", 11).in(x).run()[0].to_floats();
  EXPECT_EQ(y, (std::vector<float>{0, 2, 2, 0, -2, -2, 8388609.0f, 1e30f}));
}

TEST(FloatFunctions, TrigonometryHoldsForLargeArguments) {
  for (double x : {0.0, 1e-300, 0.5, 1.0, 3.0, 355.0, 1e5, 1e15, 1e22, 3.3e30, 1.7e308, 6381956970095103.0 * std::pow(2.0, 797)})
    for (double s : {1.0, -1.0}) {
      const long double sine = sinl(static_cast<long double>(s * x)), cosine = cosl(static_cast<long double>(s * x));
      if (x < 1e18) {  // libm's long double reduces exactly, x87 instructions do not: compare where both do
        EXPECT_NEAR(own::sin(s * x), double(sine), 3e-16) << x;
        EXPECT_NEAR(own::cos(s * x), double(cosine), 3e-16) << x;
      }
      EXPECT_NEAR(own::sin(s * x), std::sin(s * x), 3e-16) << x;
      EXPECT_NEAR(own::cos(s * x), std::cos(s * x), 3e-16) << x;
    }
  EXPECT_TRUE(std::isnan(own::sin(std::numeric_limits<double>::infinity())));
}

TEST(FloatFunctions, PowerAgreesWithLibm) {
  Random random(5);
  for (int i = 0; i < 2000; ++i) {
    const double b = random.real(0.01, 20), e = random.real(-8, 8);
    EXPECT_LE(std::fabs(own::pow(b, e) - std::pow(b, e)), 2e-14 * std::pow(b, e));
  }
  const double bases[] = {0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, inf, -inf, not_a_number};
  const double exponents[] = {0.0, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 0.5, -0.5, 1e300, 101.0, 1e15 + 1, inf, -inf, not_a_number};
  for (double b : bases)
    for (double e : exponents) {
      const double got = own::pow(b, e), want = std::pow(b, e);
      if (std::isnan(want)) EXPECT_TRUE(std::isnan(got)) << b << "^" << e;
      else if (want == 0 || std::isinf(want)) EXPECT_EQ(got, want) << b << "^" << e;
      else EXPECT_NEAR(got, want, 2e-14 * std::fabs(want)) << b << "^" << e;
    }
}

// ---- two tensors ----------------------------------------------------------------------------------------------------------

Dims broadcast_dims(const Dims& a, const Dims& b) {
  Dims d(std::max(a.size(), b.size()), 1);
  for (size_t i = 0; i < d.size(); ++i) {
    const int64_t x = i < a.size() ? a[a.size() - 1 - i] : 1, y = i < b.size() ? b[b.size() - 1 - i] : 1;
    d[d.size() - 1 - i] = x == 1 ? y : x;
  }
  return d;
}

float element(const Tensor& t, const Dims& at) {
  int64_t i = 0;
  for (size_t a = 0; a < t.dims().size(); ++a) i = i * t.dims()[a] + (t.dims()[a] == 1 ? 0 : at[at.size() - t.dims().size() + a]);
  return t.values<float>()[size_t(i)];
}

TEST(FloatElementwise, BroadcastsLikeNumpyInEveryLayout) {
  Random random(6);
  struct { const char* op; float (*f)(float, float); } ops[] = {{"Add", [](float a, float b) { return a + b; }},
      {"Sub", [](float a, float b) { return a - b; }}, {"Mul", [](float a, float b) { return a * b; }}, {"Div", [](float a, float b) { return a / b; }},
      {"PRelu", [](float a, float b) { return a < 0 ? a * b : a; }}};
  for (int round = 0; round < 200; ++round) {
    const auto& op = ops[random.integer(0, 4)];
    Dims full = random.dims(int(random.integer(1, 5)), 1, 6);
    const auto thin = [&](Dims d) {
      for (auto& n : d)
        if (random.integer(0, 2) == 0) n = 1;
      d.erase(d.begin(), d.begin() + random.integer(0, int64_t(d.size())));
      return d;
    };
    Dims da = op.op == std::string("PRelu") || random.integer(0, 1) ? full : thin(full), db = thin(full);
    const Tensor a = random.tensor(da), b = random.tensor(db);
    const Dims out = broadcast_dims(da, db);
    const bool b_constant = random.integer(0, 1) != 0;
    for (bool last : {false, true}) {
      FloatOp run(op.op, 14);
      run.in(a);
      if (b_constant) run.constant(b); else run.in(b);
      if (last) run.channels_last();
      const Tensor y = run.run()[0];
      ASSERT_EQ(y.dims(), out);
      for_each_place(out, [&](const Dims& at) { ASSERT_EQ(y.values<float>()[flat(out, at)], op.f(element(a, at), element(b, at))) << op.op; });
    }
  }
}

TEST(FloatElementwise, IntegersWrapAndNeverTrap) {
  const auto least = std::numeric_limits<int32_t>::min();
  const Tensor a = Tensor::of<int32_t>({5}, std::vector<int32_t>{least, 7, -7, least, 5}), b = Tensor::of<int32_t>({5}, std::vector<int32_t>{-1, 0, 2, 1, -3});
  const auto values = [&](const char* op, Attribute fmod = int64_t{0}) {
    FloatOp run(op, 14);
    if (op == std::string("Mod")) run.with("fmod", fmod);
    const Tensor y = run.in(a).in(b).run()[0];
    return std::vector<int32_t>(y.values<int32_t>().begin(), y.values<int32_t>().end());
  };
  EXPECT_EQ(values("Div"), (std::vector<int32_t>{least, 0, -3, least, -1}));
  EXPECT_EQ(values("Mul"), (std::vector<int32_t>{least, 0, -14, least, -15}));
  EXPECT_EQ(values("Add"), (std::vector<int32_t>{std::numeric_limits<int32_t>::max(), 7, -5, least + 1, 2}));
  EXPECT_EQ(values("Mod"), (std::vector<int32_t>{0, 0, 1, 0, -1}));
  EXPECT_EQ(values("Mod", int64_t{1}), (std::vector<int32_t>{0, 0, -1, 0, 2}));
}

TEST(FloatElementwise, ClipTakesItsLimitsFromAttributesAndInputs) {
  const Tensor x = Tensor::of<float>({4}, std::vector<float>{-inf, -2, 2, inf});
  EXPECT_EQ(FloatOp("Clip", 6).in(x).with("min", -1.0f).with("max", 1.5f).run()[0].to_floats(), (std::vector<float>{-1, -1, 1.5, 1.5}));
  EXPECT_EQ(FloatOp("Clip", 13).in(x).in(Tensor::scalar(-1.0f)).run()[0].to_floats(), (std::vector<float>{-1, -1, 2, inf}));
  EXPECT_EQ(FloatOp("Clip", 13).in(x).absent().constant(Tensor::scalar(1.0f)).run()[0].to_floats(), (std::vector<float>{-inf, -2, 1, 1}));
}

TEST(FloatElementwise, CastSaturatesFloatsAndWrapsIntegers) {
  const Tensor x = Tensor::of<float>({6}, std::vector<float>{-1e20f, -3.9f, 2.9f, 300.5f, inf, not_a_number});
  const auto cast = [](const Tensor& t, DType to) { return FloatOp("Cast", 13).in(t).with("to", int64_t(to)).run()[0]; };
  EXPECT_EQ(cast(x, DType::s8).to_ints(), (std::vector<int64_t>{-128, -3, 2, 127, 127, 0}));
  EXPECT_EQ(cast(x, DType::u8).to_ints(), (std::vector<int64_t>{0, 0, 2, 255, 255, 0}));
  EXPECT_EQ(cast(x, DType::s64).to_ints()[0], std::numeric_limits<int64_t>::min());
  EXPECT_EQ(cast(x, DType::boolean).to_ints(), (std::vector<int64_t>{1, 1, 1, 1, 1, 1}));
  EXPECT_EQ(cast(Tensor::of<int32_t>({2}, std::vector<int32_t>{300, -1}), DType::u8).to_ints(), (std::vector<int64_t>{44, 255}));
  const Tensor half = cast(Tensor::of<float>({3}, std::vector<float>{1.0f, 65504.0f, 1e-8f}), DType::f16);
  EXPECT_EQ(cast(half, DType::f32).to_floats(), (std::vector<float>{1.0f, 65504.0f, 0.0f}));
}

TEST(FloatElementwise, MinAndMaxOfManyInputs) {
  Random random(7);
  const Tensor a = random.tensor({2, 3, 4, 5}), b = random.tensor({4, 1}), c = random.tensor({3, 1, 1});
  for (bool last : {false, true}) {
    FloatOp op("Max", 13);
    op.in(a).constant(b).constant(c);
    if (last) op.channels_last();
    const Tensor y = op.run()[0];
    for_each_place(a.dims(), [&](const Dims& at) {
      ASSERT_EQ(y.values<float>()[flat(a.dims(), at)], std::max({element(a, at), element(b, at), element(c, at)}));
    });
  }
  const Tensor n = Tensor::of<float>({2}, std::vector<float>{not_a_number, 1}), m = Tensor::of<float>({2}, std::vector<float>{1, not_a_number});
  const auto both = FloatOp("Min", 13).in(n).in(m).run()[0].to_floats();
  EXPECT_TRUE(std::isnan(both[0]) && std::isnan(both[1]));
}

}  // namespace
}  // namespace quern::test
