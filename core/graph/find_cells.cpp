// Cells of LSTM and GRU that a file holds written out: LSTM by c = f * c + i * g and o * tanh(c), GRU by z * h + (1 - z) * g,
// with sigmoids and a tanh where they belong. From their gates backward to the products everything is part of the cell.
#include <algorithm>

#include "core/graph/editor.hpp"
#include "core/graph/unroll.hpp"

namespace quern {
namespace {

bool is_move(const Node& n) { return is_ai(n, "Split") || is_ai(n, "Slice") || is_ai(n, "Squeeze") || is_ai(n, "Unsqueeze"); }
bool is_gate(const Node& n) { return is_ai(n, "Sigmoid") || is_ai(n, "HardSigmoid"); }

class CellFinder {
 public:
  CellFinder(Graph& graph, Unrolling& result) : g_(graph), edit_(graph), out_(result) {}

  void run() {
    for (NodeId id : g_.order()) {
      const Node& sum = g_.node(id);
      if (!is_ai(sum, "Add")) continue;
      const NodeId a = edit_.producer(id, 0), b = edit_.producer(id, 1);
      if (a == no_node || b == no_node || !is_ai(g_.node(a), "Mul") || !is_ai(g_.node(b), "Mul")) continue;
      if (!lstm(id, a, b) && !lstm(id, b, a) && !gru(id, a, b)) gru(id, b, a);
    }
  }

 private:
  // What makes an operand, seen through the moves that cut several gates out of one tensor.
  NodeId source(NodeId id, size_t slot) const {
    NodeId p = edit_.producer(id, slot);
    while (p != no_node && is_move(g_.node(p))) p = edit_.producer(p, 0);
    return p;
  }
  // The source of an operand that `test` holds for, or no_node.
  template <class F>
  NodeId operand(NodeId id, const F& test) const {
    for (size_t s = 0; s < 2; ++s)
      if (const NodeId p = source(id, s); p != no_node && test(g_.node(p))) return p;
    return no_node;
  }
  NodeId gate_of(NodeId mul) const { return operand(mul, is_gate); }
  NodeId tanh_of(NodeId mul) const { return operand(mul, [](const Node& n) { return is_ai(n, "Tanh"); }); }

  bool lstm(NodeId sum, NodeId input, NodeId forget) {
    const NodeId i = gate_of(input), g = tanh_of(input), f = gate_of(forget);
    if (i == no_node || g == no_node || f == no_node) return false;
    NodeId squashed = no_node, h = no_node;
    for (NodeId user : edit_.users(g_.node(sum).outputs[0])) {
      if (!is_ai(g_.node(user), "Tanh")) continue;
      for (NodeId next : edit_.users(g_.node(user).outputs[0]))
        if (is_ai(g_.node(next), "Mul") && gate_of(next) != no_node) { squashed = user; h = next; }
    }
    if (h == no_node) return false;
    for (NodeId n : {input, forget, h}) take_with_moves(n);
    for (NodeId n : {sum, squashed}) take(n);
    for (NodeId n : {i, g, f, gate_of(h)}) activation(n);
    return true;
  }

  bool gru(NodeId sum, NodeId keeps, NodeId takes) {
    const NodeId z = gate_of(keeps), g = tanh_of(takes);
    const NodeId rest = operand(takes, [&](const Node& n) { return is_ai(n, "Sub") && z != no_node && source(g_.find_node(n.name), 1) == z; });
    if (z == no_node || g == no_node || rest == no_node) return false;
    for (NodeId n : {keeps, takes, rest}) take_with_moves(n);
    take(sum);
    for (NodeId n : {z, g}) activation(n);
    return true;
  }

  void take(NodeId n) { out_.cells.insert(g_.node(n).name); }

  // A product or a complement of gates, and the moves between it and them.
  void take_with_moves(NodeId n) {
    take(n);
    for (size_t s = 0; s < 2; ++s) {
      const NodeId from = source(n, s);
      if (from == no_node || !(is_gate(g_.node(from)) || is_ai(g_.node(from), "Tanh"))) continue;
      for (NodeId p = edit_.producer(n, s); p != from; p = edit_.producer(p, 0)) take(p);
    }
  }

  void activation(NodeId n) {
    if (out_.cells.count(g_.node(n).name)) return;
    take(n);
    back(g_.node(n).inputs[0]);
  }

  // What makes the sum of a gate, up to the products.
  void back(ValueId v) {
    if (v == no_value || g_.value(v).producer == no_node) return;
    const NodeId id = g_.value(v).producer;
    const Node& n = g_.node(id);
    if (out_.cells.count(n.name)) return;
    if (is_move(n) || is_ai(n, "Clip")) {
      take(id);
      back(n.inputs[0]);
    } else if (is_ai(n, "Add")) {
      for (size_t s = 0; s < 2; ++s) {
        const NodeId p = edit_.producer(id, s);
        if (g_.constant_input(n, 1 - s) && p != no_node && (is_ai(g_.node(p), "MatMul") || is_ai(g_.node(p), "Gemm"))) {
          out_.biases.insert(n.name);
          return;
        }
      }
      take(id);
      back(n.inputs[0]);
      back(n.inputs[1]);
    } else if (is_ai(n, "Mul") && gate_of(id) != no_node) {  // reset gate
      const NodeId r = gate_of(id);
      take_with_moves(id);
      activation(r);
      for (size_t s = 0; s < 2; ++s)
        if (source(id, s) != r) back(n.inputs[s]);
    }
  }

  Graph& g_;
  GraphEditor edit_;
  Unrolling& out_;
};

}  // namespace

void find_cells(Graph& graph, Unrolling& result) { CellFinder(graph, result).run(); }

}  // namespace quern
