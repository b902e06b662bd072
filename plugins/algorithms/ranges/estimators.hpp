// The range estimators of this plugin.
//
//   min_max   everything that was seen: nothing is ever clipped
//   pot       a value per sample (min, max, abs_max, a quantile), brought together by an aggregator (mean, median, ...), with
//             the names, defaults and meaning of Intel's POT
//   mse       the range whose quantizer has the smallest expected squared error on what was seen
//   mae       the same with the absolute error
//   percentile, kl, octav, admm   a threshold for |x|: a share of all values, the least loss of information, the least squared
//             error in closed form, scale and codes fitted in turn
//   histogram NNCF's search
//   moving_average   extremes of sample after sample
//
// A symmetric quantizer is described by [-M, M], or [0, M] where nothing negative was seen: the host decides from the sign of
// the low end whether unsigned codes can be used.
#pragma once
#include <quern/plugin.hpp>

namespace ranges {

using quern_sdk::Json;
using quern_sdk::QuantizerView;
using quern_sdk::RequestSink;
using quern_sdk::Span;
using quern_sdk::Statistics;

struct MinMax {
  static constexpr std::string_view name = "min_max";
  static constexpr std::string_view parameters = R"({"type": "object", "additionalProperties": false, "properties": {}})";
  void requires_statistics(const Json& p, const QuantizerView& q, RequestSink& sink);
  void estimate(const Json& p, const QuantizerView& q, const Statistics& statistics, Span<double> low, Span<double> high);
};

struct Pot {
  static constexpr std::string_view name = "pot";
  static const std::string_view parameters;
  void requires_statistics(const Json& p, const QuantizerView& q, RequestSink& sink);
  void estimate(const Json& p, const QuantizerView& q, const Statistics& statistics, Span<double> low, Span<double> high);
};

struct Mse {
  static constexpr std::string_view name = "mse";
  static constexpr std::string_view parameters = R"({"type": "object", "additionalProperties": false, "properties": {}})";
  void requires_statistics(const Json& p, const QuantizerView& q, RequestSink& sink);
  void estimate(const Json& p, const QuantizerView& q, const Statistics& statistics, Span<double> low, Span<double> high);
};

struct Mae {
  static constexpr std::string_view name = "mae";
  static constexpr std::string_view parameters = R"json({"type": "object", "additionalProperties": false, "properties": {}})json";
  void requires_statistics(const Json& p, const QuantizerView& q, RequestSink& sink);
  void estimate(const Json& p, const QuantizerView& q, const Statistics& statistics, Span<double> low, Span<double> high);
};

struct Percentile {
  static constexpr std::string_view name = "percentile";
  static constexpr std::string_view parameters = R"json({"type": "object", "additionalProperties": false, "properties": {
    "percentile": {"type": "number", "minimum": 0.5, "maximum": 1, "default": 0.9999, "description": "share of the values that stay inside; of |x| for a symmetric quantizer, at each end for an asymmetric one"}}})json";
  void requires_statistics(const Json& p, const QuantizerView& q, RequestSink& sink);
  void estimate(const Json& p, const QuantizerView& q, const Statistics& statistics, Span<double> low, Span<double> high);
};

struct Kl {
  static constexpr std::string_view name = "kl";
  static constexpr std::string_view parameters = R"json({"type": "object", "additionalProperties": false, "properties": {}})json";
  void requires_statistics(const Json& p, const QuantizerView& q, RequestSink& sink);
  void estimate(const Json& p, const QuantizerView& q, const Statistics& statistics, Span<double> low, Span<double> high);
};

struct Octav {
  static constexpr std::string_view name = "octav";
  static constexpr std::string_view parameters = R"json({"type": "object", "additionalProperties": false, "properties": {}})json";
  void requires_statistics(const Json& p, const QuantizerView& q, RequestSink& sink);
  void estimate(const Json& p, const QuantizerView& q, const Statistics& statistics, Span<double> low, Span<double> high);
};

struct Admm {
  static constexpr std::string_view name = "admm";
  static constexpr std::string_view parameters = R"json({"type": "object", "additionalProperties": false, "properties": {
    "rounds": {"type": "integer", "minimum": 1, "maximum": 10000, "default": 50, "description": "at most so many turns of scale and codes"}}})json";
  void requires_statistics(const Json& p, const QuantizerView& q, RequestSink& sink);
  void estimate(const Json& p, const QuantizerView& q, const Statistics& statistics, Span<double> low, Span<double> high);
};

struct HistogramSearch {
  static constexpr std::string_view name = "histogram";
  static constexpr std::string_view parameters = R"json({"type": "object", "additionalProperties": false, "properties": {}})json";
  void requires_statistics(const Json& p, const QuantizerView& q, RequestSink& sink);
  void estimate(const Json& p, const QuantizerView& q, const Statistics& statistics, Span<double> low, Span<double> high);
};

struct MovingAverage {
  static constexpr std::string_view name = "moving_average";
  static constexpr std::string_view parameters = R"json({"type": "object", "additionalProperties": false, "properties": {
    "c": {"type": "number", "exclusiveMinimum": 0, "maximum": 1, "default": 0.01, "description": "how far each sample moves the range towards its own"}}})json";
  void requires_statistics(const Json& p, const QuantizerView& q, RequestSink& sink);
  void estimate(const Json& p, const QuantizerView& q, const Statistics& statistics, Span<double> low, Span<double> high);
};

// Smallest and largest value of every channel of a weight.
void weight_min_max(const QuantizerView& q, Span<double> low, Span<double> high);

}  // namespace ranges
