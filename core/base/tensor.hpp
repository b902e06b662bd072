// Tensors on the host.
//
// Tensor      owns (shares) immutable dense row-major memory, or looks into a mapped file: constants, inputs, results.
// TensorView  looks at memory somebody else owns, with strides: what kernels see. `dims` are always in ONNX's order
//             (N, C, H, W); how the elements lie in memory is said by `strides` (in elements) alone. A channels-last
//             activation is dims {N,C,H,W} with strides {H*W*C, 1, W*C, C}.
//
// Threads: a Tensor may be read by any number of threads; copies share the memory.
#pragma once
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/base/dtype.hpp"

namespace quern {

using Dims = std::vector<int64_t>;  // -1: not known yet (a symbolic dimension)

// Product of dims, 1 for rank 0. Throws Error(model) on overflow of 2^44 or a negative dimension.
int64_t element_count(std::span<const int64_t> dims);
std::string to_string(std::span<const int64_t> dims);  // "[1,3,96,96]", "?" for -1
Dims row_major_strides(std::span<const int64_t> dims);
// Strides of the channels-last order: axis 1 fastest, then the last axis, ... (rank >= 3, otherwise row major).
Dims channels_last_strides(std::span<const int64_t> dims);

class Tensor {
 public:
  Tensor() = default;
  // Zeroed memory, aligned to 64 bytes.
  Tensor(DType type, Dims dims);
  // Looks at `data`, kept alive by `owner`.
  Tensor(DType type, Dims dims, std::shared_ptr<const void> owner, const void* data);
  template <class T>
  static Tensor of(Dims dims, std::span<const T> values) {
    Tensor t(dtype_of<T>::value, std::move(dims));
    if (!values.empty()) std::memcpy(t.mutable_bytes(), values.data(), values.size_bytes());
    return t;
  }
  template <class T>
  static Tensor of(Dims dims, const std::vector<T>& values) { return of<T>(std::move(dims), std::span<const T>(values)); }
  template <class T> static Tensor scalar(T value) { return of<T>({}, std::span<const T>(&value, 1)); }

  bool empty() const { return type_ == DType::undefined; }
  DType type() const { return type_; }
  const Dims& dims() const { return dims_; }
  int64_t rank() const { return static_cast<int64_t>(dims_.size()); }
  int64_t count() const { return count_; }
  size_t bytes() const { return static_cast<size_t>(count_) * size_of(type_); }
  const void* data() const { return data_; }
  template <class T> std::span<const T> values() const {
    return {static_cast<const T*>(data_), static_cast<size_t>(count_)};
  }
  template <class T> std::span<T> mutable_values() { return {static_cast<T*>(mutable_bytes()), static_cast<size_t>(count_)}; }
  // For filling right after construction, while no copy has been made.
  void* mutable_bytes() { return const_cast<void*>(data_); }
  Tensor reshaped(Dims dims) const;  // the same memory; counts must agree
  // Values converted to f32 / int64 (any numeric type), for small constants.
  std::vector<float> to_floats() const;
  std::vector<int64_t> to_ints() const;

 private:
  DType type_ = DType::undefined;
  Dims dims_;
  int64_t count_ = 0;
  std::shared_ptr<const void> owner_;
  const void* data_ = nullptr;
};

struct TensorView {
  void* data = nullptr;
  DType type = DType::undefined;
  std::span<const int64_t> dims;
  std::span<const int64_t> strides;  // in elements
  template <class T> T* as() const { return static_cast<T*>(data); }
  int64_t count() const { return element_count(dims); }
};

// Copies between any two views of equal type and dims, whatever their strides.
void copy(const TensorView& from, const TensorView& to);

}  // namespace quern
