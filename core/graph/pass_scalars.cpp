// Multiplication by one number goes into the constants of a linear node that lies on the same straight path: the 1/sqrt(d) of
// attention into the projection of the queries, a pixel scale into the first Conv. Between the two only moves, sums with
// constants, averages and products with a second tensor may lie, each seen by the next alone.
#include <algorithm>
#include <cmath>
#include <set>

#include "core/base/error.hpp"
#include "core/graph/linear.hpp"
#include "core/graph/matcher.hpp"
#include "core/graph/passes.hpp"

namespace quern {
namespace {

constexpr int longest_path = 16, most_looks = 64;

bool is_move(const Node& n) {
  static const std::set<std::string> ops{"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Slice"};
  return ops.count(n.op) != 0;
}
bool is_average(const Node& n) {
  return n.op == "AveragePool" || n.op == "GlobalAveragePool" || n.op == "ReduceMean" || n.op == "ReduceSum";
}

// The tensor and the number it is multiplied by.
struct Scaled { ValueId x = no_value; double by = 1; };

std::optional<Scaled> scaled(GraphEditor& edit, NodeId id) {
  const Graph& g = edit.graph;
  const Node& n = g.node(id);
  if ((!is_ai(n, "Mul") && !is_ai(n, "Div")) || n.inputs.size() != 2 || n.payload) return {};
  const Match m(edit, id);
  for (size_t slot = 0; slot < 2; ++slot) {
    if (slot == 1 && n.op == "Div") break;
    const auto c = m.number(n.inputs[1 - slot]);
    if (!c || m.number(n.inputs[slot]) || !m.same_shape(n.inputs[slot])) continue;
    const double by = n.op == "Div" ? 1 / *c : *c;
    if (!(std::fabs(by) > 1e-12 && std::fabs(by) < 1e12)) return {};
    return Scaled{n.inputs[slot], by};
  }
  return {};
}

Row scaled_row(Row row, double by) {
  for (double& v : row) v *= by;
  return row;
}

class Folding {
 public:
  Folding(GraphEditor& edit, NodeId id, const Scaled& s) : edit_(edit), g_(edit.graph), id_(id), s_(s) {}

  bool run() { return (up(s_.x, 0) && apply()) || (down(g_.node(id_).outputs[0], 0) && apply()); }

 private:
  // The linear node above, through values that are used on this path alone.
  bool up(ValueId v, int steps) {
    if (steps > longest_path || ++looks_ > most_looks || !edit_.only_used_here(v) || g_.value(v).producer == no_node) return false;
    const NodeId id = g_.value(v).producer;
    const Node& n = g_.node(id);
    if (!n.domain.empty() || n.payload || n.outputs.size() != 1) return false;
    if (const auto l = linear(edit_, id)) {
      const auto bias = bias_of(g_, *l);
      if (!bias || l->weight->type() != g_.value(v).dtype) return false;
      linear_ = id;
      below_ = true;
      return true;
    }
    if (is_move(n) || is_average(n)) return up(n.inputs.at(0), steps + 1);
    if ((n.op == "Add" || n.op == "Sub") && n.inputs.size() == 2) {
      for (size_t slot = 0; slot < 2; ++slot) {
        const Tensor* c = g_.constant_input(n, 1 - slot);
        if (!c || !is_real(c->type())) continue;
        sums_.push_back({id, 1 - slot});
        if (up(n.inputs[slot], steps + 1)) return true;
        sums_.pop_back();
      }
      return false;
    }
    if (n.op == "MatMul" && n.inputs.size() == 2) return up(n.inputs[0], steps + 1) || up(n.inputs[1], steps + 1);
    return false;
  }

  // The linear node below that reads it as its data.
  bool down(ValueId v, int steps) {
    const NodeId id = edit_.sole_user(v);
    if (steps > longest_path || id == no_node) return false;
    const Node& n = g_.node(id);
    if (!n.domain.empty() || n.payload || n.outputs.size() != 1) return false;
    if (const auto l = linear(edit_, id); l && n.inputs[0] == v) {
      if (l->weight->type() != g_.value(v).dtype) return false;
      linear_ = id;
      below_ = false;
      return true;
    }
    if ((is_move(n) || is_average(n)) && n.inputs.at(0) == v) return down(n.outputs[0], steps + 1);
    if (n.op == "MatMul" && n.inputs.size() == 2) return down(n.outputs[0], steps + 1);
    return false;
  }

  bool apply() {
    const auto l = linear(edit_, linear_);
    const Row weights = scaled_row(doubles(*l->weight), s_.by);
    const auto fits = [&](double v) { return std::fabs(v) <= 3e38; };
    if (!std::all_of(weights.begin(), weights.end(), fits)) return false;
    const ValueId y = g_.node(id_).outputs[0];
    add_origin(g_.node(linear_), g_.node(id_));
    if (below_) {
      const Node& n = g_.node(linear_);
      if (n.op != "MatMul" && g_.constant_input(n, 2)) set_bias(edit_, *l, scaled_row(*bias_of(g_, *l), s_.by));
      for (const auto& [id, slot] : sums_) {
        const ValueId c = g_.node(id).inputs[slot];
        const Tensor& t = *g_.value(c).constant;
        edit_.set_constant_input(id, slot, g_.value(c).name, tensor_of(t.type(), t.dims(), scaled_row(doubles(t), s_.by)));
      }
    }
    scale_weights(edit_, *l, Row(static_cast<size_t>(l->channels), s_.by));
    if (!edit_.bypass(id_, y, s_.x)) throw Error(ErrorCode::internal, "a folded factor can't be left out").at_node(g_.node(id_).name);
    return true;
  }

  GraphEditor& edit_;
  Graph& g_;
  NodeId id_;
  Scaled s_;
  NodeId linear_ = no_node;
  bool below_ = false;
  int looks_ = 0;
  std::vector<std::pair<NodeId, size_t>> sums_;  // constants on the way, which are scaled too
};

}  // namespace

int64_t fold_scalars(Graph& graph) {
  int64_t changed = 0;
  GraphEditor edit(graph);
  for (NodeId id : graph.order())
    if (const auto s = scaled(edit, id)) changed += Folding(edit, id, *s).run();
  return changed;
}

}  // namespace quern
