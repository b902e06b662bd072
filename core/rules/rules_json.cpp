// quern.rules/1 from JSON text: schema, profile, sections, checks, digest.
#include <fmt/format.h>

#include "core/base/digest.hpp"
#include "core/base/error.hpp"
#include "core/rules/contract_json.hpp"
#include "core/rules/rules.hpp"
#include "core/rules/rules_check.hpp"
#include "core/rules/schema.hpp"

namespace quern {

void rules_error(const std::string& source, const std::string& path, const std::string& text) {
  throw Error(ErrorCode::plugin, fmt::format("{}: {}", path, text)).at_file(source);
}

std::string rule_path(const Rules& rules, size_t rule) { return fmt::format("$.ops[{}]", rules.ops.at(rule).entry); }

namespace {

using Words = std::vector<std::string>;

std::string text_of(const json::value& v) { return std::string(v.as_string()); }
Words words_of(const json::value& v) {
  Words out;
  if (v.is_string()) out.push_back(text_of(v));
  else for (const auto& e : v.as_array()) out.push_back(text_of(e));
  return out;
}
Words words_at(const json::object& o, const char* key) {
  const auto* v = o.if_contains(key);
  return v ? words_of(*v) : Words{};
}
std::string text_at(const json::object& o, const char* key, const std::string& fallback = "") {
  const auto* v = o.if_contains(key);
  return v ? text_of(*v) : fallback;
}

// Reads the sections of effective JSON that has passed the schema.
class Sections {
 public:
  Sections(const json::object& root, const std::string& source, Rules& rules) : root_(root), source_(source), rules_(rules) {}

  void read() {
    rules_.id = text_at(root_, "id");
    for (const auto& [name, v] : root_.at("types").as_object()) read_type(std::string(name), v.as_object());
    add_float_types();
    for (const auto& [name, v] : root_.at("contracts").as_object()) {
      rules_.contracts.emplace(name, std::make_shared<const Contract>(
          parse_contract(std::string(name), v, source_ + ": $.contracts." + std::string(name))));
    }
    const auto& ops = root_.at("ops").as_array();
    for (size_t i = 0; i < ops.size(); ++i) read_op(i, ops[i].as_object());
    if (const auto* fuse = root_.if_contains("fuse")) {
      for (size_t i = 0; i < fuse->as_array().size(); ++i) read_fuse(i, fuse->as_array()[i].as_object());
    }
    rules_.passthrough = words_at(root_, "passthrough");
    rules_.fallback = words_at(root_, "fallback");
    if (const auto* tie = root_.if_contains("tie")) {
      for (const auto& v : tie->as_array()) read_tie(v.as_object());
    }
    if (const auto* p = root_.if_contains("placement")) {
      rules_.op_outputs = text_at(p->as_object(), "op_outputs", "when_consumed");
      if (const auto* m = p->as_object().if_contains("model_inputs")) rules_.quantize_model_inputs = m->as_bool();
    }
    if (const auto* presets = root_.if_contains("presets")) {
      for (const auto& [name, v] : presets->as_object()) read_preset(std::string(name), v.as_object());
    }
    if (const auto* limits = root_.if_contains("limits")) {
      for (const auto& [name, v] : limits->as_object()) rules_.limits.emplace(name, v.to_number<int64_t>());
    }
  }

 private:
  void add_float_types() {
    for (const char* name : {"f32", "f16"}) {
      if (rules_.types.count(name)) rules_error(source_, fmt::format("$.types.{}", name), "is a built-in type; choose another name");
      TypeRule t;
      t.name = name;
      rules_.types.emplace(name, t);
    }
  }

