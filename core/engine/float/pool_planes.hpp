// Windows over planes whose channels lie innermost, the usual case of pooling: rank 4, dense channels. Sixteen channels at a time
// stay in registers while the taps pass, in row-major order of the window, as in the general loops of pooling.cpp: the same bytes.
#pragma once
#include <omp.h>

#include <algorithm>
#include <cstring>

#include "core/base/tensor.hpp"
#include "core/graph/shapes.hpp"

namespace quern::own {

inline bool is_planes(const TensorView& x, const TensorView& y) { return x.dims.size() == 4 && x.strides[1] == 1 && y.strides[1] == 1; }

// The taps of one axis that lie inside, and how many lie inside of the padded input.
struct Taps {
  int64_t first, last, start, counted;
  Taps(const Window& w, size_t axis, int64_t place, int64_t n) {
    const int64_t d = w.dilation[axis], kernel = w.kernel[axis], limit = n + w.pad_end[axis];
    start = place * w.stride[axis] - w.pad_begin[axis];
    first = start < 0 ? (-start + d - 1) / d : 0;
    last = start >= n ? 0 : std::min(kernel, (n - start + d - 1) / d);
    counted = start >= limit ? 0 : std::min(kernel, (limit - start + d - 1) / d);
  }
  int64_t inside() const { return std::max<int64_t>(0, last - first); }
};

// Numbers that the compiler keeps in one register of 16 bytes, with the operators of numbers.
template <class T, int lanes>
struct Lanes { typedef T type __attribute__((vector_size(lanes * sizeof(T)))); };

// y = finish(fold(fold(start, x0), x1) ..., taps inside, taps inside of the padding). Acc: what is folded in. `vectors`: fold works on Lanes too.
template <class T, class Acc, bool vectors, class Fold, class Finish>
void over_planes(const Window& w, const TensorView& x, const TensorView& y, Acc start, const Fold& fold, const Finish& finish) {
  constexpr int64_t wide = 16;
  const int64_t channels = x.dims[1], rows = y.dims[0] * y.dims[2];
  const auto some = [&](const T* from, const Taps& r, const Taps& c, T* to, int64_t inside, int64_t counted, int64_t count) {
    Acc acc[wide];
    for (int64_t k = 0; k < count; ++k) acc[k] = start;
    for (int64_t i = r.first; i < r.last; ++i) {
      const T* p = from + (r.start + i * w.dilation[0]) * x.strides[2];
      for (int64_t j = c.first; j < c.last; ++j) {
        const T* tap = p + (c.start + j * w.dilation[1]) * x.strides[3];
        for (int64_t k = 0; k < count; ++k) acc[k] = fold(acc[k], static_cast<Acc>(tap[k]));
      }
    }
    for (int64_t k = 0; k < count; ++k) to[k] = finish(acc[k], inside, counted);
  };
  const auto sixteen = [&](auto number, const T* from, const Taps& r, const Taps& c, T* to, int64_t inside, int64_t counted) {
    constexpr int lanes = 16 / sizeof(number), parts = wide / lanes;
    using From = typename Lanes<T, lanes>::type;
    using V = typename Lanes<decltype(number), lanes>::type;
    V acc[parts];
#pragma GCC unroll 16
    for (int p = 0; p < parts; ++p) acc[p] = V{} + start;
    for (int64_t i = r.first; i < r.last; ++i) {
      const T* tap = from + (r.start + i * w.dilation[0]) * x.strides[2] + (c.start + c.first * w.dilation[1]) * x.strides[3];
      const int64_t step = w.dilation[1] * x.strides[3];
      for (int64_t j = c.first; j < c.last; ++j, tap += step)
#pragma GCC unroll 16
        for (int p = 0; p < parts; ++p) {
          From v;
          std::memcpy(&v, tap + p * lanes, sizeof v);
          acc[p] = fold(acc[p], __builtin_convertvector(v, V));
        }
    }
#pragma GCC unroll 16
    for (int p = 0; p < parts; ++p)
      for (int k = 0; k < lanes; ++k) to[p * lanes + k] = finish(acc[p][k], inside, counted);
  };
  const auto row = [&](int64_t at) {
    const int64_t b = at / y.dims[2], oy = at % y.dims[2];
    const Taps r(w, 0, oy, x.dims[2]);
    for (int64_t ox = 0; ox < y.dims[3]; ++ox) {
      const Taps c(w, 1, ox, x.dims[3]);
      const int64_t inside = r.inside() * c.inside(), counted = r.counted * c.counted;
      const T* from = x.as<const T>() + b * x.strides[0];
      T* to = y.as<T>() + b * y.strides[0] + oy * y.strides[2] + ox * y.strides[3];
      int64_t k = 0;
      if constexpr (vectors)
        for (; k + wide <= channels; k += wide) sixteen(Acc{}, from + k, r, c, to + k, inside, counted);
      for (; k < channels; k += wide) some(from + k, r, c, to + k, inside, counted, std::min(wide, channels - k));
    }
  };
  // A thread is worth its start from some 100,000 taps on; rows are independent, so their division changes nothing.
  const int64_t work = y.count() * w.kernel[0] * w.kernel[1];
  const int threads = static_cast<int>(std::clamp<int64_t>(work / 100'000, 1, std::min<int64_t>(omp_get_max_threads(), std::max<int64_t>(1, rows))));
  if (threads == 1) {
    for (int64_t i = 0; i < rows; ++i) row(i);
    return;
  }
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t i = 0; i < rows; ++i) row(i);
}

}  // namespace quern::own
