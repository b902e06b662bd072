// Resize and Upsample, row major or channels last, the same bytes in both.
//
// nearest copies places of a table per axis; rows that repeat are copied whole. linear and cubic are separable: the last axis first,
// then the one before. Where the two are neighbours in memory (images), a row along the last axis is computed when the first
// output row asks for it, and kept as long as further ones may.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "core/engine/float/families.hpp"
#include "core/engine/float/resize_axes.hpp"
#include "core/engine/float/strided.hpp"

namespace quern::own {
namespace {

using Mode = ResizeSettings::Mode;

// Axes in the order of memory, with the size of one step along them.
struct MemoryOrder {
  std::vector<size_t> axes;
  MemoryOrder(size_t rank, bool channels_last) {
    for (size_t a = 0; a < rank; ++a)
      if (!channels_last || a != 1) axes.push_back(a);
    if (channels_last) axes.push_back(1);
  }
  // Elements of one step along `axis`, and how often the axis repeats.
  int64_t inner(std::span<const int64_t> dims, size_t axis) const {
    int64_t n = 1;
    for (size_t i = axes.size(); axes[i - 1] != axis; --i) n *= dims[axes[i - 1]];
    return n;
  }
};

bool is_channels_last(const TensorView& x, const TensorView& y) {
  if (x.dims.size() < 3) return false;
  const auto rows = [](const TensorView& v) {
    const Dims s = row_major_strides(v.dims);
    return std::equal(s.begin(), s.end(), v.strides.begin());
  };
  return !rows(x) || !rows(y);
}

// ---- nearest -----------------------------------------------------------------------------------------------------------------

struct CopyLevel { int64_t out = 1, in = 1; const int32_t* index = nullptr; int64_t in_step = 0, out_step = 0; };  // steps in bytes

template <class T>
void pick_row(const T* from, T* to, const int32_t* index, int64_t n, bool doubles) {
  if (doubles) {
    for (int64_t i = 0; i < n / 2; ++i) to[2 * i] = to[2 * i + 1] = from[i];
  } else {
    for (int64_t i = 0; i < n; ++i) to[i] = from[index[i]];
  }
}

void copy_level(std::span<const CopyLevel> levels, size_t block, bool doubles, const char* from, char* to) {
  if (levels.empty()) { std::memcpy(to, from, block); return; }
  const CopyLevel& level = levels[0];
  if (levels.size() == 1 && level.index && block <= 8) {
    switch (block) {
      case 1: pick_row(reinterpret_cast<const uint8_t*>(from), reinterpret_cast<uint8_t*>(to), level.index, level.out, doubles); return;
      case 2: pick_row(reinterpret_cast<const uint16_t*>(from), reinterpret_cast<uint16_t*>(to), level.index, level.out, doubles); return;
      case 4: pick_row(reinterpret_cast<const uint32_t*>(from), reinterpret_cast<uint32_t*>(to), level.index, level.out, doubles); return;
      case 8: pick_row(reinterpret_cast<const uint64_t*>(from), reinterpret_cast<uint64_t*>(to), level.index, level.out, doubles); return;
      default: break;
    }
  }
  for (int64_t j = 0; j < level.out; ++j, to += level.out_step) {
    if (level.index && j > 0 && level.index[j] == level.index[j - 1]) {
      std::memcpy(to, to - level.out_step, static_cast<size_t>(level.out_step));
      continue;
    }
    copy_level(levels.subspan(1), block, doubles, from + (level.index ? level.index[j] : j) * level.in_step, to);
  }
}

void resize_nearest(const TensorView& x, const TensorView& y, const std::vector<ResizedAxis>& resized) {
  const MemoryOrder order(x.dims.size(), is_channels_last(x, y));
  std::vector<CopyLevel> levels;
  auto block = static_cast<int64_t>(size_of(x.type));
  int64_t in_step = block, out_step = block;
  for (size_t i = order.axes.size(); i-- > 0;) {
    const size_t axis = order.axes[i];
    const auto at = std::find_if(resized.begin(), resized.end(), [&](const ResizedAxis& r) { return r.axis == axis; });
    const int64_t in = x.dims[axis], out = y.dims[axis];
    if (at == resized.end() && levels.empty()) {
      block *= in;
    } else if (at == resized.end() && !levels.back().index) {  // merges with the axis inside of it
      levels.back().in *= in;
      levels.back().out *= out;
    } else {
      levels.push_back({out, in, at == resized.end() ? nullptr : at->index.data(), in_step, out_step});
    }
    in_step *= in;
    out_step *= out;
  }
  std::reverse(levels.begin(), levels.end());
  bool doubles = !levels.empty() && levels.back().index && levels.back().out == 2 * levels.back().in;
  for (int64_t j = 0; doubles && j < levels.back().out; ++j) doubles = levels.back().index[j] == j / 2;
  copy_level(levels, static_cast<size_t>(block), doubles, x.as<const char>(), y.as<char>());
}

// ---- linear, cubic -------------------------------------------------------------------------------------------------------------

template <class T>
std::vector<T> weights_of(const ResizedAxis& a) {
  std::vector<T> w(a.weight.size());
  std::transform(a.weight.begin(), a.weight.end(), w.begin(), [](double v) { return static_cast<T>(v); });
  return w;
}

// out[i] = sum over taps of w[t] * rows[t][i], taps in order.
template <class T>
void mix_rows(const T* const* rows, const T* w, int taps, T* __restrict out, int64_t n) {
  if (taps == 2) {
    const T *a = rows[0], *b = rows[1];
    const T u = w[0], v = w[1];
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) out[i] = u * a[i] + v * b[i];
    return;
  }
  for (int64_t i = 0; i < n; ++i) out[i] = w[0] * rows[0][i];
  for (int t = 1; t < taps; ++t) {
    const T* row = rows[t];
    const T v = w[t];
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) out[i] = out[i] + v * row[i];
  }
}

