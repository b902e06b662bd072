#include "core/pipeline/graph_view.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/log.hpp"
#include "core/integer/integer.hpp"

namespace quern {

// The functions of the table. `self` is the GraphView; every one catches what it throws.
struct GraphView::Calls {
  static GraphView& of(void* self) { return *static_cast<GraphView*>(self); }
  static uint32_t node_count(void* self) { return static_cast<uint32_t>(of(self).order_.size()); }
  static quern_status* node(void* self, uint32_t index, quern_node_view* out) {
    return guarded([&] {
      GraphView& v = of(self);
      const Node& n = v.node_at(index);
      auto& attributes = v.attributes_[index];
      if (!attributes) attributes = std::make_unique<AttributeStructs>(n.attributes);
      out->name = str_of(n.name);
      out->op = str_of(n.op);
      out->n_attrs = attributes->size();
      out->attrs = attributes->data();
      out->n_inputs = static_cast<uint32_t>(n.inputs.size());
      out->n_outputs = static_cast<uint32_t>(n.outputs.size());
      out->inputs = n.inputs.data();
      out->outputs = n.outputs.data();
    });
  }
  static quern_status* value(void* self, uint32_t index, quern_value_view* out) {
    return guarded([&] {
      GraphView& v = of(self);
      const ValueId id = v.value_at(index);
      const Value& value = v.graph_.value(id);
      const Dims& dims = v.dims_[static_cast<size_t>(id)];
      out->name = str_of(value.name);
      out->producer = value.producer == no_node ? -1 : v.index_of_[static_cast<size_t>(value.producer)];
      out->is_constant = value.is_constant();
      out->dtype = static_cast<uint32_t>(value.is_constant() ? value.constant->type() : value.dtype);
      out->rank = static_cast<uint32_t>(dims.size());
      out->dims = dims.data();
      const auto& consumers = v.consumers_[static_cast<size_t>(id)];
      out->n_consumers = static_cast<uint32_t>(consumers.size());
      out->consumers = consumers.data();
      out->is_output = v.graph_.is_output(id);
    });
  }
  static int32_t slot_of_role(void* self, uint32_t node, quern_str role) {
    try {
      const auto roles = roles_of(of(self).node_at(node));
      for (size_t i = 0; i < roles.size(); ++i)
        if (roles[i] == view(role)) return static_cast<int32_t>(i);
    } catch (const std::bad_alloc&) {
      of(self).starved_ = true;  // no status can be given here; the stage is not believed afterwards
    } catch (...) {  // no such node, then no such slot
    }
    return -1;
  }
  static quern_status* read_constant(void* self, uint32_t index, quern_tensor* out) {
    return guarded([&] {
      GraphView& v = of(self);
      const Value& value = v.graph_.value(v.value_at(index));
      if (!value.is_constant()) throw Error(ErrorCode::plugin, fmt::format("'{}' is not a constant", value.name));
      v.constant_ = value.constant->type() == DType::f32 ? *value.constant : Tensor::of<float>(value.constant->dims(), value.constant->to_floats());
      v.constant_struct_ = std::make_unique<TensorStruct>(v.constant_);
      *out = v.constant_struct_->tensor;
    });
  }
  static quern_status* quantizer_of(void* self, uint32_t node, uint32_t slot, quern_quant* out, int32_t* found) {
    return guarded([&] {
      GraphView& v = of(self);
      const int id = v.quantizer_at(node, slot);
      *found = id >= 0;
      if (id < 0) return;
      const Quantizer& q = v.placement_.quantizers[static_cast<size_t>(id)];
      const QuantParams& p = q.params;  // before ranges: no scales yet, count 0
      out->bits = static_cast<uint32_t>(p.format.bits);
      out->is_signed = p.format.is_signed;
      out->qmin = p.format.qmin;
      out->qmax = p.format.qmax;
      out->axis = p.axis;
      out->count = static_cast<uint32_t>(p.scale.size());
      out->scale = p.scale.data();
      out->zero_point = p.zero_point.data();
    });
  }
  static quern_status* statistic(void* self, uint32_t index, const quern_stat_request* request, quern_statistic* out) {
    return guarded([&] {
      GraphView& v = of(self);
      if (!v.statistics_) throw Error(ErrorCode::plugin, "statistics are there when the stage runs, not while it plans");
      v.statistic_request_ = to_request(*request, v.graph_.value(v.value_at(index)).name);
      v.statistic_result_ = v.statistics_->result(v.statistic_request_);
      *out = statistic_view(v.statistic_request_, v.statistic_result_);
    });
  }
  static quern_status* run_node(void* self, uint32_t node, const quern_tensor* inputs, uint32_t n_inputs, uint32_t quantized, quern_tensor* out) {
    return guarded([&] {
      GraphView& v = of(self);
      v.run_output_ = v.run_node(node, {inputs, n_inputs}, quantized != 0);
      v.run_struct_ = std::make_unique<TensorStruct>(v.run_output_);
      *out = v.run_struct_->tensor;
    });
  }
  static quern_status* measure(void* self, uint32_t node, uint32_t samples, double* square, double* difference, uint64_t channels) {
    return guarded([&] { of(self).measure(node, samples, square, difference, channels); });
  }
  static uint32_t sample_count(void* self) { return static_cast<uint32_t>(of(self).data_.size()); }
  static quern_status* sample_value(void* self, uint32_t node, int32_t slot, uint32_t samples, uint32_t sample, uint32_t estimated, quern_tensor* out) {
    return guarded([&] {
      GraphView& v = of(self);
      v.sample_ = v.sample_value(node, slot, samples, sample, estimated != 0);
      v.sample_struct_ = std::make_unique<TensorStruct>(v.sample_);
      *out = v.sample_struct_->tensor;
    });
  }
  static quern_status* measure_outputs(void* self, uint32_t samples, double* signal, double* noise, uint64_t n_outputs) {
    return guarded([&] { of(self).measure_outputs(samples, {signal, n_outputs}, {noise, n_outputs}); });
  }
  static quern_status* begin(void* self) {
    return guarded([&] {
      GraphView& v = of(self);
      if (v.planning_) throw Error(ErrorCode::plugin, "nothing can be changed while planning");
      if (v.open_) throw Error(ErrorCode::plugin, "a transaction is open already");
      v.open_ = true;
      v.undo_.clear();
    });
  }
  static quern_status* set_constant(void* self, uint32_t index, const quern_tensor* f32) {
    return guarded([&] {
      GraphView& v = of(self);
      if (!v.open_) throw Error(ErrorCode::plugin, "a change outside of a transaction (begin, commit)");
      const ValueId id = v.value_at(index);
      v.set_constant(id, f32_copy(*f32, fmt::format("the new data of '{}'", v.graph_.value(id).name)));
    });
  }
  static quern_status* commit(void* self) {
    return guarded([&] {
      GraphView& v = of(self);
      if (!v.open_) throw Error(ErrorCode::plugin, "commit without begin");
      v.open_ = false;
      v.undo_.clear();
    });
  }
  static quern_status* rollback(void* self) {
    return guarded([&] {
      GraphView& v = of(self);
      if (!v.open_) throw Error(ErrorCode::plugin, "rollback without begin");
      for (auto it = v.undo_.rbegin(); it != v.undo_.rend(); ++it) v.put_constant(it->value, *it->before);
      v.open_ = false;
      v.undo_.clear();
    });
  }
  static quern_status* report(void* self, quern_str node, quern_str action, quern_str reason, double before, double after) {
    return guarded([&] {
      GraphView& v = of(self);
      if (v.lines_) v.lines_->push_back({v.stage_, std::string(view(node)), std::string(view(action)), std::string(view(reason)), before, after});
      if (v.tick_) v.tick_();
    });
  }
};

GraphView::GraphView(Graph& graph, Placement& placement, const Dataset& data, int threads)
    : graph_(graph), placement_(placement), data_(data), threads_(threads), order_(graph.order()), index_of_(graph.node_slots(), -1),
      consumers_(graph.value_slots()), attributes_(order_.size()), dims_(graph.value_slots()) {
  for (size_t i = 0; i < order_.size(); ++i) index_of_[static_cast<size_t>(order_[i])] = static_cast<int32_t>(i);
  const auto uses = graph_.uses();
  for (size_t v = 0; v < uses.size(); ++v) {
    for (const auto& use : uses[v]) {
      const int32_t index = index_of_[static_cast<size_t>(use.node)];
      if (consumers_[v].empty() || consumers_[v].back() != index) consumers_[v].push_back(index);
    }
    const Value& value = graph_.value(static_cast<ValueId>(v));
    dims_[v] = value.is_constant() ? value.constant->dims() : value.shape.value_or(Dims{});
  }
  table_ = abi_struct<quern_graph>();
  table_.self = this;
  table_.node_count = Calls::node_count;
  table_.node = Calls::node;
  table_.value = Calls::value;
  table_.slot_of_role = Calls::slot_of_role;
  table_.read_constant = Calls::read_constant;
  table_.quantizer_of = Calls::quantizer_of;
  table_.statistic = Calls::statistic;
  table_.run_node = Calls::run_node;
  table_.measure = Calls::measure;
  table_.begin = Calls::begin;
  table_.set_constant = Calls::set_constant;
  table_.commit = Calls::commit;
  table_.rollback = Calls::rollback;
  table_.report = Calls::report;
  table_.sample_count = Calls::sample_count;
  table_.sample_value = Calls::sample_value;
  table_.measure_outputs = Calls::measure_outputs;
}
GraphView::~GraphView() = default;

const Node& GraphView::node_at(uint32_t index) const {
  if (index >= order_.size()) throw Error(ErrorCode::plugin, fmt::format("there is no node {}", index));
  return graph_.node(order_[index]);
}
ValueId GraphView::value_at(uint32_t index) const {
  if (index >= graph_.value_slots()) throw Error(ErrorCode::plugin, fmt::format("there is no value {}", index));
  return static_cast<ValueId>(index);
}

int GraphView::quantizer_at(uint32_t index, uint32_t slot) const {
  const Node& n = node_at(index);
  if (slot >= n.inputs.size() || n.inputs[slot] == no_value) return -1;
  int id = placement_.quantizer_at(n.inputs[slot], order_[index], static_cast<int>(slot));
  if (id < 0) {
    for (const PlacedUnit& unit : placement_.units) {
      if (std::find(unit.members.begin(), unit.members.end(), order_[index]) == unit.members.end()) continue;
      for (const PlacedOperand& operand : unit.operands)
        if (operand.value == n.inputs[slot]) id = operand.quantizer;
    }
  }
  return id >= 0 && placement_.quantizers[static_cast<size_t>(id)].kind == QuantizerKind::bias ? -1 : id;
}

void GraphView::set_constant(ValueId id, Tensor tensor) {
  const Value& value = graph_.value(id);
  if (!value.is_constant()) throw Error(ErrorCode::plugin, fmt::format("'{}' is not a constant", value.name));
  if (value.constant->dims() != tensor.dims())
    throw Error(ErrorCode::plugin, fmt::format("the new data of '{}' has the shape {}, the old one {}", value.name, to_string(tensor.dims()),
                                               to_string(value.constant->dims())));
  for (float f : tensor.values<float>())
    if (!(std::abs(f) <= std::numeric_limits<float>::max()))
      throw Error(ErrorCode::plugin, fmt::format("the new data of '{}' is not finite", value.name));
  undo_.push_back({id, value.constant});
  put_constant(id, tensor);
}

void GraphView::put_constant(ValueId id, const Tensor& tensor) {
  graph_.set_constant(id, tensor);
  if (id != last_.bias) last_ = {};
  if (!estimated_) return;
  const ValueId there = estimated_->graph().find_value(graph_.value(id).name);
  if (there == no_value) return estimated_.reset();
  estimated_->set_constant(there, tensor);
}

Tensor GraphView::run_node(uint32_t index, std::span<const quern_tensor> inputs, bool quantized_weights) {
  Node node = node_at(index);
  Graph part;
  NamedTensors given;
  std::vector<ValueId> graph_inputs;
  for (size_t s = 0; s < node.inputs.size(); ++s) {
    const ValueId v = node.inputs[s];
    if (v == no_value) continue;
    const Value& value = graph_.value(v);
    const std::string name = fmt::format("slot{}", s);
    if (s < inputs.size() && inputs[s].data) {
      Tensor t = f32_copy(inputs[s], fmt::format("input {} of '{}'", s, node.name));
      node.inputs[s] = part.add_value(name, DType::f32, t.dims());
      graph_inputs.push_back(node.inputs[s]);
      given.emplace_back(name, std::move(t));
      continue;
    }
    if (!value.is_constant()) throw Error(ErrorCode::plugin, fmt::format("input {} of '{}' is no constant; it must be given", s, node.name));
    Tensor t = *value.constant;
    const int q = quantized_weights ? quantizer_at(index, static_cast<uint32_t>(s)) : -1;
    if (q >= 0 && !placement_.quantizers[static_cast<size_t>(q)].params.scale.empty())
      t = fake_quantize(t, placement_.quantizers[static_cast<size_t>(q)].params);
    node.inputs[s] = part.add_constant(name, std::move(t));
  }
  for (size_t o = 0; o < node.outputs.size(); ++o)
    if (node.outputs[o] != no_value) node.outputs[o] = part.add_value(fmt::format("out{}", o));
  const ValueId out = node.outputs.at(0);
  part.set_inputs(graph_inputs);
  part.add_node(std::move(node));
  part.set_outputs({out});
  Engine engine(std::move(part), {.providers = {onednn_provider(), own_float_provider()}});
  return engine.runner().run(given).at(0).second;
}

namespace {

struct PlanSink {
  const Graph& graph;
  StatisticsSet& set;
};
quern_status* plan_request(void* self, uint32_t value, const quern_stat_request* request) {
  return guarded([&] {
    auto& sink = *static_cast<PlanSink*>(self);
    if (value >= sink.graph.value_slots()) throw Error(ErrorCode::plugin, fmt::format("there is no value {}", value));
    const Value& v = sink.graph.value(static_cast<ValueId>(value));
    if (v.is_constant()) throw Error(ErrorCode::plugin, fmt::format("'{}' is a constant; it can be read", v.name));
    sink.set.request(to_request(*request, v.name));
  });
}

}  // namespace

void GraphView::plan(const StageHandle& stage, const json::object& parameters, StatisticsSet& statistics) {
  if (!stage.table->plan) return;
  PlanSink target{graph_, statistics};
  auto sink = abi_struct<quern_stat_plan>();
  sink.self = &target;
  sink.request = plan_request;
  const std::string text = to_text(parameters, false);
  planning_ = true;
  statistics_ = nullptr;
  quern_status* status = stage.table->plan(stage.table->self, str_of(text), &table_, &sink);
  planning_ = false;
  throw_if_failed(status, stage.plugin, fmt::format("planning the stage '{}'", stage.name));
  if (starved_) throw std::bad_alloc();
}

void GraphView::run(const StageHandle& stage, const json::object& parameters, const StatisticsSet& statistics, std::vector<StageLine>& lines,
                    const std::function<void()>& tick) {
  const std::string text = to_text(parameters, false);
  stage_ = stage.name;
  if (!original_) original_ = graph_;  // what measure() compares with: before any stage has run
  statistics_ = &statistics;
  lines_ = &lines;
  tick_ = tick;
  quern_status* status = stage.table->run(stage.table->self, str_of(text), &table_);
  statistics_ = nullptr;
  lines_ = nullptr;
  tick_ = {};
  if (open_) {
    throw_if_failed(Calls::rollback(this), "quern", "rolling back");
    log::warning("the stage '{}' left a transaction open; its last change was undone", stage.name);
  }
  throw_if_failed(status, stage.plugin, fmt::format("running the stage '{}'", stage.name));
  if (starved_) throw std::bad_alloc();
}

}  // namespace quern
