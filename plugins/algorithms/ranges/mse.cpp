// The range whose quantizer has the smallest expected squared error: rounding inside, clipping outside, weighed against each
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

namespace ranges {
namespace {

struct Quantizer {
  double scale = 1;
  double low = 0, high = 0;  // codes relative to the zero point: values low*scale .. high*scale
};

// What the host makes of a range (zero exact, by widening one end; symmetric: M at the largest code).
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

// Integral from 0 to t of (u - nearest level)^2, in units of the step; levels at the integers low..high.
double error_integral(double t, double low, double high) {
  auto inside = [](double x) {
    const double n = std::floor(x + 0.5), r = x - n;
    return n / 12 + r * r * r / 3;
  };
  if (t > high) return inside(high) + (t - high) * (t - high) * (t - high) / 3;
  if (t < low) return inside(low) + (t - low) * (t - low) * (t - low) / 3;
  return inside(t);
}

class Histogram {
 public:
  Histogram(const quern_statistic& h, double low, double high) {
    const double width = std::ldexp(1.0, h.exponent) / bins;
    for (int64_t i = bins; i-- > 0;)
      if (h.negative[i] > 0) add(-width * static_cast<double>(i + 1), -width * static_cast<double>(i), h.negative[i], low, high);
    for (int64_t i = 0; i < bins; ++i)
      if (h.positive[i] > 0) add(width * static_cast<double>(i), width * static_cast<double>(i + 1), h.positive[i], low, high);
  }
  double error(const Quantizer& q) const {
    const double step = q.scale, cube = step * step * step;
    double sum = 0;
    for (const Bin& b : bins_) {
      const double whole = error_integral(b.end / step, q.low, q.high) - error_integral(b.begin / step, q.low, q.high);
      sum += b.count * cube * whole / (b.end - b.begin);
    }
    return sum;
  }

 private:
  static constexpr int64_t bins = 2048;
  struct Bin { double begin, end, count; };
  void add(double begin, double end, int64_t count, double low, double high) {
    // The outermost bins end at the extreme values.
    const double b = std::max(begin, low), e = std::min(end, high);
    bins_.push_back(b < e ? Bin{b, e, static_cast<double>(count)} : Bin{begin, end, static_cast<double>(count)});
  }
  std::vector<Bin> bins_;
};

double data_error(const std::vector<float>& data, const Quantizer& q) {
  const double inverse = 1 / q.scale;
  double sum = 0;
  for (const float v : data) {
    double code = std::floor(v * inverse + 0.5);
    code = code < q.low ? q.low : code > q.high ? q.high : code;
    const double e = v - code * q.scale;
    sum += e * e;
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

}  // namespace

void Mse::requires_statistics(const Json& p, const QuantizerView& q, RequestSink& sink) {
  p.only({}, "mse");
  if (q.is_weight()) return;
  sink.request(QUERN_STAT_MIN_MAX, q.axis());
  if (!q.per_channel()) sink.request(QUERN_STAT_HISTOGRAM);  // there is no histogram per channel: min and max then
}

void Mse::estimate(const Json&, const QuantizerView& q, const Statistics& statistics, Span<double> low, Span<double> high) {
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
      search(q, [&](const Quantizer& quantizer) { return data_error(data[c], quantizer); }, low[c], high[c]);
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
  search(q, [&](const Quantizer& quantizer) { return histogram.error(quantizer); }, low[0], high[0]);
}

}  // namespace ranges
