#include "core/rules/rules_check.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/base/error.hpp"
#include "core/rules/operators.hpp"
#include "core/rules/schema.hpp"

namespace quern {
namespace {

using Words = std::vector<std::string>;

bool has(const Words& words, const std::string& w) { return std::find(words.begin(), words.end(), w) != words.end(); }

class Checker {
 public:
  Checker(const Rules& rules, const std::string& source) : rules_(rules), source_(source) {
    for (const auto& [name, t] : rules.types) { (void)t; type_names_.push_back(name); }
    for (const auto& [name, c] : rules.contracts) { (void)c; contract_names_.push_back(name); }
  }

  void run() {
    for (const auto& [name, t] : rules_.types) check_type(name, t);
    for (size_t i = 0; i < rules_.ops.size(); ++i) check_op(i);
    check_unreachable();
    for (size_t i = 0; i < rules_.fuse.size(); ++i) check_fuse(i);
    for (size_t i = 0; i < rules_.passthrough.size(); ++i) check_passthrough(i);
    for (size_t i = 0; i < rules_.tie.size(); ++i) known_op("", rules_.tie[i].op, fmt::format("$.tie[{}].op", i));
    for (size_t i = 0; i < rules_.fallback.size(); ++i) known_type(rules_.fallback[i], fmt::format("$.fallback[{}]", i));
    for (const auto& [name, p] : rules_.presets) check_preset(name, p);
    check_contract_roles();
  }

 private:
  [[noreturn]] void fail(const std::string& path, const std::string& text) const { rules_error(source_, path, text); }

  void known_type(const std::string& name, const std::string& path) const {
    if (!rules_.types.count(name)) fail(path, fmt::format("there is no type '{}'{}; types: {}", name, did_you_mean(name, type_names_), list_of(type_names_)));
  }

  void types_of(const Words& names, const std::string& path) const {
    std::set<std::string> seen;
    for (const auto& n : names) {
      known_type(n, path);
      if (!seen.insert(n).second) fail(path, fmt::format("the type '{}' stands twice", n));
    }
  }

  void known_op(const std::string& domain, const std::string& op, const std::string& path) const {
    if (domain.empty() && !is_onnx_operator(op)) {
      fail(path, fmt::format("ai.onnx has no operator '{}'{}; give the domain of an operator of your own", op, did_you_mean(op, onnx_operators())));
    }
  }

  void check_type(const std::string& name, const TypeRule& t) const {
    static const Words roles = {"input", "weight", "weight_tensor", "a", "b"};
    for (const auto& r : t.product_of) {
      if (!has(roles, r)) fail("$.types." + name + ".scale.product_of", fmt::format("'{}' is not a role{}; roles: {}", r, did_you_mean(r, roles), list_of(roles)));
    }
  }

  // Roles that a config of this operator may list: its own, and what fuse patterns that begin with it bring in.
  Words roles_for(const OpMatch& m) const {
    Words out = legal_roles(m.domain, m.op);
    for (const auto& pattern : rules_.fuse) {
      if (!has(pattern.steps.front().ops, m.op)) continue;
      for (const auto& step : pattern.steps) if (!step.other.empty() && !has(out, step.other)) out.push_back(step.other);
    }
    return out;
  }

  static bool role_fits(const std::string& role, const Words& legal) {
    if (has(legal, role)) return true;
    return has(legal, "in*") && role.size() > 2 && role.compare(0, 2, "in") == 0 &&
           std::all_of(role.begin() + 2, role.end(), [](char c) { return c >= '0' && c <= '9'; });
  }

  void check_op(size_t index) const {
    const OpRule& rule = rules_.ops[index];
    const std::string path = rule_path(rules_, index);
    known_op(rule.match.domain, rule.match.op, path + ".match.op");
    const Words own = legal_roles(rule.match.domain, rule.match.op), legal = roles_for(rule.match);
    const auto own_roles = [&](const Words& roles, const char* key) {
      for (const auto& r : roles) {
        if (!role_fits(r, own)) fail(fmt::format("{}.match.{}", path, key), fmt::format("{} has no operand '{}'{}; roles: {}", rule.match.op, r, did_you_mean(r, own), list_of(own)));
      }
    };
    own_roles(rule.match.constant, "constant");
    own_roles(rule.match.variable, "variable");
    own_roles(rule.match.absent, "absent");
    for (const auto& [role, ranks] : rule.match.ranks) {
      own_roles({role}, "rank");
      if (ranks.empty()) fail(path + ".match.rank." + role, "lists no rank");
    }
    for (const auto& r : rule.match.constant) {
      if (has(rule.match.variable, r)) fail(path + ".match", fmt::format("'{}' can't be constant and variable", r));
    }
    for (const auto& r : rule.match.absent) {
      if (has(rule.match.variable, r) || has(rule.match.constant, r)) fail(path + ".match", fmt::format("'{}' can't be absent and present", r));
    }
    std::set<std::string> ids;
    for (size_t i = 0; i < rule.configs.size(); ++i) check_config(rule, i, fmt::format("{}.configs[{}]", path, i), legal, ids);
  }

