#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "core/base/error.hpp"
#include "core/base/log.hpp"
#include "core/integer/build_unit.hpp"
#include "core/integer/half_nodes.hpp"
#include "core/rules/fallback.hpp"

namespace quern {

int64_t macs_of(const Graph& graph, const Node& node) {
  const auto shape = [&](ValueId v) -> const Dims* {
    if (v == no_value) return nullptr;
    const auto& s = graph.value(v).shape;
    return s ? &*s : nullptr;
  };
  const auto input = [&](size_t slot) { return slot < node.inputs.size() ? shape(node.inputs[slot]) : nullptr; };
  // Shapes may claim anything: more than any machine computes in a day is that much, so that sums over nodes stay within 64 bits.
  constexpr int64_t most = int64_t{1} << 48;
  const auto times = [](int64_t a, int64_t b) {
    int64_t n = 0;
    return __builtin_mul_overflow(a, b, &n) ? most : n < most ? n : most;
  };
  // An unknown dimension counts as one.
  const auto places = [&](const Dims& d) {
    int64_t n = 1;
    for (int64_t size : d) n = times(n, size < 0 ? 1 : size);
    return n;
  };
  const Dims* out = node.outputs.empty() ? nullptr : shape(node.outputs[0]);
  int64_t macs = 0;
  if (node.op == "Conv" || node.op == "ConvTranspose") {
    const Dims *x = input(0), *w = input(1);
    const Dims* where = node.op == "Conv" ? out : x;
    if (!where || !w || w->size() < 3) return 0;
    macs = places(*where);
    for (size_t i = 1; i < w->size(); ++i) macs = times(macs, std::max<int64_t>((*w)[i], 1));
  } else if (node.op == "Gemm" || node.op == "MatMul") {
    const Dims* a = input(0);
    if (!a || a->empty() || !input(1) || !out) return 0;
    const int64_t k = node.op == "Gemm" && node.integer("transA", 0) ? a->front() : a->back();
    macs = times(places(*out), std::max<int64_t>(k, 1));
  } else if (node.op == "LSTM" || node.op == "GRU" || node.op == "RNN") {
    const Dims *x = input(0), *w = input(1), *r = input(2);
    if (!x || !w || !r || x->size() != 3) return 0;
    macs = times(places(Dims{(*x)[0], (*x)[1]}), places(*w) + places(*r));
  }
  // Per sample: by the batch that the model's first input states, the leading dimension.
  const Dims* first = graph.inputs().empty() ? nullptr : shape(graph.inputs()[0]);
  const int64_t batch = first && !first->empty() ? std::max<int64_t>(first->front(), 1) : 1;
  return macs % batch == 0 ? macs / batch : macs;
}

namespace {

// Builds the lowered graph. Every value of the float graph may exist there in float form (same name) and in integer form
// per quantizer (name_quantized); borders are made where a use needs the form that is not there yet.
class Lowering {
 public:
  Lowering(const Graph& graph, const Placement& placement, const Rules& rules, const Target& target)
      : graph_(graph), placement_(placement), rules_(rules), target_(target) {}

  IntegerModel run() {
    model_.target = target_.name();
    model_.target_id = target_.id();
    model_.target_version = target_.version();
    model_.profile = rules_.profile;
    model_.rules_digest = rules_.digest;
    model_.graph.name = graph_.name;
    model_.graph.opset = graph_.opset;

    for (size_t u = 0; u < placement_.units.size(); ++u) build(u);
    std::vector<ValueId> inputs;
    for (ValueId v : graph_.inputs()) {
      const Value& value = graph_.value(v);
      const ValueId id = model_.graph.add_value(value.name, value.dtype, value.shape);
      model_.graph.value(id).dim_names = value.dim_names;
      float_form_[v] = id;
      inputs.push_back(id);
    }
    model_.graph.set_inputs(inputs);

    for (NodeId id : graph_.order()) {
      const Node& node = graph_.node(id);
      const int64_t macs = macs_of(graph_, node);
      model_.total_macs += macs;
      const auto it = unit_of_.find(id);
      if (it == unit_of_.end()) {
        const bool half = fallback_of(rules_, graph_, node) == Precision::f16;
        emit_float(node, half);
        ++model_.float_nodes;
        model_.f16_nodes += half;
        model_.f16_macs += half ? macs : 0;
        continue;
      }
      ++model_.integer_nodes;
      model_.integer_macs += macs;
      // A unit stands where its last member stood: by then all its operands exist.
      if (placement_.units[it->second].members.back() == id) emit_unit(it->second);
    }
    std::vector<ValueId> outputs;
    for (ValueId v : graph_.outputs()) outputs.push_back(float_form(v));
    model_.graph.set_outputs(outputs);
    if (model_.f16_nodes > 0) put_half_roundings(model_.graph);
    model_.graph.check();
    return std::move(model_);
  }

 private:
  void build(size_t index) {
    const PlacedUnit& placed = placement_.units[index];
    auto unit = build_unit(graph_, placement_, placed, rules_, constants_, model_.notes);
    std::string reason;
    if (!target_.supports(rules_.profile, *unit, &reason)) {
      model_.notes.push_back({unit->name, fmt::format("left in float: the target does not take it ({})", reason)});
      return;
    }
    try {
      unit->tables = target_.derive(rules_.profile, *unit);
    } catch (const PluginLost& e) {
      model_.notes.push_back({unit->name, fmt::format("left in float: {}", e.message())});
      return;
    }
    for (NodeId id : placed.members) unit_of_[id] = index;
    units_[index] = std::move(unit);
    if (placed.output_quantizer >= 0) produced_as_[placed.output] = placed.output_quantizer;
  }

