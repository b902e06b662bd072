#include "core/base/tensor.hpp"

#include <fmt/format.h>

#include <cstdlib>

#include "core/base/error.hpp"

namespace quern {

int64_t element_count(std::span<const int64_t> dims) {
  // More than any memory holds, and little enough that bytes of thousands of such tensors can be added.
  constexpr int64_t limit = int64_t{1} << 44;
  int64_t n = 1;
  bool zero = false;
  for (int64_t d : dims) {
    if (d < 0) throw Error(ErrorCode::model, fmt::format("shape {} has a dimension that is not known", to_string(dims)));
    if (d == 0) { zero = true; continue; }
    if (n > limit / d) throw Error(ErrorCode::model, fmt::format("shape {} has more than 2^44 elements", to_string(dims)));
    n *= d;
  }
  return zero ? 0 : n;
}

std::string to_string(std::span<const int64_t> dims) {
  std::string s = "[";
  for (size_t i = 0; i < dims.size(); ++i) {
    if (i) s += ",";
    s += dims[i] < 0 ? "?" : std::to_string(dims[i]);
  }
  return s + "]";
}

Dims row_major_strides(std::span<const int64_t> dims) {
  Dims s(dims.size());
  int64_t n = 1;
  for (size_t i = dims.size(); i-- > 0;) { s[i] = n; n *= dims[i]; }
  return s;
}

Dims channels_last_strides(std::span<const int64_t> dims) {
  if (dims.size() < 3) return row_major_strides(dims);
  Dims s(dims.size());
  s[1] = 1;
  int64_t n = dims[1];
  for (size_t i = dims.size(); i-- > 2;) { s[i] = n; n *= dims[i]; }
  s[0] = n;
  return s;
}

namespace {
std::shared_ptr<void> aligned_zeroed(size_t bytes) {
  size_t rounded = (bytes + 63) / 64 * 64;
  void* p = rounded ? std::aligned_alloc(64, rounded) : std::aligned_alloc(64, 64);
  if (!p) throw Error(ErrorCode::memory, fmt::format("out of memory: {} bytes for a tensor", bytes));
  std::memset(p, 0, rounded ? rounded : 64);
  return {p, std::free};
}
}  // namespace

Tensor::Tensor(DType type, Dims dims) : type_(type), dims_(std::move(dims)) {
  count_ = element_count(dims_);
  constexpr size_t most = size_t{1} << 48;  // bytes that an address can name
  if (size_of(type) && static_cast<size_t>(count_) > most / size_of(type))
    throw Error(ErrorCode::memory, fmt::format("out of memory: {} elements of {} for a tensor", count_, name_of(type)));
  auto memory = aligned_zeroed(bytes());
  data_ = memory.get();
  owner_ = std::move(memory);
}

Tensor::Tensor(DType type, Dims dims, std::shared_ptr<const void> owner, const void* data)
    : type_(type), dims_(std::move(dims)), owner_(std::move(owner)), data_(data) {
  count_ = element_count(dims_);
}

Tensor Tensor::reshaped(Dims dims) const {
  if (element_count(dims) != count_)
    throw Error(ErrorCode::internal, fmt::format("reshape of {} to {}", to_string(dims_), to_string(dims)));
  Tensor t = *this;
  t.dims_ = std::move(dims);
  return t;
}

namespace {
template <class Out>
std::vector<Out> converted(const Tensor& t) {
  std::vector<Out> out(static_cast<size_t>(t.count()));
  auto fill = [&](auto tag) {
    using T = decltype(tag);
    auto v = t.values<T>();
    for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<Out>(v[i]);
  };
  switch (t.type()) {
    case DType::f32: fill(float{}); break;
    case DType::f64: fill(double{}); break;
    case DType::u8: fill(uint8_t{}); break;
    case DType::s8: fill(int8_t{}); break;
    case DType::u16: fill(uint16_t{}); break;
    case DType::s16: fill(int16_t{}); break;
    case DType::u32: fill(uint32_t{}); break;
    case DType::s32: fill(int32_t{}); break;
    case DType::u64: fill(uint64_t{}); break;
    case DType::s64: fill(int64_t{}); break;
    case DType::boolean: fill(uint8_t{}); break;
    default: throw Error(ErrorCode::model, fmt::format("a tensor of type {} can't be converted", name_of(t.type())));
  }
  return out;
}
}  // namespace

std::vector<float> Tensor::to_floats() const { return converted<float>(*this); }
std::vector<int64_t> Tensor::to_ints() const { return converted<int64_t>(*this); }

namespace {
void copy_axis(const char* from, char* to, const TensorView& f, const TensorView& t, size_t axis, size_t size) {
  if (axis == f.dims.size()) { std::memcpy(to, from, size); return; }
  const int64_t n = f.dims[axis], fs = f.strides[axis] * static_cast<int64_t>(size), ts = t.strides[axis] * static_cast<int64_t>(size);
  if (axis + 1 == f.dims.size()) {
    if (f.strides[axis] == 1 && t.strides[axis] == 1) { std::memcpy(to, from, static_cast<size_t>(n) * size); return; }
    switch (size) {
      case 1: for (int64_t i = 0; i < n; ++i) to[i * ts] = from[i * fs]; return;
      case 4: for (int64_t i = 0; i < n; ++i) std::memcpy(to + i * ts, from + i * fs, 4); return;
      default: for (int64_t i = 0; i < n; ++i) std::memcpy(to + i * ts, from + i * fs, size); return;
    }
  }
  for (int64_t i = 0; i < n; ++i) copy_axis(from + i * fs, to + i * ts, f, t, axis + 1, size);
}
}  // namespace

void copy(const TensorView& from, const TensorView& to) {
  const size_t size = size_of(from.type);
  if (from.type != to.type || from.dims.size() != to.dims.size() || size == 0)
    throw Error(ErrorCode::internal, "copy between tensors of different type or rank");
  for (int64_t d : from.dims)
    if (d == 0) return;
  copy_axis(static_cast<const char*>(from.data), static_cast<char*>(to.data), from, to, 0, size);
}

}  // namespace quern
