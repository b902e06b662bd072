// A percentile calibrator: of every sample the point below which `percentile` of its values lie, on both sides, and the mean of
// these points over the samples. The host finds the points (exactly, not from a histogram); nothing else is kept of a sample.
#include <quern/plugin.hpp>

#include <algorithm>

namespace {

using namespace quern_sdk;

struct MeanPercentile {
  static constexpr std::string_view name = "mean_percentile";
  static constexpr std::string_view parameters = R"({
    "type": "object", "additionalProperties": false,
    "properties": {"percentile": {"type": "number", "minimum": 0.5, "maximum": 1, "default": 0.9999, "description": "share of a sample's values that stays inside"}}})";

  void requires_statistics(const Json& p, const QuantizerView& q, RequestSink& sink) {
    if (q.is_weight()) return;
    const double share = p.number("percentile", 0.9999);
    sink.request(QUERN_STAT_SAMPLE_QUANTILE, q.axis(), 1 - share);
    sink.request(q.symmetric() ? QUERN_STAT_SAMPLE_ABS_QUANTILE : QUERN_STAT_SAMPLE_QUANTILE, q.axis(), share);
  }

  void estimate(const Json&, const QuantizerView& q, const Statistics& statistics, Span<double> low, Span<double> high) {
    if (q.is_weight()) {  // nothing of a weight is cut off
      std::fill(low.begin(), low.end(), 0.0);
      std::fill(high.begin(), high.end(), 0.0);
      q.each_weight([&](size_t c, float w) {
        low[c] = std::min<double>(low[c], w);
        high[c] = std::max<double>(high[c], w);
      });
      return;
    }
    const quern_statistic& below = statistics.at(0, QUERN_STAT_SAMPLE_QUANTILE);
    const quern_statistic& above = statistics.at(1, q.symmetric() ? QUERN_STAT_SAMPLE_ABS_QUANTILE : QUERN_STAT_SAMPLE_QUANTILE);
    for (size_t c = 0; c < q.channels(); ++c) {
      low[c] = std::min(0.0, mean(below, c));
      high[c] = std::max(0.0, mean(above, c));
      if (q.symmetric()) low[c] = low[c] < 0 ? -high[c] : 0;  // the sign of the low end tells whether unsigned codes can be used
    }
  }

 private:
  static double mean(const quern_statistic& s, size_t channel) {  // rows: [samples][channels], in the order of the samples
    double sum = 0;
    for (uint64_t i = 0; i < s.samples; ++i) sum += s.rows[i * s.channels + channel];
    return s.samples > 0 ? sum / static_cast<double>(s.samples) : 0;
  }
};

}  // namespace

QUERN_SDK_ALGORITHMS(quern_sdk::Estimators<MeanPercentile>)
