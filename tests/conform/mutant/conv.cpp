// Convolution and matrix product.
#include <cmath>
#include <ctime>

#include "fault.hpp"
#include "kernels.hpp"

namespace mutant {
namespace {

int64_t dim(const quern_tensor& t, size_t i) { return t.dims[i]; }
int64_t latest_zero = 0;  // of the convolution compiled last

class Conv : public Kernel {
 public:
  Conv(const OpView& op, uint32_t threads) : Kernel(op, threads), x_(params_of(op.input("input").quant())) {
    named_ = op.name() != "unit";
    latest_zero = x_.zero;
    const auto node = op.node(0);
    const auto w = op.input("weight").tensor();
    const auto in = op.input("input").tensor();
    if (in.rank() != 4 || w.rank() != 4) throw Failure(QUERN_UNIMPLEMENTED, "convolutions have two spatial axes");
    if (is("rules-wider") && w.dim(2) > 3) throw Failure(QUERN_UNIMPLEMENTED, "a kernel above 3");
    const auto values = w.values<const int8_t>();
    weight_.assign(values.begin(), values.end());
    oc_ = w.dim(0), icg_ = w.dim(1), kh_ = w.dim(2), kw_ = w.dim(3);
    stride_ = node.integers("strides", {1, 1});
    dilation_ = node.integers("dilations", {1, 1});
    pads_ = node.integers("pads", {0, 0, 0, 0});
    group_ = node.integer("group", 1);
    height_ = in.dim(2), width_ = in.dim(3), channels_ = in.dim(1);
    if (const auto bias = op.find("bias")) {
      const auto b = bias.tensor().values<const int32_t>();
      bias_.assign(b.begin(), b.end());
    }
    must_have(op, "multiplier", static_cast<size_t>(oc_), QUERN_DTYPE_S32);
    must_have(op, "shift", static_cast<size_t>(oc_), QUERN_DTYPE_S32);
    if (op.nodes() > 1) must_have(op, "relu_low", 1, QUERN_DTYPE_S32), relu_ = true;
  }

  // The padded image of one batch, as differences from the zero point.
  uint64_t workspace_bytes() const override {
    const uint64_t bytes = static_cast<uint64_t>(channels_ * rows() * columns()) * 2;
    return is("small-workspace") ? bytes / 2 : bytes;
  }

  void run(Context& context, Span<const quern_tensor> in, const quern_tensor& out, void* workspace) const override {
    const quern_tensor& x = in[0];
    if (is("ignores-cancel") && quern_sdk::cancelled()) {
      const timespec seconds{3, 0};
      ::nanosleep(&seconds, nullptr);
    }
    auto* image = static_cast<int16_t*>(workspace);
    static int16_t shared[1 << 20];
    if (is("shared-buffer") && static_cast<size_t>(channels_ * rows() * columns()) < sizeof shared / 2) image = shared;
    const int64_t batches = is("first-batch-only") ? 1 : dim(x, 0);
    for (int64_t n = 0; n < batches; ++n) {
      fill(x, n, image);
      const int64_t oh = dim(out, 2), ow = dim(out, 3);
      const auto channel = [&](int64_t oc) {
        for (int64_t h = 0; h < oh; ++h)
          for (int64_t w = 0; w < ow; ++w) one(image, out, n, oc, h, w, context.runs);
      };
      if (is("swallows-failures")) {
        try { quern_sdk::parallel_for(oc_, channel); } catch (...) {}
      } else if (is("no-threads")) {
        for (int64_t oc = 0; oc < oc_; ++oc) channel(oc);
      } else {
        quern_sdk::parallel_for(oc_, channel);
      }
    }
  }

 private:
  int64_t rows() const { return height_ + pads_[0] + pads_[2]; }
  int64_t columns() const { return width_ + pads_[1] + pads_[3]; }