// One line along an axis whose steps hold `inner` elements.
template <class T>
void mix_line(const ResizedAxis& a, const T* w, int64_t inner, const T* in, T* __restrict out) {
  if (inner == 1 && a.taps == 2) {
    const int32_t* i = a.index.data();
    for (int64_t j = 0; j < a.out; ++j) out[j] = w[2 * j] * in[i[2 * j]] + w[2 * j + 1] * in[i[2 * j + 1]];
    return;
  }
  if (inner == 1) {
    for (int64_t j = 0; j < a.out; ++j) {
      T sum = w[j * a.taps] * in[a.index[static_cast<size_t>(j * a.taps)]];
      for (int t = 1; t < a.taps; ++t) sum = sum + w[j * a.taps + t] * in[a.index[static_cast<size_t>(j * a.taps + t)]];
      out[j] = sum;
    }
    return;
  }
  std::vector<const T*> rows(static_cast<size_t>(a.taps));
  for (int64_t j = 0; j < a.out; ++j, out += inner) {
    for (int t = 0; t < a.taps; ++t) rows[static_cast<size_t>(t)] = in + a.index[static_cast<size_t>(j * a.taps + t)] * inner;
    mix_rows(rows.data(), w + j * a.taps, a.taps, out, inner);
  }
}

// Both axes of a plane [slow][fast][inner]. `ring` holds slow.taps lines of the output's length.
template <class T>
void mix_plane(const ResizedAxis& slow, const ResizedAxis& fast, const T* slow_w, const T* fast_w, int64_t inner, const T* in, T* out, T* ring) {
  const int64_t line_in = fast.in * inner, line_out = fast.out * inner;
  std::vector<int32_t> held(static_cast<size_t>(slow.taps), -1);
  std::vector<const T*> rows(static_cast<size_t>(slow.taps));
  for (int64_t j = 0; j < slow.out; ++j, out += line_out) {
    for (int t = 0; t < slow.taps; ++t) {
      const int32_t i = slow.index[static_cast<size_t>(j * slow.taps + t)];  // taps are neighbours: no two share a place
      const auto place = static_cast<size_t>(i % slow.taps);
      T* line = ring + static_cast<int64_t>(place) * line_out;
      if (held[place] != i) mix_line(fast, fast_w, inner, in + i * line_in, line);
      held[place] = i;
      rows[static_cast<size_t>(t)] = line;
    }
    mix_rows(rows.data(), slow_w + j * slow.taps, slow.taps, out, line_out);
  }
}

