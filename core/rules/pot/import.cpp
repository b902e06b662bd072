#include "core/rules/pot/import.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/error.hpp"
#include "core/rules/operators.hpp"
#include "core/rules/pot/file.hpp"
#include "core/rules/rules.hpp"

namespace quern {
namespace {

using Words = std::vector<std::string>;

bool has(const Words& list, const std::string& word) { return std::find(list.begin(), list.end(), word) != list.end(); }
void add_once(Words& list, const std::string& word) { if (!has(list, word)) list.push_back(word); }
json::array array_of(const Words& words) { return json::array(words.begin(), words.end()); }

class Importer {
 public:
  Importer(std::string_view text, const std::string& file) : in_(text, file) {}

  ImportedRules run() {
    const json::object& root = in_.object_at(in_.document(), "");
    const std::string device = in_.text_at(root, "", "target_device");
    const json::value& section = in_.needed(root, "", "config");
    const json::object& config = in_.object_at(section, "/config");
    const json::value& aliases = in_.needed(config, "/config", "quantization");
    in_.read_aliases(in_.object_at(aliases, "/config/quantization"), "/config/quantization");
    const bool inside = !root.contains("operations") && config.contains("operations");
    const std::string list = inside ? "/config/operations" : "/operations";
    const json::array& operations = in_.array_at(in_.needed(inside ? config : root, inside ? "/config" : "", "operations"), list);
    if (operations.empty()) throw in_.error(list, "lists no operation");
    read_limits(root);
    for (const auto& [key, v] : root)
      if (key != "target_device" && key != "config" && key != "operations" && key != "primary_bitwidth" && key != "input_priority_types")
        in_.skip(fmt::format("key '{}'", std::string_view(key)), "what it means is not known here");
    collect_activations(operations, list);
    if (activations_.empty()) throw in_.error(list, "no operation has activations of up to 16 bits per tensor; nothing could be imported");
    for (size_t i = 0; i < operations.size(); ++i) read_operation(operations[i].get_object(), fmt::format("{}/{}", list, i));
    return finish(device);
  }

 private:
  // ---- types

  // Types of an activation: symmetric ones have two, since POT takes unsigned codes where no number is negative.
  Words activation_types(const Numbers& n) {
    if (n.low) return {type(n, *n.low < 0, "a")};
    if (!n.symmetric) return {type(n, false, "a")};
    return {type(n, true, "a"), type(n, false, "a")};
  }
  std::string weight_type(const Numbers& n) { return type(n, n.low ? *n.low < 0 : n.symmetric, "w"); }

  std::string type(const Numbers& n, bool is_signed, const std::string& prefix) {
    const bool weight = prefix == "w";
    const NumberFormat full = make_format(static_cast<int>(n.bits), is_signed, false);
    json::object t{{"bits", n.bits}, {"signed", is_signed}};
    const int64_t low = n.low.value_or(full.qmin), high = n.high.value_or(full.qmax);
    const bool narrow = is_signed && (n.low ? low == full.qmin + 1 && high == full.qmax : weight && n.symmetric && n.bits > 1);
    if (narrow) t["narrow"] = true;
    else if (low != full.qmin || high != full.qmax) t["qmin"] = low, t["qmax"] = high;
    if (!n.symmetric) t["zero_point"] = n.unified ? "unified" : "free";
    if (n.per_channel) t["granularity"] = json::object{{"channel", json::object{{"axis", weight ? 0 : 1}}}};
    std::string name = fmt::format("{}{}{}_{}_{}", prefix, is_signed ? "s" : "u", n.bits, n.symmetric ? "sym" : n.unified ? "one_zero" : "asym", n.per_channel ? "channel" : "tensor");
    if (t.contains("qmin")) name += fmt::format("_{}_to_{}", low < 0 ? fmt::format("m{}", -low) : std::to_string(low), high);
    types_[name] = std::move(t);
    return name;
  }

  // ---- operations

  // Types of up to 16 bits; wider ones stay in accumulators.
  Words narrow_types(const std::vector<Numbers>& all) {
    Words out;
    for (const Numbers& n : all)
      if (n.bits <= 16) for (const auto& t : activation_types(n)) add_once(out, t);
    return out;
  }

