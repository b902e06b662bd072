// Transposes travel down to their inverses.
#include <algorithm>

#include "core/graph/editor.hpp"
#include "core/graph/passes.hpp"

namespace quern {
namespace {

using Perm = std::vector<int64_t>;

bool is_unary(const Node& n) {
  static const std::set<std::string> ops{"Abs", "Cast", "Ceil", "Celu", "Clip", "Elu", "Erf", "Exp", "Floor", "Gelu",
      "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round", "Selu",
      "Sigmoid", "Sign", "Softplus", "Softsign", "Sqrt", "Swish", "Tanh", "ThresholdedRelu"};
  return n.domain.empty() && ops.count(n.op) != 0;
}

bool is_elementwise(const Node& n) {
  static const std::set<std::string> ops{"Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Sum", "Mean", "PRelu",
      "Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "And", "Or", "Where"};
  return n.domain.empty() && ops.count(n.op) != 0;
}

Perm inverse(const Perm& p) {
  Perm r(p.size());
  for (size_t i = 0; i < p.size(); ++i) r[static_cast<size_t>(p[i])] = static_cast<int64_t>(i);
  return r;
}

// `t` seen before the Transpose: its dimensions (filled up with ones in front) in the order of the Transpose's input.
Tensor before_transpose(const Tensor& t, const Perm& perm) {
  Dims dims(perm.size() - static_cast<size_t>(t.rank()), 1);
  dims.insert(dims.end(), t.dims().begin(), t.dims().end());
  const Perm back = inverse(perm);
  Dims out_dims, strides;
  const Dims in_strides = row_major_strides(dims);
  for (int64_t b : back) {
    out_dims.push_back(dims[static_cast<size_t>(b)]);
    strides.push_back(in_strides[static_cast<size_t>(b)]);
  }
  Tensor out(t.type(), out_dims);
  const Dims dense = row_major_strides(out_dims);
  copy({const_cast<void*>(t.data()), t.type(), out_dims, strides}, {out.mutable_bytes(), t.type(), out_dims, dense});
  return out;
}

class Mover {
 public:
  explicit Mover(Graph& graph) : edit_(graph), g_(graph) {}

  // Tries to move the Transposes before `id` behind it.
  bool move(NodeId id) {
    const Node& n = g_.node(id);
    if (n.removed || !n.domain.empty() || n.payload || n.outputs.size() != 1 || n.inputs.empty()) return false;
    if (n.op == "Reshape") return into_reshape(id);
    if (is_unary(n)) return through(id, {0});
    if (is_elementwise(n)) return elementwise(id);
    if (n.op == "Concat") return concat(id);
    if (n.op.rfind("Reduce", 0) == 0) return reduce(id);
    if (n.op == "Pad") return pad(id);
    return false;
  }

 private:
  // The permutation of the Transpose that feeds a slot and nothing else; empty when there is none.
  Perm perm_before(NodeId id, size_t slot) {
    const NodeId p = edit_.producer(id, slot);
    if (p == no_node || !is_ai(g_.node(p), "Transpose")) return {};
    const ValueId out = g_.node(p).outputs[0];
    // Several uses by the same node (x * x) are one user.
    const auto& users = edit_.users(out);
    if (edit_.is_output(out) || users.count(id) != users.size()) return {};
    return permutation_of(g_.node(p), rank_of(g_.value(g_.node(p).inputs[0])));
  }

  // Takes the Transposes before the slots away and puts one behind.
  bool through(NodeId id, const std::vector<size_t>& slots, Perm perm = {}) {
    if (perm.empty()) perm = perm_before(id, slots.front());
    if (perm.empty()) return false;
    const NodeId first = edit_.producer(id, slots.front());
    Node moved = g_.node(first);  // keeps its name and origin behind the node
    std::set<NodeId> gone;
    for (size_t s : slots) {
      const NodeId p = edit_.producer(id, s);
      gone.insert(p);
      edit_.set_input(id, s, g_.node(p).inputs[0]);
    }
    for (NodeId p : gone) edit_.remove_node(p);
    const ValueId result = g_.node(id).outputs[0];
    const Value& v = g_.value(result);
    std::optional<Dims> shape;
    if (v.shape && v.shape->size() == perm.size()) {
      shape = Dims(perm.size());
      for (size_t i = 0; i < perm.size(); ++i) (*shape)[static_cast<size_t>(perm[i])] = (*v.shape)[i];
    }
    const DType type = v.dtype;
    const ValueId inner = g_.add_value(g_.unique_name(v.name + ".before"), type, shape);
    edit_.set_output(id, 0, inner);
    moved.inputs = {inner};
    moved.outputs = {result};
    moved.attributes["perm"] = perm;
    edit_.add_node(std::move(moved));
    return true;
  }

  // Every input is a Transpose of one order, or a constant that can be turned itself.
  bool elementwise(NodeId id) {
    Perm perm;
    std::vector<size_t> slots, constants;
    const auto inputs = g_.node(id).inputs;
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (inputs[i] == no_value) return false;
      if (g_.value(inputs[i]).is_constant()) { constants.push_back(i); continue; }
      const Perm p = perm_before(id, i);
      if (p.empty() || (!perm.empty() && p != perm)) return false;
      perm = p;
      slots.push_back(i);
    }
    if (slots.empty()) return false;
    for (size_t i : constants)
      if (g_.value(inputs[i]).constant->rank() > static_cast<int64_t>(perm.size())) return false;
    for (size_t i : constants) {
      const Tensor& c = *g_.value(inputs[i]).constant;
      if (c.count() == 1) continue;
      edit_.set_constant_input(id, i, g_.value(inputs[i]).name, before_transpose(c, perm));
    }
    return through(id, slots, perm);
  }

  bool concat(NodeId id) {
    Perm perm;
    std::vector<size_t> slots;
    for (size_t i = 0; i < g_.node(id).inputs.size(); ++i) {
      const Perm p = perm_before(id, i);
      if (p.empty() || (!perm.empty() && p != perm)) return false;
      perm = p;
      slots.push_back(i);
    }
    int64_t axis = g_.node(id).integer("axis", 1);
    if (axis < 0) axis += static_cast<int64_t>(perm.size());
    if (axis < 0 || axis >= static_cast<int64_t>(perm.size())) return false;
    g_.node(id).attributes["axis"] = perm[static_cast<size_t>(axis)];
    return through(id, slots, perm);
  }

  std::optional<std::vector<int64_t>> axes_of(const Node& n) {
    if (n.has("axes")) return n.integers("axes");
    if (n.inputs.size() < 2 || n.inputs[1] == no_value) return {};
    const Tensor* t = g_.constant_input(n, 1);
    if (!t || t->type() != DType::s64) return {};
    return t->to_ints();
  }

  bool reduce(NodeId id) {
    const Perm perm = perm_before(id, 0);
    auto axes = axes_of(g_.node(id));
    if (perm.empty() || !axes || axes->empty()) return false;
    const auto rank = static_cast<int64_t>(perm.size());
    std::set<int64_t> before, named;
    for (int64_t& a : *axes) {
      if (a < -rank || a >= rank) return false;
      named.insert(a < 0 ? a + rank : a);
      before.insert(perm[static_cast<size_t>(a < 0 ? a + rank : a)]);
    }
    const bool keep = g_.node(id).integer("keepdims", 1) != 0;
    if (!keep) {  // what remains must stand in the same order without the Transpose
      int64_t last = -1;
      for (int64_t i = 0; i < rank; ++i) {
        if (named.count(i)) continue;
        if (perm[static_cast<size_t>(i)] < last) return false;
        last = perm[static_cast<size_t>(i)];
      }
    }
    const std::vector<int64_t> moved(before.begin(), before.end());
    if (g_.node(id).has("axes")) g_.node(id).attributes["axes"] = moved;
    else edit_.set_constant_input(id, 1, g_.value(g_.node(id).inputs[1]).name,
                                  Tensor::of<int64_t>({static_cast<int64_t>(moved.size())}, moved));
    if (keep) return through(id, {0}, perm);
    drop_transpose(id);
    return true;
  }

  bool pad(NodeId id) {
    const Perm perm = perm_before(id, 0);
    const Node& n = g_.node(id);
    if (perm.empty() || n.has("pads") || n.inputs.size() > 3) return false;
    const Tensor* pads = g_.constant_input(n, 1);
    if (!pads || pads->type() != DType::s64 || pads->count() != static_cast<int64_t>(perm.size()) * 2) return false;
    const auto now = pads->to_ints();
    std::vector<int64_t> then(now.size());
    for (size_t i = 0; i < perm.size(); ++i) {
      then[static_cast<size_t>(perm[i])] = now[i];
      then[static_cast<size_t>(perm[i]) + perm.size()] = now[i + perm.size()];
    }
    edit_.set_constant_input(id, 1, g_.value(n.inputs[1]).name, Tensor::of<int64_t>({static_cast<int64_t>(then.size())}, then));
    return through(id, {0}, perm);
  }

  // A Transpose that only moves axes of size 1 leaves the elements in order, and a Reshape asks for nothing else.
  bool into_reshape(NodeId id) {
    const NodeId p = edit_.producer(id, 0);
    if (p == no_node || !is_ai(g_.node(p), "Transpose")) return false;
    const Value& x = g_.value(g_.node(p).inputs[0]);
    const Perm perm = permutation_of(g_.node(p), rank_of(x));
    if (perm.empty()) return false;
    int64_t last = -1;
    for (int64_t axis : perm) {
      if ((*x.shape)[static_cast<size_t>(axis)] == 1) continue;
      if (axis < last) return false;
      last = axis;
    }
    const Tensor* target = g_.constant_input(g_.node(id), 1);
    if (!target || target->type() != DType::s64) return false;
    for (int64_t d : target->values<int64_t>())
      if (d == 0) return false;
    drop_transpose(id);
    return true;
  }

  void drop_transpose(NodeId id) {
    const NodeId p = edit_.producer(id, 0);
    const ValueId out = g_.node(p).outputs[0];
    if (edit_.only_used_here(out)) add_origin(g_.node(id), g_.node(p));
    edit_.set_input(id, 0, g_.node(p).inputs[0]);
    if (edit_.users(out).empty() && !edit_.is_output(out)) edit_.remove_node(p);
  }

  GraphEditor edit_;
  Graph& g_;
};

}  // namespace

int64_t move_transposes(Graph& graph) {
  int64_t changed = 0;
  Mover mover(graph);
  for (NodeId id : graph.order()) changed += mover.move(id);
  return changed;
}

}  // namespace quern
