#include "plugins/vpu_sim/finish.hpp"

#include <cmath>

namespace quern_vpu {

namespace {

// Contracts that leave codes as they are where no number was derived; with the others a missing one is an error.
bool may_copy(const OpView& op) { return op.contract() == "max" || op.contract() == "move" || op.contract() == "concat"; }

}  // namespace

Finish::Finish(const OpView& op, int64_t channels) : floats_(writes_floats(op)), copies_(!floats_ && may_copy(op) && !op.find_table("multiplier")) {
  if (copies_) return;
  const auto wrong = [&](const char* table) -> void { throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": table " + table + " has a wrong size"); };
  const size_t given = floats_ ? op.table<float>("scale").size() : op.table<uint16_t>("multiplier").size();
  per_channel_ = channels > 0 && (given > 1 || op.has("bias"));
  const auto count = static_cast<size_t>(per_channel_ ? channels : chunk);
  const auto spread = [&](const char* name, size_t size) {
    if (size != 1 && (!per_channel_ || static_cast<int64_t>(size) != channels)) wrong(name);
    return [size](size_t i) { return size == 1 ? size_t{0} : i; };
  };
  bias_.assign(count, 0);
  if (op.has("bias")) {
    const auto bias = op.input("bias").tensor().values<const int32_t>();
    const auto at = spread("bias", bias.size());
    for (size_t i = 0; i < count; ++i) bias_[i] = bias[at(i)];
  }
  if (floats_) {
    const auto scale = op.table<float>("scale");
    const auto at = spread("scale", scale.size());
    for (size_t i = 0; i < count; ++i) scale_.push_back(scale[at(i)]);
    halves_ = {-INFINITY, INFINITY};
    if (op.find_table("act_low")) halves_ = {op.table<float>("act_low")[0], op.table<float>("act_high")[0]};
    return;
  }
  const auto multiplier = op.table<uint16_t>("multiplier");
  const auto shift = op.table<uint8_t>("shift");
  if (shift.size() != multiplier.size()) wrong("shift");
  const auto at = spread("multiplier", multiplier.size());
  for (size_t i = 0; i < count; ++i) factor_.push_back(std::ldexp(static_cast<double>(multiplier[at(i)]), -static_cast<int>(shift[at(i)])));
  codes_.offset = op.table<int32_t>("offset")[0];
  codes_.low = op.table<int32_t>("low")[0];
  codes_.high = op.table<int32_t>("high")[0];
  for (const int32_t v : activation_table(op)) table_.push_back(static_cast<uint8_t>(v));
  if (!table_.empty() && (codes_.low < 0 || codes_.high >= static_cast<double>(table_.size()))) wrong("act_table");
}

void Finish::row(const int32_t* acc, int64_t first, int64_t n, void* out, int64_t at) const {
  Codes codes = codes_;
  codes.table = table_.empty() ? nullptr : table_.data();
  for (int64_t i = 0; i < n;) {
    const int64_t m = per_channel_ ? n : std::min(chunk, n - i), c = per_channel_ ? first : 0;
    if (floats_) rows().halves(acc + i, bias_.data() + c, scale_.data() + c, m, halves_, static_cast<float*>(out) + at + i);
    else rows().codes(acc + i, bias_.data() + c, factor_.data() + c, m, codes, static_cast<uint8_t*>(out) + at + i);
    i += m;
  }
}

void Finish::strided(const int32_t* acc, int64_t n, void* out, int64_t at, int64_t step) const {
  if (step == 1) return row(acc, 0, n, out, at);
  float dense[chunk];
  for (int64_t i = 0; i < n; i += chunk) {
    const int64_t m = std::min(chunk, n - i);
    row(acc + i, 0, m, dense, 0);
    for (int64_t k = 0; k < m; ++k) {
      if (floats_) static_cast<float*>(out)[at + (i + k) * step] = dense[k];
      else static_cast<uint8_t*>(out)[at + (i + k) * step] = reinterpret_cast<const uint8_t*>(dense)[k];
    }
  }
}

size_t flowing_index(const OpView& op, std::string_view role) {
  size_t at = 0;
  for (const OperandView& o : op.variable_inputs()) {
    if (o.role() == role) return at;
    ++at;
  }
  throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": the operand " + std::string(role) + " is a constant, or missing");
}

}  // namespace quern_vpu
