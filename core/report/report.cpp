#include "core/report/report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace quern {
namespace {

json::value number(double v) {  // JSON has no infinity
  if (std::isfinite(v)) return v;
  return v > 0 ? json::value("infinity") : v < 0 ? json::value("-infinity") : json::value("not a number");
}

json::array names(const Graph& graph, const std::vector<NodeId>& nodes) {
  json::array out;
  for (NodeId id : nodes) out.emplace_back(graph.node(id).name);
  return out;
}

template <class T> json::array list(const std::vector<T>& values) {
  json::array out;
  for (const auto& v : values) out.emplace_back(v);
  return out;
}
json::array list(const std::vector<float>& values) {
  json::array out;
  for (float v : values) out.emplace_back(json_number(v));
  return out;
}

json::object quantizer_json(const Graph& graph, const Quantizer& q) {
  static const char* const kinds[] = {"activation", "weight", "bias"};
  json::object o{{"id", q.id}, {"kind", kinds[static_cast<int>(q.kind)]}, {"tensor", graph.value(q.value).name}};
  if (q.consumer != no_node) o["only_for"] = graph.node(q.consumer).name;
  if (q.tie >= 0) o["tie"] = q.tie;
  o["reason"] = q.reason;
  o["allowed_types"] = list(q.types);
  if (q.params.scale.empty()) return o;
  o["type"] = q.type;
  o["bits"] = q.params.format.bits;
  o["signed"] = q.params.format.is_signed;
  o["axis"] = q.params.axis;
  json::array low, high;
  for (const Range& r : q.ranges) { low.emplace_back(r.low); high.emplace_back(r.high); }
  o["low"] = std::move(low);
  o["high"] = std::move(high);
  o["scale"] = list(q.params.scale);
  o["zero_point"] = list(q.params.zero_point);
  return o;
}

json::object unit_json(const Graph& graph, const PlacedUnit& u) {
  json::object operands;
  for (const auto& operand : u.operands) {
    if (operand.value == no_value || operand.role.empty()) continue;
    json::object o{{"tensor", graph.value(operand.value).name}};
    if (operand.quantizer >= 0) o["quantizer"] = operand.quantizer;
    operands[operand.role] = std::move(o);
  }
  json::object output{{"tensor", graph.value(u.output).name}};
  if (u.output_quantizer >= 0) output["quantizer"] = u.output_quantizer;
  return json::object{{"nodes", names(graph, u.members)}, {"config", u.config}, {"contract", u.contract}, {"pattern", u.pattern},
                      {"operands", std::move(operands)}, {"output", std::move(output)}, {"reason", u.reason}};
}

// Four decimals, or as many digits where these would show nothing.
std::string figure(double v) { return v != 0 && std::fabs(v) < 0.01 ? fmt::format("{:.4g}", v) : fmt::format("{:.4f}", v); }

std::string size_text(int64_t bytes) {
  return bytes < 1'000'000 ? fmt::format("{:.1f} kB", static_cast<double>(bytes) / 1e3) : fmt::format("{:.2f} MB", static_cast<double>(bytes) / 1e6);
}

double ratio(int64_t a, int64_t b) { return b > 0 ? static_cast<double>(a) / static_cast<double>(b) : 0; }

}  // namespace

json::object placement_json(const Graph& graph, const Placement& placement) {
  json::array units, quantizers, floats;
  for (const auto& u : placement.units) units.push_back(unit_json(graph, u));
  for (const auto& q : placement.quantizers) quantizers.push_back(quantizer_json(graph, q));
  for (const auto& f : placement.floats)
    floats.push_back(json::object{{"node", graph.node(f.node).name}, {"op", graph.node(f.node).op}, {"precision", f.f16 ? "f16" : "f32"}, {"reason", f.reason}});
  return json::object{{"units", std::move(units)}, {"quantizers", std::move(quantizers)}, {"float_nodes", std::move(floats)}};
}

