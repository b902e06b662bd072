#include "core/plugin/attributes.hpp"

#include <algorithm>

#include "core/graph/shapes.hpp"
#include "core/rules/attribute_defaults.hpp"

namespace quern {
namespace {

using Attributes = std::map<std::string, Attribute>;
using Ints = std::vector<int64_t>;

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
  const Ints zeros(2 * spatial, 0);
  for (const auto& [name, value] : attribute_defaults(member.op, member.since_version))
    if (const auto* one = std::get_if<Ints>(&value); one && name != "pads") a.try_emplace(name, Ints(spatial, one->front()));
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
  for (const auto& [name, value] : attribute_defaults(member.op, member.since_version))
    if (!std::holds_alternative<Ints>(value)) a.try_emplace(name, value);  // lists: where the number of axes is known
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
