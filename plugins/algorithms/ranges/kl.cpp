// The threshold at which the distribution of |x|, cut there and put into the levels of the quantizer, loses the least information:
// Migacz, "8-bit Inference with TensorRT", GTC 2017. For every candidate of i bins:
//   P = the first i bins, what lies beyond added to the last of them;
//   Q = the first i bins, put together into `levels` groups of equal width, each group's sum spread evenly over those of its bins
//       that are not empty in P;
//   the candidate with the smallest sum of P log(P / Q) wins, of equal ones the first.
// Exact zeros are left out: every quantizer here represents them. Bins are those of the host's histogram (2,048 of a power-of-two
// range, so 1,025 to 2,048 of them up to the largest value); a weight is counted into 2,048 bins up to its largest.
#include <algorithm>
#include <cmath>
#include <limits>

#include "estimators.hpp"
#include "spread.hpp"

namespace ranges {
namespace {

constexpr size_t most_bins = 2048;

// Counts of |x| in bins of equal width.
struct Grid { std::vector<double> counts; double width = 0; };

Grid grid_of(const quern_statistic& h) {
  Grid g{std::vector<double>(most_bins, 0), std::ldexp(1.0, h.exponent) / most_bins};
  for (size_t i = 0; i < most_bins; ++i) g.counts[i] = static_cast<double>(h.negative[i]) + static_cast<double>(h.positive[i]);
  return g;
}

Grid grid_of(const Spread& s) {
  const double largest = std::max(std::fabs(s.low), std::fabs(s.high));
  Grid g{std::vector<double>(most_bins, 0), largest / most_bins};
  for (const Bin& b : s.bins) g.counts[std::min(most_bins - 1, static_cast<size_t>(std::fabs(b.begin) / g.width))] += b.count;
  return g;
}

// Sum of P log(P / Q) for the first `i` bins, both made to have the sum 1.
double divergence(const std::vector<double>& counts, size_t i, size_t levels, double beyond) {
  double p_sum = beyond, q_sum = 0;
  for (size_t b = 0; b < i; ++b) p_sum += counts[b];
  const auto p_at = [&](size_t b) { return counts[b] + (b == i - 1 ? beyond : 0); };
  q_sum = p_sum - beyond;
  if (!(q_sum > 0)) return std::numeric_limits<double>::infinity();
  double sum = 0;
  for (size_t level = 0; level < levels; ++level) {
    const size_t begin = level * i / levels, end = (level + 1) * i / levels;
    double held = 0;
    size_t filled = 0;
    for (size_t b = begin; b < end; ++b) {
      held += counts[b];
      filled += p_at(b) > 0;
    }
    if (filled == 0) continue;
    const double q = held / static_cast<double>(filled) / q_sum;
    for (size_t b = begin; b < end; ++b) {
      const double p = p_at(b) / p_sum;
      if (!(p > 0)) continue;
      if (!(q > 0)) return std::numeric_limits<double>::infinity();
      sum += p * std::log(p / q);
    }
  }
  return sum;
}

double threshold(const Grid& g, size_t levels, double largest) {
  size_t used = g.counts.size();
  while (used > 0 && g.counts[used - 1] == 0) --used;
  if (used <= levels) return largest;
  double beyond = 0;
  for (size_t b = levels; b < used; ++b) beyond += g.counts[b];
  double least = std::numeric_limits<double>::infinity();
  size_t best = used;
  for (size_t i = levels; i <= used; ++i) {
    const double d = divergence(g.counts, i, levels, beyond);
    if (d < least) { least = d; best = i; }
    if (i < used) beyond -= g.counts[i];
  }
  return best == used ? largest : static_cast<double>(best) * g.width;
}

}  // namespace

void Kl::requires_statistics(const Json& p, const QuantizerView& q, RequestSink& sink) {
  p.only({}, "kl");
  if (!q.is_weight()) request_histogram(q, sink);
}

void Kl::estimate(const Json&, const QuantizerView& q, const Statistics& statistics, Span<double> low, Span<double> high) {
  each_channel(q, statistics, low, high, [&](const Spread& s, double& l, double& h) {
    const Grid grid = q.is_weight() ? grid_of(s) : grid_of(statistics.at(1, QUERN_STAT_HISTOGRAM));
    cut(threshold(grid, static_cast<size_t>(top_code(q, s)) + 1, std::max(std::fabs(s.low), std::fabs(s.high))), l, h);
  });
}

}  // namespace ranges
