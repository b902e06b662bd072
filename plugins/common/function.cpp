#include "plugins/common/function.hpp"

#include <cmath>
#include <limits>

#include "quern/portable_math.hpp"

namespace quern_common {

namespace portable = quern_sdk::portable;
using Kind = Function::Kind;

namespace {

double clip(double v, double low, double high) { return v < low ? low : v > high ? high : v; }

// Halves to even, whatever the rounding mode; NaN and infinities stay.
double half_even(double v) {
  const double down = std::floor(v), rest = v - down;
  if (rest < 0.5 || (rest == 0.5 && std::fmod(down, 2) == 0) || !(rest >= 0)) return down;
  return down + 1;
}

double normal(double x) { return 0.5 * (1 + portable::erf(x * 0.70710678118654752)); }

// The slope of a PRelu that is the same for all channels.
std::optional<double> one_slope(const OpView& op, const NodeView& node) {
  if (node.inputs().size() < 2) return {};
  const int32_t index = node.inputs()[1];
  if (index < 0 || static_cast<size_t>(index) >= op.inputs()) return {};
  const OperandView slope = op.input_at(static_cast<size_t>(index));
  if (!slope.is_constant() || slope.dtype() != QUERN_DTYPE_F32 || slope.tensor().count() != 1) return {};
  return static_cast<double>(slope.tensor().values<const float>()[0]);
}

}  // namespace

double Function::operator()(double x) const {
  switch (kind) {
    case Kind::sigmoid: return portable::sigmoid(x);
    case Kind::tanh: return portable::tanh(x);
    case Kind::hard_sigmoid: return clip(a * x + b, 0, 1);
    case Kind::hard_swish: return x * clip(x / 6 + 0.5, 0, 1);
    case Kind::swish: return x * portable::sigmoid(a * x);
    case Kind::gelu: return x * normal(x);
    case Kind::gelu_tanh: return 0.5 * x * (1 + portable::tanh(0.79788456080286536 * (x + 0.044715 * x * x * x)));
    case Kind::mish: return x * portable::tanh(portable::softplus(x));
    case Kind::leaky_relu: return x < 0 ? a * x : x;
    case Kind::elu: return x < 0 ? a * portable::expm1(x) : x;
    case Kind::celu: return x < 0 ? a * portable::expm1(x / a) : x;
    case Kind::selu: return b * (x <= 0 ? a * portable::expm1(x) : x);
    case Kind::softplus: return portable::softplus(x);
    case Kind::softsign: return x / (1 + std::fabs(x));
    case Kind::thresholded_relu: return x > a ? x : 0;
    case Kind::exp: return portable::exp(x);
    case Kind::log: return portable::log(x);
    case Kind::sqrt: return std::sqrt(x);
    case Kind::reciprocal: return 1 / x;
    case Kind::abs: return std::fabs(x);
    case Kind::neg: return -x;
    case Kind::erf: return portable::erf(x);
    case Kind::sign: return x > 0 ? 1 : x < 0 ? -1 : x;
    case Kind::floor: return std::floor(x);
    case Kind::ceil: return std::ceil(x);
    case Kind::round: return half_even(x);
  }
  return x;
}

bool Function::bounded() const {
  return kind == Kind::sigmoid || kind == Kind::tanh || kind == Kind::erf || (kind == Kind::hard_sigmoid && a != 0);
}

double Function::turn() const {
  switch (kind) {
    case Kind::hard_swish: return -1.5;
    case Kind::swish: return a != 0 ? -1.2784645427610738 / a : 0;
    case Kind::gelu: return -0.75179156852450;
    case Kind::gelu_tanh: return -0.75246135546580;
    case Kind::mish: return -1.19241115396690;
    default: return 0;
  }
}

std::optional<Function> function_of(const OpView& op, const NodeView& node) {
  const std::string_view name = node.op();
  Function f;
  const auto as = [&](Kind kind, double a = 0, double b = 0) {
    f.kind = kind;
    f.a = a;
    f.b = b;
    return std::optional<Function>(f);
  };
  if (name == "Sigmoid") return as(Kind::sigmoid);
  if (name == "Tanh") return as(Kind::tanh);
  if (name == "HardSigmoid") return as(Kind::hard_sigmoid, node.real("alpha", 0.2f), node.real("beta", 0.5f));
  if (name == "HardSwish") return as(Kind::hard_swish);
  if (name == "Swish") return as(Kind::swish, node.real("alpha", 1.f));
  if (name == "Gelu") return as(node.text("approximate", "none") == "tanh" ? Kind::gelu_tanh : Kind::gelu);
  if (name == "Mish") return as(Kind::mish);
  if (name == "LeakyRelu") return as(Kind::leaky_relu, node.real("alpha", 0.01f));
  if (name == "PRelu") {
    if (const auto slope = one_slope(op, node)) return as(Kind::leaky_relu, *slope);
    return {};
  }
  if (name == "Elu") return as(Kind::elu, node.real("alpha", 1.f));
  if (name == "Celu") {
    const float alpha = node.real("alpha", 1.f);
    if (alpha == 0) return {};
    return as(Kind::celu, alpha);
  }
  if (name == "Selu") return as(Kind::selu, node.real("alpha", 1.67326319217681884765625f), node.real("gamma", 1.05070102214813232421875f));
  if (name == "Softplus") return as(Kind::softplus);
  if (name == "Softsign") return as(Kind::softsign);
  if (name == "ThresholdedRelu") return as(Kind::thresholded_relu, node.real("alpha", 1.f));
  if (name == "Exp") return as(Kind::exp);
  if (name == "Log") return as(Kind::log);
  if (name == "Sqrt") return as(Kind::sqrt);
  if (name == "Reciprocal") return as(Kind::reciprocal);
  if (name == "Abs") return as(Kind::abs);
  if (name == "Neg") return as(Kind::neg);
  if (name == "Erf") return as(Kind::erf);
  if (name == "Sign") return as(Kind::sign);
  if (name == "Floor") return as(Kind::floor);
  if (name == "Ceil") return as(Kind::ceil);
  if (name == "Round") return as(Kind::round);
  return {};
}

std::optional<Function> fused_function(const OpView& op) {
  for (size_t m = 1; m < op.nodes(); ++m)
    if (auto f = function_of(op, op.node(m))) return f;
  return {};
}

double Coder::operator()(double v) const {
  if (v != v) return zero_point;
  return clip(half_even(v / scale) + zero_point, low, high);
}

Coder coder_of(const OpView& op, const OperandView& output) {
  const QuantView q = activation_quant(op, output);
  return {q.scale(), static_cast<double>(q.zero_point()), static_cast<double>(q.qmin()), static_cast<double>(q.qmax())};
}

Domain domain_of(const OpView& op, const Function& f, const Coder* coder) {
  if (!coder && !f.bounded())
    throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": a table can't hold this function's floats: it has no limit on one side");
  const auto code = [&](double x) { return coder ? (*coder)(f(x)) : half_even(f(x) * 0x1p13); };
  constexpr double far = 0x1p40;
  // Between these the function rises or falls.
  const double places[] = {-far, f.turn(), far};
  // The last place, going from `from` to `to`, that still has the code of the start; none when all have.
  const auto leaves = [&](double start, double from, double to) -> std::optional<double> {
    const double same = code(start);
    if (code(to) == same) return {};
    for (int i = 0; i < 200 && std::fabs(to - from) > 1e-9 * (1 + std::fabs(from)); ++i) {
      const double middle = from + (to - from) / 2;
      (code(middle) == same ? from : to) = middle;
    }
    return from;
  };
  std::optional<double> low, high;
  for (int i = 0; i < 2 && !low; ++i) low = leaves(-far, places[i], places[i + 1]);
  for (int i = 2; i > 0 && !high; --i) high = leaves(far, places[i], places[i - 1]);
  Domain d;
  if (!low || !high || !(*high > *low)) return d;  // one code whatever comes in
  d.low = *low;
  d.step = (*high - *low) / (fused_entries - 1);
  return d;
}

}  // namespace quern_common
