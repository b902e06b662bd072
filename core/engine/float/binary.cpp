// Two tensors with broadcasting: arithmetic, comparisons, logic, bits; and the operators of any number of inputs.
// Integers wrap as in two's complement; a division by zero gives 0 (ONNX leaves it open; the machine would stop).
#include <cmath>
#include <limits>

#include "core/engine/float/families.hpp"
#include "core/engine/float/functions.hpp"
#include "core/engine/float/strided.hpp"

namespace quern::own {
namespace {

template <class T> struct Wide { using type = T; };                            // arithmetic in T
template <> struct Wide<int8_t> { using type = uint32_t; };                    // unsigned, so that overflow is defined
template <> struct Wide<int16_t> { using type = uint32_t; };
template <> struct Wide<uint8_t> { using type = uint32_t; };
template <> struct Wide<uint16_t> { using type = uint32_t; };
template <> struct Wide<int32_t> { using type = uint32_t; };
template <> struct Wide<int64_t> { using type = uint64_t; };

struct Plus { template <class T> T operator()(T a, T b) const { using W = typename Wide<T>::type; return static_cast<T>(W(a) + W(b)); } };
struct Minus { template <class T> T operator()(T a, T b) const { using W = typename Wide<T>::type; return static_cast<T>(W(a) - W(b)); } };
struct Times { template <class T> T operator()(T a, T b) const { using W = typename Wide<T>::type; return static_cast<T>(W(a) * W(b)); } };
struct Over {
  template <class T> T operator()(T a, T b) const {
    if constexpr (std::is_floating_point_v<T>) return a / b;
    else {
      if (b == 0) return 0;
      if constexpr (std::is_signed_v<T>) { if (b == -1) return Minus{}(T{0}, a); }
      return static_cast<T>(a / b);
    }
  }
};
// NaN wins in Min and Max, as in numpy; of equal numbers the first.
struct Least { template <class T> T operator()(T a, T b) const { return a != a ? a : b < a || b != b ? b : a; } };
struct Largest { template <class T> T operator()(T a, T b) const { return a != a ? a : b > a || b != b ? b : a; } };

// The remainder has the sign of the divisor (Python), or of the dividend with fmod = 1 (C).
struct PythonMod {
  template <class T> T operator()(T a, T b) const {
    if constexpr (std::is_floating_point_v<T>) {
      const T r = std::fmod(a, b);
      return r != 0 && (r < 0) != (b < 0) ? r + b : r;
    } else {
      if (b == 0) return 0;
      if constexpr (std::is_signed_v<T>) {
        if (b == -1) return 0;
        const T r = static_cast<T>(a % b);
        return r != 0 && (r < 0) != (b < 0) ? static_cast<T>(r + b) : r;
      } else {
        return static_cast<T>(a % b);
      }
    }
  }
};
struct CMod {
  template <class T> T operator()(T a, T b) const {
    if constexpr (std::is_floating_point_v<T>) return std::fmod(a, b);
    else {
      if (b == 0) return 0;
      if constexpr (std::is_signed_v<T>) { if (b == -1) return 0; }
      return static_cast<T>(a % b);
    }
  }
};

#define QUERN_OWN_NUMBERS float, double, QUERN_OWN_INTEGERS

template <class O, class A, class B, class F>
PreparedKernel mapped(const Op& op, F f) {
  return op.in_place(Layout::any, [f](const Call& c) { map2<O, A, B>(c.out[0], c.in[0], c.in[1], f); });
}

void same_types(const Op& op) {
  if (op.type(0) != op.type(1))
    op.fail("the inputs of " + op.node().op + " have types " + std::string(name_of(op.type(0))) + " and " +
            std::string(name_of(op.type(1))) + "; they must be equal");
}

template <class F>
Made arithmetic(const Op& op) {
  same_types(op);
  Made made;
  dispatch<QUERN_OWN_NUMBERS>(op.type(), [&](auto tag) {
    using T = decltype(tag);
    made = mapped<T, T, T>(op, [](T a, T b) { return F{}(a, b); });
  });
  return made;
}

Made mod(const Op& op) { return op.node().integer("fmod", 0) ? arithmetic<CMod>(op) : arithmetic<PythonMod>(op); }

template <class T, class E>
T power_of(T base, E exponent) {
  if constexpr (std::is_integral_v<T> && std::is_integral_v<E>) {
    if (exponent < E{0}) return base == T{1} ? T{1} : base == static_cast<T>(-1) ? (exponent % 2 ? base : T{1}) : T{0};
    T result{1};
    for (auto e = static_cast<uint64_t>(exponent); e; e >>= 1) {
      if (e & 1) result = Times{}(result, base);
      base = Times{}(base, base);
    }
    return result;
  } else {
    const double p = pow(static_cast<double>(base), static_cast<double>(exponent));
    if constexpr (std::is_integral_v<T>) {
      const int64_t whole = to_integer(p, Round::to_zero);
      return static_cast<T>(whole);
    } else {
      return static_cast<T>(p);
    }
  }
}

Made power(const Op& op) {
  Made made;
  // A constant exponent of 2, 1/2 or -1 (normalisations) needs no general power.
  if (const Tensor* e = op.constant(1); e && e->count() == 1 && is_float(e->type()) && (e->type() == DType::f32 || e->type() == DType::f64)) {
    const double value = e->type() == DType::f32 ? e->values<float>()[0] : e->values<double>()[0];
    if (op.in(0).dims == op.out().dims)
      dispatch<float, double>(op.type(), [&](auto tag) {
        using T = decltype(tag);
        if (value == 2) made = op.in_place(Layout::any, [](const Call& c) { map1<T, T>(c.out[0], c.in[0], [](T x) { return x * x; }); });
        if (value == -1) made = op.in_place(Layout::any, [](const Call& c) { map1<T, T>(c.out[0], c.in[0], [](T x) { return 1 / x; }); });
        if (value == 0.5) made = op.in_place(Layout::any, [](const Call& c) { map1<T, T>(c.out[0], c.in[0], [](T x) { return std::sqrt(x + T{0}); }); });
      });
    if (made) return made;
  }
  dispatch<float, double, int32_t, int64_t>(op.type(0), [&](auto base) {
    dispatch<QUERN_OWN_NUMBERS>(op.type(1), [&](auto exponent) {
      using T = decltype(base);
      using E = decltype(exponent);
      made = mapped<T, T, E>(op, [](T b, E e) { return power_of(b, e); });
    });
  });
  return made;
}

template <class F>
Made compared(const Op& op) {
  same_types(op);
  Made made;
  const auto make = [&](auto tag) {
    using T = decltype(tag);
    made = mapped<uint8_t, T, T>(op, [](T a, T b) -> uint8_t { return F{}(a, b); });
  };
  if (op.type() == DType::boolean) make(uint8_t{});
  else dispatch<QUERN_OWN_NUMBERS>(op.type(), make);
  return made;
}

template <class F>
Made logical(const Op& op) {
  if (op.type(0) != DType::boolean || op.type(1) != DType::boolean) return {};
  return mapped<uint8_t, uint8_t, uint8_t>(op, [](uint8_t a, uint8_t b) -> uint8_t { return F{}(a != 0, b != 0); });
}

template <class F>
Made bitwise(const Op& op) {
  same_types(op);
  Made made;
  dispatch<QUERN_OWN_INTEGERS>(op.type(), [&](auto tag) {
    using T = decltype(tag);
    made = mapped<T, T, T>(op, [](T a, T b) { return static_cast<T>(F{}(a, b)); });
  });
  return made;
}

Made bit_shift(const Op& op) {
  same_types(op);
  const std::string direction = op.node().text("direction", "");
  if (direction != "LEFT" && direction != "RIGHT") op.fail("BitShift 'direction' must be LEFT or RIGHT, not '" + direction + "'");
  const bool left = direction == "LEFT";
  Made made;
  dispatch<uint8_t, uint16_t, uint32_t, uint64_t>(op.type(), [&](auto tag) {
    using T = decltype(tag);
    made = mapped<T, T, T>(op, [left](T a, T b) {
      if (b >= sizeof(T) * 8) return T{0};
      return static_cast<T>(left ? static_cast<uint64_t>(a) << b : static_cast<uint64_t>(a) >> b);
    });
  });
  return made;
}

// Any number of inputs, folded from the left: ((a + b) + c) + ...
template <class F, bool mean>
Made folded(const Op& op) {
  Made made;
  dispatch<QUERN_OWN_NUMBERS>(op.type(), [&](auto tag) {
    using T = decltype(tag);
    for (size_t i = 1; i < op.slots(); ++i)
      if (op.type(i) != op.type(0)) op.fail("the inputs of " + op.node().op + " have different types");
    const size_t n = op.slots();
    const auto body = [n](const Call& c) {
      if (n == 1) copy_strided(c.in[0], c.out[0]);
      else map2<T, T, T>(c.out[0], c.in[0], c.in[1], [](T a, T b) { return F{}(a, b); });
      for (size_t i = 2; i < n; ++i) map2<T, T, T>(c.out[0], c.out[0], c.in[i], [](T a, T b) { return F{}(a, b); });
      if constexpr (mean) map1<T, T>(c.out[0], c.out[0], [n](T x) { return static_cast<T>(x / static_cast<T>(n)); });
    };
    // In place only where no later input can be the memory of the output.
    made = n <= 2 ? op.in_place(Layout::any, body) : op.kernel(Layout::any, body);
  });
  return made;
}

Made prelu(const Op& op) {
  same_types(op);
  Made made;
  dispatch<float, double, int32_t, int64_t>(op.type(), [&](auto tag) {
    using T = decltype(tag);
    made = mapped<T, T, T>(op, [](T x, T slope) { return x < 0 ? Times{}(x, slope) : x; });
  });
  return made;
}

Made where(const Op& op) {
  if (op.type(0) != DType::boolean) op.fail("the condition of Where must be bool");
  if (op.type(1) != op.type(2)) op.fail("the two choices of Where have different types");
  if (!movable(op.type(1))) return {};
  Made made;
  dispatch_size(op.type(1), [&](auto tag) {
    using T = decltype(tag);
    made = op.kernel(Layout::any, [](const Call& c) {
      map3<T, uint8_t, T, T>(c.out[0], c.in[0], c.in[1], c.in[2], [](uint8_t k, T a, T b) { return k ? a : b; });
    });
  });
  return made;
}

struct Same { template <class T> bool operator()(T a, T b) const { return a == b; } };
struct Below { template <class T> bool operator()(T a, T b) const { return a < b; } };
struct Above { template <class T> bool operator()(T a, T b) const { return a > b; } };
struct AtMost { template <class T> bool operator()(T a, T b) const { return a <= b; } };
struct AtLeast { template <class T> bool operator()(T a, T b) const { return a >= b; } };
struct Both { bool operator()(bool a, bool b) const { return a && b; } };
struct Either { bool operator()(bool a, bool b) const { return a || b; } };
struct OneOf { bool operator()(bool a, bool b) const { return a != b; } };
struct BitAnd { template <class T> T operator()(T a, T b) const { return static_cast<T>(a & b); } };
struct BitOr { template <class T> T operator()(T a, T b) const { return static_cast<T>(a | b); } };
struct BitXor { template <class T> T operator()(T a, T b) const { return static_cast<T>(a ^ b); } };

constexpr Entry entries[] = {
    {"", "Add", arithmetic<Plus>}, {"", "Sub", arithmetic<Minus>}, {"", "Mul", arithmetic<Times>}, {"", "Div", arithmetic<Over>},
    {"", "Mod", mod}, {"", "Pow", power}, {"", "PRelu", prelu},
    {"", "Equal", compared<Same>}, {"", "Less", compared<Below>}, {"", "Greater", compared<Above>},
    {"", "LessOrEqual", compared<AtMost>}, {"", "GreaterOrEqual", compared<AtLeast>},
    {"", "And", logical<Both>}, {"", "Or", logical<Either>}, {"", "Xor", logical<OneOf>},
    {"", "BitwiseAnd", bitwise<BitAnd>}, {"", "BitwiseOr", bitwise<BitOr>}, {"", "BitwiseXor", bitwise<BitXor>},
    {"", "BitShift", bit_shift},
    {"", "Min", folded<Least, false>}, {"", "Max", folded<Largest, false>}, {"", "Sum", folded<Plus, false>},
    {"", "Mean", folded<Plus, true>}, {"", "Where", where},
};

}  // namespace

std::span<const Entry> binary_ops() { return entries; }

}  // namespace quern::own
