// From a unit's operands and tables to what the row kernels take.
#pragma once
#include "plugins/common/moves.hpp"
#include "plugins/cpu/kernel.hpp"
#include "plugins/cpu/rows.hpp"

namespace quern_cpu {

inline Source source_of(const OpView& op, const OperandView& operand, float ratio) {
  const QuantView q = activation_quant(op, operand);
  Source s;
  s.flip = q.is_signed() ? 0x80 : 0;
  s.zero_point = static_cast<int32_t>(q.zero_point()) + s.flip;
  s.ratio = ratio;
  return s;
}

inline Sink sink_of(const OpView& op) {
  Sink s;
  if (op.find_table("act_low")) {
    s.low = op.table<float>("act_low")[0];
    s.high = op.table<float>("act_high")[0];
  }
  if (op.output().dtype() == QUERN_DTYPE_F32) return s;
  const QuantView q = activation_quant(op, op.output());
  s.zero_point = op.find_table("output_zero_point") ? op.table<float>("output_zero_point")[0] : 0;
  s.qmin = static_cast<float>(q.qmin());
  s.qmax = static_cast<float>(q.qmax());
  return s;
}

}  // namespace quern_cpu
