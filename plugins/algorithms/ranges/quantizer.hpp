// What the host makes of a range, for estimators that look at the levels the target really has.
#pragma once
#include <quern/plugin.hpp>

namespace ranges {

struct Quantizer {
  double scale = 1;
  double low = 0, high = 0;  // codes relative to the zero point: values low*scale .. high*scale
};

// Zero is exact, by widening one end; symmetric: M at the largest code.
Quantizer quantizer_for(const quern_sdk::QuantizerView& q, double low, double high);

}  // namespace ranges
