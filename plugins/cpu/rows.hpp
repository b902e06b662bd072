// Row kernels: the arithmetic of the contracts for pairs, averages, tables, resampling, max and move on rows of 8-bit codes, once for every
// instruction set from one source (rows_impl.inl). All instances give the same bytes; a test compares them.
//
// Codes of signed tensors are read as code + 128 (one xor), so that every kernel works on unsigned ones; zero points are
// given for those. Kernels may read up to 63 bytes behind a row, as the ABI allows, and write nothing behind it.
#pragma once
#include <cfloat>
#include <cstdint>

namespace quern_cpu {

struct Source {
  uint8_t flip = 0;          // 0x80 for signed codes
  int32_t zero_point = 0;    // of the flipped code: zp + flip
  float ratio = 1;
};

// What follows the arithmetic of the operator: clamp to [low, high], then for codes + zero point, round half even,
// saturate to [qmin, qmax]. Float outputs stop after the first.
struct Sink {
  float low = -FLT_MAX, high = FLT_MAX;
  float zero_point = 0;
  float qmin = 0, qmax = 255;
};

// How two operands meet: a + b, a * b, a / b, the larger, the smaller. mul and div take the operands without their ratios and
// multiply by a's at the end.
enum class Pair { add, mul, div, max, min };

struct Rows {
  const char* name;
  // out = sink(float(a - zp_a) * ratio_a + float(b - zp_b) * ratio_b) for add, ...; by Pair
  void (*pair_codes[5])(const uint8_t* a, const uint8_t* b, uint8_t* out, int64_t n, const Source& sa, const Source& sb, const Sink& sink);
  void (*pair_floats[5])(const uint8_t* a, const uint8_t* b, float* out, int64_t n, const Source& sa, const Source& sb, const Sink& sink);
  // out = sink(float(x - zp) * ratio)
  void (*map_codes)(const uint8_t* x, uint8_t* out, int64_t n, const Source& s, const Sink& sink);
  void (*map_floats)(const uint8_t* x, float* out, int64_t n, const Source& s, const Sink& sink);
  // out = sink(float(sum of (taps[t][i] - zp)) / window * ratio)
  void (*average_codes)(const uint8_t* const* taps, int64_t count, uint8_t* out, int64_t n, float window, const Source& s, const Sink& sink);
  void (*average_floats)(const uint8_t* const* taps, int64_t count, float* out, int64_t n, float window, const Source& s, const Sink& sink);
  // out = table[x], 256 entries
  void (*look_up_codes)(const uint8_t* x, uint8_t* out, int64_t n, const uint8_t* table);
  void (*look_up_floats)(const uint8_t* x, float* out, int64_t n, const float* table);
  // out = sink(float(sum of weights[t] * taps[t][i] - zeros) * ratio)
  void (*resample_codes)(const uint8_t* const* taps, const int32_t* weights, int64_t count, uint8_t* out, int64_t n, int32_t zeros, const Source& s, const Sink& sink);
  void (*resample_floats)(const uint8_t* const* taps, const int32_t* weights, int64_t count, float* out, int64_t n, int32_t zeros, const Source& s, const Sink& sink);
  // out = largest code of taps[..][i]
  void (*largest)(const uint8_t* const* taps, int64_t count, uint8_t* out, int64_t n, uint8_t flip);
};

const Rows& scalar_rows();
const Rows& sse41_rows();    // only where the CPU has it
const Rows& avx2_rows();     // only where the CPU has it
const Rows& avx512_rows();   // f, bw, vl, dq
const Rows& rows();          // of the instruction set in force (isa.hpp)

}  // namespace quern_cpu
