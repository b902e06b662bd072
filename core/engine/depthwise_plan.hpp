// What the row kernels of depthwise.hpp take. Plain data and nothing of the standard library: two of them are compiled for AVX2 and
// AVX-512, and no inline function of theirs may stand in for one of the others at link time.
#pragma once
#include <cstdint>

namespace quern {

struct DepthwiseF32 {
  int64_t batch, channels, ih, iw, oh, ow, kh, kw, sh, sw, dh, dw, pad_top, pad_left;
  const float* weights;  // [channels / lanes][kh][kw][lanes], channels padded to whole lanes
  const float* bias;     // [channels / lanes][lanes]
  const float* zeros;    // a row of channels and more
  float low, high;       // clamp; infinities: none
};

// Output rows first .. last - 1 of batch * oh.
using DepthwiseRows = void (*)(const DepthwiseF32& d, const float* x, float* y, int64_t first, int64_t last);
void depthwise_rows_scalar(const DepthwiseF32& d, const float* x, float* y, int64_t first, int64_t last);  // the model; lanes 1
void depthwise_rows_avx2(const DepthwiseF32& d, const float* x, float* y, int64_t first, int64_t last);
void depthwise_rows_avx512(const DepthwiseF32& d, const float* x, float* y, int64_t first, int64_t last);

}  // namespace quern
