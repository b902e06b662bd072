// Operators that move elements: reshape, transpose, join, cut, repeat.
#include <fmt/format.h>

#include <algorithm>

#include "core/base/error.hpp"
#include "core/graph/shape_rules.hpp"

namespace quern::shape_rules {
namespace {

// Data passes through where the order of elements stays (rows and scalars).
KnownTensor with_data_of(const RuleScope& s, size_t i, KnownTensor out) {
  auto v = s.ints(i);
  if (!v || !out.dims || product_or_unknown(*out.dims) != static_cast<int64_t>(v->size())) return out;
  return RuleScope::make_data(out.dtype, *out.dims, *v);
}

Outputs reshape(const RuleScope& s) {
  s.in(0);
  std::optional<Ints> target;
  if (s.node.has("shape") && !s.given(1)) target = s.node.integers("shape");
  else { s.in(1); target = s.ints(1); }
  if (!target) {
    const Dims* shape = s.dims(1);  // the rank, at least
    if (shape && shape->size() == 1 && (*shape)[0] >= 0 && (*shape)[0] <= 64)
      return {RuleScope::make(s.dtype(0), Dims(static_cast<size_t>((*shape)[0]), -1))};
    return {RuleScope::make(s.dtype(0), std::nullopt)};
  }
  const Dims* x = s.dims(0);
  const bool zeros_stay = s.node.integer("allowzero", 0) != 0;
  Dims out;
  int64_t infer = -1;
  bool unknown = false;
  for (size_t i = 0; i < target->size(); ++i) {
    int64_t d = (*target)[i];
    if (!known(d)) { unknown = true; out.push_back(-1); continue; }
    if (d == 0 && !zeros_stay) {
      if (x && i >= x->size()) s.fail(fmt::format("shape entry {} is 0, but the input {} has no such axis", i, to_string(*x)));
      d = x ? (*x)[i] : -1;
      unknown = unknown || d < 0;
      out.push_back(d);
      continue;
    }
    if (d == -1) {
      if (infer >= 0) s.fail("the shape has two entries of -1");
      infer = static_cast<int64_t>(i);
    } else if (d < -1) {
      s.fail(fmt::format("the shape has an entry of {}", d));
    }
    out.push_back(d);
  }
  const int64_t total = x ? product_or_unknown(*x) : -1;
  if (infer >= 0 && !unknown && total >= 0) {
    int64_t rest = 1;
    for (size_t i = 0; i < out.size(); ++i)
      if (static_cast<int64_t>(i) != infer && __builtin_mul_overflow(rest, out[i], &rest)) s.fail("the shape is too large");
    if (rest == 0 ? total != 0 : total % rest != 0)
      s.fail(fmt::format("an input of shape {} can't be given the shape {}", to_string(*x), to_string(out)));
    out[static_cast<size_t>(infer)] = rest == 0 ? 0 : total / rest;
  } else if (infer >= 0 && x && total < 0) {
    // Unknown axes that appear on both sides at the same place cancel: [N,64,7,7] with [0,-1] is [N,3136].
    Dims left = *x, right;
    bool clear = true;
    for (size_t i = 0; i < out.size(); ++i) {
      if (static_cast<int64_t>(i) == infer) continue;
      const bool copied = (*target)[i] == 0 && !zeros_stay;
      if (copied && out[i] < 0) left[i] = 1;
      else if (out[i] < 0) clear = false;
      else right.push_back(out[i]);
    }
    const int64_t l = product_or_unknown(left), r = product_or_unknown(right);
    if (clear && l >= 0 && r > 0) {
      if (l % r != 0) s.fail(fmt::format("an input of shape {} can't be given the shape {}", to_string(*x), to_string(out)));
      out[static_cast<size_t>(infer)] = l / r;
    }
  } else if (infer < 0 && !unknown && total >= 0 && product_or_unknown(out) != total) {
    s.fail(fmt::format("an input of shape {} can't be given the shape {}", to_string(*x), to_string(out)));
  } else if (infer < 0 && total >= 0 && std::count(out.begin(), out.end(), -1) == 1) {
    int64_t rest = 1;
    for (int64_t d : out) rest *= d < 0 ? 1 : std::max<int64_t>(d, 1);
    if (total > 0 && total % rest == 0) std::replace(out.begin(), out.end(), int64_t{-1}, total / rest);
  }
  return {with_data_of(s, 0, RuleScope::make(s.dtype(0), out))};
}

Outputs flatten(const RuleScope& s) {
  s.in(0);
  const Dims* x = s.dims(0);
  if (!x) return {RuleScope::make(s.dtype(0), Dims{-1, -1})};
  const auto rank = static_cast<int64_t>(x->size());
  int64_t axis = s.node.integer("axis", 1);
  if (axis < -rank || axis > rank) s.fail(fmt::format("axis {} is outside the {} dimensions of its tensor", axis, rank));
  if (axis < 0) axis += rank;
  const auto cut = static_cast<size_t>(axis);
  return {RuleScope::make(s.dtype(0), Dims{product_or_unknown(std::span(*x).first(cut)),
                                           product_or_unknown(std::span(*x).subspan(cut))})};
}

Outputs transpose(const RuleScope& s) {
  s.in(0);
  const Dims* x = s.dims(0);
  if (!x) return {s.like(0)};
  Ints perm = s.node.integers("perm");
  if (perm.empty())
    for (size_t i = x->size(); i-- > 0;) perm.push_back(static_cast<int64_t>(i));
  if (perm.size() != x->size()) s.fail(fmt::format("attribute 'perm' does not fit an input of shape {}", to_string(*x)));
  std::vector<char> used(perm.size(), 0);
  Dims out;
  for (int64_t p : perm) {
    if (p < 0 || p >= static_cast<int64_t>(perm.size()) || used[static_cast<size_t>(p)]++)
      s.fail(fmt::format("attribute 'perm' {} is no permutation", to_string(perm)));
    out.push_back((*x)[static_cast<size_t>(p)]);
  }
  KnownTensor result = RuleScope::make(s.dtype(0), out);
  return {out.size() <= 1 ? with_data_of(s, 0, result) : result};
}

Outputs squeeze(const RuleScope& s) {
  s.in(0);
  const auto axes = s.axes("axes", 1);
  const Dims* x = s.dims(0);
  if (!x || !axes) return {RuleScope::make(s.dtype(0), std::nullopt)};
  std::vector<char> gone(x->size(), 0);
  if (axes->empty() && !s.node.has("axes") && !s.given(1)) {
    for (size_t i = 0; i < x->size(); ++i) {
      if ((*x)[i] < 0) return {RuleScope::make(s.dtype(0), std::nullopt)};
      gone[i] = (*x)[i] == 1;
    }
  }
  for (int64_t a : *axes) {
    const auto i = static_cast<size_t>(s.axis(a, static_cast<int64_t>(x->size())));
    if ((*x)[i] >= 0 && (*x)[i] != 1)
      s.fail(fmt::format("axis {} of the input of shape {} is not 1 and can't be squeezed", a, to_string(*x)));
    gone[i] = 1;
  }
  Dims out;
  for (size_t i = 0; i < x->size(); ++i)
    if (!gone[i]) out.push_back((*x)[i]);
  return {with_data_of(s, 0, RuleScope::make(s.dtype(0), out))};
}

Outputs unsqueeze(const RuleScope& s) {
  s.in(0);
  const auto axes = s.axes("axes", 1);
  const Dims* x = s.dims(0);
  if (!x || !axes) return {RuleScope::make(s.dtype(0), std::nullopt)};
  const auto rank = static_cast<int64_t>(x->size() + axes->size());
  std::vector<char> fresh(static_cast<size_t>(rank), 0);
  for (int64_t a : *axes)
    if (fresh[static_cast<size_t>(s.axis(a, rank))]++) s.fail(fmt::format("axis {} is named twice", a));
  Dims out;
  size_t from = 0;
  for (char f : fresh) out.push_back(f ? 1 : (*x)[from++]);
  return {with_data_of(s, 0, RuleScope::make(s.dtype(0), out))};
}

Outputs concat(const RuleScope& s) {
  s.in(0);
  const DType type = s.same_type(0, s.count());
  std::optional<Dims> out;
  int64_t axis = 0, total = 0;
  for (size_t i = 0; i < s.count(); ++i) {
    const Dims* d = s.dims(i);
    if (!d) { total = -1; continue; }
    if (!out) {
      out = *d;
      axis = s.axis(s.node.integer("axis", 1), static_cast<int64_t>(d->size()));
    } else {
      if (d->size() != out->size())
        s.fail(fmt::format("input {} has shape {}, another one {}", i, to_string(*d), to_string(*out)));
      for (size_t k = 0; k < d->size(); ++k) {
        if (static_cast<int64_t>(k) == axis || (*d)[k] < 0) continue;
        if ((*out)[k] < 0) (*out)[k] = (*d)[k];
        if ((*out)[k] != (*d)[k])
          s.fail(fmt::format("input {} has shape {}, another one {}: they differ outside axis {}", i, to_string(*d),
                             to_string(*out), axis));
      }
    }
    const int64_t n = (*d)[static_cast<size_t>(axis)];
    total = total < 0 || n < 0 ? -1 : total + n;
  }
  if (!out) return {RuleScope::make(type, std::nullopt)};
  (*out)[static_cast<size_t>(axis)] = total;
  if (out->size() == 1 && total >= 0 && total <= data_limit) {
    Ints all;
    bool any = false;
    for (size_t i = 0; i < s.count(); ++i) {
      auto v = s.ints(i);
      any = any || v.has_value();
      if (!v) v = Ints(static_cast<size_t>((*s.dims(i))[0]), unknown_element);
      all.insert(all.end(), v->begin(), v->end());
    }
    if (any) return {RuleScope::make_data(type, *out, all)};
  }
  return {RuleScope::make(type, out)};
}

Outputs split(const RuleScope& s) {
  s.in(0);
  const size_t n = s.node.outputs.size();
  const Dims* x = s.dims(0);
  if (!x || n == 0) return Outputs(n, RuleScope::make(s.dtype(0), std::nullopt));
  const auto axis = static_cast<size_t>(s.axis(s.node.integer("axis", 0), static_cast<int64_t>(x->size())));
  const int64_t size = (*x)[axis];
  Ints parts;
  if (s.node.has("split")) parts = s.node.integers("split");
  else if (s.given(1)) {
    if (auto v = s.known_ints(1)) parts = *v;
    else parts.assign(n, -1);
  } else if (size < 0) {
    parts.assign(n, -1);
  } else {
    const auto count = static_cast<int64_t>(n);
    if (s.node.integer("num_outputs", count) != count) s.fail("attribute 'num_outputs' is not the number of outputs");
    if (size % count != 0 && !s.node.has("num_outputs"))
      s.fail(fmt::format("axis {} of the input of shape {} can't be split into {} equal parts", axis, to_string(*x), n));
    const int64_t part = (size + count - 1) / count;
    for (int64_t left = size; static_cast<int64_t>(parts.size()) < count; left -= part)
      parts.push_back(std::clamp<int64_t>(left, 0, part));
  }
  if (parts.size() != n) s.fail(fmt::format("{} sizes are given for {} outputs", parts.size(), n));
  int64_t sum = 0;
  for (int64_t p : parts) sum = sum < 0 || p < 0 ? -1 : sum + p;
  if (sum >= 0 && size >= 0 && sum != size)
    s.fail(fmt::format("the sizes add up to {}; axis {} of the input of shape {} is {}", sum, axis, to_string(*x), size));
  Outputs out;
  auto v = x->size() == 1 && sum >= 0 ? s.ints(0) : std::nullopt;
  int64_t at = 0;
  for (int64_t p : parts) {
    Dims d = *x;
    d[axis] = p;
    if (v) out.push_back(RuleScope::make_data(s.dtype(0), d, Ints(v->begin() + at, v->begin() + at + p)));
    else out.push_back(RuleScope::make(s.dtype(0), d));
    at += p;
  }
  return out;
}

Outputs expand(const RuleScope& s) {
  s.in(0), s.in(1);
  auto target = s.ints(1);
  const Dims* x = s.dims(0);
  if (!x || !target) return {RuleScope::make(s.dtype(0), std::nullopt)};
  for (int64_t& d : *target) {
    if (d < 0 && known(d)) s.fail(fmt::format("the shape has an entry of {}", d));
    if (!known(d)) d = -1;
  }
  Dims out;
  try {
    out = broadcast(*x, *target);
  } catch (const Error& e) {
    s.fail(e.message());
  }
  if (auto v = s.ints(0); v && v->size() == 1 && out.size() <= 1 && product_or_unknown(out) >= 0 &&
                          product_or_unknown(out) <= data_limit)
    return {RuleScope::make_data(s.dtype(0), out, Ints(static_cast<size_t>(product_or_unknown(out)), v->front()))};
  return {RuleScope::make(s.dtype(0), out)};
}

Outputs tile(const RuleScope& s) {
  s.in(0), s.in(1);
  const Dims* x = s.dims(0);
  auto repeats = s.ints(1);
  if (!x) return {s.like(0)};
  if (repeats && repeats->size() != x->size()) s.fail(fmt::format("{} repeats for an input of shape {}", repeats->size(), to_string(*x)));
  Dims out(x->size(), -1);
  for (size_t i = 0; repeats && i < out.size(); ++i) {
    if (!known((*repeats)[i])) continue;
    if ((*repeats)[i] < 0) s.fail("a repeat is negative");
    if ((*x)[i] >= 0 && __builtin_mul_overflow((*x)[i], (*repeats)[i], &out[i])) s.fail("the output is too large");
    if (out[i] > int64_t{1} << 48) s.fail("the output is too large");
  }
  return {RuleScope::make(s.dtype(0), out)};
}

Outputs pad(const RuleScope& s) {
  s.in(0);
  const Dims* x = s.dims(0);
  if (!x) return {s.like(0)};
  std::optional<Ints> pads;
  if (s.node.has("pads")) pads = s.node.integers("pads");
  else { s.in(1); pads = s.ints(1); }
  const auto rank = static_cast<int64_t>(x->size());
  Ints axes;
  if (s.given(3)) {
    auto v = s.known_ints(3);
    if (!v) return {RuleScope::make(s.dtype(0), Dims(x->size(), -1))};
    for (int64_t a : *v) axes.push_back(s.axis(a, rank));
  } else {
    for (int64_t a = 0; a < rank; ++a) axes.push_back(a);
  }
  Dims out = *x;
  if (!pads) {
    for (int64_t a : axes) out[static_cast<size_t>(a)] = -1;
    return {RuleScope::make(s.dtype(0), out)};
  }
  if (pads->size() != axes.size() * 2)
    s.fail(fmt::format("{} pads for {} axes; two are needed for each", pads->size(), axes.size()));
  for (size_t i = 0; i < axes.size(); ++i) {
    int64_t& d = out[static_cast<size_t>(axes[i])];
    const int64_t before = (*pads)[i], after = (*pads)[i + axes.size()];
    if (!known(before) || !known(after)) { d = -1; continue; }
    constexpr int64_t most = int64_t{1} << 40;
    if (std::abs(before) > most || std::abs(after) > most) s.fail("a pad is too large");
    if (d < 0) continue;
    d += before + after;
    if (d < 0) s.fail(fmt::format("pads leave less than nothing of the input of shape {}", to_string(*x)));
  }
  return {RuleScope::make(s.dtype(0), out)};
}

}  // namespace

void add_layout_rules(RuleTable& t) {
  t.add("Reshape", reshape);
  t.add("Flatten", flatten);
  t.add("Transpose", transpose);
  t.add("Squeeze", squeeze);
  t.add("Unsqueeze", unsqueeze);
  t.add("Concat", concat);
  t.add("Split", split);
  t.add("Expand", expand);
  t.add("Tile", tile);
  t.add("Pad", pad);
}

}  // namespace quern::shape_rules
