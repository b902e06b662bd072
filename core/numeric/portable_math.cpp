#include "core/numeric/portable_math.hpp"

#include <immintrin.h>

#include <bit>
#include <cstdint>
#include <limits>

#include "core/numeric/math_constants.hpp"

// Only + - * / of doubles and floats in a written order: IEEE arithmetic gives the same bits everywhere. The file is
// compiled without contraction (-ffp-contract=off for all of Quern).
namespace quern::portable {
namespace {

using namespace constants;

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

double power_of_two(int k) { return std::bit_cast<double>(static_cast<uint64_t>(k + 1023) << 52); }  // -1022..1023

// x = k * ln2/32 + r with |r| <= ln2/64; p = e^r - 1.
struct Reduced { int k; double p; };

Reduced reduce(double x) {
  constexpr double magic = 0x1.8p52;  // adding it rounds to an integer
  const double kd = (x * inv_step + magic) - magic;
  const double r = (x - kd * step_hi) - kd * step_lo;
  const double q = 1.0 / 2 + r * (1.0 / 6 + r * (1.0 / 24 + r * (1.0 / 120 + r * (1.0 / 720))));
  return {static_cast<int>(kd), r + r * r * q};
}

// e^x - 1 for 0 <= x < 50.
double expm1_positive(double x) {
  const Reduced e = reduce(x);
  if (e.k == 0) return e.p;
  const double* t = power_table[e.k & 31];
  const double s = power_of_two(e.k >> 5);
  const double a = s * t[0], h = a - 1, rest = (a - h) - 1;
  return h + (rest + s * (t[1] + t[0] * e.p));
}

}  // namespace

double exp(double x) {
  if (x != x) return x;
  if (x > 709.79) return infinity;
  if (x < -745.2) return 0;
  const Reduced e = reduce(x);
  const double* t = power_table[e.k & 31];
  const double y = t[0] + (t[1] + t[0] * e.p);
  const int m = e.k >> 5, half = m >> 1;  // in two steps: 2^m itself may be out of range
  return y * power_of_two(half) * power_of_two(m - half);
}

double log(double x) {
  if (x != x) return x;
  if (x < 0) return nan;
  if (x == 0) return -infinity;
  if (x == infinity) return x;
  int k = 0;
  if (x < 0x1p-1022) { x *= 0x1p54; k = -54; }
  const uint64_t bits = std::bit_cast<uint64_t>(x);
  k += static_cast<int>(bits >> 52) - 1023;
  double m = std::bit_cast<double>((bits & 0xfffffffffffff) | 0x3ff0000000000000);
  if (m >= 1.375) { m *= 0.5; ++k; }
  const int j = static_cast<int>(m * 128 + 0.5);
  const double f = j * 0x1p-7, r = (m - f) / f;
  const double q = -1.0 / 2 + r * (1.0 / 3 + r * (-1.0 / 4 + r * (1.0 / 5 + r * (-1.0 / 6 + r * (1.0 / 7 + r * (-1.0 / 8))))));
  if (j == 128 && k == 0) return r + r * r * q;
  const double high = k * ln2_hi + log_table[j - 88][0], low = k * ln2_lo + log_table[j - 88][1];
  const double h = high + r, rest = (high - h) + r;
  return h + (rest + (low + r * r * q));
}

double tanh(double x) {
  const double a = x < 0 ? -x : x;
  if (!(a >= 0x1p-28)) return x;  // tiny, zero, NaN
  double t = 1;
  if (a < 22) {
    const double e = expm1_positive(2 * a);
    t = e / (e + 2);
  }
  return x < 0 ? -t : t;
}

double sigmoid(double x) {
  if (x != x) return x;
  if (x >= 0) return 1 / (1 + exp(-x));
  const double e = exp(x);
  return e / (1 + e);
}

double erf(double x) {
  const double a = x < 0 ? -x : x;
  if (a != a) return x;
  double y = 1;
  if (a < 0.5) {
    const double z = a * a;
    double q = erf_series[13];
    for (int n = 12; n >= 1; --n) q = q * z + erf_series[n];
    return x * erf_series[0] + x * z * q;
  }
  if (a < 6) {
    const int j = static_cast<int>(a * 4);
    const double* c = erf_pieces[j - 2];
    const double d = a - (j + 0.5) * 0.25;
    double q = c[16];
    for (int n = 15; n >= 2; --n) q = q * d + c[n];
    y = c[0] + (c[1] + d * q);
  }
  return x < 0 ? -y : y;
}

namespace {

// The f32 form. Outside [low, high] the result is 0 or infinity anyway.
constexpr float low = -104.0f, high = 89.0f, log2e = 0x1.715476p+0f, magic32 = 0x1.8p23f;
constexpr float ln2f_hi = 0x1.62e000p-1f, ln2f_lo = 0x1.0bfbe8p-15f;
constexpr float c2 = 1.0f / 2, c3 = 1.0f / 6, c4 = 1.0f / 24, c5 = 1.0f / 120, c6 = 1.0f / 720, c7 = 1.0f / 5040;

float power_of_two_f32(int k) { return std::bit_cast<float>(static_cast<uint32_t>(k + 127) << 23); }

float exp_f32(float x) {
  if (x != x) return std::bit_cast<float>(0x7fc00000u);
  const float c = x < low ? low : x > high ? high : x;
  const float kf = (c * log2e + magic32) - magic32;
  const float r = (c - kf * ln2f_hi) - kf * ln2f_lo;
  const float q = c2 + r * (c3 + r * (c4 + r * (c5 + r * (c6 + r * c7))));
  const float y = 1.0f + (r + r * r * q);
  const int k = static_cast<int>(kf), half = k >> 1;
  return y * power_of_two_f32(half) * power_of_two_f32(k - half);
}

float sigmoid_f32(float x) { return 1.0f / (1.0f + exp_f32(-x)); }

// (e^y - 1) / (e^y + 1) with y = 2|x|. e^y - 1 = (2^k - 1) + 2^k (e^r - 1): small arguments lose nothing.
constexpr float tanh_high = 20.0f;  // from y = 18.1 on the quotient is 1
float tanh_f32(float x) {
  if (x != x) return std::bit_cast<float>(0x7fc00000u);
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const float a = std::bit_cast<float>(bits & 0x7fffffffu), twice = a + a;
  const float y = twice > tanh_high ? tanh_high : twice;
  const float kf = (y * log2e + magic32) - magic32;
  const float r = (y - kf * ln2f_hi) - kf * ln2f_lo;
  const float q = c2 + r * (c3 + r * (c4 + r * (c5 + r * (c6 + r * c7))));
  const float p = r + r * r * q;
  const float s = power_of_two_f32(static_cast<int>(kf));
  const float e = (s - 1.0f) + s * p;
  const float t = e / (e + 2.0f);
  return std::bit_cast<float>(std::bit_cast<uint32_t>(t) | (bits & 0x80000000u));
}

#define QUERN_AVX2 __attribute__((target("avx2")))

struct Reduced8 { __m256 kf, p; };  // x = k ln2 + r; p = e^r - 1

QUERN_AVX2 inline Reduced8 reduce8(__m256 c) {
  const __m256 magic = _mm256_set1_ps(magic32);
  const __m256 kf = _mm256_sub_ps(_mm256_add_ps(_mm256_mul_ps(c, _mm256_set1_ps(log2e)), magic), magic);
  const __m256 r = _mm256_sub_ps(_mm256_sub_ps(c, _mm256_mul_ps(kf, _mm256_set1_ps(ln2f_hi))), _mm256_mul_ps(kf, _mm256_set1_ps(ln2f_lo)));
  __m256 q = _mm256_add_ps(_mm256_set1_ps(c6), _mm256_mul_ps(r, _mm256_set1_ps(c7)));
  q = _mm256_add_ps(_mm256_set1_ps(c5), _mm256_mul_ps(r, q));
  q = _mm256_add_ps(_mm256_set1_ps(c4), _mm256_mul_ps(r, q));
  q = _mm256_add_ps(_mm256_set1_ps(c3), _mm256_mul_ps(r, q));
  q = _mm256_add_ps(_mm256_set1_ps(c2), _mm256_mul_ps(r, q));
  return {kf, _mm256_add_ps(r, _mm256_mul_ps(_mm256_mul_ps(r, r), q))};
}

QUERN_AVX2 inline __m256 power_of_two8(__m256i k) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(k, _mm256_set1_epi32(127)), 23)); }

