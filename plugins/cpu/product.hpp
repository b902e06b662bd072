// MatMul of two tensors of codes, both with zero points, under the contract "product": as "dot", with (w - w_zp) for w.
// Batch axes broadcast. On the tiles of dot_tile.hpp; the second tensor is packed for them once for every matrix of the batch:
//
//   16-bit numbers: a - a_zp and b - b_zp, as they are
//   VNNI: sum(a b) - a_zp sum(b) - b_zp sum(a) + K a_zp b_zp, with a as unsigned and b as signed bytes; the second term
//         and the last are constants of a column, the third one of a row
#pragma once
#include <vector>

#include "plugins/cpu/dot_tile.hpp"
#include "plugins/cpu/kernel.hpp"

namespace quern_cpu {

struct ProductSpec {
  Dims a, b, out;                           // [..., M, K], [..., K, N], [..., M, N]
  bool a_signed = false, b_signed = false;
  int32_t a_zp = 0, b_zp = 0;
  std::vector<float> multiplier, bias;      // [N] or one; bias empty: none
  DotEnd end;
  std::vector<int32_t> table;
  uint32_t threads = 1;
  Isa isa = current_isa();
};

class Product {
 public:
  explicit Product(ProductSpec spec);
  uint64_t workspace_bytes() const { return slot_bytes() * threads_; }
  // Row major; residual: codes of the output's shape, or null.
  void run(const uint8_t* a, const uint8_t* b, const uint8_t* residual, void* out, void* workspace) const;
  const char* name() const { return kernels_.name; }

 private:
  struct Block { int64_t first, channels, vectors; };
  void pack(const uint8_t* b, uint8_t* to, int32_t* offsets) const;
  void pack_bytes(const uint8_t* b, const Block& block, uint8_t* to, int32_t* sums) const;
  void pack_wide(const uint8_t* b, const Block& block, uint8_t* to) const;
  void rows(const uint8_t* a, int64_t count, const uint8_t* packed, const int32_t* offsets, uint8_t* scratch, const uint8_t* residual, uint8_t* out) const;
  uint64_t packed_bytes() const;
  uint64_t slot_bytes() const;
  int64_t matrix_of(const Dims& dims, int64_t batch) const;

  ProductSpec spec_;
  const DotKernels& kernels_;
  int64_t m_ = 1, k_ = 1, n_ = 1, batch_ = 1, steps_ = 1, padded_ = 0, band_ = 1;
  int32_t a_zero_ = 0, b_zero_ = 0;         // of the numbers as they are multiplied
  uint8_t a_flip_ = 0, b_flip_ = 0;
  uint32_t threads_ = 1;
  std::vector<Block> blocks_;
  std::vector<float> bias_, multiplier_;
};

}  // namespace quern_cpu
