// Operators that move codes: Reshape and its like, Transpose, Slice, Concat.
#include <cstring>

#include "plugins/common/select.hpp"
#include "plugins/common/walk.hpp"
#include "plugins/gna_sim/kernel.hpp"

namespace quern_gna {
namespace {

// The input at strides of its own, written row by row.
void copy_strided(const int16_t* from, const Dims& steps, const Dims& dims, int16_t* to, const Dims& out) {
  const Walk w = make_walk(dims, out, {steps});
  const size_t last = w.dims.size() - 1;
  int64_t rows = 1;
  for (size_t a = 0; a < last; ++a) rows *= w.dims[a];
  for (int64_t r = 0; r < rows; ++r) {
    int64_t rest = r, o = 0, at = 0;
    for (size_t a = last; a-- > 0;) {
      const int64_t i = rest % w.dims[a];
      rest /= w.dims[a];
      o += i * w.out[a];
      at += i * w.in[0][a];
    }
    const int64_t n = w.dims[last], si = w.in[0][last], so = w.out[last];
    if (si == 1 && so == 1) std::memcpy(to + o, from + at, static_cast<size_t>(n) * 2);
    else for (int64_t i = 0; i < n; ++i) to[o + i * so] = from[at + i * si];
  }
}

class CopyKernel : public Kernel {
 public:
  explicit CopyKernel(const OpView& op) : Kernel("gna.copy", op), dims_(dims_of(op.output())) {
    const Dims in = dims_of(op.input("input")), dense = row_major_strides(in);
    signed_quant(op, op.input("input"));
    if (op.find_table("segments")) {
      sink_ = Sink(op);
      factor_ = op.table<int32_t>("factor")[0];
      name_ = "gna.copy:rescaled";
    }
    count_ = count_of(dims_);
    if (op.op() == "Transpose") {
      Dims order = op.node(0).integers("perm");
      if (order.empty())
        for (size_t a = in.size(); a-- > 0;) order.push_back(static_cast<int64_t>(a));
      if (order.size() != in.size() || dims_.size() != in.size()) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": perm does not fit the rank");
      for (int64_t a : order) {
        if (a < 0 || a >= static_cast<int64_t>(in.size())) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": perm names an axis that is not there");
        steps_.push_back(dense[static_cast<size_t>(a)]);
      }
    } else if (op.op() == "Slice") {
      select(op, in, dense);
    } else if (count_of(in) != count_) {
      throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": input and output have different numbers of elements");
    }
  }

  uint64_t workspace_bytes() const override { return static_cast<uint64_t>(count_) * 2; }

  void execute(Context&, Span<const quern_tensor> inputs, const quern_tensor& output, void* workspace) const override {
    const auto* from = static_cast<const int16_t*>(inputs[0].data);
    auto* out = static_cast<int16_t*>(output.data);
    int16_t* to = sink_.segments.empty() ? out : static_cast<int16_t*>(workspace);
    if (count_ == 0) return;
    if (steps_.empty()) std::memcpy(to, from, static_cast<size_t>(count_) * 2);
    else copy_strided(from + first_, steps_, dims_, to, row_major_strides(dims_));
    int32_t sums[512];
    for (int64_t i = 0; !sink_.segments.empty() && i < count_; i += 512) {
      const int64_t m = std::min<int64_t>(512, count_ - i);
      for (int64_t k = 0; k < m; ++k) sums[k] = to[i + k] * factor_;
      sink_.segments.run(sums, m, sink_.low, sink_.high, out + i);
    }
  }

 private:
  // A Slice has one run along every axis.
  void select(const OpView& op, const Dims& in, const Dims& dense) {
    const Selection s = selection_of(op, in, dims_);
    for (size_t a = 0; a < s.axes.size(); ++a) {
      if (s.axes[a].empty()) { steps_.push_back(0); continue; }
      if (s.axes[a].size() != 1) throw Failure(QUERN_INTERNAL, std::string(op.name()) + ": a Slice in several pieces");
      const Run& r = s.axes[a][0];
      const int64_t stride = dense[static_cast<size_t>(s.input_axis[a])];
      first_ += r.in * stride;
      steps_.push_back(r.step * stride);
    }
  }

  Dims dims_, steps_;  // steps_: of the input, per axis of the output; empty: as it lies
  int64_t first_ = 0, count_ = 0;
  int32_t factor_ = 1;
  Sink sink_;
};

class ConcatKernel : public Kernel {
 public:
  explicit ConcatKernel(const OpView& op) : Kernel("gna.concat", op) {
    const Dims out = dims_of(op.output());
    int64_t axis = op.node(0).integer("axis", 0);
    if (axis < 0) axis += static_cast<int64_t>(out.size());
    if (axis < 0 || axis >= static_cast<int64_t>(out.size())) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": axis is outside of the rank");
    for (int64_t a = 0; a < axis; ++a) rows_ *= out[static_cast<size_t>(a)];
    for (size_t a = static_cast<size_t>(axis) + 1; a < out.size(); ++a) inner_ *= out[a];
    for (int32_t index : op.node(0).inputs()) {
      if (index < 0 || static_cast<size_t>(index) >= op.inputs()) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": an input is missing");
      const OperandView o = op.input_at(static_cast<size_t>(index));
      signed_quant(op, o);
      Piece p;
      p.width = dims_of(o).at(static_cast<size_t>(axis)) * inner_;
      if (o.is_constant()) p.constant = wide_codes(o.tensor().raw());
      else for (int32_t k = 0; k < index; ++k) p.input += op.input_at(static_cast<size_t>(k)).is_constant() ? 0 : 1;
      width_ += p.width;
      pieces_.push_back(std::move(p));
    }
    if (width_ != out[static_cast<size_t>(axis)] * inner_) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": the inputs do not fill the output");
  }

  void execute(Context&, Span<const quern_tensor> inputs, const quern_tensor& output, void*) const override {
    int64_t begin = 0;
    for (const Piece& p : pieces_) {
      const int16_t* from = p.constant.empty() ? static_cast<const int16_t*>(inputs[p.input].data) : p.constant.data();
      for (int64_t r = 0; r < rows_; ++r)
        std::memcpy(static_cast<int16_t*>(output.data) + r * width_ + begin, from + r * p.width, static_cast<size_t>(p.width) * 2);
      begin += p.width;
    }
  }

 private:
  struct Piece { size_t input = 0; int64_t width = 0; std::vector<int16_t> constant; };
  int64_t rows_ = 1, inner_ = 1, width_ = 0;
  std::vector<Piece> pieces_;
};

}  // namespace

std::unique_ptr<Kernel> compile_copy(const OpView& op) { return std::make_unique<CopyKernel>(op); }
std::unique_ptr<Kernel> compile_concat(const OpView& op) { return std::make_unique<ConcatKernel>(op); }

}  // namespace quern_gna
