// Metrics of detectors.
#pragma once
#include "precision.hpp"

namespace quern_metrics {

// Mean average precision. Labels: a row [class, x1, y1, x2, y2] a box, or with a sixth number that is not 0 for a difficult one
// or a crowd; a class below 0 fills up.
struct MeanAveragePrecision {
  static constexpr std::string_view name = "map";
  static constexpr std::string_view parameters = R"j({"type": "object", "additionalProperties": false, "properties": {
    "rule": {"enum": ["coco", "voc"], "default": "coco", "description": "coco: 101 recalls, overlaps 0.5 to 0.95; voc: overlap 0.5, the area under the curve"},
    "overlaps": {"type": "array", "items": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, "description": "in place of the rule's"},
    "points": {"enum": [0, 11], "default": 0, "description": "voc: 11 recalls (2007) in place of the area"},
    "boxes": {"type": "object", "additionalProperties": false, "description": "how outputs become boxes", "properties": {
      "form": {"enum": ["rows", "corners", "centers", "anchors", "grid"], "default": "rows", "description": "rows: boxes as the network lists them; corners, centers: x1 y1 x2 y2 or cx cy w h beside class scores; anchors: offsets from anchors (SSD); grid: cells (YOLO)"},
      "style": {"enum": ["yolov3", "yolov5", "fastestdet"], "default": "yolov3", "description": "of a grid"},
      "columns": {"type": "array", "items": {"enum": ["x1", "y1", "x2", "y2", "cx", "cy", "w", "h", "score", "class", "image", "none"]}, "description": "of rows; x1 y1 x2 y2 score class where it is left out"},
      "boxes": {"type": "string", "description": "output of the boxes; the first"},
      "scores": {"type": "string", "description": "output of the scores; the second, or the same where there is one"},
      "objectness": {"type": "boolean", "default": false, "description": "a number before the class scores multiplies them"},
      "activation": {"enum": ["none", "sigmoid", "softmax"], "default": "none", "description": "of class scores in corners, centers, anchors"},
      "background": {"type": "integer", "minimum": -1, "default": -1, "description": "a class of the scores that is no object; those behind it move up"},
      "levels": {"type": "array", "items": {"type": "object", "additionalProperties": false, "properties": {
        "output": {"type": "string"}, "grid": {"type": "array", "items": {"type": "integer"}}, "sizes": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}}}, "description": "anchors: {grid: [height, width], sizes: [[w, h], ...]}; grid: {output, sizes}; sizes are parts of the picture"},
      "variances": {"type": "array", "items": {"type": "number"}, "description": "of anchors: for centre and size; 0.1 and 0.2"},
      "scale": {"description": "boxes times this are in the units of the labels: a number, or [x, y]"},
      "min_score": {"type": "number", "default": 0.01},
      "nms": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.5, "description": "of two boxes that overlap more the worse one goes; 1 keeps all"},
      "per_class": {"type": "boolean", "default": true, "description": "boxes of other classes do not suppress"},
      "limit": {"type": "integer", "minimum": 1, "default": 100, "description": "boxes a sample"}}}}})j";
  static constexpr bool higher_is_better = true;
  static constexpr uint32_t needs = QUERN_METRIC_NEEDS_LABELS;
  struct Meter { BoxDecoder decoder; bool coco; int points; std::vector<double> overlaps; Precision precision; };
  std::unique_ptr<Meter> create(const Json& p);
  void update(Meter& m, int64_t sample, const OutputsView& outputs, const quern_tensor* label, const OutputsView&);
  double result(const Meter& m);
};

// F1 of the confident cells of a detector's grid against the float network's: a cell is right where both are confident of the
// same class. For detectors whose data has no labels.
struct CellF1 {
  static constexpr std::string_view name = "cell_f1";
  static constexpr std::string_view parameters = R"j({"type": "object", "additionalProperties": false, "properties": {
    "objectness": {"type": "integer", "minimum": 0, "default": 0, "description": "the channel of objectness"},
    "classes": {"type": "integer", "minimum": 0, "default": 5, "description": "the first channel of a class"},
    "exponents": {"type": "array", "items": {"type": "number"}, "description": "score = objectness^a * class^b; 0.6 and 0.4"},
    "threshold": {"type": "number", "default": 0.5, "description": "cells with a larger score are confident"},
    "output": {"type": "string", "default": ""}}})j";
  static constexpr bool higher_is_better = true;
  static constexpr uint32_t needs = QUERN_METRIC_NEEDS_FLOAT;
  struct Meter { std::string output; int64_t objectness, classes; double a, b, threshold, right = 0, found = 0, wanted = 0; };
  std::unique_ptr<Meter> create(const Json& p);
  void update(Meter& m, int64_t, const OutputsView& outputs, const quern_tensor*, const OutputsView& float_outputs);
  double result(const Meter& m);
};

}  // namespace quern_metrics
