// Scales of channels as one step times whole numbers, for hardware that multiplies the rows of a tensor by a small integer.
//
//   p = to_multiples(p, 1, 255);   // of scales 0.7, 0.2 and 0.1: 255, 73 and 37 steps of 0.7 / 255
#pragma once
#include "core/numeric/quantization.hpp"

namespace quern {

// Rounded up, so that a channel covers what it covered. The step is the finest that says the largest scale with `highest`, or `least`
// where that is larger.
QuantParams to_multiples(const QuantParams& params, int lowest, int highest, double least = 0);

}  // namespace quern
