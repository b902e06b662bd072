// One node, prepared by one provider and run on its own: no engine around it, no copies between layouts. Operands lie as the
// kernel wants them, or as `came` where it takes any layout.
//
//   OneKernel k(*own_float_provider(), {.op = "Relu", .since_version = 14}, {{normal(activation)}}, Layout::row_major);
//   for (auto _ : state) k.run();
#pragma once
#include <algorithm>
#include <deque>

#include "bench/micro/data.hpp"
#include "core/base/error.hpp"
#include "core/engine/provider.hpp"
#include "core/engine/reorder.hpp"
#include "core/engine/threads.hpp"
#include "core/graph/shapes.hpp"

namespace quern::bench {

struct Operand { Tensor tensor; bool constant = false; };

class OneKernel {
 public:
  OneKernel(const Provider& provider, Node node, std::vector<Operand> operands, Layout came, size_t outputs = 1)
      : operands_(std::move(operands)) {
    register_quern_shape_rules();
    node.name = "node";
    std::vector<ValueId> fed;
    for (const Operand& o : operands_) {
      const std::string name = "in" + std::to_string(node.inputs.size());
      node.inputs.push_back(o.constant ? graph_.add_constant(name, o.tensor) : graph_.add_value(name, o.tensor.type(), o.tensor.dims()));
      if (!o.constant) fed.push_back(node.inputs.back());
    }
    for (size_t i = 0; i < outputs; ++i) node.outputs.push_back(graph_.add_value("out" + std::to_string(i)));
    graph_.set_inputs(fed);
    const NodeId id = graph_.add_node(node);
    graph_.set_outputs(node.outputs);
    infer_shapes(graph_);
    KernelRequest request{.graph = graph_, .members = {id}, .inputs = {}, .outputs = {}, .input_values = node.inputs, .output_values = node.outputs};
    for (const Operand& o : operands_)
      request.inputs.push_back({o.tensor.type(), o.tensor.dims(), o.constant ? Layout::row_major : came, o.constant ? &o.tensor : nullptr});
    for (ValueId v : node.outputs) request.outputs.push_back({graph_.value(v).dtype, graph_.value(v).shape.value(), Layout::row_major, nullptr});
    auto prepared = provider.prepare(request);
    if (!prepared || !prepared->kernel) throw Error(ErrorCode::internal, provider.name() + " has no kernel for this " + node.op);
    prepared_ = std::move(*prepared);
    state_ = prepared_.kernel->make_state();
    workspace_ = Tensor(DType::u8, {static_cast<int64_t>(prepared_.kernel->workspace_bytes())});
    const auto resolved = [&](Layout l) { return l == Layout::any ? came : l; };
    for (size_t i = 0; i < operands_.size(); ++i) {
      const Operand& o = operands_[i];
      in_.push_back(lay(o.tensor.type(), o.tensor.dims(), o.constant ? Layout::row_major : resolved(prepared_.input_layouts[i])));
      copy({const_cast<void*>(o.tensor.data()), o.tensor.type(), o.tensor.dims(), keep(row_major_strides(o.tensor.dims()))}, in_.back());
    }
    for (size_t i = 0; i < outputs; ++i) out_.push_back(lay(request.outputs[i].dtype, request.outputs[i].dims, resolved(prepared_.output_layouts[i])));
  }

  void run() const { prepared_.kernel->run(in_, out_, const_cast<void*>(workspace_.data()), state_.get()); }
  // Runs it under the benchmark; elements: of the largest tensor that flows.
  void measure(benchmark::State& state) const {
    for (auto _ : state) run();
    int64_t elements = 0, bytes = 0;
    for (const auto* side : {&in_, &out_})
      for (size_t i = 0; i < side->size(); ++i) {
        if (side == &in_ && operands_[i].constant) continue;
        elements = std::max(elements, (*side)[i].count());
        bytes += (*side)[i].count() * static_cast<int64_t>(size_of((*side)[i].type));
      }
    rates(state, elements, bytes);
    state.SetLabel(prepared_.name);
  }
  Dims output_dims() const { return Dims(out_[0].dims.begin(), out_[0].dims.end()); }

 private:
  const OperatorThreads one_{1};  // while the kernel is prepared, too: oneDNN divides the work then

  std::span<const int64_t> keep(Dims d) { return dims_.emplace_back(std::move(d)); }
  TensorView lay(DType type, const Dims& dims, Layout layout) {
    Tensor& t = memory_.emplace_back(type, dims);
    return {t.mutable_bytes(), type, t.dims(), keep(strides_of(dims, layout))};
  }

  std::vector<Operand> operands_;
  Graph graph_;
  PreparedKernel prepared_;
  std::unique_ptr<KernelState> state_;
  Tensor workspace_;
  std::deque<Tensor> memory_;
  std::deque<Dims> dims_;
  std::vector<TensorView> in_, out_;
};

}  // namespace quern::bench
