// Gemm, MatMul and one-dimensional convolutions: rows of weights times the input, in a sum that saturates.
#include <algorithm>
#include <cstring>

#include "plugins/gna_sim/kernel.hpp"
#include "plugins/gna_sim/sums.hpp"

namespace quern_gna {
namespace {

class AffineKernel : public Kernel {
 public:
  AffineKernel(const OpView& op, uint32_t every, uint32_t threads) : Kernel("gna.affine", op), every_(every), threads_(threads) {
    const OperandView input = op.input("input");
    signed_quant(op, input, true);
    narrow_ = input.dtype() == QUERN_DTYPE_S8;
    const Rows rows = rows_of(op);
    oc_ = rows.channels;
    depth_ = rows.depth;
    pitch_ = (depth_ + 15) / 16 * 16;
    const Dims in = dims_of(input), out = dims_of(op.output());
    if (op.op() == "Conv") {
      const auto w = op.input("weight").tensor();
      if (w.rank() != 3 || in.size() != 3 || in[1] != w.dim(1)) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": not a convolution of one axis and one group");
      conv_ = true;
      axis_ = axes_of(op, in, out, {w.dim(2)}, true)[1];
      channels_ = in[1];
      batch_ = in[0];
      name_ = "gna.conv";
    } else {
      if (in.empty() || in.back() != depth_ || out.empty() || out.back() != oc_)
        throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": input, weight and output do not fit each other");
      batch_ = count_of(in) / depth_;
    }
    read_weights(op, rows);
    floats_ = op.output().dtype() == QUERN_DTYPE_F32;
    if (floats_) scale_ = op.table<float>("acc_scale")[0];
    else sink_ = Sink(op);
    exact_ = fits(narrow_ ? 128 : 32768);
    if (!exact_) name_ += ":saturating";
  }

  uint64_t workspace_bytes() const override { return static_cast<uint64_t>(positions() * (pitch_ * 2 + oc_ * 4)) + 64; }

  void execute(Context& context, Span<const quern_tensor> inputs, const quern_tensor& output, void* workspace) const override {
    const int64_t places = positions();
    auto* gathered = static_cast<int16_t*>(workspace);
    auto* sums = reinterpret_cast<int32_t*>(gathered + places * pitch_);
    std::atomic<uint64_t> saturated{0};
    for (int64_t n = 0; n < (conv_ ? batch_ : 1); ++n) {
      gather(inputs[0], n, gathered);
      for_channels(places, [&](int64_t first, int64_t end) {
        uint64_t count = 0;
        for (int64_t p = 0; p < places; ++p) row(gathered + p * pitch_, first, end, sums + p * oc_, count);
        saturated += count;
      });
      write(sums, n, places, output);
    }
    context.saturated = saturated;
  }

 private:
  int64_t positions() const { return conv_ ? axis_.out : batch_; }

  void read_weights(const OpView& op, const Rows& rows) {
    const auto codes = wide_codes(op.input("weight").tensor().raw());
    const Span<const uint8_t> multiplier = op.find_table("row_multiplier") ? op.table<uint8_t>("row_multiplier") : Span<const uint8_t>();
    weights_.assign(static_cast<size_t>(oc_ * pitch_), 0);
    for (int64_t c = 0; c < oc_; ++c)
      for (int64_t k = 0; k < depth_; ++k) {
        const int32_t w = codes[static_cast<size_t>(rows.columns ? k * oc_ + c : c * depth_ + k)];
        weights_[static_cast<size_t>(c * pitch_ + k)] = static_cast<int16_t>(multiplier.empty() ? w : w * multiplier[static_cast<size_t>(c)]);
      }
    start_.assign(static_cast<size_t>(oc_), 0);
    if (op.find_table("acc_bias")) {
      const auto b = op.table<int32_t>("acc_bias");
      std::copy(b.begin(), b.end(), start_.begin());
    }
  }

  // No sum can leave 32 bits, whatever comes in: then its order does not matter either.
  bool fits(int64_t largest) const {
    for (int64_t c = 0; c < oc_; ++c) {
      int64_t worst = std::abs(int64_t{start_[static_cast<size_t>(c)]}), taps = 0;
      for (int64_t k = 0; k < depth_; ++k) taps += std::abs(int32_t{weights_[static_cast<size_t>(c * pitch_ + k)]});
      worst += taps * largest;
      if (worst > INT32_MAX) return false;
    }
    return true;
  }

