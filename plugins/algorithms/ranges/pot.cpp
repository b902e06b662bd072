// The range estimator of Intel's POT: a statistic per sample and side, an aggregator over samples.
//
// Defaults (an activation's `max` side; `min` in brackets; aggregator after the slash):
//   per tensor   symmetric abs_max/mean [min/min]      asymmetric max/mean [min/mean]
//   per channel  symmetric abs_max/max  [min/min]      asymmetric max/max  [min/min]
//   weights      symmetric abs_max                     asymmetric max      [min]
// preset "quantile" turns abs_max into abs_quantile, max and (asymmetric only) min into quantile, outlier_prob 1e-4.
//
// Of a symmetric quantizer, the min side only tells whether anything negative was seen (so it is taken per tensor), and max
// and quantile mean abs_max and abs_quantile, as in NNCF: POT itself would cut off a tensor whose negative side is the longer.
#include <algorithm>
#include <cmath>
#include <limits>

#include "aggregate.hpp"
#include "estimators.hpp"

namespace ranges {

using quern_sdk::Failure;

const std::string_view Pot::parameters = R"json({
  "type": "object", "additionalProperties": false,
  "properties": {
    "preset": {"enum": ["default", "quantile"], "default": "default",
               "description": "quantile: cut off the outliers of every sample (outlier_prob)"},
    "min": {"$ref": "#/$defs/min", "description": "the low end; replaces single fields of the preset"},
    "max": {"$ref": "#/$defs/max", "description": "the high end; replaces single fields of the preset"}
  },
  "$defs": {
    "prob": {"type": "number", "minimum": 0, "exclusiveMaximum": 1, "default": 1e-4,
             "description": "share of the values beyond the quantile"},
    "aggregator": {"enum": ["mean", "max", "min", "median", "mean_no_outliers", "median_no_outliers", "hl_estimator"],
                   "description": "from one value a sample to one value; activations only"},
    "min": {"type": "object", "additionalProperties": false, "properties": {
      "type": {"enum": ["min", "quantile"]}, "outlier_prob": {"$ref": "#/$defs/prob"},
      "aggregator": {"$ref": "#/$defs/aggregator"},
      "clipping_value": {"type": "number", "description": "the low end is not lower than this"}}},
    "max": {"type": "object", "additionalProperties": false, "properties": {
      "type": {"enum": ["max", "abs_max", "quantile", "abs_quantile"]}, "outlier_prob": {"$ref": "#/$defs/prob"},
      "aggregator": {"$ref": "#/$defs/aggregator"},
      "clipping_value": {"type": "number", "description": "the high end is not higher than this"}}}
  }
})json";

