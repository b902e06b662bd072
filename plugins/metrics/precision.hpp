// Average precision of detections: by PASCAL VOC's rule or by COCO's, from boxes gathered over all samples.
#pragma once
#include <map>

#include "boxes.hpp"

namespace quern_metrics {

struct Truth { Box box; bool crowd = false; };  // crowd: difficult (VOC) or a crowd (COCO): neither wanted nor a mistake

class Precision {
 public:
  void add(std::vector<Box> found, const std::vector<Truth>& truths);
  // One class after the other at one overlap, the mean over those that have a truth. points: 11, or 0 for the whole area.
  double voc(double wanted, int points) const;
  // The mean over overlaps 0.5, 0.55, ... 0.95 (or those given) and classes, at 101 recalls.
  double coco(const std::vector<double>& overlaps) const;

 private:
  struct Image { std::vector<Box> found; std::vector<Truth> truths; };  // found: best first
  struct Hit { double score; bool right; };
  std::map<int64_t, std::map<int64_t, Image>> classes_;  // class, image
  int64_t images_ = 0;
};

}  // namespace quern_metrics
