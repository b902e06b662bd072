#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/statistics/collectors.hpp"

namespace quern {
namespace {

// Are the elements, in some order of the axes, behind one another without gaps?
bool dense(std::span<const int64_t> dims, std::span<const int64_t> strides) {
  std::vector<size_t> order;
  for (size_t i = 0; i < dims.size(); ++i)
    if (dims[i] != 1) order.push_back(i);
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return strides[a] < strides[b]; });
  int64_t expected = 1;
  for (size_t i : order) {
    if (strides[i] != expected) return false;
    expected *= dims[i];
  }
  return true;
}

}  // namespace

Observation::Observation(const std::string& v, int64_t s, const TensorView& view, std::vector<float>& scratch)
    : value(v), sample(s), dims_(view.dims.begin(), view.dims.end()), strides_(view.strides.begin(), view.strides.end()) {
  if (view.type != DType::f32)
    throw Error(ErrorCode::internal, fmt::format("statistics of tensor '{}', which is {}, not f32", value, name_of(view.type)));
  count = view.count();
  if (count == 0) return;
  if (dense(dims_, strides_)) {
    data = view.as<const float>();
  } else {
    scratch.resize(static_cast<size_t>(count));
    strides_ = row_major_strides(dims_);
    copy(view, {scratch.data(), DType::f32, dims_, strides_});
    data = scratch.data();
  }
  extremes = extremes_of(data, count);
  if (extremes.finite) return;
  const float* bad = std::find_if(data, data + count, [](float x) { return !std::isfinite(x); });
  throw Error(ErrorCode::data, fmt::format("tensor '{}' holds {} in sample {}", value, std::isnan(*bad) ? "NaN" : "infinity", sample))
      .hint("look for bad values in the calibration data, or for an overflow in the float model at this tensor");
}

float Observation::bound() const { return std::max(std::fabs(extremes.low), std::fabs(extremes.high)); }

Observation::Blocks Observation::blocks(int axis) const {
  if (axis < 0) return {1, 1, count};
  if (axis >= static_cast<int>(dims_.size()))
    throw Error(ErrorCode::internal, fmt::format("statistics on axis {} of tensor '{}' of shape {}", axis, value, to_string(dims_)));
  const int64_t channels = dims_[static_cast<size_t>(axis)];
  if (channels == 1) return {1, 1, count};
  const int64_t inner = strides_[static_cast<size_t>(axis)];
  return {count / channels / inner, channels, inner};
}

const Observation::ChannelExtremes& Observation::channel_extremes(int axis) {
  auto [it, fresh] = by_axis_.try_emplace(axis);
  ChannelExtremes& e = it->second;
  if (!fresh) return e;
  const Blocks b = blocks(axis);
  if (b.channels == 1) {
    e.low = {extremes.low};
    e.high = {extremes.high};
    return e;
  }
  const size_t channels = static_cast<size_t>(b.channels);
  e.low.resize(channels);
  e.high.resize(channels);
  for (size_t c = 0; c < channels; ++c) e.low[c] = e.high[c] = data[static_cast<int64_t>(c) * b.inner];
  if (b.inner == 1) {
    merge_row_extremes(data, b.outer, b.channels, e.low.data(), e.high.data());
    return e;
  }
  const float* x = data;
  for (int64_t o = 0; o < b.outer; ++o)
    for (size_t c = 0; c < channels; ++c, x += b.inner) {
      const Extremes run = extremes_of(x, b.inner);
      e.low[c] = std::min(e.low[c], run.low) + 0.0f;
      e.high[c] = std::max(e.high[c], run.high) + 0.0f;
    }
  return e;
}

}  // namespace quern
