// ReduceMean over any axes, contract "mean": the exact sum of (x - x_zp), divided by how many there are, times the ratio of
// scales.
#include <algorithm>

#include "plugins/cpu/numbers.hpp"
#include "plugins/common/select.hpp"
#include "plugins/cpu/strided.hpp"

namespace quern_cpu {

Dims reduced_axes(const OpView& op, size_t rank) {
  Dims axes = op.node(0).integers("axes");
  if (const auto stated = integers_at(op, 1)) axes = *stated;  // an input since opset 18
  if (axes.empty()) for (size_t a = 0; a < rank; ++a) axes.push_back(static_cast<int64_t>(a));
  for (auto& a : axes) {
    if (a < 0) a += static_cast<int64_t>(rank);
    if (a < 0 || a >= static_cast<int64_t>(rank)) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": an axis is outside of the rank");
  }
  std::sort(axes.begin(), axes.end());
  axes.erase(std::unique(axes.begin(), axes.end()), axes.end());
  return axes;
}

namespace {

class MeanKernel : public Kernel {
 public:
  MeanKernel(const OpView& op, uint32_t threads) : Kernel(std::string("cpu.mean:") + rows().name), threads_(threads), floats_(writes_floats(op)), sink_(sink_of(op)) {
    const OperandView input = op.input("input");
    if (input.is_constant()) throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": the input is a constant");
    dims_ = dims_of(input);
    const Dims axes = reduced_axes(op, dims_.size());
    for (size_t a = 0; a < dims_.size(); ++a) {
      const bool reduced = std::binary_search(axes.begin(), axes.end(), static_cast<int64_t>(a));
      (reduced ? reduced_ : kept_).push_back(a);
      (reduced ? count_ : size_) *= dims_[a];
    }
    if (count_of(dims_of(op.output())) != size_) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": the output's size does not follow from the axes");
    if (count_ < 1 || count_ >= int64_t{1} << 23) throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": a mean of none, or of too many for a sum in 32 bits");
    source_ = source_of(op, input, op.table<float>("ratio")[0]);
  }

  uint64_t workspace_bytes() const override { return static_cast<uint64_t>(size_ * count_) + 64; }
  std::vector<uint32_t> input_layouts() const override { return {QUERN_LAYOUT_ANY}; }
  uint32_t output_layout() const override { return QUERN_LAYOUT_ROW_MAJOR; }

  void execute(Context&, Span<const quern_tensor> inputs, const quern_tensor& output, void* workspace) const override {
    const quern_tensor& in = inputs[0];
    const auto* base = static_cast<const uint8_t*>(in.data);
    // Kept axes from the innermost on that lie densely: a run that is summed as it lies.
    int64_t run = 1;
    size_t outer = kept_.size();
    while (outer > 0 && (dims_[kept_[outer - 1]] == 1 || in.strides[kept_[outer - 1]] == run)) run *= dims_[kept_[--outer]];
    std::vector<int64_t> taps = offsets(reduced_, reduced_.size(), in.strides), places = offsets(kept_, outer, in.strides);
    if (run < 16 && run < size_) {
      // Runs too short: all kept elements side by side for each reduced one.
      Dims dims, from;
      for (const auto* axes : {&reduced_, &kept_})
        for (size_t a : *axes) {
          dims.push_back(dims_[a]);
          from.push_back(in.strides[a]);
        }
      auto* dense = static_cast<uint8_t*>(workspace);
      for_rows(dims, row_major_strides(dims), {from}, threads_, [&](int64_t o, const int64_t* i, int64_t n, int64_t step, const int64_t* steps) {
        for (int64_t k = 0; k < n; ++k) dense[o + k * step] = base[i[0] + k * steps[0]];
      });
      base = dense;
      run = size_;
      places = {0};
      for (size_t t = 0; t < taps.size(); ++t) taps[t] = static_cast<int64_t>(t) * size_;
    }
    const auto window = static_cast<float>(count_);
    // Long runs are cut, so that several threads have work.
    const int64_t piece = 256, pieces = (run + piece - 1) / piece;
    for_pieces(static_cast<int64_t>(places.size()) * pieces, size_ * count_ < few_elements ? 1 : threads_, [&](int64_t first, int64_t last) {
      std::vector<const uint8_t*> rows_of(taps.size());
      for (int64_t w = first; w < last; ++w) {
        const int64_t place = w / pieces, begin = w % pieces * piece, n = std::min(piece, run - begin), o = place * run + begin;
        for (size_t t = 0; t < taps.size(); ++t) rows_of[t] = base + places[static_cast<size_t>(place)] + taps[t] + begin;
        if (floats_) rows().average_floats(rows_of.data(), count_, static_cast<float*>(output.data) + o, n, window, source_, sink_);
        else rows().average_codes(rows_of.data(), count_, static_cast<uint8_t*>(output.data) + o, n, window, source_, sink_);
      }
    });
  }

 private:
  // Offsets of all places of the first `n` of these axes, in row-major order.
  std::vector<int64_t> offsets(const std::vector<size_t>& axes, size_t n, const int64_t* strides) const {
    std::vector<int64_t> out{0};
    for (size_t i = 0; i < n; ++i) {
      std::vector<int64_t> next;
      for (int64_t o : out)
        for (int64_t k = 0; k < dims_[axes[i]]; ++k) next.push_back(o + k * strides[axes[i]]);
      out = std::move(next);
    }
    return out;
  }

  uint32_t threads_;
  bool floats_;
  Sink sink_;
  Source source_;
  Dims dims_;
  std::vector<size_t> reduced_, kept_;
  int64_t count_ = 1, size_ = 1;  // elements of a mean; means
};

}  // namespace

std::unique_ptr<Kernel> compile_mean(const OpView& op, uint32_t threads) { return std::make_unique<MeanKernel>(op, threads); }

}  // namespace quern_cpu
