// Whole numbers of f32 without branches, so that loops become vectors; the values of to_integer (rounding.hpp), as floats. Infinities, NaN
// and everything from 2^23 on are themselves, and the sign of zero is kept.
#pragma once
#include <bit>
#include <cstdint>

namespace quern {

// The nearest whole number, ties to even: adding 2^23 leaves no bits below the point.
inline float nearest_even(float x) {
  constexpr float whole = 8388608.0f;
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const float a = std::bit_cast<float>(bits & 0x7fffffffu);
  const float r = (a + whole) - whole;
  const uint32_t magnitude = std::bit_cast<uint32_t>(a < whole ? r : a);
  return std::bit_cast<float>(magnitude | (bits & 0x80000000u));
}

inline float round_down(float x) {
  const float r = nearest_even(x);
  return r - (r > x ? 1.0f : 0.0f);
}
inline float round_up(float x) { return -round_down(-x); }

// Bounds a float that may be NaN (which becomes 0) to what a conversion to int32 can take: +-2^24.
inline int32_t bounded_int(float whole) {
  constexpr float limit = 16777216.0f;
  const float a = whole == whole ? whole : 0.0f;
  const float b = a > -limit ? a : -limit;
  return static_cast<int32_t>(b < limit ? b : limit);
}

}  // namespace quern
