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

// to_half and from_half without branches: the same bits.
inline uint16_t half_bits(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value), size = bits & 0x7fffffffu;
  const uint32_t rounded = size + 0xfffu + ((size >> 13) & 1u);
  const uint32_t normal = rounded >= 0x47800000u ? 0x7c00u : (rounded - 0x38000000u) >> 13;
  // Below 2^-14 in steps of 2^-24, the last bit of a number between 0.5 and 1.
  const uint32_t small = std::bit_cast<uint32_t>(std::bit_cast<float>(size < 0x38800000u ? size : 0u) + 0.5f) - 0x3f000000u;
  const uint32_t number = size < 0x38800000u ? small : normal;
  const uint32_t result = size > 0x7f800000u ? 0x7e00u | (size & 0x7fffffu) >> 13 : number;
  return static_cast<uint16_t>(result | (bits >> 16 & 0x8000u));
}
inline float half_value(uint16_t half) {
  const uint32_t size = half & 0x7fffu;
  const uint32_t normal = (size << 13) + 0x38000000u;
  const uint32_t small = std::bit_cast<uint32_t>(static_cast<float>(static_cast<int32_t>(size)) * 0x1p-24f);
  const uint32_t infinite = 0x7f800000u | (size & 0x3ffu) << 13 | (size > 0x7c00u ? 0x400000u : 0u);
  const uint32_t result = size < 0x400u ? small : size >= 0x7c00u ? infinite : normal;
  return std::bit_cast<float>(result | static_cast<uint32_t>(half & 0x8000u) << 16);
}

}  // namespace quern
