// A sum of products with constant weights: convolutions (1-D and 2-D; grouped, dilated), transposed ones and matrix products, prepared once.
//
// Pixels of the output go through in blocks: the taps of a block are laid out as 16-bit numbers, zero points taken off and padding written
// in, and multiplied with the weights of a group by Rows::dot. A transposed convolution is stride x stride convolutions, one for each phase of
// its output. Where a group has one input and one output channel (depthwise), channels are summed side by side instead.
#pragma once
#include "plugins/common/dot_shape.hpp"
#include "plugins/vpu_sim/finish.hpp"

namespace quern_vpu {

struct DotSpec : DotShape {
  bool is_signed = false;           // the source's codes
  int32_t zero = 0, weight_zero = 0;
  const int8_t* weights = nullptr;  // as DotShape says; read by the constructor only
  uint32_t threads = 1;
};

class Dot {
 public:
  Dot(const DotSpec& spec, Finish finish);
  const char* name() const { return depthwise_ ? "depthwise" : "dot"; }
  // Both dense, channels last.
  void run(const void* source, void* out) const;

 private:
  // Outputs first_h + i * step, first_w + j * step, all with the same taps: input row i * stride_h + tap.dy, column j * stride_w + tap.dx.
  struct Tap { int64_t dy, dx; };
  struct Phase {
    int64_t first_h = 0, first_w = 0, step_h = 1, step_w = 1, rows = 0, columns = 0, stride_h = 1, stride_w = 1;
    std::vector<Tap> taps;
    std::vector<int64_t> runs;      // of taps beside each other in the input: how many, one run after the other
    bool dense = false;             // the taps of the pixels are the input as it lies
    int64_t depth = 0;              // taps * channels of a group, even
    std::vector<int16_t> weights;   // panels of each group, or [tap][oc] of a depthwise one
    int64_t block = 1, blocks = 0;  // pixels a block; blocks of an image
  };
  void add_phase(int64_t ph, int64_t pw);
  int64_t weight_place(int64_t oc, int64_t c, int64_t tap) const;
  void fill(const Phase& p, const uint8_t* image, int64_t first, int64_t pixels, int64_t group, int16_t* to) const;
  void block_of(const Phase& p, const uint8_t* image, int64_t first, int64_t pixels, void* out, int64_t at) const;
  void depthwise_of(const Phase& p, const uint8_t* image, int64_t first, int64_t pixels, void* out, int64_t at) const;
  int64_t place(const Phase& p, int64_t pixel) const;  // of the output, in pixels

  DotSpec s_;
  Finish finish_;
  bool depthwise_ = false;
  std::vector<Phase> phases_;
  std::vector<int64_t> kernel_taps_;  // of the phase that is being made: which tap of the kernel each of its taps is
};

}  // namespace quern_vpu
