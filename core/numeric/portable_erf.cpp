#include "core/numeric/portable_erf.hpp"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>

// |x| < 1: x + x * P(x^2). From there on 1 - e^-Q(|x|); erf(4) rounds to 1, so nothing above is told apart. Both polynomials are
// least-maximum fits (P of erf(sqrt z)/sqrt z - 1, Q of -log erfc, weighted with erfc). One loop body serves every instruction set: the
// compiler makes vectors of it, and as it neither contracts nor reorders, all of them give the same bits.
namespace quern::portable {
namespace {

constexpr float p[] = {0x1.06eba8p-3f, -0x1.812746p-2f, 0x1.ce2f0ap-4f, -0x1.b829d8p-6f, 0x1.562b1ap-8f, -0x1.bcd7dep-11f, 0x1.d8b88ap-14f, -0x1.44cfb4p-17f};
constexpr float q[] = {-0x1.8a5b08p-13f, 0x1.212c0ep+0f, 0x1.443564p-1f, 0x1.bc1526p-4f, -0x1.9d0328p-6f, 0x1.138cf0p-8f, -0x1.cec6a0p-12f, 0x1.6bd8b2p-16f};
constexpr float log2e = 0x1.715476p+0f, magic = 0x1.8p23f, ln2_hi = 0x1.62e000p-1f, ln2_lo = 0x1.0bfbe8p-15f;

[[gnu::always_inline]] inline float erf_f32(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x), sign = bits & 0x80000000u;
  const float a = std::bit_cast<float>(bits & 0x7fffffffu), z = a * a;
  const float near = p[0] + z * (p[1] + z * (p[2] + z * (p[3] + z * (p[4] + z * (p[5] + z * (p[6] + z * p[7]))))));
  const float small = a + a * near;
  const float b = a < 4.0f ? a : 4.0f;
  const float t = -(q[0] + b * (q[1] + b * (q[2] + b * (q[3] + b * (q[4] + b * (q[5] + b * (q[6] + b * q[7])))))));  // -18..0 where it is used
  const float k = (t * log2e + magic) - magic;
  const float r = (t - k * ln2_hi) - k * ln2_lo;
  const float e = 1.0f + (r + r * r * (1.0f / 2 + r * (1.0f / 6 + r * (1.0f / 24 + r * (1.0f / 120 + r * (1.0f / 720 + r * (1.0f / 5040)))))));
  const float power = std::bit_cast<float>(static_cast<uint32_t>(static_cast<int32_t>(k) + 127) << 23);
  const float large = 1.0f - e * power;
  const float y = a < 1.0f ? small : large;
  const uint32_t signed_bits = std::bit_cast<uint32_t>(y) | sign;
  return std::bit_cast<float>(a != a ? 0x7fc00000u : signed_bits);
}

// Sixteen at a time, through a buffer: `in` and `out` may be the same.
[[gnu::always_inline]] inline void erf_blocks(const float* in, float* out, long count) {
  for (long i = 0; i < count; i += 16) {
    float v[16] = {};
    const long n = count - i < 16 ? count - i : 16;
    if (n == 16) std::memcpy(v, in + i, sizeof v);
    else std::copy(in + i, in + count, v);
    for (float& x : v) x = erf_f32(x);
    if (n == 16) std::memcpy(out + i, v, sizeof v);
    else std::copy(v, v + n, out + i);
  }
}

__attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,prefer-vector-width=512"))) void erf_avx512(const float* in, float* out, long count) {
  erf_blocks(in, out, count);
}
__attribute__((target("avx2"))) void erf_avx2(const float* in, float* out, long count) { erf_blocks(in, out, count); }

}  // namespace

void erf_array_scalar(const float* in, float* out, long count) {
  for (long i = 0; i < count; ++i) out[i] = erf_f32(in[i]);
}

void erf_array(const float* in, float* out, long count) {
  static const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                             __builtin_cpu_supports("avx512bw");
  static const bool avx2 = __builtin_cpu_supports("avx2");
  if (avx512) erf_avx512(in, out, count);
  else if (avx2) erf_avx2(in, out, count);
  else erf_array_scalar(in, out, count);
}

}  // namespace quern::portable
