// From observed ranges to ranges a quantizer can have, and to scale and zero point.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/base/error.hpp"
#include "core/numeric/multiples.hpp"
#include "core/numeric/quantization.hpp"
#include "core/numeric/rounding.hpp"

namespace quern {
namespace {

void check_range(const Range& r) {
  if (!std::isfinite(r.low) || !std::isfinite(r.high) || r.low > r.high)
    throw Error(ErrorCode::internal, fmt::format("a quantizer can't have the range {} to {}", r.low, r.high));
}

// Tiny ranges are widened, then zero is included.
Range with_zero(Range r) {
  check_range(r);
  if (r.high - r.low <= asymmetric_tiny_range) {
    r.low -= asymmetric_tiny_range;
    r.high += asymmetric_tiny_range;
  }
  return {std::min(r.low, 0.0), std::max(r.high, 0.0)};
}

// Moves one side outwards so that zero is code `zero` of 0..top. Of the two ways the wider range is taken, so that
// nothing observed is cut off.
Range with_zero_at(const Range& r, double zero, double top) {
  const bool move_low = zero < top, move_high = zero > 0;
  const Range a{move_low ? zero / (zero - top) * r.high + 0.0 : r.low, r.high};  // + 0.0: never -0
  const Range b{r.low, move_high ? (zero - top) / zero * r.low + 0.0 : r.high};
  if (!move_high) return a;
  if (!move_low) return b;
  return a.high - a.low > b.high - b.low ? a : b;
}

}  // namespace

DType NumberFormat::storage() const {
  if (bits <= 8) return is_signed ? DType::s8 : DType::u8;
  if (bits <= 16) return is_signed ? DType::s16 : DType::u16;
  return is_signed ? DType::s32 : DType::u32;
}

NumberFormat make_format(int bits, bool is_signed, bool narrow) {
  if (bits < 1 || bits > 32) throw Error(ErrorCode::plugin, fmt::format("a number format has 1 to 32 bits, not {}", bits));
  NumberFormat f;
  f.bits = bits;
  f.is_signed = is_signed;
  if (is_signed) {
    f.qmax = (int64_t{1} << (bits - 1)) - 1;
    f.qmin = narrow ? -f.qmax : -f.qmax - 1;
  } else {
    f.qmin = 0;
    f.qmax = (int64_t{1} << bits) - 1;
  }
  if (f.qmax == f.qmin) throw Error(ErrorCode::plugin, "a narrow signed format needs at least 2 bits");
  return f;
}

std::vector<Range> symmetric_ranges(std::span<const double> abs_max, const NumberFormat& format) {
  double largest = 0;
  for (double m : abs_max) {
    check_range({0, m});
    largest = std::max(largest, m);
  }
  const double floor = std::max(symmetric_floor, channel_floor_ratio * largest);
  std::vector<Range> out;
  out.reserve(abs_max.size());
  for (double m : abs_max) {
    m = std::max(m, floor);
    if (!format.is_signed) out.push_back({0, m});
    else if (format.qmin == -format.qmax) out.push_back({-m, m});
    else if (format.qmax <= 0) out.push_back({-m, 0});  // 1 bit: codes -1 and 0
    // The code qmin lies one step beyond -m: -m * L / (L - 2) for the full format.
    else out.push_back({m * static_cast<double>(format.qmin) / static_cast<double>(format.qmax), m});
  }
  return out;
}

std::vector<Range> asymmetric_ranges(std::span<const Range> observed, const NumberFormat& format) {
  const double top = static_cast<double>(format.levels() - 1);
  std::vector<Range> out;
  out.reserve(observed.size());
  for (const Range& o : observed) {
    const Range r = with_zero(o);
    const double zero = static_cast<double>(to_integer(-r.low * top / (r.high - r.low), Round::half_even));
    out.push_back(with_zero_at(r, zero, top));
  }
  return out;
}

std::vector<Range> unified_ranges(std::span<const Range> observed, const NumberFormat& format) {
  const double top = static_cast<double>(format.levels() - 1);
  double sum = 0;
  std::vector<Range> out;
  for (const Range& o : observed) {
    out.push_back(with_zero(o));
    sum += -out.back().low / ((out.back().high - out.back().low) / top);
  }
  if (out.empty()) return out;
  const double mean = sum / static_cast<double>(out.size());
  const double zero = std::clamp(static_cast<double>(to_integer(mean, Round::half_even)), 0.0, top);
  for (Range& r : out) r = with_zero_at(r, zero, top);
  return out;
}

QuantParams params_from_ranges(std::span<const Range> ranges, const NumberFormat& format, int axis) {
  if (ranges.empty() || (axis < 0 && ranges.size() != 1))
    throw Error(ErrorCode::internal, fmt::format("{} ranges for axis {}", ranges.size(), axis));
  QuantParams p;
  p.format = format;
  p.axis = axis;
  for (const Range& r : ranges) {
    check_range(r);
    const double step = (r.high - r.low) / static_cast<double>(format.levels() - 1);
    const float scale = static_cast<float>(step);
    if (!(scale > 0) || !std::isfinite(scale))
      throw Error(ErrorCode::internal, fmt::format("the range {} to {} gives no usable scale", r.low, r.high));
    p.scale.push_back(scale);
    // By the step before its rounding to float: with 32 bits the rounded one would be off by hundreds of codes.
    p.zero_point.push_back(std::clamp(format.qmin - to_integer(r.low / step, Round::half_even), format.qmin, format.qmax));
  }
  return p;
}

QuantParams to_power_of_two(const QuantParams& params, int min_exponent, int max_exponent) {
  QuantParams p = params;
  for (float& s : p.scale) {
    int exponent = 0;
    const float fraction = std::frexp(s, &exponent);  // s = fraction * 2^exponent, fraction in [0.5, 1)
    if (fraction == 0.5f) --exponent;
    exponent = std::clamp(exponent, std::max(min_exponent, -126), std::min(max_exponent, 127));
    s = std::ldexp(1.0f, exponent);
  }
  return p;
}

QuantParams to_multiples(const QuantParams& params, int lowest, int highest, double least) {
  QuantParams p = params;
  const double largest = *std::max_element(p.scale.begin(), p.scale.end());
  const double step = std::max(largest / highest, least);
  for (float& s : p.scale) {
    // A scale that is a multiple already, but for its rounding to float, stays one.
    const double times = std::ceil(s / step * (1 - 1e-6));
    s = static_cast<float>(step * std::clamp(times, static_cast<double>(lowest), static_cast<double>(highest)));
  }
  return p;
}

float fake_quantize_ov(float x, float il, float ih, float ol, float oh, int64_t levels) {
  if (x <= std::min(il, ih)) return ol;
  if (x > std::max(il, ih)) return oh;
  const float top = static_cast<float>(levels - 1);
  return to_float(to_integer((x - il) / (ih - il) * top, Round::half_even)) / top * (oh - ol) + ol;
}

}  // namespace quern