  void read_type(const std::string& name, const json::object& o) {
    const std::string path = "$.types." + name;
    TypeRule t;
    t.name = name;
    const int bits = static_cast<int>(o.at("bits").as_int64());
    const bool is_signed = o.at("signed").as_bool();
    const auto* narrow = o.if_contains("narrow");
    try {
      t.format = make_format(bits, is_signed, narrow && narrow->as_bool());
    } catch (const Error& e) {
      rules_error(source_, path, e.message());
    }
    const NumberFormat full = make_format(bits, is_signed, false);
    if (narrow && (o.contains("qmin") || o.contains("qmax"))) rules_error(source_, path, "says narrow and qmin or qmax; one of the two is enough");
    if (const auto* v = o.if_contains("qmin")) t.format.qmin = v->as_int64();
    if (const auto* v = o.if_contains("qmax")) t.format.qmax = v->as_int64();
    if (t.format.qmin < full.qmin || t.format.qmax > full.qmax || t.format.qmin >= t.format.qmax) {
      rules_error(source_, path, fmt::format("codes {}..{} do not fit {} {} bits ({}..{})", t.format.qmin, t.format.qmax,
                                             is_signed ? "signed" : "unsigned", bits, full.qmin, full.qmax));
    }
    if (const auto* v = o.if_contains("zero_point")) read_zero_point(*v, path, t);
    if (t.zero_point == ZeroPointRule::zero && (t.format.qmin > 0 || t.format.qmax < 0)) {
      rules_error(source_, path, "zero_point is zero, but the code 0 is not in use");
    }
    if (const auto* v = o.if_contains("scale")) read_scale(*v, path, t);
    if (const auto* v = o.if_contains("granularity"); v && v->is_object()) {
      const auto& g = v->as_object();
      const bool channel = g.contains("channel");
      const auto& inner = g.at(channel ? "channel" : "block").as_object();
      t.granularity = channel ? GranularityRule::channel : GranularityRule::block;
      if (const auto* axis = inner.if_contains("axis")) t.axis = static_cast<int>(axis->as_int64());
      if (!channel) t.block = static_cast<int>(std::min<int64_t>(inner.at("size").as_int64(), 1 << 30));
    }
    rules_.types.emplace(name, std::move(t));
  }

  void read_zero_point(const json::value& v, const std::string& path, TypeRule& t) {
    if (v.is_string()) {
      const std::string w = text_of(v);
      t.zero_point = w == "free" ? ZeroPointRule::free : w == "unified" ? ZeroPointRule::unified : ZeroPointRule::zero;
      return;
    }
    const bool list = v.as_object().contains("list");
    t.zero_point = list ? ZeroPointRule::list : ZeroPointRule::range;
    for (const auto& z : v.as_object().at(list ? "list" : "range").as_array()) t.zero_points.push_back(z.as_int64());
    for (const int64_t z : t.zero_points) {
      if (z < t.format.qmin || z > t.format.qmax) {
        rules_error(source_, path + ".zero_point", fmt::format("{} is outside of the codes {}..{}", z, t.format.qmin, t.format.qmax));
      }
    }
    if (!list && t.zero_points[0] > t.zero_points[1]) rules_error(source_, path + ".zero_point", "the range is empty");
  }

  void read_scale(const json::value& v, const std::string& path, TypeRule& t) {
    if (v.is_string()) return;
    const auto& o = v.as_object();
    const auto bounds = [&](const json::value& b, int low, int high) {
      const int64_t min = b.as_object().at("min").as_int64(), max = b.as_object().at("max").as_int64();
      if (min > max || min < low || max > high) rules_error(source_, path + ".scale", fmt::format("min..max has to lie within {}..{}", low, high));
      t.scale_min = static_cast<int>(min);
      t.scale_max = static_cast<int>(max);
    };
    if (const auto* b = o.if_contains("pow2")) {
      t.scale = ScaleRule::pow2;
      bounds(*b, -126, 127);
    } else if (const auto* b = o.if_contains("tensor_scale_times_integer")) {
      t.scale = ScaleRule::tensor_scale_times_integer;
      bounds(*b, 1, 1 << 24);
    } else if (const auto* b = o.if_contains("fixed")) {
      t.scale = ScaleRule::fixed;
      t.scale_value = b->to_number<double>();
    } else {
      t.scale = ScaleRule::product_of;
      t.product_of = words_at(o, "product_of");
    }
  }

  Attribute attribute(const json::value& v, const std::string& path) {
    if (v.is_int64()) return v.as_int64();
    if (v.is_number()) return static_cast<float>(v.to_number<double>());
    if (v.is_string()) return text_of(v);
    if (v.is_array() && !v.as_array().empty()) {
      std::vector<int64_t> integers;
      std::vector<float> reals;
      for (const auto& e : v.as_array()) {
        if (!e.is_number()) rules_error(source_, path, "a list holds numbers only");
        reals.push_back(e.to_number<float>());
        if (e.is_int64()) integers.push_back(e.as_int64());
      }
      if (integers.size() == reals.size()) return integers;
      return reals;
    }
    rules_error(source_, path, "an attribute is a number, a word or a list of numbers");
  }

