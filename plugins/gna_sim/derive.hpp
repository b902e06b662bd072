// From scales and constants to the tables of the contracts. Pure: the same operator gives the same bytes on every machine.
//
//   segments        what stands between the sum and the codes (fit.hpp), s32 [n, 3]
//   row_multiplier  of 8-bit rows: the weight is code * multiplier, in one step for all rows
//   acc_bias        the bias in steps of the sum: s_x * step; saturated to 32 bits
//   acc_scale       s_x * step, where the unit writes floats
//   factor          32-bit sum of a single operand: code * factor; a_factor, b_factor: of two
#pragma once
#include "plugins/gna_sim/numbers.hpp"

namespace quern_gna {

void derive(const OpView& op, quern_sdk::TableSink& tables);
// What rules can't say. False, with the reason, where this target must not run the unit.
bool supports(const OpView& op, std::string& reason);

inline constexpr int most_segments = 128;

}  // namespace quern_gna
