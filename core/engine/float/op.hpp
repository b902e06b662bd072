// Own float kernels: what the function that prepares an operator sees, and how it makes a kernel of a lambda.
//
// An operator is one function, named in the list of its family (families.hpp). It looks at types and shapes once and
// returns a kernel whose body is called at every run:
//
//   Made prepare_relu(const Op& op) {
//     return op.kernel(Layout::any, [](const Call& c) { map1<float, float>(c.out[0], c.in[0], [](float x) { return x < 0 ? 0 : x; }); });
//   }
//
// A Call numbers tensors as the node's slots do (absent ones have data == nullptr), so that a kernel never has to know that
// the engine hands over distinct values only. Constants are found in `in` too. Returning {} says: not for these types.
// Bodies are shared by threads and hold no mutable state.
#pragma once
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.hpp"
#include "core/engine/provider.hpp"

namespace quern::own {

struct Call {
  std::span<const TensorView> in;   // by input slot
  std::span<const TensorView> out;  // by output; data == nullptr where nobody wants it
  void* workspace = nullptr;
};
using Body = std::function<void(const Call&)>;
using MakingBody = std::function<std::vector<Tensor>(const Call&)>;  // of a data-sized kernel: all outputs, row major
using Made = std::optional<PreparedKernel>;

class Op {
 public:
  explicit Op(const KernelRequest& request);

  const Node& node() const { return node_; }
  size_t slots() const { return slots_.size(); }
  size_t outputs() const { return outputs_.size(); }
  bool has(size_t slot) const { return slot < slots_.size() && slots_[slot] >= 0; }
  bool wants(size_t output) const { return output < outputs_.size() && outputs_[output] >= 0; }
  const TensorSpec& in(size_t slot) const;   // Error(model) when the slot is absent
  const TensorSpec& out(size_t output = 0) const;
  DType type(size_t slot = 0) const { return in(slot).dtype; }
  int64_t rank(size_t slot = 0) const { return static_cast<int64_t>(in(slot).dims.size()); }
  const Tensor* constant(size_t slot) const { return has(slot) ? in(slot).constant : nullptr; }
  // The attribute, negative counted from the end, checked against 0..rank-1 (or 0..rank where `end_allowed`).
  int64_t axis(const std::string& key, int64_t fallback, int64_t rank, bool end_allowed = false) const;
  [[noreturn]] void fail(const std::string& message) const;  // Error(model)

  // All activations in this layout; `any`: the body goes by strides. Outputs the same.
  PreparedKernel kernel(Layout layout, Body body, size_t workspace_bytes = 0) const;
  PreparedKernel kernel(Layout inputs, Layout outputs, Body body, size_t workspace_bytes = 0) const;
  // The same, and output 0 may take the memory of input 0 if their types and dims are equal.
  PreparedKernel in_place(Layout layout, Body body, size_t workspace_bytes = 0) const;
  // Output 0 is the memory of input 0; the body (a copy) runs only where the engine can't share it.
  PreparedKernel view(Layout layout) const;
  // The body makes the outputs, whose size only the data say. Row major.
  PreparedKernel data_sized(MakingBody body) const;

 private:
  PreparedKernel around(std::unique_ptr<Kernel> kernel, Layout inputs, Layout outputs) const;
  const KernelRequest& request_;
  const Node& node_;
  std::vector<int> slots_, outputs_;  // index in the request; -1 absent
};

struct Entry { std::string_view domain, op; Made (*prepare)(const Op&); };

// A list of integers that comes as an attribute, a constant input, or an input known only at a run.
class IntList {
 public:
  IntList() = default;
  IntList(const Op& op, size_t slot);                         // input; absent: not present()
  IntList(const Op& op, const std::string& key, size_t slot); // attribute if there is one, else input
  bool present() const { return fixed_ || slot_ >= 0; }
  std::vector<int64_t> get(const Call& call) const;
  const std::vector<int64_t>* fixed() const { return fixed_ ? &*fixed_ : nullptr; }

 private:
  std::optional<std::vector<int64_t>> fixed_;
  int slot_ = -1;
};
std::vector<int64_t> read_ints(const TensorView& view);
double read_scalar(const TensorView& view);  // the only element, as a number

// Calls f(T{}) for the C++ type of `type` if it is in the list; bool tensors are uint8_t here and ask for `boolean`.
template <class... Ts, class F>
bool dispatch(DType type, F&& f) {
  return ((type == dtype_of<Ts>::value ? (f(Ts{}), true) : false) || ...);
}
#define QUERN_OWN_INTEGERS int8_t, uint8_t, int16_t, uint16_t, int32_t, uint32_t, int64_t, uint64_t

// By size of an element, for operators that only move data: f(uint8_t{}) ... f(uint64_t{}).
template <class F>
void dispatch_size(DType type, F&& f) {
  switch (size_of(type)) {
    case 1: f(uint8_t{}); return;
    case 2: f(uint16_t{}); return;
    case 4: f(uint32_t{}); return;
    case 8: f(uint64_t{}); return;
    default: throw Error(ErrorCode::model, "strings are not computed");
  }
}
inline bool movable(DType type) { return size_of(type) != 0; }

inline int64_t product(std::span<const int64_t> dims, size_t from, size_t to) {
  int64_t n = 1;
  for (size_t i = from; i < to; ++i) n *= dims[i];
  return n;
}

}  // namespace quern::own
