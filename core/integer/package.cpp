// package/index.json and package/data.bin; the format is described in docs/package.md.
#include <fmt/format.h>

#include "core/base/digest.hpp"
#include "core/base/error.hpp"
#include "core/integer/package_parts.hpp"
#include "core/rules/contract_json.hpp"

namespace quern {
namespace {

constexpr int64_t format_version = 1;

json::object value_to_json(const Value& value, BlobWriter& blob) {
  json::object o{{"name", value.name}, {"dtype", name_of(value.dtype)}};
  if (value.is_constant()) {
    o["constant"] = blob.add(*value.constant);
    return o;
  }
  if (value.shape) o["dims"] = json::array(value.shape->begin(), value.shape->end());
  bool named = false;
  json::array names;
  for (const auto& n : value.dim_names) {
    names.emplace_back(n);
    named = named || !n.empty();
  }
  if (named) o["dim_names"] = std::move(names);
  return o;
}

const char* payload_kind(const Node& node) {
  if (node.domain != "quern") return nullptr;
  return node.op == "Unit" ? "unit" : "params";
}

// What reads JSON or a contract says whose mistake it usually is, the configuration's or a plugin's; in a package it is the file's.
template <class F> auto in_package(F&& read) {
  try {
    return read();
  } catch (const Error& e) {
    if (e.code() != ErrorCode::config && e.code() != ErrorCode::plugin) throw;
    throw Error(ErrorCode::model, e.message() + "; the package is damaged or was changed").at_file(e.file(), e.line(), e.column());
  }
}

}  // namespace

void write_package(const IntegerModel& model, const fs::path& folder) {
  const Graph& graph = model.graph;
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw Error(ErrorCode::io, "can't be created: " + error.message()).at_file(folder.string());
  BlobWriter blob(folder / "data.bin");
  json::array values, nodes, inputs, outputs;
  json::object contracts;
  std::vector<bool> used(graph.value_slots(), false);
  const auto order = graph.order();
  for (ValueId v : graph.inputs()) { used[static_cast<size_t>(v)] = true; inputs.emplace_back(graph.value(v).name); }
  for (ValueId v : graph.outputs()) { used[static_cast<size_t>(v)] = true; outputs.emplace_back(graph.value(v).name); }
  for (NodeId id : order) {
    const Node& node = graph.node(id);
    const auto names = [&](const std::vector<ValueId>& ids) {
      json::array a;
      for (ValueId v : ids) {
        if (v == no_value) { a.emplace_back(""); continue; }
        used[static_cast<size_t>(v)] = true;
        a.emplace_back(graph.value(v).name);
      }
      return a;
    };
    json::object o{{"name", node.name}, {"domain", node.domain}, {"op", node.op}, {"since_version", node.since_version},
                   {"inputs", names(node.inputs)}, {"outputs", names(node.outputs)}};
    if (!node.attributes.empty()) o["attributes"] = attributes_to_json(node.attributes, blob, node.name);
    if (!node.origin.empty()) {
      json::array origin;
      for (const auto& n : node.origin) origin.emplace_back(n);
      o["origin"] = std::move(origin);
    }
    if (payload_kind(node)) {
      if (const auto* unit = dynamic_cast<const IntegerUnit*>(node.payload.get())) {
        o["unit"] = unit_to_json(*unit, blob);
        contracts[unit->contract->id] = contract_to_json(*unit->contract);
      } else if (const auto* q = dynamic_cast<const QuantizePayload*>(node.payload.get())) {
        o["params"] = params_to_json(q->params);
      }
    }
    nodes.push_back(std::move(o));
  }
  for (size_t v = 0; v < graph.value_slots(); ++v)
    if (used[v]) values.push_back(value_to_json(graph.value(static_cast<ValueId>(v)), blob));
  json::array notes;
  for (const auto& n : model.notes) notes.push_back(json::object{{"node", n.node}, {"text", n.text}});

  const uint64_t bytes = blob.bytes();
  const std::string digest = blob.finish();
  json::object index{
      {"quern_package", format_version},
      {"provenance", model.provenance},
      {"target", json::object{{"name", model.target}, {"id", model.target_id}, {"version", model.target_version},
                              {"profile", model.profile}, {"rules_digest", model.rules_digest}}},
      {"coverage", json::object{{"integer_nodes", model.integer_nodes}, {"float_nodes", model.float_nodes},
                                {"integer_macs", model.integer_macs}, {"total_macs", model.total_macs},
                                {"f16_nodes", model.f16_nodes}, {"f16_macs", model.f16_macs}}},
      {"data", json::object{{"file", "data.bin"}, {"bytes", bytes}, {"sha256", digest}}},
      {"name", graph.name}, {"opset", graph.opset}, {"inputs", std::move(inputs)}, {"outputs", std::move(outputs)},
      {"contracts", std::move(contracts)}, {"values", std::move(values)}, {"nodes", std::move(nodes)}, {"notes", std::move(notes)}};
  write_file(folder / "index.json", to_text(index));
}

IntegerModel read_package(const fs::path& folder) {
  const fs::path index_path = folder / "index.json";
  const std::string where = index_path.string();
  const json::value root = in_package([&] { return parse_json(read_text(index_path, size_t{1} << 30), where); });
  const Fields index(root, where);
  if (!index.has("quern_package")) index.fail("is not the index of an integer package");
  if (index.integer("quern_package") != format_version)
    throw Error(ErrorCode::model, fmt::format("package format {} is not known here (this is for {})", index.integer("quern_package"), format_version))
        .at_file(where).hint("Quantize again with this version of quern, or use the version that wrote the package.");

  const Fields data = index.at("data");
  if (data.text("file") != "data.bin") index.fail("names a data file other than data.bin");
  auto file = MappedFile::open(folder / "data.bin");
  if (static_cast<int64_t>(file->bytes().size()) != data.integer("bytes") || sha256(file->bytes()) != data.text("sha256"))
    throw Error(ErrorCode::model, "does not have the length and digest that index.json states; the package is damaged or was changed")
        .at_file((folder / "data.bin").string());
  const BlobReader blob(file, where);

  IntegerModel model;
  model.provenance = index.at("provenance").object();
  const Fields target = index.at("target"), coverage = index.at("coverage");
  model.target = target.text("name");
  model.target_id = target.text("id");
  model.target_version = target.text("version");
  model.profile = target.text("profile");
  model.rules_digest = target.text("rules_digest");
  model.integer_nodes = coverage.integer("integer_nodes");
  model.float_nodes = coverage.integer("float_nodes");
  model.integer_macs = coverage.integer("integer_macs");
  model.total_macs = coverage.integer("total_macs");
  if (coverage.has("f16_nodes")) {  // packages of earlier versions have none
    model.f16_nodes = coverage.integer("f16_nodes");
    model.f16_macs = coverage.integer("f16_macs");
  }
  for (const auto& n : index.array("notes")) {
    const Fields note(n, where);
    model.notes.push_back({note.text("node"), note.text("text")});
  }
  std::map<std::string, std::shared_ptr<const Contract>> contracts;
  for (const auto& c : index.at("contracts").object())
    contracts[std::string(c.key())] = std::make_shared<const Contract>(in_package([&] { return parse_contract(std::string(c.key()), c.value(), where); }));

  Graph& graph = model.graph;
  graph.name = index.text("name");
  graph.opset = index.integer("opset");
  for (const auto& v : index.array("values")) {
    const Fields f(v, where);
    const std::string name = f.text("name");
    if (graph.find_value(name) != no_value) f.fail("two values are named '" + name + "'");
    if (f.has("constant")) {
      graph.add_constant(name, blob.get(f.at("constant").object()));
      continue;
    }
    std::optional<Dims> dims;
    if (f.has("dims")) dims = f.integers("dims");
    const ValueId id = graph.add_value(name, dtype_from_name(f.text("dtype")), dims);
    if (f.has("dim_names")) graph.value(id).dim_names = f.texts("dim_names");
  }
  const auto find = [&](const std::string& name, const Fields& f) {
    const ValueId id = graph.find_value(name);
    if (id == no_value) f.fail("names a value '" + name + "' that is not in the file");
    return id;
  };
  std::vector<ValueId> inputs, outputs;
  for (const auto& n : index.texts("inputs")) inputs.push_back(find(n, index));
  for (const auto& n : index.texts("outputs")) outputs.push_back(find(n, index));
  graph.set_inputs(inputs);
  graph.set_outputs(outputs);
  for (const auto& n : index.array("nodes")) {
    const Fields f(n, where);
    Node node;
    node.name = f.text("name");
    node.domain = f.text("domain");
    node.op = f.text("op");
    node.since_version = static_cast<int>(f.integer("since_version"));
    for (const auto& name : f.texts("inputs")) node.inputs.push_back(name.empty() ? no_value : find(name, f));
    for (const auto& name : f.texts("outputs")) node.outputs.push_back(name.empty() ? no_value : find(name, f));
    if (f.has("attributes")) node.attributes = attributes_from_json(f.at("attributes"), blob);
    if (f.has("origin")) node.origin = f.texts("origin");
    if (payload_kind(node)) {
      if (node.op == "Unit") {
        auto unit = unit_from_json(f.at("unit"), blob, contracts);
        unit->name = node.name;
        // Kernels trust the types of the unit, memory is laid out by those of the values: they must be the same.
        size_t flowing = 0;
        const auto flows = [&](const UnitOperand& o, const std::vector<ValueId>& ids, size_t at) {
          if (at >= ids.size() || ids[at] == no_value) f.fail("the unit '" + node.name + "' has inputs that do not fit its operands");
          if (o.dtype != graph.value(ids[at]).dtype)
            f.fail(fmt::format("the unit '{}' and the value '{}' disagree on its type", node.name, graph.value(ids[at]).name));
        };
        for (const auto& o : unit->operands) {
          if (!o.constant) flows(o, node.inputs, flowing++);
          else if (o.constant->type() != o.dtype) f.fail(fmt::format("the unit '{}' has a {} of another type than stated", node.name, o.role));
        }
        flows(unit->output, node.outputs, 0);
        if (flowing != node.inputs.size() || node.outputs.size() != 1) f.fail("the unit '" + node.name + "' has inputs that do not fit its operands");
        node.payload = std::move(unit);
      } else {
        if (node.inputs.size() != 1 || node.outputs.size() != 1) f.fail("a border with other than one input and one output");
        auto payload = std::make_shared<QuantizePayload>();
        payload->params = params_from_json(f.at("params"));
        node.payload = std::move(payload);
      }
    }
    graph.add_node(std::move(node));
  }
  graph.check();
  return model;
}

}  // namespace quern
