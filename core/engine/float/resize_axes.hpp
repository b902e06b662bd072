// What Resize reads along one axis: for every place of the output the places of the input and their weights.
//
// Coordinates are computed in f32, as the field's runtimes do, so that ties fall alike; weights in double, rounded once.
#pragma once
#include <string>
#include <vector>

#include "core/engine/float/op.hpp"

namespace quern::own {

struct ResizeSettings {
  enum class Mode { nearest, linear, cubic } mode = Mode::nearest;
  std::string coordinates = "half_pixel", nearest = "round_prefer_floor";
  bool exclude_outside = false, antialias = false;
  double cubic_a = -0.75;
  float extrapolation = 0;
};

struct ResizedAxis {
  size_t axis = 0;
  int64_t in = 0, out = 0;
  int taps = 1;                      // per place of the output
  std::vector<int32_t> index;        // [out][taps], inside of the input
  std::vector<double> weight;        // the same; empty for nearest
  std::vector<char> outside;         // [out]: takes the extrapolation value; empty: none does
  bool changes_nothing() const;      // every place is read from itself alone
};

// `scale` as given or out / in; `roi_begin`, `roi_end` for tf_crop_and_resize.
ResizedAxis resized_axis(const ResizeSettings& settings, size_t axis, int64_t in, int64_t out, float scale, float roi_begin, float roi_end);
// Taps that resized_axis() will have.
int resize_taps(const ResizeSettings& settings, float scale);

}  // namespace quern::own