  // The input of every position as one row of pitch_: channel by channel, tap by tap; padding is 0.
  void gather(const quern_tensor& in, int64_t n, int16_t* to) const {
    if (!conv_) {
      for (int64_t p = 0; p < batch_; ++p) {
        copy(in, p * depth_, depth_, to + p * pitch_);
        std::memset(to + p * pitch_ + depth_, 0, static_cast<size_t>(pitch_ - depth_) * 2);
      }
      return;
    }
    for (int64_t p = 0; p < axis_.out; ++p) {
      int16_t* row = to + p * pitch_;
      for (int64_t c = 0; c < channels_; ++c)
        for (int64_t k = 0; k < axis_.kernel; ++k, ++row) {
          const int64_t at = p * axis_.stride - axis_.pad_begin + k * axis_.dilation;
          *row = at < 0 || at >= axis_.in ? int16_t{0} : code(in, (n * channels_ + c) * axis_.in + at);
        }
      std::memset(row, 0, static_cast<size_t>(pitch_ - depth_) * 2);
    }
  }

  int16_t code(const quern_tensor& t, int64_t at) const {
    return narrow_ ? int16_t{static_cast<const int8_t*>(t.data)[at]} : static_cast<const int16_t*>(t.data)[at];
  }
  void copy(const quern_tensor& t, int64_t from, int64_t n, int16_t* to) const {
    if (narrow_) for (int64_t i = 0; i < n; ++i) to[i] = code(t, from + i);
    else std::memcpy(to, static_cast<const int16_t*>(t.data) + from, static_cast<size_t>(n) * 2);
  }

  void row(const int16_t* x, int64_t first, int64_t end, int32_t* sums, uint64_t& saturated) const {
    for (int64_t c = first; c < end; ++c) {
      if (exact_) {
        const int rows = static_cast<int>(std::min<int64_t>(4, end - c));
        exact_sums(x, weights_.data() + c * pitch_, pitch_, rows, depth_, sums + c);
        for (int r = 0; r < rows; ++r) sums[c + r] += start_[static_cast<size_t>(c + r)];
        c += rows - 1;
      } else {
        sums[c] = saturating_sum(x, weights_.data() + c * pitch_, depth_, start_[static_cast<size_t>(c)], every_, saturated);
      }
    }
  }

  template <class F>
  void for_channels(int64_t places, F&& body) const {
    const int64_t pieces = places * oc_ * depth_ < 2000000 ? 1 : std::min<int64_t>(threads_, oc_);
    if (pieces <= 1) return body(int64_t{0}, oc_);
    quern_sdk::parallel_for(pieces, [&](int64_t i) { body(oc_ * i / pieces, oc_ * (i + 1) / pieces); });
  }

  // Sums lie [position][channel]; a convolution's output lies [channel][position].
  void write(int32_t* sums, int64_t n, int64_t places, const quern_tensor& output) const {
    const int64_t base = n * oc_ * places;
    if (floats_) {
      auto* out = static_cast<float*>(output.data) + base;
      for (int64_t p = 0; p < places; ++p)
        for (int64_t c = 0; c < oc_; ++c) out[conv_ ? c * places + p : p * oc_ + c] = static_cast<float>(sums[p * oc_ + c]) * scale_;
      return;
    }
    auto* out = static_cast<int16_t*>(output.data) + base;
    if (!conv_ || places == 1) return sink_.segments.run(sums, places * oc_, sink_.low, sink_.high, out);
    int16_t codes[512];
    for (int64_t p = 0; p < places; ++p)
      for (int64_t c = 0; c < oc_; c += 512) {
        const int64_t m = std::min<int64_t>(512, oc_ - c);
        sink_.segments.run(sums + p * oc_ + c, m, sink_.low, sink_.high, codes);
        for (int64_t i = 0; i < m; ++i) out[(c + i) * places + p] = codes[i];
      }
  }

  int64_t every_, oc_ = 0, depth_ = 0, pitch_ = 0, batch_ = 1, channels_ = 0;
  uint32_t threads_;
  bool conv_ = false, narrow_ = false, floats_ = false, exact_ = false;
  float scale_ = 1;
  Axis axis_;
  Sink sink_;
  std::vector<int16_t> weights_;  // [channel][pitch_], multiplied out
  std::vector<int32_t> start_;
};

}  // namespace

std::unique_ptr<Kernel> compile_affine(const OpView& op, uint32_t every, uint32_t threads) { return std::make_unique<AffineKernel>(op, every, threads); }

}  // namespace quern_gna