json::object report_json(const Config& config, const RunResult& r) {
  json::object out;
  out["quern_report"] = 1;
  out["tool"] = json::object{{"name", "quern"}, {"version", version()}};
  out["model"] = json::object{{"name", config.model.filename().string()}, {"sha256", r.model_digest}};
  out["target"] = json::object{{"name", r.target}, {"id", r.target_id}, {"version", r.target_version}, {"profile", r.profile},
                               {"preset", r.preset}, {"rules", r.rules_id}, {"rules_sha256", r.rules_digest}};
  out["configuration_sha256"] = r.config_digest;
  out["data"] = json::object{{"calibration_samples", r.calibration_samples}, {"calibration_sha256", r.data_digest}};
  out["float_class"] = r.float_class;
  out["warnings"] = list(r.warnings);

  json::array passes;
  for (const auto& p : r.passes) if (p.changed > 0) passes.push_back(json::object{{"pass", p.pass}, {"changed", p.changed}});
  json::array checks;
  for (const auto& c : r.rewrite_checks)
    checks.push_back(json::object{{"output", c.output}, {"max_difference", number(c.max_difference)}, {"max_value", number(c.max_value)}});
  out["rewrite"] = json::object{{"passes", std::move(passes)}, {"samples", r.rewrite_samples}, {"tolerance", rewrite_tolerance}, {"outputs", std::move(checks)}};

  const IntegerModel& m = r.integer;
  out["coverage"] = json::object{{"integer_nodes", m.integer_nodes}, {"float_nodes", m.float_nodes}, {"nodes", ratio(m.integer_nodes, m.integer_nodes + m.float_nodes)},
                                 {"integer_macs", m.integer_macs}, {"total_macs", m.total_macs}, {"macs", ratio(m.integer_macs, m.total_macs)},
                                 {"f16_nodes", m.f16_nodes}, {"f16_macs", m.f16_macs}};
  if (r.cost_units + r.cost_unknown > 0)
    out["cost"] = json::object{{"cycles", r.cost_cycles}, {"bytes", r.cost_bytes}, {"units", r.cost_units}, {"units_without", r.cost_unknown}};
  if (r.evaluated) {
    json::object e{{"samples", r.evaluation_samples}};
    if (!r.metric.empty()) {
      e["metric"] = r.metric;
      e["float"] = number(r.metric_float);
      e["quantized"] = number(r.metric_quantized);
    }
    json::object sqnr;
    for (const auto& s : r.sqnr) sqnr[s.output] = number(s.db);
    e["sqnr_db"] = std::move(sqnr);
    json::object saturations;
    for (const auto& [node, count] : r.saturations) saturations[node] = count;
    e["saturations"] = std::move(saturations);
    out["evaluation"] = std::move(e);
  }

  json::array exports;
  for (const auto& [profile, e] : r.exports) {
    json::object o{{"profile", name_of(profile)}, {"file", qdq_file_name(profile)}};
    if (!e.left_out.empty()) o["left_out"] = e.left_out;
    if (e.preview) {
      json::object deviations;
      for (const auto& d : e.deviations) deviations[d.output] = json::object{{"sqnr_db", number(d.sqnr_db)}, {"largest_difference", number(d.largest)}};
      o["preview"] = json::object{{"samples", e.preview_samples}, {"outputs", std::move(deviations)}};
    }
    if (profile != QdqProfile::plain) {
      json::array added, floats;
      for (const auto& a : e.added)
        added.push_back(json::object{{"tensor", a.tensor}, {"node", a.node}, {"scale", json_number(a.params.scale.at(0))}, {"zero_point", a.params.zero_point.at(0)}});
      for (const auto& f : e.floats) floats.push_back(json::object{{"node", f.node}, {"op", f.op}, {"reason", f.reason}});
      o["heavy_integer"] = e.heavy_integer;
      o["heavy_float"] = e.heavy_float;
      o["added_quantizers"] = std::move(added);
      o["float_nodes"] = std::move(floats);
    }
    exports.push_back(std::move(o));
  }
  out["exports"] = std::move(exports);

  json::array notes, stages;
  for (const auto& n : m.notes) notes.push_back(json::object{{"node", n.node}, {"note", n.text}});
  for (const auto& s : r.stage_lines)
    stages.push_back(json::object{{"stage", s.stage}, {"node", s.node}, {"action", s.action}, {"reason", s.reason}, {"before", number(s.before)}, {"after", number(s.after)}});
  for (auto& [key, value] : placement_json(r.graph, r.placement)) out[key] = std::move(value);
  out["not_portable"] = list(r.not_portable);
  out["notes"] = std::move(notes);
  out["stages"] = std::move(stages);
  out["timing"] = r.timing;
  return out;
}