namespace {

enum class Type { min, max, abs_max, quantile, abs_quantile };

struct Side {
  Type type;
  Aggregator aggregator;
  double outlier_prob = 1e-4, clipping_value = 0;
  bool clips = false;
};
struct Settings { Side min, max; };

Type type_from_name(const std::string& name, bool max_side) {
  if (max_side) {
    if (name == "max") return Type::max;
    if (name == "abs_max") return Type::abs_max;
    if (name == "quantile") return Type::quantile;
    if (name == "abs_quantile") return Type::abs_quantile;
    throw Failure(QUERN_INVALID_ARGUMENT, "pot: 'max' has no type '" + name + "'; there are max, abs_max, quantile, abs_quantile");
  }
  if (name == "min") return Type::min;
  if (name == "quantile") return Type::quantile;
  throw Failure(QUERN_INVALID_ARGUMENT, "pot: 'min' has no type '" + name + "'; there are min, quantile");
}

void override_by(const Json& p, bool max_side, Side& side) {
  p.only({"type", "outlier_prob", "aggregator", "clipping_value"}, max_side ? "pot, max" : "pot, min");
  if (p.has("type")) side.type = type_from_name(p.text("type", ""), max_side);
  if (p.has("aggregator")) side.aggregator = aggregator_from_name(p.text("aggregator", ""));
  side.outlier_prob = p.number("outlier_prob", side.outlier_prob);
  if (!(side.outlier_prob >= 0 && side.outlier_prob < 1))
    throw Failure(QUERN_INVALID_ARGUMENT, "pot: outlier_prob must be at least 0 and less than 1");
  side.clips = p.has("clipping_value");
  side.clipping_value = p.number("clipping_value", 0);
}

Settings settings_of(const Json& p, const QuantizerView& q) {
  p.only({"preset", "min", "max"}, "pot");
  const bool symmetric = q.symmetric(), per_channel = q.per_channel();
  Settings s{{Type::min, symmetric || per_channel ? Aggregator::min : Aggregator::mean},
             {symmetric ? Type::abs_max : Type::max, per_channel ? Aggregator::max : Aggregator::mean}};
  const std::string preset = p.text("preset", "default");
  if (preset == "quantile") {
    s.max.type = symmetric ? Type::abs_quantile : Type::quantile;
    if (!symmetric) s.min.type = Type::quantile;
  } else if (preset != "default") {
    throw Failure(QUERN_INVALID_ARGUMENT, "pot: there is no preset '" + preset + "'; there are default, quantile");
  }
  override_by(p["min"], false, s.min);
  override_by(p["max"], true, s.max);
  if (symmetric && s.max.type == Type::max) s.max.type = Type::abs_max;
  if (symmetric && s.max.type == Type::quantile) s.max.type = Type::abs_quantile;
  return s;
}

struct Request { uint32_t kind; double quantile; };
Request request_of(const Side& side, bool max_side) {
  switch (side.type) {
    case Type::min: return {QUERN_STAT_SAMPLE_MIN, 0};
    case Type::max: return {QUERN_STAT_SAMPLE_MAX, 0};
    case Type::abs_max: return {QUERN_STAT_SAMPLE_ABS_MAX, 0};
    case Type::quantile: return {QUERN_STAT_SAMPLE_QUANTILE, max_side ? 1 - side.outlier_prob : side.outlier_prob};
    default: return {QUERN_STAT_SAMPLE_ABS_QUANTILE, 1 - side.outlier_prob};
  }
}

// Per channel of the statistic.
std::vector<double> aggregated(const quern_statistic& s, Aggregator how) {
  std::vector<double> out(s.channels), values(s.samples);
  for (uint64_t c = 0; c < s.channels; ++c) {
    for (uint64_t i = 0; i < s.samples; ++i) values[i] = s.rows[i * s.channels + c];
    out[c] = aggregate(how, values);
  }
  return out;
}

// One side of one weight channel.
double weight_side(const Side& side, bool max_side, std::vector<double>& values) {
  if (values.empty()) return 0;
  const bool absolute = side.type == Type::abs_max || side.type == Type::abs_quantile;
  if (absolute)
    for (double& v : values) v = std::fabs(v);
  if (side.type == Type::min) return *std::min_element(values.begin(), values.end());
  if (side.type == Type::max || side.type == Type::abs_max) return *std::max_element(values.begin(), values.end());
  std::sort(values.begin(), values.end());
  return quantile(values, max_side ? 1 - side.outlier_prob : side.outlier_prob);
}

void weight_ranges(const Settings& s, const QuantizerView& q, Span<double> low, Span<double> high) {
  std::vector<std::vector<double>> values(q.channels());
  q.each_weight([&](size_t c, float v) { values[c].push_back(v); });
  for (size_t c = 0; c < q.channels(); ++c) {
    std::vector<double> copy = values[c];
    high[c] = weight_side(s.max, true, copy);
    low[c] = q.symmetric() ? -high[c] : weight_side(s.min, false, values[c]);
  }
}

void clip(const Settings& s, const QuantizerView& q, Span<double> low, Span<double> high) {
  for (size_t c = 0; c < low.size(); ++c) {
    if (s.max.clips) high[c] = std::min(high[c], s.max.clipping_value);
    if (q.symmetric()) low[c] = low[c] < 0 ? -high[c] : 0;
    else if (s.min.clips) low[c] = std::max(low[c], s.min.clipping_value);
    if (low[c] <= high[c]) continue;
    if (!s.min.clips && !s.max.clips) std::swap(low[c], high[c]);  // samples far apart, and aggregators that cross over
    else
      throw Failure(QUERN_INVALID_ARGUMENT, std::string(q.value()) + ": the low end of its range (" + std::to_string(low[c]) +
                                                ") is above the high end (" + std::to_string(high[c]) + "); mind the clipping values");
  }
}

}  // namespace

void Pot::requires_statistics(const Json& p, const QuantizerView& q, RequestSink& sink) {
  const Settings s = settings_of(p, q);
  if (q.is_weight()) return;
  const Request low = request_of(s.min, false), high = request_of(s.max, true);
  sink.request(low.kind, q.symmetric() ? -1 : q.axis(), low.quantile);
  sink.request(high.kind, q.axis(), high.quantile);
}

void Pot::estimate(const Json& p, const QuantizerView& q, const Statistics& statistics, Span<double> low, Span<double> high) {
  const Settings s = settings_of(p, q);
  if (q.is_weight()) {
    weight_ranges(s, q, low, high);
  } else {
    const std::vector<double> lows = aggregated(statistics.at(0, request_of(s.min, false).kind), s.min.aggregator);
    const std::vector<double> highs = aggregated(statistics.at(1, request_of(s.max, true).kind), s.max.aggregator);
    if (highs.size() != q.channels() || (lows.size() != q.channels() && lows.size() != 1))
      throw Failure(QUERN_INVALID_ARGUMENT, std::string(q.value()) + ": its statistics have another number of channels");
    for (size_t c = 0; c < q.channels(); ++c) {
      high[c] = highs[c];
      low[c] = q.symmetric() ? (lows[0] < 0 ? -highs[c] : 0) : lows[lows.size() == 1 ? 0 : c];
    }
  }
  clip(s, q, low, high);
}

}  // namespace ranges
