// Operators that pick elements: slices, gathers, the best k.
#include <fmt/format.h>

#include <algorithm>

#include "core/graph/shape_rules.hpp"

namespace quern::shape_rules {
namespace {

Outputs slice(const RuleScope& s) {
  s.in(0);
  const bool old = s.node.has("starts");
  auto starts = old ? std::optional(s.node.integers("starts")) : s.ints(1);
  auto ends = old ? std::optional(s.node.integers("ends")) : s.ints(2);
  if (!old) s.in(1), s.in(2);
  auto axes = s.axes("axes", 3);
  auto steps = old || !s.given(4) ? std::optional(Ints{}) : s.known_ints(4);
  const Dims* x = s.dims(0);
  if (!x) return {s.like(0)};
  const auto rank = static_cast<int64_t>(x->size());
  const bool all_axes = !old && !s.given(3);
  size_t n = starts ? starts->size() : 0;
  if (!starts && axes && !(all_axes || (old && !s.node.has("axes")))) n = axes->size();
  else if (!starts && s.dims(1) && (*s.dims(1))[0] >= 0) n = static_cast<size_t>((*s.dims(1))[0]);
  if (!axes) return {RuleScope::make(s.dtype(0), Dims(x->size(), -1))};
  if (axes->empty())
    for (size_t i = 0; i < n; ++i) axes->push_back(static_cast<int64_t>(i));
  if ((starts && starts->size() != axes->size()) || (ends && ends->size() != axes->size()) ||
      (steps && !steps->empty() && steps->size() != axes->size()))
    s.fail("starts, ends, axes and steps differ in length");
  Dims out = *x;
  Ints first(x->size(), 0), step(x->size(), 1);
  for (size_t i = 0; i < axes->size(); ++i) {
    const auto a = static_cast<size_t>(s.axis((*axes)[i], rank));
    const int64_t size = (*x)[a];
    const int64_t by = !steps ? unknown_element : steps->empty() ? 1 : (*steps)[i];
    if (by == 0) s.fail("a step is 0");
    if (!starts || !ends || !known((*starts)[i]) || !known((*ends)[i]) || !known(by)) { out[a] = -1; continue; }
    int64_t from = (*starts)[i], to = (*ends)[i];
    if (size < 0) {
      // [:, 0:n] of an unknown axis: all of it stays unknown, except a slice that starts and ends at the same side.
      const bool whole = from == 0 && to >= (int64_t{1} << 31) - 1 && by == 1;
      if (!whole) out[a] = -1;
      continue;
    }
    if (from < 0) from += size;
    if (to < 0) to += size;
    if (by > 0) {
      from = std::clamp<int64_t>(from, 0, size);
      to = std::clamp<int64_t>(to, 0, size);
      out[a] = to > from ? (to - from - 1) / by + 1 : 0;
    } else {
      from = std::clamp<int64_t>(from, 0, std::max<int64_t>(size - 1, 0));
      to = std::clamp<int64_t>(to, -1, size - 1);
      out[a] = from > to && size > 0 ? (from - to - 1) / -by + 1 : 0;
    }
    first[a] = from;
    step[a] = by;
  }
  if (auto v = s.ints(0); v && out.size() == 1 && out[0] >= 0) {
    Ints picked;
    for (int64_t i = 0; i < out[0]; ++i) picked.push_back((*v)[static_cast<size_t>(first[0] + i * step[0])]);
    return {RuleScope::make_data(s.dtype(0), out, picked)};
  }
  return {RuleScope::make(s.dtype(0), out)};
}

Outputs gather(const RuleScope& s) {
  s.in(0), s.in(1);
  const Dims *x = s.dims(0), *i = s.dims(1);
  if (!x || !i) return {RuleScope::make(s.dtype(0), std::nullopt)};
  s.need_rank(0, 1, 1000);
  const auto axis = static_cast<size_t>(s.axis(s.node.integer("axis", 0), static_cast<int64_t>(x->size())));
  Dims out(x->begin(), x->begin() + static_cast<std::ptrdiff_t>(axis));
  out.insert(out.end(), i->begin(), i->end());
  out.insert(out.end(), x->begin() + static_cast<std::ptrdiff_t>(axis) + 1, x->end());
  auto index = s.known_ints(1);
  if (index && (*x)[axis] >= 0)
    for (int64_t e : *index)
      if (e < -(*x)[axis] || e >= (*x)[axis])
        s.fail(fmt::format("index {} is outside axis {} of the input of shape {}", e, axis, to_string(*x)));
  if (auto v = s.ints(0); v && index && x->size() == 1) {
    Ints picked;
    for (int64_t e : *index) picked.push_back((*v)[static_cast<size_t>(e < 0 ? e + static_cast<int64_t>(v->size()) : e)]);
    return {RuleScope::make_data(s.dtype(0), out, picked)};
  }
  return {RuleScope::make(s.dtype(0), out)};
}

Outputs gather_elements(const RuleScope& s) {
  s.in(0), s.in(1);
  if (s.dims(0) && s.dims(1) && s.dims(0)->size() != s.dims(1)->size()) s.fail("data and indices differ in rank");
  return {RuleScope::make(s.dtype(0), s.like(1).dims)};
}

Outputs gather_nd(const RuleScope& s) {
  s.in(0), s.in(1);
  const Dims *x = s.dims(0), *i = s.dims(1);
  if (!x || !i || i->empty() || i->back() < 0) return {RuleScope::make(s.dtype(0), std::nullopt)};
  const auto batch = s.node.integer("batch_dims", 0);
  const auto rank = static_cast<int64_t>(x->size());
  if (batch < 0 || batch >= static_cast<int64_t>(i->size()) || batch + i->back() > rank)
    s.fail(fmt::format("indices of shape {} do not fit data of shape {}", to_string(*i), to_string(*x)));
  Dims out(i->begin(), i->end() - 1);
  out.insert(out.end(), x->begin() + static_cast<std::ptrdiff_t>(batch + i->back()), x->end());
  return {RuleScope::make(s.dtype(0), out)};
}

Outputs top_k(const RuleScope& s) {
  s.in(0);
  std::optional<Ints> k;
  if (s.node.has("k")) k = Ints{s.node.integer("k", 0)};
  else { s.in(1); k = s.known_ints(1); }
  const Dims* x = s.dims(0);
  if (!x) return {s.like(0), RuleScope::make(DType::s64, std::nullopt)};
  Dims out = *x;
  const auto axis = static_cast<size_t>(s.axis(s.node.integer("axis", -1), static_cast<int64_t>(x->size())));
  out[axis] = k && k->size() == 1 ? k->front() : -1;
  if (k && k->size() == 1 && (k->front() < 0 || ((*x)[axis] >= 0 && k->front() > (*x)[axis])))
    s.fail(fmt::format("k is {}, axis {} of the input of shape {} is smaller", k->front(), axis, to_string(*x)));
  return {RuleScope::make(s.dtype(0), out), RuleScope::make(DType::s64, out)};
}

Outputs non_max_suppression(const RuleScope& s) { return s.in(0), s.in(1), Outputs{RuleScope::make(DType::s64, Dims{-1, 3})}; }

Outputs non_zero(const RuleScope& s) {
  s.in(0);
  const Dims* x = s.dims(0);
  return {RuleScope::make(DType::s64, Dims{x ? static_cast<int64_t>(x->size()) : -1, -1})};
}

Outputs one_hot(const RuleScope& s) {
  s.in(0), s.in(1), s.in(2);
  const Dims* x = s.dims(0);
  if (!x) return {RuleScope::make(s.dtype(2), std::nullopt)};
  Dims out = *x;
  const int64_t axis = s.axis(s.node.integer("axis", -1), static_cast<int64_t>(x->size()), 1);
  auto depth = s.known_ints(1);
  if (!depth)
    if (auto f = s.floats(1); f && f->size() == 1) depth = Ints{static_cast<int64_t>(f->front())};
  if (depth && (depth->size() != 1 || depth->front() < 0)) s.fail("the depth is no size");
  out.insert(out.begin() + axis, depth ? depth->front() : -1);
  return {RuleScope::make(s.dtype(2), out)};
}

Outputs compress(const RuleScope& s) {
  s.in(0), s.in(1);
  const Dims* x = s.dims(0);
  if (!s.node.has("axis")) return {RuleScope::make(s.dtype(0), Dims{-1})};
  if (!x) return {s.like(0)};
  Dims out = *x;
  out[static_cast<size_t>(s.axis(s.node.integer("axis", 0), static_cast<int64_t>(x->size())))] = -1;
  return {RuleScope::make(s.dtype(0), out)};
}

Outputs grid_sample(const RuleScope& s) {
  s.in(0), s.in(1);
  const Dims *x = s.dims(0), *g = s.dims(1);
  if (!x || !g) return {RuleScope::make(s.dtype(0), std::nullopt)};
  if (x->size() < 3 || g->size() != x->size()) s.fail("grid and input differ in rank");
  Dims out{(*x)[0], (*x)[1]};
  out.insert(out.end(), g->begin() + 1, g->end() - 1);
  return {RuleScope::make(s.dtype(0), out)};
}

}  // namespace

void add_select_rules(RuleTable& t) {
  t.add("Slice", slice);
  t.add("Gather", gather);
  t.add("GatherElements", gather_elements);
  t.add("GatherND", gather_nd);
  t.add("TopK", top_k);
  t.add("NonMaxSuppression", non_max_suppression);
  t.add("NonZero", non_zero);
  t.add("OneHot", one_hot);
  t.add("Compress", compress);
  t.add("GridSample", grid_sample);
}

}  // namespace quern::shape_rules
