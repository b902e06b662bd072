#include <fmt/format.h>

#include "cli/verbs.hpp"
#include "core/base/error.hpp"
#include "core/onnx/onnx.hpp"

namespace quern::cli {
namespace {

json::array tensors(const Graph& graph, const std::vector<ValueId>& ids) {
  json::array out;
  for (ValueId id : ids) {
    const Value& v = graph.value(id);
    out.push_back(json::object{{"name", v.name}, {"type", name_of(v.dtype)}, {"shape", v.shape ? json::value(to_string(*v.shape)) : json::value(nullptr)}});
  }
  return out;
}

}  // namespace

int inspect_verb(const InspectArguments& a) {
  std::error_code ignored;
  json::object out;
  Graph graph;
  const fs::path path = a.model;
  if (fs::is_directory(path, ignored)) {
    if (!fs::exists(path / "package" / "index.json", ignored))
      throw Error(ErrorCode::usage, "has no package/; give an ONNX file or a folder that `quern quantize` wrote").at_file(path.string());
    IntegerModel m = read_package(path / "package");
    out["kind"] = "package";
    out["target"] = m.target;
    out["profile"] = m.profile;
    out["rules_sha256"] = m.rules_digest;
    out["provenance"] = m.provenance;
    out["integer_nodes"] = m.integer_nodes;
    out["float_nodes"] = m.float_nodes;
    out["integer_macs"] = m.integer_macs;
    out["total_macs"] = m.total_macs;
    graph = std::move(m.graph);
  } else {
    if (!fs::exists(path, ignored)) throw Error(ErrorCode::model, "there is no such model file").at_file(path.string());
    graph = import_onnx(path);
    out["kind"] = "onnx";
    out["opset"] = graph.opset;
    canonicalize(graph, evaluate_constant_node);
    int64_t macs = 0;
    for (NodeId id : graph.order()) macs += macs_of(graph, graph.node(id));
    out["total_macs"] = macs;
  }
  int64_t parameters = 0;
  for (size_t i = 0; i < graph.value_slots(); ++i)
    if (const auto& v = graph.value(static_cast<ValueId>(i)); v.is_constant()) parameters += v.constant->count();
  out["parameters"] = parameters;
  out["inputs"] = tensors(graph, graph.inputs());
  out["outputs"] = tensors(graph, graph.outputs());
  json::array nodes, unknown;
  std::map<std::string, int64_t> operators;
  for (NodeId id : graph.order()) {
    const Node& n = graph.node(id);
    ++operators[n.domain.empty() ? n.op : n.domain + "." + n.op];
    json::array results;
    for (ValueId v : n.outputs) if (v != no_value) results.emplace_back(graph.value(v).name);
    nodes.push_back(json::object{{"name", n.name}, {"op", n.op}, {"domain", n.domain}, {"since_version", n.since_version}, {"outputs", std::move(results)}});
  }
  const EngineOptions options{.providers = {interpreter_provider(), onednn_provider(), own_float_provider()}};
  for (NodeId id : Engine::unknown_nodes(graph, options)) unknown.push_back(json::object{{"node", graph.node(id).name}, {"op", graph.node(id).op}});
  json::object counts;
  for (const auto& [op, n] : operators) counts[op] = n;
  out["operators"] = std::move(counts);
  out["unknown"] = unknown;
  out["nodes"] = std::move(nodes);
  if (a.json) {
    print(to_text(out, false) + "\n");
    return 0;
  }
  std::string s = fmt::format("{} ({})\n", path.string(), std::string_view(out["kind"].as_string()));
  if (out.contains("opset")) s += fmt::format("opset       {}\n", graph.opset);
  if (out.contains("target")) s += fmt::format("target      {} ({})\n", std::string_view(out["target"].as_string()), std::string_view(out["profile"].as_string()));
  for (const char* side : {"inputs", "outputs"})
    for (const auto& t : out[side].as_array())
      s += fmt::format("{:<11} {} {} {}\n", side, std::string_view(t.at("name").as_string()), std::string_view(t.at("type").as_string()),
                       t.at("shape").is_null() ? std::string_view("of unknown rank") : std::string_view(t.at("shape").as_string()));
  s += fmt::format("parameters  {}\nMACs        {} per sample\n", parameters, out["total_macs"].as_int64());
  for (const auto& [op, n] : operators) s += fmt::format("{:>6} x {}\n", n, op);
  for (const auto& u : unknown)
    s += fmt::format("unknown     {} '{}'\n", std::string_view(u.at("op").as_string()), std::string_view(u.at("node").as_string()));
  print(s);
  return 0;
}

}  // namespace quern::cli
