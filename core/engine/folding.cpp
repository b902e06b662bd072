// Folding one node of constants: a graph of that node alone, run once. So a folded value is what a run would compute.
#include <algorithm>

#include "core/base/error.hpp"
#include "core/engine/engine.hpp"
#include "core/graph/shapes.hpp"

namespace quern {
namespace {
constexpr int64_t most_growth = int64_t{16} << 20;  // a ConstantOfShape or Tile can blow up a model; more is not kept by the pass
}

std::optional<std::vector<Tensor>> evaluate_constant_node(const Graph& graph, const Node& node) {
  EngineOptions options{.providers = {onednn_provider(), own_float_provider()}};
  for (const auto& [key, attribute] : node.attributes)
    if (std::holds_alternative<std::shared_ptr<const Graph>>(attribute)) return std::nullopt;
  if (std::none_of(options.providers.begin(), options.providers.end(), [&](const auto& p) { return p->knows(graph, node); }))
    return std::nullopt;
  try {
    Graph small;
    Node copy = node;
    for (ValueId& v : copy.inputs) {
      if (v == no_value) continue;
      const Value& value = graph.value(v);
      if (!value.constant || value.dtype == DType::string) return std::nullopt;
      const ValueId there = small.find_value(value.name);
      v = there != no_value ? there : small.add_constant(value.name, *value.constant);
    }
    int64_t room = most_growth;
    for (ValueId v : node.inputs)
      if (v != no_value) room += static_cast<int64_t>(graph.value(v).constant->bytes());
    std::vector<ValueId> outputs;
    for (ValueId& v : copy.outputs) {
      if (v == no_value) continue;
      v = small.add_value(graph.value(v).name, graph.value(v).dtype, graph.value(v).shape);
      outputs.push_back(v);
    }
    small.add_node(std::move(copy));
    small.set_outputs(outputs);
    const ShapeTable shapes = shapes_for(small, {});
    for (ValueId v : outputs) {
      const auto& dims = shapes.dims[static_cast<size_t>(v)];
      const DType type = shapes.dtype[static_cast<size_t>(v)];
      if (!dims || std::count(dims->begin(), dims->end(), -1) || size_of(type) == 0) return std::nullopt;
      const int64_t count = element_count(*dims);
      if (count > room / static_cast<int64_t>(size_of(type))) return std::nullopt;
      room -= count * static_cast<int64_t>(size_of(type));
    }
    Engine engine(std::move(small), options);
    NamedTensors results = engine.runner(1).run({});
    std::vector<Tensor> tensors(node.outputs.size());
    size_t next = 0;
    for (size_t i = 0; i < node.outputs.size(); ++i)
      if (node.outputs[i] != no_value) tensors[i] = std::move(results[next++].second);
    return tensors;
  } catch (const Error& e) {
    // A node that can't be computed is left as it is: the run will say the same, with the place it has in the model.
    if (e.code() == ErrorCode::model) return std::nullopt;
    throw;
  }
}

}  // namespace quern