  std::map<std::string, AttributeLimit> attributes(const json::object& o, const std::string& path) {
    std::map<std::string, AttributeLimit> out;
    const auto* all = o.if_contains("attributes");
    if (!all) return out;
    for (const auto& [name, v] : all->as_object()) {
      const std::string at = path + ".attributes." + std::string(name);
      AttributeLimit limit;
      const auto& l = v.as_object();
      if (const auto* in = l.if_contains("in")) for (const auto& e : in->as_array()) limit.one_of.push_back(attribute(e, at + ".in"));
      if (const auto* b = l.if_contains("min")) limit.min = b->to_number<double>();
      if (const auto* b = l.if_contains("max")) limit.max = b->to_number<double>();
      if (limit.min && limit.max && *limit.min > *limit.max) rules_error(source_, at, "min is above max: nothing can match");
      out.emplace(name, std::move(limit));
    }
    return out;
  }

  static std::vector<int64_t> integers(const json::value& v) {
    std::vector<int64_t> out;
    if (v.is_int64()) out.push_back(v.as_int64());
    else for (const auto& e : v.as_array()) out.push_back(e.as_int64());
    return out;
  }

  void read_op(size_t index, const json::object& o) {
    const std::string path = fmt::format("$.ops[{}]", index);
    const auto& m = o.at("match").as_object();
    OpRule rule;
    rule.entry = static_cast<int>(index);
    rule.match.domain = text_at(m, "domain");
    if (rule.match.domain == "ai.onnx") rule.match.domain.clear();
    if (const auto* v = m.if_contains("since")) for (const int64_t s : integers(*v)) rule.match.since_versions.push_back(static_cast<int>(s));
    if (const auto* v = m.if_contains("rank")) {
      for (const auto& [role, ranks] : v->as_object()) rule.match.ranks.emplace(role, integers(ranks));
    }
    rule.match.constant = words_at(m, "constant");
    rule.match.variable = words_at(m, "variable");
    rule.match.absent = words_at(m, "absent");
    rule.match.attributes = attributes(m, path + ".match");
    const auto& configs = o.at("configs").as_array();
    for (size_t i = 0; i < configs.size(); ++i) {
      const auto& c = configs[i].as_object();
      OpConfig config;
      config.id = text_at(c, "id");
      for (const auto& [role, types] : c.at("inputs").as_object()) config.inputs.emplace(role, words_of(types));
      config.output = words_of(c.at("output"));
      config.contract = text_at(c, "contract");
      rule.configs.push_back(std::move(config));
    }
    for (const auto& op : words_of(m.at("op"))) {
      OpRule one = rule;
      one.match.op = op;
      for (size_t i = 0; i < one.configs.size(); ++i) {
        if (one.configs[i].id.empty()) one.configs[i].id = configs.size() == 1 ? op : fmt::format("{}.{}", op, i);
      }
      rules_.ops.push_back(std::move(one));
    }
  }

  void read_fuse(size_t index, const json::object& o) {
    FusePattern pattern;
    pattern.name = text_at(o, "name");
    pattern.output = words_at(o, "output");
    const auto& steps = o.at("steps").as_array();
    for (size_t i = 0; i < steps.size(); ++i) {
      const auto& s = steps[i].as_object();
      FuseStep step;
      step.ops = words_of(s.at("op"));
      if (const auto* v = s.if_contains("optional")) step.optional = v->as_bool();
      step.other = text_at(s, "other");
      step.types = words_at(s, "types");
      if (const auto* v = s.if_contains("scalar")) step.scalar = v->as_bool();
      step.attributes = attributes(s, fmt::format("$.fuse[{}].steps[{}]", index, i));
      pattern.steps.push_back(std::move(step));
    }
    rules_.fuse.push_back(std::move(pattern));
  }

  void read_tie(const json::object& o) {
    TieRule tie;
    tie.op = text_at(o, "op");
    if (const auto* members = o.if_contains("members")) {
      tie.inputs = tie.output = false;
      for (const auto& m : words_of(*members)) (m == "inputs" ? tie.inputs : tie.output) = true;
    }
    tie.resolve = text_at(o, "resolve", "max_range");
    rules_.tie.push_back(std::move(tie));
  }

