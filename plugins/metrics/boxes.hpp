// The step behind a detector that its network does not do itself: from output tensors to boxes with class and score, then
// non-maximum suppression. Described by the `boxes` of the metric `map`; docs/metrics.md has every form.
#pragma once
#include <array>

#include "values.hpp"

namespace quern_metrics {

struct Box { double x1 = 0, y1 = 0, x2 = 0, y2 = 0, score = 0; int64_t kind = 0; };

double area(const Box& b);
double overlap(const Box& a, const Box& b);  // of their intersection
double iou(const Box& a, const Box& b);

class BoxDecoder {
 public:
  explicit BoxDecoder(const Json& boxes);
  std::vector<Box> decode(const OutputsView& outputs) const;  // best first

 private:
  using Numbers = std::array<double, 4>;
  enum class Activation { none, sigmoid, softmax };
  struct Level { std::string output; std::vector<std::array<double, 2>> sizes; int64_t height = 0, width = 0; };
  void add(std::vector<Box>& found, const Numbers& corners, double score, int64_t kind) const;
  void rows(const OutputsView& outputs, std::vector<Box>& found) const;
  void lists(const OutputsView& outputs, std::vector<Box>& found) const;
  void grid(const OutputsView& outputs, const Level& level, std::vector<Box>& found) const;
  void score_classes(std::vector<double>& scores) const;
  std::vector<Box> suppressed(std::vector<Box> found) const;

  std::string form_, style_, boxes_, scores_;
  std::vector<std::string> columns_;
  std::vector<Level> levels_;
  std::vector<Numbers> anchors_;  // cx, cy, w, h
  Activation activation_ = Activation::none;
  double min_score_ = 0, nms_ = 0, scale_x_ = 1, scale_y_ = 1, variance_xy_ = 0.1, variance_wh_ = 0.2;
  int64_t background_ = -1, limit_ = 100;
  bool objectness_ = false, per_class_ = true;
};

// x^y for x from 0 up, of fixed evaluation.
inline double power(double x, double y) { return x <= 0 ? (y == 0 ? 1 : 0) : portable::exp(y * portable::log(x)); }

}  // namespace quern_metrics
