#include "plugins/common/derive.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "plugins/common/function.hpp"
#include "plugins/common/resample.hpp"
#include "plugins/common/select.hpp"

namespace quern_common {
namespace {

// Multipliers outside of this range would leave the normal floats on the way; no sensible model has them.
constexpr double smallest_multiplier = 0x1p-90, largest_multiplier = 0x1p64;

float ratio(const OpView& op, const char* what, double value) {
  if (!(value >= smallest_multiplier && value <= largest_multiplier))
    throw Failure(QUERN_OUT_OF_RANGE, std::string(op.name()) + ": " + what + " is " + std::to_string(value) +
                                          "; the scales of input, weight and output differ too much");
  return static_cast<float>(value);
}

float limited(double v) { return static_cast<float>(std::min(std::max(v, -static_cast<double>(FLT_MAX)), static_cast<double>(FLT_MAX))); }

void emit_activation(const OpView& op, double scale, quern_sdk::TableSink& tables) {
  const Activation a = activation_of(op);
  if (!a.present) return;
  tables.emit("act_low", limited(a.low / scale));
  tables.emit("act_high", limited(a.high / scale));
}

void emit_output(const OpView& op, quern_sdk::TableSink& tables) {
  const OperandView out = op.output();
  if (out.dtype() != QUERN_DTYPE_F32) tables.emit("output_zero_point", static_cast<float>(activation_quant(op, out).zero_point()));
}

// `count` values of a function, as the output's codes or as floats.
template <class At>
void emit_values(const OpView& op, const char* name, const Function& f, int count, At&& at, quern_sdk::TableSink& tables) {
  const OperandView out = op.output();
  const auto fill = [&](auto zero, auto&& value) {
    std::vector<decltype(zero)> table(static_cast<size_t>(count));
    for (int i = 0; i < count; ++i) table[static_cast<size_t>(i)] = static_cast<decltype(zero)>(value(f(at(i))));
    tables.emit(name, table);
  };
  if (out.dtype() == QUERN_DTYPE_F32) {
    // A NaN has one pattern of bits here, wherever it comes from.
    return fill(0.f, [](double v) { return v != v ? std::numeric_limits<float>::quiet_NaN() : static_cast<float>(v); });
  }
  const Coder coder = coder_of(op, out);
  if (out.dtype() == QUERN_DTYPE_S8) fill(int8_t{0}, coder);
  else fill(uint8_t{0}, coder);
}

void derive_table(const OpView& op, quern_sdk::TableSink& tables) {
  const auto f = function_of(op, op.node(0));
  if (!f) throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": there is no table for this " + std::string(op.op()));
  const QuantView x = activation_quant(op, op.input("input"));
  const int first = x.is_signed() ? -128 : 0;
  emit_values(op, "table", *f, 256, [&](int i) { return static_cast<double>(first + i - x.zero_point()) * x.scale(); }, tables);
  tables.emit("table_first", static_cast<int32_t>(first));
}

// What follows the sum: an activation and the output's numbers, or a table.
struct Ending {
  std::optional<Function> function;
  Domain domain;
  double scale;  // of the value before it: with a table in steps of the table, else in the output's scale

  explicit Ending(const OpView& op) : function(fused_function(op)), scale(output_scale(op)) {
    if (!function) return;
    const bool codes = op.output().dtype() != QUERN_DTYPE_F32;
    const Coder coder = codes ? coder_of(op, op.output()) : Coder{};
    domain = domain_of(op, *function, codes ? &coder : nullptr);
    scale = domain.step;
  }

  void emit(const OpView& op, quern_sdk::TableSink& tables) const {
    emit_activation(op, scale, tables);
    if (!function) return emit_output(op, tables);
    tables.emit("act_offset", static_cast<float>(-domain.low / domain.step));
    emit_values(op, "act_table", *function, fused_entries, [&](int i) { return domain.low + i * domain.step; }, tables);
  }
};

void derive_dot(const OpView& op, quern_sdk::TableSink& tables) {
  int axis = 0;
  const int64_t channels = output_channels(op, &axis);
  const OperandView weight = op.input("weight");
  const Ending end(op);
  const double output = end.scale;
  const double input = activation_quant(op, op.input("input")).scale();
  const QuantView w = weight.quant();
  if (!w || weight.dtype() != QUERN_DTYPE_S8 || (w.count() != 1 && (w.axis() != axis || static_cast<int64_t>(w.count()) != channels)))
    throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": weights are s8 with one scale, or one per output channel");
  for (size_t c = 0; c < w.count(); ++c)
    if (w.zero_point(c) != 0) throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": weights have the zero point 0");
  std::vector<float> multiplier(static_cast<size_t>(channels));
  for (size_t c = 0; c < multiplier.size(); ++c) multiplier[c] = ratio(op, "a multiplier", input * w.scale(c) / output);
  tables.emit("multiplier", multiplier);
  if (const OperandView bias = op.find("bias")) {
    const auto b = bias.tensor().values<const int32_t>();
    if (static_cast<int64_t>(b.size()) != channels && b.size() != 1)
      throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": the bias has neither one element nor one per output channel");
    std::vector<float> f(static_cast<size_t>(channels));
    for (size_t c = 0; c < f.size(); ++c) f[c] = static_cast<float>(b[b.size() == 1 ? 0 : c]);
    tables.emit("bias_f32", f);
  }
  if (const OperandView residual = op.find("residual"))
    tables.emit("residual_scale", ratio(op, "the scale of the residual", activation_quant(op, residual).scale() / output));
  end.emit(op, tables);
}

