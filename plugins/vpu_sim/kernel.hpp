// What compile() gives for any operator: a prepared kernel, shared by threads and never changed. The operators' files each make their own.
#pragma once
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "plugins/common/unit.hpp"

namespace quern_vpu {

using namespace quern_common;  // units as every target reads them

class Kernel {
 public:
  virtual ~Kernel() = default;
  const std::string& name() const { return name_; }
  // One QUERN_LAYOUT_* per operand that flows, in order.
  virtual std::vector<uint32_t> input_layouts() const = 0;
  virtual uint32_t output_layout() const = 0;
  virtual void execute(Span<const quern_tensor> inputs, const quern_tensor& output) const = 0;

 protected:
  explicit Kernel(std::string name) : name_(std::move(name)) {}
  std::string name_;
};

std::unique_ptr<Kernel> compile_dot(const OpView& op, uint32_t threads);       // Conv, ConvTranspose, Gemm, MatMul by a constant
std::unique_ptr<Kernel> compile_product(const OpView& op, uint32_t threads);   // MatMul of two tensors that flow
std::unique_ptr<Kernel> compile_pair(const OpView& op, uint32_t threads);      // Add, Sub, Mul, Max, Min
std::unique_ptr<Kernel> compile_mean(const OpView& op, uint32_t threads);      // ReduceMean
std::unique_ptr<Kernel> compile_pool(const OpView& op, uint32_t threads);      // AveragePool, MaxPool and the global ones
std::unique_ptr<Kernel> compile_resample(const OpView& op, uint32_t threads);  // Resize
std::unique_ptr<Kernel> compile_move(const OpView& op, uint32_t threads);      // layout operators, selections, Concat, Relu, Clip
std::unique_ptr<Kernel> compile_table(const OpView& op, uint32_t threads);     // Sigmoid, Tanh, Exp, ... alone

void derive(const OpView& op, quern_sdk::TableSink& tables);
bool supports(const OpView& op, std::string& reason);
bool cost(const OpView& op, double& cycles, double& bytes);  // false where shapes are not known

// body(first, last) over [0, count) cut into at most `threads` pieces, on the host's threads.
template <class F>
void for_pieces(int64_t count, uint32_t threads, F&& body) {
  const int64_t pieces = std::min<int64_t>(count, threads);
  if (pieces <= 1) {
    if (count > 0) body(int64_t{0}, count);
    return;
  }
  quern_sdk::parallel_for(pieces, [&](int64_t i) { body(count * i / pieces, count * (i + 1) / pieces); });
}

// Which of the operands that flow has this role; failure where none has.
size_t flowing_index(const OpView& op, std::string_view role);

}  // namespace quern_vpu
