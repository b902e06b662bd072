// Providers supply kernels; the engine (engine.hpp) plans and runs them.
//
// A provider is asked, per node and per set of complete shapes, to prepare a kernel. It may take further nodes into the
// kernel (fusion). Order of providers is priority. Kernels are immutable after preparation and shared by threads; what
// changes during a run lives in the workspace or in a KernelState of the runner.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/graph/graph.hpp"

namespace quern {

// How elements of an activation lie in memory. channels_last: axis 1 fastest (rank >= 3). any: the kernel goes by strides,
// but all its non-constant operands of the same rank have the same layout.
enum class Layout { row_major, channels_last, any };

struct TensorSpec {
  DType dtype = DType::undefined;
  Dims dims;                       // complete
  Layout layout = Layout::row_major;  // of an input: as it comes
  const Tensor* constant = nullptr;   // row major
};

struct KernelState { virtual ~KernelState() = default; };

class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual size_t workspace_bytes() const { return 0; }              // aligned to 64, private to the call
  virtual std::unique_ptr<KernelState> make_state() const { return nullptr; }  // one per runner, kept between runs
  // Inputs and outputs in the order of KernelRequest. Absent inputs and constants that the kernel took at preparation
  // have data == nullptr or their constant data. Errors: throws Error with the node's name set by the engine.
  virtual void run(std::span<const TensorView> inputs, std::span<const TensorView> outputs, void* workspace,
                   KernelState* state) const = 0;
};

// A kernel whose output sizes follow from the data (NonZero, NonMaxSuppression): it returns its outputs, row major, in the order of
// KernelRequest::outputs; an empty Tensor where nobody wants one. The dims in its request hold -1 where the data decide.
class DataSizedKernel : public Kernel {
 public:
  virtual std::vector<Tensor> make(std::span<const TensorView> inputs, void* workspace, KernelState* state) const = 0;
  void run(std::span<const TensorView>, std::span<const TensorView>, void*, KernelState*) const final;  // Error(internal)
};

struct KernelRequest {
  const Graph& graph;
  std::vector<NodeId> members;         // [0] the node asked for; more after fuse()
  std::vector<TensorSpec> inputs;      // of the group: distinct values that enter it, in order of first use (see group_inputs)
  std::vector<TensorSpec> outputs;     // of the group's last member; layout is for the kernel to choose
  std::vector<ValueId> input_values, output_values;
  int threads = 1;                     // inside the operator; 1 during calibration and evaluation
};

struct PreparedKernel {
  std::unique_ptr<Kernel> kernel;
  std::string name;                    // "onednn.conv:brgconv:avx512_core_vnni", "quern.softmax"
  std::vector<Layout> input_layouts;   // what it needs; the engine reorders where the input comes otherwise
  std::vector<Layout> output_layouts;  // `any`: as the first input that has this rank and is not constant
  bool portable = true;                // the same bytes on every x86-64
  bool may_alias = false;              // output 0 may share memory with input `alias_input` (same dims), e.g. element-wise
  int alias_input = 0;
  bool view = false;                   // output 0 is input 0's memory with other dims (Reshape of row-major data): not run
};

class Provider {
 public:
  virtual ~Provider() = default;
  virtual std::string name() const = 0;
  // Does this provider know the node at all (before shapes)? For `unknown operator` errors and for inspect.
  virtual bool knows(const Graph& graph, const Node& node) const = 0;
  // Members to run as one kernel with `node` first, each the only consumer of the one before. `free_to_fuse(value)` is false
  // for values that must exist (graph outputs, taps, several consumers). Default: the node alone.
  virtual std::vector<NodeId> fuse(const Graph& graph, NodeId node, const std::function<bool(ValueId)>& free_to_fuse) const {
    (void)graph; (void)free_to_fuse; return {node};
  }
  // none: not for these shapes or types (the next provider is asked).
  virtual std::optional<PreparedKernel> prepare(const KernelRequest& request) const = 0;
};

// Distinct non-absent values entering a group, in order of (member, slot); constants included.
std::vector<ValueId> group_inputs(const Graph& graph, std::span<const NodeId> members);

// The providers of the host: oneDNN for Conv, ConvTranspose, MatMul and Gemm in float; our own reproducible kernels for the
// rest; units by their contract, sharing no code with any target.
std::shared_ptr<const Provider> onednn_provider();
std::shared_ptr<const Provider> own_float_provider();
std::shared_ptr<const Provider> interpreter_provider();
// Quantize, Dequantize, FakeQuantize of the "quern" domain (payload: QuantizePayload), the borders of integer parts.
// Every engine asks it first; it need not be listed in EngineOptions.
std::shared_ptr<const Provider> border_provider();

// Shape rules of the "quern" domain (Quantize, Dequantize, FakeQuantize, Unit). Engine's constructor calls it; whoever infers
// shapes of a lowered graph without an engine calls it first. Cheap after the first time.
void register_quern_shape_rules();

}  // namespace quern
