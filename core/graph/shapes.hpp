// Shape inference of our own. One function serves two times: on the whole graph with unknown dimensions (after import,
// for checks and placement), and at planning with every input shape known.
//
// A rule per operator is registered in shape_rules_*.cpp: from the node and what is known of its inputs (type, dims
// with -1 for unknown, constant data where there is some) to the outputs' types and dims.
#pragma once
#include <functional>
#include <span>

#include "core/graph/graph.hpp"

namespace quern {

inline constexpr int64_t unknown_element = INT64_MIN;

struct KnownTensor {
  DType dtype = DType::undefined;
  std::optional<Dims> dims;
  const Tensor* constant = nullptr;          // data, where known (constants, folded shapes)
  // Partial evaluation: what is known of a small integer tensor computed from shapes (an unknown element is
  // `unknown_element`).
  std::shared_ptr<const Tensor> shape_data;
};

// Throws Error(model) naming the node when the inputs don't fit the operator.
using ShapeRule = std::function<std::vector<KnownTensor>(const Node&, std::span<const KnownTensor> inputs)>;

// Also for operators of the "quern" domain (registered by the room that makes them, by a function it calls: before any
// inference). The first registration of an operator stays; later ones are ignored, so registering twice is harmless.
void register_shape_rule(const std::string& domain, const std::string& op, ShapeRule rule);
const ShapeRule* find_shape_rule(const std::string& domain, const std::string& op);

// Sets dtype and shape of every value that can be known. `input_shapes` by input name narrows the declared shapes
// (Error(data) when they contradict a declared, fixed dimension).
void infer_shapes(Graph& graph, const std::map<std::string, Dims>& input_shapes = {});

// Shapes and types of all values by id, for given complete input shapes, without touching the graph. `data` holds small
// integer tensors that follow from the shapes alone (Shape -> Gather -> Concat); null elsewhere, also for constants.
struct ShapeTable { std::vector<DType> dtype; std::vector<std::optional<Dims>> dims; std::vector<std::shared_ptr<const Tensor>> data; };
ShapeTable shapes_for(const Graph& graph, const std::map<std::string, Dims>& input_shapes);

// What a run has found out where shapes alone say nothing: the dims of values that only their producer can size, and the data of small
// ones that shapes depend on (the shape of a Reshape, the k of a TopK).
struct FoundShapes { std::map<ValueId, Dims> dims; std::map<ValueId, std::shared_ptr<const Tensor>> data; };
// Goes on with a table when more is known: the rules of `nodes` (in a topological order) are applied again.
void continue_shapes(const Graph& graph, std::span<const NodeId> nodes, const FoundShapes& found, ShapeTable& table);

// Broadcasting of numpy; -1 stands for unknown. Throws Error(model) when impossible.
Dims broadcast(std::span<const int64_t> a, std::span<const int64_t> b);

// Geometry of Conv and pooling nodes, resolved (auto_pad, defaults) for known spatial input sizes.
struct Window {
  std::vector<int64_t> kernel, stride, dilation, pad_begin, pad_end, output;  // per spatial axis
  int64_t group = 1;
  bool ceil_mode = false, count_include_pad = false;
};
Window conv_window(const Node& node, std::span<const int64_t> input_dims, std::span<const int64_t> weight_dims);
Window pool_window(const Node& node, std::span<const int64_t> input_dims);
// For ConvTranspose `output` is the larger side; pads are those that the output loses.
Window conv_transpose_window(const Node& node, std::span<const int64_t> input_dims, std::span<const int64_t> weight_dims);

}  // namespace quern
