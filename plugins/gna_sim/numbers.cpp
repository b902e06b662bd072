#include "plugins/gna_sim/numbers.hpp"

#include <algorithm>
#include <cmath>

namespace quern_gna {

QuantView signed_quant(const OpView& op, const OperandView& operand, bool narrow) {
  const QuantView q = operand.quant();
  const std::string where = std::string(op.name()) + ": operand " + std::string(operand.role());
  const bool wide = operand.dtype() == QUERN_DTYPE_S16;
  if (!q || (!wide && !(narrow && operand.dtype() == QUERN_DTYPE_S8)))
    throw Failure(QUERN_INVALID_ARGUMENT, where + " is not an integer of 16 bits" + (narrow ? " or 8" : ""));
  if (!q.per_tensor() || q.count() != 1 || q.zero_point() != 0)
    throw Failure(QUERN_INVALID_ARGUMENT, where + " needs one scale and the zero point 0");
  if (!(q.scale() > 0) || !std::isfinite(q.scale())) throw Failure(QUERN_INVALID_ARGUMENT, where + " has no usable scale");
  return q;
}

bool same_scale(const QuantView& a, const QuantView& b) { return a.bits() == b.bits() && a.scale() == b.scale(); }

Rows rows_of(const OpView& op) {
  const auto w = op.input("weight").tensor();
  const std::string_view kind = op.op();
  Rows r;
  if (!w.complete() || w.rank() < 2 || (kind != "Conv" && w.rank() != 2))
    throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": the weight has an unexpected shape");
  r.columns = kind == "MatMul" || (kind == "Gemm" && op.node(0).integer("transB", 0) == 0);
  r.channels = w.dim(r.columns ? 1 : 0);
  r.depth = r.channels > 0 ? w.count() / r.channels : 0;
  if (r.channels < 1 || r.depth < 1) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": the weight is empty");
  return r;
}

RowScales row_scales(const OpView& op) {
  const OperandView weight = op.input("weight");
  const QuantView q = weight.quant();
  if (!q || (weight.dtype() != QUERN_DTYPE_S8 && weight.dtype() != QUERN_DTYPE_S16))
    throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": the weight has neither 8 nor 16 bits");
  const int64_t channels = rows_of(op).channels;
  if (q.count() != 1 && (weight.dtype() != QUERN_DTYPE_S8 || static_cast<int64_t>(q.count()) != channels))
    throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": only rows of 8 bits have scales of their own");
  RowScales out;
  double largest = 0;
  for (size_t c = 0; c < q.count(); ++c) {
    if (q.zero_point(c) != 0 || !(q.scale(c) > 0) || !std::isfinite(q.scale(c)))
      throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": the weight needs usable scales and the zero point 0");
    largest = std::max(largest, static_cast<double>(q.scale(c)));
  }
  out.step = largest;
  if (q.count() == 1) return out;
  // Scales are floats: a few parts in 10^7 from what was meant.
  for (int top = 1; top <= 255; ++top) {
    const double step = largest / top;
    out.multiplier.clear();
    for (size_t c = 0; c < q.count(); ++c) {
      const double m = std::floor(q.scale(c) / step + 0.5);
      if (m < 1 || std::fabs(q.scale(c) / step - m) > 1e-5 * m) break;
      out.multiplier.push_back(static_cast<uint8_t>(m));
    }
    out.step = step;
    if (out.multiplier.size() == q.count()) return out;
  }
  throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": the weight's scales are not one step times whole numbers up to 255");
}

namespace {

// Where the functions with corners have them.
std::vector<double> kinks_of(const Function& f) {
  switch (f.kind) {
    case Function::Kind::hard_sigmoid: return f.a != 0 ? std::vector<double>{-f.b / f.a, (1 - f.b) / f.a} : std::vector<double>{};
    case Function::Kind::hard_swish: return {-3, 3};
    case Function::Kind::leaky_relu: case Function::Kind::elu: case Function::Kind::celu: case Function::Kind::selu: case Function::Kind::abs: return {0};
    default: return {};
  }
}

}  // namespace

Target target_of(const OpView& op, double x_scale) {
  const QuantView y = signed_quant(op, op.output());
  Target t;
  t.x_scale = x_scale;
  t.y_scale = y.scale();
  t.low = static_cast<double>(y.qmin());
  t.high = static_cast<double>(y.qmax());
  const Activation clamp = activation_of(op);
  for (size_t m = 0; m < op.nodes(); ++m) {
    const auto f = function_of(op, op.node(m));
    if (!f) continue;
    t.f = *f;
    t.turn = f->turn();
    t.kinks = kinks_of(*f);
    t.identity = {static_cast<double>(f->kind), f->a, f->b};
    return t;
  }
  t.f = [](double x) { return x; };
  t.identity = {-1};
  if (clamp.present) {
    t.identity = {-2, clamp.low, clamp.high};
    t.f = [clamp](double x) { return std::min(std::max(x, clamp.low), clamp.high); };
    t.kinks = {clamp.low, clamp.high};
  }
  return t;
}

}  // namespace quern_gna
