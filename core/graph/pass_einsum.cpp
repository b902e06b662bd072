// Einsum as Transpose, Reshape, ReduceSum, MatMul and Mul, operand by operand from the left. A product with a constant gets
// that as MatMul's second operand, a matrix where the equation allows: the form that targets take.
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "core/graph/editor.hpp"
#include "core/graph/einsum.hpp"
#include "core/graph/passes.hpp"

namespace quern {
namespace {

using Labels = std::vector<int>;

bool holds(const Labels& labels, int l) { return std::find(labels.begin(), labels.end(), l) != labels.end(); }

struct Operand {
  ValueId value = no_value;
  Labels labels;           // per axis, all different
  Dims dims;               // -1: not known
  bool constant = false;
  int64_t size(int label) const { return dims[static_cast<size_t>(std::find(labels.begin(), labels.end(), label) - labels.begin())]; }
};

// Nodes are only planned: they are added when the whole equation could be written so, else what they need is forgotten.
class Rewriter {
 public:
  Rewriter(Graph& graph, const Node& node, const Einsum& e) : g_(graph), name_(node.name), e_(e) {}

  std::optional<Operand> join(Operand a, Operand b, const Labels& kept) {
    a = without(std::move(a), [&](int l) { return holds(kept, l) || holds(b.labels, l); });
    b = without(std::move(b), [&](int l) { return holds(kept, l) || holds(a.labels, l); });
    Labels batch, summed, free_a, free_b;
    for (int l : kept) {
      if (!holds(a.labels, l) && !holds(b.labels, l)) continue;
      (holds(a.labels, l) && holds(b.labels, l) ? batch : holds(a.labels, l) ? free_a : free_b).push_back(l);
    }
    for (int l : a.labels)
      if (!holds(kept, l)) summed.push_back(l);
    // One of them stretches, or may: axes of an ellipsis do, letters only where a size is 1.
    for (int l : summed) {
      const int64_t x = a.size(l), y = b.size(l);
      if (x != y && (x == 1 || y == 1)) return {};
      if ((x < 0 || y < 0) && e_.names[static_cast<size_t>(l)].starts_with("...")) return {};
    }
    if (summed.empty()) return multiplied(std::move(a), std::move(b), kept);
    if (batch.empty() && a.constant && !b.constant) {
      std::swap(a, b);
      std::swap(free_a, free_b);
    }
    std::vector<Labels> left, right, result;
    // Axes that one operand has alone before all that both have: MatMul repeats the other for them.
    while (!batch.empty() && !kept.empty()) {
      const int first = kept[static_cast<size_t>(result.size())];
      Labels& free = holds(free_a, first) ? free_a : free_b;
      const std::vector<Labels>& other = holds(free_a, first) ? right : left;
      if (holds(batch, first) || !other.empty() || free.size() < 2 || free[0] != first) break;
      (holds(free_a, first) ? left : right).push_back({first});
      result.push_back({first});
      free.erase(free.begin());
    }
    for (int l : batch) { left.push_back({l}); right.push_back({l}); result.push_back({l}); }
    if (batch.empty()) {  // MatMul takes any number of rows, and vectors
      for (int l : free_a) { left.push_back({l}); result.push_back({l}); }
      right.push_back(summed);
      if (!free_b.empty()) { right.push_back(free_b); result.push_back(free_b); }
    } else {
      left.push_back(free_a);
      right.push_back(summed);
      right.push_back(free_b);
      result.push_back(free_a);
      result.push_back(free_b);
    }
    left.push_back(summed);
    const auto l = grouped(std::move(a), left), r = grouped(std::move(b), right);
    if (!l || !r) return {};
    Operand product;
    product.value = op("MatMul", {l->value, r->value});
    return ungrouped(product, result, *l, *r);
  }

  // In this order of labels, all others summed.
  std::optional<Operand> finished(Operand a, const Labels& output) {
    a = without(std::move(a), [&](int l) { return holds(output, l); });
    if (a.labels.size() != output.size()) return {};
    return ordered(std::move(a), output);
  }

  void forget() {
    for (ValueId v : added_) g_.remove_value(v);
  }

  void commit(ValueId result, ValueId output) {
    plan_.push_back({.name = name_, .op = "Identity", .since_version = 13, .inputs = {result}, .outputs = {output}, .origin = {name_}});
    for (Node& n : plan_) g_.add_node(std::move(n));
  }

 private:
  struct Grouped { ValueId value = no_value; Operand before; };

  static Operand sized(Operand o, const Labels& labels) {  // labels reordered
    Dims dims;
    for (int l : labels) dims.push_back(o.size(l));
    o.labels = labels;
    o.dims = std::move(dims);
    return o;
  }

  ValueId op(const std::string& op, std::vector<ValueId> in, std::map<std::string, Attribute> attributes = {}) {
    const ValueId v = added_.emplace_back(g_.add_value(g_.unique_name(fmt::format("{}.{}_output", name_, op))));
    plan_.push_back({.name = g_.unique_name(fmt::format("{}.{}", name_, op)), .op = op, .since_version = op == "Mul" ? 14 : 13, .inputs = std::move(in),
                     .outputs = {v}, .attributes = std::move(attributes), .origin = {name_}});
    return v;
  }
  ValueId ints(const char* what, const std::vector<int64_t>& values) {
    return added_.emplace_back(g_.add_constant(fmt::format("{}.{}", name_, what), Tensor::of<int64_t>({static_cast<int64_t>(values.size())}, values)));
  }

  Operand ordered(Operand o, const Labels& labels) {
    if (o.labels == labels) return o;
    std::vector<int64_t> perm;
    for (int l : labels) perm.push_back(std::find(o.labels.begin(), o.labels.end(), l) - o.labels.begin());
    o = sized(std::move(o), labels);
    o.value = op("Transpose", {o.value}, {{"perm", perm}});
    return o;
  }

