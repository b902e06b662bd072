// Two tensors of 8-bit codes element by element, broadcast as numpy does. Contract "add" (Add, and Sub with a negative ratio),
// "larger", "smaller": float(a - a_zp) * a_ratio meets float(b - b_zp) * b_ratio; "mul", "div": (a - a_zp) meets (b - b_zp), times
// ratio; then clamp and output.
#include "plugins/cpu/numbers.hpp"
#include "plugins/cpu/strided.hpp"

namespace quern_cpu {
namespace {

constexpr int64_t chunk = 512;

// n codes `step` apart as a dense row; the row itself where they are dense already.
const uint8_t* dense(const uint8_t* p, int64_t n, int64_t step, uint8_t* buffer) {
  if (step == 1) return p;
  for (int64_t i = 0; i < n; ++i) buffer[i] = p[i * step];
  return buffer;
}

Pair pair_of(const OpView& op) {
  const std::string_view kind = op.op();
  if (kind == "Add" || kind == "Sub") return Pair::add;
  if (kind == "Mul") return Pair::mul;
  if (kind == "Div") return Pair::div;
  if (kind == "Max") return Pair::max;
  if (kind == "Min") return Pair::min;
  throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": no kernel for " + std::string(kind));
}

class PairKernel : public Kernel {
 public:
  PairKernel(const OpView& op, uint32_t threads)
      : Kernel(std::string("cpu.") + std::string(op.op()) + ":" + rows().name), threads_(threads), pair_(pair_of(op)), sink_(sink_of(op)), floats_(writes_floats(op)) {
    for (char& c : name_) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    const bool one_ratio = pair_ == Pair::mul || pair_ == Pair::div;
    for (size_t k = 0; k < 2; ++k) {
      const char* role = k == 0 ? "a" : "b";
      const OperandView o = op.input(role);
      Side& s = sides_[k];
      s.source = source_of(op, o, op.table<float>(one_ratio ? "ratio" : std::string(role) + "_ratio")[0]);
      s.dims = dims_of(o);
      if (o.is_constant()) {
        s.constant = codes_of(o);
        s.strides = row_major_strides(s.dims);
      }
    }
    for (const OperandView& o : op.variable_inputs()) {
      const int at = static_cast<int>(layouts_.size());
      if (o.role() == "a") sides_[0].input = at;
      if (o.role() == "b") sides_[1].input = at;
      layouts_.push_back(QUERN_LAYOUT_ANY);
    }
  }

  std::vector<uint32_t> input_layouts() const override { return layouts_; }
  uint32_t output_layout() const override { return QUERN_LAYOUT_ANY; }

  void execute(Context&, Span<const quern_tensor> inputs, const quern_tensor& output, void*) const override {
    const Dims dims(output.dims, output.dims + output.rank), own(output.strides, output.strides + output.rank);
    const uint8_t* data[2];
    std::vector<Dims> strides;
    for (size_t k = 0; k < 2; ++k) {
      const Side& s = sides_[k];
      quern_tensor t = quern_sdk::make<quern_tensor>();
      if (s.input >= 0) {
        t = inputs[static_cast<size_t>(s.input)];
      } else {
        t.data = const_cast<uint8_t*>(s.constant.data());
        t.rank = static_cast<uint32_t>(s.dims.size());
        t.dims = s.dims.data();
        t.strides = s.strides.data();
      }
      data[k] = static_cast<const uint8_t*>(t.data);
      strides.push_back(broadcast_strides(t, dims));
    }
    for_rows(dims, own, strides, threads_, [&](int64_t o, const int64_t* at, int64_t n, int64_t step, const int64_t* steps) {
      if (step == 1 && steps[0] == 1 && steps[1] == 1) return row(data[0] + at[0], data[1] + at[1], output.data, o, n);
      alignas(64) uint8_t a[chunk + 64], b[chunk + 64];
      alignas(64) float out[chunk];
      for (int64_t i = 0; i < n; i += chunk) {
        const int64_t m = std::min(chunk, n - i);
        const uint8_t* pa = dense(data[0] + at[0] + i * steps[0], m, steps[0], a);
        const uint8_t* pb = dense(data[1] + at[1] + i * steps[1], m, steps[1], b);
        if (step == 1) {
          row(pa, pb, output.data, o + i, m);
          continue;
        }
        row(pa, pb, out, 0, m);
        for (int64_t k = 0; k < m; ++k) {
          if (floats_) static_cast<float*>(output.data)[o + (i + k) * step] = out[k];
          else static_cast<uint8_t*>(output.data)[o + (i + k) * step] = reinterpret_cast<const uint8_t*>(out)[k];
        }
      }
    });
  }

 private:
  struct Side {
    int input = -1;
    Source source;
    Dims dims, strides;
    std::vector<uint8_t> constant;
  };
  void row(const uint8_t* a, const uint8_t* b, void* out, int64_t offset, int64_t n) const {
    const auto op = static_cast<size_t>(pair_);
    if (floats_) rows().pair_floats[op](a, b, static_cast<float*>(out) + offset, n, sides_[0].source, sides_[1].source, sink_);
    else rows().pair_codes[op](a, b, static_cast<uint8_t*>(out) + offset, n, sides_[0].source, sides_[1].source, sink_);
  }

  uint32_t threads_;
  Pair pair_;
  Side sides_[2];
  Sink sink_;
  bool floats_;
  std::vector<uint32_t> layouts_;
};

}  // namespace

std::unique_ptr<Kernel> compile_elementwise(const OpView& op, uint32_t threads) { return std::make_unique<PairKernel>(op, threads); }

}  // namespace quern_cpu
