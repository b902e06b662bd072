#include "core/engine/reorder.hpp"

#include <emmintrin.h>

#include <algorithm>

namespace quern {
namespace {

// to[c][r] = from[r][c], dense, by tiles that stay in the first-level cache.
template <class T>
void transpose_scalar(const T* from, T* to, int64_t rows, int64_t cols, int64_t row0, int64_t row1, int64_t col0, int64_t col1) {
  for (int64_t c = col0; c < col1; ++c)
    for (int64_t r = row0; r < row1; ++r) to[c * rows + r] = from[r * cols + c];
}

template <class T>
void transpose(const T* from, T* to, int64_t rows, int64_t cols) {
  constexpr int64_t tile = 16;
  for (int64_t c = 0; c < cols; c += tile)
    for (int64_t r = 0; r < rows; r += tile)
      transpose_scalar(from, to, rows, cols, r, std::min(rows, r + tile), c, std::min(cols, c + tile));
}

void transpose_4x4(const float* from, float* to, int64_t rows, int64_t cols) {
  __m128 a = _mm_loadu_ps(from), b = _mm_loadu_ps(from + cols), c = _mm_loadu_ps(from + 2 * cols),
         d = _mm_loadu_ps(from + 3 * cols);
  _MM_TRANSPOSE4_PS(a, b, c, d);
  _mm_storeu_ps(to, a);
  _mm_storeu_ps(to + rows, b);
  _mm_storeu_ps(to + 2 * rows, c);
  _mm_storeu_ps(to + 3 * rows, d);
}

// Four-byte elements, moved as floats: loads and stores only, so no bit pattern is changed.
void transpose4(const float* from, float* to, int64_t rows, int64_t cols) {
  if (rows == 3) {  // images
    for (int64_t c = 0; c < cols; ++c) {
      to[3 * c] = from[c];
      to[3 * c + 1] = from[cols + c];
      to[3 * c + 2] = from[2 * cols + c];
    }
    return;
  }
  const int64_t full_rows = rows / 4 * 4, full_cols = cols / 4 * 4;
  constexpr int64_t tile = 32;
  for (int64_t c0 = 0; c0 < full_cols; c0 += tile)
    for (int64_t r0 = 0; r0 < full_rows; r0 += tile)
      for (int64_t c = c0; c < std::min(full_cols, c0 + tile); c += 4)
        for (int64_t r = r0; r < std::min(full_rows, r0 + tile); r += 4)
          transpose_4x4(from + r * cols + c, to + c * rows + r, rows, cols);
  transpose_scalar(from, to, rows, cols, full_rows, rows, 0, cols);
  transpose_scalar(from, to, rows, cols, 0, full_rows, full_cols, cols);
}

void transpose_8x8(const uint8_t* from, uint8_t* to, int64_t rows, int64_t cols) {
  __m128i v[8], w[4];
  for (int i = 0; i < 8; ++i) v[i] = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from + i * cols));
  for (int i = 0; i < 4; ++i) w[i] = _mm_unpacklo_epi8(v[2 * i], v[2 * i + 1]);
  const __m128i a = _mm_unpacklo_epi16(w[0], w[1]), b = _mm_unpackhi_epi16(w[0], w[1]);
  const __m128i c = _mm_unpacklo_epi16(w[2], w[3]), d = _mm_unpackhi_epi16(w[2], w[3]);
  const __m128i out[4] = {_mm_unpacklo_epi32(a, c), _mm_unpackhi_epi32(a, c), _mm_unpacklo_epi32(b, d),
                          _mm_unpackhi_epi32(b, d)};
  for (int i = 0; i < 4; ++i) {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to + 2 * i * rows), out[i]);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to + (2 * i + 1) * rows), _mm_unpackhi_epi64(out[i], out[i]));
  }
}

void transpose1(const uint8_t* from, uint8_t* to, int64_t rows, int64_t cols) {
  const int64_t full_rows = rows / 8 * 8, full_cols = cols / 8 * 8;
  for (int64_t c = 0; c < full_cols; c += 8)
    for (int64_t r = 0; r < full_rows; r += 8) transpose_8x8(from + r * cols + c, to + c * rows + r, rows, cols);
  transpose_scalar(from, to, rows, cols, full_rows, rows, 0, cols);
  transpose_scalar(from, to, rows, cols, 0, full_rows, full_cols, cols);
}

void transpose_batch(const char* from, char* to, int64_t batch, int64_t rows, int64_t cols, size_t size) {
  const int64_t step = rows * cols * static_cast<int64_t>(size);
  for (int64_t n = 0; n < batch; ++n, from += step, to += step) {
    switch (size) {
      case 1: transpose1(reinterpret_cast<const uint8_t*>(from), reinterpret_cast<uint8_t*>(to), rows, cols); break;
      case 2: transpose(reinterpret_cast<const uint16_t*>(from), reinterpret_cast<uint16_t*>(to), rows, cols); break;
      case 4: transpose4(reinterpret_cast<const float*>(from), reinterpret_cast<float*>(to), rows, cols); break;
      default: transpose(reinterpret_cast<const uint64_t*>(from), reinterpret_cast<uint64_t*>(to), rows, cols); break;
    }
  }
}

bool has_strides(const TensorView& view, const Dims& strides) {
  for (size_t i = 0; i < strides.size(); ++i)
    if (view.dims[i] != 1 && view.strides[i] != strides[i]) return false;
  return true;
}

}  // namespace

Dims strides_of(std::span<const int64_t> dims, Layout layout) {
  return layout == Layout::channels_last ? channels_last_strides(dims) : row_major_strides(dims);
}

bool layouts_coincide(std::span<const int64_t> dims) {
  if (dims.size() < 3 || dims[1] == 1) return true;
  int64_t pixels = 1, all = 1;
  for (size_t i = 2; i < dims.size(); ++i) pixels *= dims[i];
  for (int64_t d : dims) all *= d;
  return pixels == 1 || all == 0;
}

void reorder(const TensorView& from, const TensorView& to) {
  const int64_t count = element_count(from.dims);
  const size_t size = size_of(from.type);
  if (count == 0) return;
  if (from.type != to.type || size == 0 || from.dims.size() != to.dims.size()) { copy(from, to); return; }
  const Dims rows = row_major_strides(from.dims), last = channels_last_strides(from.dims);
  const bool from_rows = has_strides(from, rows), from_last = has_strides(from, last);
  const bool to_rows = has_strides(to, rows), to_last = has_strides(to, last);
  if ((from_rows && to_rows) || (from_last && to_last)) {
    std::memcpy(to.data, from.data, static_cast<size_t>(count) * size);
  } else if (from.dims.size() >= 3 && (size == 1 || size == 2 || size == 4 || size == 8) &&
             ((from_rows && to_last) || (from_last && to_rows))) {
    const int64_t batch = from.dims[0], channels = from.dims[1], pixels = count / (batch * channels);
    transpose_batch(from.as<char>(), to.as<char>(), batch, from_rows ? channels : pixels, from_rows ? pixels : channels, size);
  } else {
    copy(from, to);
  }
}

}  // namespace quern