  void check_config(const OpRule& rule, size_t i, const std::string& path, const Words& legal, std::set<std::string>& ids) const {
    const OpConfig& c = rule.configs[i];
    if (!ids.insert(c.id).second) fail(path + ".id", fmt::format("two configs are named '{}'", c.id));
    for (const auto& [role, types] : c.inputs) {
      if (!role_fits(role, legal)) fail(path + ".inputs", fmt::format("{} has no operand '{}'{}; roles: {}", rule.match.op, role, did_you_mean(role, legal), list_of(legal)));
      types_of(types, path + ".inputs." + role);
    }
    for (const auto& role : required_roles(rule.match.domain, rule.match.op)) {
      if (has(rule.match.absent, role)) continue;
      if (!c.inputs.count(role)) fail(path + ".inputs", fmt::format("says nothing about the operand '{}' of {}", role, rule.match.op));
    }
    types_of(c.output, path + ".output");
    for (const auto& t : c.output) {
      if (rules_.types.at(t).scale == ScaleRule::product_of) fail(path + ".output", fmt::format("the type '{}' takes its scale from the operands (product_of); an output can't", t));
    }
    const auto contract = rules_.contracts.find(c.contract);
    if (contract == rules_.contracts.end()) {
      fail(path + ".contract", fmt::format("there is no contract '{}'{}; contracts: {}", c.contract, did_you_mean(c.contract, contract_names_), list_of(contract_names_)));
    }
    if (!form_fits(rule.match.domain, rule.match.op, contract->second->form)) {
      fail(path + ".contract", fmt::format("contract '{}' has the form {}, which can't compute {}", c.contract, name_of(contract->second->form), rule.match.op));
    }
  }

  // Two entries that match the same: the second can never be reached.
  void check_unreachable() const {
    const auto& ops = rules_.effective.as_object().at("ops").as_array();
    std::map<std::string, size_t> seen;
    for (size_t i = 0; i < rules_.ops.size(); ++i) {
      json::value match = ops[static_cast<size_t>(rules_.ops[i].entry)].as_object().at("match");
      match.as_object()["op"] = json::value(rules_.ops[i].match.op);
      const auto [it, fresh] = seen.emplace(to_text(with_sorted_keys(match), false), i);
      if (!fresh) fail(rule_path(rules_, i) + ".match", fmt::format("matches the same {} as {}; it can never be reached", rules_.ops[i].match.op, rule_path(rules_, it->second)));
    }
  }

  bool has_rule(const std::string& op) const {
    return std::any_of(rules_.ops.begin(), rules_.ops.end(), [&](const OpRule& r) { return r.match.op == op; });
  }

  void check_fuse(size_t index) const {
    const FusePattern& p = rules_.fuse[index];
    const std::string path = fmt::format("$.fuse[{}]", index);
    for (size_t i = 0; i < index; ++i) if (rules_.fuse[i].name == p.name) fail(path + ".name", fmt::format("two patterns are named '{}'", p.name));
    if (p.steps.front().optional) fail(path + ".steps[0]", "the first step can't be optional: it is the operator that the rules match");
    if (!p.steps.front().other.empty()) fail(path + ".steps[0]", "the first step has no `other`: its operands are the operator's own");
    if (std::none_of(p.steps.front().ops.begin(), p.steps.front().ops.end(), [&](const auto& op) { return has_rule(op); })) {
      fail(path + ".steps[0].op", fmt::format("no rule in $.ops is for {}: the pattern can never match", list_of(p.steps.front().ops)));
    }
    types_of(p.output, path + ".output");
    Words others;
    for (size_t i = 0; i < p.steps.size(); ++i) {
      const FuseStep& s = p.steps[i];
      const std::string at = fmt::format("{}.steps[{}]", path, i);
      for (const auto& op : s.ops) {
        if (!is_onnx_operator(op) && !has_rule(op)) known_op("", op, at + ".op");
      }
      types_of(s.types, at + ".types");
      if (s.scalar && !s.other.empty()) fail(at + ".scalar", "belongs to a step whose operands are constants; this one has `other`");
      if (s.other.empty()) {
        if (!s.types.empty()) fail(at + ".types", "types belong to `other`, which is not given");
        continue;
      }
      if (has(others, s.other)) fail(at + ".other", fmt::format("two steps call their operand '{}'", s.other));
      others.push_back(s.other);
      if (s.other != "bias" && s.types.empty()) fail(at, fmt::format("the operand '{}' needs its types", s.other));
      for (const auto& op : p.steps.front().ops) {
        const auto own = legal_roles("", op);
        if (s.other != "bias" && role_fits(s.other, own)) fail(at + ".other", fmt::format("'{}' is an operand of {} already", s.other, op));
      }
    }
  }