QUERN_AVX2 inline __m256 nan_where_nan8(__m256 x, __m256 y) {
  return _mm256_blendv_ps(y, _mm256_castsi256_ps(_mm256_set1_epi32(0x7fc00000)), _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}

QUERN_AVX2 inline __m256 exp8(__m256 x) {
  const __m256 c = _mm256_min_ps(_mm256_max_ps(x, _mm256_set1_ps(low)), _mm256_set1_ps(high));
  const Reduced8 e = reduce8(c);
  const __m256 y = _mm256_add_ps(_mm256_set1_ps(1.0f), e.p);
  const __m256i k = _mm256_cvttps_epi32(e.kf), half = _mm256_srai_epi32(k, 1);
  return nan_where_nan8(x, _mm256_mul_ps(_mm256_mul_ps(y, power_of_two8(half)), power_of_two8(_mm256_sub_epi32(k, half))));
}

QUERN_AVX2 inline __m256 sigmoid8(__m256 x) {
  const __m256 one = _mm256_set1_ps(1.0f);
  return _mm256_div_ps(one, _mm256_add_ps(one, exp8(_mm256_xor_ps(x, _mm256_set1_ps(-0.0f)))));
}

QUERN_AVX2 inline __m256 tanh8(__m256 x) {
  const __m256 sign = _mm256_set1_ps(-0.0f), a = _mm256_andnot_ps(sign, x);
  const Reduced8 f = reduce8(_mm256_min_ps(_mm256_add_ps(a, a), _mm256_set1_ps(tanh_high)));
  const __m256 s = power_of_two8(_mm256_cvttps_epi32(f.kf));
  const __m256 e = _mm256_add_ps(_mm256_sub_ps(s, _mm256_set1_ps(1.0f)), _mm256_mul_ps(s, f.p));
  const __m256 t = _mm256_div_ps(e, _mm256_add_ps(e, _mm256_set1_ps(2.0f)));
  return nan_where_nan8(x, _mm256_or_ps(t, _mm256_and_ps(sign, x)));
}

QUERN_AVX2 long exp_avx2(const float* in, float* out, long count) {
  long i = 0;
  for (; i + 8 <= count; i += 8) _mm256_storeu_ps(out + i, exp8(_mm256_loadu_ps(in + i)));
  return i;
}
QUERN_AVX2 long sigmoid_avx2(const float* in, float* out, long count) {
  long i = 0;
  for (; i + 8 <= count; i += 8) _mm256_storeu_ps(out + i, sigmoid8(_mm256_loadu_ps(in + i)));
  return i;
}
QUERN_AVX2 long tanh_avx2(const float* in, float* out, long count) {
  long i = 0;
  for (; i + 8 <= count; i += 8) _mm256_storeu_ps(out + i, tanh8(_mm256_loadu_ps(in + i)));
  return i;
}

bool has_avx2() {
  static const bool yes = __builtin_cpu_supports("avx2");
  return yes;
}

}  // namespace

void exp_array_scalar(const float* in, float* out, long count) {
  for (long i = 0; i < count; ++i) out[i] = exp_f32(in[i]);
}
void sigmoid_array_scalar(const float* in, float* out, long count) {
  for (long i = 0; i < count; ++i) out[i] = sigmoid_f32(in[i]);
}
void tanh_array_scalar(const float* in, float* out, long count) {
  for (long i = 0; i < count; ++i) out[i] = tanh_f32(in[i]);
}

void exp_array(const float* in, float* out, long count) {
  const long done = has_avx2() ? exp_avx2(in, out, count) : 0;
  exp_array_scalar(in + done, out + done, count - done);
}
void sigmoid_array(const float* in, float* out, long count) {
  const long done = has_avx2() ? sigmoid_avx2(in, out, count) : 0;
  sigmoid_array_scalar(in + done, out + done, count - done);
}
void tanh_array(const float* in, float* out, long count) {
  const long done = has_avx2() ? tanh_avx2(in, out, count) : 0;
  tanh_array_scalar(in + done, out + done, count - done);
}

}  // namespace quern::portable
