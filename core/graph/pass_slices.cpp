// The forms that targets know: Split and Gather as Slices (a unit of integers writes one tensor, and a Slice only moves what is
// there), the mean over an image as GlobalAveragePool.
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <set>

#include "core/graph/editor.hpp"
#include "core/graph/passes.hpp"

namespace quern {
namespace {

constexpr int64_t to_the_end = std::numeric_limits<int64_t>::max();

bool is_float_tensor(const Value& v) { return v.dtype == DType::f32 || v.dtype == DType::f64 || v.dtype == DType::f16; }

ValueId ints(Graph& g, const std::string& name, int64_t v) { return g.add_constant(name, Tensor::of<int64_t>({1}, std::vector<int64_t>{v})); }

// The node `like` of one output becomes a Slice along one axis; `data` may be another tensor.
Node slice_node(Graph& g, const std::string& name, ValueId data, int64_t axis, int64_t begin, int64_t end) {
  Node n;
  n.name = name;
  n.op = "Slice";
  n.since_version = 13;
  n.inputs = {data, ints(g, name + ".starts", begin), ints(g, name + ".ends", end), ints(g, name + ".axes", axis)};
  return n;
}

std::vector<std::string> origin_of(const Node& n) { return n.origin.empty() ? std::vector<std::string>{n.name} : n.origin; }

// The lengths of a Split's parts; empty when they are not known before a run.
std::vector<int64_t> parts(const Graph& g, const Node& n, int64_t axis) {
  const auto count = static_cast<int64_t>(n.outputs.size());
  std::vector<int64_t> lengths;
  if (n.inputs.size() > 1 && n.inputs[1] != no_value) {
    const Tensor* t = g.constant_input(n, 1);
    if (!t || t->type() != DType::s64 || t->count() != count) return {};
    return t->to_ints();
  }
  const int64_t size = (*g.value(n.inputs[0]).shape)[static_cast<size_t>(axis)];
  const int64_t each = (size + count - 1) / count;  // the last may be shorter
  if (size < 0 || (size % count != 0 && !n.has("num_outputs"))) return {};
  for (int64_t i = 0; i < count; ++i) lengths.push_back(std::max<int64_t>(0, std::min(each, size - i * each)));
  return lengths;
}

bool split(GraphEditor& edit, NodeId id) {
  Graph& g = edit.graph;
  const Node n = g.node(id);
  const int64_t rank = n.inputs.empty() ? -1 : rank_of(g.value(n.inputs[0]));
  if (rank < 1 || n.outputs.empty() || !is_float_tensor(g.value(n.inputs[0]))) return false;
  int64_t axis = n.integer("axis", 0);
  if (axis < 0) axis += rank;
  if (axis < 0 || axis >= rank) return false;
  const auto lengths = parts(g, n, axis);
  if (lengths.empty()) return false;
  edit.remove_node(id);
  int64_t begin = 0;
  for (size_t i = 0; i < n.outputs.size(); ++i) {
    const int64_t end = begin + lengths[i];
    const ValueId out = n.outputs[i];
    if (out != no_value && (edit.is_output(out) || !edit.users(out).empty())) {
      Node s = slice_node(g, g.unique_name(fmt::format("{}.{}", n.name, i)), n.inputs[0], axis, begin, end);
      s.outputs = {out};
      s.origin = origin_of(n);
      edit.add_node(std::move(s));
    }
    begin = end;
  }
  return true;
}

bool gather(GraphEditor& edit, NodeId id) {
  Graph& g = edit.graph;
  const Node n = g.node(id);
  if (n.inputs.size() != 2 || n.outputs.size() != 1 || g.value(n.inputs[0]).is_constant()) return false;
  const Tensor* indices = g.constant_input(n, 1);
  const Value& x = g.value(n.inputs[0]);
  if (!indices || indices->rank() > 1 || indices->count() == 0 || !is_float_tensor(x) || !x.shape || x.shape->empty()) return false;
  const auto rank = static_cast<int64_t>(x.shape->size());
  int64_t axis = n.integer("axis", 0);
  if (axis < 0) axis += rank;
  if (axis < 0 || axis >= rank) return false;
  const int64_t size = (*x.shape)[static_cast<size_t>(axis)];
  auto at = indices->to_ints();
  for (int64_t& i : at) {
    if (i < 0 && size >= 0) i += size;
    if (size >= 0 && (i < 0 || i >= size)) return false;
  }
  for (size_t i = 1; i < at.size(); ++i)
    if (at[i] != at[i - 1] + 1 || (at[i - 1] < 0 && at[i] == 0)) return false;
  const int64_t end = at.back() == -1 ? to_the_end : at.back() + 1;
  const bool scalar = indices->rank() == 0;
  const ValueId out = n.outputs[0];
  const std::optional<Dims> shape = x.shape;
  const DType type = x.dtype;
  edit.remove_node(id);
  Node s = slice_node(g, scalar ? g.unique_name(n.name + ".slice") : n.name, n.inputs[0], axis, at.front(), end);
  s.origin = origin_of(n);
  if (!scalar) {
    s.outputs = {out};
    edit.add_node(std::move(s));
    return true;
  }
  Dims one = *shape;
  one[static_cast<size_t>(axis)] = 1;
  const ValueId inner = g.add_value(g.unique_name(g.value(out).name + ".slice"), type, one);
  s.outputs = {inner};
  edit.add_node(std::move(s));
  Node squeeze;
  squeeze.name = n.name;
  squeeze.op = "Squeeze";
  squeeze.since_version = 13;
  squeeze.inputs = {inner, ints(g, n.name + ".axes", axis)};
  squeeze.outputs = {out};
  squeeze.origin = origin_of(n);
  edit.add_node(std::move(squeeze));
  return true;
}

// The mean over everything behind the channels is a pooling, which targets know.
bool mean(GraphEditor& edit, NodeId id) {
  Graph& g = edit.graph;
  const Node n = g.node(id);
  const Value& x = g.value(n.inputs.at(0));
  if (!x.shape || x.shape->size() < 4 || n.outputs.size() != 1 || x.is_constant() || (x.dtype != DType::f32 && x.dtype != DType::f64)) return false;
  const auto rank = static_cast<int64_t>(x.shape->size());
  auto axes = n.integers("axes");
  if (n.inputs.size() > 1 && n.inputs[1] != no_value) {
    const Tensor* t = g.constant_input(n, 1);
    if (!t || t->type() != DType::s64) return false;
    axes = t->to_ints();
  }
  std::set<int64_t> over;
  for (const int64_t a : axes) over.insert(a < 0 ? a + rank : a);
  if (static_cast<int64_t>(over.size()) != rank - 2 || *over.begin() != 2 || *over.rbegin() != rank - 1) return false;
  const bool keep = n.integer("keepdims", 1) != 0;
  const DType type = x.dtype;
  Dims pooled = *x.shape;
  std::fill(pooled.begin() + 2, pooled.end(), 1);
  edit.drop_inputs(id, 1);
  Node& now = g.node(id);
  now.op = "GlobalAveragePool";
  now.since_version = 1;
  now.attributes.clear();
  if (keep) return true;
  const ValueId out = n.outputs[0], inner = g.add_value(g.unique_name(g.value(out).name + ".pool"), type, pooled);
  g.value(out).producer = no_node;
  edit.set_output(id, 0, inner);
  Node squeeze;
  squeeze.name = g.unique_name(n.name + ".squeeze");
  squeeze.op = "Squeeze";
  squeeze.since_version = 13;
  const std::vector<int64_t> where(over.begin(), over.end());
  squeeze.inputs = {inner, g.add_constant(n.name + ".axes", Tensor::of<int64_t>({rank - 2}, where))};
  squeeze.outputs = {out};
  squeeze.origin = origin_of(n);
  edit.add_node(std::move(squeeze));
  return true;
}

}  // namespace

int64_t means_to_pools(Graph& graph) {
  int64_t changed = 0;
  GraphEditor edit(graph);
  for (NodeId id : graph.order()) {
    const Node& n = graph.node(id);
    if (is_ai(n, "ReduceMean") && !n.payload) changed += mean(edit, id);
  }
  return changed;
}

int64_t split_to_slices(Graph& graph) {
  int64_t changed = 0;
  GraphEditor edit(graph);
  for (NodeId id : graph.order()) {
    const Node& n = graph.node(id);
    if (n.payload) continue;
    if (is_ai(n, "Split")) changed += split(edit, id);
    else if (is_ai(n, "Gather")) changed += gather(edit, id);
  }
  return changed;
}

}  // namespace quern
