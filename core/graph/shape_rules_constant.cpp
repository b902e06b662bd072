// Sources: constants, ranges, and operators that ask for a shape.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/graph/shape_rules.hpp"

namespace quern::shape_rules {
namespace {

Outputs constant(const RuleScope& s) {
  const auto& a = s.node.attributes;
  auto size = [](size_t n) { return Dims{static_cast<int64_t>(n)}; };
  for (const auto& [key, value] : a) {
    if (key == "value")
      if (auto* t = std::get_if<Tensor>(&value)) {
        KnownTensor out = RuleScope::make(t->type(), t->dims());
        if (t->count() <= data_limit) out.shape_data = std::make_shared<const Tensor>(*t);
        return {out};
      }
    if (key == "value_int") return {RuleScope::make_data(DType::s64, {}, {s.node.integer(key, 0)})};
    if (key == "value_float") return {RuleScope::make(DType::f32, Dims{})};
    if (key == "value_ints") {
      const auto v = s.node.integers(key);
      return {RuleScope::make_data(DType::s64, size(v.size()), v)};
    }
    if (key == "value_floats") return {RuleScope::make(DType::f32, size(s.node.reals(key).size()))};
  }
  s.fail("holds no value of a kind that Quern knows");
}

Outputs shape(const RuleScope& s) {
  s.in(0);
  const Dims* x = s.dims(0);
  if (!x) return {RuleScope::make(DType::s64, Dims{-1})};
  const auto rank = static_cast<int64_t>(x->size());
  auto bound = [&](const char* key, int64_t fallback) {
    int64_t v = s.node.integer(key, fallback);
    if (v < 0) v += rank;
    return std::clamp<int64_t>(v, 0, rank);
  };
  const int64_t from = bound("start", 0), to = std::max(from, bound("end", rank));
  Ints v(x->begin() + from, x->begin() + to);
  for (int64_t& d : v) d = d < 0 ? unknown_element : d;
  return {RuleScope::make_data(DType::s64, {to - from}, v)};
}

Outputs size(const RuleScope& s) {
  s.in(0);
  const int64_t n = s.dims(0) ? product_or_unknown(*s.dims(0)) : -1;
  if (n < 0) return {RuleScope::make(DType::s64, Dims{})};
  return {RuleScope::make_data(DType::s64, {}, {n})};
}

Outputs constant_of_shape(const RuleScope& s) {
  s.in(0);
  DType type = DType::f32;
  int64_t fill = 0;
  if (auto it = s.node.attributes.find("value"); it != s.node.attributes.end())
    if (auto* t = std::get_if<Tensor>(&it->second)) {
      if (t->count() != 1) s.fail("attribute 'value' must hold one element");
      type = t->type();
      if (type == DType::s64) fill = t->values<int64_t>()[0];
    }
  auto dims = s.ints(0);
  if (!dims) {
    const Dims* d = s.dims(0);
    if (d && d->size() == 1 && (*d)[0] >= 0 && (*d)[0] <= 64)
      return {RuleScope::make(type, Dims(static_cast<size_t>((*d)[0]), -1))};
    return {RuleScope::make(type, std::nullopt)};
  }
  for (int64_t& d : *dims) {
    if (!known(d)) d = -1;
    else if (d < 0) s.fail(fmt::format("the shape has an entry of {}", d));
  }
  const int64_t n = product_or_unknown(*dims);
  if (type == DType::s64 && n >= 0 && n <= data_limit)
    return {RuleScope::make_data(type, *dims, Ints(static_cast<size_t>(n), fill))};
  return {RuleScope::make(type, *dims)};
}

Outputs range(const RuleScope& s) {
  s.in(0), s.in(1), s.in(2);
  const DType type = s.same_type(0, 3);
  auto a = s.known_ints(0), b = s.known_ints(1), c = s.known_ints(2);
  if (a && b && c && a->size() == 1 && b->size() == 1 && c->size() == 1) {
    const int64_t from = a->front(), to = b->front(), by = c->front();
    if (by == 0) s.fail("the step is 0");
    const double n = std::max(0.0, std::ceil((static_cast<double>(to) - static_cast<double>(from)) / static_cast<double>(by)));
    if (n > 1e15) s.fail("the range is too long");
    const auto count = static_cast<int64_t>(n);
    if (count > data_limit) return {RuleScope::make(type, Dims{count})};
    Ints v;
    for (int64_t i = 0; i < count; ++i) v.push_back(from + i * by);
    return {RuleScope::make_data(type, {count}, v)};
  }
  auto x = s.floats(0), y = s.floats(1), z = s.floats(2);
  if (x && y && z && x->size() == 1 && y->size() == 1 && z->size() == 1 && z->front() != 0) {
    const double n = std::ceil((static_cast<double>(y->front()) - x->front()) / z->front());
    if (n < 1e15) return {RuleScope::make(type, Dims{std::max<int64_t>(0, static_cast<int64_t>(n))})};
  }
  return {RuleScope::make(type, Dims{-1})};
}

Outputs eye_like(const RuleScope& s) {
  s.in(0);
  const auto type = static_cast<DType>(s.node.integer("dtype", static_cast<int64_t>(s.dtype(0))));
  return {RuleScope::make(type, s.like(0).dims)};
}

}  // namespace

void add_constant_rules(RuleTable& t) {
  t.add("Constant", constant);
  t.add("Shape", shape);
  t.add("Size", size);
  t.add("ConstantOfShape", constant_of_shape);
  t.add("Range", range);
  t.add("EyeLike", eye_like);
}

}  // namespace quern::shape_rules
