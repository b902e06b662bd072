#include "spread.hpp"

#include <algorithm>
#include <cmath>

#include "estimators.hpp"

namespace ranges {

std::vector<Bin> Spread::absolute() const {
  return folded(bins);
}

void each_channel(const QuantizerView& q, const Statistics& statistics, Span<double> low, Span<double> high,
                  const std::function<void(const Spread&, double& low, double& high)>& range) {
  const auto ranged = [&](const Spread& s, double& l, double& h) {
    range(s, l, h);
    if (!q.symmetric()) return;
    h = std::max(std::fabs(l), std::fabs(h));
    l = l < 0 ? -h : 0;
  };
  if (q.is_weight()) {
    weight_min_max(q, low, high);
    std::vector<Spread> channels(q.channels());
    q.each_weight([&](size_t c, float v) {
      if (v == 0) ++channels[c].zeros;
      else channels[c].bins.push_back({v, v, 1});
    });
    quern_sdk::parallel_for(static_cast<int64_t>(q.channels()), [&](int64_t i) {
      const auto c = static_cast<size_t>(i);
      Spread& s = channels[c];
      std::sort(s.bins.begin(), s.bins.end(), [](const Bin& a, const Bin& b) { return a.begin < b.begin; });
      s.low = low[c];
      s.high = high[c];
      if (!s.bins.empty()) ranged(s, low[c], high[c]);
    });
    return;
  }
  const quern_statistic& extremes = statistics.at(0, QUERN_STAT_MIN_MAX);
  for (size_t c = 0; c < q.channels(); ++c) {
    low[c] = extremes.low[c];
    high[c] = extremes.high[c];
  }
  if (q.per_channel()) return;
  const Histogram histogram(statistics.at(1, QUERN_STAT_HISTOGRAM), low[0], high[0]);
  if (!histogram.bins().empty()) ranged({histogram.bins(), histogram.zeros(), low[0], high[0]}, low[0], high[0]);
}

double top_code(const QuantizerView& q, const Spread& s) {
  const auto levels = static_cast<double>(q.qmax() - q.qmin());
  if (!q.symmetric()) return s.low < 0 && s.high > 0 ? std::floor(levels / 2) : levels;
  return q.qmin() >= 0 && s.low >= 0 && !q.is_weight() ? levels : std::floor(levels / 2);
}

void cut(double threshold, double& low, double& high) {
  low = std::max(low, -threshold);
  high = std::min(high, threshold);
}

}  // namespace ranges
