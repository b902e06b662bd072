#include "core/rules/operators.hpp"

#include <algorithm>
#include <map>

namespace quern {
namespace {

bool one_of(const std::string& word, std::initializer_list<const char*> words) {
  return std::any_of(words.begin(), words.end(), [&](const char* w) { return word == w; });
}

bool is_binary(const std::string& op) {
  return one_of(op, {"Add", "Sub", "Mul", "Div", "Pow", "Mod", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual",
                     "And", "Or", "Xor", "BitShift"});
}
bool is_variadic(const std::string& op) { return one_of(op, {"Concat", "Sum", "Mean", "Max", "Min"}); }
bool is_dot(const std::string& op) { return one_of(op, {"Conv", "ConvTranspose", "Gemm", "MatMul"}); }

}  // namespace

const std::vector<std::string>& onnx_operators() {
  static const std::vector<std::string> names = {
      "Abs", "Acos", "Acosh", "Add", "AffineGrid", "And", "ArgMax", "ArgMin", "Asin", "Asinh", "Atan", "Atanh", "AveragePool",
      "BatchNormalization", "Bernoulli", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "BlackmanWindow",
      "Cast", "CastLike", "Ceil", "Celu", "CenterCropPad", "Clip", "Col2Im", "Compress", "Concat", "ConcatFromSequence",
      "Constant", "ConstantOfShape", "Conv", "ConvInteger", "ConvTranspose", "Cos", "Cosh", "CumSum", "DFT", "DeformConv",
      "DepthToSpace", "DequantizeLinear", "Det", "Div", "Dropout", "DynamicQuantizeLinear", "Einsum", "Elu", "Equal", "Erf",
      "Exp", "Expand", "EyeLike", "Flatten", "Floor", "GRU", "Gather", "GatherElements", "GatherND", "Gelu", "Gemm",
      "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "Greater", "GreaterOrEqual", "GridSample", "GroupNormalization",
      "HammingWindow", "HannWindow", "HardSigmoid", "HardSwish", "Hardmax", "Identity", "If", "ImageDecoder",
      "InstanceNormalization", "IsInf", "IsNaN", "LRN", "LSTM", "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual",
      "Log", "LogSoftmax", "Loop", "LpNormalization", "LpPool", "MatMul", "MatMulInteger", "Max", "MaxPool", "MaxRoiPool",
      "MaxUnpool", "Mean", "MeanVarianceNormalization", "MelWeightMatrix", "Min", "Mish", "Mod", "Mul", "Multinomial", "Neg",
      "NegativeLogLikelihoodLoss", "NonMaxSuppression", "NonZero", "Not", "OneHot", "Optional", "OptionalGetElement",
      "OptionalHasElement", "Or", "PRelu", "Pad", "Pow", "QLinearConv", "QLinearMatMul", "QuantizeLinear", "RNN",
      "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Range", "Reciprocal", "ReduceL1", "ReduceL2",
      "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
      "ReduceSumSquare", "RegexFullMatch", "Relu", "Reshape", "Resize", "ReverseSequence", "RoiAlign", "Round", "STFT",
      "Scan", "Scatter", "ScatterElements", "ScatterND", "Selu", "SequenceAt", "SequenceConstruct", "SequenceEmpty",
      "SequenceErase", "SequenceInsert", "SequenceLength", "SequenceMap", "Shape", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh",
      "Size", "Slice", "Softmax", "SoftmaxCrossEntropyLoss", "Softplus", "Softsign", "SpaceToDepth", "Split",
      "SplitToSequence", "Sqrt", "Squeeze", "StringConcat", "StringNormalizer", "StringSplit", "Sub", "Sum", "Swish", "Tan", "Tanh",
      "TfIdfVectorizer", "ThresholdedRelu", "Tile", "TopK", "Transpose", "Trilu", "Unique", "Unsqueeze", "Upsample", "Where",
      "Xor"};
  return names;
}

bool is_onnx_operator(const std::string& op) {
  const auto& names = onnx_operators();
  return std::binary_search(names.begin(), names.end(), op);
}

std::vector<std::string> roles_of_op(const std::string& domain, const std::string& op, size_t inputs) {
  std::vector<std::string> roles(inputs);
  const auto set = [&](std::initializer_list<const char*> names) {
    size_t i = 0;
    for (const char* n : names) if (i < inputs) roles[i++] = n;
  };
  if (!domain.empty()) set({"input"});
  else if (one_of(op, {"Conv", "ConvTranspose", "Gemm"})) set({"input", "weight", "bias"});
  else if (op == "MatMul") set({"input", "weight"});
  else if (is_binary(op) || (one_of(op, {"Max", "Min"}) && inputs == 2)) set({"a", "b"});
  else if (is_variadic(op)) for (size_t i = 0; i < inputs; ++i) roles[i] = "in" + std::to_string(i);
  else if (op == "Where") set({"", "a", "b"});
  else set({"input"});
  return roles;
}

std::vector<std::string> legal_roles(const std::string& domain, const std::string& op) {
  if (domain.empty() && one_of(op, {"Max", "Min"})) return {"a", "b", "in*"};
  if (domain.empty() && is_variadic(op)) return {"in*"};
  if (domain.empty() && op == "MatMul") return {"input", "weight", "bias"};  // the bias of an Add fused into it
  std::vector<std::string> out;
  for (auto& r : roles_of_op(domain, op, 8)) if (!r.empty()) out.push_back(r);
  return out;
}

std::vector<std::string> required_roles(const std::string& domain, const std::string& op) {
  if (domain.empty() && one_of(op, {"Max", "Min"})) return {};
  auto out = legal_roles(domain, op);
  std::erase(out, "bias");
  return out;
}

std::string_view name_of(KernelForm form) {
  switch (form) {
    case KernelForm::dot: return "dot";
    case KernelForm::pool_sum: return "pool_sum";
    case KernelForm::pool_max: return "pool_max";
    case KernelForm::reduce: return "reduce";
    case KernelForm::elementwise2: return "elementwise2";
    case KernelForm::resample: return "resample";
    case KernelForm::move: return "move";
    case KernelForm::table: return "table";
  }
  return "?";
}

bool form_fits(const std::string& domain, const std::string& op, KernelForm form) {
  if (!domain.empty() || !is_onnx_operator(op)) return true;
  if (is_dot(op) || op == "ConvInteger") return form == KernelForm::dot;
  if (one_of(op, {"AveragePool", "GlobalAveragePool"})) return form == KernelForm::pool_sum || form == KernelForm::reduce;
  if (one_of(op, {"MaxPool", "GlobalMaxPool"})) return form == KernelForm::pool_max;
  if (op.rfind("Reduce", 0) == 0) return form == KernelForm::reduce || form == KernelForm::pool_sum || form == KernelForm::pool_max;
  if (is_binary(op)) return form == KernelForm::elementwise2;
  if (one_of(op, {"Max", "Min", "Sum", "Mean"})) return form == KernelForm::elementwise2 || form == KernelForm::reduce;
  if (one_of(op, {"Resize", "Upsample"})) return form == KernelForm::resample || form == KernelForm::move;
  if (one_of(op, {"Concat", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Split", "Gather", "Pad", "Expand",
                  "Tile", "DepthToSpace", "SpaceToDepth", "GatherElements", "GatherND", "ReverseSequence", "Identity"})) {
    return form == KernelForm::move;
  }
  if (one_of(op, {"Relu", "Clip", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "LeakyRelu", "Elu", "Selu", "Celu", "Gelu", "Erf",
                  "Exp", "Log", "Sqrt", "Reciprocal", "Abs", "Neg", "Softplus", "Softsign", "Mish", "Swish", "PRelu", "ThresholdedRelu", "Shrink",
                  "Sign", "Floor", "Ceil", "Round", "Sin", "Cos"})) {
    return form == KernelForm::table || form == KernelForm::move;
  }
  return true;
}

bool is_commutative(const std::string& op) { return one_of(op, {"Add", "Mul", "Max", "Min", "Sum", "Mean", "And", "Or", "Xor", "Equal"}); }

bool selects(const std::string& op) { return one_of(op, {"Slice", "Gather", "GatherElements", "GatherND", "Split"}); }

}  // namespace quern
