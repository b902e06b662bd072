// Operators newer than a file's opset, written with what that opset has. The last node keeps the name and the output, the ones
// before it are called after it: Gelu 'act' is 'act.Erf' ... 'act'. Read again, the pieces are recognised (docs/patterns.md).
#include <algorithm>
#include <cmath>
#include <functional>

#include "core/onnx/onnx.hpp"

namespace quern {
namespace {

using Attributes = std::map<std::string, Attribute>;

// Writes the pieces of one node.
class Pieces {
 public:
  Pieces(Graph& graph, NodeId id) : g_(graph), id_(id), node_(graph.node(id)) {}

  const Node& node() const { return node_; }
  ValueId input(size_t slot) const { return slot < node_.inputs.size() ? node_.inputs[slot] : no_value; }
  DType type() const { return g_.value(input(0)).dtype; }
  const std::optional<Dims>& shape() const { return g_.value(input(0)).shape; }
  Graph& graph() { return g_; }

  ValueId number(const char* what, double v) {
    return g_.add_constant(node_.name + "." + what, type() == DType::f64 ? Tensor::scalar(v) : Tensor::scalar(static_cast<float>(v)));
  }
  ValueId add(const std::string& op, const std::string& what, std::vector<ValueId> inputs, Attributes attributes = {}, std::optional<Dims> dims = {}) {
    Node n = piece(op, std::move(inputs), std::move(attributes));
    n.name = g_.unique_name(node_.name + "." + what);
    n.outputs = {g_.add_value(g_.unique_name(g_.value(node_.outputs[0]).name + "." + what), op == "Shape" ? DType::s64 : type(), dims ? std::move(dims) : shape())};
    const NodeId id = g_.add_node(std::move(n));
    return g_.node(id).outputs[0];
  }
  void last(const std::string& op, std::vector<ValueId> inputs, Attributes attributes = {}) {
    const Node n = piece(op, std::move(inputs), std::move(attributes));
    Node& now = g_.node(id_);
    now.op = n.op;
    now.since_version = n.since_version;
    now.inputs = n.inputs;
    now.attributes = n.attributes;
  }

 private:
  Node piece(const std::string& op, std::vector<ValueId> inputs, Attributes attributes) const {
    Node n;
    n.op = op;
    n.since_version = since_version_for("", op, 13);
    n.inputs = std::move(inputs);
    n.attributes = std::move(attributes);
    n.origin = node_.origin.empty() ? std::vector<std::string>{node_.name} : node_.origin;
    return n;
  }

