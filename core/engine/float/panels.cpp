#include "core/engine/float/panels.hpp"

#include <cstring>

namespace quern::own {
namespace {

template <class T, int lanes> struct VectorOf;
template <> struct VectorOf<float, 4> { using type __attribute__((vector_size(16))) = float; };
template <> struct VectorOf<float, 8> { using type __attribute__((vector_size(32))) = float; };
template <> struct VectorOf<float, 16> { using type __attribute__((vector_size(64))) = float; };
template <> struct VectorOf<double, 2> { using type __attribute__((vector_size(16))) = double; };

#define QUERN_INLINE [[gnu::always_inline]] inline
#define QUERN_UNROLL _Pragma("GCC unroll 16")

// `count` rows by `width` panels, the sums in registers. Panels lie `stride` elements apart.
template <class T, int lanes, int count, int width>
QUERN_INLINE void block(const T* panel, int64_t stride, int64_t depth, const RowPair<T>* rows, int64_t column) {
  using V = typename VectorOf<T, lanes>::type;
  constexpr int per_panel = static_cast<int>(panel_columns) / lanes, vectors = per_panel * width;
  V sum[count][vectors];
  QUERN_UNROLL for (int r = 0; r < count; ++r)
    QUERN_UNROLL for (int v = 0; v < vectors; ++v) std::memcpy(&sum[r][v], rows[r].out + column + v * lanes, sizeof(V));
  for (int64_t k = 0; k < depth; ++k) {
    V w[vectors];
    QUERN_UNROLL for (int v = 0; v < vectors; ++v)
      std::memcpy(&w[v], panel + (v / per_panel) * stride + k * panel_columns + (v % per_panel) * lanes, sizeof(V));
    QUERN_UNROLL for (int r = 0; r < count; ++r) {
      const T x = rows[r].in[k];
      QUERN_UNROLL for (int v = 0; v < vectors; ++v) sum[r][v] += w[v] * x;
    }
  }
  QUERN_UNROLL for (int r = 0; r < count; ++r)
    QUERN_UNROLL for (int v = 0; v < vectors; ++v) std::memcpy(rows[r].out + column + v * lanes, &sum[r][v], sizeof(V));
}

// One row by the panels [0, panels), `width` at a time, then half as many, then each.
template <class T, int lanes, int width>
QUERN_INLINE void one_row(const T* data, int64_t stride, int64_t depth, const RowPair<T>* row, int64_t column, int64_t panels) {
  for (; panels >= width; panels -= width, data += width * stride, column += width * panel_columns)
    block<T, lanes, 1, width>(data, stride, depth, row, column);
  if constexpr (width > 1)
    if (panels > 0) one_row<T, lanes, width / 2>(data, stride, depth, row, column, panels);
}

// Panels outside, so that they stay in the cache for all rows: `many` rows by `wide` panels, the rows that are left one by one
// and `long_` panels at a time.
template <class T, int lanes, int many, int wide, int long_>
QUERN_INLINE void product(const PanelView<T>& p, const RowPair<T>* rows, int64_t count) {
  const int64_t panels = padded(p.columns) / panel_columns, stride = p.depth * panel_columns;
  const int64_t grouped = count / many * many;
  if (grouped > 0) {
    int64_t at = 0;
    for (; at + wide <= panels; at += wide)
      for (int64_t r = 0; r < grouped; r += many)
        block<T, lanes, many, wide>(p.data + at * stride, stride, p.depth, rows + r, at * panel_columns);
    for (; at < panels; ++at)
      for (int64_t r = 0; r < grouped; r += many)
        block<T, lanes, many, 1>(p.data + at * stride, stride, p.depth, rows + r, at * panel_columns);
  }
  for (int64_t r = grouped; r < count; ++r) one_row<T, lanes, long_>(p.data, stride, p.depth, rows + r, 0, panels);
}

void product_four(const PanelView<float>& p, const RowPair<float>* rows, int64_t count) { product<float, 4, 2, 1, 1>(p, rows, count); }
__attribute__((target("avx2"))) void product_eight(const PanelView<float>& p, const RowPair<float>* rows, int64_t count) {
  product<float, 8, 2, 1, 2>(p, rows, count);
}
__attribute__((target("avx512f"))) void product_sixteen(const PanelView<float>& p, const RowPair<float>* rows, int64_t count) {
  product<float, 16, 4, 2, 4>(p, rows, count);
}

}  // namespace

Lanes best_lanes() {
  static const Lanes best = __builtin_cpu_supports("avx512f") ? Lanes::sixteen : __builtin_cpu_supports("avx2") ? Lanes::eight : Lanes::four;
  return best;
}

template <class T>
void pack(const T* weights, int64_t columns, int64_t depth, T* to) {
  for (int64_t first = 0; first < columns; first += panel_columns)
    for (int64_t k = 0; k < depth; ++k)
      for (int64_t j = first; j < first + panel_columns; ++j) *to++ = j < columns ? weights[j * depth + k] : T{0};
}
template void pack<float>(const float*, int64_t, int64_t, float*);
template void pack<double>(const double*, int64_t, int64_t, double*);

void multiply(const PanelView<float>& p, const RowPair<float>* rows, int64_t count, Lanes lanes) {
  switch (lanes) {
    case Lanes::sixteen: product_sixteen(p, rows, count); return;
    case Lanes::eight: product_eight(p, rows, count); return;
    case Lanes::four: product_four(p, rows, count); return;
  }
}
void multiply(const PanelView<double>& p, const RowPair<double>* rows, int64_t count) { product<double, 2, 2, 1, 1>(p, rows, count); }

}  // namespace quern::own
