// A range estimator and a graph stage, as small as they can be. docs/add-an-algorithm.md walks through this file.
#include <quern/plugin.hpp>

#include <algorithm>
#include <cmath>

namespace {

using namespace quern_sdk;

// The smallest and the largest value, times `factor`.
struct ShrunkMinMax {
  static constexpr std::string_view name = "shrunk_min_max";
  static constexpr std::string_view parameters = R"({
    "type": "object", "additionalProperties": false,
    "properties": {"factor": {"type": "number", "exclusiveMinimum": 0, "maximum": 1, "default": 0.95,
                              "description": "what is kept of the range"}}})";

  // Weights are there already; statistics are taken of activations only.
  void requires_statistics(const Json&, const QuantizerView& q, RequestSink& sink) {
    if (!q.is_weight()) sink.request(QUERN_STAT_MIN_MAX, q.axis());
  }

  void estimate(const Json& p, const QuantizerView& q, const Statistics& statistics, Span<double> low, Span<double> high) {
    const double factor = p.number("factor", 0.95);
    if (q.is_weight()) {
      std::fill(low.begin(), low.end(), 0.0);
      std::fill(high.begin(), high.end(), 0.0);
      q.each_weight([&](size_t c, float w) {
        low[c] = std::min(low[c], factor * w);
        high[c] = std::max(high[c], factor * w);
      });
      return;
    }
    const quern_statistic& s = statistics.at(0, QUERN_STAT_MIN_MAX);
    for (size_t c = 0; c < q.channels(); ++c) {
      low[c] = factor * s.low[c];
      high[c] = factor * s.high[c];
    }
  }
};

// Weights further than `sigmas` standard deviations from the mean of their layer are moved to that limit.
struct ClipWeights {
  static constexpr std::string_view name = "clip_weights", reads = "weights", changes = "weights";
  static constexpr std::string_view parameters = R"({
    "type": "object", "additionalProperties": false,
    "properties": {"sigmas": {"type": "number", "exclusiveMinimum": 0, "default": 6}}})";
  static constexpr uint32_t when = QUERN_STAGE_BEFORE_RANGES;

  void plan(const Json&, const GraphView&, StatisticsPlan&) {}  // needs no statistics

  void run(const Json& p, GraphView& graph) {
    const double sigmas = p.number("sigmas", 6);
    for (uint32_t i = 0; i < graph.nodes(); ++i) {
      const quern_node_view raw = graph.node(i);
      const GraphNode node(raw);
      const int32_t slot = graph.slot(i, "weight");
      if (slot < 0 || static_cast<size_t>(slot) >= node.inputs().size()) continue;
      const int32_t weight = node.inputs()[static_cast<size_t>(slot)];
      if (weight < 0 || !graph.value(weight).is_constant) continue;
      if (cancelled()) throw Failure(QUERN_CANCELLED, "clip_weights: interrupted");
      clip(graph, std::string(node.name()), weight, sigmas);
    }
  }

 private:
  static void clip(GraphView& graph, const std::string& node, int32_t weight, double sigmas) {
    const quern_tensor t = graph.constant(weight);
    const Span<const float> from = TensorView(t).values<const float>();
    std::vector<float> data(from.begin(), from.end());
    double mean = 0, variance = 0;
    for (float w : data) mean += w / static_cast<double>(data.size());
    for (float w : data) variance += (w - mean) * (w - mean) / static_cast<double>(data.size());
    const double reach = sigmas * std::sqrt(variance);
    size_t moved = 0;
    double before = 0, after = 0;  // largest |w|
    for (float& w : data) {
      before = std::max(before, std::fabs(static_cast<double>(w)));
      const auto limited = static_cast<float>(std::min(std::max(static_cast<double>(w), mean - reach), mean + reach));
      moved += limited != w;
      w = limited;
      after = std::max(after, std::fabs(static_cast<double>(w)));
    }
    if (moved == 0) return;
    const quern_value_view v = graph.value(weight);
    const std::vector<int64_t> dims(v.dims, v.dims + v.rank);
    Transaction change(graph);  // rolled back unless it is committed
    graph.set_constant(weight, OwnTensor(Span<const float>(data.data(), data.size()), dims).raw());
    change.commit();
    graph.report(node, "clipped", std::to_string(moved) + " weights lay beyond the limit", before, after);
  }
};

}  // namespace

QUERN_SDK_ALGORITHMS(quern_sdk::Estimators<ShrunkMinMax>, quern_sdk::Stages<ClipWeights>)
