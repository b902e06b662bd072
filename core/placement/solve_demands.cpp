// Backward over the nodes, every consumer comes before its producer: a draft that runs as integers leaves a demand (a
// set of types) at each of its operands. When a producer is reached all demands on its output are known ("wait for all
// branches"): the largest group that has a type in common is merged, the rest will requantize on their branches. A
// passthrough operator with integer consumers only hands the merged set on to its own input.
#include <fmt/format.h>

#include <algorithm>

#include "core/base/error.hpp"
#include "core/placement/solver.hpp"

namespace quern::placing {

bool Solver::has_float_use(ValueId v) const {
  if (c_.is_output[static_cast<size_t>(v)]) return true;
  size_t data = 0;
  for (const auto& use : c_.uses[static_cast<size_t>(v)]) {
    const std::string& op = g_.node(use.node).op;
    data += op != "Shape" && op != "Size";
  }
  return data > demands_[static_cast<size_t>(v)].size();
}

Merged Solver::merge(ValueId v) const {
  const auto& all = demands_[static_cast<size_t>(v)];
  Merged m;
  if (all.empty()) return m;
  const int axis = all.front().axis;
  std::vector<size_t> count(c_.type_names.size(), 0), sum(c_.type_names.size(), 0);
  for (const auto& d : all) {
    if (d.axis != axis) continue;
    for (size_t i = 0; i < d.types.size(); ++i) { ++count[static_cast<size_t>(d.types[i])]; sum[static_cast<size_t>(d.types[i])] += i; }
  }
  // The type that most consumers take; among equals the one they prefer.
  int best = all.front().types.front();
  for (const auto& d : all) {
    if (d.axis != axis) continue;
    for (const int t : d.types) {
      const auto a = static_cast<size_t>(t), b = static_cast<size_t>(best);
      if (count[a] > count[b] || (count[a] == count[b] && sum[a] < sum[b])) best = t;
    }
  }
  for (size_t i = 0; i < all.size(); ++i) (all[i].axis == axis && contains(all[i].types, best) ? m.main : m.rest).push_back(i);
  std::fill(sum.begin(), sum.end(), 0);
  m.types = all[m.main.front()].types;
  for (const size_t i : m.main) m.types = intersect(m.types, all[i].types);
  for (const size_t i : m.main) for (size_t k = 0; k < all[i].types.size(); ++k) sum[static_cast<size_t>(all[i].types[k])] += k;
  std::stable_sort(m.types.begin(), m.types.end(), [&](int a, int b) { return sum[static_cast<size_t>(a)] < sum[static_cast<size_t>(b)]; });
  return m;
}

bool Solver::gains_nothing(const Draft& d) const {
  return std::all_of(d.configs.begin(), d.configs.end(), [&](const ConfigDraft& c) {
    const auto it = c_.rules.contracts.find(c.config->contract);
    if (it == c_.rules.contracts.end()) return false;
    const KernelForm form = it->second->form;
    return (is_small(form) && !c_.is_output[static_cast<size_t>(d.output)]) || (form == KernelForm::move && !c.float_output);
  });
}

KernelForm Solver::form_of(const Draft& d) const { return c_.rules.contracts.at(d.configs.front().config->contract)->form; }

// Whether integers here would only make the way to floats longer: nothing integer reads the result, and the one tensor it works on
// is made for it alone, by a unit that can write floats or by moves. The quantizer before it would serve it alone.
bool Solver::serves_floats_alone(int index) const {
  const Draft& d = draft(index);
  const auto y = static_cast<size_t>(d.output);
  if (d.members.size() != 1 || !demands_[y].empty() || c_.pinned[y] || c_.rules.op_outputs == "always") return false;
  if (!d.float_output()) return false;
  size_t flows = 0;
  for (const auto& o : d.operands) {
    if (!o.wanted || g_.value(o.value).is_constant()) continue;
    ++flows;
    const auto v = static_cast<size_t>(o.value);
    const int maker = maker_of(o.value);
    if (c_.pinned[v] || maker < 0 || c_.uses[v].size() != 1 || c_.is_output[v]) return false;
    const Draft& from = draft(maker);
    if (!from.float_output() && !from.passthrough && form_of(from) != KernelForm::move) return false;
  }
  const KernelForm form = form_of(d);
  return flows == 1 && (form == KernelForm::table || form == KernelForm::move || form == KernelForm::elementwise2);
}

void Solver::decide(int index) {
  const Draft& d = draft(index);
  State& s = state(index);
  const auto y = static_cast<size_t>(d.output);
  if (d.passthrough) { decide_passthrough(index); return; }
  if (serves_floats_alone(index)) {
    give_up(index, fmt::format("{} is left in float: only floats are read from its output, and integers before it would serve it alone", g_.node(d.members[0]).op));
    return;
  }
  const TypeSet own = d.output_types();
  const bool wanted = !demands_[y].empty();
  const TypeSet fit = wanted ? intersect(merge(d.output).types, own) : TypeSet{};
  if (c_.forbidden[y]) {
    if (!d.float_output()) { give_up(index, fmt::format("the configuration forbids a quantizer on its output '{}', and no config writes floats", g_.value(d.output).name)); return; }
    s.reason = "writes floats: the configuration forbids a quantizer on its output";
  } else if (!fit.empty()) {
    s.output = fit;
    s.demands_fit = true;
  } else if (!wanted && !c_.pinned[y] && c_.rules.op_outputs != "always" && gains_nothing(d)) {
    give_up(index, fmt::format("{} is left in float: nothing integer consumes its output", g_.node(d.members[0]).op));
    return;
  } else if (!own.empty() && (c_.pinned[y] || c_.rules.op_outputs == "always" || !d.float_output())) {
    s.output = own;
    s.reason = c_.pinned[y] ? "output pinned by the configuration"
               : c_.rules.op_outputs == "always" ? "the rules quantize every output"
                                                 : "no config of it writes floats";
  } else if (!d.float_output()) {
    give_up(index, "no config of it writes a type that can be used here");
    return;
  } else {
    s.reason = wanted ? "writes floats: its consumers take no type that it can write" : "writes floats: nothing integer consumes its output";
  }
  s.integer = true;
  for (size_t i = 0; i < d.operands.size(); ++i) {
    const OperandDraft& o = d.operands[i];
    if (!o.wanted) continue;
    Demand demand{o.node, o.slot, o.types, -1, index, i, 0, no_node, 0};
    demand.axis = axis_of(o);
    demands_[static_cast<size_t>(o.value)].push_back(std::move(demand));
  }
}

int Solver::axis_of(const OperandDraft& o) const {
  if (!g_.value(o.value).is_constant()) return -1;
  for (const int t : o.types) {
    const TypeRule& type = c_.rules.type(c_.type_names[static_cast<size_t>(t)]);
    if (type.granularity != GranularityRule::tensor) return channel_axis_of(g_, g_.node(o.node), o.role, type);
  }
  return -1;
}

void Solver::give_up(int index, const std::string& reason) {
  state(index).integer = false;
  for (const NodeId n : draft(index).members) drafts_.reasons[n] = reason;
}

void Solver::decide_passthrough(int index) {
  const Draft& d = draft(index);
  const auto y = static_cast<size_t>(d.output);
  const auto stay = [&](const std::string& why) { give_up(index, fmt::format("{} is left in float: {}", g_.node(d.members[0]).op, why)); };
  if (demands_[y].empty()) { stay("nothing integer consumes its output"); return; }
  // Integers from a unit are moved for all, as a unit's own output would be read by all; floats are not rounded for a part.
  if (has_float_use(d.output) && !makes_integers(index)) { stay("a float consumer takes its output too"); return; }
  if (c_.forbidden[y]) { stay("the configuration forbids a quantizer on its output"); return; }
  const Merged m = merge(d.output);
  const TypeSet types = intersect(m.types, d.carried_types());
  if (types.empty()) { stay(fmt::format("it carries none of {}, which its consumers take", c_.words_of(m.types))); return; }
  for (const auto& o : d.operands) {
    if (!o.wanted || c_.rules.quantize_model_inputs) continue;
    if (g_.value(o.value).producer == no_node && !g_.value(o.value).is_constant()) { stay("the rules quantize no model inputs"); return; }
  }
  State& s = state(index);
  s.integer = true;
  s.output = types;
  const Demand& first = demands_[y][m.main.front()];
  int others = -1;
  for (const size_t i : m.main) others += 1 + demands_[y][i].others;
  for (const auto& o : d.operands) {
    if (!o.wanted) continue;
    Demand demand{o.node, o.slot, types, axis_of(o), first.draft, first.operand, others, first.moves ? first.moved : d.members[0], first.moves + 1};
    demands_[static_cast<size_t>(o.value)].push_back(std::move(demand));
  }
}

}  // namespace quern::placing