void derive_product(const OpView& op, quern_sdk::TableSink& tables) {
  const Ending end(op);
  const double output = end.scale;
  const double scales = activation_quant(op, op.input("input")).scale() * static_cast<double>(activation_quant(op, op.input("weight")).scale());
  tables.emit("multiplier", ratio(op, "the multiplier", scales / output));
  if (const OperandView residual = op.find("residual"))
    tables.emit("residual_scale", ratio(op, "the scale of the residual", activation_quant(op, residual).scale() / output));
  end.emit(op, tables);
}

void derive_pair(const OpView& op, quern_sdk::TableSink& tables) {
  const double output = output_scale(op), a = activation_quant(op, op.input("a")).scale(), b = activation_quant(op, op.input("b")).scale();
  if (op.op() == "Mul") tables.emit("ratio", ratio(op, "the ratio of scales", a * b / output));
  else if (op.op() == "Div") tables.emit("ratio", ratio(op, "the ratio of scales", a / (b * output)));
  else {
    tables.emit("a_ratio", ratio(op, "a ratio of scales", a / output));
    const float other = ratio(op, "a ratio of scales", b / output);
    tables.emit("b_ratio", op.op() == "Sub" ? -other : other);
  }
  emit_activation(op, output, tables);
  emit_output(op, tables);
}

// Pools, moves, activations. `always`: the contract computes in floats even where input and output have the same codes.
void derive_one(const OpView& op, bool always, quern_sdk::TableSink& tables) {
  const OperandView input = op.input("input"), out = op.output();
  const QuantView x = activation_quant(op, input);
  const double output = output_scale(op);
  if (!always && out.dtype() != QUERN_DTYPE_F32 && !activation_of(op).present && same_codes(x, out.quant())) return;
  tables.emit("ratio", ratio(op, "the ratio of scales", x.scale() / output));
  emit_activation(op, output, tables);
  emit_output(op, tables);
}

bool is_dot(std::string_view op) { return op == "Conv" || op == "ConvTranspose" || op == "Gemm" || op == "MatMul"; }
// MatMul of two tensors that flow.
bool is_product(const OpView& op) { return op.op() == "MatMul" && !op.input("weight").is_constant(); }
bool is_average(std::string_view op) { return op == "AveragePool" || op == "GlobalAveragePool"; }

bool is_pair(std::string_view op) { return op == "Add" || op == "Sub" || op == "Mul" || op == "Div" || op == "Max" || op == "Min"; }

void derive_resample(const OpView& op, quern_sdk::TableSink& tables) {
  std::string reason;
  if (!can_resample(op, reason)) throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": " + reason);
  double ones = 1;
  for (const Taps& t : resample_taps(op, dims_of(op.input("input")), dims_of(op.output()))) {
    emit_taps(t, tables);
    if (t.taps > 1) ones *= 1 << weight_bits;
  }
  const double output = output_scale(op);
  tables.emit("ratio", ratio(op, "the ratio of scales", activation_quant(op, op.input("input")).scale() / output / ones));
  emit_activation(op, output, tables);
  emit_output(op, tables);
}

// A constant that is divided by must not have the code of 0.
bool divides(const OpView& op, std::string& reason) {
  const OperandView b = op.input("b");
  const QuantView q = activation_quant(op, b);
  bool zero = !b.is_constant();
  if (b.is_constant()) {
    const auto t = b.tensor();
    const auto* codes = static_cast<const uint8_t*>(t.data());
    for (int64_t i = 0; i < t.count() && !zero; ++i)
      zero = (q.is_signed() ? static_cast<int64_t>(static_cast<int8_t>(codes[i])) : codes[i]) == q.zero_point();
  }
  if (zero) reason = "a division by what is not a constant, or by a constant that is 0 in 8 bits";
  return !zero;
}

std::string number(double v) { return std::to_string(static_cast<long long>(v)); }

// Of one tensor's numbers: the largest |x - z|.
double largest_of(const QuantView& q) { return static_cast<double>(std::max(q.qmax() - q.zero_point(), q.zero_point() - q.qmin())); }

bool product_fits_accumulator(const OpView& op, std::string& reason) {
  const OperandView a = op.input("input"), b = op.input("weight");
  const Dims dims = dims_of(a);
  const int64_t depth = dims.empty() ? 1 : dims.back();
  const double worst = largest_of(activation_quant(op, a)) * largest_of(activation_quant(op, b)) * static_cast<double>(depth);
  if (worst < 0x1p31) return true;
  reason = "a sum of " + number(static_cast<double>(depth)) + " products may leave the 32-bit accumulator";
  return false;
}

