// Element-wise operators: the output has the (broadcast) shape of the inputs.
#include <algorithm>
#include <functional>

#include "core/base/error.hpp"
#include "core/graph/shape_rules.hpp"

namespace quern::shape_rules {
namespace {

Dims joined(const RuleScope& s, std::span<const int64_t> a, std::span<const int64_t> b) {
  try {
    return broadcast(a, b);
  } catch (const Error& e) {
    s.fail(e.message());
  }
}

std::optional<Dims> broadcast_all(const RuleScope& s, size_t from = 0) {
  std::optional<Dims> dims = Dims{};
  for (size_t i = from; i < s.count(); ++i) {
    if (!s.dims(i)) return {};
    dims = joined(s, *dims, *s.dims(i));
  }
  return dims;
}

using Combine = std::function<int64_t(int64_t, int64_t)>;

// Integer data of an element-wise node of two inputs, where both are known.
std::optional<Ints> combined(const RuleScope& s, size_t a, size_t b, const Dims& out, const Combine& f) {
  auto x = s.ints(a), y = s.ints(b);
  if (!x || !y || out.size() > 1) return {};  // shapes are scalars and rows
  const int64_t n = product_or_unknown(out);
  if (n < 0 || n > data_limit) return {};
  Ints v(static_cast<size_t>(n));
  for (size_t i = 0; i < v.size(); ++i) {
    const int64_t p = (*x)[x->size() == 1 ? 0 : i], q = (*y)[y->size() == 1 ? 0 : i];
    v[i] = known(p) && known(q) ? f(p, q) : unknown_element;
  }
  return v;
}

Combine arithmetic(const std::string& op) {
  if (op == "Add") return [](int64_t a, int64_t b) { return __builtin_add_overflow(a, b, &a) ? unknown_element : a; };
  if (op == "Sub") return [](int64_t a, int64_t b) { return __builtin_sub_overflow(a, b, &a) ? unknown_element : a; };
  if (op == "Mul") return [](int64_t a, int64_t b) { return __builtin_mul_overflow(a, b, &a) ? unknown_element : a; };
  if (op == "Div") return [=](int64_t a, int64_t b) { return b == 0 || b == -1 ? (b == -1 ? -a : unknown_element) : a / b; };
  if (op == "Mod") return [=](int64_t a, int64_t b) {
    if (b == 0 || b == -1) return b == 0 ? unknown_element : int64_t{0};
    const int64_t r = a % b;
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
  };
  if (op == "Min") return [](int64_t a, int64_t b) { return std::min(a, b); };
  if (op == "Max") return [](int64_t a, int64_t b) { return std::max(a, b); };
  if (op == "Equal") return [](int64_t a, int64_t b) { return int64_t{a == b}; };
  if (op == "Greater") return [](int64_t a, int64_t b) { return int64_t{a > b}; };
  if (op == "Less") return [](int64_t a, int64_t b) { return int64_t{a < b}; };
  if (op == "GreaterOrEqual") return [](int64_t a, int64_t b) { return int64_t{a >= b}; };
  if (op == "LessOrEqual") return [](int64_t a, int64_t b) { return int64_t{a <= b}; };
  if (op == "And") return [](int64_t a, int64_t b) { return int64_t{a && b}; };
  if (op == "Or") return [](int64_t a, int64_t b) { return int64_t{a || b}; };
  return {};
}

Outputs binary_as(const RuleScope& s, DType type) {
  s.in(0), s.in(1);
  auto dims = broadcast_all(s);
  if (dims && s.count() == 2) {
    const Combine f = arithmetic(s.node.op);
    if (f && !(s.node.op == "Mod" && s.node.integer("fmod", 0)))
      if (auto v = combined(s, 0, 1, *dims, f)) return {RuleScope::make_data(type, *dims, *v)};
  }
  return {RuleScope::make(type, dims)};
}

Outputs binary(const RuleScope& s) { return binary_as(s, s.same_type(0, 2)); }
Outputs comparison(const RuleScope& s) { return s.same_type(0, 2), binary_as(s, DType::boolean); }
Outputs power(const RuleScope& s) { return {RuleScope::make(s.in(0).dtype, broadcast_all(s))}; }

Outputs variadic(const RuleScope& s) {
  s.in(0);
  const DType type = s.same_type(0, s.count());
  if (s.count() == 2) return binary_as(s, type);
  return {RuleScope::make(type, broadcast_all(s))};
}

Outputs unary(const RuleScope& s) { return s.in(0), Outputs{s.like(0)}; }
Outputs unary_boolean(const RuleScope& s) { return s.in(0), Outputs{RuleScope::make(DType::boolean, s.like(0).dims)}; }

Outputs negate(const RuleScope& s) {
  KnownTensor out = unary(s)[0];
  if (auto v = s.ints(0); v && out.dims && s.dtype(0) != DType::boolean) {
    for (int64_t& e : *v) e = known(e) ? -e : e;
    return {RuleScope::make_data(out.dtype, *out.dims, *v)};
  }
  return {out};
}

// Slope and limits broadcast to the first input.
Outputs prelu(const RuleScope& s) {
  s.in(1);
  auto dims = broadcast_all(s);
  if (dims && s.dims(0) && dims->size() != s.dims(0)->size()) s.fail("the slope has more dimensions than the input");
  return {s.like(0)};
}

Outputs identity(const RuleScope& s) {
  KnownTensor out = s.like(0);
  s.in(0);
  if (auto v = s.ints(0); v && out.dims) return {RuleScope::make_data(out.dtype, *out.dims, *v)};
  return {out};
}

Outputs dropout(const RuleScope& s) {
  return {identity(s)[0], RuleScope::make(s.node.since_version >= 10 || s.node.since_version == 0 ? DType::boolean : s.dtype(0),
                                          s.like(0).dims)};
}

Outputs cast(const RuleScope& s) {
  s.in(0);
  const auto to = static_cast<DType>(s.node.integer("to", 0));
  if (name_of(to) == "undefined") s.fail("attribute 'to' names a type that Quern does not know");
  KnownTensor out = RuleScope::make(to, s.like(0).dims);
  if (auto v = s.ints(0); v && out.dims && (to == DType::s64 || to == DType::s32 || to == DType::boolean))
    return {RuleScope::make_data(to, *out.dims, *v)};
  return {out};
}

Outputs cast_like(const RuleScope& s) { return s.in(0), s.in(1), Outputs{RuleScope::make(s.dtype(1), s.like(0).dims)}; }

Outputs where(const RuleScope& s) {
  s.in(0), s.in(1), s.in(2);
  auto dims = broadcast_all(s);
  const DType type = s.same_type(1, 3);
  if (auto c = s.known_ints(0); c && dims && dims->size() <= 1) {
    auto x = s.ints(1), y = s.ints(2);
    const int64_t n = product_or_unknown(*dims);
    if (x && y && n >= 0 && n <= data_limit) {
      Ints v(static_cast<size_t>(n));
      for (size_t i = 0; i < v.size(); ++i) {
        const Ints& from = (*c)[c->size() == 1 ? 0 : i] ? *x : *y;
        v[i] = from[from.size() == 1 ? 0 : i];
      }
      return {RuleScope::make_data(type, *dims, v)};
    }
  }
  return {RuleScope::make(type, dims)};
}

DType chosen_type(const RuleScope& s, size_t zero_point) {
  if (s.given(zero_point)) return s.dtype(zero_point);
  const auto type = static_cast<DType>(s.node.integer("output_dtype", 0));
  return type == DType::undefined ? DType::u8 : type;
}

Outputs quantize(const RuleScope& s) { return s.in(0), s.in(1), Outputs{RuleScope::make(chosen_type(s, 2), s.like(0).dims)}; }
Outputs dequantize(const RuleScope& s) {
  s.in(0);
  return {RuleScope::make(s.in(1).dtype == DType::undefined ? DType::f32 : s.dtype(1), s.like(0).dims)};
}
Outputs dynamic_quantize(const RuleScope& s) {
  s.in(0);
  return {RuleScope::make(DType::u8, s.like(0).dims), RuleScope::make(DType::f32, Dims{}), RuleScope::make(DType::u8, Dims{})};
}

}  // namespace

void add_elementwise_rules(RuleTable& t) {
  t.add({"Add", "Sub", "Mul", "Div", "Mod", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitShift"}, binary);
  t.add({"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Xor"}, comparison);
  t.add("Pow", power);
  t.add({"Min", "Max", "Sum", "Mean"}, variadic);
  t.add({"Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Ceil", "Celu", "Clip", "Cos", "Cosh",
         "CumSum", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Hardmax", "LRN", "LeakyRelu", "Log",
         "LogSoftmax", "LpNormalization", "MeanVarianceNormalization", "Mish", "Reciprocal", "Relu", "Round", "Selu",
         "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softmax", "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh",
         "ThresholdedRelu", "Trilu", "ScatterND", "ScatterElements", "Scatter", "ReverseSequence"}, unary);
  t.add({"Not", "IsNaN", "IsInf"}, unary_boolean);
  t.add("Neg", negate);
  t.add("PRelu", prelu);
  t.add("Identity", identity);
  t.add("Dropout", dropout);
  t.add("Cast", cast);
  t.add("CastLike", cast_like);
  t.add("Where", where);
  t.add("QuantizeLinear", quantize);
  t.add("DequantizeLinear", dequantize);
  t.add("DynamicQuantizeLinear", dynamic_quantize);
}

}  // namespace quern::shape_rules
