// The range whose quantizer has the smallest expected squared (mse) or absolute (mae) error: rounding inside, clipping outside, weighed against each
// other with the levels the target really has.
//
// Activations (per tensor): on the histogram, values taken as even within a bin; the error integral of a bin has a closed
// form, so that bins narrower or wider than a step are both right. Weights: on the data, per channel.
// The search is a fixed grid of clipping ratios and a finer one around its best point; a smaller range must be strictly
// better. For asymmetric quantizers the two ends are searched in turn until neither moves.
#include <algorithm>
#include <cmath>
#include <functional>

#include "estimators.hpp"
#include "histogram.hpp"
#include "quantizer.hpp"

namespace ranges {
namespace {

// 2: squares, 1: absolute values.
enum class Norm { squared, absolute };

// Integral from 0 to t of |u - nearest level|^norm, in units of the step; levels at the integers low..high.
double error_integral(Norm norm, double t, double low, double high) {
  const bool squared = norm == Norm::squared;
  const auto inside = [&](double x) {
    const double n = std::floor(x + 0.5), r = x - n;
    return squared ? n / 12 + r * r * r / 3 : n / 4 + (r < 0 ? -r * r : r * r) / 2;
  };
  const auto beyond = [&](double d) { return squared ? d * d * d / 3 : (d < 0 ? -d * d : d * d) / 2; };
  if (t > high) return inside(high) + beyond(t - high);
  if (t < low) return inside(low) + beyond(t - low);
  return inside(t);
}

double histogram_error(Norm norm, const std::vector<Bin>& bins, const Quantizer& q) {
  const double step = q.scale, unit = norm == Norm::squared ? step * step * step : step * step;
  double sum = 0;
  for (const Bin& b : bins) {
    const double whole = error_integral(norm, b.end / step, q.low, q.high) - error_integral(norm, b.begin / step, q.low, q.high);
    sum += b.count * unit * whole / (b.end - b.begin);
  }
  return sum;
}

double data_error(Norm norm, const std::vector<float>& data, const Quantizer& q) {
  const double inverse = 1 / q.scale;
  double sum = 0;
  for (const float v : data) {
    double code = std::floor(v * inverse + 0.5);
    code = code < q.low ? q.low : code > q.high ? q.high : code;
    const double e = v - code * q.scale;
    sum += norm == Norm::squared ? e * e : std::fabs(e);
  }
  return sum;
}

constexpr int coarse = 45;         // ratios 1, 0.98, ..., 0.1
constexpr double coarse_step = 0.02, fine_step = 0.002;

// The ratio in (0, 1] with the smallest error; the largest of equal ones.
double best_ratio(const std::function<double(double)>& error) {
  double best = 1, least = error(1);
  auto look = [&](double ratio) {
    const double e = error(ratio);
    if (e < least) { least = e; best = ratio; }
  };
  for (int i = 1; i <= coarse; ++i) look(1 - coarse_step * i);
  const double centre = best;
  for (int i = 9; i >= -9; --i) {
    const double ratio = centre + fine_step * i;
    if (i != 0 && ratio > 0 && ratio < 1) look(ratio);
  }
  return best;
}

using Error = std::function<double(const Quantizer&)>;

void search(const QuantizerView& q, const Error& error, double& low, double& high) {
  if (!(std::max(std::fabs(low), std::fabs(high)) > 0)) return;
  if (q.symmetric()) {
    const double ratio = best_ratio([&](double r) { return error(quantizer_for(q, low * r, high * r)); });
    low *= ratio;
    high *= ratio;
    return;
  }
  low = std::min(low, 0.0);
  high = std::max(high, 0.0);
  const double full_low = low, full_high = high;
  double low_ratio = 1, high_ratio = 1;
  for (int round = 0; round < 4; ++round) {
    const double before_low = low_ratio, before_high = high_ratio;
    if (full_high > 0) high_ratio = best_ratio([&](double r) { return error(quantizer_for(q, full_low * low_ratio, full_high * r)); });
    if (full_low < 0) low_ratio = best_ratio([&](double r) { return error(quantizer_for(q, full_low * r, full_high * high_ratio)); });
    if (low_ratio == before_low && high_ratio == before_high) break;
  }
  low = full_low * low_ratio;
  high = full_high * high_ratio;
}

void estimate_range(Norm norm, const QuantizerView& q, const Statistics& statistics, Span<double> low, Span<double> high) {
  if (q.is_weight()) {
    weight_min_max(q, low, high);
    std::vector<std::vector<float>> data(q.channels());
    q.each_weight([&](size_t c, float v) { data[c].push_back(v); });
    quern_sdk::parallel_for(static_cast<int64_t>(q.channels()), [&](int64_t i) {
      const auto c = static_cast<size_t>(i);
      if (q.symmetric()) {
        high[c] = std::max(std::fabs(low[c]), std::fabs(high[c]));
        low[c] = -high[c];
      }
      search(q, [&](const Quantizer& quantizer) { return data_error(norm, data[c], quantizer); }, low[c], high[c]);
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
  search(q, [&](const Quantizer& quantizer) { return histogram_error(norm, histogram.bins(), quantizer); }, low[0], high[0]);
}

}  // namespace

void Mse::requires_statistics(const Json& p, const QuantizerView& q, RequestSink& sink) {
  p.only({}, "mse");
  if (!q.is_weight()) request_histogram(q, sink);
}
void Mse::estimate(const Json&, const QuantizerView& q, const Statistics& statistics, Span<double> low, Span<double> high) {
  estimate_range(Norm::squared, q, statistics, low, high);
}

void Mae::requires_statistics(const Json& p, const QuantizerView& q, RequestSink& sink) {
  p.only({}, "mae");
  if (!q.is_weight()) request_histogram(q, sink);
}
void Mae::estimate(const Json&, const QuantizerView& q, const Statistics& statistics, Span<double> low, Span<double> high) {
  estimate_range(Norm::absolute, q, statistics, low, high);
}

}  // namespace ranges
