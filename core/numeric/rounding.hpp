// Rounding. The ONE place where it lives: nothing else in the host calls nearbyint, lrint, floor-shift tricks and the like.
// All functions are exact, independent of the floating-point environment, locale and instruction set.
#pragma once
#include <cstdint>
#include <string_view>

namespace quern {

enum class Round { floor, to_zero, half_up, half_down, half_away, half_even };
std::string_view name_of(Round r);
bool round_from_name(std::string_view name, Round& out);

using i128 = __int128;

// value / 2^shift, rounded; shift 0..126. half_up: ties toward +inf; half_down: ties toward -inf.
i128 shift_right(i128 value, int shift, Round round);
// Nearest integer by the rule; NaN -> 0, beyond int64 saturates.
int64_t to_integer(float value, Round round);
int64_t to_integer(double value, Round round);
inline int64_t rne(float value) { return to_integer(value, Round::half_even); }

// IEEE binary16, round to nearest even; and back.
uint16_t to_half(float value);
float from_half(uint16_t bits);

}  // namespace quern