// Where the fast path for images holds: two axes, neighbours in memory, the later one inside.
bool is_plane(const MemoryOrder& order, const std::vector<ResizedAxis>& resized) {
  if (resized.size() != 2) return false;
  const auto at = std::find(order.axes.begin(), order.axes.end(), resized[0].axis);
  return at + 1 != order.axes.end() && *(at + 1) == resized[1].axis;
}

// `work`: two tensors of work_elements() each.
template <class T>
void mix(const T* x, Dims dims, T* y, const MemoryOrder& order, const std::vector<ResizedAxis>& resized, T* work, int64_t work_elements) {
  const int64_t all = element_count(dims);
  if (resized.empty()) { std::memcpy(y, x, static_cast<size_t>(all) * sizeof(T)); return; }
  if (is_plane(order, resized)) {
    const ResizedAxis &slow = resized[0], &fast = resized[1];
    const std::vector<T> slow_w = weights_of<T>(slow), fast_w = weights_of<T>(fast);
    const int64_t inner = order.inner(dims, fast.axis), outer = all / std::max<int64_t>(1, slow.in * fast.in * inner);
    for (int64_t o = 0; o < outer; ++o)
      mix_plane(slow, fast, slow_w.data(), fast_w.data(), inner, x + o * slow.in * fast.in * inner, y + o * slow.out * fast.out * inner, work);
    return;
  }
  for (size_t k = resized.size(); k-- > 0;) {
    const ResizedAxis& a = resized[k];
    const std::vector<T> w = weights_of<T>(a);
    T* to = k == 0 ? y : work + static_cast<int64_t>(k % 2) * work_elements;
    const int64_t inner = order.inner(dims, a.axis), outer = element_count(dims) / std::max<int64_t>(1, a.in * inner);
    for (int64_t o = 0; o < outer; ++o) mix_line(a, w.data(), inner, x + o * a.in * inner, to + o * a.out * inner);
    dims[a.axis] = a.out;
    x = to;
  }
}

// ---- the operator --------------------------------------------------------------------------------------------------------------

struct Resize {
  ResizeSettings settings;
  std::vector<size_t> axes;
  std::vector<float> scales;   // by `axes`
  Dims in, out;
  std::optional<std::vector<float>> roi;  // by `axes`: begins, then ends; none: read at the run

  std::vector<ResizedAxis> tables(const std::vector<float>& region) const {
    std::vector<ResizedAxis> all;
    for (size_t i = 0; i < axes.size(); ++i) {
      const bool crops = !region.empty();
      ResizedAxis r = resized_axis(settings, axes[i], in[axes[i]], out[axes[i]], scales[i], crops ? region[i] : 0.0F,
                                   crops ? region[i + axes.size()] : 1.0F);
      if (!r.changes_nothing()) all.push_back(std::move(r));
    }
    std::sort(all.begin(), all.end(), [](const ResizedAxis& a, const ResizedAxis& b) { return a.axis < b.axis; });
    return all;
  }
  // Elements of the larger of the tensors in between, and lines of a plane.
  int64_t work_elements() const {
    int64_t n = 1;
    for (size_t a = 0; a < in.size(); ++a) n *= std::max(in[a], out[a]);
    return n;
  }
};

std::string one_of(const Op& op, const std::string& key, const std::string& fallback, std::initializer_list<const char*> legal) {
  const std::string given = op.node().text(key, fallback);
  if (std::find(legal.begin(), legal.end(), given) == legal.end()) op.fail(fmt::format("{} '{}' is '{}', which does not exist", op.node().op, key, given));
  return given;
}