  // The types that tensors have anywhere: what an operator without a say may write or hand on.
  void collect_activations(const json::array& operations, const std::string& list) {
    for (size_t i = 0; i < operations.size(); ++i) {
      const std::string at = fmt::format("{}/{}", list, i);
      const json::object& o = in_.object_at(operations[i], at);
      (void)in_.text_at(o, at, "type");
      const auto* q = o.if_contains("quantization");
      if (!q) continue;
      const json::object& groups = in_.object_at(*q, at + "/quantization");
      for (const char* key : {"activations", "outputs"})
        for (const Numbers& n : in_.group(groups, key, at + "/quantization"))
          if (n.bits <= 16 && !n.per_channel) for (const auto& t : activation_types(n)) add_once(activations_, t);
    }
  }

  void read_limits(const json::object& root) {
    if (const auto* v = root.if_contains("primary_bitwidth")) {
      limits_["primary_bitwidth"] = in_.whole(*v, "/primary_bitwidth", 1, 32);
      in_.skip("primary_bitwidth", "kept as a limit; no choice between configs follows from it");
    }
    if (root.contains("input_priority_types")) in_.skip("input_priority_types", "which consumer decides on a tensor is the solver's own matter");
  }

  // Limits of an operation's attributes in ONNX's words; false: one of them can't be said.
  bool attributes_of(const json::object& o, const std::string& op, const std::string& type, json::object& out) {
    const auto* all = o.if_contains("attributes");
    if (!all || !all->is_object()) return true;
    static const Words window = {"group", "strides", "dilations"};
    for (const auto& [name, v] : all->get_object()) {
      const std::string key(name);
      if (key == "unified_scales" || key == "scales") continue;
      json::value wanted = v;
      const bool mode = key == "mode" && op == "Resize";
      if (mode && v == json::value("linear_onnx")) wanted = "linear";
      const bool legal = mode || ((op == "Conv" || op == "ConvTranspose") && has(window, key));
      if (!legal || wanted.is_object() || wanted.is_bool() || wanted.is_null()) {
        in_.skip(type, fmt::format("its entry with the attribute '{}' is left out, which ONNX does not have in this form", key));
        return false;
      }
      out[key] = json::object{{"in", json::array{wanted}}};
    }
    return true;
  }

  static const json::value* unified(const json::object& o) {
    for (const char* place : {"", "attributes", "quantization"}) {
      const json::object* in = &o;
      if (*place) {
        const auto* inner = o.if_contains(place);
        in = inner ? inner->if_object() : nullptr;
      }
      for (const char* key : {"unified_scales", "scales"})
        if (const auto* v = in ? in->if_contains(key) : nullptr) return v;
    }
    return nullptr;
  }

  void read_operation(const json::object& o, const std::string& at) {
    static const json::value table = parse_json(pot_operators(), "operators.json");
    const std::string type(o.at("type").get_string());
    for (const auto& [key, v] : o)
      if (key != "type" && key != "quantization" && key != "attributes" && key != "unified_scales")
        in_.skip(fmt::format("'{}' of {}", std::string_view(key), type), "what it means is not known here");
    const auto* known = table.get_object().if_contains(type);
    if (!known) return in_.skip(type, "no counterpart in ONNX is known here");
    const json::object& entry = known->get_object();
    if (const auto* why = entry.if_contains("why")) return in_.skip(type, std::string(why->get_string()));
    const auto* q = o.if_contains("quantization");
    for (const json::value& name : entry.at("op").get_array()) {
      const std::string op(name.get_string());
      json::object limits;
      if (const auto* own = entry.if_contains("attributes")) limits = own->get_object();
      if (!attributes_of(o, op, type, limits)) return;
      if (q) read_quantized(type, op, std::string(entry.at("contract").get_string()), q->get_object(), limits, at + "/quantization");
      else read_passthrough(type, op, std::string(entry.at("contract").get_string()), limits);
      read_ties(o, op, type);
    }
  }

  void read_ties(const json::object& o, const std::string& op, const std::string& type) {
    const auto* how = unified(o);
    if (!how) return;
    if (*how != json::value("all") && *how != json::value("unified") && *how != json::value(true)) return in_.skip(type, "unified scales of some of its ports only");
    json::array members{"inputs"};
    if (op == "Concat") members.emplace_back("output");
    for (const json::value& t : ties_) if (t.at("op") == json::value(op)) return;
    ties_.push_back(json::object{{"op", op}, {"members", members}, {"resolve", "max_range"}});
  }

