// MatMul of two tensors that flow: the second is packed while running, then as a Dot.
#include "plugins/common/walk.hpp"
#include "plugins/vpu_sim/finish.hpp"

namespace quern_vpu {
namespace {

class ProductKernel : public Kernel {
 public:
  ProductKernel(const OpView& op, uint32_t threads)
      : Kernel(std::string("product:") + rows().name), threads_(threads), finish_(op), a_(op, "input"), b_(op, "weight"),
        out_(dims_of(op.output())), layouts_(op.variable_inputs().size(), QUERN_LAYOUT_ROW_MAJOR) {
    const size_t rank = out_.size();
    const Dims &a = a_.dims, &b = b_.dims;
    if (rank < 2 || a.size() < 2 || b.size() < 2 || a.size() > rank || b.size() > rank || a.back() != b[b.size() - 2] || a[a.size() - 2] != out_[rank - 2] || b.back() != out_[rank - 1])
      throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": the two tensors and the output do not fit each other");
    for (const Dims* d : {&a, &b})
      for (size_t i = 0; i + 2 < d->size(); ++i)
        if ((*d)[i] != 1 && (*d)[i] != out_[rank - d->size() + i])
          throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": the batch axes of the two tensors do not fit each other");
    rows_ = out_[rank - 2];
    columns_ = out_[rank - 1];
    depth_ = a.back();
  }

  std::vector<uint32_t> input_layouts() const override { return layouts_; }
  uint32_t output_layout() const override { return QUERN_LAYOUT_ROW_MAJOR; }

  void execute(Span<const quern_tensor> inputs, const quern_tensor& output) const override {
    const auto *a = static_cast<const uint8_t*>(inputs[a_.input].data), *b = static_cast<const uint8_t*>(inputs[b_.input].data);
    int64_t batches = 1;
    for (size_t i = 0; i + 2 < out_.size(); ++i) batches *= out_[i];
    for_pieces(batches, threads_, [&](int64_t first, int64_t last) {
      const int64_t depth = even(depth_), panels = panels_of(columns_), width = panels * panel;
      std::vector<int16_t> left(static_cast<size_t>(rows_ * depth + 16)), right(static_cast<size_t>(width * depth));
      std::vector<int32_t> sums(static_cast<size_t>(rows_ * width));
      for (int64_t n = first; n < last; ++n) {
        const uint8_t *x = a + a_.at(n, out_) * rows_ * depth_, *y = b + b_.at(n, out_) * depth_ * columns_;
        for (int64_t r = 0; r < rows_; ++r) rows().widen(x + r * depth_, a_.is_signed, a_.zero, depth_, left.data() + r * depth);
        for (int64_t k = 0; k < depth_; ++k)
          for (int64_t c = 0; c < columns_; ++c) {
            const uint8_t code = y[k * columns_ + c];
            right[static_cast<size_t>(packed_at(depth, c, k))] = static_cast<int16_t>((b_.is_signed ? static_cast<int32_t>(static_cast<int8_t>(code)) : code) - b_.zero);
          }
        rows().dot(left.data(), rows_, right.data(), panels, depth, sums.data(), width);
        for (int64_t r = 0; r < rows_; ++r) finish_.row(sums.data() + r * width, 0, columns_, output.data, (n * rows_ + r) * columns_);
      }
    });
  }

 private:
  struct Side {
    Dims dims;
    size_t input;
    bool is_signed;
    int32_t zero;
    Side(const OpView& op, const char* role) : dims(dims_of(op.input(role))), input(flowing_index(op, role)) {
      const QuantView q = activation_quant(op, op.input(role));
      is_signed = q.is_signed();
      zero = static_cast<int32_t>(q.zero_point());
    }
    // Which of its matrices goes with the n-th of the output; axes of size 1 broadcast.
    int64_t at(int64_t n, const Dims& out) const {
      int64_t index = 0, step = 1;
      const size_t skip = out.size() - dims.size();
      for (size_t i = out.size() - 2; i-- > 0;) {
        const int64_t place = n % out[i];
        n /= out[i];
        if (i < skip || dims[i - skip] == 1) continue;
        index += place * step;
        step *= dims[i - skip];
      }
      return index;
    }
  };

  uint32_t threads_;
  Finish finish_;
  Side a_, b_;
  Dims out_;
  std::vector<uint32_t> layouts_;
  int64_t rows_ = 0, columns_ = 0, depth_ = 0;
};

}  // namespace

std::unique_ptr<Kernel> compile_product(const OpView& op, uint32_t threads) { return std::make_unique<ProductKernel>(op, threads); }

}  // namespace quern_vpu