// The accumulator has 32 bits: |sum| <= max|x - z| * sum|w| must stay below 2^31 in every channel.
bool fits_accumulator(const OpView& op, std::string& reason) {
  const QuantView x = activation_quant(op, op.input("input"));
  const double largest = largest_of(x);
  const auto w = op.input("weight").tensor();
  int axis = 0;
  const int64_t channels = output_channels(op, &axis);
  // A transposed convolution's weight is [ic][oc / group][kernel]; each output sums over the ic of its group.
  const bool transposed = op.op() == "ConvTranspose";
  const int64_t group = transposed ? op.node(0).integer("group", 1) : 1;
  const int64_t taps = channels > 0 ? w.count() / channels : 0, each = channels / std::max<int64_t>(1, group);
  const int64_t kernel = transposed && each > 0 ? w.count() / (w.dim(0) * each) : 1;
  const QuantView q = op.input("weight").quant();
  const int64_t zero = q && q.count() > 0 ? q.zero_point() : 0;  // one for all channels, where it is not 0
  double worst = (zero != 0 ? 255.0 : 127.0) * static_cast<double>(taps);
  if (op.input("weight").is_constant() && op.input("weight").dtype() == QUERN_DTYPE_S8 && worst * 255 >= 0x1p31) {
    const auto v = w.values<const int8_t>();
    std::vector<int64_t> sum(static_cast<size_t>(channels), 0);
    const auto channel = [&](int64_t i) {
      if (transposed) return i / (w.count() / group) * each + i / kernel % each;
      return axis == 0 ? i / taps : i % channels;
    };
    for (size_t i = 0; i < v.size(); ++i) sum[static_cast<size_t>(channel(static_cast<int64_t>(i)))] += std::abs(v[i] - zero);
    worst = static_cast<double>(*std::max_element(sum.begin(), sum.end()));
  }
  // The unsigned code of a signed input goes up to 255 inside of the kernels.
  if (worst * std::max(largest, 255.0) < 0x1p31) return true;
  reason = "a sum of " + number(static_cast<double>(taps)) + " products may leave the 32-bit accumulator";
  return false;
}

}  // namespace

int64_t output_channels(const OpView& op, int* axis) {
  const auto w = op.input("weight").tensor();
  if (op.op() == "ConvTranspose" && w.rank() >= 3 && w.complete()) {
    if (axis) *axis = 1;
    return w.dim(1) * op.node(0).integer("group", 1);
  }
  const bool columns = op.op() == "MatMul" || (op.op() == "Gemm" && op.node(0).integer("transB", 0) == 0);
  if (w.rank() < 2 || (op.op() != "Conv" && w.rank() != 2) || !w.complete())
    throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": the weight has an unexpected shape");
  if (axis) *axis = columns ? 1 : 0;
  return w.dim(columns ? 1 : 0);
}

void derive(const OpView& op, quern_sdk::TableSink& tables) {
  const std::string_view kind = op.op();
  if (is_dot(kind)) return is_product(op) ? derive_product(op, tables) : derive_dot(op, tables);
  if (is_pair(kind)) return derive_pair(op, tables);
  if (kind == "Resize") return derive_resample(op, tables);
  if (kind == "Concat") return;
  if (op.contract() == "table") return derive_table(op, tables);
  derive_one(op, is_average(kind) || kind == "ReduceMean", tables);
}

bool supports(const OpView& op, std::string& reason) {
  const std::string_view kind = op.op();
  if (is_dot(kind)) {
    if (const OperandView residual = op.find("residual")) {
      const Dims r = dims_of(residual), y = dims_of(op.output());
      // The output of the operator gives the shape; a residual may be broadcast to it, not the other way round.
      if (r.size() > y.size()) {
        reason = "the tensor added to the output has a higher rank than the output";
        return false;
      }
      for (size_t i = 0; i < r.size(); ++i) {
        const int64_t d = y[y.size() - r.size() + i];
        if (r[i] != 1 && r[i] != d) {
          reason = "the tensor added to the output has another shape";
          return false;
        }
      }
    }
    for (size_t m = 1; m < op.nodes(); ++m)
      if (op.node(m).op() == "PRelu" && !function_of(op, op.node(m))) {
        reason = "a fused PRelu has one slope for all channels";
        return false;
      }
    return is_product(op) ? product_fits_accumulator(op, reason) : fits_accumulator(op, reason);
  }
  if (op.contract() == "table" && !function_of(op, op.node(0))) {
    reason = kind == "PRelu" ? "PRelu has a slope per channel" : "there is no table for these attributes";
    return false;
  }
  if (kind == "Div") return divides(op, reason);
  if (kind == "Resize") return can_resample(op, reason);
  if (is_selection(kind)) return can_select(op, reason);
  if (kind == "Concat") {
    for (size_t i = 0; i < op.inputs(); ++i)
      if (!same_codes(activation_quant(op, op.input_at(i)), op.output().quant())) {
        reason = "the inputs of Concat and its output must share scale and zero point";
        return false;
      }
  }
  return true;
}

}  // namespace quern_common