  void read_passthrough(const std::string& type, const std::string& op, const std::string& contract, const json::object& limits) {
    const json::array forms{"assumed_move", "assumed_join", "assumed_largest", "assumed_resample"};
    if (std::find(forms.begin(), forms.end(), json::value(contract)) == forms.end() || op == "ReduceMax")
      return in_.skip(type, "integers can't be moved through it");
    const std::string role = op == "Concat" ? "in*" : "input";
    add_rule(type, op, limits, {}, json::object{{role, array_of(activations_)}}, activations_, contract);
    add_once(passthrough_, op);
  }

  void read_quantized(const std::string& type, const std::string& op, const std::string& contract, const json::object& groups, const json::object& limits,
                      const std::string& at) {
    const auto activations = in_.group(groups, "activations", at), weights = in_.group(groups, "weights", at), outputs = in_.group(groups, "outputs", at);
    const auto wide = [](const std::vector<Numbers>& all) { return std::any_of(all.begin(), all.end(), [](const Numbers& n) { return n.bits > 16; }); };
    const Words inputs = narrow_types(activations);
    if (inputs.empty())
      return in_.skip(type, wide(activations) ? "takes more than 16 bits, which lie in no tensor here; it needs a pattern ($.fuse) behind what makes them" : "has no activations");
    if (wide(activations)) in_.skip(type, "activations of more than 16 bits are left out");
    Words written = narrow_types(outputs);
    if (wide(outputs)) in_.skip(type, "outputs of more than 16 bits lie in no tensor here; it writes the types that others read");
    if (written.empty()) written = activations_;
    const KernelForm form = kernel_form(contract);
    if (form == KernelForm::dot || form == KernelForm::elementwise2 || form == KernelForm::reduce || form == KernelForm::pool_sum) written.push_back("f32");

    if (form == KernelForm::dot) return read_dot(type, op, contract, weights, inputs, written, limits);
    json::object roles;
    if (form == KernelForm::elementwise2) {
      roles = json::object{{"a", array_of(inputs)}, {"b", array_of(inputs)}};
      if (!weights.empty()) in_.skip("weights of element-wise operators", "their constants take the types of activations");
    } else {
      roles[op == "Concat" ? "in*" : "input"] = array_of(inputs);
    }
    add_rule(type, op, limits, {}, roles, written, contract);
  }

  void read_dot(const std::string& type, const std::string& op, const std::string& contract, const std::vector<Numbers>& weights, const Words& inputs, const Words& written,
                json::object limits) {
    Words kinds;
    for (const Numbers& n : weights) {
      if (n.bits <= 16) add_once(kinds, weight_type(n));
      else in_.skip(type, "weights of more than 16 bits are left out");
    }
    if (kinds.empty()) return in_.skip(type, "has no weights");
    if (op == "Gemm")
      for (const auto& [key, value] : {std::pair{"transA", 0}, {"alpha", 1}, {"beta", 1}}) limits[key] = json::object{{"min", value}, {"max", value}};
    types_["b32"] = json::object{{"bits", 32}, {"signed", true}, {"scale", json::object{{"product_of", json::array{"input", "weight"}}}}};
    json::object match{{"constant", op == "MatMul" ? json::array{"weight"} : json::array{"weight", "bias"}}, {"variable", json::array{"input"}}};
    add_rule(type, op, limits, match, json::object{{"input", array_of(inputs)}, {"weight", array_of(kinds)}, {"bias", json::array{"b32"}}}, written, contract);
    if (op == "MatMul")
      add_rule(type, op, limits, json::object{{"variable", json::array{"input", "weight"}}}, json::object{{"input", array_of(inputs)}, {"weight", array_of(inputs)}}, written, contract);
    patterns_.push_back(op);
  }

  void add_rule(const std::string& type, const std::string& op, const json::object& limits, json::object match, json::object inputs, const Words& output,
                const std::string& contract) {
    match["op"] = op;
    if (!limits.empty()) match["attributes"] = limits;
    json::object rule{{"match", match}, {"configs", json::array{json::object{{"inputs", std::move(inputs)}, {"output", array_of(output)}, {"contract", contract}}}},
                      {"x-from", type}};
    for (const auto& before : rules_)
      if (before.at("match") == rule.at("match")) {
        if (before.at("configs") != rule.at("configs")) in_.skip(type, fmt::format("{} stands in an entry of {} before", op, std::string_view(before.at("x-from").get_string())));
        return;
      }
    add_once(contracts_, contract);
    rules_.push_back(std::move(rule));
  }

