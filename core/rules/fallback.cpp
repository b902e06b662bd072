#include "core/rules/fallback.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/numeric/rounding.hpp"

namespace quern {
namespace {

constexpr const char* mark = "quern_precision";

bool listed_first(const std::vector<std::string>& fallback) {
  const auto first = std::find_if(fallback.begin(), fallback.end(), [](const std::string& t) { return t == "f16" || t == "f32"; });
  return first != fallback.end() && *first == "f16";
}

// Finite numbers that f16 can't hold would become infinite: a mask of -1e30 is not one of this kind, it means minus infinity.
bool fits(const Tensor& t) {
  for (const float v : t.values<float>())
    if (std::isfinite(v) && std::fabs(v) < 1e6f && std::isinf(from_half(to_half(v)))) return false;
  return true;
}

}  // namespace

bool computes_with(const Node& node, size_t slot) { return slot == 0 || (node.op != "Resize" && node.op != "Upsample"); }

Precision fallback_of(const Rules& rules, const Graph& graph, const Node& node, std::string* why) {
  if (!listed_first(rules.fallback)) return Precision::f32;
  const auto stays = [&](std::string reason) {
    if (why) *why = std::move(reason);
    return Precision::f32;
  };
  if (!node.domain.empty() && node.domain != "ai.onnx") return stays("it is not an operator of ONNX");
  // What is between types is itself a statement of precision.
  if (node.op == "Cast" || node.op == "CastLike" || node.op == "QuantizeLinear" || node.op == "DequantizeLinear") return stays("it turns one type into another");
  const auto is_f32 = [&](ValueId v) { return v != no_value && graph.value(v).dtype == DType::f32; };
  if (std::none_of(node.outputs.begin(), node.outputs.end(), is_f32)) return stays("it makes no floats");
  bool any = false;
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    if (!is_f32(node.inputs[i]) || !computes_with(node, i)) continue;
    any = true;
    const auto& constant = graph.value(node.inputs[i]).constant;
    if (constant && !fits(*constant)) return stays(fmt::format("its constant '{}' has numbers beyond those of f16", graph.value(node.inputs[i]).name));
  }
  return any ? Precision::f16 : stays("it takes no floats");
}

void mark_f16(Node& node) { node.attributes[mark] = std::string("f16"); }
bool is_f16(const Node& node) {
  const auto it = node.attributes.find(mark);
  const auto* text = it == node.attributes.end() ? nullptr : std::get_if<std::string>(&it->second);
  return text && *text == "f16";
}
void unmark_f16(Node& node) { node.attributes.erase(mark); }

}  // namespace quern
