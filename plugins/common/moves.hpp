// Operators that only move elements, as walks between two tensors: what goes where, whatever the layouts.
//
//   for (const Piece& p : pieces_of(selection, in, out)) for_rows(p.dims, p.out, {p.in}, ...);   // from p.in_offset to p.out_offset
#pragma once
#include "plugins/common/select.hpp"

namespace quern_common {

// Elements of `dims`, by strides on both sides. fill: not from the input, but one code.
struct Piece {
  Dims dims, out, in;
  int64_t out_offset = 0, in_offset = 0;
  bool fill = false;
};

std::vector<Piece> pieces_of(const Selection& selection, const quern_tensor& in, const quern_tensor& out);

// DepthToSpace and SpaceToDepth: the channel axis and the two of the image in parts, walked together.
struct Blocks {
  bool to_space = true, by_columns = false;
  int64_t size = 1;
  Dims dims;  // sample, channel of the wide one, row, row in the block, column, column in the block
};
bool is_blocks(std::string_view op);
Blocks blocks_of(const OpView& op);  // at complete shapes; failure where they do not fit each other
Piece piece_of(const Blocks& blocks, const quern_tensor& in, const quern_tensor& out);

// Concat: its inputs in order; one operand may come twice.
struct Part {
  int input = -1;                  // among the operands that flow; -1: a constant
  int64_t begin = 0;               // along the axis
  Dims dims;
  std::vector<uint8_t> constant;   // row major, with 64 readable bytes behind
};
struct Join {
  size_t axis = 0;
  std::vector<Part> parts;
};
Join join_of(const OpView& op);

// The perm of a Transpose, checked against the shapes.
Dims order_of(const OpView& op);

// A constant operand's codes in row-major order, with the 64 readable bytes behind them that kernels want.
std::vector<uint8_t> codes_of(const OperandView& operand);

}  // namespace quern_common
