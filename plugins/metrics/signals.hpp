// Metrics of numbers against the labels: errors, correlations, signal to distortion.
#pragma once
#include "values.hpp"

namespace quern_metrics {

// Output and label of a sample, element by element; Failure where they differ in size.
struct Pair { std::vector<double> out, want; };
Pair pair_of(const OutputsView& outputs, const std::string& output, const quern_tensor* label);

// What the metrics of this page share: an output that is named, labels that are needed.
struct AgainstLabels {
  static constexpr std::string_view parameters = R"j({"type": "object", "additionalProperties": false, "properties": {
    "output": {"type": "string", "default": "", "description": "name of the output; the first one when empty"}}})j";
  static constexpr bool higher_is_better = true;
  static constexpr uint32_t needs = QUERN_METRIC_NEEDS_LABELS;
};

// Over all elements of all samples.
struct Errors : AgainstLabels {
  static constexpr bool higher_is_better = false;
  struct Meter { std::string output; double sum = 0, count = 0; };
  std::unique_ptr<Meter> create(const Json& p) { return std::make_unique<Meter>(Meter{p.text("output", "")}); }
};
struct Rmse : Errors {
  static constexpr std::string_view name = "rmse";
  void update(Meter& m, int64_t, const OutputsView& outputs, const quern_tensor* label, const OutputsView&);
  double result(const Meter& m);
};
struct Mae : Errors {
  static constexpr std::string_view name = "mae";
  void update(Meter& m, int64_t, const OutputsView& outputs, const quern_tensor* label, const OutputsView&);
  double result(const Meter& m);
};

// Correlations of all outputs with all labels, elements of all samples together. Spearman: of the ranks, equal values sharing
// the mean of theirs.
struct Correlation : AgainstLabels {
  struct Meter { std::string output; Pair all; };
  std::unique_ptr<Meter> create(const Json& p) { return std::make_unique<Meter>(Meter{p.text("output", ""), {}}); }
  void update(Meter& m, int64_t, const OutputsView& outputs, const quern_tensor* label, const OutputsView&);
};
struct Pearson : Correlation {
  static constexpr std::string_view name = "pearson";
  double result(const Meter& m);
};
struct Spearman : Correlation {
  static constexpr std::string_view name = "spearman";
  double result(const Meter& m);
};

// Scale-invariant signal to distortion in dB (Le Roux et al., 2019): t = (e.r / r.r) r, 10 log10(t.t / (e - t).(e - t)); the mean
// over samples.
struct SiSdr : AgainstLabels {
  static constexpr std::string_view name = "si_sdr";
  static constexpr std::string_view parameters = R"j({"type": "object", "additionalProperties": false, "properties": {
    "zero_mean": {"type": "boolean", "default": false, "description": "take the mean out of both signals first"},
    "output": {"type": "string", "default": ""}}})j";
  struct Meter { std::string output; bool zero_mean; Mean mean; };
  std::unique_ptr<Meter> create(const Json& p) { return std::make_unique<Meter>(Meter{p.text("output", ""), p.flag("zero_mean", false), {}}); }
  void update(Meter& m, int64_t sample, const OutputsView& outputs, const quern_tensor* label, const OutputsView&);
  double result(const Meter& m) { return m.mean.value(); }
  double sample_value(const Meter& m) { return m.mean.last; }
};

}  // namespace quern_metrics
