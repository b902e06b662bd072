// From scales and constants to the tables of the contracts. Pure: the same operator gives the same bytes on every machine.
//
// Every number is computed in double from floats and rounded to float once:
//   multiplier[oc]    s_x * s_w[oc] / s_y          bias_f32[oc]   float(bias), rounded to nearest even
//   residual_scale    s_r / s_y                    a_ratio        s_a / s_y (b_ratio likewise)
//   ratio             s_x / s_y                    act_low, act_high: the bounds of Relu or Clip / s_y
//   output_zero_point as float
//   act_table, act_offset: a fused function over a domain of real values: table[i] = code of f(low + i * step), offset =
//   -low / step; s_y in multiplier and residual_scale is then the step (function.hpp)
//   table, table_first: a function alone, one entry per input code; the code of the first entry
// A unit that writes floats has s_y = 1 and no output_zero_point.
#pragma once
#include "plugins/common/unit.hpp"

namespace quern_common {

void derive(const OpView& op, quern_sdk::TableSink& tables);

// What rules can't say. False, with the reason, where this target must not run the unit.
bool supports(const OpView& op, std::string& reason);

// Output channels of a Conv, Gemm or MatMul by its weight, and the axis of the weight they lie on.
int64_t output_channels(const OpView& op, int* axis = nullptr);

}  // namespace quern_common
