// Private to the integer room: what ONNX Runtime and OpenVINO make of a QDQ graph, and how a graph has to lie so that they make
// integer kernels of it. Facts from looking at the graphs they run (ONNX Runtime 1.20 and 1.31, OpenVINO 2026.4); docs/qdq.md.
#pragma once
#include <functional>

#include "core/integer/integer.hpp"

namespace quern {

// A part of a unit that the runtime runs as one kernel, and the integers of the unit it was cut from.
struct QdqPiece {
  PlacedUnit unit;
  std::shared_ptr<const IntegerUnit> integers;
};

// ONNX Runtime gives a convolution integers only where its own result is quantized: what a unit computes behind it (a sum, a
// table) becomes a piece of its own, with a quantizer between. Calls `added` for the value and returns its quantizer (an index).
std::vector<QdqPiece> ort_pieces(const Graph& graph, const PlacedUnit& unit, std::shared_ptr<const IntegerUnit> integers,
                                 const std::function<int(ValueId value)>& added);

bool is_heavy(const Node& node);  // Conv, ConvTranspose, Gemm, MatMul

// Whether this runtime has no integer kernel for the operator at all.
bool only_float(QdqProfile profile, const Node& node);

// As ONNX Runtime's kernels for x86 want activations: unsigned. The same numbers, 128 added to codes and zero point.
bool needs_unsigned(QdqProfile profile, const QuantParams& params);
QuantParams as_unsigned(QuantParams params);
Tensor as_unsigned(const Tensor& codes);

// Relu and Clip before a QuantizeLinear: left out where the codes end where the activation does, else moved behind it as a Clip
// of codes. Exact: rounding is monotone, and the bounds are rounded the same way.
void clip_in_codes(Graph& graph);

// Nodes that the runtime runs in float, with the reason, in topological order.
std::vector<QdqFloatNode> float_nodes(const Graph& graph, QdqProfile profile);

}  // namespace quern
