// Depthwise convolution (one input and one output channel a group) with AVX512-VNNI, under the contract "dot": 1.3 to 1.8
// times as fast as oneDNN's kernel for it.
//
// vpdpbusd adds four products into each 32-bit sum. Here the four are taps of one column: rows of the window are interleaved
// byte by byte (r0 r1 r2 r3 of each channel) once per output row, and every column so prepared serves all kernel columns
// that meet it. Units of 16 channels are laid out one after the other over the whole row, so that four units fill a vector
// whatever the number of channels is. With a stride, columns are first dealt out to as many planes.
#pragma once
#include <memory>

#include "plugins/cpu/depthwise_row.hpp"
#include "plugins/cpu/dot.hpp"

namespace quern_cpu {

class Depthwise {
 public:
  // Null: not a depthwise convolution, or one that is better left to oneDNN.
  static std::unique_ptr<Depthwise> make(const DotSpec& spec);
  uint64_t workspace_bytes() const;
  void run(const void* src, void* dst, void* workspace) const;  // as Dot::Run

 private:
  Depthwise() = default;
  void fill_chunk(const DotSpec& spec, int64_t chunk);
  uint64_t buffer_bytes() const;
  DepthwisePlan plan_{};
  std::vector<int8_t> weights_;
  std::vector<int32_t> offsets_;
  std::vector<float> bias_, multiplier_;
  uint32_t threads_ = 1;
  std::vector<uint8_t> pad_row_;
};

}  // namespace quern_cpu
