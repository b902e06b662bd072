// Which nodes could be units: what the rules match, with the followers that the fuse patterns take in.
//
// Patterns run as one automaton over the graph in topological order: a node joins the chain that ends in one of its
// inputs if some pattern goes on with it, so the longest match wins. Where two chains could take a node (the Add behind
// a residual block), the one whose first operator comes later does; the other chain's output is the operand.
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "core/base/error.hpp"
#include "core/placement/draft.hpp"
#include "core/rules/operators.hpp"

namespace quern::placing {
namespace {

bool has(const std::vector<std::string>& words, const char* word) { return std::find(words.begin(), words.end(), word) != words.end(); }

bool is_f32(const Value& v) { return v.dtype == DType::f32 || v.dtype == DType::undefined; }

// Inputs that carry shapes, sizes or indices into shapes, whatever their type.
bool is_shape_slot(const std::string& op, int slot) {
  if (slot == 0) return op == "ConstantOfShape" || op == "Range";
  return op == "Reshape" || op == "Expand" || op == "Tile" || op == "Resize" || op == "Upsample" || op == "Slice" || op == "Range" ||
         (op == "Pad" && slot == 1) || op == "Squeeze" || op == "Unsqueeze" || op == "TopK" || op == "Split" || op == "OneHot" ||
         op.rfind("Reduce", 0) == 0;
}

struct Other { std::string role; NodeId node; int slot; ValueId value; TypeSet types; };
struct State { int pattern = 0; size_t next = 0; std::vector<Other> others; };
struct Chain {
  std::vector<NodeId> members;
  const OpRule* rule = nullptr;
  std::vector<State> states;
  std::optional<State> accepted;  // of the members so far
};

class Drafter {
 public:
  explicit Drafter(const Context& c) : c_(c), g_(c.graph) {
    drafts_.draft_of.assign(g_.node_slots(), -1);
    chain_of_.assign(g_.node_slots(), -1);
    reserved_.assign(g_.node_slots(), -1);
    blocked_.assign(g_.node_slots(), 0);
    for (size_t p = 0; p < c.rules.fuse.size(); ++p) {
      for (const auto& op : c.rules.fuse[p].steps.front().ops) patterns_of_[op].push_back(static_cast<int>(p));
    }
    for (const auto& rule : c.rules.ops) has_rule_.emplace(rule.match.op, true);
  }

  Drafts run() {
    block();
    for (const NodeId n : c_.order) {
      if (blocked_[static_cast<size_t>(n)]) continue;
      if (!join(n)) start(n);
    }
    finish();
    return std::move(drafts_);
  }

 private:
  void leave_float(NodeId n, std::string reason) {
    blocked_[static_cast<size_t>(n)] = 1;
    drafts_.reasons[n] = std::move(reason);
  }

  // Nodes that can't be part of any unit: ignored ones, computations of shapes, integers and indices.
  void block() {
    std::vector<char> shape_only(g_.node_slots(), 0);
    for (auto it = c_.order.rbegin(); it != c_.order.rend(); ++it) {
      const Node& node = g_.node(*it);
      bool integers = !node.outputs.empty(), only_shapes = !node.outputs.empty(), used = false;
      for (const ValueId v : node.outputs) {
        if (v == no_value) continue;
        integers = integers && !is_f32(g_.value(v)) && !is_float(g_.value(v).dtype);
        only_shapes = only_shapes && !c_.is_output[static_cast<size_t>(v)];
        for (const auto& use : c_.uses[static_cast<size_t>(v)]) {
          used = true;
          only_shapes = only_shapes && (is_shape_slot(g_.node(use.node).op, use.slot) || shape_only[static_cast<size_t>(use.node)]);
        }
      }
      if (used && only_shapes) {
        shape_only[static_cast<size_t>(*it)] = 1;
        leave_float(*it, "computes a shape: it is not quantized");
      } else if (integers) {
        leave_float(*it, "works on integers or indices: it is not quantized");
      } else if (c_.ignored[static_cast<size_t>(*it)]) {
        leave_float(*it, "ignored by the configuration");
      } else if (const auto kept = c_.kept_float.find(*it); kept != c_.kept_float.end()) {
        leave_float(*it, kept->second);
      }
    }
  }

