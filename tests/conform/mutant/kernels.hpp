// Kernels of the test target: plain loops, going by strides, row major outside.
#pragma once
#include <quern/target.hpp>

namespace mutant {

using quern_sdk::Failure;
using quern_sdk::OpView;
using quern_sdk::Span;

struct Params { bool is_signed = false; int64_t zero = 0, low = 0, high = 255; };
Params params_of(const quern_sdk::QuantView& q);

struct Context { int64_t runs = 0; uint64_t saturations = 0; };

class Kernel {
 public:
  explicit Kernel(const OpView& op, uint32_t threads);
  virtual ~Kernel() = default;
  virtual uint64_t workspace_bytes() const { return 0; }
  virtual void run(Context& context, Span<const quern_tensor> in, const quern_tensor& out, void* workspace) const = 0;
  const std::string& name() const { return name_; }

 protected:
  int32_t entry(const char* table, size_t channel) const;
  void must_have(const OpView& op, const char* table, size_t elements, uint32_t dtype);
  std::string name_;
  uint32_t threads_;
  Params y_;
  std::vector<std::pair<std::string, std::vector<int32_t>>> tables_;
};

std::unique_ptr<Kernel> make_conv(const OpView& op, uint32_t threads);
std::unique_ptr<Kernel> make_dense(const OpView& op, uint32_t threads);
std::unique_ptr<Kernel> make_simple(const OpView& op, uint32_t threads);  // Add, AveragePool, Sigmoid, Tanh, moves

// One element of a tensor by its type.
inline int64_t get(const quern_tensor& t, int64_t at) {
  return t.dtype == QUERN_DTYPE_S8 ? static_cast<const int8_t*>(t.data)[at] : static_cast<const uint8_t*>(t.data)[at];
}
inline void put(const quern_tensor& t, int64_t at, int64_t v) { static_cast<uint8_t*>(t.data)[at] = static_cast<uint8_t>(v); }

enum class Tie { even, up, down, away };
// v / 2^by, rounded to nearest.
int64_t shifted(int64_t v, int64_t by, Tie tie);
int64_t clamped(int64_t v, int64_t low, int64_t high);

}  // namespace mutant
