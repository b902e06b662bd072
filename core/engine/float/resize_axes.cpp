#include "core/engine/float/resize_axes.hpp"

#include <algorithm>
#include <cmath>

namespace quern::own {
namespace {

using Mode = ResizeSettings::Mode;

float coordinate(const ResizeSettings& s, int64_t place, int64_t in, int64_t out, float scale, float roi_begin, float roi_end) {
  const auto x = static_cast<float>(place), n = static_cast<float>(in);
  const float length = scale * n;  // of the output before it was cut to whole places
  const std::string& mode = s.coordinates;
  if (mode == "asymmetric") return x / scale;
  if (mode == "align_corners") return length == 1.0F || out == 1 ? 0.0F : x * (n - 1) / (length - 1);
  if (mode == "tf_half_pixel_for_nn") return (x + 0.5F) / scale;
  if (mode == "pytorch_half_pixel") return out > 1 ? (x + 0.5F) / scale - 0.5F : 0.0F;
  if (mode == "tf_crop_and_resize")
    return out > 1 ? roi_begin * (n - 1) + x * (roi_end - roi_begin) * (n - 1) / (length - 1) : 0.5F * (roi_begin + roi_end) * (n - 1);
  if (mode == "half_pixel_symmetric") {  // the middle of the input maps to the middle of the whole places
    const float offset = n / 2 * (1 - static_cast<float>(out) / length);
    return offset + (x + 0.5F) / scale - 0.5F;
  }
  return (x + 0.5F) / scale - 0.5F;
}

int64_t nearest(const std::string& mode, float x) {
  const float below = std::floor(x), part = x - below;
  if (mode == "floor") return static_cast<int64_t>(below);
  if (mode == "ceil") return static_cast<int64_t>(std::ceil(x));
  const bool up = mode == "round_prefer_ceil" ? part >= 0.5F : part > 0.5F;
  return static_cast<int64_t>(below) + (up ? 1 : 0);
}

double cubic(double a, double x) {
  x = std::fabs(x);
  if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
  return 0;
}

// The filter is stretched over the places that shrink to one.
double stretch(const ResizeSettings& s, float scale) { return s.antialias ? std::min(1.0, static_cast<double>(scale)) : 1.0; }

}  // namespace

int resize_taps(const ResizeSettings& s, float scale) {
  if (s.mode == Mode::nearest) return 1;
  const double reach = (s.mode == Mode::linear ? 1.0 : 2.0) / stretch(s, scale);
  return static_cast<int>(2 - 2 * (std::floor(-reach) + 1));
}

bool ResizedAxis::changes_nothing() const {
  if (in != out || !outside.empty()) return false;
  for (int64_t j = 0; j < out; ++j)
    for (int t = 0; t < taps; ++t) {
      const auto at = static_cast<size_t>(j * taps + t);
      if (weight.empty() ? index[at] != j : weight[at] != (index[at] == j ? 1.0 : 0.0) && weight[at] != 0.0) return false;
    }
  return true;
}

ResizedAxis resized_axis(const ResizeSettings& s, size_t axis, int64_t in, int64_t out, float scale, float roi_begin, float roi_end) {
  ResizedAxis r{.axis = axis, .in = in, .out = out, .taps = resize_taps(s, scale), .index = {}, .weight = {}, .outside = {}};
  const auto last = static_cast<float>(in - 1);
  const auto taps = static_cast<size_t>(r.taps);
  std::vector<char> outside(static_cast<size_t>(out), 0);
  r.index.reserve(static_cast<size_t>(out) * taps);
  for (int64_t j = 0; j < out; ++j) {
    float x = coordinate(s, j, in, out, scale, roi_begin, roi_end);
    if (!(x > -1e9F)) x = -1e9F;  // also a NaN of an odd roi
    x = std::min(x, 1e9F);
    if (s.coordinates == "tf_crop_and_resize") outside[static_cast<size_t>(j)] = x < 0 || x > last;
    auto inside = [&](int64_t i) { return static_cast<int32_t>(std::clamp<int64_t>(i, 0, in - 1)); };
    if (s.mode == Mode::nearest) { r.index.push_back(inside(nearest(s.nearest, x))); continue; }
    if (s.mode == Mode::linear && !s.antialias) {  // beyond the border the border itself, exactly
      x = std::clamp(x, 0.0F, last);
      const auto below = static_cast<int64_t>(x);
      const double part = static_cast<double>(x) - static_cast<double>(below);
      r.index.insert(r.index.end(), {inside(below), inside(below + 1)});
      r.weight.insert(r.weight.end(), {1 - part, part});
      continue;
    }
    const auto below = static_cast<int64_t>(std::floor(x));
    const double part = static_cast<double>(x) - static_cast<double>(below), by = stretch(s, scale);
    // A whole coordinate counts as the right end of its interval, so that the window leans to the left.
    const int64_t first = below - (part == 0 ? 1 : 0) + 1 - r.taps / 2;
    double sum = 0;
    const size_t begin = r.weight.size();
    for (int t = 0; t < r.taps; ++t) {
      const int64_t i = first + t;
      const double distance = (static_cast<double>(i) - static_cast<double>(x)) * by;
      double w = s.mode == Mode::linear ? std::max(0.0, 1 - std::fabs(distance)) : cubic(s.cubic_a, distance);
      if (s.exclude_outside && (i < 0 || i >= in)) w = 0;
      r.index.push_back(inside(i));
      r.weight.push_back(w);
      sum += w;
    }
    if ((s.antialias || s.exclude_outside) && sum != 0)
      for (size_t t = begin; t < r.weight.size(); ++t) r.weight[t] /= sum;
  }
  if (std::count(outside.begin(), outside.end(), 1)) r.outside = std::move(outside);
  return r;
}

}  // namespace quern::own
