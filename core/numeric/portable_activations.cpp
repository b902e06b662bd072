// Activations of arrays: pieces that stay in the cache, the array exponential over a buffer, one loop of plain arithmetic before it
// and one behind. The loops are compiled for several instruction sets; IEEE arithmetic gives the same bits in each.
#include <algorithm>

#include "core/numeric/portable_math.hpp"

#define QUERN_WIDE __attribute__((target_clones("arch=skylake-avx512", "avx2", "default")))

namespace quern::portable {
namespace {

constexpr long piece = 512;

// before(x, e, n): what the exponential is taken of; after(x, e, y, n): the result. y may be x.
template <class Before, class After>
void by_exp(const float* in, float* out, long count, const Before& before, const After& after) {
  float e[piece];
  for (long i = 0; i < count; i += piece) {
    const long n = std::min(piece, count - i);
    before(in + i, e, n);
    exp_array(e, e, n);
    after(in + i, e, out + i, n);
  }
}

QUERN_WIDE void scaled(const float* x, float* e, long n, float by) {
#pragma GCC ivdep
  for (long i = 0; i < n; ++i) e[i] = by * x[i];
}

QUERN_WIDE void over_raised(const float* x, const float* e, float* y, long n) {
#pragma GCC ivdep
  for (long i = 0; i < n; ++i) y[i] = x[i] / (1.0f + e[i]);
}

QUERN_WIDE void minus_half_square(const float* x, float* e, long n) {
#pragma GCC ivdep
  for (long i = 0; i < n; ++i) e[i] = -0.5f * x[i] * x[i];
}

// The share of the normal distribution beyond t = |x| is e^(-t^2 / 2) * u * (c0 + c1 u + ...), u = 1 / (1 + p t): a fit of the scaled
// complementary error function with the smallest relative error, 1.3e-7 before rounding.
constexpr float p = 0.3075f;
constexpr float c0 = 0x1.f65f76p-4f, c1 = 0x1.f8cf7ap-4f, c2 = 0x1.b0f84cp-4f, c3 = 0x1.d820e8p-4f, c4 = -0x1.a9940ap-6f,
                c5 = 0x1.5c6694p-3f, c6 = -0x1.2daafcp-3f, c7 = 0x1.294b80p-5f;

QUERN_WIDE void gelu_of_tail(const float* x, const float* e, float* y, long n) {
#pragma GCC ivdep
  for (long i = 0; i < n; ++i) {
    const float t = __builtin_fabsf(x[i]), u = 1.0f / (1.0f + p * t);
    const float q = c0 + u * (c1 + u * (c2 + u * (c3 + u * (c4 + u * (c5 + u * (c6 + u * c7))))));
    const float tail = e[i] * (u * q);
    y[i] = x[i] * (x[i] < 0 ? tail : 1.0f - tail);
  }
}

QUERN_WIDE void gelu_cubic(const float* x, float* e, long n) {
  constexpr float k = -1.5957691216057308f, cube = 0.044715f;  // -2 sqrt(2 / pi)
#pragma GCC ivdep
  for (long i = 0; i < n; ++i) e[i] = k * (x[i] * (1.0f + cube * (x[i] * x[i])));
}

// From 20 on the factor is 1 in f32.
QUERN_WIDE void cut_off(const float* x, float* e, long n) {
#pragma GCC ivdep
  for (long i = 0; i < n; ++i) e[i] = x[i] > 20.0f ? 20.0f : x[i];
}

// tanh(log(1 + e)) = (e^2 + 2 e) / (e^2 + 2 e + 2).
QUERN_WIDE void mish_of_exp(const float* x, const float* e, float* y, long n) {
#pragma GCC ivdep
  for (long i = 0; i < n; ++i) {
    const float m = e[i] * (e[i] + 2.0f);
    y[i] = x[i] * (m / (m + 2.0f));
  }
}

}  // namespace

void swish_array(const float* in, float* out, long count, float alpha) {
  by_exp(in, out, count, [alpha](const float* x, float* e, long n) { scaled(x, e, n, -alpha); }, over_raised);
}

void gelu_array(const float* in, float* out, long count) { by_exp(in, out, count, minus_half_square, gelu_of_tail); }
void gelu_tanh_array(const float* in, float* out, long count) { by_exp(in, out, count, gelu_cubic, over_raised); }
void mish_array(const float* in, float* out, long count) { by_exp(in, out, count, cut_off, mish_of_exp); }

}  // namespace quern::portable
