// Elementary functions that portable_math.hpp does not have, built on it: fixed evaluation in double, the same bits on
// every x86-64. The f32 forms round the double result once.
#pragma once
#include <cmath>

#include "core/numeric/portable_math.hpp"
#include "core/numeric/rounding.hpp"

namespace quern::own {

// Halves are exact in double; sqrt, fabs, copysign and fmod are exact or correctly rounded by IEEE 754, so libm's are safe.
double pow(double base, double exponent);
double sin(double x);
double cos(double x);
double log1p(double x);     // log(1 + x) for x > -1
double softplus(double x);  // log(1 + e^x) without overflow
double expm1(double x);     // e^x - 1, exact to some ulp also near 0

// x rounded to a whole number, as a float; large values, infinities and NaN are themselves, the sign of zero is kept.
template <class T>
T round_to(T x, Round rule) {
  constexpr T whole = sizeof(T) == 4 ? T{8388608} : T{4503599627370496};  // from here on every float is whole
  if (!(std::fabs(x) < whole)) return x;
  return std::copysign(static_cast<T>(to_integer(x, rule)), x);
}

}  // namespace quern::own
