// The operators, by family. A new one is a function in its family's file and a line in the list at the end of that file; a
// new family is a file and a line here and in provider.cpp. Nothing registers itself.
#pragma once
#include <span>

#include "core/engine/float/op.hpp"

namespace quern::own {

std::span<const Entry> activation_ops();   // Relu, Sigmoid, Gelu, ... : one tensor, element by element
std::span<const Entry> unary_ops();        // Abs, Sqrt, Exp, Round, Not, Cast, ...
std::span<const Entry> binary_ops();       // Add ... Pow, comparisons, logic, Min, Max, Sum, Mean, PRelu, Where
std::span<const Entry> softmax_ops();
std::span<const Entry> normalization_ops();
std::span<const Entry> pooling_ops();
std::span<const Entry> reduction_ops();    // Reduce*, ArgMax, ArgMin, CumSum
std::span<const Entry> shape_ops();        // views, Shape, Constant, ConstantOfShape, Range, ...
std::span<const Entry> move_ops();         // Transpose, Concat, Split, Slice, Pad, Expand, Tile, ...
std::span<const Entry> gather_ops();       // Gather*, Scatter*, OneHot, TopK
std::span<const Entry> select_ops();       // NonMaxSuppression, NonZero, Compress: sized by data
std::span<const Entry> resize_ops();       // Resize, Upsample
std::span<const Entry> grid_ops();         // GridSample
std::span<const Entry> quantize_ops();     // QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear
std::span<const Entry> dot_ops();          // Conv, ConvTranspose, Gemm, MatMul: plain loops for what oneDNN declines
std::span<const Entry> recurrent_ops();    // LSTM, GRU, RNN
std::span<const Entry> einsum_ops();

}  // namespace quern::own
