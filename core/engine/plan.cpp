// Shapes, groups and kernels; buffers and their places are in plan_memory.cpp.
#include "core/engine/plan.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdint>

#include "core/base/error.hpp"
#include "core/engine/island.hpp"
#include "core/engine/reorder.hpp"
#include "core/engine/threads.hpp"

namespace quern {

namespace {

size_t bytes_of(const TensorSpec& spec) {
  const auto elements = static_cast<size_t>(element_count(spec.dims));
  return elements > SIZE_MAX / 16 ? SIZE_MAX : elements * size_of(spec.dtype);
}

}  // namespace

std::vector<ValueId> group_inputs(const Graph& graph, std::span<const NodeId> members) {
  std::vector<ValueId> inside, inputs;
  for (NodeId id : members) {
    const Node& node = graph.node(id);
    for (ValueId v : node.inputs) {
      if (v == no_value || std::count(inside.begin(), inside.end(), v) || std::count(inputs.begin(), inputs.end(), v)) continue;
      inputs.push_back(v);
    }
    inside.insert(inside.end(), node.outputs.begin(), node.outputs.end());
  }
  return inputs;
}

std::string describe(const Graph& graph, ValueId value, DType type, const Dims& dims) {
  return fmt::format("{} {}{}", graph.value(value).name, name_of(type), to_string(dims));
}

GraphFacts graph_facts(const Graph& graph, const EngineOptions& options) {
  GraphFacts facts;
  facts.order = graph.order();
  facts.is_output.assign(graph.value_slots(), false);
  facts.is_tap.assign(graph.value_slots(), false);
  std::vector<ValueId> wanted = graph.outputs();
  for (ValueId v : wanted) facts.is_output[static_cast<size_t>(v)] = true;
  for (const std::string& name : options.taps) {
    const ValueId v = graph.find_value(name);
    if (v == no_value)
      throw Error(ErrorCode::usage, fmt::format("the model has no tensor named '{}' to tap", name))
          .hint("`quern inspect` lists the names of tensors; a tensor may have been folded away when the model was read");
    facts.is_tap[static_cast<size_t>(v)] = true;
    wanted.push_back(v);
  }
  std::vector<bool> needed(graph.node_slots(), false);
  if (options.keep_all) {
    for (NodeId id : facts.order) needed[static_cast<size_t>(id)] = true;
    wanted.clear();
  }
  while (!wanted.empty()) {
    const NodeId producer = graph.value(wanted.back()).producer;
    wanted.pop_back();
    if (producer == no_node || graph.node(producer).removed || needed[static_cast<size_t>(producer)]) continue;
    needed[static_cast<size_t>(producer)] = true;
    for (ValueId v : graph.node(producer).inputs)
      if (v != no_value) wanted.push_back(v);
  }
  facts.position.assign(graph.node_slots(), -1);
  std::vector<NodeId> order;
  for (NodeId id : facts.order) {
    if (!needed[static_cast<size_t>(id)]) continue;
    facts.position[static_cast<size_t>(id)] = static_cast<int>(order.size());
    order.push_back(id);
  }
  facts.order = std::move(order);
  facts.uses = graph.uses();
  for (auto& uses : facts.uses)
    std::erase_if(uses, [&](const Graph::Use& use) { return facts.position[static_cast<size_t>(use.node)] < 0; });
  return facts;
}

Plan::Plan(const Graph& graph, const GraphFacts& facts, const EngineOptions& options, int threads_in, std::vector<Dims> dims)
    : threads(threads_in), input_dims(std::move(dims)), graph_(&graph), facts_(&facts), options_(&options) {
  build();
}

Plan::Plan(const Graph& graph, const GraphFacts& facts, const EngineOptions& options, std::shared_ptr<const Plan> earlier, Found at_cut)
    : threads(earlier->threads), input_dims(earlier->input_dims), before(std::move(earlier)), found(std::move(at_cut)),
      segment(before->segment + 1), graph_(&graph), facts_(&facts), options_(&options) {
  build();
}

void Plan::build() {
  OperatorThreads scope(threads);
  table_ = infer(*graph_);
  buffers_of_.resize(graph_->value_slots());
  planned_.assign(graph_->node_slots(), false);
  enter();
  classify(before ? before->remaining : facts_->order);
  find_groups();
  prepare_all();
  cut();
  finish();
  queue_.clear();
  ready_.clear();
  frontier_.clear();
  graph_ = nullptr;
  facts_ = nullptr;
  options_ = nullptr;
}

const Tensor* Plan::known(const Graph& graph, ValueId value) const {
  if (const auto& constant = graph.value(value).constant) return constant.get();
  return table_.data[static_cast<size_t>(value)].get();
}

bool Plan::free_to_fuse(ValueId value) const {
  const auto v = static_cast<size_t>(value);
  return !options_->keep_all && !facts_->is_output[v] && !facts_->is_tap[v] && facts_->uses[v].size() == 1;
}

// Cuts a proposal to what is legal: nodes that nobody else has, each consumed by the next alone, none later than allowed.
std::vector<NodeId> Plan::checked(std::vector<NodeId> members, int last_position) const {
  size_t n = 1;
  for (; n < members.size(); ++n) {
    const auto next = static_cast<size_t>(members[n]);
    if (next >= planned_.size() || planned_[next] || facts_->position[next] < 0 || facts_->position[next] > last_position) break;
    bool chained = false, free = true;
    for (ValueId v : graph_->node(members[n - 1]).outputs) {
      if (v == no_value || facts_->uses[static_cast<size_t>(v)].empty()) continue;
      free = free && free_to_fuse(v);
      chained = chained || facts_->uses[static_cast<size_t>(v)][0].node == members[n];
    }
    if (!chained || !free) break;
  }
  members.resize(n);
  return members;
}

Plan::Group Plan::propose(NodeId node, size_t first_provider) const {
  const auto& providers = options_->providers;
  for (size_t p = first_provider; p < providers.size(); ++p) {
    if (!providers[p]->knows(*graph_, graph_->node(node))) continue;
    auto members = providers[p]->fuse(*graph_, node, [&](ValueId v) { return free_to_fuse(v); });
    if (members.empty() || members[0] != node)
      throw Error(ErrorCode::internal, fmt::format("provider {} proposed a group without the node it was asked for", providers[p]->name()))
          .at_node(graph_->node(node).name);
    return {providers[p], checked(std::move(members), static_cast<int>(facts_->order.size()))};
  }
  return {nullptr, {node}};
}

void Plan::queue(Group group) {
  for (NodeId id : group.members) planned_[static_cast<size_t>(id)] = true;
  const int key = facts_->position[static_cast<size_t>(group.members.back())];
  queue_[key] = std::move(group);
}

void Plan::find_groups() {
  // Small operators that follow each other without another kernel between become one (island.hpp).
  const SpecOf specs = [this](ValueId v) { return spec_of(*graph_, v); };
  std::vector<NodeId> run;
  for (NodeId id : ready_) {
    const auto at = static_cast<size_t>(id);
    if (planned_[at]) {  // a member of a group that began before
      end_island(run);
      continue;
    }
    const Node& node = graph_->node(id);
    if (options_->keep_all || island_role(node, specs) == IslandRole::none) {
      end_island(run);
      queue(propose(id, 0));
      continue;
    }
    run.push_back(id);
    if (std::any_of(node.outputs.begin(), node.outputs.end(), [&](ValueId v) { return facts_->is_tap[static_cast<size_t>(v)]; })) end_island(run);
  }
  end_island(run);
}

// One that computes little more than a single operator would gain nothing.
void Plan::end_island(std::vector<NodeId>& run) {
  const SpecOf specs = [this](ValueId v) { return spec_of(*graph_, v); };
  const auto works = std::count_if(run.begin(), run.end(), [&](NodeId id) { return island_role(graph_->node(id), specs) == IslandRole::work; });
  if (works > 1) {
    queue({island_provider(), run});
  } else {
    for (NodeId id : run)
      if (!planned_[static_cast<size_t>(id)]) queue(propose(id, 0));
  }
  run.clear();
}

// A group runs at the place of its last member: by then everything else that enters it has been computed, since only last
// members' results are seen outside.
void Plan::prepare_all() {
  while (!queue_.empty()) {
    auto first = queue_.begin();
    Group group = std::move(first->second);
    queue_.erase(first);
    prepare_group(std::move(group));
  }
}

bool Plan::empty_result(NodeId id) const {
  for (ValueId v : graph_->node(id).outputs)
    if (v != no_value && element_count(*table_.dims[static_cast<size_t>(v)]) != 0) return false;
  return true;
}

void Plan::prepare_group(Group group) {
  const NodeId node = group.members[0];
  const int last = facts_->position[static_cast<size_t>(group.members.back())];
  const std::vector<NodeId> all = group.members;
  const bool island = group.provider == island_provider();
  size_t taken = island && try_group(group.provider, all) ? all.size() : 0;
  const auto& providers = options_->providers;
  // The proposed group, then its beginnings, then the same with every provider further down.
  for (size_t p = 0; p < providers.size() && !taken; ++p) {
    std::vector<NodeId> members;
    if (providers[p] == group.provider) {
      members = all;
    } else if ((island || (group.provider && std::find(providers.begin(), providers.end(), group.provider) < providers.begin() + static_cast<long>(p))) &&
               providers[p]->knows(*graph_, graph_->node(node))) {
      for (NodeId id : all) planned_[static_cast<size_t>(id)] = false;
      members = checked(providers[p]->fuse(*graph_, node, [&](ValueId v) { return free_to_fuse(v); }), last);
      for (NodeId id : all) planned_[static_cast<size_t>(id)] = true;
    }
    for (size_t n = members.size(); n > 0 && !taken; --n) {
      if (!try_group(providers[p], std::span(members).first(n))) continue;
      taken = n;
      group.members.assign(members.begin(), members.begin() + static_cast<long>(n));
    }
  }
  if (!taken) refuse(node);
  for (NodeId id : all) planned_[static_cast<size_t>(id)] = std::count(group.members.begin(), group.members.end(), id) != 0;
  for (NodeId id : group.members) planned_[static_cast<size_t>(id)] = true;
  for (NodeId id : all)
    if (!planned_[static_cast<size_t>(id)]) queue(propose(id, 0));
}

void Plan::refuse(NodeId id) const {
  const Node& node = graph_->node(id);
  std::vector<std::string> inputs;
  for (ValueId v : node.inputs)
    if (v != no_value)
      inputs.push_back(describe(*graph_, v, table_.dtype[static_cast<size_t>(v)], table_.dims[static_cast<size_t>(v)].value_or(Dims{})));
  throw Error(ErrorCode::model, fmt::format("no kernel for {}{} with inputs ({})", node.domain.empty() ? "" : node.domain + ".", node.op,
                                            fmt::join(inputs, ", ")))
      .at_node(node.name)
      .hint("change the types or shapes of the model, or leave this node out of it");
}

std::optional<TensorSpec> Plan::spec_of(const Graph& graph, ValueId value) const {
  const auto v = static_cast<size_t>(value);
  if (const Tensor* constant = known(graph, value)) return TensorSpec{.dtype = constant->type(), .dims = constant->dims(), .constant = constant};
  if (!complete(value)) return std::nullopt;
  return TensorSpec{.dtype = table_.dtype[v], .dims = *table_.dims[v]};
}

// All of the last member's, and what else is seen outside of the group.
std::vector<ValueId> Plan::results_of(std::span<const NodeId> members) const {
  std::vector<ValueId> results;
  const auto inside = [&](const Graph::Use& use) { return std::find(members.begin(), members.end(), use.node) != members.end(); };
  for (NodeId id : members.first(members.size() - 1))
    for (ValueId v : graph_->node(id).outputs) {
      if (v == no_value) continue;
      const auto at = static_cast<size_t>(v);
      if (facts_->is_output[at] || facts_->is_tap[at] || !std::all_of(facts_->uses[at].begin(), facts_->uses[at].end(), inside)) results.push_back(v);
    }
  const auto& last = graph_->node(members.back()).outputs;
  results.insert(results.end(), last.begin(), last.end());
  return results;
}

KernelRequest Plan::request(const Graph& graph, std::span<const NodeId> members, std::vector<ValueId> results, std::vector<Layout> came) const {
  KernelRequest r{.graph = graph, .members = {members.begin(), members.end()}, .inputs = {}, .outputs = {},
                  .input_values = group_inputs(graph, members), .output_values = std::move(results),
                  .threads = threads};
  for (size_t i = 0; i < r.input_values.size(); ++i) {
    const auto v = static_cast<size_t>(r.input_values[i]);
    const Tensor* constant = known(graph, r.input_values[i]);
    r.inputs.push_back({.dtype = constant ? constant->type() : table_.dtype[v],
                        .dims = constant ? constant->dims() : table_.dims[v].value_or(Dims{}),
                        .layout = constant ? Layout::row_major : came.empty() ? primary_layout(r.input_values[i]) : came[i],
                        .constant = constant});
  }
  for (ValueId v : r.output_values)
    r.outputs.push_back(v == no_value ? TensorSpec{}
                                      : TensorSpec{.dtype = table_.dtype[static_cast<size_t>(v)], .dims = table_.dims[static_cast<size_t>(v)].value_or(Dims{})});
  return r;
}

std::optional<PreparedKernel> Plan::prepare(const Provider& provider, const KernelRequest& r) const {
  if (&provider != island_provider().get()) return provider.prepare(r);
  return prepare_island(r, [&](ValueId v) { return spec_of(r.graph, v); });
}

bool Plan::try_group(const std::shared_ptr<const Provider>& provider, std::span<const NodeId> members) {
  KernelRequest r = request(*graph_, members, results_of(members), {});
  Step step;
  step.provider = provider;
  step.members = r.members;
  step.input_values = r.input_values;
  step.output_values = r.output_values;
  for (const TensorSpec& spec : r.inputs) step.input_came.push_back(spec.layout);
  for (size_t i = 0; i < r.outputs.size(); ++i)  // before a kernel makes tables of that size
    if (r.output_values[i] != no_value && complete(r.output_values[i])) check_memory(bytes_of(r.outputs[i]), r.output_values[i]);
  const bool sized = std::all_of(r.output_values.begin(), r.output_values.end(), [&](ValueId v) { return v == no_value || complete(v); });
  if (sized && members.size() == 1 && empty_result(members[0])) {
    PreparedKernel nothing;
    nothing.name = "empty";
    nothing.input_layouts.assign(r.inputs.size(), Layout::any);
    nothing.output_layouts.assign(r.outputs.size(), Layout::row_major);
    add_step(std::move(step), nothing);
    return true;
  }
  try {
    auto prepared = prepare(*provider, r);
    if (!prepared) return false;
    if (!prepared->view && !prepared->kernel) throw Error(ErrorCode::internal, "a prepared kernel is missing");
    step.data_sized = dynamic_cast<const DataSizedKernel*>(prepared->kernel.get());
    if (!sized && !step.data_sized) return false;
    if (sized && step.data_sized) throw Error(ErrorCode::internal, "a kernel sizes its outputs though their shapes are known");
    if (prepared->input_layouts.size() != r.inputs.size() || prepared->output_layouts.size() != r.outputs.size())
      throw Error(ErrorCode::internal, fmt::format("provider {} states {} and {} layouts for {} inputs and {} outputs", provider->name(),
                                                   prepared->input_layouts.size(), prepared->output_layouts.size(), r.inputs.size(),
                                                   r.outputs.size()));
    step.kernel = std::move(prepared->kernel);
    add_step(std::move(step), *prepared);
  } catch (Error& e) {
    if (e.node().empty()) e.set_node(graph_->node(members[0]).name);
    throw;
  }
  return true;
}

bool Plan::refresh(const Graph& graph, const std::function<bool(ValueId)>& changed) {
  OperatorThreads scope(threads);
  bool check_shapes = false;
  for (size_t v = 0; v < buffers_of_.size(); ++v) {
    const auto id = static_cast<ValueId>(v);
    if (!graph.value(id).constant || !changed(id)) continue;
    const Tensor& tensor = *graph.value(id).constant;
    if (tensor.type() != table_.dtype[v] || tensor.dims() != table_.dims[v]) return false;
    check_shapes = check_shapes || tensor.count() <= 1024;  // larger ones are data: shape inference looks at no more
  }
  if (check_shapes) {
    const ShapeTable now = infer(graph);
    if (now.dims != table_.dims || now.dtype != table_.dtype) return false;
    for (size_t v = 0; v < now.data.size(); ++v) {
      const Tensor *a = now.data[v].get(), *b = table_.data[v].get();
      if (graph.value(static_cast<ValueId>(v)).constant || a == b) continue;
      if (!a || !b || a->bytes() != b->bytes() || std::memcmp(a->data(), b->data(), a->bytes()) != 0) return false;
    }
    table_.data = now.data;
  }
  for (Buffer& buffer : buffers)
    if (buffer.constant && graph.value(buffer.value).constant && changed(buffer.value)) buffer.constant = graph.value(buffer.value).constant;
  for (Step& step : steps) {
    if (std::none_of(step.input_values.begin(), step.input_values.end(), changed)) continue;
    if (step.view) return false;  // a view of the constant itself: its buffer would have to follow
    if (!step.kernel) continue;
    auto prepared = prepare(*step.provider, request(graph, step.members, step.output_values, step.input_came));
    if (!prepared || prepared->view || prepared->input_layouts != step.input_layouts || prepared->output_layouts != step.output_layouts ||
        prepared->may_alias != step.may_alias || prepared->alias_input != step.alias_input ||
        prepared->kernel->workspace_bytes() > workspace_bytes)
      return false;
    step.kernel = std::move(prepared->kernel);
    step.data_sized = step.data_sized ? dynamic_cast<const DataSizedKernel*>(step.kernel.get()) : nullptr;
    step.kernel_name = prepared->name;
    ++step.version;
  }
  return true;
}

}  // namespace quern
