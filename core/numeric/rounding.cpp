#include "core/numeric/rounding.hpp"

#include <array>
#include <bit>
#include <limits>

namespace quern {
namespace {

constexpr std::array<std::string_view, 6> names{"floor", "to_zero", "half_up", "half_down", "half_away", "half_even"};

// mantissa * 2^exponent with a sign, to the integer that the rule names.
int64_t round_scaled(bool negative, int64_t mantissa, int exponent, Round round) {
  const int64_t value = negative ? -mantissa : mantissa;
  if (exponent >= 0) {
    const int room = std::countl_zero(static_cast<uint64_t>(mantissa)) - 1;
    if (mantissa == 0) return 0;
    if (exponent > room) return negative ? std::numeric_limits<int64_t>::min() : std::numeric_limits<int64_t>::max();
    return value * (int64_t{1} << exponent);
  }
  if (exponent >= -63) return shift_right64(value, -exponent, round);
  // Below 2^53 / 2^64: not zero at most, and far from a half.
  return round == Round::floor && value < 0 ? -1 : 0;
}

}  // namespace

std::string_view name_of(Round r) { return names[static_cast<size_t>(r)]; }

bool round_from_name(std::string_view name, Round& out) {
  for (size_t i = 0; i < names.size(); ++i)
    if (names[i] == name) { out = static_cast<Round>(i); return true; }
  return false;
}

i128 shift_right(i128 value, int shift, Round round) {
  __extension__ typedef unsigned __int128 u128;
  if (shift == 0) return value;
  const u128 below = static_cast<u128>(value) & ((static_cast<u128>(1) << shift) - 1);
  const u128 half = static_cast<u128>(1) << (shift - 1);
  const i128 down = value >> shift;
  bool up = false;
  switch (round) {
    case Round::floor: break;
    case Round::to_zero: up = value < 0 && below != 0; break;
    case Round::half_up: up = below >= half; break;
    case Round::half_down: up = below > half; break;
    case Round::half_away: up = value < 0 ? below > half : below >= half; break;
    case Round::half_even: up = below > half || (below == half && (down & 1)); break;
  }
  return down + (up ? 1 : 0);
}

int64_t to_integer(float value, Round round) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const bool negative = bits >> 31;
  const int field = static_cast<int>(bits >> 23 & 0xff);
  const int64_t fraction = bits & 0x7fffff;
  if (field == 0xff) {
    if (fraction != 0) return 0;
    return negative ? std::numeric_limits<int64_t>::min() : std::numeric_limits<int64_t>::max();
  }
  return round_scaled(negative, field ? fraction | 0x800000 : fraction, (field ? field : 1) - 150, round);
}

int64_t to_integer(double value, Round round) {
  const uint64_t bits = std::bit_cast<uint64_t>(value);
  const bool negative = bits >> 63;
  const int field = static_cast<int>(bits >> 52 & 0x7ff);
  const int64_t fraction = static_cast<int64_t>(bits & 0xfffffffffffff);
  if (field == 0x7ff) {
    if (fraction != 0) return 0;
    return negative ? std::numeric_limits<int64_t>::min() : std::numeric_limits<int64_t>::max();
  }
  return round_scaled(negative, field ? fraction | int64_t{1} << 52 : fraction, (field ? field : 1) - 1075, round);
}

float to_float_wide(int64_t value) {
  if (value == 0) return 0;
  const bool negative = value < 0;
  uint64_t magnitude = negative ? ~static_cast<uint64_t>(value) + 1 : static_cast<uint64_t>(value);
  int exponent = 63 - std::countl_zero(magnitude);  // magnitude in [2^exponent, 2^(exponent + 1))
  if (exponent > 23) {
    const int drop = exponent - 23;
    const uint64_t below = magnitude & ((uint64_t{1} << drop) - 1), half = uint64_t{1} << (drop - 1);
    magnitude >>= drop;
    if (below > half || (below == half && (magnitude & 1))) ++magnitude;
    if (magnitude >> 24) { magnitude >>= 1; ++exponent; }
  } else {
    magnitude <<= 23 - exponent;
  }
  const uint32_t bits = static_cast<uint32_t>(magnitude & 0x7fffff) | static_cast<uint32_t>(exponent + 127) << 23;
  return std::bit_cast<float>(bits | (negative ? 0x80000000u : 0u));
}

uint16_t to_half(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = bits >> 16 & 0x8000;
  const int field = static_cast<int>(bits >> 23 & 0xff);
  const uint32_t fraction = bits & 0x7fffff;
  if (field == 0xff) return static_cast<uint16_t>(sign | 0x7c00 | (fraction ? 0x200 | fraction >> 13 : 0));
  const int exponent = field - 127 + 15;
  if (exponent >= 31) return static_cast<uint16_t>(sign | 0x7c00);
  // Drop the bits that do not fit (more of them below the normal range); a carry runs on into the exponent by itself.
  const int drop = exponent >= 1 ? 13 : 14 - exponent;
  if (drop > 25) return static_cast<uint16_t>(sign);
  const uint32_t whole = field ? fraction | 0x800000 : fraction;
  const uint32_t kept = static_cast<uint32_t>(shift_right64(whole, drop, Round::half_even));
  return static_cast<uint16_t>(sign | (exponent >= 1 ? (static_cast<uint32_t>(exponent - 1) << 10) + kept : kept));
}

float from_half(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  const uint32_t field = bits >> 10 & 0x1f, fraction = bits & 0x3ff;
  if (field == 31) return std::bit_cast<float>(sign | 0x7f800000 | fraction << 13 | (fraction ? 0x400000 : 0));
  if (field != 0) return std::bit_cast<float>(sign | (field + 112) << 23 | fraction << 13);
  if (fraction == 0) return std::bit_cast<float>(sign);
  const int top = 31 - std::countl_zero(fraction);  // 0..9
  return std::bit_cast<float>(sign | static_cast<uint32_t>(top + 103) << 23 | (fraction << (23 - top) & 0x7fffff));
}

}  // namespace quern
