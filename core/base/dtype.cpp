#include "core/base/dtype.hpp"

#include <algorithm>
#include <array>
#include <string>

namespace quern {
namespace {

struct Row { DType type; size_t size; std::string_view name, numpy, onnx; };
constexpr std::array<Row, 15> rows{{
    {DType::f32, 4, "f32", "float32", "float"},   {DType::u8, 1, "u8", "uint8", "uint8"},
    {DType::s8, 1, "s8", "int8", "int8"},         {DType::u16, 2, "u16", "uint16", "uint16"},
    {DType::s16, 2, "s16", "int16", "int16"},     {DType::s32, 4, "s32", "int32", "int32"},
    {DType::s64, 8, "s64", "int64", "int64"},     {DType::string, 0, "string", "object", "string"},
    {DType::boolean, 1, "bool", "bool", "bool"},  {DType::f16, 2, "f16", "float16", "float16"},
    {DType::f64, 8, "f64", "float64", "double"},  {DType::u32, 4, "u32", "uint32", "uint32"},
    {DType::u64, 8, "u64", "uint64", "uint64"},   {DType::bf16, 2, "bf16", "bfloat16", "bfloat16"},
    {DType::undefined, 0, "undefined", "", ""},
}};
const Row& row_of(DType type) {
  for (const Row& r : rows)
    if (r.type == type) return r;
  return rows.back();
}

}  // namespace

size_t size_of(DType type) { return row_of(type).size; }
std::string_view name_of(DType type) { return row_of(type).name; }

DType dtype_from_name(std::string_view name) {
  std::string lower(name);
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  for (const Row& r : rows)
    if (lower == r.name || (!r.numpy.empty() && lower == r.numpy) || (!r.onnx.empty() && lower == r.onnx)) return r.type;
  return DType::undefined;
}

}  // namespace quern
