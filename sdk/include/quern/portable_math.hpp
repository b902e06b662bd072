// Elementary functions of fixed evaluation, for the tables that a target derives: the same bits on every machine. A libm's
// exp, tanh and erf choose their code by CPU, so a table made with them would differ from one machine to the next.
//
//   std::vector<uint8_t> table(256);
//   for (int q = 0; q < 256; ++q) table[q] = to_code(quern_sdk::portable::sigmoid(scale * (q - zero_point)));
//
// Only + - * / and sqrt of doubles in a written order. Build with -ffp-contract=off, as quern_add_plugin() does: a fused
// a*b+c would round once less. Relative error below 4e-15 (tested), nothing near what a table of 8 or 16 bits needs.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace quern_sdk {
namespace portable {

inline double power_of_two(int k) {  // -1022..1023
  const uint64_t bits = static_cast<uint64_t>(k + 1023) << 52;
  double v;
  std::memcpy(&v, &bits, 8);
  return v;
}

namespace detail {

constexpr double ln2_high = 0x1.62e42fefa0000p-1, ln2_low = 0x1.cf79abc9e3b3ap-40;

// x = k ln2 + r with |r| <= ln2 / 2; |x| < 746.
inline int reduce(double x, double& r) {
  const double k = std::floor(x / 0x1.62e42fefa39efp-1 + 0.5);
  r = (x - k * ln2_high) - k * ln2_low;
  return static_cast<int>(k);
}

// e^r - 1 by Taylor in Horner form, |r| <= 0.5: the first term left out is below 2^-65 of the sum.
inline double expm1_near(double r) {
  double sum = 0;
  for (int k = 17; k >= 2; --k) sum = (sum + 1) * r / k;
  return (sum + 1) * r;
}

// log((1 + s) / (1 - s)), |s| <= 1/3.
inline double log_ratio(double s) {
  const double z = s * s;
  double sum = 0;
  for (int k = 41; k >= 1; k -= 2) sum = sum * z + 1.0 / k;
  return 2 * s * sum;
}

}  // namespace detail

inline double exp(double x) {
  if (x != x) return x;
  if (x > 709.79) return std::numeric_limits<double>::infinity();
  if (x < -745.2) return 0;
  double r;
  const int k = detail::reduce(x, r), half = k / 2;  // in two steps: 2^k itself may be out of range
  return (1 + detail::expm1_near(r)) * power_of_two(half) * power_of_two(k - half);
}

inline double expm1(double x) { return x > -0.5 && x < 0.5 ? detail::expm1_near(x) : exp(x) - 1; }

inline double log(double x) {
  if (x != x) return x;
  if (x < 0) return std::numeric_limits<double>::quiet_NaN();
  if (x == 0) return -std::numeric_limits<double>::infinity();
  if (x == std::numeric_limits<double>::infinity()) return x;
  int k = 0;
  if (x < 0x1p-1022) {
    x *= 0x1p54;
    k = -54;
  }
  uint64_t bits;
  std::memcpy(&bits, &x, 8);
  k += static_cast<int>(bits >> 52) - 1023;
  bits = (bits & 0xfffffffffffff) | 0x3ff0000000000000;
  double m;
  std::memcpy(&m, &bits, 8);
  if (m > 1.4142135623730951) {
    m *= 0.5;
    ++k;
  }
  return k * detail::ln2_high + (k * detail::ln2_low + detail::log_ratio((m - 1) / (m + 1)));
}

// log(1 + x), x > -1.
inline double log1p(double x) { return x > -0.3 && x <= 1 ? detail::log_ratio(x / (2 + x)) : log(1 + x); }

inline double sigmoid(double x) {
  if (x >= 0) return 1 / (1 + exp(-x));
  const double e = exp(x);
  return e / (1 + e);
}

inline double tanh(double x) {
  const double a = std::fabs(x);
  if (!(a >= 0x1p-28)) return x;  // tiny, zero, NaN
  double t = 1;
  if (a < 22) {
    const double e = expm1(2 * a);
    t = e / (e + 2);
  }
  return x < 0 ? -t : t;
}

// 2/sqrt(pi) e^(-x^2) (x + 2 x^3/3 + 4 x^5/15 + ...): terms of one sign, nothing cancels.
inline double erf(double x) {
  const double a = std::fabs(x);
  if (a != a) return x;
  double y = 1;
  if (a < 6) {
    double term = a, sum = a;
    for (int n = 1; term > sum * 0x1p-60; ++n) {
      term *= 2 * a * a / (2 * n + 1);
      sum += term;
    }
    y = 1.1283791670955126 * exp(-a * a) * sum;
    if (y > 1) y = 1;
  }
  return x < 0 ? -y : y;
}

inline double softplus(double x) { return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)); }

}  // namespace portable
}  // namespace quern_sdk
