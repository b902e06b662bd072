#include "plugins/cpu/turn.hpp"

#include <emmintrin.h>

#include <algorithm>

namespace quern_cpu {
namespace {

// Sixteen columns of eight bytes become eight rows of sixteen.
void turn_16x8(const uint8_t* from, int64_t from_step, uint8_t* to, int64_t to_step) {
  __m128i pair[8], four[8];
  for (int i = 0; i < 8; ++i) {
    const __m128i a = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from + 2 * i * from_step));
    const __m128i b = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from + (2 * i + 1) * from_step));
    pair[i] = _mm_unpacklo_epi8(a, b);  // row r of columns 2i, 2i + 1: its word r
  }
  for (int i = 0; i < 4; ++i) {
    four[2 * i] = _mm_unpacklo_epi16(pair[2 * i], pair[2 * i + 1]);      // rows 0..3 of four columns
    four[2 * i + 1] = _mm_unpackhi_epi16(pair[2 * i], pair[2 * i + 1]);  // rows 4..7
  }
  for (int h = 0; h < 2; ++h) {
    const __m128i low0 = _mm_unpacklo_epi32(four[h], four[2 + h]), high0 = _mm_unpackhi_epi32(four[h], four[2 + h]);
    const __m128i low1 = _mm_unpacklo_epi32(four[4 + h], four[6 + h]), high1 = _mm_unpackhi_epi32(four[4 + h], four[6 + h]);
    const __m128i rows[4] = {_mm_unpacklo_epi64(low0, low1), _mm_unpackhi_epi64(low0, low1), _mm_unpacklo_epi64(high0, high1),
                             _mm_unpackhi_epi64(high0, high1)};
    for (int r = 0; r < 4; ++r) _mm_storeu_si128(reinterpret_cast<__m128i*>(to + (4 * h + r) * to_step), rows[r]);
  }
}

}  // namespace

void turn_codes_scalar(const uint8_t* from, int64_t from_step, uint8_t* to, int64_t to_step, int64_t rows, int64_t columns) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c) to[r * to_step + c] = from[c * from_step + r];
}

void turn_codes(const uint8_t* from, int64_t from_step, uint8_t* to, int64_t to_step, int64_t rows, int64_t columns) {
  const int64_t whole_rows = rows / 8 * 8, whole_columns = columns / 16 * 16;
  for (int64_t c = 0; c < whole_columns; c += 16)
    for (int64_t r = 0; r < whole_rows; r += 8) turn_16x8(from + c * from_step + r, from_step, to + r * to_step + c, to_step);
  if (whole_columns < columns) turn_codes_scalar(from + whole_columns * from_step, from_step, to + whole_columns, to_step, rows, columns - whole_columns);
  if (whole_rows < rows) turn_codes_scalar(from + whole_rows, from_step, to + whole_rows * to_step, to_step, rows - whole_rows, whole_columns);
}

}  // namespace quern_cpu