std::string summary_text(const Config& config, const RunResult& r) {
  std::string s;
  const IntegerModel& m = r.integer;
  s += fmt::format("target     {} ({}), preset {}\n", r.target, r.profile, r.preset.empty() ? "none" : r.preset);
  s += fmt::format("integer    {} of {} nodes, {:.2f} % of multiply-accumulates\n", m.integer_nodes, m.integer_nodes + m.float_nodes,
                   100 * ratio(m.integer_macs, m.total_macs));
  if (m.f16_nodes > 0)
    s += fmt::format("f16        {} of {} nodes, {:.2f} % of multiply-accumulates\n", m.f16_nodes, m.integer_nodes + m.float_nodes, 100 * ratio(m.f16_macs, m.total_macs));
  // Float nodes by operator and reason, the most frequent first.
  struct Kept { std::string op, name, reason; size_t nodes = 0; bool f16 = false; };
  std::vector<Kept> kept_float;
  for (const auto& f : r.placement.floats) {
    const Node& n = r.graph.node(f.node);
    const auto same = std::find_if(kept_float.begin(), kept_float.end(), [&](const Kept& k) { return k.op == n.op && k.reason == f.reason && k.f16 == f.f16; });
    if (same == kept_float.end()) kept_float.push_back({n.op, n.name, f.reason, 1, f.f16});
    else ++same->nodes;
  }
  std::stable_sort(kept_float.begin(), kept_float.end(), [](const Kept& a, const Kept& b) { return a.nodes > b.nodes; });
  size_t shown = 0;
  for (size_t i = 0; i < std::min<size_t>(kept_float.size(), 6); ++i) {
    const Kept& k = kept_float[i];
    shown += k.nodes;
    s += fmt::format("{}      {} {}: {}\n", k.f16 ? "f16  " : "float", k.nodes == 1 ? k.op : fmt::format("{} x {}", k.nodes, k.op),
                     k.nodes == 1 ? fmt::format("'{}'", k.name) : fmt::format("('{}', ...)", k.name), k.reason);
  }
  if (shown < r.placement.floats.size()) s += fmt::format("           and {} more nodes (report.json)\n", r.placement.floats.size() - shown);
  for (const auto& [profile, e] : r.exports) {
    if (e.preview && e.left_out.empty()) {
      double db = std::numeric_limits<double>::infinity();
      for (const auto& d : e.deviations) db = std::min(db, d.sqnr_db);
      s += fmt::format("preview    {}: QDQ can't say this target's arithmetic; {} from the package\n", qdq_file_name(profile),
                       std::isfinite(db) ? fmt::format("{:.1f} dB", db) : "no difference");
    }
    if (profile == QdqProfile::plain) continue;
    s += fmt::format("{:<10} {}: {} of {} heavy nodes in integers", name_of(profile), qdq_file_name(profile), e.heavy_integer, e.heavy_integer + e.heavy_float);
    if (!e.added.empty()) s += fmt::format(", {} quantizer{} added ('{}'{})", e.added.size(), e.added.size() == 1 ? "" : "s", e.added[0].tensor, e.added.size() == 1 ? "" : ", ...");
    if (!e.floats.empty()) s += fmt::format(", {} node{} in float: '{}'{}", e.floats.size(), e.floats.size() == 1 ? "" : "s", e.floats[0].node, e.floats.size() == 1 ? "" : ", ... (report.json)");
    s += "\n";
  }
  double worst = 0;
  for (const auto& c : r.rewrite_checks) worst = std::max(worst, c.max_value > 0 ? c.max_difference / c.max_value : 0);
  if (worst == 0) s += fmt::format("rewriting  left the float outputs as they were ({} samples)\n", r.rewrite_samples);
  else s += fmt::format("rewriting  changed the float outputs by {:.1e} of their largest value at most ({} samples)\n", worst, r.rewrite_samples);
  size_t kept = 0, corrections = 0;
  for (const auto& l : r.stage_lines) { ++corrections; kept += l.after < l.before; }
  if (corrections > 0) s += fmt::format("stages     {} changes tried, {} lowered the measured error (report.json names them)\n", corrections, kept);
  for (const auto& n : m.notes) s += fmt::format("note       '{}': {}\n", n.node, n.text);
  if (r.evaluated) {
    if (!r.metric.empty())
      s += fmt::format("{:<10} float {}, quantized {} on {} samples\n", r.metric, figure(r.metric_float), figure(r.metric_quantized), r.evaluation_samples);
    for (const auto& q : r.sqnr)
      s += std::isfinite(q.db) ? fmt::format("SQNR       {}: {:.1f} dB\n", q.output, q.db) : fmt::format("SQNR       {}: equal\n", q.output);
    uint64_t saturated = 0;
    for (const auto& [node, count] : r.saturations) saturated += count;
    if (saturated > 0)
      s += fmt::format("saturated  {} sums in {} node{}: '{}'{}\n", saturated, r.saturations.size(), r.saturations.size() == 1 ? "" : "s", r.saturations.begin()->first,
                       r.saturations.size() == 1 ? "" : ", ... (report.json)");
  }
  std::error_code error, other;
  const auto float_size = fs::file_size(config.model, error), integer_size = fs::file_size(config.output / "package" / "data.bin", other);
  if (!error && !other)  // weights, tables and parameters; the rest of the package describes them
    s += fmt::format("size       {} float, {} of integers\n", size_text(static_cast<int64_t>(float_size)), size_text(static_cast<int64_t>(integer_size)));
  s += fmt::format("written    {}\n", config.output.string());
  return s;
}

