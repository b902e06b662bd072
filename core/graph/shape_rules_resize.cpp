// Resize, Upsample, and the two that trade depth for space.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/graph/shape_rules.hpp"

namespace quern::shape_rules {
namespace {

int64_t scaled(int64_t in, float scale) { return static_cast<int64_t>(std::floor(static_cast<float>(in) * scale)); }

Outputs by_scales(const RuleScope& s, const std::optional<std::vector<float>>& scales, const Ints& axes) {
  const Dims* x = s.dims(0);
  Dims out = *x;
  if (scales && scales->size() != axes.size())
    s.fail(fmt::format("{} scales for {} axes", scales->size(), axes.size()));
  for (size_t i = 0; i < axes.size(); ++i) {
    int64_t& d = out[static_cast<size_t>(axes[i])];
    if (!scales) { d = -1; continue; }
    const float f = (*scales)[i];
    if (!(f > 0) || !std::isfinite(f) || f > 1e9F) s.fail(fmt::format("a scale is {}", f));
    if (d >= 0) d = f == 1.0F ? d : scaled(d, f);
  }
  return {RuleScope::make(s.dtype(0), out)};
}

Ints all_axes(const RuleScope& s) {
  Ints axes;
  for (size_t i = 0; i < s.dims(0)->size(); ++i) axes.push_back(static_cast<int64_t>(i));
  return axes;
}

Outputs upsample(const RuleScope& s) {
  s.in(0);
  if (!s.dims(0)) return {s.like(0)};
  if (s.node.has("scales")) return by_scales(s, s.node.reals("scales"), all_axes(s));
  return s.in(1), by_scales(s, s.floats(1), all_axes(s));
}

Outputs resize(const RuleScope& s) {
  s.in(0);
  const Dims* x = s.dims(0);
  if (!x) return {s.like(0)};
  if (s.node.since_version == 10) return s.in(1), by_scales(s, s.floats(1), all_axes(s));
  Ints axes = s.node.integers("axes");
  for (int64_t& a : axes) a = s.axis(a, static_cast<int64_t>(x->size()));
  if (axes.empty()) axes = all_axes(s);
  const bool sizes_given = s.given(3) && !(s.dims(3) && *s.dims(3) == Dims{0});
  if (!sizes_given) {
    if (!s.given(2)) s.fail("needs scales or sizes");
    return by_scales(s, s.floats(2), axes);
  }
  Dims out = *x;
  auto sizes = s.ints(3);
  if (sizes && sizes->size() != axes.size()) s.fail(fmt::format("{} sizes for {} axes", sizes->size(), axes.size()));
  const std::string policy = s.node.text("keep_aspect_ratio_policy", "stretch");
  std::optional<float> common;
  if (policy != "stretch" && sizes) {
    for (size_t i = 0; i < axes.size(); ++i) {
      const int64_t d = out[static_cast<size_t>(axes[i])];
      if (d <= 0 || !known((*sizes)[i])) { sizes.reset(); break; }
      const float f = static_cast<float>((*sizes)[i]) / static_cast<float>(d);
      common = !common ? f : policy == "not_larger" ? std::min(*common, f) : std::max(*common, f);
    }
  }
  for (size_t i = 0; i < axes.size(); ++i) {
    int64_t& d = out[static_cast<size_t>(axes[i])];
    if (!sizes || !known((*sizes)[i])) { d = -1; continue; }
    if ((*sizes)[i] < 0) s.fail(fmt::format("a size is {}", (*sizes)[i]));
    d = common ? static_cast<int64_t>(std::floor(static_cast<float>(d) * *common + 0.5F)) : (*sizes)[i];
  }
  return {RuleScope::make(s.dtype(0), out)};
}

// Trades between channels and the last two axes.
Outputs depth_space(const RuleScope& s, bool to_space) {
  s.in(0);
  s.need_rank(0, 4, 4);
  const int64_t b = s.node.integer("blocksize", 0);
  if (b < 1 || b > (1 << 20)) s.fail("attribute 'blocksize' must be at least 1");
  const Dims* x = s.dims(0);
  if (!x) return {RuleScope::make(s.dtype(0), Dims{-1, -1, -1, -1})};
  Dims out = *x;
  auto times = [&](int64_t& d, int64_t f) {
    if (d >= 0 && __builtin_mul_overflow(d, f, &d)) s.fail("the output is too large");
  };
  auto over = [&](int64_t& d, int64_t f) {
    if (d < 0) return;
    if (d % f != 0) s.fail(fmt::format("input of shape {} is no multiple of the block size {}", to_string(*x), b));
    d /= f;
  };
  if (to_space) { over(out[1], b * b); times(out[2], b); times(out[3], b); }
  else { times(out[1], b * b); over(out[2], b); over(out[3], b); }
  return {RuleScope::make(s.dtype(0), out)};
}

Outputs depth_to_space(const RuleScope& s) { return depth_space(s, true); }
Outputs space_to_depth(const RuleScope& s) { return depth_space(s, false); }

}  // namespace

void add_resize_rules(RuleTable& t) {
  t.add("Upsample", upsample);
  t.add("Resize", resize);
  t.add("DepthToSpace", depth_to_space);
  t.add("SpaceToDepth", space_to_depth);
}

}  // namespace quern::shape_rules
