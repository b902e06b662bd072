// Operators of one tensor, element by element, f32 and f64: what `f` is given and what its result is rounded to.
#pragma once
#include "core/engine/float/families.hpp"
#include "core/engine/float/strided.hpp"

namespace quern::own {

template <class T, class F>
PreparedKernel mapped(const Op& op, F f) {
  return op.in_place(Layout::any, [f](const Call& c) { map1<T, T>(c.out[0], c.in[0], f); });
}

// f works in the type of the tensor: arithmetic that IEEE 754 fixes.
template <class F>
Made plain(const Op& op, F f) {
  if (op.type() == DType::f32) return mapped<float>(op, [f](float x) { return f(x); });
  if (op.type() == DType::f64) return mapped<double>(op, [f](double x) { return f(x); });
  return {};
}

// f works in double; f32 is rounded once.
template <class F>
Made in_double(const Op& op, F f) {
  if (op.type() == DType::f32) return mapped<float>(op, [f](float x) { return static_cast<float>(f(static_cast<double>(x))); });
  if (op.type() == DType::f64) return mapped<double>(op, f);
  return {};
}

}  // namespace quern::own
