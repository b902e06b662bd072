// Forward over the nodes: quantizers are made where the demands came to rest, then ties and configs narrow their sets.
// Each node and each use is looked at a fixed number of times.
#include <fmt/format.h>

#include <algorithm>

#include "core/base/error.hpp"
#include "core/placement/solver.hpp"
#include "core/rules/fallback.hpp"

namespace quern::placing {

Solver::Solver(const Context& c, Drafts drafts) : c_(c), g_(c.graph), drafts_(std::move(drafts)) {
  demands_.resize(g_.value_slots());
  main_.assign(g_.value_slots(), -1);
  carried_.assign(g_.value_slots(), -1);
  state_.resize(drafts_.list.size());
  last_of_.assign(g_.node_slots(), -1);
  for (size_t i = 0; i < drafts_.list.size(); ++i) last_of_[static_cast<size_t>(drafts_.list[i].members.back())] = static_cast<int>(i);
  for (const Draft& d : drafts_.list) {  // producers come first
    bool makes = !d.output_types().empty() && !c.forbidden[static_cast<size_t>(d.output)];
    for (const auto& o : d.operands) {
      if (!d.passthrough || !o.wanted) continue;
      const int maker = maker_of(o.value);
      makes = makes && maker >= 0 && makes_integers_[static_cast<size_t>(maker)];
    }
    makes_integers_.push_back(makes);
  }
}

int Solver::maker_of(ValueId v) const {
  const NodeId producer = g_.value(v).producer;
  return producer == no_node ? -1 : last_of_[static_cast<size_t>(producer)];
}

void Solver::decide_all() {
  for (auto it = c_.order.rbegin(); it != c_.order.rend(); ++it) {
    const int d = last_of_[static_cast<size_t>(*it)];
    if (d >= 0) decide(d);
  }
}

Placement Solver::finish() {
  for (size_t v = 0; v < demands_.size(); ++v) {
    if (g_.value(static_cast<ValueId>(v)).producer == no_node) rest_at(static_cast<ValueId>(v));
  }
  for (const NodeId n : c_.order) {
    const int d = last_of_[static_cast<size_t>(n)];
    if (d >= 0) settle(d);
    else if (drafts_.draft_of[static_cast<size_t>(n)] < 0) for (const ValueId v : g_.node(n).outputs) if (v != no_value) rest_at(v);
  }
  for (const NodeId n : c_.order) {
    const int d = last_of_[static_cast<size_t>(n)];
    if (d >= 0 && state_[static_cast<size_t>(d)].integer) tie(d);
  }
  for (const NodeId n : c_.order) {
    const int d = last_of_[static_cast<size_t>(n)];
    if (d >= 0 && state_[static_cast<size_t>(d)].integer) choose_config(d);
  }
  check_pins();
  return collect();
}

int Solver::make(ValueId v, TypeSet types, std::string reason, NodeId consumer, int slot) {
  Slot q;
  q.value = v;
  q.types = std::move(types);
  q.reason = std::move(reason);
  q.consumer = consumer;
  q.slot = slot;
  q.parent = static_cast<int>(slots_.size());
  slots_.push_back(std::move(q));
  return slots_.back().parent;
}

int Solver::find(int q) {
  while (slots_[static_cast<size_t>(q)].parent != q) {
    const int up = slots_[static_cast<size_t>(q)].parent;
    slots_[static_cast<size_t>(q)].parent = slots_[static_cast<size_t>(up)].parent;
    q = slots_[static_cast<size_t>(q)].parent;
  }
  return q;
}

std::string Solver::wish(const Demand& d) const {
  const Draft& source = draft(d.draft);
  const OperandDraft& o = source.operands[d.operand];
  std::string text = fmt::format("{} takes {} at '{}'", c_.label(o.node), c_.words_of(o.types), o.role);
  if (d.others) text += fmt::format(" (and {} more behind it)", d.others);
  if (d.moves) text += fmt::format("; moved up through {}", c_.label(d.moved));
  if (d.moves > 1) text += fmt::format(" and {} more", d.moves - 1);
  return text;
}

std::string Solver::wishes(ValueId v, const std::vector<size_t>& which) const {
  const auto& all = demands_[static_cast<size_t>(v)];
  std::string text;
  for (size_t i = 0; i < which.size() && i < 3; ++i) text += (i ? "; " : "") + wish(all[which[i]]);
  if (which.size() > 3) text += fmt::format("; and {} more", which.size() - 3);
  return text;
}

void Solver::give(ValueId v, const std::vector<size_t>& which, int q) {
  for (const size_t i : which) {
    const Demand& d = demands_[static_cast<size_t>(v)][i];
    use_[{d.node, d.slot}] = q;
    if (d.axis >= 0) slots_[static_cast<size_t>(q)].axis = d.axis;
  }
}

void Solver::branch(ValueId v, const std::vector<size_t>& which) {
  for (const size_t i : which) {
    const Demand& d = demands_[static_cast<size_t>(v)][i];
    give(v, {i}, make(v, d.types, fmt::format("{}; the other consumers of '{}' take another type, so this branch requantizes", wish(d), g_.value(v).name), d.node, d.slot));
  }
}

void Solver::rest_at(ValueId v) {
  if (demands_[static_cast<size_t>(v)].empty()) return;
  const Merged m = merge(v);
  const int q = make(v, m.types, wishes(v, m.main));
  main_[static_cast<size_t>(v)] = q;
  give(v, m.main, q);
  branch(v, m.rest);
}

void Solver::settle(int index) {
  const Draft& d = draft(index);
  State& s = state(index);
  const auto y = static_cast<size_t>(d.output);
  if (d.passthrough) { settle_passthrough(index); return; }
  if (!s.integer || s.output.empty()) { rest_at(d.output); return; }
  const Merged m = merge(d.output);
  s.output_quantizer = make(d.output, s.output, s.demands_fit ? wishes(d.output, m.main) : fmt::format("{}: {}", c_.label(d.members[0]), s.reason));
  carried_[y] = main_[y] = s.output_quantizer;
  if (s.demands_fit) { give(d.output, m.main, s.output_quantizer); branch(d.output, m.rest); return; }
  for (size_t i = 0; i < demands_[y].size(); ++i) share_or_branch(d.output, i, s.output_quantizer);
}

void Solver::share_or_branch(ValueId v, size_t which, int q) {
  const Demand& d = demands_[static_cast<size_t>(v)][which];
  const TypeSet both = d.axis < 0 ? intersect(types_of(q), d.types) : TypeSet{};
  if (both.empty()) { branch(v, {which}); return; }
  types_of(q) = both;
  give(v, {which}, q);
}

void Solver::settle_passthrough(int index) {
  const Draft& d = draft(index);
  State& s = state(index);
  const auto y = static_cast<size_t>(d.output);
  size_t wanted = 0;
  const OperandDraft* input = nullptr;
  for (const auto& o : d.operands) if (o.wanted) { ++wanted; input = &o; }
  if (s.integer) {
    const Merged m = merge(d.output);
    if (wanted == 1) s.output_quantizer = use_.at({input->node, input->slot});
    else s.output_quantizer = make(d.output, s.output, wishes(d.output, m.main));
    carried_[y] = main_[y] = s.output_quantizer;
    give(d.output, m.main, s.output_quantizer);
    branch(d.output, m.rest);
    return;
  }
  // Integers that are there already are moved as they are: exact, and a quarter of the bytes.
  const int q = wanted == 1 ? carried_[static_cast<size_t>(input->value)] : -1;
  const TypeSet carried = q >= 0 && !c_.forbidden[y] ? intersect(types_of(q), d.carried_types()) : TypeSet{};
  if (carried.empty()) { rest_at(d.output); return; }
  drafts_.reasons.erase(d.members[0]);
  types_of(q) = carried;
  s.integer = true;
  s.reason = "moves integers that are there already";
  s.output_quantizer = q;
  use_[{input->node, input->slot}] = q;
  carried_[y] = main_[y] = q;
  for (size_t i = 0; i < demands_[y].size(); ++i) share_or_branch(d.output, i, q);
}

bool Solver::unite(int a, int b) {
  a = find(a);
  b = find(b);
  if (a == b) return true;
  TypeSet both = intersect(slots_[static_cast<size_t>(a)].types, slots_[static_cast<size_t>(b)].types);
  if (both.empty()) return false;
  slots_[static_cast<size_t>(std::max(a, b))].parent = std::min(a, b);
  slots_[static_cast<size_t>(std::min(a, b))].types = std::move(both);
  return true;
}

void Solver::tie(int index) {
  const Draft& d = draft(index);
  State& s = state(index);
  const Node& root = g_.node(d.members[0]);
  bool inputs = false, output = false;
  for (const auto& rule : c_.rules.tie) {
    if (rule.op != root.op) continue;
    inputs = inputs || rule.inputs;
    output = output || rule.output;
  }
  size_t wanted = 0;
  for (const auto& o : d.operands) wanted += o.wanted && o.node == d.members[0];
  // A move of several inputs changes no code: they share parameters, whether the rules say so or not.
  if (d.passthrough && wanted > 1) inputs = output = true;
  if (!inputs || wanted == 0) return;
  int group = output ? s.output_quantizer : -1;
  if (group >= 0) slots_[static_cast<size_t>(group)].tied = true;
  for (const auto& o : d.operands) {
    if (!o.wanted || o.node != d.members[0]) continue;
    int& q = use_.at({o.node, o.slot});
    if (group >= 0 && !unite(group, q)) {
      const TypeSet types = intersect(types_of(group), o.types);
      if (types.empty()) {
        throw Error(ErrorCode::plugin, fmt::format("the rules '{}' tie the operands of {}, but no type is legal for all of them", c_.rules.id, root.op)).at_node(root.name);
      }
      q = make(o.value, types, fmt::format("{} shares scale and zero point between its operands; '{}' has another type, so this branch requantizes", c_.label(o.node), g_.value(o.value).name), o.node, o.slot);
      unite(group, q);
    }
    if (group < 0) group = q;
    slots_[static_cast<size_t>(q)].tied = true;
  }
}

void Solver::choose_config(int index) {
  const Draft& d = draft(index);
  State& s = state(index);
  const ConfigDraft* best = nullptr;
  size_t fewest = d.operands.size() + 1;
  for (const auto& c : d.configs) {
    TypeSet out = c.output;
    for (size_t i = 0; d.passthrough && i < d.operands.size(); ++i) if (d.operands[i].wanted) out = intersect(out, c.operands[i]);
    if (s.output_quantizer >= 0 ? intersect(types_of(s.output_quantizer), out).empty() : !c.float_output) continue;
    size_t misses = 0;
    for (size_t i = 0; i < d.operands.size(); ++i) {
      if (d.operands[i].wanted) misses += intersect(types_of(use_.at({d.operands[i].node, d.operands[i].slot})), c.operands[i]).empty();
    }
    if (misses < fewest) { fewest = misses; best = &c; }
  }
  if (!best) throw Error(ErrorCode::internal, "no config fits the quantizers around this unit").at_node(g_.node(d.members[0]).name);
  s.config = best->config;
  if (s.output_quantizer >= 0) types_of(s.output_quantizer) = intersect(types_of(s.output_quantizer), best->output);
  for (size_t i = 0; i < d.operands.size(); ++i) {
    const OperandDraft& o = d.operands[i];
    if (!o.wanted) continue;
    int& q = use_.at({o.node, o.slot});
    TypeSet both = intersect(types_of(q), best->operands[i]);
    if (!both.empty()) { types_of(q) = std::move(both); continue; }
    if (best->operands[i].empty()) { use_.erase({o.node, o.slot}); continue; }  // this config reads floats here
    const int axis = slots_[static_cast<size_t>(q)].axis;
    q = make(o.value, best->operands[i], fmt::format("config '{}' of {} takes {} at '{}', so this branch requantizes", best->config->id, c_.label(o.node), c_.words_of(best->operands[i]), o.role), o.node, o.slot);
    slots_[static_cast<size_t>(q)].axis = axis;
  }
}

void Solver::check_pins() const {
  for (size_t v = 0; v < c_.pinned.size(); ++v) {
    if (!c_.pinned[v] || main_[v] >= 0) continue;
    const Value& value = g_.value(static_cast<ValueId>(v));
    throw Error(ErrorCode::config, fmt::format("pin: no quantizer can be at '{}': no integer operator makes or consumes it", value.name))
        .hint("pin a tensor next to an operator that the target runs; `quern explain` lists them");
  }
}

Placement Solver::collect() {
  Placement p;
  std::vector<int> id_of(slots_.size(), -1);
  std::map<int, int> tie_of;
  std::map<int, int> tie_size;
  for (size_t i = 0; i < slots_.size(); ++i) if (slots_[i].tied) ++tie_size[find(static_cast<int>(i))];
  const auto number = [&](int q) {
    if (q < 0) return -1;
    int& id = id_of[static_cast<size_t>(q)];
    if (id >= 0) return id;
    id = static_cast<int>(p.quantizers.size());
    const Slot& from = slots_[static_cast<size_t>(q)];
    Quantizer out;
    out.id = id;
    out.kind = g_.value(from.value).is_constant() ? QuantizerKind::weight : QuantizerKind::activation;
    out.value = from.value;
    out.consumer = from.consumer;
    out.slot = from.slot;
    out.types = c_.names_of(types_of(q));
    out.channel_axis = from.axis;
    out.reason = from.reason;
    // Sets are kept per tie: every member of it, also one that no rule marked, shares them.
    if (const auto it = tie_size.find(find(q)); it != tie_size.end() && it->second > 1) {
      out.tie = tie_of.emplace(find(q), static_cast<int>(tie_of.size())).first->second;
    }
    p.quantizers.push_back(std::move(out));
    return id;
  };
  for (size_t i = 0; i < drafts_.list.size(); ++i) {
    const Draft& d = drafts_.list[i];
    State& s = state_[i];
    if (!s.integer) continue;
    PlacedUnit u;
    u.members = d.members;
    u.config = s.config->id;
    u.contract = s.config->contract;
    u.pattern = d.pattern;
    u.output = d.output;
    for (const auto& o : d.operands) {
      PlacedOperand operand{o.role, o.value, -1};
      if (const auto it = use_.find({o.node, o.slot}); it != use_.end()) {
        operand.quantizer = number(it->second);
        p.by_use[{o.node, o.slot}] = operand.quantizer;
      }
      u.operands.push_back(std::move(operand));
    }
    u.output_quantizer = number(s.output_quantizer);
    u.reason = unit_reason(d, s);
    p.units.push_back(std::move(u));
  }
  for (const NodeId n : c_.order) {
    const int d = drafts_.draft_of[static_cast<size_t>(n)];
    if (d >= 0 && state_[static_cast<size_t>(d)].integer) continue;
    const auto it = drafts_.reasons.find(n);
    p.floats.push_back({n, it != drafts_.reasons.end() ? it->second : "left in float", fallback_of(c_.rules, g_, g_.node(n)) == Precision::f16});
  }
  return p;
}

std::string Solver::unit_reason(const Draft& d, const State& s) const {
  std::string text = fmt::format("config '{}' of {}", s.config->id, fmt::format("rule {} for {}", d.rule->entry, d.rule->match.op));
  if (d.members.size() > 1) {
    text += fmt::format("; pattern '{}' takes in", d.pattern);
    for (size_t m = 1; m < d.members.size(); ++m) text += fmt::format("{} {}", m > 1 ? "," : "", c_.label(d.members[m]));
  }
  if (d.passthrough && s.output_quantizer >= 0) text += "; its quantizer is that of its input";
  if (!s.reason.empty()) text += "; " + s.reason;
  return text;
}

Placement solve(Context& context) {
  // What stays float can show that its neighbours gain nothing either. Nodes only ever leave.
  for (int round = 0;; ++round) {
    Solver solver(context, make_drafts(context));
    solver.decide_all();
    auto floats = round < most_rounds ? solver.gains_of_floats() : std::map<NodeId, std::string>{};
    if (floats.empty()) return solver.finish();
    context.kept_float.merge(floats);
  }
}

}  // namespace quern::placing
