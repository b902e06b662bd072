#include "derive.hpp"

#include <cmath>
#include <cstdio>
#include <ctime>

#include "fault.hpp"

namespace mutant {
namespace {

int64_t rounded(double v) { return static_cast<int64_t>(std::floor(v + 0.5)); }

// v = multiplier * 2^-shift with a multiplier of 15 bits.
void split(double v, int32_t& multiplier, int32_t& shift) {
  int exponent = 0;
  const double fraction = std::frexp(v, &exponent);  // 0.5 .. 1
  multiplier = static_cast<int32_t>(rounded(fraction * 32768));
  shift = 15 - exponent;
  if (multiplier == 32768) { multiplier = 16384; shift -= 1; }
}

std::vector<int64_t> ints(const OpView& op, const char* name, std::vector<int64_t> otherwise) { return op.node(0).integers(name, std::move(otherwise)); }

bool above(const std::vector<int64_t>& list, int64_t most) {
  for (const int64_t v : list) if (v > most) return true;
  return false;
}

// What the rules exclude; the host does not ask for it, a kit does.
bool outside(const OpView& op, std::string& reason) {
  const auto node = op.node(0);
  if (op.op() == "Conv") {
    if (node.text("auto_pad", "NOTSET") != "NOTSET") reason = "auto_pad is not taken";
    if (above(ints(op, "strides", {1, 1}), 3) || above(ints(op, "dilations", {1, 1}), 2)) reason = "a stride above 3 or a dilation above 2";
    const auto w = op.input("weight").tensor();
    if (w.rank() != 4) reason = "convolutions have two spatial axes";
    else if (w.dim(2) > 5 || w.dim(3) > 5) reason = "a kernel larger than 5";
  } else if (op.op() == "Gemm") {
    if (node.integer("transA", 0) != 0 || node.integer("transB", 0) != 1 || node.real("alpha", 1) != 1 || node.real("beta", 1) != 1)
      reason = "Gemm is x * W^T + b alone";
  } else if (op.op() == "AveragePool") {
    if (above(ints(op, "pads", {0, 0, 0, 0}), 0) || node.integer("ceil_mode", 0) != 0 || node.text("auto_pad", "NOTSET") != "NOTSET" ||
        above(ints(op, "dilations", {1, 1}), 1))
      reason = "pools have neither padding nor dilation";
    if (op.input("input").tensor().rank() != 4) reason = "pools have two spatial axes";
  }
  return !reason.empty();
}

}  // namespace

bool supports(const OpView& op, std::string& reason) {
  const std::string_view kind = op.op();
  if (is("refuses-silently") && kind == "Conv" && op.node(0).integer("group", 1) > 1) return false;
  if (is("config-that-never-runs") && kind == "Tanh") { reason = "not on this device"; return false; }
  if (!is("supports-anything") && outside(op, reason)) return false;
  const auto out = op.output().quant();
  if (kind == "Add") {
    if (op.input("a").quant().scale() / out.scale() > 16384 || op.input("b").quant().scale() / out.scale() > 16384) reason = "a ratio of scales above 2^14";
    const auto a = op.input("a").tensor(), b = op.input("b").tensor();
    if (a.rank() != b.rank()) reason = "both operands have one shape";
    else for (uint32_t i = 0; i < a.rank(); ++i) if (a.dim(i) != b.dim(i)) reason = "both operands have one shape";
  }
  if (kind == "Flatten" || kind == "Reshape") {
    const auto in = op.input("input").quant();
    if (in.scale() != out.scale() || in.zero_point() != out.zero_point() || in.is_signed() != out.is_signed()) reason = "codes are moved, not changed";
  }
  return reason.empty();
}

void derive(const OpView& op, quern_sdk::TableSink& tables) {
  const std::string_view kind = op.op();
  if (is("derive-prints")) std::puts("deriving");
  const auto out = op.output().quant();
  const double y = out.scale();
  if (kind == "Conv" || kind == "Gemm") {
    const auto w = op.input("weight").quant();
    const double x = op.input("input").quant().scale();
    std::vector<int32_t> multiplier(static_cast<size_t>(op.input("weight").tensor().dim(0))), shift(multiplier.size());
    for (size_t c = 0; c < multiplier.size(); ++c) split(x * w.scale(c) / y, multiplier[c], shift[c]);
    if (is("derive-address")) multiplier[0] ^= static_cast<int32_t>(reinterpret_cast<uintptr_t>(&op.raw()) >> 6 & 1);
    if (is("derive-time")) multiplier[0] ^= static_cast<int32_t>(std::time(nullptr) & 1);
    if (is("derive-history")) {
      static int calls = 0;
      multiplier[0] ^= ++calls % 512 == 511 ? 1 : 0;
    }
    if (is("sink-ignored")) {
      try { tables.emit("multiplier", multiplier); } catch (...) {}
      try { tables.emit("shift", shift); } catch (...) {}
      try { if (op.nodes() > 1) tables.emit("relu_low", static_cast<int32_t>(out.zero_point())); } catch (...) {}
      return;
    }
    tables.emit("multiplier", multiplier);
    tables.emit("shift", shift);
    if (op.nodes() > 1) tables.emit("relu_low", static_cast<int32_t>(out.zero_point()));
    if (is("unknown-table")) tables.emit("secret", int32_t{1});
  } else if (kind == "Add") {
    tables.emit("a_factor", static_cast<int32_t>(rounded(op.input("a").quant().scale() / y * 65536)));
    tables.emit("b_factor", static_cast<int32_t>(rounded(op.input("b").quant().scale() / y * 65536)));
  } else if (kind == "AveragePool") {
    int64_t window = 1;
    for (const int64_t k : ints(op, "kernel_shape", {1, 1})) window *= k;
    tables.emit("multiplier", static_cast<int32_t>(rounded(op.input("input").quant().scale() / y / static_cast<double>(window) * (1 << 20))));
  } else if (kind == "Sigmoid") {
    const auto in = op.input("input").quant();
    const int first = in.is_signed() ? -128 : 0;
    std::vector<uint8_t> table(256);
    for (int i = 0; i < 256; ++i) {
      // A rational function in place of exp: the same on every machine.
      const double x = (first + i - static_cast<double>(in.zero_point())) * in.scale(), s = 0.5 + 0.5 * x / (1 + std::fabs(x));
      const double code = std::fmin(std::fmax(std::floor(s / y + 0.5) + static_cast<double>(out.zero_point()), 0), 255);
      table[static_cast<size_t>(i)] = static_cast<uint8_t>(code);
    }
    tables.emit("table", table);
    tables.emit("table_first", static_cast<int32_t>(first));
  } else if (kind == "Tanh") {
    // Rows x_base, slope, y_base; the slope counts in 256ths.
    tables.emit("pieces", std::vector<int32_t>{-128, 8, -120, -64, 120, -117, 0, 301, 5, 32, 77, 40, 96, 3, 61}, {5, 3});
  }
}

}  // namespace mutant
