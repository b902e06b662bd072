// Activations of arrays: one loop each, plain f32 arithmetic in a written order, compiled for several instruction sets (IEEE
// arithmetic gives the same bits in each) and with -O3, so that the compiler makes vectors of it (core/CMakeLists.txt).
#include <bit>
#include <cstdint>

#include "core/base/wide.hpp"
#include "core/numeric/portable_math.hpp"

namespace quern::portable {
namespace {

// e^x by the polynomial of exp_array, between -87 and 88, where no step leaves the normal numbers; at the bounds beyond them. NaN
// stays NaN.
[[gnu::always_inline]] inline float exp_between(float x) {
  constexpr float log2e = 0x1.715476p+0f, magic = 0x1.8p23f, ln2_hi = 0x1.62e000p-1f, ln2_lo = 0x1.0bfbe8p-15f;
  constexpr float c2 = 1.0f / 2, c3 = 1.0f / 6, c4 = 1.0f / 24, c5 = 1.0f / 120, c6 = 1.0f / 720, c7 = 1.0f / 5040;
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  const float shifted = x * log2e + magic, k = shifted - magic;
  const float r = (x - k * ln2_hi) - k * ln2_lo;
  const float q = c2 + r * (c3 + r * (c4 + r * (c5 + r * (c6 + r * c7))));
  const float power = std::bit_cast<float>((std::bit_cast<uint32_t>(shifted) + 127u) << 23);  // the low bits of `shifted` are k
  return (1.0f + (r + r * r * q)) * power;
}

}  // namespace

QUERN_WIDE void swish_array(const float* in, float* out, long count, float alpha) {
#pragma GCC ivdep
  for (long i = 0; i < count; ++i) out[i] = in[i] / (1.0f + exp_between(-alpha * in[i]));
}

// The share of the normal distribution beyond t = |x| is e^(-t^2 / 2) * u * (c0 + c1 u + ...), u = 1 / (1 + p t): a fit of the scaled
// complementary error function with the smallest relative error, 1.3e-7 before rounding. Beyond 13 it is nothing.
QUERN_WIDE void gelu_array(const float* in, float* out, long count) {
  constexpr float p = 0.3075f;
  constexpr float c0 = 0x1.f65f76p-4f, c1 = 0x1.f8cf7ap-4f, c2 = 0x1.b0f84cp-4f, c3 = 0x1.d820e8p-4f, c4 = -0x1.a9940ap-6f,
                  c5 = 0x1.5c6694p-3f, c6 = -0x1.2daafcp-3f, c7 = 0x1.294b80p-5f;
#pragma GCC ivdep
  for (long i = 0; i < count; ++i) {
    const float x = in[i], t = __builtin_fabsf(x), u = 1.0f / (1.0f + p * t);
    const float q = c0 + u * (c1 + u * (c2 + u * (c3 + u * (c4 + u * (c5 + u * (c6 + u * c7))))));
    const float beyond = exp_between(-0.5f * x * x) * (u * q), tail = t > 13.0f ? 0.0f : beyond;
    out[i] = x * (x < 0 ? tail : 1.0f - tail);
  }
}

QUERN_WIDE void gelu_tanh_array(const float* in, float* out, long count) {
  constexpr float k = -1.5957691216057308f, cube = 0.044715f;  // -2 sqrt(2 / pi)
#pragma GCC ivdep
  for (long i = 0; i < count; ++i) {
    const float x = in[i];
    out[i] = x / (1.0f + exp_between(k * (x * (1.0f + cube * (x * x)))));
  }
}

// tanh(log(1 + e)) = (e^2 + 2 e) / (e^2 + 2 e + 2) with e = e^x; from 20 on it is 1 in f32.
QUERN_WIDE void mish_array(const float* in, float* out, long count) {
#pragma GCC ivdep
  for (long i = 0; i < count; ++i) {
    const float x = in[i], e = exp_between(x > 20.0f ? 20.0f : x), m = e * (e + 2.0f);
    out[i] = x * (m / (m + 2.0f));
  }
}

}  // namespace quern::portable
