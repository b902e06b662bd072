// From scales and constants to the tables of the contracts. Pure: the same operator gives the same bytes on every machine.
//
//   multiplier, shift   u16 in [2^15, 2^16) and 0..62: multiplier * 2^-shift is the ratio of scales, 2^-16 of itself off at most
//   offset, low, high   added to the rounded product; the codes between which the result is clamped (Relu and Clip in them)
//   act_table           a fused function, one entry for each of 4096 places; offset is then the place of 0, low and high its ends
//   scale, act_low, act_high   of a unit that writes floats: the ratio in f32, bounds of Relu and Clip
//   table, table_first, taps_A, weights_A   as plugins/common derives them
#include <cmath>

#include "plugins/common/derive.hpp"
#include "plugins/common/function.hpp"
#include "plugins/common/resample.hpp"
#include "plugins/common/select.hpp"
#include "plugins/vpu_sim/kernel.hpp"

namespace quern_vpu {
namespace {

double nearest(double v) { return Coder{1, 0, -0x1p52, 0x1p52}(v); }

struct Fixed { uint16_t multiplier; uint8_t shift; };

Fixed fixed_of(const OpView& op, double ratio) {
  int exponent = 0;
  double m = nearest(std::frexp(ratio, &exponent) * 65536);
  if (m >= 65536) {
    m /= 2;
    ++exponent;
  }
  if (!(ratio > 0) || exponent > 16)
    throw Failure(QUERN_OUT_OF_RANGE, std::string(op.name()) + ": a multiplier of " + std::to_string(ratio) + " can't be had; the scales of input, weight and output differ too much");
  // Below 2^-46 every sum gives 0, whatever the shift.
  return {static_cast<uint16_t>(m), static_cast<uint8_t>(std::min(62, 16 - exponent))};
}

void emit_floats(const OpView& op, const std::vector<double>& ratios, quern_sdk::TableSink& tables) {
  std::vector<float> scale;
  for (double r : ratios) scale.push_back(static_cast<float>(r));
  tables.emit("scale", scale);
  const Activation a = activation_of(op);
  if (!a.present) return;
  tables.emit("act_low", static_cast<float>(a.low));
  tables.emit("act_high", static_cast<float>(a.high));
}

// `real`: what one step of the sum means, per channel or for all.
void emit_numbers(const OpView& op, std::vector<double> real, quern_sdk::TableSink& tables) {
  if (writes_floats(op)) return emit_floats(op, real, tables);
  const Coder coder = coder_of(op, op.output());
  double scale = coder.scale, offset = coder.zero_point, low = coder.low, high = coder.high;
  if (const auto f = fused_function(op)) {
    const Domain d = domain_of(op, *f, &coder);
    scale = d.step;
    offset = nearest(-d.low / d.step);
    low = 0;
    high = fused_entries - 1;
    const auto fill = [&](auto zero) {
      std::vector<decltype(zero)> table;
      for (int i = 0; i < fused_entries; ++i) table.push_back(static_cast<decltype(zero)>(coder((*f)((i - offset) * scale))));
      tables.emit("act_table", table);
    };
    if (op.output().dtype() == QUERN_DTYPE_S8) fill(int8_t{0});
    else fill(uint8_t{0});
  } else if (const Activation a = activation_of(op); a.present) {
    low = coder(a.low);
    high = coder(a.high);
  }
  std::vector<uint16_t> multiplier;
  std::vector<uint8_t> shift;
  for (double r : real) {
    const Fixed f = fixed_of(op, r / scale);
    multiplier.push_back(f.multiplier);
    shift.push_back(f.shift);
  }
  if (std::fabs(offset) > 0x1p30) throw Failure(QUERN_OUT_OF_RANGE, std::string(op.name()) + ": the domain of a fused function lies too far from 0");
  tables.emit("multiplier", multiplier);
  tables.emit("shift", shift);
  tables.emit("offset", static_cast<int32_t>(offset));
  tables.emit("low", static_cast<int32_t>(low));
  tables.emit("high", static_cast<int32_t>(high));
}

double scale_of(const OpView& op, std::string_view role) { return activation_quant(op, op.input(role)).scale(); }

std::vector<double> dot_steps(const OpView& op) {
  const double x = scale_of(op, "input");
  const OperandView weight = op.input("weight");
  if (!weight.is_constant()) return {x * scale_of(op, "weight")};
  int axis = 0;
  const int64_t channels = output_channels(op, &axis);
  const QuantView w = weight.quant();
  if (!w || weight.dtype() != QUERN_DTYPE_S8 || (w.count() != 1 && (w.axis() != axis || static_cast<int64_t>(w.count()) != channels)))
    throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": weights are s8 with one scale, or one per output channel");
  for (size_t c = 1; c < w.count(); ++c)
    if (w.zero_point(c) != w.zero_point(0)) throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": the channels of a weight share their zero point");
  std::vector<double> steps;
  for (int64_t c = 0; c < channels; ++c) steps.push_back(x * w.scale(static_cast<size_t>(c)));
  return steps;
}