  static KernelForm kernel_form(const std::string& contract) {
    static const json::value all = parse_json(pot_contracts(), "contracts.json");
    const std::string form(all.at(contract).at("form").get_string());
    for (KernelForm f : {KernelForm::dot, KernelForm::pool_sum, KernelForm::pool_max, KernelForm::reduce, KernelForm::elementwise2, KernelForm::resample, KernelForm::move})
      if (name_of(f) == form) return f;
    return KernelForm::table;
  }

  // ---- the rules

  json::object presets() const {
    bool symmetric = false, asymmetric = false, weights = false;
    for (const auto& [name, t] : types_) {
      if (name[0] == 'a') (t.contains("zero_point") ? asymmetric : symmetric) = true;
      else if (t.contains("zero_point")) weights = true;
    }
    json::object out;
    const auto add = [&](const char* name, bool a, bool w) { out[name] = json::object{{"activations", a ? "asymmetric" : "symmetric"}, {"weights", w ? "asymmetric" : "symmetric"}}; };
    add("performance", !symmetric, false);
    if (asymmetric) add("mixed", true, false);
    if (weights) add("accuracy", asymmetric, true);
    return out;
  }

  ImportedRules finish(const std::string& device) {
    if (rules_.empty()) throw in_.error("", "no operation could be imported: " + list_of(in_.skipped));
    in_.skip("arithmetic", "the file says nothing of it; the contracts are assumed: requantization in f32, to nearest even");
    // What limits attributes goes first, since the first match decides.
    std::stable_partition(rules_.begin(), rules_.end(), [](const json::object& r) {
      const auto* limits = r.at("match").get_object().if_contains("attributes");
      return limits && r.at("match").at("op") != json::value("Gemm");
    });
    json::object out{{"quern_rules", 1}};
    std::string id = "imported.";
    for (const char c : device) id += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    out["id"] = id;
    out["x-from"] = fmt::format("POT's hardware file for {}", device);
    json::array left_out;
    for (const auto& line : in_.skipped) left_out.emplace_back(line);
    out["x-not-imported"] = std::move(left_out);
    json::object types;
    for (auto& [name, t] : types_) types[name] = t;
    out["types"] = std::move(types);
    json::array ops;
    for (auto& r : rules_) ops.push_back(r);
    out["ops"] = std::move(ops);
    json::array fuse;
    for (const auto& op : patterns_) {
      const std::string name = op + "_clip";
      if (std::none_of(fuse.begin(), fuse.end(), [&](const json::value& f) { return f.at("name") == json::value(name); }))
        fuse.push_back(json::object{{"name", name}, {"steps", json::array{json::object{{"op", json::array{op}}}, json::object{{"op", json::array{"Relu", "Clip"}}}}}, {"x-assumed", true}});
    }
    if (!fuse.empty()) {
      out["fuse"] = std::move(fuse);
    }
    out["passthrough"] = array_of(passthrough_);
    out["tie"] = ties_;
    out["fallback"] = json::array{"f32"};
    out["presets"] = presets();
    if (!limits_.empty()) out["limits"] = limits_;
    static const json::value texts = parse_json(pot_contracts(), "contracts.json");
    json::object contracts;
    for (const auto& name : contracts_) {
      json::object c{{"x-assumed", "POT's file says nothing of arithmetic: replace this by what the hardware does"}};
      for (const auto& [key, v] : texts.at(name).get_object()) c[key] = v;
      contracts[name] = std::move(c);
    }
    out["contracts"] = std::move(contracts);
    (void)parse_rules(to_text(out), in_.name() + " (imported)");
    return {std::move(out), std::move(in_.skipped)};
  }

  PotFile in_;
  Words activations_, passthrough_, patterns_, contracts_;
  std::map<std::string, json::object> types_;
  std::vector<json::object> rules_;
  json::array ties_;
  json::object limits_;
};

}  // namespace

ImportedRules import_pot_hardware(std::string_view text, const std::string& file) { return Importer(text, file).run(); }

}  // namespace quern
