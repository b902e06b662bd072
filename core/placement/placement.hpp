// Where quantizers go, and which nodes run as one integer unit: from the graph and the rules alone, deterministic, with
// a reason for every decision.
//
// Method (after NNCF's propagation solver; pot-style name order plays no part): nodes are first grouped by the fuse
// patterns; every unit that some config can run asks for a quantizer on each input, carrying the set of types that the
// config allows; quantizers move up through passthrough operators, merge at branches where the sets intersect (what
// does not fit stays on the branch and requantizes), are tied where rules say so, and come to rest at the output of the
// producer. A unit whose quantizers can't be satisfied falls back to float, and the reason is kept.
#pragma once
#include "core/rules/rules.hpp"

namespace quern {

enum class QuantizerKind { activation, weight, bias };

struct Quantizer {
  int id = 0;                        // index in Placement::quantizers
  QuantizerKind kind = QuantizerKind::activation;
  ValueId value = no_value;          // the tensor
  NodeId consumer = no_node;         // set: only for this use (a requantization on a branch); else for all integer uses
  int slot = -1;
  std::vector<std::string> types;    // what the hardware and the user allow here, in order of preference
  int tie = -1;                      // quantizers with the same number share scale and zero point
  int channel_axis = -1;             // weights: the axis that a per-channel type runs along (see channel_axis_of)
  std::string reason;                // "Conv 'conv1' takes u8 or s8 at its input; moved up through Reshape 'r'"
  // Filled when ranges are set (pipeline):
  std::string type;
  std::vector<Range> ranges;
  QuantParams params;
};

// Of a unit, in the order of members and their input slots; absent inputs and what a member takes from another are left out.
struct PlacedOperand { std::string role; ValueId value = no_value; int quantizer = -1; /* -1: float, bias, attribute-like */ };

struct PlacedUnit {
  std::vector<NodeId> members;       // topological; [0] is the operator matched by the rules
  std::string config, contract, pattern;
  std::vector<PlacedOperand> operands;
  ValueId output = no_value;
  int output_quantizer = -1;         // -1: the unit writes floats (its config allows "f32")
  std::string reason;
};

struct FloatNode { NodeId node = no_node; std::string reason; bool f16 = false; /* the rules let the host run it in f16 */ };

struct Placement {
  std::vector<Quantizer> quantizers;
  std::vector<PlacedUnit> units;     // in topological order
  std::vector<FloatNode> floats;     // nodes left in float, with the reason
  std::map<std::pair<NodeId, int>, int> by_use;  // (consumer, slot) -> quantizer: what quantizer_at looks up
  // Quantizer that holds for a use of a value; -1: the use is float. A value behind a passthrough unit has the quantizer
  // of the value before it.
  int quantizer_at(ValueId value, NodeId consumer, int slot) const;
};

struct PlacementOptions {
  Narrowing narrowing;
  std::vector<std::string> pin;      // values that must carry a quantizer (Error(config) when none can be there)
  std::vector<std::string> forbid;   // values that must not
  std::vector<std::string> ignored_nodes, ignored_ops;  // left in float; an entry that matches nothing is an Error(config)
};

// Where a value's quantizer rests, and what float consumers see:
//   - a unit's output that an integer unit consumes gets a quantizer; float consumers of it read the dequantized integers;
//   - an output that only float nodes or the caller take stays float where the config allows "f32" (output_quantizer -1);
//   - consumers that agree on no type: the most agree on the value's quantizer, the others requantize on their branch;
//   - a value that a float node or the caller makes is quantized for its integer uses only;
//   - a function of one tensor, a sum or product with a constant, or a Concat whose result only floats are read from stays float, where the
//     quantizer before it would serve it alone.
Placement place(const Graph& graph, const Rules& rules, const PlacementOptions& options = {});

// The axis of a weight that a per-channel type runs along: axis 0 of the rules means the output channels (Conv 0,
// ConvTranspose 1, Gemm by transB, MatMul last), any other number is taken as it stands.
int channel_axis_of(const Graph& graph, const Node& node, const std::string& role, const TypeRule& type);

// For `quern explain`: one line a quantizer, a unit, a float node.
std::string explain(const Graph& graph, const Rules& rules, const Placement& placement);

}  // namespace quern
