// The innermost of the exact convolutions and matrix products: a tile of R pixels x N vectors of output channels, summed
// in 32 bits over all taps and finished by the contract "dot". One source (dot_tile_impl.inl) for every instruction set; all
// instances give the same bytes. Plain data and nothing of the standard library here: the files that implement it are
// compiled for their instruction set, and no inline function of theirs may stand in for another at link time.
//
// Two kinds of kernels. VNNI multiplies bytes as they lie (signed sources flipped to unsigned, the zero point taken off
// in `offsets`), four of them a step. All others multiply numbers of 16 bits, two a step: the sum of two products of 255
// and 128 fits 32 bits with room, where adding 8-bit products in 16 bits (vpmaddubsw) would saturate. A step takes four
// bytes of each pixel either way. Where the weights of a layer are so small that no two products can leave 16 bits (pairs_fit), vpmaddubsw
// is exact too, and takes bytes as VNNI does.
#pragma once
#include <cfloat>
#include <cstdint>

#include "plugins/cpu/isa.hpp"

namespace quern_cpu {

inline constexpr int64_t most_rows = 12, most_vectors = 4;

// What follows the sum; the same for all tiles of a layer.
struct DotEnd {
  bool residual = false, floats = false, is_signed = false;  // of the output
  uint8_t residual_flip = 0;                // 0x80 for signed codes
  int32_t residual_zero = 0;                // of the flipped code
  float residual_scale = 0;
  float low = -FLT_MAX, high = FLT_MAX;     // of the activation
  float zero_point = 0, qmin = 0, qmax = 255;
  // A table activation: y = table[clamp(rne(t + table_offset), 0, table_last)], instead of zero point and rounding.
  const int32_t* table = nullptr;           // codes, or the bits of floats
  float table_offset = 0, table_last = 0;
};

struct Tile {
  // Of each pixel: where its runs are counted from, its output, its residual (codes; unused without one), and what is added to
  // each of its sums (null: nothing).
  const uint8_t* const* x;
  uint8_t* const* out;
  const uint8_t* const* residual;
  const int32_t* add;
  int64_t x_offset, channel;                // of the tile: added to x in bytes, to out and residual in channels
  const int64_t* runs;                      // offset of each run in bytes
  int64_t run_count, steps;                 // steps of four bytes in a run
  const uint8_t* weights;                   // [run][step][vector]; steps beyond the last channel have zeros
  const int32_t* offsets;                   // per channel of the tile: where its sums begin
  const float *bias, *multiplier;           // per channel
  int64_t channels;                         // of the tile; what is written
  const DotEnd* end;
};

// Depthwise: each channel by itself over pairs of taps, numbers of 16 bits.
struct DepthwiseStrip {
  const uint8_t* x;                         // first pixel, first channel
  int64_t x_step, out_step, residual_step;  // bytes from pixel to pixel
  int64_t pixels, channels;
  const int64_t* taps;                      // offset of each tap in bytes; an even number, the last may be any with weights 0
  int64_t pairs;
  const uint8_t* weights;                   // [vector of channels][pair][low, high half]
  const float *bias, *multiplier;           // per channel, up to a full vector
  uint8_t* out;
  const uint8_t* residual;
  const DotEnd* end;
};

struct DotKernels {
  const char* name;
  bool bytes;                               // VNNI: prepared sources are bytes; else numbers of 16 bits
  int64_t width;                            // channels a vector
  int64_t rows_of[most_vectors + 1];        // most rows of a tile with so many vectors; 0: no such tile
  void (*tile)(const Tile& tile, int64_t rows, int64_t vectors);
  void (*depthwise)(const DepthwiseStrip& strip);  // on numbers of 16 bits alone; else null
  // n codes as the kernels want them: code ^ flip, for numbers of 16 bits less zero_point. Reads and writes up to 63 bytes on.
  void (*prepare)(const uint8_t* codes, int64_t n, uint8_t flip, int32_t zero_point, void* to);
};

const DotKernels& scalar_dot();
const DotKernels& sse41_dot();
const DotKernels& avx2_dot();
const DotKernels& avx512_dot();
const DotKernels& vnni_dot();
const DotKernels& vnni_wide_dot();          // numbers of 16 bits (vpdpwssd)
const DotKernels& sse41_byte_dot();         // exact for weights that fit in pairs
const DotKernels& avx2_byte_dot();
const DotKernels& avx512_byte_dot();
const DotKernels& dot_kernels(Isa isa, bool pairs_fit = false);
const DotKernels& wide_kernels(Isa isa);    // those that have a depthwise kernel

}  // namespace quern_cpu
