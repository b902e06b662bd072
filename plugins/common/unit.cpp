#include "plugins/common/unit.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace quern_common {

Dims dims_of(const OperandView& operand) {
  const auto d = operand.tensor().dims();
  return Dims(d.begin(), d.end());
}

int64_t count_of(const Dims& dims) {
  int64_t n = 1;
  for (int64_t d : dims) {
    if (d < 0) return -1;
    n *= d;
  }
  return n;
}

namespace {

// A bound of Clip that comes as an input (since opset 11).
double bound(const OpView& op, const NodeView& node, size_t slot, double fallback) {
  if (slot >= node.inputs().size() || node.inputs()[slot] == QUERN_ABSENT_INPUT) return fallback;
  const int32_t index = node.inputs()[slot];
  if (index < 0 || static_cast<size_t>(index) >= op.inputs() || !op.input_at(static_cast<size_t>(index)).is_constant())
    throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": the bounds of Clip must be constants");
  const auto tensor = op.input_at(static_cast<size_t>(index)).tensor();
  if (tensor.count() != 1) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": a bound of Clip must be one number");
  const double v = tensor.values<const float>()[0];
  if (std::isnan(v)) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": a bound of Clip is not a number");
  return v;
}

}  // namespace

Activation activation_of(const OpView& op) {
  Activation a;
  for (size_t m = 0; m < op.nodes(); ++m) {
    const NodeView node = op.node(m);
    double low, high;
    if (node.op() == "Relu") {
      low = 0;
      high = FLT_MAX;
    } else if (node.op() == "Clip") {
      const bool by_input = node.since_version() >= 11;
      low = by_input ? bound(op, node, 1, -FLT_MAX) : static_cast<double>(node.real("min", -FLT_MAX));
      high = by_input ? bound(op, node, 2, FLT_MAX) : static_cast<double>(node.real("max", FLT_MAX));
    } else {
      continue;
    }
    // min(max(v, low), high), after what was there before.
    const auto clip = [&](double v) { return std::min(std::max(v, low), high); };
    a.low = clip(a.low);
    a.high = clip(a.high);
    a.present = true;
  }
  return a;
}

bool is_code(uint32_t dtype) { return dtype == QUERN_DTYPE_U8 || dtype == QUERN_DTYPE_S8; }

bool same_codes(const QuantView& a, const QuantView& b) {
  return a.is_signed() == b.is_signed() && a.scale() == b.scale() && a.zero_point() == b.zero_point() &&
         a.qmin() == b.qmin() && a.qmax() == b.qmax();
}

QuantView activation_quant(const OpView& op, const OperandView& operand) {
  const QuantView q = operand.quant();
  const std::string where = std::string(op.name()) + ": operand " + std::string(operand.role());
  if (!q) throw Failure(QUERN_INVALID_ARGUMENT, where + " is not quantized");
  if (q.bits() > 8 || q.count() != 1 || !is_code(operand.dtype()) || q.is_signed() != (operand.dtype() == QUERN_DTYPE_S8))
    throw Failure(QUERN_UNIMPLEMENTED, where + ": activations have 8 bits and one scale for the tensor");
  if (!(q.scale() > 0) || !std::isfinite(q.scale())) throw Failure(QUERN_INVALID_ARGUMENT, where + ": the scale is not positive and finite");
  return q;
}

double output_scale(const OpView& op) {
  const OperandView out = op.output();
  if (out.dtype() == QUERN_DTYPE_F32) return 1;
  return activation_quant(op, out).scale();
}

bool writes_floats(const OpView& op) {
  const uint32_t t = op.output().dtype();
  if (t != QUERN_DTYPE_F32 && !is_code(t)) throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": outputs are u8, s8 or f32");
  return t == QUERN_DTYPE_F32;
}

std::vector<int32_t> activation_table(const OpView& op) {
  const quern_tensor* t = op.find_table("act_table");
  if (!t) return {};
  std::vector<int32_t> out;
  const quern_sdk::TensorView view(*t);
  const auto take = [&](auto values) {
    for (const auto v : values) out.push_back(static_cast<int32_t>(v));
  };
  switch (t->dtype) {
    case QUERN_DTYPE_U8: take(view.values<const uint8_t>()); break;
    case QUERN_DTYPE_S8: take(view.values<const int8_t>()); break;
    case QUERN_DTYPE_S32: take(view.values<const int32_t>()); break;
    case QUERN_DTYPE_F32: {
      const auto values = view.values<const float>();
      out.resize(values.size());
      std::memcpy(out.data(), values.data(), values.size() * 4);
      break;
    }
    default: throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": table act_table has an unexpected type");
  }
  if (out.empty() || out.size() > 65536 || (t->dtype == QUERN_DTYPE_F32) != writes_floats(op))
    throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": table act_table does not fit the output");
  return out;
}

namespace {

// An axis of a window, its padding still to come.
Axis window_axis(const std::string& where, int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t dilation) {
  if (in < 1 || out < 1 || kernel < 1 || stride < 1 || dilation < 1)
    throw Failure(QUERN_INVALID_ARGUMENT, where + ": a size of the window is not positive");
  return {.in = in, .out = out, .kernel = kernel, .stride = stride, .dilation = dilation};
}

}  // namespace

