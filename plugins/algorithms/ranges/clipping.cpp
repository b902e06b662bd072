// Estimators that find one threshold for |x| (or one share for both ends) and cut the range there.
//
// percentile  Horizon's max_percentile; ONNX Runtime, TensorRT and others call it the same.
// octav       the threshold of the least squared error by Newton's iteration: Sakr et al., "Optimal Clipping and Magnitude-aware
//             Differentiation for Improved Quantization-aware Training", ICML 2022, equation 5:
//               s' = sum of |x| above s / (k * number of 0 < |x| <= s + number of |x| > s),  k s^2 = the variance of rounding,
//             with k = 1 / (12 top^2) for `top` codes on the side of |x|.
// admm        scale and codes in turn, each the best for the other, until neither moves: the alternating step of Leng et al.,
//             "Extremely Low Bit Neural Network: Squeeze the Last Bit Out with ADMM", AAAI 2018.
#include <algorithm>
#include <cmath>

#include "estimators.hpp"
#include "spread.hpp"

namespace ranges {

void Percentile::requires_statistics(const Json& p, const QuantizerView& q, RequestSink& sink) {
  p.only({"percentile"}, "percentile");
  if (!q.is_weight()) request_histogram(q, sink);
}

void Percentile::estimate(const Json& p, const QuantizerView& q, const Statistics& statistics, Span<double> low, Span<double> high) {
  const double share = p.number("percentile", 0.9999);
  each_channel(q, statistics, low, high, [&](const Spread& s, double& l, double& h) {
    if (share >= 1) return;
    if (q.symmetric()) return cut(point_below(s.absolute(), s.zeros, share), l, h);
    h = std::min(h, std::max(point_below(s.bins, s.zeros, share), l));
    l = std::min(std::max(l, point_below(s.bins, s.zeros, 1 - share)), h);
  });
}

void Octav::requires_statistics(const Json& p, const QuantizerView& q, RequestSink& sink) {
  p.only({}, "octav");
  if (!q.is_weight()) request_histogram(q, sink);
}

void Octav::estimate(const Json&, const QuantizerView& q, const Statistics& statistics, Span<double> low, Span<double> high) {
  each_channel(q, statistics, low, high, [&](const Spread& spread, double& l, double& h) {
    const std::vector<Bin> bins = spread.absolute();
    const double top = top_code(q, spread), k = 1 / (12 * top * top);
    double sum = 0, count = 0;
    for (const Bin& b : bins) {
      sum += b.count * (b.begin + b.end) / 2;
      count += b.count;
    }
    double s = sum / count;
    for (int round = 0; round < 100; ++round) {
      double above = 0, above_sum = 0, below = 0;
      for (const Bin& b : bins) {
        // The part of the bin above s, values even within it.
        const double share = b.begin >= s ? 1 : b.end <= s ? 0 : (b.end - s) / (b.end - b.begin);
        above += b.count * share;
        above_sum += b.count * share * (std::max(b.begin, s) + b.end) / 2;
        below += b.count * (1 - share);
      }
      const double next = above_sum / (k * below + above);
      const bool settled = std::fabs(next - s) <= 1e-12 * s;
      s = next;
      if (settled || !(s > 0)) break;
    }
    if (s > 0) cut(s, l, h);
  });
}

void Admm::requires_statistics(const Json& p, const QuantizerView& q, RequestSink& sink) {
  p.only({"rounds"}, "admm");
  if (!q.is_weight()) request_histogram(q, sink);
}

void Admm::estimate(const Json& p, const QuantizerView& q, const Statistics& statistics, Span<double> low, Span<double> high) {
  const auto rounds = static_cast<int>(p.number("rounds", 50));
  each_channel(q, statistics, low, high, [&](const Spread& spread, double& l, double& h) {
    Quantizer z = quantizer_for(q, l, h);
    for (int round = 0; round < rounds; ++round) {
      // Codes that are best for the scale, then the scale that is best for the codes: sum(x c) / sum(c c).
      double xc = 0, cc = 0;
      for (const Bin& b : spread.bins) {
        const double x = (b.begin + b.end) / 2;
        const double c = std::min(std::max(std::floor(x / z.scale + 0.5), z.low), z.high);
        xc += b.count * x * c;
        cc += b.count * c * c;
      }
      if (!(cc > 0) || !(xc > 0)) break;
      const double scale = xc / cc;
      const bool settled = scale == z.scale;
      z.scale = scale;
      if (settled) break;
    }
    l = spread.low < 0 ? std::max(spread.low, z.scale * z.low) : l;
    h = spread.high > 0 ? std::min(spread.high, z.scale * z.high) : h;
  });
}

}  // namespace ranges
