// Reductions over axes.
#include <algorithm>
#include <fmt/format.h>

#include "core/graph/shape_rules.hpp"

namespace quern::shape_rules {
namespace {

KnownTensor reduced(const RuleScope& s, DType type, const std::optional<Ints>& axes, bool keep) {
  const Dims* x = s.dims(0);
  if (!x) return RuleScope::make(type, std::nullopt);
  const auto rank = static_cast<int64_t>(x->size());
  if (!axes) return RuleScope::make(type, keep ? std::optional(Dims(x->size(), -1)) : std::nullopt);
  std::vector<char> gone(x->size(), axes->empty());
  for (int64_t a : *axes) gone[static_cast<size_t>(s.axis(a, rank))] = 1;
  Dims out;
  for (size_t i = 0; i < x->size(); ++i)
    if (!gone[i]) out.push_back((*x)[i]);
    else if (keep) out.push_back(1);
  return RuleScope::make(type, out);
}

Outputs reduce(const RuleScope& s) {
  s.in(0);
  const auto axes = s.axes("axes", 1);
  const bool keep = s.node.integer("keepdims", 1) != 0;
  if (axes && axes->empty() && s.node.integer("noop_with_empty_axes", 0)) return {s.like(0)};
  KnownTensor out = reduced(s, s.dtype(0), axes, keep);
  // The size of a shape, a usual way to flatten.
  auto v = s.ints(0);
  if (v && axes && s.dims(0) && s.dims(0)->size() == 1 && out.dims && !v->empty() && s.dtype(0) == DType::s64) {
    const std::string& op = s.node.op;
    int64_t r = v->front();
    for (size_t i = 1; i < v->size(); ++i) {
      const int64_t e = (*v)[i];
      if (!known(e) || !known(r)) { r = unknown_element; break; }
      if (op == "ReduceProd") { if (__builtin_mul_overflow(r, e, &r)) r = unknown_element; }
      else if (op == "ReduceSum") { if (__builtin_add_overflow(r, e, &r)) r = unknown_element; }
      else if (op == "ReduceMax") r = std::max(r, e);
      else if (op == "ReduceMin") r = std::min(r, e);
      else return {out};
    }
    if (op == "ReduceProd" || op == "ReduceSum" || op == "ReduceMax" || op == "ReduceMin")
      return {RuleScope::make_data(DType::s64, *out.dims, {r})};
  }
  return {out};
}

Outputs arg(const RuleScope& s) {
  s.in(0);
  return {reduced(s, DType::s64, Ints{s.node.integer("axis", 0)}, s.node.integer("keepdims", 1) != 0)};
}

}  // namespace

void add_reduce_rules(RuleTable& t) {
  t.add({"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum",
         "ReduceLogSumExp", "ReduceSumSquare"}, reduce);
  t.add({"ArgMax", "ArgMin"}, arg);
}

}  // namespace quern::shape_rules
