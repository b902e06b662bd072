// The extremes of sample after sample, each new one moving the estimate by `c`: m <- (1 - c) m + c v (Jacob et al., "Quantization and
// Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018, 3.1). Samples count in the order of their
// ids, so the result depends on that order and on nothing else.
#include <algorithm>
#include <cmath>

#include "estimators.hpp"

namespace ranges {
namespace {

std::vector<double> averaged(const quern_statistic& s, double c) {
  std::vector<double> out(s.channels, 0);
  for (uint64_t row = 0; row < s.samples; ++row)
    for (uint64_t k = 0; k < s.channels; ++k) {
      const double v = s.rows[row * s.channels + k];
      out[k] = row == 0 ? v : out[k] + c * (v - out[k]);
    }
  return out;
}

}  // namespace

void MovingAverage::requires_statistics(const Json& p, const QuantizerView& q, RequestSink& sink) {
  p.only({"c"}, "moving_average");
  if (q.is_weight()) return;
  sink.request(QUERN_STAT_SAMPLE_MIN, q.axis());
  sink.request(q.symmetric() ? QUERN_STAT_SAMPLE_ABS_MAX : QUERN_STAT_SAMPLE_MAX, q.axis());
}

void MovingAverage::estimate(const Json& p, const QuantizerView& q, const Statistics& statistics, Span<double> low, Span<double> high) {
  if (q.is_weight()) return weight_min_max(q, low, high);
  const double c = p.number("c", 0.01);
  const auto lows = averaged(statistics.at(0, QUERN_STAT_SAMPLE_MIN), c);
  const auto highs = averaged(statistics.at(1, q.symmetric() ? QUERN_STAT_SAMPLE_ABS_MAX : QUERN_STAT_SAMPLE_MAX), c);
  if (lows.size() != q.channels() || highs.size() != q.channels())
    throw quern_sdk::Failure(QUERN_INVALID_ARGUMENT, std::string(q.value()) + ": its statistics have another number of channels");
  for (size_t k = 0; k < q.channels(); ++k) {
    high[k] = highs[k];
    low[k] = q.symmetric() ? (lows[k] < 0 ? -highs[k] : 0) : lows[k];
    if (low[k] > high[k]) std::swap(low[k], high[k]);
  }
}

}  // namespace ranges
