// A sum or product with one number per channel goes up over the Reshapes between it and the Conv, ConvTranspose, Gemm or MatMul
// that makes the channels: a dense layer over more than two axes is written as Reshape, MatMul, Reshape, Add. Next to the linear node
// it is a bias, or goes into the weights; behind the Reshape it would be an operator of its own, its numbers rounded like
// an activation.
#include "core/graph/linear.hpp"
#include "core/graph/passes.hpp"

namespace quern {
namespace {

bool is_reshape(const Node& n) {
  return n.domain.empty() && !n.payload && (n.op == "Reshape" || n.op == "Flatten" || n.op == "Squeeze" || n.op == "Unsqueeze");
}

// Elements behind an axis, -1 where they are not known.
int64_t behind(const Dims& dims, int64_t axis) {
  int64_t n = 1;
  for (size_t i = static_cast<size_t>(axis) + 1; i < dims.size(); ++i) {
    if (dims[i] < 0) return -1;
    n *= dims[i];
  }
  return n;
}

// The axis of `before` that is `axis` of `after`, the same elements in the same order; -1 where it is not an axis by itself.
int64_t same_axis(const Dims& before, const Dims& after, int64_t axis) {
  const int64_t channels = after[static_cast<size_t>(axis)], inner = behind(after, axis);
  for (int64_t a = static_cast<int64_t>(before.size()); inner >= 0 && a-- > 0;)
    if (before[static_cast<size_t>(a)] == channels && behind(before, a) == inner) return a;
  return -1;
}

// The only axis along which a constant has more than one number, seen from a tensor of this rank; -1 where there is none.
int64_t row_axis(const Tensor& t, int64_t rank) {
  int64_t axis = -1;
  for (int64_t i = 0; i < t.rank(); ++i) {
    if (t.dims()[static_cast<size_t>(i)] == 1) continue;
    if (axis >= 0) return -1;
    axis = i + rank - t.rank();
  }
  return axis;
}

bool lift(GraphEditor& edit, NodeId id) {
  Graph& g = edit.graph;
  const Node& n = g.node(id);
  const bool ordered = is_ai(n, "Sub") || is_ai(n, "Div");
  if ((!ordered && !is_ai(n, "Add") && !is_ai(n, "Mul")) || n.payload || n.inputs.size() != 2) return false;
  for (size_t slot = 0; slot < (ordered ? 1 : 2); ++slot) {
    const Tensor* c = g.constant_input(n, 1 - slot);
    const ValueId x = n.inputs[slot];
    if (!c || !is_real(c->type()) || x == no_value || !g.value(x).shape || c->rank() > rank_of(g.value(x))) continue;
    int64_t axis = row_axis(*c, rank_of(g.value(x)));
    if (axis < 0 || (*g.value(x).shape)[static_cast<size_t>(axis)] != c->count()) continue;
    NodeId first = no_node;  // the Reshape behind the linear node
    ValueId v = x;
    while (axis >= 0 && edit.only_used_here(v) && g.value(v).producer != no_node && is_reshape(g.node(g.value(v).producer))) {
      first = g.value(v).producer;
      const ValueId before = g.node(first).inputs.at(0);
      axis = before != no_value && g.value(before).shape ? same_axis(*g.value(before).shape, *g.value(v).shape, axis) : -1;
      v = before;
    }
    if (first == no_node || axis < 0 || !edit.only_used_here(v)) continue;
    const auto l = linear(edit, g.value(v).producer);
    if (!l || l->channel_axis != axis || l->channels != c->count() || l->weight->type() != c->type() || rank_of(g.value(v)) != l->rank) continue;
    Dims dims(static_cast<size_t>(l->rank - axis), 1);
    dims[0] = l->channels;
    const NodeId last = g.value(x).producer;
    const ValueId result = n.outputs[0];
    const std::string name = g.value(n.inputs[1 - slot]).name;
    const ValueId inner = g.add_value(g.unique_name(g.value(result).name + ".before"), g.value(result).dtype, g.value(v).shape);
    edit.set_constant_input(id, 1 - slot, name, tensor_of(c->type(), dims, doubles(*c)));
    edit.set_input(id, slot, v);
    edit.set_output(id, 0, inner);
    edit.set_input(first, 0, inner);
    edit.set_output(last, 0, result);
    return true;
  }
  return false;
}

}  // namespace

int64_t lift_rows(Graph& graph) {
  int64_t changed = 0;
  GraphEditor edit(graph);
  for (NodeId id : graph.order()) changed += lift(edit, id);
  return changed;
}

}  // namespace quern
