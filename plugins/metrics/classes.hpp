// Metrics of decisions: area under the curve, F1, mean intersection over union, Dice.
#pragma once
#include "values.hpp"

namespace quern_metrics {

// Area under the ROC curve: the share of pairs of a positive and a negative sample that the score orders right, equal scores
// counting half (Mann and Whitney, 1947).
struct Auc {
  static constexpr std::string_view name = "auc";
  static constexpr std::string_view parameters = R"j({"type": "object", "additionalProperties": false, "properties": {
    "score": {"enum": ["output", "error"], "default": "output", "description": "output: of the class `positive`; error: mean squared error of the output against the target that follows the class in the labels (autoencoders)"},
    "positive": {"type": "integer", "minimum": 0, "default": 1, "description": "the class whose score counts; an output of one number is its score"},
    "output": {"type": "string", "default": "", "description": "name of the output; the first one when empty"}}})j";
  static constexpr bool higher_is_better = true;
  static constexpr uint32_t needs = QUERN_METRIC_NEEDS_LABELS;
  struct Meter { std::string output; bool error; size_t positive; std::vector<std::pair<double, bool>> seen; };
  std::unique_ptr<Meter> create(const Json& p);
  void update(Meter& m, int64_t sample, const OutputsView& outputs, const quern_tensor* label, const OutputsView&);
  double result(const Meter& m);
};

// F1 of decisions, 2 TP / (2 TP + FP + FN).
struct F1 {
  static constexpr std::string_view name = "f1";
  static constexpr std::string_view parameters = R"j({"type": "object", "additionalProperties": false, "properties": {
    "average": {"enum": ["macro", "micro", "weighted", "binary"], "default": "macro", "description": "macro: mean over the classes that occur; weighted: by their number of labels; micro: of all decisions; binary: of the class `positive`"},
    "positive": {"type": "integer", "minimum": 0, "default": 1},
    "threshold": {"type": "number", "default": 0.5, "description": "of an output with one number: above it is class 1"},
    "output": {"type": "string", "default": ""}}})j";
  static constexpr bool higher_is_better = true;
  static constexpr uint32_t needs = QUERN_METRIC_NEEDS_LABELS;
  struct Meter { std::string output, average; int64_t positive; double threshold; std::vector<std::pair<int64_t, int64_t>> seen; };
  std::unique_ptr<Meter> create(const Json& p);
  void update(Meter& m, int64_t sample, const OutputsView& outputs, const quern_tensor* label, const OutputsView&);
  double result(const Meter& m);
};

// Mean over classes of intersection over union, from one confusion matrix of all samples. Classes that occur neither among
// labels nor decisions do not count.
struct MeanIou {
  static constexpr std::string_view name = "miou";
  static constexpr std::string_view parameters = R"j({"type": "object", "additionalProperties": false, "properties": {
    "ignore": {"type": "integer", "default": 255, "description": "positions of this label do not count"},
    "threshold": {"type": "number", "default": 0.5, "description": "of an output with one number a position: above it is class 1"},
    "output": {"type": "string", "default": ""}}})j";
  static constexpr bool higher_is_better = true;
  static constexpr uint32_t needs = QUERN_METRIC_NEEDS_LABELS;
  struct Counts { int64_t both = 0, decided = 0, labelled = 0; };
  struct Meter { std::string output; int64_t ignore; double threshold; std::vector<Counts> classes; };
  std::unique_ptr<Meter> create(const Json& p);
  void update(Meter& m, int64_t sample, const OutputsView& outputs, const quern_tensor* label, const OutputsView&);
  double result(const Meter& m);
};

// (2 |A and B| + s) / (|A| + |B| + s) of each sample's masks, averaged over samples. Of several classes: the mean over those
// above 0 that occur in the sample.
struct Dice {
  static constexpr std::string_view name = "dice";
  static constexpr std::string_view parameters = R"j({"type": "object", "additionalProperties": false, "properties": {
    "smooth": {"type": "number", "minimum": 0, "default": 1},
    "threshold": {"type": "number", "default": 0.5, "description": "of an output with one number a position: above it is inside; labels above 0 are"},
    "output": {"type": "string", "default": ""}}})j";
  static constexpr bool higher_is_better = true;
  static constexpr uint32_t needs = QUERN_METRIC_NEEDS_LABELS;
  struct Meter { std::string output; double smooth, threshold; Mean mean; };
  std::unique_ptr<Meter> create(const Json& p);
  void update(Meter& m, int64_t sample, const OutputsView& outputs, const quern_tensor* label, const OutputsView&);
  double result(const Meter& m) { return m.mean.value(); }
  double sample_value(const Meter& m) { return m.mean.last; }
};

}  // namespace quern_metrics
