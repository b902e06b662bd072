#include "core/pipeline/sample_runner.hpp"

#include <algorithm>
#include <set>

#include "core/base/error.hpp"
#include "core/base/parallel.hpp"
#include "core/pipeline/pipeline.hpp"

namespace quern {

SampleRunner::SampleRunner(Graph graph, const Dataset& data, std::vector<int64_t> samples, int threads, size_t budget)
    : graph_(std::move(graph)), data_(data), samples_(std::move(samples)), threads_(std::max(1, threads)), budget_(budget),
      position_(graph_.node_slots(), 0) {
  int p = 0;
  for (NodeId id : graph_.order()) position_[static_cast<size_t>(id)] = p++;
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
    if (value.is_constant()) continue;
    if (kept_.count(v) || value.producer == no_node) { from.insert(v); continue; }
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
      if (const auto it = kept_.find(v); it != kept_.end()) { in.emplace_back(name, it->second[s]); continue; }
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
    const Value& value = graph_.value(v);
    if (!value.is_constant() && value.producer != no_node && !kept_.count(v) && std::find(missing.begin(), missing.end(), v) == missing.end())
      missing.push_back(v);
  }
  if (missing.empty()) return;
  std::vector<std::vector<Tensor>> results(missing.size(), std::vector<Tensor>(samples_.size()));
  run(missing, [&](size_t s, std::vector<Tensor>& out) {
    for (size_t k = 0; k < out.size(); ++k) results[k][s] = std::move(out[k]);
  });
  for (size_t k = 0; k < missing.size(); ++k) kept_[missing[k]] = std::move(results[k]);
  shrink(values);
}

void SampleRunner::shrink(const std::vector<ValueId>& needed) {
  size_t total = 0;
  for (const auto& [v, list] : kept_)
    for (const Tensor& t : list) total += t.bytes();
  while (total > budget_) {
    auto earliest = kept_.end();
    for (auto it = kept_.begin(); it != kept_.end(); ++it) {
      if (std::find(needed.begin(), needed.end(), it->first) != needed.end()) continue;
      const auto at = [&](ValueId v) { return position_[static_cast<size_t>(graph_.value(v).producer)]; };
      if (earliest == kept_.end() || at(it->first) < at(earliest->first)) earliest = it;
    }
    if (earliest == kept_.end()) return;
    for (const Tensor& t : earliest->second) total -= t.bytes();
    kept_.erase(earliest);
  }
}

void SampleRunner::compute(ValueId value, const std::function<void(size_t, const Tensor&)>& use) {
  if (const auto it = kept_.find(value); it != kept_.end()) {
    parallel_for(static_cast<int64_t>(samples_.size()), threads_, [&](int64_t i, int) { use(static_cast<size_t>(i), it->second[static_cast<size_t>(i)]); });
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
