// What compile() gives for any operator: a prepared kernel, shared by threads and never changed. All work on row-major tensors.
#pragma once
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "plugins/gna_sim/numbers.hpp"
#include "plugins/gna_sim/segments.hpp"

namespace quern_gna {

struct Context { uint64_t saturated = 0; };  // of the last execute

class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual uint64_t workspace_bytes() const { return 0; }
  const std::string& name() const { return name_; }
  size_t inputs() const { return inputs_; }
  virtual void execute(Context& context, Span<const quern_tensor> inputs, const quern_tensor& output, void* workspace) const = 0;

 protected:
  Kernel(std::string name, const OpView& op) : name_(std::move(name)), inputs_(op.variable_inputs().size()) {}
  std::string name_;
  size_t inputs_;
};

std::unique_ptr<Kernel> compile_affine(const OpView& op, uint32_t saturate_every, uint32_t threads);  // Gemm, MatMul, Conv
std::unique_ptr<Kernel> compile_pair(const OpView& op);      // Add, Sub, Mul
std::unique_ptr<Kernel> compile_function(const OpView& op);  // functions by segments, Relu, Clip
std::unique_ptr<Kernel> compile_pool(const OpView& op);      // MaxPool
std::unique_ptr<Kernel> compile_copy(const OpView& op);      // layout operators, Slice
std::unique_ptr<Kernel> compile_concat(const OpView& op);

// The derived table "segments", and the codes that the output has.
struct Sink {
  Segments segments;
  int32_t low = 0, high = 0;
  Sink() = default;
  explicit Sink(const OpView& op);
};

// A constant operand's codes, or an 8- or 16-bit tensor's, as 16 bits.
std::vector<int16_t> wide_codes(const quern_tensor& tensor);

}  // namespace quern_gna
