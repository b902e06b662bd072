// Element types. The numbers are those of ONNX's TensorProto.DataType and of the plugin ABI (QUERN_DTYPE_*), so a
// type never has to be translated on its way from a file to a kernel.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace quern {

enum class DType : uint32_t {
  undefined = 0, f32 = 1, u8 = 2, s8 = 3, u16 = 4, s16 = 5, s32 = 6, s64 = 7, string = 8, boolean = 9, f16 = 10,
  f64 = 11, u32 = 12, u64 = 13, bf16 = 16,
};

// Bytes of one element; 0 for undefined and string.
size_t size_of(DType type);
// "f32", "u8", ...; "undefined" for a number that is none of these.
std::string_view name_of(DType type);
// The inverse of name_of, also of numpy's and ONNX's words ("float32", "uint8", "FLOAT"); undefined when unknown.
DType dtype_from_name(std::string_view name);
inline bool is_float(DType t) { return t == DType::f32 || t == DType::f64 || t == DType::f16 || t == DType::bf16; }

template <class T> struct dtype_of;
template <> struct dtype_of<float> { static constexpr DType value = DType::f32; };
template <> struct dtype_of<double> { static constexpr DType value = DType::f64; };
template <> struct dtype_of<uint8_t> { static constexpr DType value = DType::u8; };
template <> struct dtype_of<int8_t> { static constexpr DType value = DType::s8; };
template <> struct dtype_of<uint16_t> { static constexpr DType value = DType::u16; };
template <> struct dtype_of<int16_t> { static constexpr DType value = DType::s16; };
template <> struct dtype_of<uint32_t> { static constexpr DType value = DType::u32; };
template <> struct dtype_of<int32_t> { static constexpr DType value = DType::s32; };
template <> struct dtype_of<uint64_t> { static constexpr DType value = DType::u64; };
template <> struct dtype_of<int64_t> { static constexpr DType value = DType::s64; };
template <> struct dtype_of<bool> { static constexpr DType value = DType::boolean; };

}  // namespace quern