  // A value that may vanish inside a unit: used once, by a node, not asked for.
  bool is_inner(ValueId v) const {
    const auto i = static_cast<size_t>(v);
    return c_.uses[i].size() == 1 && !c_.is_output[i] && !c_.pinned[i];
  }

  bool same_shape(ValueId a, ValueId b) const {
    const auto &x = g_.value(a).shape, &y = g_.value(b).shape;
    if (!x || !y) return true;
    if (x->size() != y->size()) return false;
    for (size_t i = 0; i < x->size(); ++i) if ((*x)[i] != (*y)[i] && (*x)[i] >= 0 && (*y)[i] >= 0) return false;
    return true;
  }

  // A constant that adds one number per output channel of the chain's first operator.
  bool is_bias(const Chain& chain, ValueId v) const {
    const Node& root = g_.node(chain.members.front());
    const Tensor* t = g_.value(v).constant.get();
    if (!t || t->type() != DType::f32 || root.inputs.size() < 2 || root.inputs[1] == no_value) return false;
    if (root.inputs.size() > 2 && root.inputs[2] != no_value) return false;
    const auto& weight = g_.value(root.inputs[1]).shape;
    // Of two tensors that flow, none can give way where the bias does not fit its integers.
    if (!weight || weight->empty() || !g_.value(root.inputs[1]).is_constant()) return false;
    int64_t channels = 0;
    size_t behind = 0;  // axes after the channel axis
    if (root.op == "Conv") { channels = (*weight)[0]; behind = weight->size() - 2; }
    else if (root.op == "Gemm") channels = (*weight)[root.integer("transB", 0) || weight->size() < 2 ? 0 : 1];
    else if (root.op == "MatMul" && weight->size() >= 2) channels = weight->back();
    else if (root.op == "ConvTranspose" && weight->size() > 2) { channels = (*weight)[1] * root.integer("group", 1); behind = weight->size() - 2; }
    else return false;
    if (t->count() != channels || t->rank() <= static_cast<int64_t>(behind)) return false;
    return t->dims()[static_cast<size_t>(t->rank()) - 1 - behind] == channels;
  }

  // Whether `step` takes node n, whose input `slot` is the chain's value.
  bool takes(const Chain& chain, const State& state, const FuseStep& step, NodeId n, int slot, std::optional<Other>& other) const {
    const Node& node = g_.node(n);
    if (std::find(step.ops.begin(), step.ops.end(), node.op) == step.ops.end()) return false;
    if (node.outputs.size() != 1 || node.outputs[0] == no_value || !is_f32(g_.value(node.outputs[0]))) return false;
    std::string why;
    if (!attributes_hold(g_, node, step.attributes, &why)) return false;
    if (step.other.empty()) {
      for (size_t i = 0; i < node.inputs.size(); ++i) {
        if (static_cast<int>(i) == slot || node.inputs[i] == no_value) continue;
        const Tensor* constant = g_.value(node.inputs[i]).constant.get();
        if (!constant || (step.scalar && constant->count() != 1)) return false;
      }
      return slot == 0 || is_commutative(node.op);
    }
    if (node.inputs.size() != 2 || node.inputs[0] == no_value || node.inputs[1] == no_value) return false;
    if (slot != 0 && !is_commutative(node.op)) return false;
    Other o{step.other, n, 1 - slot, node.inputs[static_cast<size_t>(1 - slot)], {}};
    if (step.other == "bias") {
      if (!is_bias(chain, o.value)) return false;
      for (const auto& earlier : state.others) if (earlier.role == "bias") return false;
    } else {
      const Value& value = g_.value(o.value);
      if (value.is_constant() || !is_f32(value) || c_.forbidden[static_cast<size_t>(o.value)]) return false;
      if (!same_shape(o.value, node.inputs[static_cast<size_t>(slot)])) return false;
      try {
        o.types = c_.set_of(narrow(c_.rules, step.types, false, c_.options.narrowing, node.name, node.op));
      } catch (const Error&) {
        return false;  // the user wants something of this operator that the fused form can't do
      }
    }
    other = std::move(o);
    return true;
  }

