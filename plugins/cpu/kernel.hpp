// What compile() gives for any operator: a prepared kernel, shared by threads and never changed, and what one thread needs
// beside it. The operators' files each make their own (dot_unit, elementwise, pool, move).
#pragma once
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "plugins/common/unit.hpp"
#include "plugins/cpu/isa.hpp"

namespace quern_cpu {

using namespace quern_common;  // units as every target reads them

struct Context {
  virtual ~Context() = default;
};

class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual uint64_t workspace_bytes() const { return 0; }
  const std::string& name() const { return name_; }
  Isa isa() const { return isa_; }  // what it was compiled for; execute is called within a scope of it
  // One QUERN_LAYOUT_* per operand that flows, in order.
  virtual std::vector<uint32_t> input_layouts() const = 0;
  virtual uint32_t output_layout() const = 0;
  virtual std::unique_ptr<Context> create_context() const { return std::make_unique<Context>(); }
  virtual void execute(Context& context, Span<const quern_tensor> inputs, const quern_tensor& output, void* workspace) const = 0;

 protected:
  explicit Kernel(std::string name) : name_(std::move(name)) {}
  std::string name_;

 private:
  Isa isa_ = current_isa();
};

std::unique_ptr<Kernel> compile_dot(const OpView& op, uint32_t threads);         // Conv, ConvTranspose, Gemm, MatMul
std::unique_ptr<Kernel> compile_product(const OpView& op, uint32_t threads);     // MatMul of two tensors that flow
std::unique_ptr<Kernel> compile_elementwise(const OpView& op, uint32_t threads); // Add, Sub, Mul, Div, Max, Min
std::unique_ptr<Kernel> compile_pool(const OpView& op, uint32_t threads);        // AveragePool, MaxPool and the global ones
std::unique_ptr<Kernel> compile_table(const OpView& op, uint32_t threads);       // Sigmoid, Tanh, Exp, ... alone
std::unique_ptr<Kernel> compile_select(const OpView& op, uint32_t threads);      // Slice, Gather, Pad, Tile, Expand, DepthToSpace, SpaceToDepth
std::unique_ptr<Kernel> compile_resample(const OpView& op, uint32_t threads);    // Resize
std::unique_ptr<Kernel> compile_mean(const OpView& op, uint32_t threads);        // ReduceMean
std::unique_ptr<Kernel> compile_move(const OpView& op, uint32_t threads);        // layout operators, Concat, Relu, Clip

inline constexpr int64_t few_elements = 65536;  // done by one thread before another has woken

// body(first, last) over [0, count) cut into at most `threads` pieces, on the host's threads, within the caller's IsaScope.
template <class F>
void for_pieces(int64_t count, uint32_t threads, F&& body) {
  const int64_t pieces = std::min<int64_t>(count, threads);
  if (pieces <= 1) {
    if (count > 0) body(int64_t{0}, count);
    return;
  }
  const Isa isa = current_isa();
  quern_sdk::parallel_for(pieces, [&](int64_t i) {
    const IsaScope scope(isa);
    body(count * i / pieces, count * (i + 1) / pieces);
  });
}

}  // namespace quern_cpu