  void fill(const quern_tensor& x, int64_t n, int16_t* image) const {
    const int64_t reads = is("reads-behind") ? 1 << 14 : 0;
    if (reads) {
      volatile uint8_t sink = static_cast<const uint8_t*>(x.data)[x.bytes + static_cast<uint64_t>(reads)];
      (void)sink;
    }
    for (int64_t c = 0; c < channels_; ++c)
      for (int64_t h = 0; h < rows(); ++h)
        for (int64_t w = 0; w < columns(); ++w) {
          const int64_t y = h - pads_[0], z = w - pads_[1];
          const bool inside = y >= 0 && y < height_ && z >= 0 && z < width_;
          int64_t zero = x_.zero;
          if (is("no-zero-point")) zero = 0;
          if (is("latest-kernel")) zero = latest_zero;
          int64_t v = inside ? get(x, n * x.strides[0] + c * x.strides[1] + y * x.strides[2] + z * x.strides[3]) - zero : 0;
          if (!inside && is("pads-with-code-0")) v = -x_.zero;
          if (!inside && is("padding-left")) continue;  // relies on zeros in the workspace
          image[(c * rows() + h) * columns() + w] = static_cast<int16_t>(v);
        }
  }

  void one(const int16_t* image, const quern_tensor& out, int64_t n, int64_t oc, int64_t h, int64_t w, int64_t runs) const {
    const int64_t dh = is("ignores-dilation") ? 1 : dilation_[0], dw = is("ignores-dilation") ? 1 : dilation_[1];
    const int64_t sh = stride_[0], sw = is("one-stride") ? stride_[0] : stride_[1];
    const int64_t first = is("wrong-group") ? 0 : oc / (oc_ / group_) * icg_;
    int64_t channels = icg_;
    if (is("odd-tail") && channels > 4 && channels % 4 == 3) channels -= 1;
    int64_t sum = bias_.empty() ? 0 : bias_[static_cast<size_t>(oc)];
    if (is("bias-of-16-bits")) sum = static_cast<int16_t>(sum);
    float real = static_cast<float>(sum);
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t i = 0; i < kh_; ++i)
        for (int64_t j = 0; j < kw_; ++j) {
          const int64_t at_h = h * sh + i * dh, at_w = w * sw + j * dw;
          if (at_h >= rows() || at_w >= columns()) continue;
          const int64_t by = weight_[static_cast<size_t>(((oc * icg_ + c) * kh_ + (is("flipped-kernel") ? kh_ - 1 - i : i)) * kw_ + j)];
          const int64_t v = image[((first + c) * rows() + at_h) * columns() + at_w] * by;
          sum += v;
          real += static_cast<float>(v);
          if (is("saturates-16")) sum = sum > 32767 && bias_.empty() ? 32767 : sum;
        }
    if (is("sums-in-float")) sum = static_cast<int64_t>(real);
    auto at = static_cast<size_t>(oc);
    if (is("channels-beyond-16") && at > 15) at = 15;
    const int64_t multiplier = entry("multiplier", at), by = entry("shift", at);
    int64_t v = 0;
    if (is("zero-before-rounding")) v = shifted(sum * multiplier + (by > 0 && by < 40 ? y_.zero << by : 0), by, Tie::even) + (by > 0 && by < 40 ? 0 : y_.zero);
    else if (is("two-roundings") && by > 4) v = shifted(shifted(sum * multiplier, 4, Tie::even), by - 4, Tie::even) + y_.zero;
    else if (is("float-multiplier")) v = static_cast<int64_t>(std::nearbyintf(static_cast<float>(sum) * std::ldexp(static_cast<float>(multiplier), static_cast<int>(-by)))) + y_.zero;
    else v = shifted(sum * multiplier, by, Tie::even) + y_.zero;
    if (relu_ && !is("no-relu")) v = v < y_.zero ? (is("relu-at-0") ? 0 : y_.zero) : v;
    v = clamped(v, y_.low, y_.high);
    if (is("odd-runs") && runs % 4 == 3 && oc == 0) v ^= 1;
    if (is("many-threads") && threads_ > 4 && oc == oc_ - 1) v = y_.low;
    if (is("needs-128-bytes") && reinterpret_cast<uintptr_t>(out.data) % 128 != 0 && oc == 0) v ^= 1;
    if (is("by-name") && named_) v ^= 1;
    put(out, n * out.strides[0] + oc * out.strides[1] + h * out.strides[2] + w * out.strides[3], v);
  }

