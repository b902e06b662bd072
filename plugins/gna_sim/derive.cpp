#include "plugins/gna_sim/derive.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <vector>

#include "plugins/common/select.hpp"

namespace quern_gna {
namespace {

constexpr double largest_factor = 16383;  // so that the sum of two operands stays within 31 bits

double half_up(double v) { return std::floor(v + 0.5); }

// Fits of the last functions asked for: a search asks for the same one with every change of a bias, an unrolled cell with every step.
class Fits {
 public:
  std::vector<int32_t> flat(const Target& t) {
    std::vector<double> numbers = t.identity;
    numbers.insert(numbers.end(), {t.x_scale, t.y_scale, t.low, t.high});
    std::string key(reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(double));  // bytes have an order whatever they mean
    {
      const std::lock_guard lock(mutex_);
      if (const auto known = fits_.find(key); known != fits_.end()) return known->second;
    }
    std::vector<int32_t> flat;
    for (const Segment& s : fit_segments(t, most_segments).rows) flat.insert(flat.end(), {s.x_base, s.slope, s.y_base});
    const std::lock_guard lock(mutex_);
    if (fits_.size() >= most_kept) fits_.clear();
    fits_.emplace(std::move(key), flat);
    return flat;
  }

 private:
  static constexpr size_t most_kept = 64;
  std::mutex mutex_;
  std::map<std::string, std::vector<int32_t>> fits_;
};

void emit_segments(const OpView& op, double x_scale, quern_sdk::TableSink& tables) {
  static Fits fits;
  const std::vector<int32_t> flat = fits.flat(target_of(op, x_scale));
  if (flat.empty()) throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": the function has more corners than segments");
  tables.emit("segments", flat, {static_cast<int64_t>(flat.size() / 3), 3});
}

void derive_affine(const OpView& op, quern_sdk::TableSink& tables) {
  const double s_x = signed_quant(op, op.input("input"), true).scale();
  const RowScales rows = row_scales(op);
  const double step = s_x * rows.step;
  if (!rows.multiplier.empty()) tables.emit("row_multiplier", rows.multiplier);
  if (const OperandView bias = op.find("bias")) {
    const auto b = bias.tensor().values<const int32_t>();
    if (static_cast<int64_t>(b.size()) != rows_of(op).channels)
      throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": the bias has not one number per output channel");
    std::vector<int32_t> in_steps;
    for (size_t c = 0; c < b.size(); ++c) {
      const int64_t m = rows.multiplier.empty() ? 1 : rows.multiplier[c];
      in_steps.push_back(static_cast<int32_t>(std::min<int64_t>(INT32_MAX, std::max<int64_t>(INT32_MIN, b[c] * m))));
    }
    tables.emit("acc_bias", in_steps);
  }
  if (op.output().dtype() == QUERN_DTYPE_F32) tables.emit("acc_scale", static_cast<float>(step));
  else emit_segments(op, step, tables);
}

// One operand as a sum: its code times a factor that uses the accumulator's bits, so that bases of segments, which come in fours, are fine
// enough. Of all such factors the one whose unit, in codes of the output, a slope of 16 bits says best.
void derive_one(const OpView& op, quern_sdk::TableSink& tables) {
  const double s_x = signed_quant(op, op.input("input"), true).scale(), ratio = s_x / signed_quant(op, op.output()).scale();
  int32_t factor = 16383;
  double best = 1;
  for (int32_t f = 16383; f > 8191; --f) {
    int e = 0;
    const double slope = std::frexp(ratio / f, &e) * 32768;  // 15 bits of it
    const double error = std::fabs(slope - half_up(slope)) / slope;
    if (error < best) { best = error; factor = f; }
  }
  tables.emit("factor", factor);
  emit_segments(op, s_x / factor, tables);
}

void derive_sum(const OpView& op, quern_sdk::TableSink& tables) {
  const double s_a = signed_quant(op, op.input("a")).scale(), s_b = signed_quant(op, op.input("b")).scale();
  const double step = std::max(s_a, s_b) / largest_factor;
  // A factor of 0 would drop an operand whose codes are worth nothing beside the other's.
  const auto factor = [&](double s) { return static_cast<int32_t>(half_up(s / step)); };
  tables.emit("a_factor", factor(s_a));
  tables.emit("b_factor", op.op() == "Sub" ? -factor(s_b) : factor(s_b));
  emit_segments(op, step, tables);
}

}  // namespace

void derive(const OpView& op, quern_sdk::TableSink& tables) {
  const std::string_view contract = op.contract();
  if (contract == "affine" || contract == "affine_float") return derive_affine(op, tables);
  if (contract == "sum") return derive_sum(op, tables);
  if (contract == "product")
    return emit_segments(op, static_cast<double>(signed_quant(op, op.input("a")).scale()) * signed_quant(op, op.input("b")).scale(), tables);
  if (contract == "function") return derive_one(op, tables);
  if (contract == "copy" && !same_scale(signed_quant(op, op.input("input")), signed_quant(op, op.output()))) derive_one(op, tables);
}

bool supports(const OpView& op, std::string& reason) {
  const std::string_view contract = op.contract();
  for (size_t m = 0; m < op.nodes(); ++m)
    if (op.node(m).op() == "PRelu" && !function_of(op, op.node(m))) {
      reason = "PRelu has a slope per channel";
      return false;
    }
  if (contract == "affine" || contract == "affine_float") {
    const NodeView node = op.node(0);
    if (op.op() == "Gemm" && (node.integer("transA", 0) != 0 || node.real("alpha", 1) != 1 || node.real("beta", 1) != 1)) {
      reason = "Gemm with transA, alpha or beta";
      return false;
    }
    if (op.op() == "Conv" && node.integer("group", 1) != 1) {
      reason = "a convolution with groups";
      return false;
    }
    row_scales(op);
  }
  if (op.op() == "Slice") return can_select(op, reason);
  if (op.op() == "MaxPool" && !same_scale(signed_quant(op, op.input("input")), signed_quant(op, op.output()))) {
    reason = "a pool's input and output must share their scale";
    return false;
  }
  if (op.op() == "MaxPool" && op.node(0).integer("ceil_mode", 0) != 0) {
    reason = "a pool that rounds its size up";
    return false;
  }
  if (op.op() == "Concat")
    for (size_t i = 0; i < op.inputs(); ++i)
      if (!same_scale(signed_quant(op, op.input_at(i)), signed_quant(op, op.output()))) {
        reason = "the inputs of Concat and its output must share their scale";
        return false;
      }
  return true;
}

}  // namespace quern_gna
