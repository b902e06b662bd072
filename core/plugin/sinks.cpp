#include "core/plugin/sinks.hpp"

#include <fmt/format.h>

#include "core/base/error.hpp"

namespace quern {
namespace {

constexpr uint32_t max_rank = 16;

quern_status* emit_table(void* self, quern_str name, uint32_t dtype, uint32_t rank, const int64_t* dims, const void* data) noexcept {
  try {
    auto& tables = *static_cast<std::map<std::string, Tensor>*>(self);
    const std::string key = text_of(name);
    const auto type = static_cast<DType>(dtype);
    if (key.empty()) return new_status(QUERN_INVALID_ARGUMENT, "a table without a name");
    if (size_of(type) == 0) return new_status(QUERN_INVALID_ARGUMENT, fmt::format("table {}: element type {} is unknown", key, dtype));
    if (rank > max_rank || (rank > 0 && !dims)) return new_status(QUERN_INVALID_ARGUMENT, fmt::format("table {}: rank {}", key, rank));
    for (uint32_t i = 0; i < rank; ++i)
      if (dims[i] < 0) return new_status(QUERN_INVALID_ARGUMENT, fmt::format("table {}: dimension {} is {}", key, i, dims[i]));
    Tensor t(type, Dims(dims, dims + rank));
    if (t.bytes() > 0) {
      if (!data) return new_status(QUERN_INVALID_ARGUMENT, fmt::format("table {}: no data", key));
      std::memcpy(t.mutable_bytes(), data, t.bytes());
    }
    if (!tables.emplace(key, std::move(t)).second) return new_status(QUERN_INVALID_ARGUMENT, fmt::format("table {} is given twice", key));
    return nullptr;
  } catch (...) {
    return status_of_exception();
  }
}

}  // namespace

quern_table_sink tensor_sink(std::map<std::string, Tensor>& to) {
  auto sink = abi_struct<quern_table_sink>();
  sink.self = &to;
  sink.emit = emit_table;
  return sink;
}

}  // namespace quern
