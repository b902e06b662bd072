// The numbers of a unit: its 16-bit (or 8-bit) operands, the multipliers of 8-bit rows, the real value of one step of its sums.
#pragma once
#include <string>
#include <vector>

#include "plugins/common/function.hpp"
#include "plugins/gna_sim/fit.hpp"

namespace quern_gna {

using namespace quern_common;  // units as every target reads them

// Quantization of an operand that is symmetric, per tensor, 16 bits (8 where `narrow` allows it). Failure for any other.
QuantView signed_quant(const OpView& op, const OperandView& operand, bool narrow = false);
bool same_scale(const QuantView& a, const QuantView& b);

// Rows of a weight: channels and products a channel; whether a channel lies in a column ([k][oc]).
struct Rows { int64_t channels = 0, depth = 0; bool columns = false; };
Rows rows_of(const OpView& op);

// The weight's scales as one step times whole numbers of 8 bits: the largest step that says all of them. One number for a
// weight with one scale. Failure where there is no such step.
struct RowScales { double step = 1; std::vector<uint8_t> multiplier; };
RowScales row_scales(const OpView& op);

// What a unit computes between its sum and its codes: the function or the clamp that is fused, or the value itself.
Target target_of(const OpView& op, double x_scale);

}  // namespace quern_gna
