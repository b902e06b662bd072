// AveragePool, MaxPool and the global ones, channels last, by the contracts "average" and "max".
//
// Average: exact sum of (x - zp) over the window, counted padding adding 0; as float; divided by the number of elements
// counted; times the ratio of scales. oneDNN's own pooling pads with the code 0, not with the zero point, so this is ours.
#include <algorithm>
#include <cstring>

#include "plugins/cpu/numbers.hpp"

namespace quern_cpu {
namespace {

class PoolKernel : public Kernel {
 public:
  PoolKernel(const OpView& op, uint32_t threads)
      : Kernel(rows().name), threads_(threads), sink_(sink_of(op)), floats_(writes_floats(op)) {
    const OperandView input = op.input("input");
    const Dims in = dims_of(input), out = dims_of(op.output());
    const std::string_view kind = op.op();
    average_ = kind == "AveragePool" || kind == "GlobalAveragePool";
    name_ = (average_ ? "cpu.average:" : "cpu.max:") + name_;
    axes_ = pool_axes(op, in, out);
    batch_ = in[0];
    channels_ = in[1];
    count_padding_ = op.node(0).integer("count_include_pad", 0) != 0;
    mapped_ = average_ || floats_ || op.find_table("ratio") != nullptr;
    source_ = source_of(op, input, mapped_ ? op.table<float>("ratio")[0] : 1.f);
  }

  std::vector<uint32_t> input_layouts() const override { return {QUERN_LAYOUT_CHANNELS_LAST}; }
  uint32_t output_layout() const override { return QUERN_LAYOUT_CHANNELS_LAST; }

  void execute(Context&, Span<const quern_tensor> inputs, const quern_tensor& output, void*) const override {
    const auto* x = static_cast<const uint8_t*>(inputs[0].data);
    const Axis &h = axes_[0], &w = axes_[1];
    // A row of output is a piece of work; a global pool of few samples is cut along its channels instead.
    const int64_t rows_of_output = batch_ * h.out;
    const int64_t blocks = rows_of_output < threads_ && channels_ >= 256 ? (channels_ + 127) / 128 : 1;
    const int64_t block = blocks > 1 ? 128 : channels_;
    const int64_t taps_in_all = rows_of_output * w.out * channels_ * h.kernel * w.kernel;
    for_pieces(rows_of_output * blocks, taps_in_all < 4 * few_elements ? 1 : threads_, [&](int64_t first, int64_t last) {
      std::vector<const uint8_t*> taps(static_cast<size_t>(h.kernel * w.kernel));
      for (int64_t r = first; r < last; ++r) {
        const int64_t c = r % blocks * block, row = r / blocks, n = row / h.out, oy = row % h.out;
        for (int64_t ox = 0; ox < w.out; ++ox)
          pixel(x + n * h.in * w.in * channels_ + c, oy, ox, taps, output.data, (row * w.out + ox) * channels_ + c,
                std::min(block, channels_ - c));
      }
    });
  }

 private:
  // Places of the window along one axis: first and last tap inside of the input, and how many count.
  struct Reach { int64_t first, last, counted; };
  Reach reach(const Axis& a, int64_t o) const {
    const int64_t start = o * a.stride - a.pad_begin;
    Reach r{a.kernel, -1, counted_places(a, o, count_padding_)};
    for (int64_t k = 0; k < a.kernel; ++k) {
      const int64_t p = start + k * a.dilation;
      if (p < 0 || p >= a.in) continue;
      r.first = std::min(r.first, k);
      r.last = k;
    }
    return r;
  }

  void pixel(const uint8_t* x, int64_t oy, int64_t ox, std::vector<const uint8_t*>& taps, void* out, int64_t offset, int64_t n) const {
    const Axis &h = axes_[0], &w = axes_[1];
    const Reach ry = reach(h, oy), rx = reach(w, ox);
    int64_t count = 0;
    for (int64_t ky = ry.first; ky <= ry.last; ++ky)
      for (int64_t kx = rx.first; kx <= rx.last; ++kx) {
        const int64_t y = oy * h.stride - h.pad_begin + ky * h.dilation, p = ox * w.stride - w.pad_begin + kx * w.dilation;
        taps[static_cast<size_t>(count++)] = x + (y * w.in + p) * channels_;
      }
    const Rows& k = rows();
    auto* codes = static_cast<uint8_t*>(out) + offset;
    auto* floats = static_cast<float*>(out) + offset;
    if (average_) {
      const auto window = static_cast<float>(ry.counted * rx.counted);
      if (floats_) k.average_floats(taps.data(), count, floats, n, window, source_, sink_);
      else k.average_codes(taps.data(), count, codes, n, window, source_, sink_);
      return;
    }
    if (!mapped_) return k.largest(taps.data(), count, codes, n, source_.flip);
    alignas(64) uint8_t best[512 + 64];
    for (int64_t c = 0; c < n; c += 512) {
      const int64_t m = std::min<int64_t>(512, n - c);
      k.largest(taps.data(), count, best, m, source_.flip);
      if (floats_) k.map_floats(best, floats + c, m, source_, sink_);
      else k.map_codes(best, codes + c, m, source_, sink_);
      for (int64_t t = 0; t < count; ++t) taps[static_cast<size_t>(t)] += 512;
    }
  }

  uint32_t threads_;
  Sink sink_;
  Source source_;
  bool floats_, average_ = false, mapped_ = false, count_padding_ = false;
  int64_t batch_ = 1, channels_ = 1;
  std::array<Axis, 2> axes_;
};

}  // namespace

std::unique_ptr<Kernel> compile_pool(const OpView& op, uint32_t threads) { return std::make_unique<PoolKernel>(op, threads); }

}  // namespace quern_cpu
