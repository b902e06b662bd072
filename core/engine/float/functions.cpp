#include "core/engine/float/functions.hpp"

#include <cstdint>
#include <cstring>
#include <limits>

namespace quern::own {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

double whole_power(double base, uint64_t exponent) {
  double result = 1;
  for (; exponent; exponent >>= 1) {
    if (exponent & 1) result *= base;
    base *= base;
  }
  return result;
}

// 2/pi in 64-bit words after the binary point, enough for the largest double (2^1024).
constexpr uint64_t two_over_pi[] = {
    0xA2F9836E4E441529, 0xFC2757D1F534DDC0, 0xDB6295993C439041, 0xFE5163ABDEBBC561, 0xB7246E3A424DD2E0,
    0x06492EEA09D1921C, 0xFE1DEB1CB129A73E, 0xE88235F52EBB4484, 0xE99C7026B45F7E41, 0x3991D639835339F4,
    0x9C845F8BBDF9283B, 0x1FF897FFDE05980F, 0xEF2F118B5A0A6D1F, 0x6D367ECF27CB09B7, 0x4F463F669E5FEA2D,
    0x7527BAC7EBE5F17B, 0x3D0739F78A5292EA, 0x6BFB5FB11F8D5D08, 0x56033046FC7B6BAB, 0xF0CFBC209AF4361D,
};

// x = (4 m + quadrant) * pi/2 + rest, |rest| <= pi/4: the fraction of x * 2/pi by integer multiplication (Payne and Hanek),
// exact to 2^-63 whatever the size of x.
int reduce(double x, double& rest) {
  if (std::fabs(x) <= 0.78539816339744831) { rest = x; return 0; }
  uint64_t bits;
  std::memcpy(&bits, &x, 8);
  const bool negative = bits >> 63;
  const int exponent = static_cast<int>((bits >> 52) & 0x7ff) - 1075;  // |x| = mantissa * 2^exponent
  const uint64_t mantissa = (bits & 0xfffffffffffff) | 0x10000000000000;
  // Words of 2/pi from bit `exponent - 64` on: what lies before gives whole multiples of 4 quadrants for any mantissa.
  const auto word_at = [](int bit) -> uint64_t {  // 64 bits of 2/pi from this bit after the point
    if (bit <= -64) return 0;
    if (bit < 0) return two_over_pi[0] >> -bit;
    const int w = bit / 64, s = bit % 64;
    return s == 0 ? two_over_pi[w] : (two_over_pi[w] << s) | (two_over_pi[w + 1] >> (64 - s));
  };
  // Product of the mantissa with 192 bits, of which the top part beyond bit 2 is dropped.
  const int start = exponent - 2;  // weights of the first word: 2^1 ... down, after scaling by 2^exponent
  const unsigned __int128 p2 = static_cast<unsigned __int128>(mantissa) * word_at(start + 128);
  const unsigned __int128 p1 = static_cast<unsigned __int128>(mantissa) * word_at(start + 64);
  const unsigned __int128 p0 = static_cast<unsigned __int128>(mantissa) * word_at(start);
  // Sum as a fixed-point number; word k of the product has its unit at 2^(2 - 64 (k + 1)).
  unsigned __int128 low = (p2 >> 64) + static_cast<uint64_t>(p1);
  const uint64_t middle = static_cast<uint64_t>(low);
  const uint64_t high = static_cast<uint64_t>(p0) + static_cast<uint64_t>(p1 >> 64) + static_cast<uint64_t>(low >> 64);
  // high: 2 bits of quadrant, 62 of fraction; middle: 64 more.
  int quadrant = static_cast<int>(high >> 62);
  unsigned __int128 fraction = ((static_cast<unsigned __int128>(high) << 64) | middle) << 2;
  bool below = false;
  if (fraction >> 127) {  // beyond half: from above
    quadrant = (quadrant + 1) & 3;
    fraction = -fraction;
    below = true;
  }
  const double value = static_cast<double>(static_cast<uint64_t>(fraction >> 64)) * 0x1p-64 +
                       static_cast<double>(static_cast<uint64_t>(fraction)) * 0x1p-128;
  rest = value * 1.5707963267948966;
  if (below) rest = -rest;
  if (negative) { rest = -rest; quadrant = (4 - quadrant) & 3; }
  return quadrant;
}

// Taylor on |x| <= pi/4: the first term left out is below 2^-58.
double sin_near(double x) {
  const double y = x * x;
  return x + x * y * (-1.0 / 6 + y * (1.0 / 120 + y * (-1.0 / 5040 + y * (1.0 / 362880 + y * (-1.0 / 39916800 +
         y * (1.0 / 6227020800 + y * (-1.0 / 1307674368000)))))));
}
double cos_near(double x) {
  const double y = x * x;
  return 1 + y * (-0.5 + y * (1.0 / 24 + y * (-1.0 / 720 + y * (1.0 / 40320 + y * (-1.0 / 3628800 +
         y * (1.0 / 479001600 + y * (-1.0 / 87178291200 + y * (1.0 / 20922789888000))))))));
}

}  // namespace

double pow(double base, double exponent) {
  if (exponent == 0 || base == 1) return 1;
  if (base != base || exponent != exponent) return base + exponent;
  if (exponent == 0.5 && base >= 0) return std::sqrt(base + 0.0);
  const double size = std::fabs(exponent);
  const bool whole = size >= 0x1p53 || round_to(exponent, Round::floor) == exponent;
  if (whole && size <= 64) {
    const double p = whole_power(base, static_cast<uint64_t>(size));
    return exponent < 0 ? 1 / p : p;
  }
  const bool odd = whole && size < 0x1p53 && (static_cast<uint64_t>(size) & 1);
  if (base < 0 && !whole && base != -infinity) return std::numeric_limits<double>::quiet_NaN();
  const double magnitude = std::fabs(base);
  double result;
  if (magnitude == 1) result = 1;
  else if (magnitude == 0 || magnitude == infinity) result = (magnitude == 0) == (exponent < 0) ? infinity : 0;
  else if (size == infinity) result = (magnitude > 1) == (exponent > 0) ? infinity : 0;
  else result = portable::exp(exponent * portable::log(magnitude));
  return odd && std::signbit(base) ? -result : result;
}

double sin(double x) {
  if (!(std::fabs(x) < infinity)) return std::numeric_limits<double>::quiet_NaN();
  double r;
  switch (reduce(x, r)) {
    case 0: return sin_near(r);
    case 1: return cos_near(r);
    case 2: return -sin_near(r);
    default: return -cos_near(r);
  }
}

double cos(double x) {
  if (!(std::fabs(x) < infinity)) return std::numeric_limits<double>::quiet_NaN();
  double r;
  switch (reduce(x, r)) {
    case 0: return cos_near(r);
    case 1: return -sin_near(r);
    case 2: return -cos_near(r);
    default: return sin_near(r);
  }
}

double expm1(double x) {
  if (std::fabs(x) >= 0.25) return portable::exp(x) - 1;
  double sum = 0;  // Taylor in Horner form, from x^16 / 16! down
  for (int k = 16; k >= 2; --k) sum = (sum + 1) * x / k;
  return (sum + 1) * x;
}

double log1p(double x) {
  const double u = 1 + x;
  return u == 1 ? x : portable::log(u) * (x / (u - 1));  // the quotient takes back what the sum rounded away
}

double softplus(double x) {
  return x > 0 ? x + log1p(portable::exp(-x)) : log1p(portable::exp(x));
}

}  // namespace quern::own
