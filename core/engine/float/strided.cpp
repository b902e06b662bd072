#include "core/engine/float/strided.hpp"

#include <fmt/format.h>

#include <cstring>

namespace quern::own {

void rank_too_high(size_t rank) {
  throw Error(ErrorCode::model, fmt::format("a tensor of rank {}: at most {} is computed", rank, max_rank));
}

namespace {

// A transposition at heart: `to` is dense along the inner axis, `from` along axis t. Square tiles keep both in the cache.
template <class T>
void copy_tiles(const T* from, T* to, int64_t n_t, int64_t to_t, int64_t n, int64_t from_n) {
  constexpr int64_t tile = 16;
  for (int64_t i0 = 0; i0 < n_t; i0 += tile) {
    const int64_t i1 = std::min(i0 + tile, n_t);
    for (int64_t j0 = 0; j0 < n; j0 += tile) {
      const int64_t j1 = std::min(j0 + tile, n);
      for (int64_t i = i0; i < i1; ++i)
        for (int64_t j = j0; j < j1; ++j) to[i * to_t + j] = from[i + j * from_n];
    }
  }
}

template <class T>
void copy_typed(const T* from, const Strides& from_strides, T* to, const Strides& to_strides, std::span<const int64_t> dims) {
  Nest<2> nest = make_nest<2>(dims, {to_strides, from_strides});
  const size_t in = nest.rank - 1;
  const int64_t n = nest.size[in], st = nest.stride[0][in], sf = nest.stride[1][in];
  if (st == 1 && sf != 1 && sf != 0) {
    for (size_t t = 0; t < in; ++t) {
      if (nest.stride[1][t] != 1 || nest.size[t] < 4 || n < 4) continue;
      // Axis t moves next to the inner one and both are handled by tiles.
      for (size_t a = t; a + 1 < in; ++a) {
        std::swap(nest.size[a], nest.size[a + 1]);
        for (auto& s : nest.stride) std::swap(s[a], s[a + 1]);
      }
      const int64_t n_t = nest.size[in - 1], to_t = nest.stride[0][in - 1];
      for_rows(nest, in - 1, [&](const auto& at) { copy_tiles(from + at[1], to + at[0], n_t, to_t, n, sf); });
      return;
    }
  }
  for_rows(nest, in, [&](const auto& at) {
    T* o = to + at[0];
    const T* x = from + at[1];
    if (st == 1 && sf == 1) {
      std::memcpy(o, x, static_cast<size_t>(n) * sizeof(T));
    } else if (st == 1 && sf == 0) {
      std::fill(o, o + n, *x);
    } else {
      for (int64_t i = 0; i < n; ++i) o[i * st] = x[i * sf];
    }
  });
}

}  // namespace

void copy_strided(size_t element_size, const void* from, const Strides& from_strides, void* to, const Strides& to_strides,
                  std::span<const int64_t> dims) {
  const auto go = [&](auto tag) {
    using T = decltype(tag);
    copy_typed(static_cast<const T*>(from), from_strides, static_cast<T*>(to), to_strides, dims);
  };
  switch (element_size) {
    case 1: go(uint8_t{}); return;
    case 2: go(uint16_t{}); return;
    case 4: go(uint32_t{}); return;
    case 8: go(uint64_t{}); return;
    default: throw Error(ErrorCode::model, "a tensor whose elements have no fixed size can't be copied");
  }
}

void copy_strided(const TensorView& from, const TensorView& to) {
  copy_strided(size_of(from.type), from.data, broadcast_strides(from, to.dims), to.data, strides_of(to), to.dims);
}

void fill_strided(const TensorView& to, const void* element) {
  copy_strided(size_of(to.type), element, Strides{}, to.data, strides_of(to), to.dims);
}

}  // namespace quern::own
