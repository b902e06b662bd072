// Kernel of Resize; plugins/common/resample.hpp says what it computes.
#include "plugins/common/resample.hpp"

#include <algorithm>

#include "plugins/cpu/writer.hpp"

namespace quern_cpu {
namespace {

class ResampleKernel : public Kernel {
 public:
  ResampleKernel(const OpView& op, uint32_t threads) : Kernel(std::string("cpu.resample:") + rows().name), threads_(threads), floats_(writes_floats(op)), sink_(sink_of(op)) {
    std::string reason;
    if (op.input("input").is_constant()) reason = "the input is a constant";
    if (!reason.empty() || !can_resample(op, reason)) throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": " + reason);
    const Dims in = dims_of(op.input("input")), out = dims_of(op.output());
    batch_ = in[0];
    channels_ = in[1];
    const bool one = in.size() == 3;
    h_ = one ? Side{1, 1, 1, {0}, {1}} : side(op, 2, in, out);
    w_ = side(op, in.size() - 1, in, out);
    source_ = source_of(op, op.input("input"), op.table<float>("ratio")[0]);
    // One tap of weight 1 between equal numbers is a copy.
    copies_ = !floats_ && h_.taps == 1 && w_.taps == 1 && source_.ratio == 1 && !op.find_table("act_low") &&
              same_codes(activation_quant(op, op.input("input")), activation_quant(op, op.output()));
    for (int32_t weight : h_.weight) copies_ = copies_ && weight == 1;
    for (int32_t weight : w_.weight) copies_ = copies_ && weight == 1;
    if (copies_) name_ = "cpu.resample:copy";
  }

  std::vector<uint32_t> input_layouts() const override { return {QUERN_LAYOUT_CHANNELS_LAST}; }
  uint32_t output_layout() const override { return QUERN_LAYOUT_CHANNELS_LAST; }

  void execute(Context&, Span<const quern_tensor> inputs, const quern_tensor& output, void*) const override {
    const auto* x = static_cast<const uint8_t*>(inputs[0].data);
    for_pieces(batch_ * h_.out, batch_ * h_.out * w_.out * channels_ < few_elements ? 1 : threads_, [&](int64_t first, int64_t last) {
      std::vector<const uint8_t*> taps(static_cast<size_t>(h_.taps * w_.taps));
      std::vector<int32_t> weights(taps.size());
      for (int64_t r = first; r < last; ++r) {
        const int64_t oy = r % h_.out;
        const uint8_t* image = x + r / h_.out * h_.in * w_.in * channels_;
        if (copies_) {
          auto* to = static_cast<uint8_t*>(output.data) + r * w_.out * channels_;
          if (r > first && oy > 0 && h_.index[static_cast<size_t>(oy)] == h_.index[static_cast<size_t>(oy) - 1])
            std::memcpy(to, to - w_.out * channels_, static_cast<size_t>(w_.out * channels_));
          else
            copy_row(image + h_.index[static_cast<size_t>(oy)] * w_.in * channels_, to);
          continue;
        }
        for (int64_t ox = 0; ox < w_.out; ++ox) pixel(image, oy, ox, taps, weights, output.data, (r * w_.out + ox) * channels_);
      }
    });
  }

 private:
  struct Side {
    int64_t in = 1, out = 1, taps = 1;
    std::vector<int32_t> index, weight;
  };

  Side side(const OpView& op, size_t axis, const Dims& in, const Dims& out) const {
    Side s;
    s.in = in[axis];
    s.out = out[axis];
    const auto index = op.table<int32_t>("taps_" + std::to_string(axis)), weight = op.table<int32_t>("weights_" + std::to_string(axis));
    s.taps = static_cast<int64_t>(index.size()) / s.out;
    if (s.taps < 1 || index.size() != weight.size() || s.taps * s.out != static_cast<int64_t>(index.size()))
      throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": the tables of taps and weights do not fit the output");
    for (int32_t i : index)
      if (i < 0 || i >= s.in) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": a tap is outside of the input");
    s.index.assign(index.begin(), index.end());
    s.weight.assign(weight.begin(), weight.end());
    return s;
  }

  void copy_row(const uint8_t* from, uint8_t* to) const {
    const auto c = static_cast<size_t>(channels_);
    for (int64_t ox = 0; ox < w_.out; ++ox) std::memcpy(to + ox * channels_, from + w_.index[static_cast<size_t>(ox)] * channels_, c);
  }

  void pixel(const uint8_t* image, int64_t oy, int64_t ox, std::vector<const uint8_t*>& taps, std::vector<int32_t>& weights, void* out, int64_t offset) const {
    int64_t count = 0;
    int32_t sum = 0;
    for (int64_t i = 0; i < h_.taps; ++i)
      for (int64_t k = 0; k < w_.taps; ++k) {
        const auto y = static_cast<size_t>(oy * h_.taps + i), p = static_cast<size_t>(ox * w_.taps + k);
        const int32_t weight = h_.weight[y] * w_.weight[p];
        if (weight == 0) continue;
        taps[static_cast<size_t>(count)] = image + (h_.index[y] * w_.in + w_.index[p]) * channels_;
        weights[static_cast<size_t>(count++)] = weight;
        sum += weight;
      }
    const int32_t zeros = sum * source_.zero_point;
    if (floats_) rows().resample_floats(taps.data(), weights.data(), count, static_cast<float*>(out) + offset, channels_, zeros, source_, sink_);
    else rows().resample_codes(taps.data(), weights.data(), count, static_cast<uint8_t*>(out) + offset, channels_, zeros, source_, sink_);
  }

  uint32_t threads_;
  bool floats_, copies_ = false;
  Sink sink_;
  Source source_;
  int64_t batch_ = 1, channels_ = 1;
  Side h_, w_;
};

}  // namespace

std::unique_ptr<Kernel> compile_resample(const OpView& op, uint32_t threads) { return std::make_unique<ResampleKernel>(op, threads); }

}  // namespace quern_cpu
