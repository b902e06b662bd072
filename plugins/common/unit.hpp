// Reading a unit: its fused activation, its geometry, its numbers. Everything here says what is wrong by Failure.
#pragma once
#include <array>
#include <cfloat>
#include <string>
#include <vector>

#include "quern/plugin.hpp"

namespace quern_common {

using quern_sdk::Failure;
using quern_sdk::NodeView;
using quern_sdk::OperandView;
using quern_sdk::OpView;
using quern_sdk::QuantView;
using quern_sdk::Span;

using Dims = std::vector<int64_t>;

Dims dims_of(const OperandView& operand);
int64_t count_of(const Dims& dims);  // -1 when a dimension is unknown

// Clamping of the real value by Relu and Clip members (of any number; the first member may be one itself).
struct Activation {
  bool present = false;
  double low = -FLT_MAX, high = FLT_MAX;
};
Activation activation_of(const OpView& op);

bool is_code(uint32_t dtype);                   // u8 or s8
bool same_codes(const QuantView& a, const QuantView& b);  // equal numbers mean equal codes
// The operand's quantization; Failure unless it is 8 bits, per tensor, with a positive finite scale.
QuantView activation_quant(const OpView& op, const OperandView& operand);
// Scale of the output in real units: 1 for a unit that writes floats.
double output_scale(const OpView& op);
bool writes_floats(const OpView& op);           // Failure unless the output is u8, s8 or f32
// The fused table activation of a unit: its entries as codes, or the bits of floats; empty where there is none.
std::vector<int32_t> activation_table(const OpView& op);

// One spatial axis of a convolution or pooling window.
struct Axis {
  int64_t in = 1, out = 1, kernel = 1, stride = 1, dilation = 1, pad_begin = 0, pad_end = 0;
  int64_t reach() const { return (kernel - 1) * dilation + 1; }
};
// The two spatial axes (height, width); one-dimensional windows get a height of 1. `kernel`: sizes per spatial axis.
// `exact`: the output size must follow from the attributes without ceil_mode.
std::array<Axis, 2> axes_of(const OpView& op, const Dims& in, const Dims& out, const Dims& kernel, bool exact);
// Of a ConvTranspose: `out` is the larger side, pads are what the output loses.
std::array<Axis, 2> transposed_axes_of(const OpView& op, const Dims& in, const Dims& out, const Dims& kernel);

// Of a pooling operator, the global ones too.
std::array<Axis, 2> pool_axes(const OpView& op, const Dims& in, const Dims& out);
// How many places of the window at output place `o` an average divides by: those inside of the input; with `count_padding` those in the
// padding that is declared as well, but not what ceil_mode adds.
int64_t counted_places(const Axis& axis, int64_t o, bool count_padding);

}  // namespace quern_common