  std::vector<State> advance(const Chain& chain, const State& state, NodeId n, int slot) const {
    std::vector<State> out;
    const auto& steps = c_.rules.fuse[static_cast<size_t>(state.pattern)].steps;
    for (size_t j = state.next; j < steps.size(); ++j) {
      std::optional<Other> other;
      if (takes(chain, state, steps[j], n, slot, other)) {
        State s = state;
        s.next = j + 1;
        if (other) s.others.push_back(std::move(*other));
        out.push_back(std::move(s));
      }
      if (!steps[j].optional) break;
    }
    return out;
  }

  bool accepting(const State& s) const {
    const auto& steps = c_.rules.fuse[static_cast<size_t>(s.pattern)].steps;
    return std::all_of(steps.begin() + static_cast<std::ptrdiff_t>(s.next), steps.end(), [](const FuseStep& f) { return f.optional; });
  }

  // Whether the steps that must still come do come after node n; `path` collects their nodes.
  bool can_finish(const Chain& chain, int index, const State& state, NodeId n, std::vector<NodeId>& path) const {
    if (accepting(state)) return true;
    const ValueId v = g_.node(n).outputs[0];
    if (!is_inner(v)) return false;
    const auto use = c_.uses[static_cast<size_t>(v)][0];
    const auto i = static_cast<size_t>(use.node);
    if (blocked_[i] || (reserved_[i] >= 0 && reserved_[i] != index)) return false;
    for (const auto& s : advance(chain, state, use.node, use.slot)) {
      path.push_back(use.node);
      if (can_finish(chain, index, s, use.node, path)) return true;
      path.pop_back();
    }
    return false;
  }

  bool join(NodeId n) {
    const Node& node = g_.node(n);
    int best = -1;
    std::vector<State> best_states;
    std::vector<NodeId> best_path;
    for (size_t slot = 0; slot < node.inputs.size(); ++slot) {
      const ValueId v = node.inputs[slot];
      if (v == no_value || g_.value(v).producer == no_node || !is_inner(v)) continue;
      const int index = chain_of_[static_cast<size_t>(g_.value(v).producer)];
      if (index < 0) continue;
      const Chain& chain = chains_[static_cast<size_t>(index)];
      const int reserved = reserved_[static_cast<size_t>(n)];
      if (chain.members.back() != g_.value(v).producer || (reserved >= 0 && reserved != index)) continue;
      std::vector<State> states;
      std::vector<NodeId> path;
      for (const auto& state : chain.states) {
        for (auto& s : advance(chain, state, n, static_cast<int>(slot))) {
          std::vector<NodeId> steps;
          if (!can_finish(chain, index, s, n, steps)) continue;
          if (steps.size() > path.size()) path = steps;
          states.push_back(std::move(s));
        }
      }
      if (states.empty()) continue;
      const auto root_of = [&](int i) { return c_.position[static_cast<size_t>(chains_[static_cast<size_t>(i)].members.front())]; };
      if (best >= 0 && root_of(best) > root_of(index)) continue;
      best = index;
      best_states = std::move(states);
      best_path = std::move(path);
    }
    if (best < 0) return false;
    Chain& chain = chains_[static_cast<size_t>(best)];
    chain.members.push_back(n);
    chain.states = std::move(best_states);
    chain_of_[static_cast<size_t>(n)] = best;
    const auto done = std::find_if(chain.states.begin(), chain.states.end(), [&](const State& s) { return accepting(s); });
    if (done != chain.states.end()) chain.accepted = *done;
    for (const NodeId m : best_path) reserved_[static_cast<size_t>(m)] = best;
    return true;
  }

  void start(NodeId n) {
    const Node& node = g_.node(n);
    std::string why;
    const OpRule* rule = has_rule_.count(node.op) ? match_op(c_.rules, g_, node, &why) : nullptr;
    if (!rule) {
      if (why.empty()) why = fmt::format("{} has no rule in '{}'", node.op, c_.rules.id);
      leave_float(n, why);
      return;
    }
    Chain chain;
    chain.members = {n};
    chain.rule = rule;
    if (!draft_of(chain, &why)) {
      leave_float(n, why);
      return;
    }
    if (const auto it = patterns_of_.find(node.op); it != patterns_of_.end()) {
      for (const int p : it->second) {
        if (!attributes_hold(g_, node, c_.rules.fuse[static_cast<size_t>(p)].steps.front().attributes, &why)) continue;
        State s;
        s.pattern = p;
        s.next = 1;
        chain.states.push_back(std::move(s));
      }
    }
    chain_of_[static_cast<size_t>(n)] = static_cast<int>(chains_.size());
    chains_.push_back(std::move(chain));
  }

