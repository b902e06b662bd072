#include "quantizer.hpp"

#include <algorithm>
#include <cmath>

namespace ranges {

using quern_sdk::QuantizerView;

Quantizer quantizer_for(const QuantizerView& q, double low, double high) {
  const auto levels = static_cast<double>(q.qmax() - q.qmin());
  const auto qmin = static_cast<double>(q.qmin());
  Quantizer out;
  if (q.symmetric()) {
    const double m = std::max(std::fabs(low), std::fabs(high));
    if (qmin >= 0 && low >= 0 && !q.is_weight()) {
      out = {m / levels, 0, levels};  // unsigned, all codes on one side
    } else {
      // [-M * L / (L - 2), M] with an even number of levels L, [-M, M] with an odd one.
      const double top = std::floor(levels / 2);
      out = {m / top, std::fmod(levels, 2) != 0 ? -top - 1 : -top, top};
    }
  } else {
    low = std::min(low, 0.0);
    high = std::max(high, 0.0);
    const double zero = std::floor(-low * levels / (high - low) + 0.5);
    double a = 0, b = 0;
    if (zero < levels) a = high - zero / (zero - levels) * high;
    if (zero > 0) b = (zero - levels) / zero * low - low;
    out.scale = std::max(a, b) / levels;
    out.low = -zero;
    out.high = levels - zero;
  }
  return out;
}

}  // namespace ranges
