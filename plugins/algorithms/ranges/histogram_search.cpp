// NNCF's search on a histogram (first PyTorch's HistogramObserver): from the full range, cut in steps of 1e-5 of the values whichever end
// gives up more of the axis for it, as long as the squared error of what is left, put into the levels of the quantizer, does not grow.
// Unlike `mse` it stops at the first rise and knows nothing of zero points: for results like NNCF's.
#include <algorithm>
#include <cmath>
#include <limits>

#include "estimators.hpp"
#include "spread.hpp"

namespace ranges {
namespace {

constexpr double step = 1e-5;

// Integral of the squared distance to the nearest of `levels` centres that divide [low, high], weighed by the density.
double search_error(const std::vector<Bin>& bins, double low, double high, double levels) {
  const double width = (high - low) / levels;
  if (!(width > 0)) return std::numeric_limits<double>::infinity();
  // From a centre to t beyond it (|t| <= width / 2): t^3 / 3.
  const auto integral = [&](double x) {  // from `low` to x; beyond the ends the distance to the outermost centre
    const double cell = std::min(std::max(std::floor((x - low) / width), 0.0), levels - 1);
    const double centre = low + (cell + 0.5) * width, r = x - centre;
    return cell * width * width * width / 12 + (r * r * r + width * width * width / 8) / 3;
  };
  double sum = 0;
  for (const Bin& b : bins) {
    if (b.end > b.begin) sum += b.count * (integral(b.end) - integral(b.begin)) / (b.end - b.begin);
    else {
      const double cell = std::min(std::max(std::floor((b.begin - low) / width), 0.0), levels - 1);
      const double r = b.begin - (low + (cell + 0.5) * width);
      sum += b.count * r * r;
    }
  }
  return sum;
}

}  // namespace

void HistogramSearch::requires_statistics(const Json& p, const QuantizerView& q, RequestSink& sink) {
  p.only({}, "histogram");
  if (!q.is_weight()) request_histogram(q, sink);
}

void HistogramSearch::estimate(const Json&, const QuantizerView& q, const Statistics& statistics, Span<double> low, Span<double> high) {
  const auto levels = static_cast<double>(q.qmax() - q.qmin() + 1);
  each_channel(q, statistics, low, high, [&](const Spread& s, double& l, double& h) {
    if (q.is_weight()) return;  // min and max, as there
    // The zeros as a bin of their own.
    std::vector<Bin> bins = s.bins;
    const auto at = std::find_if(bins.begin(), bins.end(), [](const Bin& b) { return b.begin >= 0; });
    if (s.zeros > 0) bins.insert(at, {0, 0, s.zeros});
    std::vector<double> below{0};
    for (const Bin& b : bins) below.push_back(below.back() + b.count);
    const double total = below.back();
    // Inside are the bins first .. kept-1; the high end is where the first bin outside of it begins, whatever lies empty between.
    size_t first = 0, kept = bins.size();
    const auto end_of = [&](size_t k) { return k == bins.size() ? bins.back().end : bins[k].begin; };
    double alpha = 0, beta = 1, least = std::numeric_limits<double>::infinity();
    while (alpha < beta) {
      const double next_alpha = alpha + step, next_beta = beta - step;
      size_t from = first, to = kept;
      while (from + 1 < kept && below[from + 1] < next_alpha * total) ++from;
      while (to > first + 1 && below[to] > next_beta * total) --to;
      size_t next_first = first, next_kept = kept;
      if (bins[from].begin - bins[first].begin > end_of(kept) - end_of(to)) {
        next_first = from;
        alpha = next_alpha;
      } else {
        next_kept = to;
        beta = next_beta;
      }
      if (next_first == first && next_kept == kept) continue;
      const double error = search_error(bins, bins[next_first].begin, end_of(next_kept), levels);
      if (error > least) break;
      least = error;
      first = next_first;
      kept = next_kept;
    }
    l = std::max(l, bins[first].begin);
    h = std::min(h, end_of(kept));
  });
}

}  // namespace ranges
