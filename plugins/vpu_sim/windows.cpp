// Pools and Resize: sums, or the largest, over places of an image, channels side by side.
#include <climits>

#include "plugins/common/resample.hpp"
#include "plugins/vpu_sim/finish.hpp"

namespace quern_vpu {
namespace {

// An image kernel's common part: channels last on both sides, one row of the output after the other.
class ImageKernel : public Kernel {
 public:
  std::vector<uint32_t> input_layouts() const override { return {QUERN_LAYOUT_CHANNELS_LAST}; }
  uint32_t output_layout() const override { return QUERN_LAYOUT_CHANNELS_LAST; }

  void execute(Span<const quern_tensor> inputs, const quern_tensor& output) const override {
    const auto* source = static_cast<const uint8_t*>(inputs[0].data);
    for_pieces(batch_ * out_h_, batch_ * out_h_ * out_w_ * channels_ < 16384 ? 1 : threads_, [&](int64_t first, int64_t last) {
      std::vector<int32_t> sums(static_cast<size_t>(channels_));
      for (int64_t r = first; r < last; ++r)
        for (int64_t x = 0; x < out_w_; ++x)
          pixel(source + r / out_h_ * in_h_ * in_w_ * channels_, r % out_h_, x, sums.data(), output.data, (r * out_w_ + x) * channels_);
    });
  }

 protected:
  ImageKernel(const OpView& op, const char* name, uint32_t threads) : Kernel(std::string(name) + ":" + rows().name), finish_(op), threads_(threads) {
    const Dims in = dims_of(op.input("input")), out = dims_of(op.output());
    if (op.input("input").is_constant()) throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": the input is a constant");
    if (in.size() < 3 || in.size() > 4 || in.size() != out.size() || in[0] != out[0] || in[1] != out[1])
      throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": input and output do not fit each other");
    batch_ = in[0];
    channels_ = in[1];
    in_w_ = in.back();
    out_w_ = out.back();
    if (in.size() == 4) {
      in_h_ = in[2];
      out_h_ = out[2];
    }
    const QuantView q = activation_quant(op, op.input("input"));
    is_signed_ = q.is_signed();
    zero_ = static_cast<int32_t>(q.zero_point());
  }
  virtual void pixel(const uint8_t* image, int64_t y, int64_t x, int32_t* sums, void* out, int64_t at) const = 0;
  const uint8_t* place(const uint8_t* image, int64_t y, int64_t x) const { return image + (y * in_w_ + x) * channels_; }

  Finish finish_;
  uint32_t threads_;
  int64_t batch_ = 1, channels_ = 1, in_h_ = 1, in_w_ = 1, out_h_ = 1, out_w_ = 1;
  bool is_signed_ = false;
  int32_t zero_ = 0;
};

class PoolKernel : public ImageKernel {
 public:
  PoolKernel(const OpView& op, uint32_t threads)
      : ImageKernel(op, op.op() == "AveragePool" || op.op() == "GlobalAveragePool" ? "average" : "max", threads),
        average_(op.op() == "AveragePool" || op.op() == "GlobalAveragePool"), axes_(pool_axes(op, dims_of(op.input("input")), dims_of(op.output()))) {}

 private:
  // Padding adds nothing to a sum (it is the zero point), and is never the largest.
  void pixel(const uint8_t* image, int64_t oy, int64_t ox, int32_t* sums, void* out, int64_t at) const override {
    const Axis &h = axes_[0], &w = axes_[1];
    std::fill(sums, sums + channels_, average_ ? 0 : INT_MIN);
    for (int64_t ky = 0; ky < h.kernel; ++ky) {
      const int64_t y = oy * h.stride - h.pad_begin + ky * h.dilation;
      if (y < 0 || y >= h.in) continue;
      for (int64_t kx = 0; kx < w.kernel; ++kx) {
        const int64_t x = ox * w.stride - w.pad_begin + kx * w.dilation;
        if (x < 0 || x >= w.in) continue;
        if (average_) rows().add(place(image, y, x), is_signed_, zero_, 1, channels_, sums);
        else rows().largest(place(image, y, x), is_signed_, channels_, sums);
      }
    }
    if (finish_.copies()) {
      for (int64_t c = 0; c < channels_; ++c) static_cast<uint8_t*>(out)[at + c] = static_cast<uint8_t>(sums[c]);
      return;
    }
    if (!average_) for (int64_t c = 0; c < channels_; ++c) sums[c] -= zero_;
    finish_.row(sums, 0, channels_, out, at);
  }

  bool average_;
  std::array<Axis, 2> axes_;
};

class ResampleKernel : public ImageKernel {
 public:
  ResampleKernel(const OpView& op, uint32_t threads) : ImageKernel(op, "resample", threads) {
    const size_t rank = op.input("input").tensor().rank();
    if (rank == 4) h_ = side(op, 2, in_h_, out_h_);
    w_ = side(op, rank - 1, in_w_, out_w_);
  }

 private:
  struct Side {
    int64_t taps = 1;
    std::vector<int32_t> index{0}, weight{1};
  };
  Side side(const OpView& op, size_t axis, int64_t in, int64_t out) const {
    Side s;
    const auto index = op.table<int32_t>("taps_" + std::to_string(axis)), weight = op.table<int32_t>("weights_" + std::to_string(axis));
    s.taps = static_cast<int64_t>(index.size()) / out;
    if (s.taps < 1 || index.size() != weight.size() || s.taps * out != static_cast<int64_t>(index.size()))
      throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": the tables of taps and weights do not fit the output");
    for (int32_t i : index)
      if (i < 0 || i >= in) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": a tap is outside of the input");
    s.index.assign(index.begin(), index.end());
    s.weight.assign(weight.begin(), weight.end());
    return s;
  }

  void pixel(const uint8_t* image, int64_t y, int64_t x, int32_t* sums, void* out, int64_t at) const override {
    std::fill(sums, sums + channels_, 0);
    for (int64_t i = y * h_.taps; i < (y + 1) * h_.taps; ++i)
      for (int64_t k = x * w_.taps; k < (x + 1) * w_.taps; ++k) {
        const int32_t by = h_.weight[static_cast<size_t>(i)] * w_.weight[static_cast<size_t>(k)];
        if (by != 0) rows().add(place(image, h_.index[static_cast<size_t>(i)], w_.index[static_cast<size_t>(k)]), is_signed_, zero_, by, channels_, sums);
      }
    finish_.row(sums, 0, channels_, out, at);
  }

  Side h_, w_;
};

}  // namespace

std::unique_ptr<Kernel> compile_pool(const OpView& op, uint32_t threads) { return std::make_unique<PoolKernel>(op, threads); }
std::unique_ptr<Kernel> compile_resample(const OpView& op, uint32_t threads) { return std::make_unique<ResampleKernel>(op, threads); }

}  // namespace quern_vpu