  void check_passthrough(size_t index) const {
    const std::string& op = rules_.passthrough[index];
    const std::string path = fmt::format("$.passthrough[{}]", index);
    if (!has_rule(op)) known_op("", op, path);
    for (size_t i = 0; i < index; ++i) if (rules_.passthrough[i] == op) fail(path, fmt::format("'{}' stands twice", op));
    for (const auto& rule : rules_.ops) {
      if (rule.match.op != op) continue;
      for (const auto& c : rule.configs) {
        const KernelForm form = rules_.contracts.at(c.contract)->form;
        if (form != KernelForm::move && form != KernelForm::pool_max && form != KernelForm::resample) {
          fail(path, fmt::format("a quantizer can't move through {}: its contract '{}' is a {}, not a move, resample or pool_max", op, c.contract, name_of(form)));
        }
      }
    }
  }

  void check_preset(const std::string& name, const Preset& p) const {
    for (const auto& [op, config] : p.prefer) {
      Words ids;
      for (const auto& rule : rules_.ops) {
        if (rule.match.op == op) for (const auto& c : rule.configs) if (!has(ids, c.id)) ids.push_back(c.id);
      }
      const std::string path = fmt::format("$.presets.{}.prefer.{}", name, op);
      if (ids.empty()) fail(path, fmt::format("no rule is for '{}'", op));
      if (!has(ids, config)) fail(path, fmt::format("{} has no config '{}'{}; configs: {}", op, config, did_you_mean(config, ids), list_of(ids)));
    }
  }

  // Operands that a contract names must be there in some config that uses it. The host's own roles are let pass: a
  // profile may take away the pattern that brings one in, and leave the contract as it is.
  void check_contract_roles() const {
    std::map<std::string, Words> roles;  // by contract
    for (const auto& rule : rules_.ops) {
      Words legal = roles_for(rule.match);
      legal.push_back("output");
      for (const auto& c : rule.configs) {
        auto& all = roles[c.contract];
        for (const auto& r : legal) if (!has(all, r)) all.push_back(r);
        for (const auto& [r, t] : c.inputs) { (void)t; if (!has(all, r)) all.push_back(r); }
      }
    }
    for (const auto& [id, contract] : rules_.contracts) {
      const auto it = roles.find(id);
      if (it == roles.end()) continue;  // a contract that nothing uses is harmless
      Words legal = it->second;
      for (const char* r : {"input", "weight", "bias", "residual"}) if (!has(legal, r)) legal.emplace_back(r);
      const std::string path = "$.contracts." + id;
      for (const auto& o : contract->operands) {
        if (!role_fits(o.role, legal)) {
          fail(path + ".operands", fmt::format("'{}' is an operand of no config that uses this contract{}; roles: {}", o.role, did_you_mean(o.role, legal), list_of(legal)));
        }
        check_stages(o.pre, legal, fmt::format("{}.operands.{}", path, o.role));
      }
      check_stages(contract->post, legal, path + ".post");
    }
  }

  void check_stages(const std::vector<Stage>& stages, const Words& legal, const std::string& path) const {
    for (size_t i = 0; i < stages.size(); ++i) {
      for (const StageOperand* o : {&stages[i].a, &stages[i].b}) {
        std::string role;
        if (o->kind == StageOperand::Kind::tensor) role = o->name;
        else if (o->kind == StageOperand::Kind::table && o->name.find('.') != std::string::npos) {
          const std::string field = o->name.substr(o->name.find('.') + 1);
          if (field != "scale" && field != "zero_point") fail(fmt::format("{}[{}]", path, i), fmt::format("'{}': an operand has .scale and .zero_point only", o->name));
          role = o->name.substr(0, o->name.find('.'));
        }
        if (!role.empty() && !role_fits(role, legal)) {
          fail(fmt::format("{}[{}]", path, i), fmt::format("'{}' is an operand of no config that uses this contract{}; roles: {}", role, did_you_mean(role, legal), list_of(legal)));
        }
      }
    }
  }

  const Rules& rules_;
  const std::string& source_;
  Words type_names_, contract_names_;
};

}  // namespace

void check_rules(const Rules& rules, const std::string& source) { Checker(rules, source).run(); }

}  // namespace quern