std::array<Axis, 2> axes_of(const OpView& op, const Dims& in, const Dims& out, const Dims& kernel, bool exact) {
  const std::string where(op.name());
  const NodeView node = op.node(0);
  const size_t n = kernel.size();
  if (n < 1 || n > 2 || in.size() != n + 2 || out.size() != n + 2)
    throw Failure(QUERN_UNIMPLEMENTED, where + ": windows have one or two spatial axes");
  const Dims stride = node.integers("strides", Dims(n, 1)), dilation = node.integers("dilations", Dims(n, 1));
  Dims pads = node.integers("pads", Dims(2 * n, 0));
  const std::string mode(node.text("auto_pad", "NOTSET"));
  if (stride.size() != n || dilation.size() != n || pads.size() != 2 * n)
    throw Failure(QUERN_INVALID_ARGUMENT, where + ": strides, dilations or pads do not fit the number of spatial axes");
  std::array<Axis, 2> axes;
  for (size_t i = 0; i < n; ++i) {
    Axis& a = axes[2 - n + i];
    a = window_axis(where, in[2 + i], out[2 + i], kernel[i], stride[i], dilation[i]);
    if (mode == "SAME_UPPER" || mode == "SAME_LOWER") {
      const int64_t total = std::max<int64_t>(0, (a.out - 1) * a.stride + a.reach() - a.in);
      a.pad_begin = mode == "SAME_UPPER" ? total / 2 : total - total / 2;
      a.pad_end = total - a.pad_begin;
    } else if (mode != "VALID") {
      a.pad_begin = pads[i];
      a.pad_end = pads[n + i];
    }
    if (a.pad_begin < 0 || a.pad_end < 0) throw Failure(QUERN_UNIMPLEMENTED, where + ": negative padding");
    const int64_t room = a.in + a.pad_begin + a.pad_end - a.reach();
    if (room < 0 || a.out > room / a.stride + (exact ? 1 : 2) || (exact && a.out != room / a.stride + 1))
      throw Failure(QUERN_INVALID_ARGUMENT, where + ": the output size does not follow from the input size and the attributes");
  }
  return axes;
}

std::array<Axis, 2> transposed_axes_of(const OpView& op, const Dims& in, const Dims& out, const Dims& kernel) {
  const std::string where(op.name());
  const NodeView node = op.node(0);
  const size_t n = kernel.size();
  if (n < 1 || n > 2 || in.size() != n + 2 || out.size() != n + 2)
    throw Failure(QUERN_UNIMPLEMENTED, where + ": windows have one or two spatial axes");
  const Dims stride = node.integers("strides", Dims(n, 1)), dilation = node.integers("dilations", Dims(n, 1));
  const Dims pads = node.integers("pads", Dims(2 * n, 0)), extra = node.integers("output_padding", Dims(n, 0));
  if (stride.size() != n || dilation.size() != n || pads.size() != 2 * n || extra.size() != n)
    throw Failure(QUERN_INVALID_ARGUMENT, where + ": strides, dilations, pads or output_padding do not fit the number of spatial axes");
  if (node.text("auto_pad", "NOTSET") != "NOTSET") throw Failure(QUERN_UNIMPLEMENTED, where + ": auto_pad of an input whose size is not known");
  const bool sized = !node.integers("output_shape", Dims{}).empty();
  std::array<Axis, 2> axes;
  for (size_t i = 0; i < n; ++i) {
    Axis& a = axes[2 - n + i];
    a = window_axis(where, in[2 + i], out[2 + i], kernel[i], stride[i], dilation[i]);
    a.pad_begin = pads[i];
    a.pad_end = pads[n + i];
    if (extra[i] < 0) throw Failure(QUERN_INVALID_ARGUMENT, where + ": a size of the window is not positive");
    if (a.pad_begin < 0 || a.pad_end < 0) throw Failure(QUERN_UNIMPLEMENTED, where + ": negative padding");
    const int64_t full = a.stride * (a.in - 1) + extra[i] + a.reach();
    if (!sized && a.out != full - a.pad_begin - a.pad_end)
      throw Failure(QUERN_INVALID_ARGUMENT, where + ": the output size does not follow from the input size and the attributes");
  }
  return axes;
}

std::array<Axis, 2> pool_axes(const OpView& op, const Dims& in, const Dims& out) {
  const std::string where(op.name());
  if (in.size() < 3 || in.size() != out.size() || in[0] != out[0] || in[1] != out[1])
    throw Failure(QUERN_INVALID_ARGUMENT, where + ": input and output do not fit each other");
  const NodeView node = op.node(0);
  if (op.op() != "GlobalAveragePool" && op.op() != "GlobalMaxPool")
    return axes_of(op, in, out, node.integers("kernel_shape"), node.integer("ceil_mode", 0) == 0);
  std::array<Axis, 2> axes;
  for (size_t i = 2; i < in.size(); ++i) {
    if (in.size() > 4 || out[i] != 1) throw Failure(QUERN_INVALID_ARGUMENT, where + ": unexpected shapes");
    Axis& a = axes[4 - in.size() + i - 2];
    a.in = a.kernel = in[i];
  }
  return axes;
}

int64_t counted_places(const Axis& a, int64_t o, bool count_padding) {
  int64_t counted = 0;
  for (int64_t k = 0; k < a.kernel; ++k) {
    const int64_t p = o * a.stride - a.pad_begin + k * a.dilation;
    counted += count_padding ? p < a.in + a.pad_end : p >= 0 && p < a.in;
  }
  return counted;
}

}  // namespace quern_common
