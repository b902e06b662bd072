// Contracts as JSON, in rules and in packages.
//
//   "dot": {
//     "form": "dot",
//     "acc": {"bits": 32, "signed": true, "overflow": "must_not", "order": "free", "saturate_every": 0,
//             "init": "", "padding": "zero_point"},
//     "operands": { "input":    [{"add": "-input.zero_point"}],
//                   "residual": [{"add": "-residual.zero_point"}, {"i2f32": {}}] },
//     "combine": "mul",
//     "post": [ {"i2f32": {}}, {"fadd32": "bias_f32"}, {"fmul32": "multiplier"},
//               {"ffma32": ["@residual", "residual_scale"], "when": "residual"},
//               {"clamp": ["act_low", "act_high"], "when": "act_low"},
//               {"fadd32": "output_zero_point"}, {"f2i": {"round": "half_even", "low": 0, "high": 255}} ] }
//
// A stage is an object with one stage key, and optionally "when" and "width". Operands: a number (integer or real, as the
// stage wants), "name" (table; "<role>.zero_point" and "<role>.scale" are built in), "-name" (negated), "@role" (tensor
// operand after its own pre-stages), "#window" (window count). shr: {"shr": ["shift", {"round": "half_up"}]} or
// {"shr": {"by": "shift", "round": "half_up"}}. clamp: [low, high]; the words "qmin" and "qmax" stand for the output's codes.
// f2i: {"round": ..., "low": a, "high": b}, low and high likewise (also "qmin", "qmax").
#pragma once
#include "core/base/json.hpp"
#include "core/numeric/contract.hpp"

namespace quern {

// `where` names the file and JSON path for errors (Error(plugin)).
Contract parse_contract(const std::string& id, const json::value& value, const std::string& where);
json::value contract_to_json(const Contract& contract);  // parse_contract(contract_to_json(c)) == c

}  // namespace quern
