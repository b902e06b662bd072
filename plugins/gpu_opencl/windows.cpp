// Pooling and resizing, channels last. kernels/windows.cl.
#include <algorithm>

#include "plugins/common/resample.hpp"
#include "plugins/gpu_opencl/kernel.hpp"

namespace quern_gpu {
namespace {

cl_int2 two(int64_t a, int64_t b) { return {{static_cast<cl_int>(a), static_cast<cl_int>(b)}}; }

class PoolKernel : public Kernel {
 public:
  explicit PoolKernel(const OpView& op) : Kernel("pool", op, QUERN_LAYOUT_CHANNELS_LAST, QUERN_LAYOUT_CHANNELS_LAST), sink_(sink_of(op)) {
    const Dims in = dims_of(op.input("input")), out = dims_of(op.output());
    axes_ = pool_axes(op, in, out);
    batch_ = in[0];
    channels_ = in[1];
    average_ = op.op() == "AveragePool" || op.op() == "GlobalAveragePool";
    name_ = average_ ? "gpu_opencl.average" : "gpu_opencl.max";
    mapped_ = average_ || sink_.floats || op.find_table("ratio");
    source_ = source_of(op, op.input("input"), mapped_ ? op.table<float>("ratio")[0] : 1.f);
    const bool padding = op.node(0).integer("count_include_pad", 0) != 0;
    std::vector<int32_t> counted;
    int64_t largest[2] = {1, 1};
    for (size_t i = 0; i < 2; ++i)
      for (int64_t o = 0; o < axes_[i].out; ++o) {
        const int64_t n = counted_places(axes_[i], o, padding);
        if (average_ && n < 1) throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": a window of the average lies outside of its input");
        counted.push_back(static_cast<int32_t>(n));
        largest[i] = std::max(largest[i], n);
      }
    // Sums of a window fit 32 bits, and its size a float.
    const int64_t window = largest[0] * largest[1];
    if (average_ && window >= (int64_t{1} << 22)) throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": a window of " + std::to_string(window) + " places");
    std::vector<float> reciprocals(average_ ? static_cast<size_t>(window) + 1 : 1, 1.f);
    for (size_t n = 1; n < reciprocals.size(); ++n) reciprocals[n] = 1.f / static_cast<float>(n);
    counted_ = device().memory(counted.size() * sizeof(int32_t), counted.data());
    reciprocals_ = device().memory(reciprocals.size() * sizeof(float), reciprocals.data());
  }

  void enqueue(Context& context, cl_command_queue queue, Span<const View> inputs, const View& output) const override {
    const Axis &h = axes_[0], &w = axes_[1];
    const int64_t strip = strip_of(w.out);
    launch(context, queue, "pool", {(w.out + strip - 1) / strip, batch_ * h.out, (channels_ + 15) / 16}, inputs[0].memory, output.memory, cl_int(average_), cl_int(mapped_), cl_int(channels_), cl_int(h.in),
           cl_int(w.in), cl_int(h.out), cl_int(w.out), two(h.kernel, w.kernel), two(h.stride, w.stride), two(h.dilation, w.dilation), two(h.pad_begin, w.pad_begin), counted_.get(), reciprocals_.get(),
           cl_int(strip), source_.flip, source_.zero, source_.ratio, sink_);
  }

 private:
  Sink sink_;
  Source source_;
  std::array<Axis, 2> axes_;
  int64_t batch_ = 1, channels_ = 1;
  bool average_ = false, mapped_ = false;
  Memory counted_, reciprocals_;
};

class ResampleKernel : public Kernel {
 public:
  explicit ResampleKernel(const OpView& op) : Kernel("resample", op, QUERN_LAYOUT_CHANNELS_LAST, QUERN_LAYOUT_CHANNELS_LAST), sink_(sink_of(op)) {
    std::string reason;
    if (op.input("input").is_constant()) reason = "the input is a constant";
    if (!reason.empty() || !can_resample(op, reason)) throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": " + reason);
    const Dims in = dims_of(op.input("input")), out = dims_of(op.output());
    batch_ = in[0];
    channels_ = in[1];
    source_ = source_of(op, op.input("input"), op.table<float>("ratio")[0]);
    if (in.size() == 4) side(op, 2, in, out, sides_[0]);
    side(op, in.size() - 1, in, out, sides_[1]);
    if (in.size() == 3) sides_[0].table = device().memory(2 * sizeof(int32_t), std::array<int32_t, 2>{0, 1}.data());
  }

  void enqueue(Context& context, cl_command_queue queue, Span<const View> inputs, const View& output) const override {
    const Side &h = sides_[0], &w = sides_[1];
    const int64_t strip = strip_of(w.out);
    launch(context, queue, "resample", {(w.out + strip - 1) / strip, batch_ * h.out, (channels_ + 15) / 16}, inputs[0].memory, output.memory, cl_int(channels_), cl_int(h.in), cl_int(w.in), cl_int(h.out),
           cl_int(w.out), two(h.taps, w.taps), h.table.get(), w.table.get(), cl_int(strip), source_.flip, source_.zero, source_.ratio, sink_);
  }

 private:
  struct Side {
    int64_t in = 1, out = 1, taps = 1;
    Memory table;  // indices, then weights
  };
  static void side(const OpView& op, size_t axis, const Dims& in, const Dims& out, Side& s) {
    const auto index = op.table<int32_t>("taps_" + std::to_string(axis)), weight = op.table<int32_t>("weights_" + std::to_string(axis));
    s.in = in[axis];
    s.out = out[axis];
    s.taps = static_cast<int64_t>(index.size()) / s.out;
    bool fits = s.taps >= 1 && index.size() == weight.size() && s.taps * s.out == static_cast<int64_t>(index.size());
    for (int32_t i : index) fits = fits && i >= 0 && i < s.in;
    if (!fits) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": the tables of taps and weights do not fit input and output");
    std::vector<int32_t> both(index.begin(), index.end());
    both.insert(both.end(), weight.begin(), weight.end());
    s.table = device().memory(both.size() * sizeof(int32_t), both.data());
  }

  Sink sink_;
  Source source_;
  int64_t batch_ = 1, channels_ = 1;
  Side sides_[2];
};

}  // namespace

std::unique_ptr<Kernel> compile_pool(const OpView& op) { return std::make_unique<PoolKernel>(op); }
std::unique_ptr<Kernel> compile_resample(const OpView& op) { return std::make_unique<ResampleKernel>(op); }

}  // namespace quern_gpu
