// Metrics of pictures against the labels: peak signal to noise, structural similarity.
#pragma once
#include "signals.hpp"

namespace quern_metrics {

// 10 log10(peak^2 / mean squared error) of each sample in dB, averaged; infinite where a picture is reproduced exactly.
struct Psnr : AgainstLabels {
  static constexpr std::string_view name = "psnr";
  static constexpr std::string_view parameters = R"j({"type": "object", "additionalProperties": false, "properties": {
    "peak": {"type": "number", "exclusiveMinimum": 0, "default": 1, "description": "largest value: 1 or 255"},
    "output": {"type": "string", "default": ""}}})j";
  struct Meter { std::string output; double peak; Mean mean; };
  std::unique_ptr<Meter> create(const Json& p) { return std::make_unique<Meter>(Meter{p.text("output", ""), p.number("peak", 1), {}}); }
  void update(Meter& m, int64_t, const OutputsView& outputs, const quern_tensor* label, const OutputsView&);
  double result(const Meter& m) { return m.mean.value(); }
  double sample_value(const Meter& m) { return m.mean.last; }
};

// Structural similarity (Wang et al., 2004): a Gaussian window of 11 x 11, sigma 1.5, where it lies inside the picture; K1 = 0.01,
// K2 = 0.03; the mean over positions, channels and samples. The last two axes are height and width, or those before the last.
struct Ssim : AgainstLabels {
  static constexpr std::string_view name = "ssim";
  static constexpr std::string_view parameters = R"j({"type": "object", "additionalProperties": false, "properties": {
    "peak": {"type": "number", "exclusiveMinimum": 0, "default": 1, "description": "largest value: 1 or 255"},
    "channels_last": {"type": "boolean", "default": false},
    "output": {"type": "string", "default": ""}}})j";
  struct Meter { std::string output; double peak; bool channels_last; Mean mean; };
  std::unique_ptr<Meter> create(const Json& p) {
    return std::make_unique<Meter>(Meter{p.text("output", ""), p.number("peak", 1), p.flag("channels_last", false), {}});
  }
  void update(Meter& m, int64_t, const OutputsView& outputs, const quern_tensor* label, const OutputsView&);
  double result(const Meter& m) { return m.mean.value(); }
  double sample_value(const Meter& m) { return m.mean.last; }
};

}  // namespace quern_metrics
