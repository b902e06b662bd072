// Constant folding: nodes of constants through the engine's kernels, and integer tensors that follow from shapes.
#include <algorithm>

#include "core/graph/editor.hpp"
#include "core/graph/passes.hpp"
#include "core/graph/shapes.hpp"

namespace quern {
namespace {

// What a fold may add to the memory of a model beyond the constants it replaces.
constexpr size_t most_growth = size_t{16} << 20;

bool foldable(const Graph& graph, const Node& node) {
  if (node.removed || node.outputs.empty() || node.payload) return false;
  if (node.domain.empty() && (node.op.rfind("Random", 0) == 0 || node.op == "Multinomial" || node.op == "Bernoulli")) return false;
  return std::all_of(node.inputs.begin(), node.inputs.end(),
                     [&](ValueId v) { return v == no_value || graph.value(v).is_constant(); });
}

void become_constants(GraphEditor& edit, NodeId id, std::vector<Tensor> tensors) {
  const auto outputs = edit.graph.node(id).outputs;
  edit.remove_node(id);
  for (size_t i = 0; i < outputs.size(); ++i)
    if (outputs[i] != no_value && i < tensors.size() && !tensors[i].empty())
      edit.graph.set_constant(outputs[i], std::move(tensors[i]));
}

std::optional<std::vector<Tensor>> constant_node(const Node& node) {
  if (node.op != "Constant" || !node.domain.empty() || node.outputs.size() != 1) return {};
  for (const auto& [key, value] : node.attributes) {
    if (auto* t = std::get_if<Tensor>(&value); t && key == "value") return std::vector<Tensor>{*t};
    if (auto* i = std::get_if<int64_t>(&value)) return std::vector<Tensor>{Tensor::scalar(*i)};
    if (auto* f = std::get_if<float>(&value)) return std::vector<Tensor>{Tensor::scalar(*f)};
    if (auto* is = std::get_if<std::vector<int64_t>>(&value))
      return std::vector<Tensor>{Tensor::of<int64_t>({static_cast<int64_t>(is->size())}, *is)};
    if (auto* fs = std::get_if<std::vector<float>>(&value))
      return std::vector<Tensor>{Tensor::of<float>({static_cast<int64_t>(fs->size())}, *fs)};
  }
  return {};
}

}  // namespace

int64_t fold_constants(Graph& graph, const ConstantEvaluator& evaluate) {
  int64_t changed = 0;
  GraphEditor edit(graph);
  // Whatever shape arithmetic gives: Shape of a known shape, and what is computed from it.
  const ShapeTable table = shapes_for(graph, {});
  for (NodeId id : graph.order()) {
    const Node& node = graph.node(id);
    if (node.payload) continue;
    std::vector<Tensor> data;
    for (ValueId v : node.outputs) {
      if (v == no_value) { data.emplace_back(); continue; }
      const auto& known = table.data[static_cast<size_t>(v)];
      if (!known) break;
      data.push_back(*known);
    }
    if (!data.empty() && data.size() == node.outputs.size()) {
      become_constants(edit, id, std::move(data));
      ++changed;
    }
  }
  for (NodeId id : graph.order()) {
    const Node& node = graph.node(id);
    if (!foldable(graph, node)) continue;
    auto tensors = constant_node(node);
    if (!tensors && evaluate) tensors = evaluate(graph, node);
    if (!tensors || tensors->size() < node.outputs.size()) continue;
    size_t before = most_growth, after = 0;
    for (ValueId v : node.inputs)
      if (v != no_value) before += graph.value(v).constant->bytes();
    bool complete = true;
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      after += (*tensors)[i].bytes();
      complete = complete && (node.outputs[i] == no_value || !(*tensors)[i].empty());
    }
    if (!complete || after > before) continue;
    become_constants(edit, id, std::move(*tensors));
    ++changed;
  }
  return changed;
}

int64_t inline_constant_branches(Graph& graph) {
  int64_t changed = 0;
  for (NodeId id : graph.order()) {
    if (!is_ai(graph.node(id), "If")) continue;
    const Tensor* condition = graph.constant_input(graph.node(id), 0);
    if (!condition || condition->type() != DType::boolean || condition->count() != 1) continue;
    const Node node = graph.node(id);
    const std::string key = condition->values<uint8_t>()[0] ? "then_branch" : "else_branch";
    auto it = node.attributes.find(key);
    auto names = node.attributes.find("quern.captured");
    const auto* branch = it == node.attributes.end() ? nullptr : std::get_if<std::shared_ptr<const Graph>>(&it->second);
    const auto* captured = names == node.attributes.end() ? nullptr : std::get_if<std::vector<std::string>>(&names->second);
    if (!branch || !captured || (*branch)->outputs().size() < node.outputs.size()) continue;
    const Graph& inner = **branch;
    std::map<ValueId, ValueId> here;  // of the branch -> of this graph
    for (ValueId in : inner.inputs()) {
      const auto at = static_cast<size_t>(std::find(captured->begin(), captured->end(), inner.value(in).name) - captured->begin());
      here[in] = node.inputs.at(1 + at);
    }
    graph.remove_node(id);
    std::vector<std::pair<ValueId, ValueId>> copies;  // results that no node of the branch makes
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      if (node.outputs[i] == no_value) continue;
      const ValueId from = inner.outputs()[i];
      if (inner.value(from).producer != no_node && !here.count(from)) here[from] = node.outputs[i];
      else copies.emplace_back(from, node.outputs[i]);
    }
    auto mapped = [&](ValueId v) {
      if (v == no_value) return no_value;
      if (auto found = here.find(v); found != here.end()) return found->second;
      const Value& value = inner.value(v);
      const ValueId fresh = value.constant ? graph.add_constant(value.name, *value.constant)
                                           : graph.add_value(graph.unique_name(value.name), value.dtype, value.shape);
      return here[v] = fresh;
    };
    for (NodeId k : inner.order()) {
      Node copy = inner.node(k);
      for (ValueId& v : copy.inputs) v = mapped(v);
      for (ValueId& v : copy.outputs) v = mapped(v);
      graph.add_node(std::move(copy));
    }
    for (const auto& [from, to] : copies) {
      const ValueId source = mapped(from);
      graph.add_node({.name = graph.unique_name(node.name + ".Identity"), .op = "Identity", .since_version = 13,
                      .inputs = {source}, .outputs = {to}, .origin = {node.name}});
    }
    ++changed;
  }
  return changed;
}

}  // namespace quern