  void read_preset(const std::string& name, const json::object& o) {
    Preset p;
    p.name = name;
    p.symmetric_activations = text_at(o, "activations", "symmetric") == "symmetric";
    p.symmetric_weights = text_at(o, "weights", "symmetric") == "symmetric";
    if (const auto* prefer = o.if_contains("prefer")) {
      for (const auto& [op, config] : prefer->as_object()) p.prefer.emplace(op, text_of(config));
    }
    rules_.presets.emplace(name, std::move(p));
  }

  const json::object& root_;
  const std::string& source_;
  Rules& rules_;
};

// Picks the profile and merges it in. What remains under "profiles" is the chosen one, without its override: the
// effective text reads back to the same rules.
std::string merge_profile(json::value& document, const std::string& wanted, const std::string& source, Rules& rules) {
  auto& root = document.as_object();
  const auto* profiles_value = root.if_contains("profiles");
  Words names;
  if (profiles_value) {
    for (const auto& [name, v] : profiles_value->as_object()) {
      names.emplace_back(name);
      rules.profiles.push_back({std::string(name), words_at(v.as_object(), "requires_cpu")});
    }
  }
  rules.default_profiles = words_at(root, "default_profile");
  if (rules.default_profiles.empty() && !names.empty()) rules.default_profiles = {names.front()};
  Words needed = rules.default_profiles;
  if (!wanted.empty()) needed.insert(needed.begin(), wanted);
  if (needed.empty()) return "";
  for (const std::string& name : needed) {
    if (profiles_value && profiles_value->as_object().contains(name)) continue;
    const std::string legal = names.empty() ? "there are no profiles" : "profiles: " + list_of(names);
    if (name == wanted) {
      throw Error(ErrorCode::config, fmt::format("'{}' has no profile '{}'{}; {}", text_at(root, "id"), wanted, did_you_mean(wanted, names), legal))
          .at_file(source);
    }
    rules_error(source, "$.default_profile", fmt::format("there is no profile '{}'{}; {}", name, did_you_mean(name, names), legal));
  }
  const std::string name = needed.front();
  const json::value profile = profiles_value->as_object().at(name);
  json::object kept;
  if (const auto* cpu = profile.as_object().if_contains("requires_cpu")) kept.emplace("requires_cpu", *cpu);
  if (const auto* patch = profile.as_object().if_contains("override")) merge_patch(document, *patch);
  document.as_object()["default_profile"] = json::value(name);
  json::object chosen;
  chosen.emplace(name, std::move(kept));
  document.as_object()["profiles"] = std::move(chosen);
  return name;
}

}  // namespace

const TypeRule& Rules::type(const std::string& name) const {
  const auto it = types.find(name);
  if (it == types.end()) throw Error(ErrorCode::plugin, fmt::format("rules '{}' have no type '{}'", id, name));
  return it->second;
}

Rules parse_rules(std::string_view json_text, const std::string& source, const std::string& profile) {
  json::value document;
  try {
    document = without_x_keys(parse_json(json_text, source));
  } catch (const Error& e) {
    throw Error(ErrorCode::plugin, e.message()).at_file(e.file(), e.line(), e.column());
  }
  if (document.is_object()) {
    const auto* version = document.as_object().if_contains("quern_rules");
    if (version && version->is_int64() && version->get_int64() != 1) {
      rules_error(source, "$.quern_rules", fmt::format("these are quern.rules/{}; this host reads quern.rules/1", version->get_int64()));
    }
    document.as_object().erase("$schema");
  }
  validate_json(document, rules_schema(), source, ErrorCode::plugin);
  Rules rules;
  rules.profile = merge_profile(document, profile, source, rules);
  // Again: an override may have brought in anything.
  if (!rules.profile.empty()) {
    try {
      validate_json(document, rules_schema(), source, ErrorCode::plugin);
    } catch (const Error& e) {
      throw Error(ErrorCode::plugin, fmt::format("{} (after profile '{}' was merged in)", e.message(), rules.profile)).at_file(source);
    }
  }
  rules.effective = std::move(document);
  Sections(rules.effective.as_object(), source, rules).read();
  check_rules(rules, source);
  rules.digest = sha256(to_text(with_sorted_keys(rules.effective), false));
  return rules;
}

}  // namespace quern
