#include "core/onnx/tensor_proto.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "core/base/digest.hpp"
#include "core/base/error.hpp"

namespace quern {
namespace {

constexpr size_t large = size_t{64} << 10;         // bytes from which data is looked at instead of copied
constexpr int64_t most_bytes = int64_t{1} << 48;   // of one tensor

[[noreturn]] void fail(const std::string& what, const std::string& message) {
  throw Error(ErrorCode::model, fmt::format("{}: {}", what, message));
}

std::string type_word(int type) {
  static const std::map<int, const char*> words{
      {0, "UNDEFINED"}, {8, "STRING"}, {14, "COMPLEX64"}, {15, "COMPLEX128"}, {17, "FLOAT8E4M3FN"},
      {18, "FLOAT8E4M3FNUZ"}, {19, "FLOAT8E5M2"}, {20, "FLOAT8E5M2FNUZ"}, {21, "UINT4"}, {22, "INT4"},
      {23, "FLOAT4E2M1"}, {24, "FLOAT8E8M0"}, {25, "UINT2"}, {26, "INT2"}};
  auto it = words.find(type);
  return it == words.end() ? fmt::format("number {}", type) : it->second;
}

Dims dims_of(const onnx::TensorProto& proto, size_t element, const std::string& what) {
  Dims dims(proto.dims().begin(), proto.dims().end());
  if (dims.size() > 64) fail(what, fmt::format("has {} dimensions", dims.size()));
  int64_t bytes = static_cast<int64_t>(element);
  for (int64_t d : dims) {
    if (d < 0) fail(what, fmt::format("has a negative dimension: {}", d));
    if (d == 0) continue;
    if (bytes > most_bytes / d) fail(what, "declares more elements than any file can hold");
    bytes *= d;
  }
  return dims;
}

// Elements of a typed field, narrowed to T; values outside T are a fault of the file.
template <class T, class Field>
Tensor from_field(const Field& field, DType type, Dims dims, int64_t count, const std::string& what, const char* name) {
  if (field.size() != count)
    fail(what, fmt::format("its shape {} has {} elements, but {} holds {}", to_string(dims), count, name, field.size()));
  Tensor t(type, std::move(dims));
  T* out = static_cast<T*>(t.mutable_bytes());
  for (int i = 0; i < field.size(); ++i) {
    const auto v = field.Get(i);
    if constexpr (std::is_integral_v<T>) {
      if (static_cast<__int128>(v) < static_cast<__int128>(std::numeric_limits<T>::min()) ||
          static_cast<__int128>(v) > static_cast<__int128>(std::numeric_limits<T>::max()))
        fail(what, fmt::format("{} holds {}, which is no {}", name, v, name_of(type)));
    }
    out[i] = static_cast<T>(v);
  }
  return t;
}

Tensor from_bytes(const void* data, DType type, Dims dims, size_t bytes) {
  Tensor t(type, std::move(dims));
  if (bytes) std::memcpy(t.mutable_bytes(), data, bytes);
  if (type == DType::boolean)
    for (uint8_t& b : t.mutable_values<uint8_t>()) b = b != 0;
  return t;
}

uint64_t number(const std::string& text, const std::string& what, const std::string& key) {
  uint64_t v = 0;
  bool good = !text.empty() && text.size() <= 19;
  for (char c : text) {
    good = good && c >= '0' && c <= '9';
    v = v * 10 + static_cast<uint64_t>(c - '0');
  }
  if (!good) fail(what, fmt::format("external data: '{}' is '{}', not a number", key, text.substr(0, 40)));
  return v;
}

Tensor from_external(const onnx::TensorProto& proto, DType type, Dims dims, size_t bytes, ExternalData& external,
                     const std::string& what) {
  std::string location;
  uint64_t offset = 0;
  uint64_t length = bytes;
  for (const auto& entry : proto.external_data()) {
    if (entry.key() == "location") location = entry.value();
    else if (entry.key() == "offset") offset = number(entry.value(), what, "offset");
    else if (entry.key() == "length") length = number(entry.value(), what, "length");
  }
  if (length != bytes)
    fail(what, fmt::format("its shape {} of {} needs {} bytes, but its external data is said to have {}", to_string(dims),
                           name_of(type), bytes, length));
  auto file = external.file(location, what);
  const auto all = file->bytes();
  if (offset > all.size() || bytes > all.size() - offset)
    fail(what, fmt::format("its external data (bytes {} to {} of '{}') is outside the file of {} bytes", offset,
                           offset + bytes, location, all.size()));
  const std::byte* data = all.data() + offset;
  const bool aligned = reinterpret_cast<uintptr_t>(data) % size_of(type) == 0;
  if (bytes > large && aligned && type != DType::boolean) return Tensor(type, std::move(dims), file, data);
  return from_bytes(data, type, std::move(dims), bytes);
}

}  // namespace

DType dtype_of_proto(int type, const std::string& what) {
  const auto t = static_cast<DType>(type);
  if (type > 0 && size_of(t) > 0) return t;
  throw Error(ErrorCode::model, fmt::format("{}: the element type {} is not supported", what, type_word(type)));
}

std::shared_ptr<const MappedFile> ExternalData::file(const std::string& location, const std::string& what) {
  std::string shown = location.substr(0, 200);
  for (char& c : shown) c = static_cast<unsigned char>(c) < ' ' ? '?' : c;
  if (folder_.empty()) fail(what, "has external data, but the model was not read from a folder");
  if (location.empty() || location.find('\0') != std::string::npos || location.find('\\') != std::string::npos)
    fail(what, fmt::format("external data: '{}' is not the name of a file", shown));
  if (auto it = files_.find(location); it != files_.end()) return it->second;
  const fs::path relative(location);
  if (relative.is_absolute()) fail(what, fmt::format("external data: '{}' is an absolute path; it must lie beside the model", shown));
  for (const auto& part : relative)
    if (part == "..") fail(what, fmt::format("external data: '{}' leads out of the model's folder", shown));
  std::error_code error;
  const fs::path root = fs::canonical(folder_, error);
  if (error) fail(what, fmt::format("external data: the folder '{}' can't be read", folder_.string()));
  const fs::path full = fs::canonical(root / relative, error);
  if (error) fail(what, fmt::format("external data: there is no file '{}' beside the model", shown));
  // A symbolic link may point anywhere: what counts is where it ends.
  const auto inside = std::mismatch(root.begin(), root.end(), full.begin(), full.end());
  if (inside.first != root.end()) fail(what, fmt::format("external data: '{}' leads out of the model's folder", shown));
  if (!fs::is_regular_file(full, error)) fail(what, fmt::format("external data: '{}' is not a regular file", shown));
  return files_[location] = MappedFile::open(full);
}

std::string ExternalData::digest_with(std::span<const std::byte> model) const {
  constexpr size_t piece = size_t{16} << 20;  // let go of before the next: a large file does not fill the memory
  Sha256 sum;
  sum.add(model);
  for (const auto& [location, file] : files_) {
    const auto all = file->bytes();
    sum.add(fmt::format("{}{}{}{}", '\0', location, '\0', all.size()));
    sum.add(std::string_view("", 1));
    for (size_t at = 0; at < all.size(); at += piece) {
      const auto bytes = all.subspan(at, std::min(piece, all.size() - at));
      sum.add(bytes);
      file->release(bytes.data(), bytes.size());
    }
  }
  return sum.hex();
}

Tensor take_tensor(onnx::TensorProto& proto, ExternalData& external, const std::string& what) {
  const DType type = dtype_of_proto(proto.data_type(), what);
  const size_t element = size_of(type);
  Dims dims = dims_of(proto, element, what);
  if (proto.has_segment()) fail(what, "is stored in segments, which Quern does not read");
  const int64_t count = element_count(dims);
  const size_t bytes = static_cast<size_t>(count) * element;
  if (proto.data_location() == onnx::TensorProto::EXTERNAL) return from_external(proto, type, std::move(dims), bytes, external, what);
  if (proto.has_raw_data()) {
    if (proto.raw_data().size() != bytes)
      fail(what, fmt::format("its shape {} of {} needs {} bytes, but it holds {}", to_string(dims), name_of(type), bytes,
                             proto.raw_data().size()));
    const bool aligned = reinterpret_cast<uintptr_t>(proto.raw_data().data()) % element == 0;
    if (bytes > large && aligned && type != DType::boolean) {
      std::shared_ptr<const std::string> owner(proto.release_raw_data());
      const void* data = owner->data();
      return Tensor(type, std::move(dims), std::move(owner), data);
    }
    Tensor t = from_bytes(proto.raw_data().data(), type, std::move(dims), bytes);
    delete proto.release_raw_data();
    return t;
  }
  auto from_int32 = [&](auto tag) {
    return from_field<decltype(tag)>(proto.int32_data(), type, std::move(dims), count, what, "int32_data");
  };
  switch (type) {
    case DType::f32: return from_field<float>(proto.float_data(), type, std::move(dims), count, what, "float_data");
    case DType::f64: return from_field<double>(proto.double_data(), type, std::move(dims), count, what, "double_data");
    case DType::s64: return from_field<int64_t>(proto.int64_data(), type, std::move(dims), count, what, "int64_data");
    case DType::u32: return from_field<uint32_t>(proto.uint64_data(), type, std::move(dims), count, what, "uint64_data");
    case DType::u64: return from_field<uint64_t>(proto.uint64_data(), type, std::move(dims), count, what, "uint64_data");
    case DType::s32: return from_int32(int32_t{});
    case DType::s16: return from_int32(int16_t{});
    case DType::u16: case DType::f16: case DType::bf16: return from_int32(uint16_t{});
    case DType::s8: return from_int32(int8_t{});
    case DType::u8: return from_int32(uint8_t{});
    case DType::boolean: {
      Tensor t = from_int32(uint8_t{});
      for (uint8_t& b : t.mutable_values<uint8_t>()) b = b != 0;
      return t;
    }
    default: fail(what, fmt::format("the element type {} is not supported", name_of(type)));
  }
}

void put_tensor(const Tensor& tensor, const std::string& name, onnx::TensorProto* proto) {
  proto->set_name(name);
  proto->set_data_type(static_cast<int32_t>(tensor.type()));
  for (int64_t d : tensor.dims()) proto->add_dims(d);
  proto->set_raw_data(tensor.data(), tensor.bytes());
}

}  // namespace quern
