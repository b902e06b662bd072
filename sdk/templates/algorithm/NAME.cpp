// The range estimator @NAME@: the extremes that were seen, times `factor`. docs/add-an-algorithm.md of Quern says what else there
// can be: stages, data readers, metrics.
#include <quern/plugin.hpp>

#include <algorithm>

namespace {

using namespace quern_sdk;

struct Estimator {
  static constexpr std::string_view name = "@NAME@";
  // Checked by the host before anything is called; defaults are filled in.
  static constexpr std::string_view parameters = R"({
    "type": "object", "additionalProperties": false,
    "properties": {"factor": {"type": "number", "exclusiveMinimum": 0, "maximum": 1, "default": 1, "description": "what is kept of the range"}}})";

  // Which statistics the host shall take of an activation; weights are there already.
  void requires_statistics(const Json&, const QuantizerView& q, RequestSink& sink) {
    if (!q.is_weight()) sink.request(QUERN_STAT_MIN_MAX, q.axis());
  }

  // One range per channel, or one. The host makes scale and zero point of it.
  void estimate(const Json& p, const QuantizerView& q, const Statistics& statistics, Span<double> low, Span<double> high) {
    const double factor = p.number("factor", 1);
    if (q.is_weight()) {
      std::fill(low.begin(), low.end(), 0.0);
      std::fill(high.begin(), high.end(), 0.0);
      q.each_weight([&](size_t c, float w) {
        low[c] = std::min(low[c], factor * w);
        high[c] = std::max(high[c], factor * w);
      });
      return;
    }
    const quern_statistic& seen = statistics.at(0, QUERN_STAT_MIN_MAX);
    for (size_t c = 0; c < q.channels(); ++c) {
      low[c] = factor * seen.low[c];
      high[c] = factor * seen.high[c];
    }
  }
};

}  // namespace

QUERN_SDK_ALGORITHMS(quern_sdk::Estimators<Estimator>)
