// The operators of ai.onnx that Quern knows, by definition.
//
// A row lists the since-versions from opset 7 to the newest opset read, in groups of one meaning: within a group a later
// definition only adds types, optional attributes or clearer words, so that a node of an earlier one is also a node of a
// later one. Between groups an attribute became an input, or the meaning changed.
#include "core/onnx/operator_gate.hpp"

#include <algorithm>

namespace quern {
namespace {

constexpr int oldest_opset = 7, newest_opset = 28;

// clang-format off
const std::vector<GateRow> rows{
    {"Abs", {{6, 13}}, 0},
    {"Acos", {{7, 22}}, 0},
    {"Acosh", {{9, 22}}, 0},
    {"Add", {{7, 13, 14}}, 0},
    {"And", {{7}}, 0},
    {"ArgMax", {{1, 11, 12, 13}}, 0},
    {"ArgMin", {{1, 11, 12, 13}}, 0},
    {"Asin", {{7, 22}}, 0},
    {"Asinh", {{9, 22}}, 0},
    {"Atan", {{7, 22}}, 0},
    {"Atanh", {{9, 22}}, 0},
    {"AveragePool", {{7, 10, 11, 19, 22}}, 0},
    {"BatchNormalization", {{7, 9}, {14, 15}}, 0},
    {"BitShift", {{11, 28}}, 0},
    {"BitwiseAnd", {{18}}, 0},
    {"BitwiseNot", {{18}}, 0},
    {"BitwiseOr", {{18}}, 0},
    {"BitwiseXor", {{18}}, 0},
    {"Cast", {{6, 9, 13, 19, 21, 23, 24, 25, 28}}, 0},
    {"CastLike", {{15, 19, 21, 23, 24, 25}}, 0},
    {"Ceil", {{6, 13}}, 0},
    {"Celu", {{12, 28}}, 0},
    {"Clip", {{6}, {11, 12, 13}}, 0},
    {"Compress", {{9, 11, 28}}, 0},
    {"Concat", {{4, 11, 13}}, 0},
    {"Constant", {{1, 9, 11, 12, 13, 19, 21, 23, 24, 25}}, 0},
    {"ConstantOfShape", {{9, 20, 21, 23, 24, 25}}, 0},
    {"Conv", {{1, 11, 22}}, 0},
    {"ConvInteger", {{10}}, 0},
    {"ConvTranspose", {{1, 11, 22}}, 0},
    {"Cos", {{7, 22}}, 0},
    {"Cosh", {{9, 22}}, 0},
    {"CumSum", {{11, 14}}, 0},
    {"DepthToSpace", {{1, 11, 13, 28}}, 0},
    {"DequantizeLinear", {{10, 13, 19, 21, 23, 24, 25, 28}}, 0},
    {"Div", {{7, 13, 14}}, 0},
    {"Dropout", {{7, 10}, {12, 13, 22}}, 0},
    {"DynamicQuantizeLinear", {{11}}, 0},
    {"Einsum", {{12, 28}}, 0},
    {"Elu", {{6, 22}}, 0},
    {"Equal", {{7, 11, 13, 19}}, 0},
    {"Erf", {{9, 13}}, 0},
    {"Exp", {{6, 13}}, 0},
    {"Expand", {{8, 13}}, 0},
    {"EyeLike", {{9, 22}}, 0},
    {"Flatten", {{1, 9, 11, 13, 21, 23, 24, 25}}, 0},
    {"Floor", {{6, 13}}, 0},
    {"GRU", {{7, 14, 22}}, 0},
    {"Gather", {{1, 11, 13}}, 0},
    {"GatherElements", {{11, 13}}, 0},
    {"GatherND", {{11, 12, 13}}, 0},
    {"Gelu", {{20}}, 0},
    {"Gemm", {{7, 9, 11, 13}}, 0},
    {"GlobalAveragePool", {{1, 22}}, 0},
    {"GlobalLpPool", {{2, 22}}, 0},
    {"GlobalMaxPool", {{1, 22}}, 0},
    {"Greater", {{7, 9, 13}}, 0},
    {"GreaterOrEqual", {{12, 16}}, 0},
    {"GridSample", {{16, 20, 22}}, 0},
    {"GroupNormalization", {{18}, {21}}, 0},
    {"HardSigmoid", {{6, 22}}, 0},
    {"HardSwish", {{14, 22}}, 0},
    {"Hardmax", {{1, 11}, {13}}, 0},
    {"Identity", {{1, 13, 14, 16, 19, 21, 23, 24, 25}}, 0},
    {"If", {{1, 11, 13, 16, 19, 21, 23, 24, 25}}, 0},
    {"InstanceNormalization", {{6, 22}}, 0},
    {"IsInf", {{10, 20}}, 0},
    {"IsNaN", {{9, 13, 20}}, 0},
    {"LRN", {{1, 13}}, 0},
    {"LSTM", {{7, 14, 22}}, 0},
    {"LayerNormalization", {{17}}, 0},
    {"LeakyRelu", {{6, 16}}, 0},
    {"Less", {{7, 9, 13}}, 0},
    {"LessOrEqual", {{12, 16}}, 0},
    {"Log", {{6, 13}}, 0},
    {"LogSoftmax", {{1, 11}, {13}}, 0},
    {"LpNormalization", {{1, 22}}, 0},
    {"LpPool", {{2, 11, 18, 22}}, 0},
    {"MatMul", {{1, 9, 13}}, 0},
    {"MatMulInteger", {{10}}, 0},
    {"Max", {{6, 8, 12, 13}}, 0},
    {"MaxPool", {{1, 8, 10, 11, 12, 22}}, 0},
    {"Mean", {{6, 8, 13}}, 0},
    {"MeanVarianceNormalization", {{9, 13}}, 0},
    {"Min", {{6, 8, 12, 13}}, 0},
    {"Mish", {{18, 22}}, 0},
    {"Mod", {{10, 13, 28}}, 0},
    {"Mul", {{7, 13, 14}}, 0},
    {"Neg", {{6, 13}}, 0},
    {"NonMaxSuppression", {{10, 11}}, 0},
    {"NonZero", {{9, 13}}, 0},
    {"Not", {{1}}, 0},
    {"OneHot", {{9, 11, 28}}, 0},
    {"Or", {{7}}, 0},
    {"PRelu", {{7, 9, 16}}, 0},
    {"Pad", {{2}, {11, 13, 18, 19, 21, 23, 24, 25}}, 0},
    {"Pow", {{7, 12, 13, 15}}, 0},
    {"QLinearConv", {{10}}, 0},
    {"QLinearMatMul", {{10, 21}}, 0},
    {"QuantizeLinear", {{10, 13, 19, 21, 23, 24, 25, 28}}, 0},
    {"RNN", {{7, 14, 22}}, 0},
    {"Range", {{11, 27}}, 0},
    {"Reciprocal", {{6, 13}}, 0},
    {"ReduceL1", {{1, 11, 13}, {18}}, 0},
    {"ReduceL2", {{1, 11, 13}, {18}}, 0},
    {"ReduceLogSum", {{1, 11, 13}, {18, 28}}, 0},
    {"ReduceLogSumExp", {{1, 11, 13}, {18, 28}}, 0},
    {"ReduceMax", {{1, 11, 12, 13}, {18, 20}}, 0},
    {"ReduceMean", {{1, 11, 13}, {18}}, 0},
    {"ReduceMin", {{1, 11, 12, 13}, {18, 20}}, 0},
    {"ReduceProd", {{1, 11, 13}, {18}}, 0},
    {"ReduceSum", {{1, 11}, {13}}, 0},
    {"ReduceSumSquare", {{1, 11, 13}, {18}}, 0},
    {"Relu", {{6, 13, 14}}, 0},
    {"Reshape", {{5, 13, 14, 19, 21, 23, 24, 25}}, 0},
    {"Resize", {{10}, {11, 13, 18, 19}}, 0},
    {"ReverseSequence", {{10, 28}}, 0},
    {"Round", {{11, 22}}, 0},
    {"Scatter", {{9}}, 11},
    {"ScatterElements", {{11, 13, 16, 18}}, 0},
    {"ScatterND", {{11, 13, 16, 18}}, 0},
    {"Selu", {{6, 22}}, 0},
    {"Shape", {{1, 13, 15, 19, 21, 23, 24, 25}}, 0},
    {"Shrink", {{9}}, 0},
    {"Sigmoid", {{6, 13}}, 0},
    {"Sign", {{9, 13}}, 0},
    {"Sin", {{7, 22}}, 0},
    {"Sinh", {{9, 22}}, 0},
    {"Size", {{1, 13, 19, 21, 23, 24, 25}}, 0},
    {"Slice", {{1}, {10, 11, 13}}, 0},
    {"Softmax", {{1, 11}, {13}}, 0},
    {"Softplus", {{1, 22}}, 0},
    {"Softsign", {{1, 22}}, 0},
    {"SpaceToDepth", {{1, 13, 28}}, 0},
    {"Split", {{2, 11}, {13}, {18}}, 0},
    {"Sqrt", {{6, 13}}, 0},
    {"Squeeze", {{1, 11}, {13, 21, 23, 24, 25}}, 0},
    {"Sub", {{7, 13, 14}}, 0},
    {"Sum", {{6, 8, 13}}, 0},
    {"Swish", {{24}}, 0},
    {"Tan", {{7, 22}}, 0},
    {"Tanh", {{6, 13}}, 0},
    {"ThresholdedRelu", {{10, 22}}, 0},
    {"Tile", {{6, 13}}, 0},
    {"TopK", {{1}, {10, 11, 24}}, 0},
    {"Transpose", {{1, 13, 21, 23, 24, 25}}, 0},
    {"Trilu", {{14}}, 0},
    {"Unsqueeze", {{1, 11}, {13, 21, 23, 24, 25}}, 0},
    {"Upsample", {{7}, {9}}, 10},
    {"Where", {{9, 16}}, 0},
    {"Xor", {{7}}, 0},
};
// clang-format on

}  // namespace

const GateRow* gate_row(const std::string& op) {
  auto it = std::lower_bound(rows.begin(), rows.end(), op, [](const GateRow& r, const std::string& o) { return r.op < o; });
  return it == rows.end() || it->op != op ? nullptr : &*it;
}

int newest_known_opset() { return newest_opset; }
int oldest_known_opset() { return oldest_opset; }

std::pair<int, int> opset_range(const std::string& op, int since_version) {
  const GateRow* row = gate_row(op);
  if (!row || since_version <= 0) return {since_version, newest_opset};
  for (size_t i = 0; i < row->groups.size(); ++i) {
    const auto& g = row->groups[i];
    if (since_version < g.front() || since_version > g.back()) continue;
    const int end = i + 1 < row->groups.size() ? row->groups[i + 1].front() - 1 : row->ended ? row->ended - 1 : newest_opset;
    return {since_version, end};
  }
  return {since_version, newest_opset};
}

const std::vector<OperatorGate>& operator_gates() {
  static const std::vector<OperatorGate> gates = [] {
    std::vector<OperatorGate> all;
    for (const GateRow& row : rows) {
      OperatorGate gate{"", row.op, {}};
      for (const auto& g : row.groups) gate.since_versions.insert(gate.since_versions.end(), g.begin(), g.end());
      all.push_back(std::move(gate));
    }
    return all;
  }();
  return gates;
}

int since_version_for(const std::string& domain, const std::string& op, int64_t opset) {
  if (!domain.empty() && domain != "ai.onnx") return 0;
  const GateRow* row = gate_row(op);
  if (!row) return 0;
  if (opset < 1 || opset > newest_opset || (row->ended && opset >= row->ended)) return -1;
  int best = 0;
  for (const auto& g : row->groups)
    for (int v : g)
      if (v <= opset) best = v;
  // Files of before opset 7 are read as far as their definitions are those of opset 7 still.
  if (best == 0 && row->groups.front().front() <= oldest_opset) return -1;
  return best;
}

}  // namespace quern
