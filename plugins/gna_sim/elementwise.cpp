// Sums and products of two tensors, functions of one: a 32-bit sum per element, then segments. And the largest of a window.
#include <algorithm>

#include "plugins/common/walk.hpp"
#include "plugins/gna_sim/kernel.hpp"

namespace quern_gna {

Sink::Sink(const OpView& op) {
  const quern_tensor* t = op.find_table("segments");
  if (!t || t->rank != 2 || t->dims[1] != 3 || t->dims[0] < 1) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": no table of segments");
  const auto flat = op.table<int32_t>("segments");
  std::vector<Segment> rows;
  for (size_t i = 0; i < flat.size(); i += 3) rows.push_back({flat[i], flat[i + 1], flat[i + 2]});
  for (size_t i = 1; i < rows.size(); ++i)
    if ((rows[i].x_base & ~3) <= (rows[i - 1].x_base & ~3)) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": the bases of segments do not increase");
  segments = Segments(std::move(rows));
  const QuantView y = signed_quant(op, op.output());
  low = static_cast<int32_t>(y.qmin());
  high = static_cast<int32_t>(y.qmax());
}

std::vector<int16_t> wide_codes(const quern_tensor& tensor) {
  const quern_sdk::TensorView t(tensor);
  if (t.dtype() == QUERN_DTYPE_S8) {
    const auto v = t.values<const int8_t>();
    return std::vector<int16_t>(v.begin(), v.end());
  }
  const auto v = t.values<const int16_t>();
  return std::vector<int16_t>(v.begin(), v.end());
}

namespace {

constexpr int64_t chunk = 512;

class PairKernel : public Kernel {
 public:
  explicit PairKernel(const OpView& op) : Kernel(op.op() == "Mul" ? "gna.product" : "gna.sum", op), sink_(op), product_(op.op() == "Mul") {
    const Dims out = dims_of(op.output());
    const char* roles[] = {"a", "b"};
    std::vector<Dims> steps;
    for (int k = 0; k < 2; ++k) {
      const OperandView o = op.input(roles[k]);
      signed_quant(op, o);
      if (o.is_constant()) constant_[k] = wide_codes(o.tensor().raw());
      else input_[k] = next_++;
      const Dims own = dims_of(o);
      const Dims dense = row_major_strides(own);
      quern_tensor t = o.tensor().raw();
      t.strides = dense.data();
      steps.push_back(broadcast_strides(t, out));
    }
    // The same value twice flows in twice.
    walk_ = make_walk(out, row_major_strides(out), steps);
    if (!product_)
      for (int k = 0; k < 2; ++k) factor_[k] = op.table<int32_t>(k ? "b_factor" : "a_factor")[0];
  }

  void execute(Context&, Span<const quern_tensor> inputs, const quern_tensor& output, void*) const override {
    const int16_t* base[2];
    for (int k = 0; k < 2; ++k) base[k] = input_[k] >= 0 ? static_cast<const int16_t*>(inputs[static_cast<size_t>(input_[k])].data) : constant_[k].data();
    auto* out = static_cast<int16_t*>(output.data);
    const size_t last = walk_.dims.size() - 1;
    int64_t rows = 1;
    for (size_t a = 0; a < last; ++a) rows *= walk_.dims[a];
    const int64_t n = walk_.dims[last], sa = walk_.in[0][last], sb = walk_.in[1][last], so = walk_.out[last];
    int32_t sums[chunk];
    int16_t codes[chunk];
    for (int64_t r = 0; r < rows; ++r) {
      int64_t rest = r, o = 0, at[2] = {0, 0};
      for (size_t a = last; a-- > 0;) {
        const int64_t i = rest % walk_.dims[a];
        rest /= walk_.dims[a];
        o += i * walk_.out[a];
        at[0] += i * walk_.in[0][a];
        at[1] += i * walk_.in[1][a];
      }
      for (int64_t first = 0; first < n; first += chunk) {
        const int64_t m = std::min(chunk, n - first);
        const int16_t *a = base[0] + at[0] + first * sa, *b = base[1] + at[1] + first * sb;
        if (product_) for (int64_t i = 0; i < m; ++i) sums[i] = int32_t{a[i * sa]} * b[i * sb];
        else for (int64_t i = 0; i < m; ++i) sums[i] = a[i * sa] * factor_[0] + b[i * sb] * factor_[1];
        int16_t* to = out + o + first * so;
        sink_.segments.run(sums, m, sink_.low, sink_.high, so == 1 ? to : codes);
        for (int64_t i = 0; so != 1 && i < m; ++i) to[i * so] = codes[i];
      }
    }
  }

 private:
  Sink sink_;
  bool product_;
  int input_[2] = {-1, -1}, next_ = 0;
  int32_t factor_[2] = {1, 1};
  std::vector<int16_t> constant_[2];
  Walk walk_;
};

class FunctionKernel : public Kernel {
 public:
  explicit FunctionKernel(const OpView& op) : Kernel("gna.function", op), sink_(op), factor_(op.table<int32_t>("factor")[0]), count_(count_of(dims_of(op.output()))) {
    signed_quant(op, op.input("input"));
  }
  void execute(Context&, Span<const quern_tensor> inputs, const quern_tensor& output, void*) const override {
    int32_t sums[chunk];
    const auto* x = static_cast<const int16_t*>(inputs[0].data);
    auto* out = static_cast<int16_t*>(output.data);
    for (int64_t first = 0; first < count_; first += chunk) {
      const int64_t m = std::min(chunk, count_ - first);
      for (int64_t i = 0; i < m; ++i) sums[i] = x[first + i] * factor_;
      sink_.segments.run(sums, m, sink_.low, sink_.high, out + first);
    }
  }

 private:
  Sink sink_;
  int32_t factor_;
  int64_t count_;
};

class PoolKernel : public Kernel {
 public:
  explicit PoolKernel(const OpView& op) : Kernel("gna.pool", op) {
    const Dims in = dims_of(op.input("input")), out = dims_of(op.output());
    if (in.size() != 3) throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": pools of one axis");
    axis_ = axes_of(op, in, out, op.node(0).integers("kernel_shape"), true)[1];
    rows_ = in[0] * in[1];
  }
  void execute(Context&, Span<const quern_tensor> inputs, const quern_tensor& output, void*) const override {
    const auto* x = static_cast<const int16_t*>(inputs[0].data);
    auto* out = static_cast<int16_t*>(output.data);
    for (int64_t r = 0; r < rows_; ++r, x += axis_.in)
      for (int64_t p = 0; p < axis_.out; ++p) {
        int16_t best = INT16_MIN;
        for (int64_t k = 0; k < axis_.kernel; ++k) {
          const int64_t at = p * axis_.stride - axis_.pad_begin + k * axis_.dilation;
          if (at >= 0 && at < axis_.in) best = std::max(best, x[at]);
        }
        *out++ = best;
      }
  }

 private:
  Axis axis_;
  int64_t rows_ = 0;
};

}  // namespace

std::unique_ptr<Kernel> compile_pair(const OpView& op) { return std::make_unique<PairKernel>(op); }
std::unique_ptr<Kernel> compile_function(const OpView& op) { return std::make_unique<FunctionKernel>(op); }
std::unique_ptr<Kernel> compile_pool(const OpView& op) { return std::make_unique<PoolKernel>(op); }

}  // namespace quern_gna
