// Errors of recognized text: edits (insertions, deletions, substitutions) over the length of the right text.
#pragma once
#include "values.hpp"

namespace quern_metrics {

struct ErrorRate {
  static constexpr bool higher_is_better = false;
  static constexpr uint32_t needs = QUERN_METRIC_NEEDS_LABELS;
  struct Meter {
    std::string output;
    bool ctc;
    int64_t blank, pad, separator;  // separator: -1 where characters are compared
    double edits = 0, length = 0;
  };
  void update(Meter& m, int64_t, const OutputsView& outputs, const quern_tensor* label, const OutputsView&);
  double result(const Meter& m);

 protected:
  std::unique_ptr<Meter> make(const Json& p, bool words);
};
struct CharacterErrors : ErrorRate {
  static constexpr std::string_view name = "cer";
  static constexpr std::string_view parameters = R"j({"type": "object", "additionalProperties": false, "properties": {
    "decode": {"enum": ["ctc", "plain"], "default": "ctc", "description": "ctc: the best token of each step, repeats merged, blanks dropped; plain: the best token of each step"},
    "blank": {"type": "integer", "minimum": 0, "default": 0, "description": "the token of ctc that stands for nothing"},
    "pad": {"type": "integer", "default": -1, "description": "the label's tokens from the first such one on do not count; of the output such tokens are dropped"},
    "output": {"type": "string", "default": ""}}})j";
  std::unique_ptr<Meter> create(const Json& p) { return make(p, false); }
};
struct WordErrors : ErrorRate {
  static constexpr std::string_view name = "wer";
  static constexpr std::string_view parameters = R"j({"type": "object", "additionalProperties": false, "required": ["separator"], "properties": {
    "separator": {"type": "integer", "minimum": 0, "description": "the token between words"},
    "decode": {"enum": ["ctc", "plain"], "default": "ctc"},
    "blank": {"type": "integer", "minimum": 0, "default": 0},
    "pad": {"type": "integer", "default": -1},
    "output": {"type": "string", "default": ""}}})j";
  std::unique_ptr<Meter> create(const Json& p) { return make(p, true); }
};

}  // namespace quern_metrics
