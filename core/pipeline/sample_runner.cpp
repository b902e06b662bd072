#include "core/pipeline/sample_runner.hpp"

#include <algorithm>
#include <set>

#include "core/base/error.hpp"
#include "core/base/parallel.hpp"
#include "core/numeric/quantization.hpp"
#include "core/pipeline/pipeline.hpp"

namespace quern {

SampleRunner::SampleRunner(Graph graph, const Dataset& data, std::vector<int64_t> samples, int threads, size_t budget, size_t memory)
    : graph_(std::move(graph)), data_(data), samples_(std::move(samples)), threads_(std::max(1, threads)), budget_(budget),
      kept_(samples_.size(), memory), position_(graph_.node_slots(), 0) {
  int p = 0;
  for (NodeId id : graph_.order()) position_[static_cast<size_t>(id)] = p++;
}

bool SampleRunner::is_constant(ValueId v) const {
  const Value& value = graph_.value(v);
  if (value.is_constant() || value.producer == no_node) return value.is_constant();
  const Node& n = graph_.node(value.producer);
  return n.domain == "quern" && n.op == "FakeQuantize" && graph_.value(n.inputs.at(0)).is_constant();
}

void SampleRunner::run(const std::vector<ValueId>& wanted, const std::function<void(size_t, std::vector<Tensor>&)>& use) {
  // The part of the graph between what is kept and what is wanted.
  std::set<NodeId> nodes;
  std::set<ValueId> from;
  std::vector<ValueId> open(wanted.begin(), wanted.end());
  while (!open.empty()) {
    const ValueId v = open.back();
    open.pop_back();
    const Value& value = graph_.value(v);
    if (is_constant(v)) continue;
    if (kept_.has(v) || value.producer == no_node) { from.insert(v); continue; }
    if (!nodes.insert(value.producer).second) continue;
    for (ValueId in : graph_.node(value.producer).inputs)
      if (in != no_value) open.push_back(in);
  }
  Graph part;
  std::map<ValueId, ValueId> map;
  const auto take = [&](ValueId v) {
    if (v == no_value) return no_value;
    auto [it, fresh] = map.emplace(v, no_value);
    if (!fresh) return it->second;
    const Value& value = graph_.value(v);
    if (value.is_constant()) return it->second = part.add_constant(value.name, *value.constant);
    if (is_constant(v)) {
      const Node& quantizer = graph_.node(value.producer);
      const auto& payload = dynamic_cast<const QuantizePayload&>(*quantizer.payload);
      return it->second = part.add_constant(value.name, fake_quantize(*graph_.value(quantizer.inputs[0]).constant, payload.params));
    }
    it->second = part.add_value(value.name, value.dtype, value.shape);
    part.value(it->second).dim_names = value.dim_names;
    return it->second;
  };
  std::vector<ValueId> inputs, outputs;
  for (ValueId v : from) inputs.push_back(take(v));
  part.set_inputs(inputs);
  std::vector<NodeId> ordered(nodes.begin(), nodes.end());
  std::sort(ordered.begin(), ordered.end(), [&](NodeId a, NodeId b) { return position_[static_cast<size_t>(a)] < position_[static_cast<size_t>(b)]; });
  for (NodeId id : ordered) {
    Node node = graph_.node(id);
    for (ValueId& v : node.inputs) v = take(v);
    for (ValueId& v : node.outputs) v = take(v);
    part.add_node(std::move(node));
  }
  for (ValueId v : wanted) outputs.push_back(take(v));
  part.set_outputs(outputs);

  Engine engine(std::move(part), {.providers = {onednn_provider(), own_float_provider()}});
  const int threads = static_cast<int>(std::min<size_t>(static_cast<size_t>(threads_), std::max<size_t>(1, samples_.size())));
  std::vector<Runner> runners;
  for (int w = 0; w < threads; ++w) runners.push_back(engine.runner());
  parallel_for(static_cast<int64_t>(samples_.size()), threads, [&](int64_t i, int worker) {
    const auto s = static_cast<size_t>(i);
    NamedTensors in;
    std::optional<Sample> sample;
    for (ValueId v : from) {
      const std::string& name = graph_.value(v).name;
      if (kept_.has(v)) { in.emplace_back(name, kept_.get(v, s)); continue; }
      if (!sample) sample = data_.item(samples_[s]);
      for (const auto& t : *sample) if (t.name == name) in.emplace_back(name, t.tensor);
    }
    NamedTensors out = runners[static_cast<size_t>(worker)].run(in);
    std::vector<Tensor> values;
    for (auto& [name, tensor] : out) values.push_back(std::move(tensor));
    use(s, values);
  });
}

void SampleRunner::keep(const std::vector<ValueId>& values) {
  std::vector<ValueId> missing;
  for (ValueId v : values) {
    if (!is_constant(v) && graph_.value(v).producer != no_node && !kept_.has(v) && std::find(missing.begin(), missing.end(), v) == missing.end())
      missing.push_back(v);
  }
  if (missing.empty()) return;
  run(missing, [&](size_t s, std::vector<Tensor>& out) {
    for (size_t k = 0; k < out.size(); ++k)
      kept_.put(missing[k], position_[static_cast<size_t>(graph_.value(missing[k]).producer)], s, std::move(out[k]));
  });
  shrink(values);
}

void SampleRunner::shrink(const std::vector<ValueId>& needed) {
  const std::vector<ValueId> values = kept_.values();  // the earliest first
  size_t total = 0;
  for (ValueId v : values) total += kept_.bytes(v);
  for (ValueId v : values) {
    if (total <= budget_) return;
    if (std::find(needed.begin(), needed.end(), v) != needed.end()) continue;
    total -= kept_.bytes(v);
    kept_.erase(v);
  }
}

void SampleRunner::forget_before(NodeId node) {
  const int position = position_[static_cast<size_t>(node)];
  std::vector<char> needed(graph_.value_slots(), 0);  // read behind `node`, or by what has to be run for that
  const std::vector<NodeId> order = graph_.order();
  for (auto it = order.rbegin(); it != order.rend(); ++it) {
    const Node& n = graph_.node(*it);
    const bool runs = position_[static_cast<size_t>(*it)] > position ||
                      std::any_of(n.outputs.begin(), n.outputs.end(), [&](ValueId v) { return v != no_value && needed[static_cast<size_t>(v)] && !kept_.has(v); });
    if (!runs) continue;
    for (ValueId v : n.inputs) if (v != no_value) needed[static_cast<size_t>(v)] = 1;
  }
  for (ValueId v : kept_.values())
    if (position_[static_cast<size_t>(graph_.value(v).producer)] < position && !needed[static_cast<size_t>(v)]) kept_.erase(v);
}

void SampleRunner::compute(ValueId value, const std::function<void(size_t, const Tensor&)>& use) {
  if (kept_.has(value)) {
    parallel_for(static_cast<int64_t>(samples_.size()), threads_, [&](int64_t i, int) { use(static_cast<size_t>(i), kept_.get(value, static_cast<size_t>(i))); });
    return;
  }
  run({value}, [&](size_t s, std::vector<Tensor>& out) { use(s, out.at(0)); });
}

void SampleRunner::set_constant(ValueId value, Tensor tensor) {
  graph_.set_constant(value, std::move(tensor));
  // Forget what lies downstream.
  const auto uses = graph_.uses();
  std::vector<ValueId> open{value};
  std::set<ValueId> seen;
  while (!open.empty()) {
    const ValueId v = open.back();
    open.pop_back();
    if (!seen.insert(v).second) continue;
    kept_.erase(v);
    for (const auto& use : uses[static_cast<size_t>(v)])
      for (ValueId out : graph_.node(use.node).outputs)
        if (out != no_value) open.push_back(out);
  }
}

}  // namespace quern