  ValueId constant(ValueId v) {
    auto [it, fresh] = float_form_.emplace(v, no_value);
    if (fresh) it->second = model_.graph.add_constant(graph_.value(v).name, *graph_.value(v).constant);
    return it->second;
  }

  ValueId float_form(ValueId v) {
    const Value& value = graph_.value(v);
    if (value.is_constant()) return constant(v);
    if (const auto it = float_form_.find(v); it != float_form_.end()) return it->second;
    const auto produced = produced_as_.find(v);
    if (produced == produced_as_.end())
      throw Error(ErrorCode::internal, fmt::format("value '{}' is used before it is made", value.name));
    const ValueId id = model_.graph.add_value(value.name, DType::f32, value.shape);
    border("Dequantize", integer_form(v, produced->second), id, params(produced->second), value.name);
    float_form_[v] = id;
    return id;
  }

  ValueId integer_form(ValueId v, int quantizer) {
    const auto key = std::make_pair(v, params_key(quantizer));
    if (const auto it = integer_form_.find(key); it != integer_form_.end()) return it->second;
    const Value& value = graph_.value(v);
    const ValueId id = model_.graph.add_value(fresh(quantized_name(value.name)), params(quantizer).format.storage(), value.shape);
    integer_form_[key] = id;
    const auto produced = produced_as_.find(v);
    if (produced != produced_as_.end() && params_key(produced->second) == key.second) return id;  // the unit writes it itself
    border("Quantize", float_form(v), id, params(quantizer), value.name);
    return id;
  }

  // A name that neither graph uses: values of the float graph come later under their own names.
  std::string fresh(std::string name) const {
    while (graph_.find_value(name) != no_value || model_.graph.find_value(name) != no_value) name += "_";
    return name;
  }

  // Quantizers with equal parameters give the same integers; they share one form.
  int params_key(int quantizer) {
    const QuantParams& p = params(quantizer);
    for (size_t k = 0; k < distinct_.size(); ++k)
      if (*distinct_[k] == p) return static_cast<int>(k);
    distinct_.push_back(&p);
    return static_cast<int>(distinct_.size()) - 1;
  }

  const QuantParams& params(int quantizer) const { return placement_.quantizers.at(static_cast<size_t>(quantizer)).params; }

  void border(const char* op, ValueId from, ValueId to, const QuantParams& params, const std::string& about) {
    auto payload = std::make_shared<QuantizePayload>();
    payload->params = params;
    Node node;
    node.name = model_.graph.unique_name(fmt::format("{}_{}", about, op));
    node.domain = "quern";
    node.op = op;
    node.inputs = {from};
    node.outputs = {to};
    node.payload = std::move(payload);
    model_.graph.add_node(std::move(node));
  }

  void emit_float(const Node& node, bool half) {
    Node copy = node;
    if (half) mark_f16(copy);
    copy.inputs.clear();
    copy.outputs.clear();
    for (ValueId v : node.inputs) copy.inputs.push_back(v == no_value ? no_value : float_form(v));
    for (ValueId v : node.outputs) {
      if (v == no_value) { copy.outputs.push_back(no_value); continue; }
      const ValueId id = model_.graph.add_value(graph_.value(v).name, graph_.value(v).dtype, graph_.value(v).shape);
      float_form_[v] = id;
      copy.outputs.push_back(id);
    }
    model_.graph.add_node(std::move(copy));
  }

  void emit_unit(size_t index) {
    const PlacedUnit& placed = placement_.units[index];
    const auto& unit = units_.at(index);
    Node node;
    node.name = unit->name;
    node.domain = "quern";
    node.op = "Unit";
    for (const UnitOperand& o : unit->operands) {
      if (o.constant) continue;
      const ValueId v = graph_.find_value(o.value);
      int quantizer = -1;
      for (const auto& p : placed.operands)
        if (p.value == v && p.role == o.role) quantizer = p.quantizer;
      node.inputs.push_back(quantizer >= 0 ? integer_form(v, quantizer) : float_form(v));
    }
    ValueId out;
    if (placed.output_quantizer >= 0) {
      out = integer_form(placed.output, placed.output_quantizer);
    } else {
      out = model_.graph.add_value(graph_.value(placed.output).name, DType::f32, graph_.value(placed.output).shape);
      float_form_[placed.output] = out;
    }
    node.outputs = {out};
    for (NodeId id : placed.members) {
      for (const auto& name : graph_.node(id).origin.empty() ? std::vector<std::string>{graph_.node(id).name} : graph_.node(id).origin)
        node.origin.push_back(name);
    }
    node.payload = unit;
    model_.graph.add_node(std::move(node));
  }

  const Graph& graph_;
  const Placement& placement_;
  const Rules& rules_;
  const Target& target_;
  IntegerModel model_;
  QuantizedConstants constants_;
  std::map<NodeId, size_t> unit_of_;
  std::map<size_t, std::shared_ptr<IntegerUnit>> units_;
  std::map<ValueId, int> produced_as_;   // output quantizer of the unit that makes the value
  std::map<ValueId, ValueId> float_form_;
  std::map<std::pair<ValueId, int>, ValueId> integer_form_;
  std::vector<const QuantParams*> distinct_;
};

}  // namespace

IntegerModel lower(const Graph& graph, const Placement& placement, const Rules& rules, const Target& target) {
  return Lowering(graph, placement, rules, target).run();
}

}  // namespace quern