std::string plan_text(const Config& config, const QuantizePlan& plan) {
  size_t weights = 0, activations = 0;
  for (const auto& q : plan.placement.quantizers) (q.kind == QuantizerKind::activation ? activations : weights) += q.kind != QuantizerKind::bias;
  size_t nodes = 0;
  for (const auto& u : plan.placement.units) nodes += u.members.size();
  std::string s = fmt::format("target     {} ({}), preset {}\n", config.device, config.profile, config.preset.empty() ? "none" : config.preset);
  s += fmt::format("placement  {} units of {} nodes, {} nodes stay float, {} activation and {} weight quantizers\n", plan.placement.units.size(), nodes,
                   plan.placement.floats.size(), activations, weights);
  for (size_t i = 0; i < plan.passes.size(); ++i)
    s += fmt::format("{:<10} {} ({} samples)\n", i == 0 ? "passes" : "", plan.passes[i].purpose, plan.passes[i].samples);
  for (size_t i = 0; i < plan.stages.size(); ++i) s += fmt::format("{:<10} {}\n", i == 0 ? "stages" : "", plan.stages[i]);
  s += fmt::format("would write {}\n", config.output.string());
  return s;
}

json::object plan_json(const Config& config, const QuantizePlan& plan) {
  size_t weights = 0, activations = 0, nodes = 0;
  for (const auto& q : plan.placement.quantizers) (q.kind == QuantizerKind::activation ? activations : weights) += q.kind != QuantizerKind::bias;
  for (const auto& u : plan.placement.units) nodes += u.members.size();
  json::array passes;
  for (const auto& p : plan.passes) passes.push_back(json::object{{"purpose", p.purpose}, {"samples", p.samples}});
  return json::object{{"target", config.device}, {"profile", config.profile}, {"preset", config.preset}, {"units", plan.placement.units.size()},
                      {"integer_nodes", nodes}, {"float_nodes", plan.placement.floats.size()}, {"activation_quantizers", activations},
                      {"weight_quantizers", weights}, {"passes", std::move(passes)}, {"stages", list(plan.stages)}, {"output", config.output.string()}};
}

}  // namespace quern