  template <class F>
  Operand without(Operand o, const F& stays) {
    std::vector<int64_t> axes;
    Labels labels;
    for (size_t i = 0; i < o.labels.size(); ++i) {
      if (stays(o.labels[i])) labels.push_back(o.labels[i]);
      else axes.push_back(static_cast<int64_t>(i));
    }
    if (axes.empty()) return o;
    o = sized(std::move(o), labels);
    o.value = op("ReduceSum", {o.value, ints("axes", axes)}, {{"keepdims", int64_t{0}}});
    return o;
  }

  Operand multiplied(Operand a, Operand b, const Labels& kept) {
    Labels all;
    for (int l : kept)
      if (holds(a.labels, l) || holds(b.labels, l)) all.push_back(l);
    const auto spread = [&](Operand o) {
      Labels own;
      std::vector<int64_t> missing;
      for (size_t i = 0; i < all.size(); ++i) {
        if (holds(o.labels, all[i])) own.push_back(all[i]);
        else missing.push_back(static_cast<int64_t>(i));
      }
      o = ordered(std::move(o), own);
      if (!missing.empty()) o.value = op("Unsqueeze", {o.value, ints("axes", missing)});
      return o;
    };
    Operand out;
    out.labels = all;
    for (int l : all) out.dims.push_back(size_of_both(a, b, l));
    const ValueId left = spread(std::move(a)).value, right = spread(std::move(b)).value;
    out.value = op("Mul", {left, right});
    return out;
  }

  static int64_t size_of_both(const Operand& a, const Operand& b, int l) {
    const int64_t x = holds(a.labels, l) ? a.size(l) : 1, y = holds(b.labels, l) ? b.size(l) : 1;
    return x == 1 ? y : y == 1 ? x : x < 0 ? y : x;
  }

  // One axis per group: transposed and reshaped. None where more than one size would have to be found out at a run.
  std::optional<Grouped> grouped(Operand o, const std::vector<Labels>& groups) {
    Labels order;
    for (const Labels& group : groups) order.insert(order.end(), group.begin(), group.end());
    o = ordered(std::move(o), order);
    std::vector<int64_t> shape;
    bool needed = false;
    for (size_t p = 0; p < groups.size(); ++p) {
      needed = needed || groups[p].size() != 1;
      int64_t n = 1;
      for (int l : groups[p]) n = n < 0 || o.size(l) < 0 ? -1 : n * o.size(l);
      const bool same_place = groups[p].size() == 1 && p < order.size() && order[p] == groups[p][0];
      shape.push_back(same_place ? 0 : n);
    }
    // Among sizes a 0 would be read as "copy".
    if (std::count(shape.begin(), shape.end(), -1) > 1 || std::count(o.dims.begin(), o.dims.end(), 0) > 0) return {};
    Grouped out{o.value, o};
    if (needed) out.value = op("Reshape", {o.value, ints("shape", shape)});
    return out;
  }
  std::optional<Operand> ungrouped(Operand product, const std::vector<Labels>& groups, const Grouped& a, const Grouped& b) {
    std::vector<int64_t> shape;
    bool needed = false;
    size_t place = 0;
    for (size_t p = 0; p < groups.size(); ++p) {
      needed = needed || groups[p].size() != 1;
      for (int l : groups[p]) {
        const int64_t size = size_of_both(a.before, b.before, l);
        shape.push_back(groups[p].size() == 1 && p == place ? 0 : size);
        product.labels.push_back(l);
        product.dims.push_back(size);
        ++place;
      }
    }
    if (std::count(shape.begin(), shape.end(), -1) > 1) return {};
    if (needed) product.value = op("Reshape", {product.value, ints("shape", shape)});
    return product;
  }

  Graph& g_;
  std::string name_;
  const Einsum& e_;
  std::vector<Node> plan_;
  std::vector<ValueId> added_;
};

bool rewrite(Graph& graph, NodeId id) {
  const Node node = graph.node(id);  // a copy: nodes are added below
  if (!is_ai(node, "Einsum") || node.payload) return false;
  std::vector<int64_t> ranks;
  for (ValueId v : node.inputs) {
    if (v == no_value) return false;  // left out: an error where it is run
    const Value& value = graph.value(v);
    if (!value.shape || (value.dtype != DType::f32 && value.dtype != DType::f64)) return false;
    ranks.push_back(static_cast<int64_t>(value.shape->size()));
  }
  const Einsum e = parse_einsum(node.text("equation", ""), ranks);
  std::vector<Operand> operands;
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    const Value& value = graph.value(node.inputs[i]);
    operands.push_back({node.inputs[i], e.terms[i], *value.shape, value.is_constant()});
    Labels sorted = e.terms[i];
    std::sort(sorted.begin(), sorted.end());
    if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) return false;  // a diagonal
  }
  Rewriter rewriter(graph, node, e);
  std::optional<Operand> sum = operands[0];
  for (size_t i = 1; i < operands.size() && sum; ++i) {
    Labels kept = e.output;
    for (size_t k = i + 1; k < operands.size(); ++k)
      for (int l : operands[k].labels)
        if (!holds(kept, l)) kept.push_back(l);
    sum = rewriter.join(*sum, operands[i], kept);
  }
  if (sum) sum = rewriter.finished(*sum, e.output);
  if (!sum) {
    rewriter.forget();
    return false;
  }
  graph.remove_node(id);
  rewriter.commit(sum->value, node.outputs[0]);
  return true;
}

}  // namespace

int64_t expand_einsums(Graph& graph) {
  int64_t changed = 0;
  for (NodeId id : graph.order()) changed += rewrite(graph, id);
  return changed;
}

}  // namespace quern
