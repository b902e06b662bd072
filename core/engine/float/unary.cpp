// Functions of one number, tests that give bool, and Cast.
#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "core/engine/float/families.hpp"
#include "core/engine/float/functions.hpp"
#include "core/engine/float/mapped.hpp"
#include "core/engine/float/strided.hpp"
#include "core/numeric/rounding_f32.hpp"

namespace quern::own {
namespace {

template <class T>
T wrapping_negate(T x) {
  if constexpr (std::is_floating_point_v<T>) return -x;
  else return static_cast<T>(0 - static_cast<std::make_unsigned_t<T>>(x));
}

Made abs(const Op& op) {
  Made made;
  dispatch<float, double, QUERN_OWN_INTEGERS>(op.type(), [&](auto tag) {
    using T = decltype(tag);
    if constexpr (std::is_floating_point_v<T>) made = mapped<T>(op, [](T x) { return std::fabs(x); });
    else made = mapped<T>(op, [](T x) { return x < T{0} ? wrapping_negate(x) : x; });
  });
  return made;
}

Made neg(const Op& op) {
  Made made;
  dispatch<float, double, int8_t, int16_t, int32_t, int64_t>(op.type(), [&](auto tag) {
    using T = decltype(tag);
    made = mapped<T>(op, [](T x) { return wrapping_negate(x); });
  });
  return made;
}

Made sign(const Op& op) {
  Made made;
  dispatch<float, double, QUERN_OWN_INTEGERS>(op.type(), [&](auto tag) {
    using T = decltype(tag);
    made = mapped<T>(op, [](T x) { return x > T{0} ? T{1} : x < T{0} ? static_cast<T>(-1) : x; });  // 0 and NaN stay
  });
  return made;
}

// f32 exponentials in pieces, by the array function.
Made exp(const Op& op) {
  if (op.type() == DType::f32)
    return op.in_place(Layout::any, [](const Call& c) { map_blocks<float>(c.out[0], c.in[0], portable::exp_array); });
  return in_double(op, [](double x) { return portable::exp(x); });
}

Made log(const Op& op) { return in_double(op, [](double x) { return portable::log(x); }); }
Made sine(const Op& op) { return in_double(op, [](double x) { return sin(x); }); }
Made cosine(const Op& op) { return in_double(op, [](double x) { return cos(x); }); }
Made sqrt(const Op& op) { return plain(op, [](auto x) { return std::sqrt(x); }); }
Made reciprocal(const Op& op) { return plain(op, [](auto x) { return 1 / x; }); }
template <float (*f32)(float), class F>
Made whole(const Op& op, F f64) {
  if (op.type() == DType::f32) return mapped<float>(op, [](float x) { return f32(x); });
  if (op.type() == DType::f64) return mapped<double>(op, f64);
  return {};
}
Made floor(const Op& op) { return whole<round_down>(op, [](double x) { return round_to(x, Round::floor); }); }
Made ceil(const Op& op) { return whole<round_up>(op, [](double x) { return -round_to(-x, Round::floor); }); }
Made round(const Op& op) { return whole<nearest_even>(op, [](double x) { return round_to(x, Round::half_even); }); }

template <class T, class F>
PreparedKernel tested(const Op& op, F f) {
  return op.in_place(Layout::any, [f](const Call& c) { map1<uint8_t, T>(c.out[0], c.in[0], f); });
}

Made not_op(const Op& op) {
  if (op.type() != DType::boolean) return {};
  return tested<uint8_t>(op, [](uint8_t x) -> uint8_t { return x == 0; });
}

Made is_nan(const Op& op) {
  if (op.type() == DType::f32) return tested<float>(op, [](float x) -> uint8_t { return x != x; });
  if (op.type() == DType::f64) return tested<double>(op, [](double x) -> uint8_t { return x != x; });
  return {};
}

Made is_inf(const Op& op) {
  const bool positive = op.node().integer("detect_positive", 1) != 0, negative = op.node().integer("detect_negative", 1) != 0;
  const auto test = [positive, negative](auto x) -> uint8_t {
    const auto inf = std::numeric_limits<decltype(x)>::infinity();
    return (positive && x == inf) || (negative && x == -inf);
  };
  if (op.type() == DType::f32) return tested<float>(op, test);
  if (op.type() == DType::f64) return tested<double>(op, test);
  return {};
}

Made bitwise_not(const Op& op) {
  Made made;
  dispatch<QUERN_OWN_INTEGERS>(op.type(), [&](auto tag) {
    using T = decltype(tag);
    made = mapped<T>(op, [](T x) { return static_cast<T>(~x); });
  });
  return made;
}

// ---- Cast ----------------------------------------------------------------------------------------------------------------

struct Half { uint16_t bits; };
struct Brain { uint16_t bits; };
struct Bool { uint8_t value; };

uint16_t to_brain(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  if (x != x) return static_cast<uint16_t>((bits >> 16) | 0x40);
  const uint32_t odd = (bits >> 16) & 1;
  return static_cast<uint16_t>((bits + 0x7fff + odd) >> 16);
}

float from_brain(uint16_t b) {
  const uint32_t bits = static_cast<uint32_t>(b) << 16;
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

// Floats to integers: toward zero, saturating (ONNX leaves what does not fit open), NaN is 0. Integers wrap.
template <class To, class From>
To convert(From from) {
  if constexpr (std::is_same_v<From, Half>) return convert<To>(half_value(from.bits));
  else if constexpr (std::is_same_v<From, Brain>) return convert<To>(from_brain(from.bits));
  else if constexpr (std::is_same_v<From, Bool>) return convert<To>(static_cast<uint8_t>(from.value != 0));
  else if constexpr (std::is_same_v<To, Half>) return {half_bits(static_cast<float>(from))};
  else if constexpr (std::is_same_v<To, Brain>) return {to_brain(static_cast<float>(from))};
  else if constexpr (std::is_same_v<To, Bool>) return {static_cast<uint8_t>(from != From{0})};
  else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    if constexpr (std::is_same_v<To, uint64_t>) {
      if (from >= From{9223372036854775808.0}) return from < From{18446744073709551616.0} ? static_cast<uint64_t>(from) : ~uint64_t{0};
    }
    const int64_t whole = to_integer(from, Round::to_zero);
    if constexpr (std::is_same_v<To, int64_t>) return whole;
    if (whole < 0 && std::is_unsigned_v<To>) return 0;
    if constexpr (sizeof(To) < 8) {
      if (whole < static_cast<int64_t>(std::numeric_limits<To>::min())) return std::numeric_limits<To>::min();
      if (whole > static_cast<int64_t>(std::numeric_limits<To>::max())) return std::numeric_limits<To>::max();
    }
    return static_cast<To>(whole);
  } else {
    return static_cast<To>(from);
  }
}

template <class F>
bool with_type(DType type, F&& f) {
  switch (type) {
    case DType::f16: f(Half{}); return true;
    case DType::bf16: f(Brain{}); return true;
    case DType::boolean: f(Bool{}); return true;
    default: return dispatch<float, double, QUERN_OWN_INTEGERS>(type, f);
  }
}

Made cast(const Op& op) {
  const DType from = op.type(), to = op.out().dtype;
  if (from == to) return op.view(Layout::any);
  Made made;
  with_type(from, [&](auto in) {
    with_type(to, [&](auto out) {
      using In = decltype(in);
      using Out = decltype(out);
      const auto body = [](const Call& c) { map1<Out, In>(c.out[0], c.in[0], [](In x) { return convert<Out>(x); }); };
      made = op.kernel(Layout::any, body);
    });
  });
  return made;
}

constexpr Entry entries[] = {
    {"", "Abs", abs}, {"", "Neg", neg}, {"", "Sign", sign}, {"", "Exp", exp}, {"", "Log", log}, {"", "Sin", sine},
    {"", "Cos", cosine}, {"", "Sqrt", sqrt}, {"", "Reciprocal", reciprocal}, {"", "Floor", floor}, {"", "Ceil", ceil},
    {"", "Round", round}, {"", "Not", not_op}, {"", "IsNaN", is_nan}, {"", "IsInf", is_inf},
    {"", "BitwiseNot", bitwise_not}, {"", "Cast", cast}, {"", "CastLike", cast},
};

}  // namespace

std::span<const Entry> unary_ops() { return entries; }

}  // namespace quern::own
