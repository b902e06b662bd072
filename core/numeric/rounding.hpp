// Rounding. The ONE place where it lives: nothing else in the host calls nearbyint, lrint, floor-shift tricks and the like.
// All functions are exact, independent of the floating-point environment, locale and instruction set.
#pragma once
#include <cstdint>
#include <string_view>

namespace quern {

enum class Round { floor, to_zero, half_up, half_down, half_away, half_even };
std::string_view name_of(Round r);
bool round_from_name(std::string_view name, Round& out);

__extension__ typedef __int128 i128;

// value / 2^shift, rounded; shift 0..126. half_up: ties toward +inf; half_down: ties toward -inf.
i128 shift_right(i128 value, int shift, Round round);
// The same in one word, for loops; shift 0..63.
inline int64_t shift_right64(int64_t value, int shift, Round round) {
  const uint64_t below = static_cast<uint64_t>(value) & ((uint64_t{1} << shift) - 1);
  const uint64_t half = shift > 0 ? uint64_t{1} << (shift - 1) : ~uint64_t{0};
  const int64_t down = value >> shift;
  switch (round) {
    case Round::floor: return down;
    case Round::to_zero: return down + (value < 0 && below != 0);
    case Round::half_up: return down + (below >= half);
    case Round::half_down: return down + (below > half);
    case Round::half_away: return down + (value < 0 ? below > half : below >= half);
    case Round::half_even: break;
  }
  return down + (below > half || (below == half && (down & 1)));
}
// Nearest integer by the rule; NaN -> 0, beyond int64 saturates.
int64_t to_integer(float value, Round round);
int64_t to_integer(double value, Round round);
inline int64_t rne(float value) { return to_integer(value, Round::half_even); }

// The nearest f32, ties to even.
float to_float_wide(int64_t value);
inline float to_float(int64_t value) {
  constexpr int64_t exact = int64_t{1} << 24;
  return value >= -exact && value <= exact ? static_cast<float>(value) : to_float_wide(value);
}

// IEEE binary16, round to nearest even; and back.
uint16_t to_half(float value);
float from_half(uint16_t bits);

}  // namespace quern
