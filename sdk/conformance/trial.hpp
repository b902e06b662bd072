// A case with its numbers: the integer unit as the host itself would build it (core/integer), and integers for its inputs.
//
//   Source source(seed);
//   std::string why;
//   auto trial = make_trial(rules, variant, types_for(variant, 3), {}, source, &why);
//   const Tensor expected = interpret(*trial);            // by the contract alone, after derive
#pragma once
#include "core/plugin/plugin.hpp"
#include "core/rules/unit.hpp"
#include "sdk/conformance/drawing.hpp"

namespace quern::conform {

struct Trial {
  std::shared_ptr<IntegerUnit> unit;
  std::vector<Tensor> inputs;     // of the operands that flow, in order
  std::string text() const;       // "Conv kernel_shape=[3,3] ...: input [1,3,8,8] u8 scale 0.02 zero 128, ... -> ..."
  UnitOperand* operand(const std::string& role);
  const UnitOperand& flowing(size_t input) const;
  std::vector<Dims> input_dims() const;
};

// none, with the reason: such a unit can't be drawn.
std::optional<Trial> make_trial(const Rules& rules, const Variant& variant, const TypeChoice& types, const Frame& frame, Source& source, std::string* why);

// The same with up to 24 seeds after each other, until one fits; `source` becomes the one that did.
std::optional<Trial> find_trial(const Rules& rules, const Variant& variant, const TypeChoice& types, const Frame& frame, Source& source, std::string* why);

// Legal parameters of a type for a range: scale and zero point as the rule allows. `channels` 1: per tensor. `edges`: zero points at
// the ends of their range and in the middle; `exact`: scales that are powers of two, so that sums land on ties.
QuantParams legal_params(const TypeRule& type, double low, double high, int64_t channels, int axis, bool edges, bool exact, Source& source);

// The contract's word: the unit in the host's interpreter. Its tables have to be there.
Tensor interpret(const Trial& trial);
Tensor float_values(const Tensor& codes, const std::optional<QuantParams>& params);  // the numbers that codes stand for

}  // namespace quern::conform
