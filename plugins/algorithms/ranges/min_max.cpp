#include <limits>

#include "estimators.hpp"

namespace ranges {

void weight_min_max(const QuantizerView& q, Span<double> low, Span<double> high) {
  for (double& v : low) v = std::numeric_limits<double>::infinity();
  for (double& v : high) v = -std::numeric_limits<double>::infinity();
  q.each_weight([&](size_t c, float v) {
    low[c] = v < low[c] ? v : low[c];
    high[c] = v > high[c] ? v : high[c];
  });
  for (size_t c = 0; c < q.channels(); ++c)
    if (!(low[c] <= high[c])) low[c] = high[c] = 0;  // a channel without elements
}

void MinMax::requires_statistics(const Json& p, const QuantizerView& q, RequestSink& sink) {
  p.only({}, "min_max");
  if (!q.is_weight()) sink.request(QUERN_STAT_MIN_MAX, q.axis());
}

void MinMax::estimate(const Json&, const QuantizerView& q, const Statistics& statistics, Span<double> low, Span<double> high) {
  if (q.is_weight()) return weight_min_max(q, low, high);
  const quern_statistic& s = statistics.at(0, QUERN_STAT_MIN_MAX);
  for (size_t c = 0; c < q.channels(); ++c) {
    low[c] = s.low[c];
    high[c] = s.high[c];
  }
}

}  // namespace ranges
