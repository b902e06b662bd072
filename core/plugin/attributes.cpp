#include "core/plugin/attributes.hpp"

#include <algorithm>
#include <limits>

#include "core/graph/shapes.hpp"

namespace quern {
namespace {

using Attributes = std::map<std::string, Attribute>;
using Ints = std::vector<int64_t>;

struct Default { const char* op; const char* name; int from, to; Attribute value; };  // since-versions from..to

constexpr int any = std::numeric_limits<int>::max();

// Defaults of ONNX that do not depend on shapes.
const std::vector<Default>& defaults() {
  auto text = [](const char* s) { return Attribute(std::string(s)); };
  auto integer = [](int64_t v) { return Attribute(v); };
  auto real = [](float v) { return Attribute(v); };
  static const auto* list = new std::vector<Default>{
      {"Conv", "group", 1, any, integer(1)},
      {"ConvTranspose", "group", 1, any, integer(1)},
      {"Gemm", "alpha", 1, any, real(1)},
      {"Gemm", "beta", 1, any, real(1)},
      {"Gemm", "transA", 1, any, integer(0)},
      {"Gemm", "transB", 1, any, integer(0)},
      {"AveragePool", "count_include_pad", 7, any, integer(0)},
      {"AveragePool", "ceil_mode", 1, any, integer(0)},
      {"MaxPool", "ceil_mode", 1, any, integer(0)},
      {"MaxPool", "storage_order", 8, any, integer(0)},
      {"LpPool", "p", 2, any, integer(2)},
      {"LpPool", "ceil_mode", 1, any, integer(0)},
      {"GlobalLpPool", "p", 2, any, integer(2)},
      {"Flatten", "axis", 1, any, integer(1)},
      {"Softmax", "axis", 1, 12, integer(1)},
      {"Softmax", "axis", 13, any, integer(-1)},
      {"LogSoftmax", "axis", 1, 12, integer(1)},
      {"LogSoftmax", "axis", 13, any, integer(-1)},
      {"LeakyRelu", "alpha", 1, any, real(0.01f)},
      {"Elu", "alpha", 1, any, real(1)},
      {"Celu", "alpha", 1, any, real(1)},
      {"Selu", "alpha", 1, any, real(1.67326319217681884765625f)},
      {"Selu", "gamma", 1, any, real(1.05070102214813232421875f)},
      {"ThresholdedRelu", "alpha", 1, any, real(1)},
      {"HardSigmoid", "alpha", 1, any, real(0.2f)},
      {"HardSigmoid", "beta", 1, any, real(0.5f)},
      {"Gelu", "approximate", 1, any, text("none")},
      {"Swish", "alpha", 1, any, real(1)},
      {"Clip", "min", 1, 10, real(std::numeric_limits<float>::lowest())},
      {"Clip", "max", 1, 10, real(std::numeric_limits<float>::max())},
      {"BatchNormalization", "epsilon", 1, any, real(1e-5f)},
      {"InstanceNormalization", "epsilon", 1, any, real(1e-5f)},
      {"LayerNormalization", "axis", 1, any, integer(-1)},
      {"LayerNormalization", "epsilon", 1, any, real(1e-5f)},
      {"LRN", "alpha", 1, any, real(1e-4f)},
      {"LRN", "beta", 1, any, real(0.75f)},
      {"LRN", "bias", 1, any, real(1)},
      {"ArgMax", "axis", 1, any, integer(0)},
      {"ArgMax", "keepdims", 1, any, integer(1)},
      {"ArgMax", "select_last_index", 12, any, integer(0)},
      {"ArgMin", "axis", 1, any, integer(0)},
      {"ArgMin", "keepdims", 1, any, integer(1)},
      {"ArgMin", "select_last_index", 12, any, integer(0)},
      {"TopK", "axis", 1, any, integer(-1)},
      {"TopK", "largest", 11, any, integer(1)},
      {"TopK", "sorted", 11, any, integer(1)},
      {"Gather", "axis", 1, any, integer(0)},
      {"GatherElements", "axis", 1, any, integer(0)},
      {"Split", "axis", 1, any, integer(0)},
      {"DepthToSpace", "mode", 11, any, text("DCR")},
      {"Pad", "mode", 1, any, text("constant")},
      {"Reshape", "allowzero", 14, any, integer(0)},
      {"Upsample", "mode", 1, any, text("nearest")},
      {"Resize", "mode", 10, any, text("nearest")},
      {"Resize", "coordinate_transformation_mode", 11, any, text("half_pixel")},
      {"Resize", "nearest_mode", 11, any, text("round_prefer_floor")},
      {"Resize", "cubic_coeff_a", 11, any, real(-0.75f)},
      {"Resize", "exclude_outside", 11, any, integer(0)},
      {"Resize", "extrapolation_value", 11, any, real(0)},
      {"Resize", "antialias", 18, any, integer(0)},
      {"Resize", "keep_aspect_ratio_policy", 18, any, text("stretch")},
      {"Mod", "fmod", 10, any, integer(0)},
      {"CumSum", "exclusive", 11, any, integer(0)},
      {"CumSum", "reverse", 11, any, integer(0)},
  };
  return *list;
}

bool is_convolution(const std::string& op) { return op == "Conv" || op == "ConvTranspose"; }
bool is_pool(const std::string& op) { return op == "MaxPool" || op == "AveragePool" || op == "LpPool"; }

// kernel_shape, strides, dilations, pads: written out, and auto_pad turned into numbers where that can be done.
void complete_window(const UnitMember& member, const std::vector<std::optional<Dims>>& inputs, Attributes& a) {
  const bool convolution = is_convolution(member.op);
  const bool has_weight = convolution && inputs.size() > 1 && inputs[1];
  if (!a.count("kernel_shape") && has_weight && inputs[1]->size() > 2)
    a["kernel_shape"] = Ints(inputs[1]->begin() + 2, inputs[1]->end());
  if (!a.count("kernel_shape")) return;
  const auto* kernel = std::get_if<Ints>(&a["kernel_shape"]);
  if (!kernel) return;
  const size_t spatial = kernel->size();
  const Ints ones(spatial, 1), zeros(2 * spatial, 0);
  a.try_emplace("strides", ones);
  if (convolution || member.op == "MaxPool" || member.since_version >= 18) a.try_emplace("dilations", ones);
  if (member.op == "ConvTranspose") a.try_emplace("output_padding", Ints(spatial, 0));
  a.try_emplace("auto_pad", std::string("NOTSET"));
  const auto* auto_pad = std::get_if<std::string>(&a["auto_pad"]);
  if (!auto_pad) return;
  const bool sized = member.op == "ConvTranspose" && a.count("output_shape");  // its pads follow from the output
  if (*auto_pad == "NOTSET" && !sized) {
    a.try_emplace("pads", zeros);
  } else if (*auto_pad == "VALID" && !sized) {
    a["pads"] = zeros;
    a["auto_pad"] = std::string("NOTSET");
  } else if (!inputs.empty() && inputs[0] && inputs[0]->size() == spatial + 2 &&
             std::all_of(inputs[0]->begin() + 2, inputs[0]->end(), [](int64_t d) { return d >= 0; }) &&
             (!convolution || has_weight)) {
    const Node node = node_of(member);
    const Window w = member.op == "ConvTranspose" ? conv_transpose_window(node, *inputs[0], *inputs[1])
                     : convolution                ? conv_window(node, *inputs[0], *inputs[1])
                                                  : pool_window(node, *inputs[0]);
    Ints pads = w.pad_begin;
    pads.insert(pads.end(), w.pad_end.begin(), w.pad_end.end());
    a["pads"] = pads;
    a["auto_pad"] = std::string("NOTSET");
  }
}

}  // namespace

Attributes normalised_attributes(const UnitMember& member, const std::vector<std::optional<Dims>>& inputs) {
  Attributes a = member.attributes;
  if (!member.domain.empty() && member.domain != "ai.onnx") return a;
  for (const Default& d : defaults())
    if (member.op == d.op && member.since_version >= d.from && member.since_version <= d.to) a.try_emplace(d.name, d.value);
  if (member.op.rfind("Reduce", 0) == 0) {
    a.try_emplace("keepdims", int64_t{1});
    if (member.since_version >= 18 || (member.op == "ReduceSum" && member.since_version >= 13))
      a.try_emplace("noop_with_empty_axes", int64_t{0});
  }
  if (is_convolution(member.op) || is_pool(member.op)) complete_window(member, inputs, a);
  if (!inputs.empty() && inputs[0]) {
    const auto rank = static_cast<int64_t>(inputs[0]->size());
    if (member.op == "Transpose" && !a.count("perm")) {
      Ints perm;
      for (int64_t i = rank; i-- > 0;) perm.push_back(i);
      a["perm"] = perm;
    }
    auto from_front = [&](int64_t& axis, int64_t n) { if (axis < 0 && axis >= -n) axis += n; };
    if (auto at = a.find("axis"); at != a.end())
      if (auto* axis = std::get_if<int64_t>(&at->second)) from_front(*axis, rank);
    if (auto at = a.find("axes"); at != a.end() && member.op != "Unsqueeze")
      if (auto* axes = std::get_if<Ints>(&at->second))
        for (int64_t& axis : *axes) from_front(axis, rank);
  }
  return a;
}

}  // namespace quern
