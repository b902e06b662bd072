#include "core/placement/placement.hpp"

#include <fmt/format.h>

#include "core/placement/draft.hpp"

namespace quern {

int Placement::quantizer_at(ValueId, NodeId consumer, int slot) const {
  const auto it = by_use.find({consumer, slot});
  return it == by_use.end() ? -1 : it->second;
}

int channel_axis_of(const Graph& graph, const Node& node, const std::string& role, const TypeRule& type) {
  if (type.granularity == GranularityRule::tensor) return -1;
  if (type.axis != 0 || role != "weight") return type.axis;
  if (node.op == "ConvTranspose") return 1;
  if (node.op == "Gemm") return node.integer("transB", 0) ? 0 : 1;
  if (node.op == "MatMul" && node.inputs.size() > 1 && node.inputs[1] != no_value) {
    const Value& weight = graph.value(node.inputs[1]);
    if (weight.shape && weight.shape->size() >= 2) return static_cast<int>(weight.shape->size()) - 1;
  }
  return 0;
}

Placement place(const Graph& graph, const Rules& rules, const PlacementOptions& options) {
  placing::Context context(graph, rules, options);
  return placing::solve(context);
}

std::string explain(const Graph& graph, const Rules& rules, const Placement& placement) {
  std::string out = fmt::format("target {}{}: {} units, {} nodes left in float, {} quantizers\n", rules.id,
                                rules.profile.empty() ? "" : ", profile " + rules.profile, placement.units.size(),
                                placement.floats.size(), placement.quantizers.size());
  const auto label = [&](NodeId n) { return fmt::format("{} '{}'", graph.node(n).op, graph.node(n).name); };
  out += "\nquantizers\n";
  for (const auto& q : placement.quantizers) {
    out += fmt::format("  q{} {} '{}'", q.id, q.kind == QuantizerKind::activation ? "tensor" : q.kind == QuantizerKind::weight ? "weight" : "bias",
                       graph.value(q.value).name);
    if (q.consumer != no_node) out += fmt::format(" for {} only", label(q.consumer));
    out += fmt::format(": {}", q.type.empty() ? fmt::format("{}", fmt::join(q.types, " or ")) : q.type);
    if (q.tie >= 0) out += fmt::format(", tied in group {}", q.tie);
    out += fmt::format(" - {}\n", q.reason);
  }
  out += "\nunits\n";
  for (const auto& u : placement.units) {
    out += "  ";
    for (size_t i = 0; i < u.members.size(); ++i) out += (i ? " + " : "") + label(u.members[i]);
    out += ":";
    for (const auto& o : u.operands) {
      if (!o.role.empty()) out += fmt::format(" {}={}", o.role, o.quantizer >= 0 ? fmt::format("q{}", o.quantizer) : o.role == "bias" ? "bias" : "float");
    }
    out += fmt::format(" -> {} - {}\n", u.output_quantizer >= 0 ? fmt::format("q{}", u.output_quantizer) : "float", u.reason);
  }
  out += placement.floats.empty() ? "\nno node stays float\n" : "\nfloat\n";
  for (const auto& f : placement.floats) out += fmt::format("  {}{} - {}\n", label(f.node), f.f16 ? " in f16" : "", f.reason);
  return out;
}

}  // namespace quern