void read_settings(const Op& op, bool old, ResizeSettings& s) {
  const std::string mode = one_of(op, "mode", "nearest", {"nearest", "linear", "cubic", "bilinear", "trilinear"});
  s.mode = mode == "nearest" ? Mode::nearest : mode == "cubic" ? Mode::cubic : Mode::linear;
  if (old) {  // Upsample, and Resize as it first was
    s.coordinates = "asymmetric";
    s.nearest = "floor";
    return;
  }
  s.coordinates = one_of(op, "coordinate_transformation_mode", "half_pixel", {"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize", "tf_half_pixel_for_nn"});
  s.nearest = one_of(op, "nearest_mode", "round_prefer_floor", {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"});
  s.exclude_outside = op.node().integer("exclude_outside", 0) != 0;
  s.antialias = op.node().integer("antialias", 0) != 0;
  s.cubic_a = static_cast<double>(op.node().real("cubic_coeff_a", -0.75F));
  s.extrapolation = op.node().real("extrapolation_value", 0);
}

// Scales by axis, as given or from the sizes; none: not constant, which a plan never asks for.
bool read_scales(const Op& op, bool old, Resize& r) {
  const size_t slot = old ? 1 : 2;
  const auto rank = static_cast<int64_t>(r.in.size());
  for (int64_t a : op.node().integers("axes")) {
    if (a < -rank || a >= rank) op.fail(fmt::format("Resize has no axis {} in a tensor of rank {}", a, rank));
    r.axes.push_back(static_cast<size_t>(a < 0 ? a + rank : a));
  }
  if (std::set<size_t>(r.axes.begin(), r.axes.end()).size() != r.axes.size()) op.fail("Resize names an axis twice");
  if (r.axes.empty())
    for (size_t a = 0; a < r.in.size(); ++a) r.axes.push_back(a);
  const bool sizes = !old && op.has(3) && element_count(op.in(3).dims) > 0;
  if (sizes) {
    const Tensor* given = op.constant(3);
    if (!given) return false;
    const std::string policy = one_of(op, "keep_aspect_ratio_policy", "stretch", {"stretch", "not_larger", "not_smaller"});
    const std::vector<int64_t> wanted = given->to_ints();
    if (wanted.size() != r.axes.size()) op.fail(fmt::format("Resize has {} sizes for {} axes", wanted.size(), r.axes.size()));
    for (size_t i = 0; i < r.axes.size(); ++i) r.scales.push_back(static_cast<float>(wanted[i]) / static_cast<float>(r.in[r.axes[i]]));
    if (policy != "stretch") {
      const auto [low, high] = std::minmax_element(r.scales.begin(), r.scales.end());
      r.scales.assign(r.scales.size(), policy == "not_larger" ? *low : *high);
    }
    return true;
  }
  if (old && op.node().has("scales")) {
    r.scales = op.node().reals("scales");
  } else {
    const Tensor* given = op.constant(slot);
    if (!given) return false;
    r.scales = given->to_floats();
  }
  if (r.scales.size() != r.axes.size()) op.fail(fmt::format("{} has {} scales for {} axes", op.node().op, r.scales.size(), r.axes.size()));
  return true;
}

std::vector<float> region_of(const TensorView& roi, size_t axes) {
  std::vector<float> region(static_cast<size_t>(roi.count()));
  for (size_t i = 0; i < region.size(); ++i) region[i] = roi.type == DType::f64 ? static_cast<float>(roi.as<const double>()[i]) : roi.as<const float>()[i];
  if (region.size() != 2 * axes) throw Error(ErrorCode::model, fmt::format("the roi of Resize has {} numbers for {} axes", region.size(), axes));
  return region;
}

template <class T>
void mix_tensor(const Call& c, const Resize& r, const std::vector<ResizedAxis>& resized) {
  const MemoryOrder order(r.in.size(), is_channels_last(c.in[0], c.out[0]));
  const int64_t elements = r.work_elements();
  if constexpr (std::is_floating_point_v<T>) {
    mix(c.in[0].as<const T>(), r.in, c.out[0].as<T>(), order, resized, static_cast<T*>(c.workspace), elements);
  } else {  // in double, cut to whole numbers
    auto* work = static_cast<double*>(c.workspace);
    double *x = work + 2 * elements, *y = x + elements;
    const int64_t before = c.in[0].count(), after = c.out[0].count();
    for (int64_t i = 0; i < before; ++i) x[i] = static_cast<double>(c.in[0].as<const T>()[i]);
    mix(x, r.in, y, order, resized, work, elements);
    for (int64_t i = 0; i < after; ++i)
      c.out[0].as<T>()[i] = static_cast<T>(std::clamp(y[i], static_cast<double>(std::numeric_limits<T>::min()), static_cast<double>(std::numeric_limits<T>::max())));
  }
}

void extrapolate(const TensorView& y, const std::vector<ResizedAxis>& resized, float value) {
  for (const ResizedAxis& r : resized)
    for (int64_t j = 0; j < static_cast<int64_t>(r.outside.size()); ++j) {
      if (!r.outside[static_cast<size_t>(j)]) continue;
      Dims dims(y.dims.begin(), y.dims.end());
      dims[r.axis] = 1;
      const TensorView slice{y.as<char>() + j * y.strides[r.axis] * static_cast<int64_t>(size_of(y.type)), y.type, dims, y.strides};
      dispatch<float, double, uint8_t, int8_t, int32_t, int64_t>(y.type, [&](auto tag) {
        const auto v = static_cast<decltype(tag)>(value);
        fill_strided(slice, &v);
      });
    }
}

Made resize(const Op& op) {
  const bool old = op.node().op == "Upsample" || op.node().since_version < 11;
  auto r = std::make_shared<Resize>();
  read_settings(op, old, r->settings);
  r->in = op.in(0).dims;
  r->out = op.out().dims;
  if (r->in.empty()) op.fail("Resize needs a tensor of rank 1 or more");
  if (!read_scales(op, old, *r)) return {};
  for (size_t i = 0; i < r->axes.size(); ++i)
    if (!(r->scales[i] > 0) || r->in[r->axes[i]] < 1 || r->in[r->axes[i]] > INT32_MAX) op.fail(fmt::format("{} can't bring axis {} from {} to {}", op.node().op, r->axes[i], r->in[r->axes[i]], r->out[r->axes[i]]));
  if (r->settings.coordinates == "tf_crop_and_resize") {
    if (!op.has(1)) op.fail("Resize with tf_crop_and_resize needs a roi");
    if (const Tensor* roi = op.constant(1)) {
      const Dims strides{1};
      r->roi = region_of({const_cast<void*>(roi->data()), roi->type(), roi->dims(), strides}, r->axes.size());
    }
  } else {
    r->roi.emplace();
  }
  auto fixed = std::make_shared<std::vector<ResizedAxis>>(r->roi ? r->tables(*r->roi) : std::vector<ResizedAxis>{});
  const auto tables = [r, fixed](const Call& c) { return r->roi ? *fixed : r->tables(region_of(c.in[1], r->axes.size())); };
  if (r->settings.mode == Mode::nearest) {
    if (!movable(op.type())) return {};
    return op.kernel(Layout::any, [r, fixed, tables](const Call& c) {
      if (r->roi) return resize_nearest(c.in[0], c.out[0], *fixed), extrapolate(c.out[0], *fixed, r->settings.extrapolation);
      const auto now = tables(c);
      resize_nearest(c.in[0], c.out[0], now);
      extrapolate(c.out[0], now, r->settings.extrapolation);
    });
  }
  const MemoryOrder rows(r->in.size(), false), last(r->in.size(), r->in.size() > 2);
  // Images take a few lines, everything else two tensors; integers two more.
  size_t bytes = static_cast<size_t>(r->work_elements()) * 2 * sizeof(double);
  if (is_plane(rows, *fixed) && is_plane(last, *fixed) && r->roi && (op.type() == DType::f32 || op.type() == DType::f64)) {
    const ResizedAxis &slow = (*fixed)[0], &fast = (*fixed)[1];
    const int64_t inner = product(r->in, fast.axis + 1, r->in.size()) * (r->in.size() > 2 ? r->in[1] : 1);  // enough for both layouts
    bytes = static_cast<size_t>(slow.taps * fast.out * inner) * size_of(op.type());
  } else if (op.type() != DType::f32 && op.type() != DType::f64) {
    bytes *= 2;
  }
  Made made;
  dispatch<float, double, uint8_t, int8_t, int32_t, int64_t>(op.type(), [&](auto tag) {
    using T = decltype(tag);
    made = op.kernel(Layout::any, [r, fixed, tables](const Call& c) {
      if (r->roi) return mix_tensor<T>(c, *r, *fixed), extrapolate(c.out[0], *fixed, r->settings.extrapolation);
      const auto now = tables(c);
      mix_tensor<T>(c, *r, now);
      extrapolate(c.out[0], now, r->settings.extrapolation);
    }, bytes);
  });
  return made;
}

constexpr Entry entries[] = {{"", "Resize", resize}, {"", "Upsample", resize}};

}  // namespace

std::span<const Entry> resize_ops() { return entries; }

}  // namespace quern::own
