// The loops of the simulated VPU, one source compiled for several instruction sets: the same bytes from each.
//
// What follows a sum (contract stages mul, shr half_even, add, clamp) is computed in double, exactly: |sum + bias| < 2^33, times a multiplier
// below 2^16, times a power of two; the nearest integer, halves to even, comes of adding and taking off 1.5 * 2^52.
#pragma once
#include <cstdint>

namespace quern_vpu {

// Numbers behind the rounding: y = clamp(rne((acc + bias) * factor) + offset, low, high). factor = multiplier * 2^-shift.
struct Codes {
  double offset = 0, low = 0, high = 255;
  const uint8_t* table = nullptr;  // fused function: y = table[y]
};
// y = f16(clamp(f32(acc + bias) * scale, low, high)), held as f32
struct Halves { float low = 0, high = 0; };

constexpr int64_t panel = 16;
inline int64_t panels_of(int64_t columns) { return (columns + panel - 1) / panel; }
inline int64_t even(int64_t n) { return n + (n & 1); }
// Where number k of a column lies: pairs of numbers beside those of the other columns of the panel.
inline int64_t packed_at(int64_t depth, int64_t column, int64_t k) {
  return (column / panel * (depth / 2) + k / 2) * (2 * panel) + column % panel * 2 + k % 2;
}

struct Rows {
  const char* name;
  // bias, factor, scale: n numbers, one an element.
  void (*codes)(const int32_t* acc, const double* bias, const double* factor, int64_t n, const Codes& to, uint8_t* out);
  void (*halves)(const int32_t* acc, const double* bias, const float* scale, int64_t n, const Halves& to, float* out);
  // out[r][c] = sum over k of a[r][k] * w[k][c], in 32 bits. Rows of a are `depth` apart, which is even; w comes in `panels` of 16 columns
  // (packed_at); every row of out has room for all of their columns.
  void (*dot)(const int16_t* a, int64_t rows, const int16_t* w, int64_t panels, int64_t depth, int32_t* out, int64_t out_stride);
  // out[i] = in[i] - zero, codes read as u8 or s8. Reads and writes up to 15 elements beyond n.
  void (*widen)(const uint8_t* in, bool is_signed, int32_t zero, int64_t n, int16_t* out);
  // acc[i] = sum over t of (in[t][i] - zero) * w[t * step + i]
  void (*depthwise)(const uint8_t* const* in, int64_t taps, bool is_signed, int32_t zero, const int16_t* w, int64_t step, int64_t n, int32_t* acc);
  // acc[i] += (in[i] - zero) * by
  void (*add)(const uint8_t* in, bool is_signed, int32_t zero, int32_t by, int64_t n, int32_t* acc);
  // acc[i] = max(acc[i], in[i])
  void (*largest)(const uint8_t* in, bool is_signed, int64_t n, int32_t* acc);
};

const Rows& rows();           // of this machine
const Rows& rows_base();
const Rows* rows_avx2();      // null where the machine lacks it
const Rows* rows_avx512();

}  // namespace quern_vpu