  // The operands of a chain and what its configs allow there; none, with the reason, when no config can be used.
  std::optional<Draft> draft_of(const Chain& chain, std::string* why) const {
    Draft d;
    d.members = chain.members;
    d.rule = chain.rule;
    if (chain.accepted) d.pattern = c_.rules.fuse[static_cast<size_t>(chain.accepted->pattern)].name;
    const Node& root = g_.node(chain.members.front());
    const Node& last = g_.node(chain.members.back());
    if (last.outputs.empty() || last.outputs[0] == no_value || std::any_of(root.outputs.begin() + 1, root.outputs.end(), [](ValueId v) { return v != no_value; })) {
      *why = fmt::format("{} has {} outputs; a unit writes one", root.op, root.outputs.size());
      return {};
    }
    d.output = last.outputs[0];
    if (!is_f32(g_.value(d.output)) || !is_f32(g_.value(root.outputs[0]))) {
      *why = fmt::format("its output is {}, not f32", name_of(g_.value(d.output).dtype));
      return {};
    }
    if (!collect_operands(chain, root, d, why)) return {};
    if (!collect_configs(chain, root, d, why)) return {};
    d.passthrough = chain.members.size() == 1 &&
                    std::find(c_.rules.passthrough.begin(), c_.rules.passthrough.end(), root.op) != c_.rules.passthrough.end();
    return d;
  }

  bool collect_operands(const Chain& chain, const Node& root, Draft& d, std::string* why) const {
    const auto roles = roles_of(root);
    const auto add = [&](NodeId node, size_t slot, const std::string& role, ValueId value) {
      OperandDraft o;
      o.node = node;
      o.slot = static_cast<int>(slot);
      o.role = role;
      o.value = value;
      d.operands.push_back(std::move(o));
    };
    for (size_t s = 0; s < root.inputs.size(); ++s) {
      if (root.inputs[s] == no_value) continue;
      add(chain.members.front(), s, roles[s], root.inputs[s]);
      if (roles[s].empty()) continue;
      const Value& value = g_.value(root.inputs[s]);
      if (!is_f32(value)) { *why = fmt::format("its operand '{}' is {}, not f32", value.name, name_of(value.dtype)); return false; }
      if (c_.forbidden[static_cast<size_t>(root.inputs[s])]) { *why = fmt::format("the configuration forbids a quantizer on its operand '{}'", value.name); return false; }
    }
    for (size_t m = 1; m < chain.members.size(); ++m) {
      const Node& node = g_.node(chain.members[m]);
      const ValueId before = g_.node(chain.members[m - 1]).outputs[0];
      for (size_t s = 0; s < node.inputs.size(); ++s) {
        if (node.inputs[s] == no_value || node.inputs[s] == before) continue;
        std::string role;
        for (const auto& o : chain.accepted->others) if (o.node == chain.members[m] && o.slot == static_cast<int>(s)) role = o.role;
        add(chain.members[m], s, role, node.inputs[s]);
      }
    }
    return true;
  }