// Elements of every window of a pool or mean; 0 where they are not known or not the same everywhere.
double window_size(const OpView& op) {
  const NodeView node = op.node(0);
  const Dims in = dims_of(op.input("input"));
  double n = 1;
  if (op.op() == "AveragePool") {
    const Dims pads = node.integers("pads");
    const std::string_view mode = node.text("auto_pad", "NOTSET");
    const bool padded = (mode != "NOTSET" && mode != "VALID") || std::any_of(pads.begin(), pads.end(), [](int64_t p) { return p != 0; });
    if ((padded && node.integer("count_include_pad", 0) == 0) || node.integer("ceil_mode", 0) != 0) return 0;
    for (int64_t k : node.integers("kernel_shape")) n *= static_cast<double>(k);
    return n;
  }
  Dims axes;
  if (op.op() == "GlobalAveragePool") {
    for (size_t a = 2; a < in.size(); ++a) axes.push_back(static_cast<int64_t>(a));
  } else {
    axes = node.integers("axes");
    if (const auto given = integers_at(op, 1)) axes = *given;
    if (axes.empty()) for (size_t a = 0; a < in.size(); ++a) axes.push_back(static_cast<int64_t>(a));
  }
  for (int64_t a : axes) {
    const int64_t at = a < 0 ? a + static_cast<int64_t>(in.size()) : a;
    if (at < 0 || at >= static_cast<int64_t>(in.size())) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": an axis is outside of the rank");
    if (in[static_cast<size_t>(at)] < 1) return 0;
    n *= static_cast<double>(in[static_cast<size_t>(at)]);
  }
  return n;
}

bool is_pair(std::string_view kind) { return kind == "Add" || kind == "Sub" || kind == "Mul" || kind == "Max" || kind == "Min"; }
bool is_average(std::string_view kind) { return kind == "AveragePool" || kind == "GlobalAveragePool" || kind == "ReduceMean"; }

}  // namespace

void derive(const OpView& op, quern_sdk::TableSink& tables) {
  const std::string_view kind = op.op();
  if (op.contract() == "table") return quern_common::derive(op, tables);
  if (op.contract() == "concat") return;
  if (op.contract() == "dot") return emit_numbers(op, dot_steps(op), tables);
  if (is_pair(kind)) return emit_numbers(op, {scale_of(op, "a") * (kind == "Mul" ? scale_of(op, "b") : 1.0)}, tables);
  const double x = scale_of(op, "input");
  if (kind == "Resize") {
    double ones = 1;
    for (const Taps& t : resample_taps(op, dims_of(op.input("input")), dims_of(op.output()))) {
      emit_taps(t, tables);
      if (t.taps > 1) ones *= 1 << weight_bits;
    }
    return emit_numbers(op, {x / ones}, tables);
  }
  if (is_average(kind)) {
    const double n = window_size(op);
    if (!(n > 0)) throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": windows of different or unknown sizes");
    return emit_numbers(op, {x / n}, tables);
  }
  if (!writes_floats(op) && !activation_of(op).present && same_codes(activation_quant(op, op.input("input")), op.output().quant())) return;
  emit_numbers(op, {x}, tables);
}

bool supports(const OpView& op, std::string& reason) {
  if (!quern_common::supports(op, reason)) return false;
  const std::string_view kind = op.op();
  if (is_pair(kind) && !same_codes(activation_quant(op, op.input("a")), activation_quant(op, op.input("b"))))
    reason = "the two inputs of " + std::string(kind) + " must share scale and zero point";
  if (is_average(kind)) {
    const double n = window_size(op);
    if (!(n > 0)) reason = "its windows have different or unknown sizes";
    else if (n > 0x1p23) reason = "a sum over a window may leave the 32-bit accumulator";
  }
  return reason.empty();
}

}  // namespace quern_vpu
