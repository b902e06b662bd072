#include "core/rules/attribute_defaults.hpp"

#include <limits>

namespace quern {
namespace {

using Ints = std::vector<int64_t>;

// Since-versions up to `to`, from the one after the entry before of the same attribute, or from 1.
struct Default { const char* op; const char* name; int to; Attribute value; };

constexpr int any = std::numeric_limits<int>::max();

// From ONNX's operator definitions, opset 1 to 24. An operator that ends in * stands for all that begin so.
const std::vector<Default>& table() {
  const auto text = [](const char* s) { return Attribute(std::string(s)); };
  const auto integer = [](int64_t v) { return Attribute(v); };
  const auto real = [](float v) { return Attribute(v); };
  const auto each = [](int64_t v) { return Attribute(Ints{v}); };
  static const auto* list = new std::vector<Default>{
      {"Conv", "group", any, integer(1)},
      {"Conv", "auto_pad", any, text("NOTSET")},
      {"Conv", "strides", any, each(1)},
      {"Conv", "dilations", any, each(1)},
      {"Conv", "pads", any, each(0)},
      {"ConvTranspose", "group", any, integer(1)},
      {"ConvTranspose", "auto_pad", any, text("NOTSET")},
      {"ConvTranspose", "strides", any, each(1)},
      {"ConvTranspose", "dilations", any, each(1)},
      {"ConvTranspose", "pads", any, each(0)},
      {"ConvTranspose", "output_padding", any, each(0)},
      {"Gemm", "alpha", any, real(1)},
      {"Gemm", "beta", any, real(1)},
      {"Gemm", "transA", any, integer(0)},
      {"Gemm", "transB", any, integer(0)},
      {"AveragePool", "auto_pad", any, text("NOTSET")},
      {"AveragePool", "strides", any, each(1)},
      {"AveragePool", "dilations", any, each(1)},
      {"AveragePool", "pads", any, each(0)},
      {"AveragePool", "count_include_pad", any, integer(0)},
      {"AveragePool", "ceil_mode", any, integer(0)},
      {"MaxPool", "auto_pad", any, text("NOTSET")},
      {"MaxPool", "strides", any, each(1)},
      {"MaxPool", "dilations", any, each(1)},
      {"MaxPool", "pads", any, each(0)},
      {"MaxPool", "ceil_mode", any, integer(0)},
      {"MaxPool", "storage_order", any, integer(0)},
      {"LpPool", "auto_pad", any, text("NOTSET")},
      {"LpPool", "strides", any, each(1)},
      {"LpPool", "dilations", any, each(1)},
      {"LpPool", "pads", any, each(0)},
      {"LpPool", "p", any, integer(2)},
      {"LpPool", "ceil_mode", any, integer(0)},
      {"GlobalLpPool", "p", any, integer(2)},
      {"Flatten", "axis", any, integer(1)},
      {"Softmax", "axis", 12, integer(1)},
      {"Softmax", "axis", any, integer(-1)},
      {"LogSoftmax", "axis", 12, integer(1)},
      {"LogSoftmax", "axis", any, integer(-1)},
      {"LeakyRelu", "alpha", any, real(0.01f)},
      {"Elu", "alpha", any, real(1)},
      {"Celu", "alpha", any, real(1)},
      {"Selu", "alpha", any, real(1.67326319217681884765625f)},
      {"Selu", "gamma", any, real(1.05070102214813232421875f)},
      {"ThresholdedRelu", "alpha", any, real(1)},
      {"HardSigmoid", "alpha", any, real(0.2f)},
      {"HardSigmoid", "beta", any, real(0.5f)},
      {"Gelu", "approximate", any, text("none")},
      {"Swish", "alpha", any, real(1)},
      {"Clip", "min", 10, real(std::numeric_limits<float>::lowest())},
      {"Clip", "max", 10, real(std::numeric_limits<float>::max())},
      {"BatchNormalization", "epsilon", any, real(1e-5f)},
      {"InstanceNormalization", "epsilon", any, real(1e-5f)},
      {"LayerNormalization", "axis", any, integer(-1)},
      {"LayerNormalization", "epsilon", any, real(1e-5f)},
      {"LRN", "alpha", any, real(1e-4f)},
      {"LRN", "beta", any, real(0.75f)},
      {"LRN", "bias", any, real(1)},
      {"ArgMax", "axis", any, integer(0)},
      {"ArgMax", "keepdims", any, integer(1)},
      {"ArgMax", "select_last_index", any, integer(0)},
      {"ArgMin", "axis", any, integer(0)},
      {"ArgMin", "keepdims", any, integer(1)},
      {"ArgMin", "select_last_index", any, integer(0)},
      {"Reduce*", "keepdims", any, integer(1)},
      {"Reduce*", "noop_with_empty_axes", any, integer(0)},
      {"TopK", "axis", any, integer(-1)},
      {"TopK", "largest", any, integer(1)},
      {"TopK", "sorted", any, integer(1)},
      {"Gather", "axis", any, integer(0)},
      {"GatherElements", "axis", any, integer(0)},
      {"Split", "axis", any, integer(0)},
      {"DepthToSpace", "mode", any, text("DCR")},
      {"Pad", "mode", any, text("constant")},
      {"Reshape", "allowzero", any, integer(0)},
      {"Upsample", "mode", any, text("nearest")},
      {"Resize", "mode", any, text("nearest")},
      {"Resize", "coordinate_transformation_mode", 10, text("asymmetric")},
      {"Resize", "coordinate_transformation_mode", any, text("half_pixel")},
      {"Resize", "nearest_mode", 10, text("floor")},
      {"Resize", "nearest_mode", any, text("round_prefer_floor")},
      {"Resize", "cubic_coeff_a", any, real(-0.75f)},
      {"Resize", "exclude_outside", any, integer(0)},
      {"Resize", "extrapolation_value", any, real(0)},
      {"Resize", "antialias", any, integer(0)},
      {"Resize", "keep_aspect_ratio_policy", any, text("stretch")},
      {"Mod", "fmod", any, integer(0)},
      {"CumSum", "exclusive", any, integer(0)},
      {"CumSum", "reverse", any, integer(0)},
  };
  return *list;
}

bool is_of(const Default& d, const std::string& op) {
  const std::string_view name = d.op;
  return name.back() == '*' ? op.compare(0, name.size() - 1, name.substr(0, name.size() - 1)) == 0 : op == name;
}

}  // namespace

std::optional<Attribute> attribute_default(const std::string& op, int since_version, const std::string& attribute) {
  for (const Default& d : table())
    if (attribute == d.name && is_of(d, op) && since_version <= d.to) return d.value;
  return {};
}

std::vector<NamedAttribute> attribute_defaults(const std::string& op, int since_version) {
  std::vector<NamedAttribute> out;
  for (const Default& d : table())
    if (is_of(d, op) && since_version <= d.to && (out.empty() || out.back().name != d.name)) out.push_back({d.name, d.value});
  return out;
}

}  // namespace quern
