// The functions of one variable that run by tables, and the tables: Sigmoid, Tanh, Gelu, LeakyRelu and the like. Evaluated
// in double by the SDK's portable_math.hpp, so that a table has the same bytes on every machine.
//
//   if (auto f = function_of(op, op.node(m))) { double y = (*f)(0.5); }
#pragma once
#include <optional>

#include "plugins/common/unit.hpp"

namespace quern_common {

class Function {
 public:
  enum class Kind {
    sigmoid, tanh, hard_sigmoid, hard_swish, swish, gelu, gelu_tanh, mish, leaky_relu, elu, celu, selu, softplus, softsign,
    thresholded_relu, exp, log, sqrt, reciprocal, abs, neg, erf, sign, floor, ceil, round
  };
  Kind kind = Kind::sigmoid;
  double a = 0, b = 0;  // the operator's attributes, see function_of
  double operator()(double x) const;
  bool bounded() const;  // tends to a limit on both sides, fast enough for a table of even steps
  double turn() const;   // where a function that falls and rises has its lowest point; 0 for all others
};

// The function of a unit's member; none: it is not one of these (a PRelu with a slope per channel is not).
std::optional<Function> function_of(const OpView& op, const NodeView& node);

// The member behind a Conv, Gemm or MatMul whose function is fused by a table; none: the unit has none.
std::optional<Function> fused_function(const OpView& op);

// What an output's numbers make of a real value: saturate(rne(v / scale) + zero_point); NaN gives the zero point.
struct Coder {
  double scale = 1, zero_point = 0, low = 0, high = 255;
  double operator()(double v) const;
};
Coder coder_of(const OpView& op, const OperandView& output);

// Entries of a fused table, evenly spaced over [low, low + (fused_entries - 1) * step] in real units.
inline constexpr int fused_entries = 4096;
struct Domain { double low = -1, step = 1; };
// For codes: from the last value before the code changes to the first after which it no longer does. For floats (no coder): to
// where the function is within 2^-14 of its limits. Failure where there is no such place.
Domain domain_of(const OpView& op, const Function& f, const Coder* coder);

}  // namespace quern_common