  Graph& g_;
  NodeId id_;
  const Node node_;  // as it was
};

bool swish(Pieces p) {
  const ValueId x = p.input(0);
  const float alpha = p.node().real("alpha", 1.0F);
  const ValueId scaled = alpha == 1 ? x : p.add("Mul", "scaled", {x, p.number("alpha", static_cast<double>(alpha))});
  const ValueId gate = p.add("Sigmoid", "Sigmoid", {scaled});
  p.last("Mul", {x, gate});
  return true;
}

bool gelu(Pieces p) {
  const ValueId x = p.input(0);
  ValueId gate = no_value;
  if (p.node().text("approximate", "none") == "tanh") {
    const ValueId cube = p.add("Mul", "cube", {p.add("Mul", "square", {x, x}), x});
    const ValueId sum = p.add("Add", "sum", {x, p.add("Mul", "scaled_cube", {cube, p.number("cube_factor", 0.044715)})});
    gate = p.add("Tanh", "Tanh", {p.add("Mul", "scaled", {sum, p.number("factor", std::sqrt(2 / std::acos(-1.0)))})});
  } else {
    gate = p.add("Erf", "Erf", {p.add("Mul", "scaled", {x, p.number("factor", std::sqrt(0.5))})});
  }
  const ValueId raised = p.add("Add", "raised", {gate, p.number("one", 1)});
  const ValueId product = p.add("Mul", "product", {x, raised});
  p.last("Mul", {product, p.number("half", 0.5)});
  return true;
}

bool hard_swish(Pieces p) {
  const ValueId gate = p.add("HardSigmoid", "HardSigmoid", {p.input(0)}, {{"alpha", 1.0F / 6}, {"beta", 0.5F}});
  p.last("Mul", {p.input(0), gate});
  return true;
}

bool mish(Pieces p) {
  const ValueId gate = p.add("Tanh", "Tanh", {p.add("Softplus", "Softplus", {p.input(0)})});
  p.last("Mul", {p.input(0), gate});
  return true;
}

bool layer_normalization(Pieces p) {
  if (p.node().outputs.size() > 1) return false;  // mean and deviation are wanted too
  const ValueId x = p.input(0);
  int64_t axis = p.node().integer("axis", -1);
  if (axis >= 0) {
    if (!p.shape()) return false;
    axis -= static_cast<int64_t>(p.shape()->size());
  }
  std::vector<int64_t> axes;
  for (; axis < 0; ++axis) axes.push_back(axis);
  std::optional<Dims> reduced = p.shape();
  if (reduced)
    for (size_t i = 0; i < axes.size() && i < reduced->size(); ++i) (*reduced)[reduced->size() - 1 - i] = 1;
  const Attributes reduce{{"axes", axes}, {"keepdims", int64_t{1}}};
  const ValueId mean = p.add("ReduceMean", "mean", {x}, reduce, reduced);
  const ValueId centred = p.add("Sub", "centred", {x, mean});
  const ValueId variance = p.add("ReduceMean", "variance", {p.add("Mul", "square", {centred, centred})}, reduce, reduced);
  const ValueId raised = p.add("Add", "raised", {variance, p.number("epsilon", static_cast<double>(p.node().real("epsilon", 1e-5F)))}, {}, reduced);
  const ValueId normalized = p.add("Div", "normalized", {centred, p.add("Sqrt", "deviation", {raised}, {}, reduced)});
  if (p.input(2) == no_value) {
    p.last("Mul", {normalized, p.input(1)});
  } else {
    const ValueId scaled = p.add("Mul", "scaled", {normalized, p.input(1)});
    p.last("Add", {scaled, p.input(2)});
  }
  return true;
}

// As an InstanceNormalization of the groups.
bool group_normalization(Pieces p) {
  const std::optional<Dims> shape = p.shape();
  if (!shape || shape->size() < 3 || (*shape)[1] < 1 || p.type() != DType::f32) return false;
  const int64_t groups = p.node().integer("num_groups", 0), channels = (*shape)[1];
  if (groups < 1 || channels % groups != 0) return false;
  Dims beside(shape->size() - 1, 1);
  beside[0] = channels;
  ValueId parameters[2];
  for (size_t k = 0; k < 2; ++k) {
    const Tensor* given = p.graph().constant_input(p.node(), k + 1);
    if (!given || given->type() != DType::f32 || (given->count() != groups && given->count() != channels)) return false;
    std::vector<float> values(static_cast<size_t>(channels));
    const int64_t each = channels / given->count();
    for (size_t i = 0; i < values.size(); ++i) values[i] = given->values<float>()[i / static_cast<size_t>(each)];
    parameters[k] = p.graph().add_constant(p.node().name + (k ? ".bias" : ".scale"), Tensor::of<float>(beside, values));
  }
  const auto count = static_cast<size_t>(groups);
  const auto row = [&](const char* what, float v) { return p.graph().add_constant(p.node().name + "." + what, Tensor::of<float>({groups}, std::vector<float>(count, v))); };
  const ValueId target = p.graph().add_constant(p.node().name + ".groups", Tensor::of<int64_t>({3}, std::vector<int64_t>{0, groups, -1}));
  const Dims flat{(*shape)[0], groups, -1};
  const ValueId grouped = p.add("Reshape", "grouped", {p.input(0), target}, {}, flat);
  const ValueId normalized = p.add("InstanceNormalization", "normalized", {grouped, row("ones", 1), row("zeros", 0)}, {{"epsilon", p.node().real("epsilon", 1e-5F)}}, flat);
  const ValueId sizes = p.add("Shape", "shape", {p.input(0)}, {}, Dims{static_cast<int64_t>(shape->size())});
  const ValueId back = p.add("Reshape", "back", {normalized, sizes});
  const ValueId scaled = p.add("Mul", "scaled", {back, parameters[0]});
  p.last("Add", {scaled, parameters[1]});
  return true;
}

struct Expansion { const char* op; int64_t since; bool (*write)(Pieces); };
constexpr Expansion expansions[] = {
    {"Swish", 24, swish}, {"Gelu", 20, gelu}, {"HardSwish", 14, hard_swish}, {"Mish", 18, mish},
    {"LayerNormalization", 17, layer_normalization}, {"GroupNormalization", 18, group_normalization},
};

const Expansion* expansion_of(const Node& n, int64_t opset) {
  if (n.removed || !n.domain.empty() || n.payload || n.inputs.empty()) return nullptr;
  for (const auto& e : expansions)
    if (n.op == e.op && (opset < e.since || (n.op == "GroupNormalization" && n.since_version > opset))) return &e;
  return nullptr;
}

}  // namespace

bool needs_expansion(const Graph& graph, int64_t opset) {
  for (size_t i = 0; i < graph.node_slots(); ++i)
    if (expansion_of(graph.node(static_cast<NodeId>(i)), opset)) return true;
  return false;
}

int64_t expand_for_opset(Graph& graph, int64_t opset) {
  int64_t changed = 0;
  const size_t count = graph.node_slots();
  for (size_t i = 0; i < count; ++i) {
    const auto id = static_cast<NodeId>(i);
    if (const Expansion* e = expansion_of(graph.node(id), opset)) changed += e->write(Pieces(graph, id));
  }
  return changed;
}

}  // namespace quern
