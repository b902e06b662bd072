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

struct Rows {
  const char* name;
  // bias, factor, scale: n numbers, one an element.
  void (*codes)(const int32_t* acc, const double* bias, const double* factor, int64_t n, const Codes& to, uint8_t* out);
  void (*halves)(const int32_t* acc, const double* bias, const float* scale, int64_t n, const Halves& to, float* out);
  // out[r][c] = sum over k of a[r][k] * w[c][k], in 32 bits; depth a multiple of 32, rows of a and w of that length.
  void (*dot)(const int16_t* a, int64_t rows, const int16_t* w, int64_t columns, int64_t depth, int32_t* out, int64_t out_stride);
  // out[i] = in[i] - zero, codes read as u8 or s8.
  void (*widen)(const uint8_t* in, bool is_signed, int32_t zero, int64_t n, int16_t* out);
  // acc[i] += (in[i] - zero) * w[i]
  void (*depthwise)(const uint8_t* in, bool is_signed, int32_t zero, const int16_t* w, int64_t n, int32_t* acc);
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
