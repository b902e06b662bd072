// Number formats, and from a range to scale, zero point and levels.
//
// Formulas: Intel POT / NNCF as in their sources (symmetric floor 8e-5 and 1 % of the largest channel, tiny asymmetric
// range 8e-4, zero made exact by widening only); constants are named below, the golden values are tests.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "core/base/dtype.hpp"
#include "core/base/tensor.hpp"

namespace quern {

// An integer format: bits 1..32, and the codes in use (qmin..qmax; narrow: -(2^(b-1)-1) .. 2^(b-1)-1).
struct NumberFormat {
  int bits = 8;
  bool is_signed = true;
  int64_t qmin = -128, qmax = 127;
  int64_t levels() const { return qmax - qmin + 1; }
  // Container in memory: u8/s8 for <= 8 bits, u16/s16, u32/s32.
  DType storage() const;
  bool operator==(const NumberFormat&) const = default;
};
NumberFormat make_format(int bits, bool is_signed, bool narrow);

// real = (q - zero_point) * scale. One scale, or one per index of `axis` of the tensor.
struct QuantParams {
  NumberFormat format;
  int axis = -1;                   // -1: per tensor
  std::vector<float> scale;        // > 0, finite
  std::vector<int64_t> zero_point; // as many as scales; within qmin..qmax
  bool operator==(const QuantParams&) const = default;
};

struct Range { double low = 0, high = 0; };

inline constexpr double symmetric_floor = 8e-5;         // smallest |max| of a symmetric range
inline constexpr double channel_floor_ratio = 0.01;     // no channel below 1 % of the largest one
inline constexpr double asymmetric_tiny_range = 8e-4;   // a range this narrow is widened by as much on both sides

// [-M*L/(L-2), M] (signed), [0, M] (unsigned), [-M, M] (narrow), per channel of `abs_max`.
std::vector<Range> symmetric_ranges(std::span<const double> abs_max, const NumberFormat& format);
// Zero included, made exactly representable by widening one side; per channel.
std::vector<Range> asymmetric_ranges(std::span<const Range> observed, const NumberFormat& format);
// Per-channel asymmetric with one zero point for all (POT's unified_zeropoint).
std::vector<Range> unified_ranges(std::span<const Range> observed, const NumberFormat& format);

// scale = (high - low) / (levels - 1) rounded to float once, zero_point = qmin - rne(low / scale), clamped.
QuantParams params_from_ranges(std::span<const Range> ranges, const NumberFormat& format, int axis);
// scale restricted to powers of two, 2^min..2^max: the smallest that covers the range.
QuantParams to_power_of_two(const QuantParams& params, int min_exponent, int max_exponent);

// ONNX QuantizeLinear: saturate(rne(x / s) + z), x / s in f32. NaN -> zero point. `out` has the storage type.
void quantize(const TensorView& in, const QuantParams& params, const TensorView& out);
// ONNX DequantizeLinear: float(q - z) * s in f32.
void dequantize(const TensorView& in, const QuantParams& params, const TensorView& out);
// dequantize(quantize(x)) without the integers in between: the same floats.
void fake_quantize(const TensorView& in, const QuantParams& params, const TensorView& out);
Tensor quantize(const Tensor& in, const QuantParams& params);
Tensor fake_quantize(const Tensor& in, const QuantParams& params);

// Intel FakeQuantize in its five-argument form (float), for import and comparison with POT.
float fake_quantize_ov(float x, float il, float ih, float ol, float oh, int64_t levels);

}  // namespace quern
