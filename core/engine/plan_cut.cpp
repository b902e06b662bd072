// Where a plan begins and ends: what enters it, which nodes run in it, and what the next segment has to be told.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "core/base/error.hpp"
#include "core/engine/plan.hpp"

namespace quern {
namespace {

constexpr int64_t most_asked = 1024;  // elements; shape inference looks at no more

// Input slots whose data decide the shape of the outputs.
std::span<const int> shape_slots(const Node& node) {
  static const std::map<std::string, std::vector<int>> slots{
      {"AffineGrid", {1}}, {"CenterCropPad", {1}}, {"ConstantOfShape", {0}}, {"Expand", {1}}, {"MaxUnpool", {2}}, {"OneHot", {1}},
      {"Pad", {1, 3}}, {"Range", {0, 1, 2}}, {"ReduceL1", {1}}, {"ReduceL2", {1}}, {"ReduceLogSum", {1}}, {"ReduceLogSumExp", {1}},
      {"ReduceMax", {1}}, {"ReduceMean", {1}}, {"ReduceMin", {1}}, {"ReduceProd", {1}}, {"ReduceSum", {1}}, {"ReduceSumSquare", {1}},
      {"Reshape", {1}}, {"Resize", {1, 2, 3}}, {"Slice", {1, 2, 3, 4}}, {"Split", {1}}, {"Squeeze", {1}}, {"Tile", {1}}, {"TopK", {1}},
      {"Unsqueeze", {1}}, {"Upsample", {1}}};
  if (!node.domain.empty() && node.domain != "ai.onnx") return {};
  const auto it = slots.find(node.op);
  return it == slots.end() ? std::span<const int>() : std::span<const int>(it->second);
}

}  // namespace

void DataSizedKernel::run(std::span<const TensorView>, std::span<const TensorView>, void*, KernelState*) const {
  throw Error(ErrorCode::internal, "a kernel that makes its outputs was asked to fill given ones");
}

bool Found::operator==(const Found& other) const {
  if (made != other.made || asked.size() != other.asked.size()) return false;
  for (size_t i = 0; i < asked.size(); ++i) {
    const Tensor &a = *asked[i], &b = *other.asked[i];
    if (a.type() != b.type() || a.dims() != b.dims() || (a.bytes() && std::memcmp(a.data(), b.data(), a.bytes()) != 0)) return false;
  }
  return true;
}

bool Plan::complete(ValueId value) const {
  const auto& dims = table_.dims[static_cast<size_t>(value)];
  return dims && std::none_of(dims->begin(), dims->end(), [](int64_t d) { return d < 0; });
}

ShapeTable Plan::infer(const Graph& graph) const {
  if (!before) {
    std::map<std::string, Dims> input_shapes;
    for (size_t i = 0; i < graph.inputs().size(); ++i) input_shapes[graph.value(graph.inputs()[i]).name] = input_dims[i];
    return shapes_for(graph, input_shapes);
  }
  ShapeTable table = before->table_;
  FoundShapes known;
  for (size_t i = 0; i < before->made.size(); ++i)
    if (before->made[i] != no_value) known.dims[before->made[i]] = found.made[i];
  for (size_t i = 0; i < before->asked.size(); ++i) known.data[before->asked[i].first] = found.asked[i];
  continue_shapes(graph, before->remaining, known, table);
  return table;
}

void Plan::enter() {
  auto add = [&](const Entry& entry, Layout layout) -> Buffer& {
    const int b = add_buffer(entry.value, layout);
    buffers[static_cast<size_t>(b)].input = static_cast<int>(entries.size());
    entries.push_back(entry);
    return buffers[static_cast<size_t>(b)];
  };
  if (!before) {
    for (size_t i = 0; i < graph_->inputs().size(); ++i)
      add({.value = graph_->inputs()[i], .from = Entry::From::caller, .segment = 0, .index = static_cast<int>(i)}, Layout::row_major);
    return;
  }
  std::set<ValueId> seen;
  for (NodeId id : before->remaining)
    for (ValueId v : graph_->node(id).outputs) seen.insert(v);
  auto take = [&](ValueId v) {
    if (v == no_value || known(*graph_, v) || !seen.insert(v).second) return;
    for (const Entry& entry : before->entries) {
      if (entry.value != v) continue;
      const Buffer& there = before->buffers[static_cast<size_t>(before->buffers_of_[static_cast<size_t>(v)][0])];
      add(entry, there.layout).steady = there.steady;
      return;
    }
    if (const auto at = std::find(before->made.begin(), before->made.end(), v); at != before->made.end()) {
      add({v, Entry::From::made, before->segment, static_cast<int>(at - before->made.begin())}, Layout::row_major);
      return;
    }
    const auto& places = before->buffers_of_[static_cast<size_t>(v)];
    if (places.empty()) throw Error(ErrorCode::internal, "nothing computes '" + graph_->value(v).name + "' before the segment that uses it");
    const Buffer& there = before->buffers[static_cast<size_t>(places[0])];
    Buffer& here = add({v, Entry::From::buffer, before->segment, places[0]}, there.layout);
    here.steady = true;
    here.constant = there.constant;
  };
  for (NodeId id : before->remaining)
    for (ValueId v : graph_->node(id).inputs) take(v);
  for (ValueId v : graph_->outputs()) take(v);
}

void Plan::classify(std::span<const NodeId> nodes) {
  std::vector<bool> waits(graph_->value_slots(), false);  // values that nothing of this segment or before computes
  for (NodeId id : nodes) {
    const Node& node = graph_->node(id);
    // Values that follow from shapes alone (Shape, Gather of it, ...) are constants of the plan.
    bool all_known = true, any = false, shapes = true;
    for (ValueId v : node.outputs) {
      if (v == no_value) continue;
      any = true;
      all_known = all_known && known(*graph_, v) && !facts_->is_tap[static_cast<size_t>(v)];
      shapes = shapes && complete(v);
    }
    if (any && all_known) { planned_[static_cast<size_t>(id)] = true; continue; }
    const bool inputs = std::none_of(node.inputs.begin(), node.inputs.end(), [&](ValueId v) {
      return v != no_value && waits[static_cast<size_t>(v)] && !known(*graph_, v);
    });
    if (inputs && shapes) { ready_.push_back(id); continue; }
    planned_[static_cast<size_t>(id)] = true;
    for (ValueId v : node.outputs)
      if (v != no_value) waits[static_cast<size_t>(v)] = true;
    remaining.push_back(id);
    if (inputs) frontier_.push_back(id);
  }
}

// The frontier: nodes that need data of small values ask for them; kernels that size their outputs run as the last steps.
void Plan::cut() {
  for (NodeId id : frontier_) {
    const Node& node = graph_->node(id);
    bool asks = false;
    for (int slot : shape_slots(node)) {
      const ValueId v = static_cast<size_t>(slot) < node.inputs.size() ? node.inputs[static_cast<size_t>(slot)] : no_value;
      if (v == no_value || known(*graph_, v) || size_of(table_.dtype[static_cast<size_t>(v)]) == 0) continue;
      const auto& places = buffers_of_[static_cast<size_t>(v)];
      if (places.empty() || element_count(buffers[static_cast<size_t>(places[0])].dims) > most_asked) continue;
      asks = true;
      if (std::none_of(asked.begin(), asked.end(), [&](const auto& a) { return a.first == v; })) asked.emplace_back(v, places[0]);
    }
    if (asks) continue;
    if (!add_data_sized(id)) refuse_shape(id);
    std::erase(remaining, id);
  }
}

bool Plan::add_data_sized(NodeId node) {
  for (const auto& provider : options_->providers)
    if (provider->knows(*graph_, graph_->node(node)) && try_group(provider, {&node, 1})) return true;
  return false;
}

void Plan::refuse_shape(NodeId id) const {
  for (ValueId v : graph_->node(id).outputs) {
    if (v == no_value || complete(v)) continue;
    const auto& dims = table_.dims[static_cast<size_t>(v)];
    throw Error(ErrorCode::model, fmt::format("the shape of '{}' ({}) can't be found out, neither from shapes nor from data", graph_->value(v).name,
                                              dims ? to_string(*dims) : "no rank"))
        .at_node(graph_->node(id).name)
        .hint("give the model fixed shapes, or cut it before this node");
  }
  throw Error(ErrorCode::internal, "a node whose shapes are known was not planned").at_node(graph_->node(id).name);
}

// What later segments, the outputs and the cut itself read stays until the end.
void Plan::keep_leaving() {
  const int end = static_cast<int>(steps.size());
  auto keep = [&](ValueId v) {
    if (v == no_value || buffers_of_[static_cast<size_t>(v)].empty()) return;
    buffers[static_cast<size_t>(buffers_of_[static_cast<size_t>(v)][0])].last = end;
  };
  for (NodeId id : remaining)
    for (ValueId v : graph_->node(id).inputs) keep(v);
  for (ValueId v : graph_->outputs()) keep(v);
  for (const auto& [value, buffer] : asked) keep(value);
}

}  // namespace quern
