// Loops over strided tensors: the same axes of several tensors walked together, merged where memory allows, in the order
// of the output's memory. Dense operands in the same order become one flat loop, whatever their layout.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <type_traits>

#include "core/base/error.hpp"
#include "core/base/tensor.hpp"

namespace quern::own {

inline constexpr size_t max_rank = 16;
using Strides = std::array<int64_t, max_rank>;

// N tensors; stride[k][axis] in elements. Axes go from outer to inner; there is always at least one.
template <size_t N>
struct Nest {
  size_t rank = 0;
  bool empty = false;
  Strides size{};
  std::array<Strides, N> stride{};
};

[[noreturn]] void rank_too_high(size_t rank);

template <size_t N>
Nest<N> make_nest(std::span<const int64_t> dims, const std::array<Strides, N>& strides) {
  if (dims.size() > max_rank) rank_too_high(dims.size());
  Nest<N> nest;
  std::array<size_t, max_rank> order{};
  size_t count = 0;
  for (size_t a = 0; a < dims.size(); ++a) {
    if (dims[a] == 0) nest.empty = true;
    if (dims[a] != 1) order[count++] = a;
  }
  // Insertion sort, stable: the largest stride of tensor 0 outside.
  for (size_t i = 1; i < count; ++i)
    for (size_t j = i; j > 0 && strides[0][order[j]] > strides[0][order[j - 1]]; --j) std::swap(order[j], order[j - 1]);
  for (size_t i = 0; i < count; ++i) {
    const size_t a = order[i];
    if (nest.rank > 0) {
      const size_t last = nest.rank - 1;
      bool merges = true;
      for (size_t k = 0; k < N; ++k) merges = merges && nest.stride[k][last] == strides[k][a] * dims[a];
      if (merges) {
        nest.size[last] *= dims[a];
        for (size_t k = 0; k < N; ++k) nest.stride[k][last] = strides[k][a];
        continue;
      }
    }
    nest.size[nest.rank] = dims[a];
    for (size_t k = 0; k < N; ++k) nest.stride[k][nest.rank] = strides[k][a];
    ++nest.rank;
  }
  if (nest.rank == 0) {
    nest.rank = 1;
    nest.size[0] = 1;
    for (size_t k = 0; k < N; ++k) nest.stride[k][0] = 1;
  }
  return nest;
}

// row(offsets): once per run of the innermost axis, with the offset of its first element in every tensor. Walks the
// first `outer` axes.
template <size_t N, class Row>
void for_rows(const Nest<N>& nest, size_t outer, Row&& row) {
  if (nest.empty) return;
  std::array<int64_t, max_rank> at{};
  std::array<int64_t, N> offset{};
  for (;;) {
    row(offset);
    size_t a = outer;
    for (;;) {
      if (a == 0) return;
      --a;
      for (size_t k = 0; k < N; ++k) offset[k] += nest.stride[k][a];
      if (++at[a] < nest.size[a]) break;
      for (size_t k = 0; k < N; ++k) offset[k] -= nest.stride[k][a] * nest.size[a];
      at[a] = 0;
    }
  }
}

inline Strides strides_of(const TensorView& view) {
  if (view.dims.size() > max_rank) rank_too_high(view.dims.size());
  Strides s{};
  std::copy(view.strides.begin(), view.strides.end(), s.begin());
  return s;
}

// Strides of `view` seen with the dims of a broadcast result: 0 along stretched axes.
inline Strides broadcast_strides(const TensorView& view, std::span<const int64_t> dims) {
  if (dims.size() > max_rank) rank_too_high(dims.size());
  Strides s{};
  const size_t shift = dims.size() - view.dims.size();
  for (size_t a = 0; a < view.dims.size(); ++a) s[a + shift] = view.dims[a] == 1 ? 0 : view.strides[a];
  return s;
}

// out[i] = f(a[i]), ... ; tensors are broadcast to the dims of `out`. T.. are the element types in memory.
template <class O, class A, class F>
void map1(const TensorView& out, const TensorView& a, const F& f) {
  const auto nest = make_nest<2>(out.dims, {strides_of(out), broadcast_strides(a, out.dims)});
  const size_t in = nest.rank - 1;
  const int64_t n = nest.size[in], so = nest.stride[0][in], sa = nest.stride[1][in];
  for_rows(nest, in, [&](const auto& at) {
    O* o = out.as<O>() + at[0];
    const A* x = a.as<const A>() + at[1];
    if (so == 1 && sa == 1) {
#pragma GCC ivdep
      for (int64_t i = 0; i < n; ++i) o[i] = f(x[i]);
    } else {
      for (int64_t i = 0; i < n; ++i) o[i * so] = f(x[i * sa]);
    }
  });
}

template <class O, class A, class B, class F>
void map2(const TensorView& out, const TensorView& a, const TensorView& b, const F& f) {
  const auto nest = make_nest<3>(out.dims, {strides_of(out), broadcast_strides(a, out.dims), broadcast_strides(b, out.dims)});
  const size_t in = nest.rank - 1;
  const int64_t n = nest.size[in], so = nest.stride[0][in], sa = nest.stride[1][in], sb = nest.stride[2][in];
  for_rows(nest, in, [&](const auto& at) {
    O* o = out.as<O>() + at[0];
    const A* x = a.as<const A>() + at[1];
    const B* y = b.as<const B>() + at[2];
    if (so == 1 && sa == 1 && sb == 1) {
#pragma GCC ivdep
      for (int64_t i = 0; i < n; ++i) o[i] = f(x[i], y[i]);
    } else if (so == 1 && sa == 1 && sb == 0) {
      const B y0 = *y;
#pragma GCC ivdep
      for (int64_t i = 0; i < n; ++i) o[i] = f(x[i], y0);
    } else if (so == 1 && sa == 0 && sb == 1) {
      const A x0 = *x;
#pragma GCC ivdep
      for (int64_t i = 0; i < n; ++i) o[i] = f(x0, y[i]);
    } else {
      for (int64_t i = 0; i < n; ++i) o[i * so] = f(x[i * sa], y[i * sb]);
    }
  });
}

template <class O, class A, class B, class C, class F>
void map3(const TensorView& out, const TensorView& a, const TensorView& b, const TensorView& c, const F& f) {
  const auto nest = make_nest<4>(out.dims, {strides_of(out), broadcast_strides(a, out.dims), broadcast_strides(b, out.dims),
                                            broadcast_strides(c, out.dims)});
  const size_t in = nest.rank - 1;
  const int64_t n = nest.size[in], so = nest.stride[0][in], sa = nest.stride[1][in], sb = nest.stride[2][in],
                sc = nest.stride[3][in];
  for_rows(nest, in, [&](const auto& at) {
    O* o = out.as<O>() + at[0];
    const A* x = a.as<const A>() + at[1];
    const B* y = b.as<const B>() + at[2];
    const C* z = c.as<const C>() + at[3];
    if (so == 1 && sa == 1 && sb == 1 && sc == 1) {
      for (int64_t i = 0; i < n; ++i) o[i] = f(x[i], y[i], z[i]);
    } else {
      for (int64_t i = 0; i < n; ++i) o[i * so] = f(x[i * sa], y[i * sb], z[i * sc]);
    }
  });
}

// For functions that work on arrays: block(in, out, count) is called with dense pieces; strided rows go through a buffer.
template <class T, class F>
void map_blocks(const TensorView& out, const TensorView& a, const F& block) {
  constexpr int64_t piece = 512;
  const auto nest = make_nest<2>(out.dims, {strides_of(out), broadcast_strides(a, out.dims)});
  const size_t in = nest.rank - 1;
  const int64_t n = nest.size[in], so = nest.stride[0][in], sa = nest.stride[1][in];
  for_rows(nest, in, [&](const auto& at) {
    T* o = out.as<T>() + at[0];
    const T* x = a.as<const T>() + at[1];
    if (so == 1 && sa == 1) { block(x, o, n); return; }
    T from[piece], to[piece];
    for (int64_t i = 0; i < n; i += piece) {
      const int64_t m = std::min(piece, n - i);
      for (int64_t j = 0; j < m; ++j) from[j] = x[(i + j) * sa];
      block(from, to, m);
      for (int64_t j = 0; j < m; ++j) o[(i + j) * so] = to[j];
    }
  });
}

// Copies `from` to `to` (equal dims and element size, any strides, also negative or 0 on the side of `from`).
void copy_strided(size_t element_size, const void* from, const Strides& from_strides, void* to, const Strides& to_strides,
                  std::span<const int64_t> dims);
void copy_strided(const TensorView& from, const TensorView& to);
// Sets every element to the bytes of one.
void fill_strided(const TensorView& to, const void* element);

// Places of a tensor in row-major order of its dims: at[] counts, offset follows the strides.
class Odometer {
 public:
  Odometer(std::span<const int64_t> dims, std::span<const int64_t> strides) : dims_(dims), strides_(strides) {
    if (dims.size() > max_rank) rank_too_high(dims.size());
  }
  bool next() {
    for (size_t a = dims_.size(); a-- > 0;) {
      offset += strides_[a];
      if (++at[a] < dims_[a]) return true;
      offset -= strides_[a] * dims_[a];
      at[a] = 0;
    }
    return false;
  }
  Strides at{};
  int64_t offset = 0;

 private:
  std::span<const int64_t> dims_, strides_;
};

}  // namespace quern::own
