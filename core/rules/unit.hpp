// A unit: one operator with its fused members, as a target is asked to compute it in integers. Self-contained: geometry
// (members and attributes), operands with their parameters, constants, the contract and the derived tables. The
// interpreter, the target and the package see exactly this.
#pragma once
#include <climits>
#include <memory>
#include <string>
#include <vector>

#include "core/graph/graph.hpp"
#include "core/numeric/contract.hpp"
#include "core/numeric/quantization.hpp"

namespace quern {

inline constexpr int absent_input = INT_MIN;

struct UnitMember {
  std::string name, domain, op;
  int since_version = 1;
  std::map<std::string, Attribute> attributes;
  // Per input of the operator: >= 0 an operand of the unit; -1 - m the output of member m; absent_input.
  std::vector<int> inputs;
};

// The member as a node without inputs and outputs, so that geometry rules written for nodes serve units.
Node node_of(const UnitMember& member);

struct UnitOperand {
  std::string role;               // "input", "weight", "bias", "residual", "a", "b", "in0", ..., "output"; "" attribute-like
  std::string value;              // name of the tensor in the float graph
  DType dtype = DType::f32;       // as it lies in memory
  Dims dims;                      // -1 where unknown (batch)
  std::optional<QuantParams> params;        // none: a float (or index) operand
  std::shared_ptr<const Tensor> constant;   // weights and bias in integers; null for tensors that flow
};

// Payload of a node with domain "quern", op "Unit". The node's inputs are the operands without `constant`, in order.
struct IntegerUnit : NodePayload {
  std::string name;
  std::vector<UnitMember> members;  // first: the operator that gives the kernel form; then what is fused, in order
  std::vector<UnitOperand> operands;
  UnitOperand output;
  std::string config;
  std::shared_ptr<const Contract> contract;
  std::map<std::string, Tensor> tables;  // derived by the target
  int64_t macs_per_sample = 0;

  const UnitOperand* operand(const std::string& role) const;
};

// Payload of "quern" nodes Quantize, Dequantize, FakeQuantize: one input, one output.
struct QuantizePayload : NodePayload { QuantParams params; };

}  // namespace quern
