// The range estimators of this plugin.
//
//   min_max   everything that was seen: nothing is ever clipped
//   pot       a value per sample (min, max, abs_max, a quantile), brought together by an aggregator (mean, median, ...), with
//             the names, defaults and meaning of Intel's POT
//   mse       the range whose quantizer has the smallest expected squared error on what was seen
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

// Smallest and largest value of every channel of a weight.
void weight_min_max(const QuantizerView& q, Span<double> low, Span<double> high);

}  // namespace ranges
