#include "plugins/common/dot_shape.hpp"

namespace quern_common {
namespace {

void set_conv(const OpView& op, DotShape& s, const Dims& in, const Dims& out, const Dims& w) {
  if (in.size() < 3 || w.size() != in.size()) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": input and weight differ in rank");
  s.batch = in[0];
  s.ic = in[1];
  s.oc = w[0];
  s.groups = op.node(0).integer("group", 1);
  if (s.groups < 1 || s.ic != w[1] * s.groups || s.oc % s.groups != 0 || out[1] != s.oc || out[0] != s.batch)
    throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": channels of input, weight, output and group do not fit each other");
  const auto axes = axes_of(op, in, out, Dims(w.begin() + 2, w.end()), true);
  s.h = axes[0];
  s.w = axes[1];
}

void set_transposed(const OpView& op, DotShape& s, const Dims& in, const Dims& out, const Dims& w) {
  if (in.size() < 3 || w.size() != in.size()) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": input and weight differ in rank");
  s.transposed = true;
  s.batch = in[0];
  s.ic = in[1];
  s.groups = op.node(0).integer("group", 1);
  s.oc = w[1] * s.groups;
  if (s.groups < 1 || s.ic != w[0] || s.ic % s.groups != 0 || out[1] != s.oc || out[0] != s.batch)
    throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": channels of input, weight, output and group do not fit each other");
  const auto axes = transposed_axes_of(op, in, out, Dims(w.begin() + 2, w.end()));
  s.h = axes[0];
  s.w = axes[1];
}

void set_matrix(const OpView& op, DotShape& s, const Dims& in, const Dims& out, const Dims& w) {
  s.columns = op.op() == "MatMul" || op.node(0).integer("transB", 0) == 0;
  s.ic = w[s.columns ? 0 : 1];
  s.oc = w[s.columns ? 1 : 0];
  if (in.empty() || out.empty() || in.back() != s.ic || out.back() != s.oc || count_of(in) / s.ic != count_of(out) / s.oc)
    throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": input, weight and output do not fit each other");
  if (op.op() == "Gemm") {
    const NodeView node = op.node(0);
    if (node.integer("transA", 0) != 0 || node.real("alpha", 1) != 1 || node.real("beta", 1) != 1)
      throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": Gemm with transA, alpha or beta");
  }
  s.w.in = s.w.out = count_of(in) / s.ic;
}

}  // namespace

DotShape dot_shape(const OpView& op) {
  const Dims in = dims_of(op.input("input")), out = dims_of(op.output()), w = dims_of(op.input("weight"));
  DotShape s;
  if (op.op() == "ConvTranspose") set_transposed(op, s, in, out, w);
  else if (op.op() == "Conv") set_conv(op, s, in, out, w);
  else set_matrix(op, s, in, out, w);
  return s;
}

}  // namespace quern_common