  bool collect_configs(const Chain& chain, const Node& root, Draft& d, std::string* why) const {
    std::optional<Error> refused;
    for (const auto& config : chain.rule->configs) {
      ConfigDraft cd;
      cd.config = &config;
      bool usable = true;
      try {
        for (const auto& o : d.operands) {
          TypeSet types;
          usable = usable && operand_types(chain, root, config, o, types, why);
          cd.operands.push_back(std::move(types));
        }
      } catch (const Error& e) {
        if (!refused) refused = e;
        continue;
      }
      if (!usable) continue;
      cd.output = output_types(root, config);
      cd.float_output = has(config.output, "f32");
      if (chain.accepted) {
        const auto& limit = c_.rules.fuse[static_cast<size_t>(chain.accepted->pattern)].output;
        if (!limit.empty()) {
          cd.output = intersect(cd.output, c_.set_of(limit));
          cd.float_output = cd.float_output && has(limit, "f32");
        }
      }
      if (cd.output.empty() && !cd.float_output) { *why = fmt::format("config '{}' writes no type that fits here", config.id); continue; }
      d.configs.push_back(std::move(cd));
    }
    if (d.configs.empty()) {
      if (refused) throw *refused;
      return false;
    }
    if (c_.preset) {
      if (const auto it = c_.preset->prefer.find(root.op); it != c_.preset->prefer.end()) {
        // And what takes the same: the config that writes floats where the preferred one writes integers.
        const auto preferred = std::find_if(chain.rule->configs.begin(), chain.rule->configs.end(), [&](const OpConfig& c) { return c.id == it->second; });
        if (preferred != chain.rule->configs.end())
          std::stable_partition(d.configs.begin(), d.configs.end(), [&](const ConfigDraft& cd) { return cd.config->inputs == preferred->inputs; });
        std::stable_partition(d.configs.begin(), d.configs.end(), [&](const ConfigDraft& cd) { return cd.config->id == it->second; });
      }
    }
    for (size_t i = 0; i < d.operands.size(); ++i) {
      for (const auto& cd : d.configs) for (const int t : cd.operands[i]) if (!contains(d.operands[i].types, t)) d.operands[i].types.push_back(t);
      d.operands[i].wanted = !d.operands[i].types.empty();
    }
    return true;
  }

  bool operand_types(const Chain& chain, const Node& root, const OpConfig& config, const OperandDraft& o, TypeSet& out, std::string* why) const {
    if (o.role.empty()) return true;
    auto listed = config.inputs.find(o.role);
    if (listed == config.inputs.end() && o.role.rfind("in", 0) == 0 && o.role != "input") listed = config.inputs.find("in*");
    if (o.role == "bias") {
      if (listed == config.inputs.end()) { *why = fmt::format("config '{}' takes no bias", config.id); return false; }
      if (!g_.value(o.value).is_constant()) { *why = "its bias is not constant"; return false; }
      return true;
    }
    for (const auto& other : chain.accepted ? chain.accepted->others : std::vector<Other>{}) {
      if (other.node != o.node || other.slot != o.slot) continue;
      out = listed == config.inputs.end() ? other.types : intersect(c_.set_of(listed->second), other.types);
      if (out.empty() && !other.types.empty()) { *why = fmt::format("config '{}' takes no type of the pattern at '{}'", config.id, o.role); return false; }
      return true;
    }
    if (listed == config.inputs.end()) { *why = fmt::format("config '{}' says nothing about '{}'", config.id, o.role); return false; }
    const bool weight = o.role == "weight" || g_.value(o.value).is_constant();
    out = c_.set_of(narrow(c_.rules, listed->second, weight, c_.options.narrowing, root.name, root.op));
    return true;
  }

  // The outputs of a unit follow their consumers; what the user says of this node's activations holds where it can.
  TypeSet output_types(const Node& root, const OpConfig& config) const {
    const TypeSet all = c_.set_of(config.output);
    if (all.empty()) return all;
    try {
      return c_.set_of(narrow(c_.rules, config.output, false, c_.options.narrowing, root.name, root.op));
    } catch (const Error&) {
      return all;
    }
  }

  void finish() {
    for (auto& chain : chains_) {
      std::string why;
      auto d = draft_of(chain, &why);
      if (d) { drafts_.list.push_back(std::move(*d)); continue; }
      for (const NodeId n : chain.members) drafts_.reasons[n] = why;
    }
    std::sort(drafts_.list.begin(), drafts_.list.end(), [&](const Draft& a, const Draft& b) {
      return c_.position[static_cast<size_t>(a.members.back())] < c_.position[static_cast<size_t>(b.members.back())];
    });
    for (size_t i = 0; i < drafts_.list.size(); ++i) {
      for (const NodeId n : drafts_.list[i].members) drafts_.draft_of[static_cast<size_t>(n)] = static_cast<int>(i);
    }
  }

  const Context& c_;
  const Graph& g_;
  Drafts drafts_;
  std::vector<Chain> chains_;
  std::vector<int> chain_of_, reserved_;
  std::vector<char> blocked_;
  std::map<std::string, std::vector<int>> patterns_of_;
  std::map<std::string, bool> has_rule_;
};

}  // namespace

Drafts make_drafts(const Context& context) { return Drafter(context).run(); }

}  // namespace quern::placing
