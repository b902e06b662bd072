#include "histogram.hpp"

#include <algorithm>
#include <cmath>

namespace ranges {
namespace {

constexpr int64_t per_side = 2048;

}  // namespace

Histogram::Histogram(const quern_statistic& h, double low, double high) : zeros_(static_cast<double>(h.zeros)) {
  const double width = std::ldexp(1.0, h.exponent) / per_side;
  const auto add = [&](double begin, double end, int64_t count) {
    const double b = std::max(begin, low), e = std::min(end, high);
    bins_.push_back(b < e ? Bin{b, e, static_cast<double>(count)} : Bin{begin, end, static_cast<double>(count)});
    total_ += static_cast<double>(count);
  };
  for (int64_t i = per_side; i-- > 0;)
    if (h.negative[i] > 0) add(-width * static_cast<double>(i + 1), -width * static_cast<double>(i), h.negative[i]);
  for (int64_t i = 0; i < per_side; ++i)
    if (h.positive[i] > 0) add(width * static_cast<double>(i), width * static_cast<double>(i + 1), h.positive[i]);
  total_ += zeros_;
}

std::vector<Bin> folded(const std::vector<Bin>& bins) {
  std::vector<Bin> out;
  for (const Bin& b : bins) out.push_back(b.end <= 0 ? Bin{-b.end, -b.begin, b.count} : b);
  std::sort(out.begin(), out.end(), [](const Bin& a, const Bin& b) { return a.begin < b.begin || (a.begin == b.begin && a.end < b.end); });
  std::vector<Bin> merged;
  for (const Bin& b : out) {
    if (!merged.empty() && merged.back().begin == b.begin && merged.back().end == b.end) {
      merged.back().count += b.count;
    } else {
      merged.push_back(b);
    }
  }
  return merged;
}

double point_below(const std::vector<Bin>& bins, double zeros, double share) {
  if (bins.empty()) return 0;
  double total = zeros;
  for (const Bin& b : bins) total += b.count;
  const double wanted = share * total;
  double below = 0;
  bool past_zero = false;
  for (const Bin& b : bins) {
    if (!past_zero && b.begin >= 0) {  // the zeros stand between the sides
      past_zero = true;
      below += zeros;
      if (zeros > 0 && below >= wanted) return 0;
    }
    if (below + b.count >= wanted) return b.begin + (b.end - b.begin) * std::max(0.0, wanted - below) / b.count;
    below += b.count;
  }
  return past_zero ? bins.back().end : 0;
}

void request_histogram(const quern_sdk::QuantizerView& q, quern_sdk::RequestSink& sink) {
  sink.request(QUERN_STAT_MIN_MAX, q.axis());
  if (!q.per_channel()) sink.request(QUERN_STAT_HISTOGRAM);  // there is no histogram per channel: min and max then
}

}  // namespace ranges
