// What a range estimator looks at, activations and weights alike: values as bins in ascending order, per channel. An activation's
// come from its histogram, a weight's are the elements themselves (bins without width).
#pragma once
#include <functional>

#include "histogram.hpp"
#include "quantizer.hpp"

namespace ranges {

struct Spread {
  std::vector<Bin> bins;    // without the zeros
  double zeros = 0;
  double low = 0, high = 0; // extremes
  // |x|, ascending.
  std::vector<Bin> absolute() const;
};

// Calls `range` for every channel with what it holds; it changes low and high, which come as the extremes (of a symmetric quantizer the
// larger end counts afterwards). Where all values are
// zero, or an activation is per channel (there is no histogram then), the extremes stay.
void each_channel(const quern_sdk::QuantizerView& q, const quern_sdk::Statistics& statistics, quern_sdk::Span<double> low,
                  quern_sdk::Span<double> high, const std::function<void(const Spread&, double& low, double& high)>& range);

// Codes for |x| on its longer side: 127 or 128 of 8 bits with a sign, 255 without.
double top_code(const quern_sdk::QuantizerView& q, const Spread& s);

// Cuts both ends at a threshold of |x|.
void cut(double threshold, double& low, double& high);

}  // namespace ranges
