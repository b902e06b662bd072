// What the oneDNN kernels share: one primitive with its arguments, the copies around it, and the names of things.
// Private to the engine room.
#pragma once
#include <oneapi/dnnl/dnnl.hpp>

#include <functional>
#include <string>
#include <vector>

#include "core/engine/provider.hpp"

namespace quern::onednn {

const dnnl::engine& cpu();

// Throws std::bad_alloc where there is no room for making a primitive: oneDNN 2.6 does not look at what malloc gives it and crashes.
void require_memory();

// Memory of one argument of the primitive.
struct Argument {
  enum class From { input, output, fixed, workspace };
  int id = 0;                  // DNNL_ARG_*
  dnnl::memory::desc desc;
  From from = From::input;
  size_t slot = 0;             // of the kernel's inputs or outputs; or offset in the workspace
  void* fixed = nullptr;
};

// A constant, or weights that flow, brought into the order the primitive wants.
struct Repack { dnnl::memory::desc from, to; size_t input = 0, workspace_offset = 0; };

struct Recipe {
  dnnl::primitive primitive;
  std::vector<Argument> arguments;
  std::vector<Repack> repacks;                       // before every run: weights that are not constant
  std::vector<std::shared_ptr<const void>> owned;    // memory behind `fixed`
  size_t workspace_bytes = 0;
  // Fills the output before the primitive adds to it (residual, C of Gemm).
  std::function<void(std::span<const TensorView> inputs, std::span<const TensorView> outputs)> before;

  size_t take_workspace(size_t bytes);               // offset, aligned to 64
  void add_input(int id, const dnnl::memory::desc& desc, size_t slot) { arguments.push_back({id, desc, Argument::From::input, slot, nullptr}); }
  void add_output(int id, const dnnl::memory::desc& desc) { arguments.push_back({id, desc, Argument::From::output, 0, nullptr}); }
  void add_scratchpad(const dnnl::memory::desc& desc);
  // Weights or bias: reordered now when constant, before every run otherwise.
  void add_weights(int id, const dnnl::memory::desc& given, const dnnl::memory::desc& wanted, const TensorSpec& spec, size_t slot);
  // Memory of the kernel's own.
  void add_fixed(int id, const dnnl::memory::desc& desc, std::shared_ptr<const void> memory, const void* data);
};

// Constant weights of Gemm and MatMul from this size on are read as they lie (in a mapped file, perhaps) and never packed: a packed
// copy would double the memory of a large network, and a product of few rows takes as long as reading the weights.
inline constexpr size_t large_weights = size_t{32} << 20;
// Any address will do but on SSE, whose instructions want their operands aligned.
bool usable_as_it_lies(const Tensor& weights);

std::unique_ptr<Kernel> make_kernel(Recipe recipe);

// The nodes after the first: what they do to the result.
struct Fused {
  struct Eltwise { dnnl::algorithm algorithm; float alpha = 0, beta = 0; };
  struct Item { bool is_add = false; Eltwise eltwise{}; };
  std::vector<Item> items;                 // in order
  ValueId residual = no_value;             // other operand of an Add of two tensors that flow
  ValueId row = no_value;                  // other operand of an Add of a constant row (MatMul's bias); always first
};
// None: something there can't be fused.
std::optional<Fused> read_fused(const Graph& graph, std::span<const NodeId> members);
// Members to propose, starting at `node`; `constant_row`: an Add of a constant may follow first.
std::vector<NodeId> chain(const Graph& graph, NodeId node, const std::function<bool(ValueId)>& free_to_fuse, bool constant_row);
dnnl::primitive_attr attributes(const Fused& fused, bool sum_first = false);

// False when the implementation ("brgconv:avx512_core", "ref:any") is one of oneDNN's plain loops.
bool is_fast(const std::string& implementation);

dnnl::memory::desc strided(const Dims& dims, const Dims& strides);
size_t slot_of(const KernelRequest& request, ValueId value);

// A fused sum adds to what is in the output: the residual is brought there, or is there already where the engine let both
// share memory.
void add_residual(const KernelRequest& request, const Fused& fused, Recipe& recipe, PreparedKernel& made);

std::optional<PreparedKernel> prepare_conv(const KernelRequest& request, const Fused& fused);
std::optional<PreparedKernel> prepare_conv_transpose(const KernelRequest& request, const Fused& fused);
// The same where patches don't overlap, as matrix products; none otherwise.
std::optional<PreparedKernel> prepare_patch_transpose(const KernelRequest& request, const Fused& fused);
std::optional<PreparedKernel> prepare_gemm(const KernelRequest& request, const Fused& fused);
std::optional<PreparedKernel> prepare_matmul(const KernelRequest& request, const Fused& fused);

}  // namespace quern::onednn
