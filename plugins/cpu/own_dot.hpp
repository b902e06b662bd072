// Convolutions (also transposed) and matrix products on our own exact kernels, for every instruction set, under the contract
// of dot.hpp. Codes of activations of the whole range times weights of the whole range: no sum is ever saturated.
//
// The output is cut into bands of rows. For each band the input that it reaches is laid out once as the kernels want it
// (numbers of 16 bits less the zero point, or flipped bytes; padding written in), unless it can be read as it lies. Then, for
// each block of output channels, tiles of pixels are summed and finished in registers (dot_tile.hpp): weights of a block stay
// in the cache for the whole band.
//
// A transposed convolution is stride x stride convolutions of stride 1, one for each phase of the output's places. Groups of
// few channels are put together, with zeros between them. Depthwise convolutions (any multiplier) have a kernel of theirs; where
// channels fill no whole vectors and pixels follow each other, some pixels are treated as one of as many channels more.
#pragma once
#include <vector>

#include "plugins/cpu/dot_tile.hpp"
#include "plugins/cpu/kernel.hpp"
#include "plugins/cpu/shared_bytes.hpp"

namespace quern_cpu {

struct DotSpec;

class OwnDot {
 public:
  OwnDot(const DotSpec& spec, Isa isa);
  uint64_t workspace_bytes() const;
  // src, dst, residual: channels last and dense; residual (codes) of the output's shape, or null.
  void run(const void* src, const uint8_t* residual, void* dst, void* workspace) const;
  std::string name() const;

 private:
  struct Tap { int64_t y, x, index; };  // place of the input relative to the first of the output's place; index of the weight
  struct Phase {
    int64_t out_y = 0, out_x = 0, rows = 1, columns = 1;
    std::vector<Tap> taps;
    std::vector<int64_t> runs;          // offsets in bytes
    int64_t run_taps = 1, steps = 0;    // taps joined into a run; steps of four bytes
    SharedBytes weights;
    std::vector<int32_t> offsets;
  };
  struct Block { int64_t group, first, channels, vectors, vectors_before; };
  struct Row { const uint8_t* x; uint8_t* out; const uint8_t* residual; int64_t columns; };
  struct Pixels { const uint8_t** x; uint8_t** out; const uint8_t** residual; };  // of a band, one after the other
  struct Band { int64_t first, end; };

  void set_geometry(const DotSpec& s);
  void set_phases(const DotSpec& s);
  void set_blocks(const DotSpec& s);
  void pack(const DotSpec& s, Phase& phase) const;
  void pack_depthwise(const DotSpec& s, Phase& phase) const;
  void set_end(const DotSpec& s);

  void run_one(const uint8_t* src, const uint8_t* residual, uint8_t* dst, uint8_t* workspace) const;
  void prepare(const uint8_t* src, const Band& band, uint8_t* to) const;
  void prepare_row(const uint8_t* src, int64_t n, int64_t y, uint8_t* to) const;
  void copy(const uint8_t* codes, int64_t pixels, uint8_t* to) const;
  int64_t list_rows(const Phase& phase, const Band& band, const uint8_t* base, const uint8_t* residual, uint8_t* dst, Row* rows) const;
  int64_t list_pixels(const Row* rows, int64_t count, const Pixels& pixels) const;
  void run_blocks(const Phase& phase, const Pixels& pixels, int64_t count, int64_t first_block, int64_t end_block) const;
  void run_depthwise(const Phase& phase, const Row* rows, int64_t count, int64_t first_block, int64_t end_block) const;
  uint64_t prepared_bytes() const;
  uint64_t slot_bytes() const;
  int64_t input_rows(int64_t output_rows) const { return (output_rows - 1) * step_y_ + max_y_ - min_y_ + 1; }

  const DotKernels& kernels_;
  DotEnd end_;
  std::vector<int32_t> table_;
  // Geometry as the kernels see it: batch images of rows x columns places of output (of the first phase).
  int64_t batch_ = 1, in_h_ = 1, in_w_ = 1, out_h_ = 1, out_w_ = 1, rows_ = 1, columns_ = 1, pixels_ = 0;
  int64_t step_y_ = 1, step_x_ = 1, out_step_ = 1, out_step_x_ = 1, min_y_ = 0, max_y_ = 0, min_x_ = 0, max_x_ = 0;
  int64_t gather_y_ = 1, gather_x_ = 1;  // a single tap: only the places that are read are laid out
  int64_t line_ = 1;                     // places of a line of prepared input
  int64_t channels_ = 1, groups_ = 1, group_in_ = 1, group_out_ = 1, out_channels_ = 1, multiplied_ = 1;
  int64_t fold_ = 1;                     // depthwise: pixels side by side that are treated as one of more channels
  int64_t element_ = 1, out_size_ = 1;   // bytes of a prepared number, of an output
  bool linear_ = false, direct_ = false, depthwise_ = false, has_residual_ = false;
  uint8_t flip_ = 0;
  int32_t zero_point_ = 0;               // of flipped codes
  int64_t band_rows_ = 1, splits_ = 1;
  uint32_t threads_ = 1;
  std::vector<Phase> phases_;
  std::vector<Block> blocks_;
  std::vector<float> bias_, multiplier_;
};

}  // namespace quern_cpu
