#include "core/onnx/upgrade.hpp"

#include <fmt/format.h>

#include <limits>

#include "core/base/error.hpp"
#include "core/onnx/operator_gate.hpp"

namespace quern {
namespace {

// One node being rewritten; its `node()` is looked up anew each time, since adding values does not move nodes.
struct Rewriter {
  Graph& graph;
  NodeId id;

  Node& node() { return graph.node(id); }
  void set_input(size_t slot, ValueId value) {
    auto& inputs = node().inputs;
    if (inputs.size() <= slot) inputs.resize(slot + 1, no_value);
    inputs[slot] = value;
  }
  void constant(size_t slot, const char* what, Tensor tensor) {
    set_input(slot, graph.add_constant(fmt::format("{}.{}", node().name, what), std::move(tensor)));
  }
  // A list attribute becomes an input of the same meaning.
  void list_to_input(const std::string& key, size_t slot) {
    if (!node().has(key)) return;
    const auto v = node().integers(key);
    constant(slot, key.c_str(), Tensor::of<int64_t>({static_cast<int64_t>(v.size())}, v));
    node().attributes.erase(key);
  }
};

void clip(Rewriter r) {
  // The limits of Clip 6 are always there (the range of float by default), but only stated ones are worth an input.
  for (auto [key, slot] : {std::pair{"min", size_t{1}}, {"max", size_t{2}}}) {
    if (!r.node().has(key)) continue;
    const float v = r.node().real(key, 0);
    if (v > -std::numeric_limits<float>::max() && v < std::numeric_limits<float>::max()) r.constant(slot, key, Tensor::scalar(v));
    r.node().attributes.erase(key);
  }
}

void slice(Rewriter r) {
  if (!r.node().has("starts") || !r.node().has("ends"))
    throw Error(ErrorCode::model, "Slice: starts or ends are missing").at_node(r.node().name);
  r.list_to_input("starts", 1);
  r.list_to_input("ends", 2);
  r.list_to_input("axes", 3);
}

void pad(Rewriter r) {
  if (!r.node().has("pads")) throw Error(ErrorCode::model, "Pad: pads are missing").at_node(r.node().name);
  r.list_to_input("pads", 1);
  const float value = r.node().real("value", 0);
  r.node().attributes.erase("value");
  const ValueId data = r.node().inputs.empty() ? no_value : r.node().inputs[0];
  const DType type = data == no_value ? DType::f32 : r.graph.value(data).dtype;
  if (value != 0 && type == DType::f64) r.constant(2, "value", Tensor::scalar(static_cast<double>(value)));
  else if (value != 0) r.constant(2, "value", Tensor::scalar(value));
}

void top_k(Rewriter r) {
  const int64_t k = r.node().integer("k", -1);
  if (k < 0) throw Error(ErrorCode::model, "TopK: k is missing").at_node(r.node().name);
  r.constant(1, "k", Tensor::of<int64_t>({1}, std::vector<int64_t>{k}));
  r.node().attributes.erase("k");
}

// Upsample, and Resize as it first was: both take nearest as "floor of the asymmetric coordinate".
void resize(Rewriter r) {
  Node& n = r.node();
  if (n.has("scales")) {
    const auto scales = n.reals("scales");
    r.constant(2, "scales", Tensor::of<float>({static_cast<int64_t>(scales.size())}, scales));
  } else {
    if (n.inputs.size() < 2) throw Error(ErrorCode::model, fmt::format("{}: scales are missing", n.op)).at_node(n.name);
    const ValueId scales = n.inputs[1];
    r.set_input(2, scales);
  }
  r.node().inputs[1] = no_value;  // the region, for a mode that did not exist
  Node& after = r.node();
  after.attributes.erase("scales");
  const std::string mode = after.text("mode", "nearest");
  after.attributes["mode"] = mode == "bilinear" || mode == "trilinear" ? std::string("linear") : mode;
  after.attributes["coordinate_transformation_mode"] = std::string("asymmetric");
  after.attributes["nearest_mode"] = std::string("floor");
  after.op = "Resize";
}

void batch_norm(Rewriter r) {
  Node& n = r.node();
  if (n.integer("spatial", 1) == 0)
    throw Error(ErrorCode::model, "BatchNormalization: statistics per element (spatial = 0) are not supported").at_node(n.name);
  for (size_t i = 1; i < n.outputs.size(); ++i)
    if (n.outputs[i] != no_value && r.graph.is_output(n.outputs[i]))
      throw Error(ErrorCode::model, "BatchNormalization: is in training mode; export the model for inference").at_node(n.name);
  n.attributes.erase("spatial");
  n.attributes.erase("momentum");
}

void upgrade(Rewriter r) {
  Node& n = r.node();
  const std::string op = n.op;
  const int v = n.since_version;
  auto now = [&](int version) { r.node().since_version = version; };
  if (op == "Clip" && v < 11) clip(r), now(13);
  else if (op == "Dropout" && v < 12) n.attributes.erase("ratio"), now(13);
  else if ((op == "Squeeze" || op == "Unsqueeze" || op == "ReduceSum") && v < 13) r.list_to_input("axes", 1), now(13);
  else if (op == "Split" && v < 13) r.list_to_input("split", 1), now(13);
  else if (op == "Slice" && v < 10) slice(r), now(13);
  else if (op == "Pad" && v < 11) pad(r), now(13);
  else if (op == "TopK" && v < 10) top_k(r), now(11);
  else if ((op == "Upsample" || op == "Resize") && v < 11) resize(r), now(13);
  else if (op == "BatchNormalization" && v < 14) batch_norm(r), now(15);
  else if (op == "Scatter") r.node().op = "ScatterElements", now(13);
}

}  // namespace

void upgrade_definitions(Graph& graph) {
  for (size_t i = 0; i < graph.node_slots(); ++i) {
    const auto id = static_cast<NodeId>(i);
    if (!graph.node(id).removed && graph.node(id).domain.empty() && graph.node(id).since_version > 0) upgrade({graph, id});
  }
}

bool upgrade_softmax(Graph& graph) {
  bool changed = false;
  const size_t count = graph.node_slots();
  for (size_t i = 0; i < count; ++i) {
    const auto id = static_cast<NodeId>(i);
    {
      const Node& n = graph.node(id);
      if (n.removed || !n.domain.empty() || n.since_version < 1 || n.since_version >= 13) continue;
      if (n.op != "Softmax" && n.op != "LogSoftmax" && n.op != "Hardmax") continue;
    }
    Rewriter r{graph, id};
    const int64_t axis = r.node().integer("axis", 1);
    const ValueId x = r.node().inputs.at(0), y = r.node().outputs.at(0);
    const std::string name = r.node().name;
    const auto& shape = graph.value(x).shape;
    r.node().since_version = 13;
    r.node().attributes["axis"] = int64_t{-1};
    const auto rank = shape ? static_cast<int64_t>(shape->size()) : 0;
    bool last = axis == -1 || (shape && axis == rank - 1);
    // Everything behind the axis being 1 comes to the same, on that axis.
    if (!last && shape && axis >= -rank && axis < rank) {
      const auto at = static_cast<size_t>(axis < 0 ? axis + rank : axis);
      bool alone = true;
      for (size_t k = at + 1; k < shape->size(); ++k) alone = alone && (*shape)[k] == 1;
      if (alone) { r.node().attributes["axis"] = static_cast<int64_t>(at); last = true; }
    }
    if (last) continue;
    changed = true;
    const ValueId flat = graph.add_value(graph.unique_name(name + ".flat")), done = graph.add_value(graph.unique_name(name + ".done"));
    const ValueId dims = graph.add_value(graph.unique_name(name + ".shape"));
    const std::vector<std::string> origin{name};
    r.node().inputs[0] = flat;
    r.node().outputs[0] = done;
    graph.value(y).producer = no_node;
    graph.value(done).producer = id;
    Node flatten{.name = graph.unique_name(name + ".Flatten"), .op = "Flatten", .since_version = 13, .inputs = {x}, .outputs = {flat}};
    flatten.attributes["axis"] = axis;
    flatten.origin = origin;
    graph.add_node(std::move(flatten));
    Node get{.name = graph.unique_name(name + ".Shape"), .op = "Shape", .since_version = 13, .inputs = {x}, .outputs = {dims}};
    get.origin = origin;
    graph.add_node(std::move(get));
    Node back{.name = graph.unique_name(name + ".Reshape"), .op = "Reshape", .since_version = 13, .inputs = {done, dims}, .outputs = {y}};
    back.origin = origin;
    graph.add_node(std::move(back));
  }
  return changed;
}

std::string raise_to_opset(Graph& graph, int64_t opset) {
  std::string stuck;
  for (NodeId id : graph.order()) {
    const Node& n = graph.node(id);
    if (!n.domain.empty()) continue;
    if (opset >= 18 && n.since_version < 18 && n.op.starts_with("Reduce") && n.op != "ReduceSum") {
      Rewriter{graph, id}.list_to_input("axes", 1);
      graph.node(id).since_version = 18;
    }
    if (opset_range(n.op, graph.node(id).since_version).second < opset && stuck.empty()) stuck = graph.node(id).name;
  }
  return stuck;
}

}  // namespace quern
