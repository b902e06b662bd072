#include "core/engine/engine.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "core/base/error.hpp"
#include "core/engine/engine_state.hpp"

namespace quern {
namespace {

bool known_to_any(const Graph& graph, const Node& node, const EngineOptions& options) {
  if (border_provider()->knows(graph, node)) return true;
  return std::any_of(options.providers.begin(), options.providers.end(), [&](const auto& p) { return p->knows(graph, node); });
}

std::string expected(const Value& value) {
  return fmt::format("{}{}", name_of(value.dtype), value.shape ? to_string(*value.shape) : "");
}

}  // namespace

std::vector<NodeId> Engine::unknown_nodes(const Graph& graph, const EngineOptions& options) {
  std::vector<NodeId> unknown;
  for (NodeId id : graph.order())
    if (!known_to_any(graph, graph.node(id), options)) unknown.push_back(id);
  return unknown;
}

Engine::Engine(Graph graph, EngineOptions options) : state_(std::make_shared<State>()) {
  register_quern_shape_rules();
  state_->graph = std::move(graph);
  state_->options = std::move(options);
  state_->options.providers.insert(state_->options.providers.begin(), border_provider());
  const Graph& g = state_->graph;
  const std::vector<NodeId> unknown = unknown_nodes(g, state_->options);
  if (!unknown.empty()) {
    std::vector<std::string> list;
    for (NodeId id : unknown) {
      const Node& n = g.node(id);
      if (n.op == "If" && n.domain.empty())
        throw Error(ErrorCode::model, "If: its condition is computed, and only a constant one can be followed")
            .at_node(n.name)
            .hint("export the model for one of the two cases, or give its inputs fixed shapes if the condition is about shapes");
      list.push_back(fmt::format("'{}' ({}{}, since version {})", n.name, n.domain.empty() ? "" : n.domain + ".", n.op, n.since_version));
    }
    throw Error(ErrorCode::model, fmt::format("{} of the model can't be run, nothing here knows {}: {}",
                                              unknown.size() == 1 ? "a node" : fmt::format("{} nodes", unknown.size()),
                                              unknown.size() == 1 ? "its operator" : "their operators", fmt::join(list, ", ")))
        .at_node(g.node(unknown[0]).name)
        .hint("export the model with other operators (a newer opset often has them), cut it before these nodes, or load a "
              "plugin that brings them");
  }
  state_->facts = graph_facts(g, state_->options);
}

Engine::~Engine() = default;

const Graph& Engine::graph() const { return state_->graph; }

Runner Engine::runner() { return runner(state_->options.op_threads); }

Runner Engine::runner(int op_threads) {
  auto state = std::make_unique<Runner::State>();
  state->engine = state_;
  state->threads = std::max(1, op_threads);
  return Runner(std::move(state));
}

void Engine::set_constant(ValueId value, Tensor tensor) {
  std::lock_guard lock(state_->mutex);
  if (value < 0 || static_cast<size_t>(value) >= state_->graph.value_slots() || !state_->graph.value(value).is_constant())
    throw Error(ErrorCode::internal, "set_constant on a value that is not a constant");
  state_->graph.set_constant(value, std::move(tensor));
  state_->changed_at[value] = state_->epoch.load() + 1;
  state_->epoch.fetch_add(1, std::memory_order_release);
}

PlanInfo Engine::plan_info(const NamedTensors& inputs) {
  std::vector<const Tensor*> matched;
  state_->match_inputs(inputs, matched);
  std::vector<Dims> dims;
  for (const Tensor* t : matched) dims.push_back(t->dims());
  const auto first = state_->plan(std::max(1, state_->options.op_threads), dims);
  if (first->last()) return first->info(state_->graph);
  Runner all = runner();
  all.run(inputs);
  return all.plan_info();
}

// From the list, up to date with all constants, or made now; the oldest of more than `most` are forgotten.
std::shared_ptr<Plan> Engine::State::cached(std::list<std::shared_ptr<Plan>>& list, const std::function<bool(const Plan&)>& wanted,
                                            const std::function<std::shared_ptr<Plan>()>& make, size_t most) {
  const uint64_t now = epoch.load();
  for (auto it = list.begin(); it != list.end(); ++it) {
    if (!wanted(**it)) continue;
    std::shared_ptr<Plan> found = *it;
    list.erase(it);
    if (found->epoch != now) {
      auto changed = [&](ValueId v) {
        auto at = changed_at.find(v);
        return at != changed_at.end() && at->second > found->epoch;
      };
      if (!found->refresh(graph, changed)) break;  // made anew below
      found->epoch = now;
    }
    list.push_front(found);
    return found;
  }
  auto made = make();
  made->epoch = now;
  list.push_front(made);
  while (list.size() > std::max<size_t>(1, most)) list.pop_back();
  return made;
}

std::shared_ptr<Plan> Engine::State::plan(int threads, const std::vector<Dims>& input_dims) {
  std::lock_guard lock(mutex);
  return cached(
      plans, [&](const Plan& p) { return p.threads == threads && p.input_dims == input_dims; },
      [&] { return std::make_shared<Plan>(graph, facts, options, threads, input_dims); }, options.plan_cache);
}

std::shared_ptr<Plan> Engine::State::plan_after(const std::shared_ptr<Plan>& before, Found found) {
  std::lock_guard lock(mutex);
  return cached(
      later, [&](const Plan& p) { return p.before == before && p.found == found; },
      [&] { return std::make_shared<Plan>(graph, facts, options, before, std::move(found)); }, 4 * options.plan_cache);
}

void Engine::State::match_inputs(const NamedTensors& given, std::vector<const Tensor*>& matched) const {
  const auto& wanted = graph.inputs();
  matched.assign(wanted.size(), nullptr);
  auto names = [&] {
    std::vector<std::string> list;
    for (ValueId v : wanted) list.push_back("'" + graph.value(v).name + "' (" + expected(graph.value(v)) + ")");
    return wanted.empty() ? std::string("none") : fmt::format("{}", fmt::join(list, ", "));
  };
  for (size_t g = 0; g < given.size(); ++g) {
    size_t i = g < wanted.size() && graph.value(wanted[g]).name == given[g].first ? g : 0;
    while (i < wanted.size() && graph.value(wanted[i]).name != given[g].first) ++i;
    if (i == wanted.size())
      throw Error(ErrorCode::data, fmt::format("the model has no input '{}'; its inputs are: {}", given[g].first, names()));
    if (matched[i]) throw Error(ErrorCode::data, fmt::format("input '{}' is given twice", given[g].first));
    matched[i] = &given[g].second;
  }
  for (size_t i = 0; i < wanted.size(); ++i) {
    const Value& value = graph.value(wanted[i]);
    if (!matched[i])
      throw Error(ErrorCode::data, fmt::format("input '{}' is missing; the model's inputs are: {}", value.name, names()));
    const Tensor& t = *matched[i];
    bool fits = value.dtype == DType::undefined || value.dtype == t.type();
    if (value.shape) {
      fits = fits && value.shape->size() == t.dims().size();
      for (size_t d = 0; fits && d < t.dims().size(); ++d) fits = (*value.shape)[d] < 0 || (*value.shape)[d] == t.dims()[d];
    }
    if (!fits)
      throw Error(ErrorCode::data, fmt::format("input '{}': expected {}, found {}{}", value.name, expected(value), name_of(t.type()),
                                               to_string(t.dims())));
  }
}

}  // namespace quern
