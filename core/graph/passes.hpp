// Rewrites of the float graph that do not change its function (bit for bit, or up to rounding for batch norm).
#pragma once
#include <functional>
#include "core/graph/graph.hpp"

namespace quern {

struct PassReport { std::string pass; int64_t changed = 0; };

// Evaluates one node on constants; null when this node can't be folded. Supplied by the engine (engine/folding.hpp),
// so that folding computes with the same kernels as a run.
using ConstantEvaluator = std::function<std::optional<std::vector<Tensor>>(const Graph&, const Node&)>;

// Identity, Dropout at inference, Cast to the same type, Reshape to the same known shape, pairs of inverse Transposes.
int64_t remove_identities(Graph& graph);
int64_t fold_constants(Graph& graph, const ConstantEvaluator& evaluate);  // incl. Constant, Shape of known shapes
// BatchNormalization into the Conv, ConvTranspose, Gemm or MatMul before it (single consumer), in double.
int64_t fold_batch_norms(Graph& graph);
// MatMul by a constant matrix followed by Add of a constant row -> Gemm, where ranks allow; Add of a constant per channel
// after Conv -> bias. So that "bias" means one thing further down.
int64_t canonicalize_bias(Graph& graph);
int64_t remove_dead(Graph& graph);  // nodes and constants that reach no output

// All of the above until nothing changes; then infer_shapes. The order is fixed.
std::vector<PassReport> canonicalize(Graph& graph, const ConstantEvaluator& evaluate);

}  // namespace quern
