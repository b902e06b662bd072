// What the row kernel of depthwise.hpp takes. Plain data and nothing of the standard library: the file that implements it is
// compiled for AVX-512, and no inline function of it may stand in for one of the others at link time.
#pragma once
#include <cstdint>

namespace quern_cpu {

struct DepthwisePlan {
  int64_t batch, channels, ih, iw, oh, ow, kh, kw, sh, sw, dh, dw, pad_top, pad_left;
  int64_t groups_of_rows;               // ceil(kh / 4)
  int64_t chunk;                        // units (of 16 channels) done together
  int64_t chunks, columns, plane;       // columns of input that are read; of one plane
  uint8_t flip, pad_code;               // 0x80 for signed sources; the code of padding as it lies in memory
  bool dst_signed, dst_float, has_residual, residual_signed, clamp;
  int32_t residual_zp;
  float residual_scale, low, high, dst_zp, qmin, qmax;
  // Per chunk, in the layout the kernel reads (see depthwise_avx512.cpp).
  const int8_t* weights;
  const int32_t* offsets;
  const float *bias, *multiplier;
  int64_t weights_of_chunk, tables_of_chunk;
};

// One output row of one chunk. `rows`: kh pointers to input rows; `buffer`: buffer_bytes() of memory aligned to 64.
void depthwise_row(const DepthwisePlan& plan, const uint8_t* const* rows, int64_t chunk, void* out, uint8_t* buffer);

}  // namespace quern_cpu
