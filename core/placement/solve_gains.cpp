// What would be rounded for nothing. A dot needs integers; a sum, a product or a function is as well off with floats where they
// are at hand. As an integer unit beside a float node it would make that node read rounded numbers, and round its own result once
// more. So it stays float where
//   - floats are read from an operand anyway, or a float node makes one, and
//   - no unit but such ones would take integers from any of its operands, and what makes them can write floats.
// The mask behind a float normalization, the stream that blocks of attention add to. Where features go to a pool or a convolution as
// integers (squeeze and excite) the product stays integer.
//
// And a part of a tensor that floats are read from (the h of a state that holds h and c) has a quantizer of its own, behind the
// node that takes it out: the range of the whole would be too wide for it.
#include <fmt/format.h>

#include <algorithm>

#include "core/placement/solver.hpp"
#include "core/rules/operators.hpp"

namespace quern::placing {

bool Solver::writes_floats(int maker) const {
  return maker < 0 || !state_[static_cast<size_t>(maker)].integer || (!draft(maker).passthrough && draft(maker).float_output());
}

std::vector<Solver::Candidate> Solver::candidates() const {
  std::vector<Candidate> out;
  for (size_t i = 0; i < drafts_.list.size(); ++i) {
    const Draft& d = drafts_.list[i];
    if (!state_[i].integer || d.passthrough || c_.pinned[static_cast<size_t>(d.output)]) continue;
    Candidate flowing;
    for (const auto& o : d.operands)
      if (o.wanted && !g_.value(o.value).is_constant()) flowing.operands.push_back(o.value);
    const bool small = std::all_of(d.configs.begin(), d.configs.end(), [&](const ConfigDraft& c) {
      const KernelForm form = c_.rules.contracts.at(c.config->contract)->form;
      return is_small(form) || (form == KernelForm::move && flowing.operands.size() == 1);
    });
    if (small && !flowing.operands.empty()) {
      flowing.nodes = d.members;
      out.push_back(std::move(flowing));
      continue;
    }
    const auto& configs = d.rule->configs;
    const auto writes = [](const OpConfig& c) { return std::find(c.output.begin(), c.output.end(), "f32") != c.output.end(); };
    if (small || std::none_of(configs.begin(), configs.end(), writes)) continue;
    for (const auto& o : d.operands)
      if (o.wanted && o.node != d.members[0] && !g_.value(o.value).is_constant()) out.push_back({{o.node}, {o.value}});
  }
  return out;
}

std::vector<Solver::Readers> Solver::readers(const std::vector<Candidate>& all) const {
  std::vector<char> candidate(g_.node_slots(), 0);
  for (const auto& c : all) for (const NodeId n : c.nodes) candidate[static_cast<size_t>(n)] = 1;
  std::vector<Readers> out(g_.value_slots());
  const auto look = [&](ValueId v) {
    Readers& r = out[static_cast<size_t>(v)];
    r.floats = has_float_use(v);
    r.integers = c_.pinned[static_cast<size_t>(v)];
    for (const Demand& d : demands_[static_cast<size_t>(v)]) {
      const int reader = drafts_.draft_of[static_cast<size_t>(d.node)];
      if (is_move(reader)) {
        const Readers& behind = out[static_cast<size_t>(draft(reader).output)];
        r.floats = r.floats || behind.floats;
        r.integers = r.integers || behind.integers;
      } else if (!candidate[static_cast<size_t>(d.node)]) {
        r.integers = true;
      }
    }
  };
  for (auto it = c_.order.rbegin(); it != c_.order.rend(); ++it)
    for (const ValueId v : g_.node(*it).outputs) if (v != no_value) look(v);
  for (const ValueId v : g_.inputs()) look(v);
  return out;
}

ValueId Solver::before_moves(ValueId v) const {
  for (int maker = maker_of(v); is_move(maker); maker = maker_of(v)) {
    const auto& operands = draft(maker).operands;
    const auto wanted = [](const OperandDraft& o) { return o.wanted; };
    if (std::count_if(operands.begin(), operands.end(), wanted) != 1) break;
    v = std::find_if(operands.begin(), operands.end(), wanted)->value;
  }
  return v;
}

bool Solver::can_stay_float(Candidate& c, const std::vector<Readers>& readers) const {
  c.near = no_value;
  for (const ValueId operand : c.operands) {
    const ValueId v = before_moves(operand);
    const Readers& r = readers[static_cast<size_t>(v)];
    const int maker = maker_of(v);
    if (r.integers || !writes_floats(maker)) return false;
    const bool made_as_floats = g_.value(v).producer != no_node && (maker < 0 || !state_[static_cast<size_t>(maker)].integer);
    if (c.near == no_value && (r.floats || made_as_floats)) c.near = operand;
  }
  return c.near != no_value;
}

std::map<NodeId, std::string> Solver::gains_of_floats() const {
  std::map<NodeId, std::string> out;
  if (c_.rules.op_outputs == "always") return out;
  // Candidates of one tensor hang together: when one has to be a unit, its operands are integers for the others too.
  std::vector<Candidate> all = candidates();
  for (int round = 0; !all.empty(); ++round) {
    const std::vector<Readers> now = readers(all);
    if (std::erase_if(all, [&](Candidate& c) { return !can_stay_float(c, now); }) == 0) break;
    if (round == most_rounds) all.clear();
  }
  for (const Candidate& c : all)
    for (const NodeId n : c.nodes)
      out[n] = fmt::format("{} is left in float: '{}' is there as floats anyway, and no other unit takes integers from its operands", g_.node(n).op, g_.value(c.near).name);
  for (size_t i = 0; i < drafts_.list.size(); ++i) {
    const Draft& d = drafts_.list[i];
    if (!is_move(static_cast<int>(i)) || !selects(g_.node(d.members[0]).op)) continue;
    const ValueId v = d.operands.front().value;
    const int maker = maker_of(v);
    if ((maker < 0 || !state_[static_cast<size_t>(maker)].integer) && has_float_use(v) && !c_.pinned[static_cast<size_t>(v)])
      out[d.members[0]] = fmt::format("{} is left in float: floats are read from '{}' too, so the part that it takes has a range of its own", g_.node(d.members[0]).op, g_.value(v).name);
  }
  return out;
}

}  // namespace quern::placing