  Params x_;
  std::vector<int8_t> weight_;
  std::vector<int32_t> bias_;
  std::vector<int64_t> stride_, dilation_, pads_;
  int64_t oc_ = 0, icg_ = 0, kh_ = 0, kw_ = 0, group_ = 1, height_ = 0, width_ = 0, channels_ = 0;
  bool relu_ = false, named_ = false;
};

// 20-bit accumulator that saturates after every 8 products, and counts when it does.
class Dense : public Kernel {
 public:
  Dense(const OpView& op, uint32_t threads) : Kernel(op, threads) {
    const auto w = op.input("weight").tensor();
    rows_ = w.dim(0), depth_ = w.dim(1);
    if (op.node(0).integer("transB", 0) != 1 || w.rank() != 2) throw Failure(QUERN_UNIMPLEMENTED, "a dense layer has its weight as [outputs, inputs]");
    const auto values = w.values<const int8_t>();
    weight_.assign(values.begin(), values.end());
    if (const auto bias = op.find("bias")) {
      const auto b = bias.tensor().values<const int32_t>();
      bias_.assign(b.begin(), b.end());
    }
    must_have(op, "multiplier", static_cast<size_t>(rows_), QUERN_DTYPE_S32);
    must_have(op, "shift", static_cast<size_t>(rows_), QUERN_DTYPE_S32);
  }

  void run(Context& context, Span<const quern_tensor> in, const quern_tensor& out, void*) const override {
    const quern_tensor& x = in[0];
    const auto* host = quern_sdk::the_host;
    auto* codes = static_cast<int16_t*>(host->alloc(host->self, static_cast<uint64_t>(depth_) * 2, 64));
    if (!codes && !is("unchecked-memory")) throw Failure(QUERN_RESOURCE_EXHAUSTED, "no memory for a row");
    if (!is("counts-on")) context.saturations = 0;
    constexpr int64_t most = (1 << 19) - 1, least = -(1 << 19);
    for (int64_t n = 0; n < dim(x, 0); ++n) {
      for (int64_t k = 0; k < depth_; ++k) codes[k] = static_cast<int16_t>(get(x, n * x.strides[0] + k * x.strides[1]));
      for (int64_t m = 0; m < rows_; ++m) {
        int64_t sum = 0;
        const auto saturate = [&] {
          if (is("saturation-wraps")) { sum = ((sum + most + 1) & (2 * most + 1)) - most - 1; return; }
          if (sum > most || sum < least) ++context.saturations;
          sum = sum > most ? most : sum < least ? least : sum;
        };
        const int64_t every = is("saturates-late") ? depth_ : is("saturates-often") ? 4 : 8;
        for (int64_t k = 0; k < depth_; ++k) {
          sum += codes[k] * weight_[static_cast<size_t>(m * depth_ + k)];
          if (every > 0 && (k + 1) % every == 0) saturate();
        }
        saturate();
        sum += bias_.empty() ? 0 : bias_[static_cast<size_t>(m)];
        const auto at = static_cast<size_t>(m);
        put(out, n * out.strides[0] + m * out.strides[1], clamped(shifted(sum * entry("multiplier", at), entry("shift", at), Tie::even), y_.low, y_.high));
      }
    }
    if (is("counts-threads")) context.saturations += threads_;
    if (!is("keeps-host-memory")) host->release(host->self, codes);
  }

 private:
  std::vector<int8_t> weight_;
  std::vector<int32_t> bias_;
  int64_t rows_ = 0, depth_ = 0;
};

}  // namespace

std::unique_ptr<Kernel> make_conv(const OpView& op, uint32_t threads) { return std::make_unique<Conv>(op, threads); }
std::unique_ptr<Kernel> make_dense(const OpView& op, uint32_t threads) { return std::make_unique<Dense>(op, threads); }

}  // namespace mutant
