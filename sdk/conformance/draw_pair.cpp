// Operators of several tensors, and those that reduce or resample one.
#include <algorithm>
#include <set>

#include "sdk/conformance/drawing.hpp"

namespace quern::conform {
namespace {

Dims any_dims(Pencil& p, const std::string& role, int64_t usual) {
  const int64_t rank = p.limits.rank(role, p.source.one_in(3) ? p.source.pick(1, usual) : usual, p.source);
  Dims dims;
  for (int64_t i = 0; i < rank; ++i) dims.push_back(i == 0 && rank > 2 ? p.source.pick(1, 2) : i == 1 ? p.channels() : p.source.pick(1, 7));
  return dims;
}

// Two tensors of one shape, or one of them broadcast. In the arithmetic style every code meets every code.
void draw_binary(Pencil& p) {
  Dims a{1, 1, 256, 256};
  if (p.sweeping()) a = any_dims(p, "a", 4);
  else if (const int64_t rank = p.limits.rank("a", 4, p.source); rank < 4) a.erase(a.begin(), a.begin() + (4 - std::max<int64_t>(2, rank)));
  Dims b = a;
  if (p.sweeping()) {
    const int64_t kind = p.source.pick(0, 5);
    if (kind == 3) for (size_t i = 0; i < b.size(); ++i) if (i != 1) b[i] = 1;          // one number a channel
    if (kind == 4) b.assign(b.size(), 1);                                                 // one number
    if (kind == 5 && b.size() > 1) b.erase(b.begin());                                    // a lower rank
  }
  const bool fixed = p.limits.constant("b") || (!p.limits.variable("b") && p.sweeping() && p.source.one_in(5));
  const bool swapped = !fixed && p.sweeping() && p.source.one_in(6) && b.size() == a.size();
  p.input("a", swapped ? b : a);
  if (fixed) p.constant("b", b);
  else p.input("b", swapped ? a : b);
}

void draw_concat(Pencil& p) {
  Dims dims = p.sweeping() ? any_dims(p, "in0", 4) : Dims{1, 1, 16, 16};
  const auto axis = p.limits.number("axis", dims.size() > 1 ? p.source.pick(0, 1) ? 1 : p.source.pick(0, static_cast<int64_t>(dims.size()) - 1) : 0);
  const int64_t count = p.source.pick(2, 4);
  for (int64_t i = 0; i < count; ++i) {
    Dims one = dims;
    if (p.sweeping() && axis >= 0 && axis < static_cast<int64_t>(dims.size())) one[static_cast<size_t>(axis)] = p.source.pick(1, 9);
    p.input("in" + std::to_string(i), one);
  }
  p.node.attributes["axis"] = axis;
}

void draw_many(Pencil& p) {
  const Dims dims = any_dims(p, "in0", 4);
  const int64_t count = p.source.pick(2, 4);
  for (int64_t i = 0; i < count; ++i) p.input("in" + std::to_string(i), dims);
}

void draw_reduce(Pencil& p) {
  const Dims dims = p.sweeping() ? any_dims(p, "input", 4) : Dims{1024, 4};
  p.input("input", dims);
  std::vector<int64_t> axes;
  const auto rank = static_cast<int64_t>(dims.size());
  for (int64_t a = 0; a < rank; ++a)
    if (p.sweeping() ? p.source.one_in(2) : a == rank - 1) axes.push_back(p.source.one_in(4) ? a - rank : a);
  if (axes.empty()) axes.push_back(rank - 1);
  const bool by_input = p.node.since_version >= 18 || (p.node.op == "ReduceSum" && p.node.since_version >= 13);
  if (by_input) p.integers("axes", axes);
  else p.node.attributes["axes"] = axes;
  p.node.attributes["keepdims"] = p.limits.number("keepdims", p.source.pick(0, 1));
  if (by_input) p.node.attributes["noop_with_empty_axes"] = p.limits.number("noop_with_empty_axes", 0);
}

void draw_resize(Pencil& p) {
  static const char* const modes[] = {"nearest", "linear"};
  static const char* const places[] = {"half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"};
  static const char* const roundings[] = {"round_prefer_floor", "floor", "ceil", "round_prefer_ceil"};
  const int64_t rank = p.limits.rank("input", 4, p.source);
  Dims dims{1, p.sweeping() ? p.channels() : 1};
  while (static_cast<int64_t>(dims.size()) < rank) dims.push_back(p.sweeping() ? p.source.pick(1, 6) : 16);
  dims.resize(static_cast<size_t>(rank));
  p.input("input", dims);
  std::vector<int64_t> sizes = dims;
  for (size_t i = 2; i < sizes.size(); ++i) sizes[i] = p.sweeping() ? p.source.pick(1, 11) : 31;
  p.absent();
  p.absent();
  p.integers("sizes", sizes);
  p.node.attributes["mode"] = p.limits.text("mode", p.source.one_of(modes));
  p.node.attributes["coordinate_transformation_mode"] = p.limits.text("coordinate_transformation_mode", p.source.one_of(places));
  p.node.attributes["nearest_mode"] = p.limits.text("nearest_mode", p.source.one_of(roundings));
  for (const char* name : {"antialias", "exclude_outside"})
    if (p.limits.limits(name)) p.node.attributes[name] = p.limits.number(name, 0);
}

}  // namespace

bool draw_pair(Pencil& p) {
  const std::string& op = p.node.op;
  static const std::set<std::string> pairs = {"Add", "Sub", "Mul", "Div", "Max", "Min"}, many = {"Sum", "Mean"},
                                     reductions = {"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"};
  if (pairs.count(op)) draw_binary(p);
  else if (op == "Concat") draw_concat(p);
  else if (many.count(op)) draw_many(p);
  else if (reductions.count(op)) draw_reduce(p);
  else if (op == "Resize") draw_resize(p);
  else return false;
  return true;
}

}  // namespace quern::conform
