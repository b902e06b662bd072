// Rewrites of the float graph that do not change its function (bit for bit, or up to rounding for batch norm).
#pragma once
#include <functional>
#include "core/graph/graph.hpp"

namespace quern {

struct PassReport { std::string pass; int64_t changed = 0; };

// Evaluates one node on constants; null when this node can't be folded. Supplied by the engine (engine/folding.hpp),
// so that folding computes with the same kernels as a run.
using ConstantEvaluator = std::function<std::optional<std::vector<Tensor>>(const Graph&, const Node&)>;

// Identity, Dropout at inference, Cast to the same type, Reshape to the same known shape, pairs of inverse Transposes; chains of
// Reshapes or of Transposes become one.
int64_t remove_identities(Graph& graph);
// A Reshape whose shape is computed from sizes (view(x.size(0), -1) as exporters write it) gets a constant shape of 0 and -1
// entries, where one says the same for every size of the open dimensions.
int64_t simplify_reshapes(Graph& graph);
// Moves a Transpose behind element-wise nodes, Concat, Pad and reductions, so that it meets its inverse (as converters from
// channels-last frameworks leave them) or disappears in a Reshape.
int64_t move_transposes(Graph& graph);
// An If whose condition is a constant is replaced by the nodes of the branch it takes.
int64_t inline_constant_branches(Graph& graph);
// Einsum as Transpose, Reshape, ReduceSum, MatMul and Mul, where no operand has a label twice and the sizes it needs are known
// (canonicalize: before fold_constants).
int64_t expand_einsums(Graph& graph);
int64_t fold_constants(Graph& graph, const ConstantEvaluator& evaluate);  // incl. Constant, Shape of known shapes
// Add, Sub, Mul or Div by a constant per channel behind Reshapes goes before them, next to the Conv, ConvTranspose, Gemm or MatMul that
// makes the channels (single consumers): from there it becomes bias or weights.
int64_t lift_rows(Graph& graph);
// BatchNormalization, or a Mul or Div by a constant per channel, into the Conv, ConvTranspose, Gemm or MatMul before it (single
// consumer), in double.
int64_t fold_batch_norms(Graph& graph);
// MatMul by a constant matrix followed by Add of a constant row -> Gemm, where ranks allow; Add or Sub of a constant per
// channel after Conv, ConvTranspose, Gemm -> bias; alpha and beta of a Gemm of constants -> its constants, transA -> a Transpose before it. So that "bias" means
// one thing further down: a constant of shape [channels], or nothing.
int64_t canonicalize_bias(Graph& graph);
// Operators that exporters write in several nodes: Swish, HardSwish, HardSigmoid, Sigmoid, Mish, Gelu (both forms), LeakyRelu, and
// Relu and Clip of Max and Min; LayerNormalization, InstanceNormalization, Softmax. docs/patterns.md lists the arrangements. Only where
// nobody else sees a value between the nodes; up to rounding.
int64_t recognize_activations(Graph& graph);
int64_t recognize_normalizations(Graph& graph);
// A Split becomes one Slice per used output, a Gather of one index or of neighbouring ones a Slice (and Squeeze), on float
// tensors: nodes of one output that move elements.
int64_t split_to_slices(Graph& graph);
// ReduceMean over all axes behind the channels, of rank 4 or more -> GlobalAveragePool (and Squeeze).
int64_t means_to_pools(Graph& graph);
// Mul or Div by one number into the weights of a Conv, ConvTranspose, Gemm or MatMul before or behind it, over moves, sums with
// constants and products with a second tensor.
int64_t fold_scalars(Graph& graph);
int64_t remove_dead(Graph& graph);  // nodes and constants that reach no output

// All of the above, in this order, until nothing changes: inline_constant_branches, fold_constants, simplify_reshapes,
// remove_identities, recognize_activations, recognize_normalizations, split_to_slices, move_transposes, lift_rows, fold_batch_norms,
// canonicalize_bias, fold_scalars, means_to_pools, remove_dead. Shapes are inferred again after every change.
std::vector<PassReport> canonicalize(Graph& graph, const ConstantEvaluator& evaluate);

}  // namespace quern
