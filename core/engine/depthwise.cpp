#include "core/engine/depthwise.hpp"

#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/engine/engine.hpp"
#include "core/graph/shapes.hpp"

namespace quern {

void depthwise_rows_scalar(const DepthwiseF32& d, const float* x, float* y, int64_t first, int64_t last) {
  for (int64_t row = first; row < last; ++row)
    for (int64_t ox = 0; ox < d.ow; ++ox)
      for (int64_t c = 0; c < d.channels; ++c) {
        const int64_t n = row / d.oh, oy = row % d.oh;
        float acc = d.bias[c];
        for (int64_t r = 0; r < d.kh; ++r) {
          const int64_t iy = oy * d.sh - d.pad_top + r * d.dh;
          if (iy < 0 || iy >= d.ih) continue;
          for (int64_t k = 0; k < d.kw; ++k) {
            const int64_t ix = ox * d.sw - d.pad_left + k * d.dw;
            const float value = ix >= 0 && ix < d.iw ? x[((n * d.ih + iy) * d.iw + ix) * d.channels + c] : 0.0f;
            acc = std::fma(value, d.weights[(c * d.kh + r) * d.kw + k], acc);
          }
        }
        acc = d.low > acc ? d.low : acc;  // NaN stays
        y[(row * d.ow + ox) * d.channels + c] = d.high < acc ? d.high : acc;
      }
}

DepthwiseForm depthwise_form() {
  const std::string limit = float_class();
  if (limit == "avx512") return {depthwise_rows_avx512, 16, "avx512"};
  if (limit == "avx2" && __builtin_cpu_supports("fma")) return {depthwise_rows_avx2, 8, "avx2"};
  return {nullptr, 1, "none"};
}

namespace onednn {
namespace {

// A vector of numbers, padded with zeros to whole lanes and with its values in lanes: [n / lanes][inner][lanes].
std::vector<float> in_lanes(const float* from, int64_t n, int64_t inner, int64_t lanes) {
  std::vector<float> to(static_cast<size_t>((n + lanes - 1) / lanes * lanes * inner), 0.0f);
  for (int64_t c = 0; from && c < n; ++c)
    for (int64_t i = 0; i < inner; ++i) to[static_cast<size_t>((c / lanes * inner + i) * lanes + c % lanes)] = from[c * inner + i];
  return to;
}

class DepthwiseKernel final : public Kernel {
 public:
  DepthwiseKernel(const DepthwiseF32& d, const DepthwiseForm& form, const Tensor& weights, const Tensor* bias, size_t x, int threads)
      : d_(d), rows_(form.rows), weights_(in_lanes(weights.values<float>().data(), d.channels, d.kh * d.kw, form.lanes)),
        bias_(in_lanes(bias ? bias->values<float>().data() : nullptr, d.channels, 1, form.lanes)),
        zeros_(static_cast<size_t>(d.channels + form.lanes), 0.0f), x_(x) {
    d_.weights = weights_.data();
    d_.bias = bias_.data();
    d_.zeros = zeros_.data();
    // A thread is worth its start from some 100,000 multiply-accumulates on.
    const int64_t macs = d.batch * d.oh * d.ow * d.channels * d.kh * d.kw;
    threads_ = static_cast<int>(std::clamp<int64_t>(macs / 100'000, 1, std::min<int64_t>(threads, d.batch * d.oh)));
  }

  void run(std::span<const TensorView> inputs, std::span<const TensorView> outputs, void*, KernelState*) const override {
    const float* x = inputs[x_].as<const float>();
    float* y = outputs[0].as<float>();
    const int64_t rows = d_.batch * d_.oh;
    if (threads_ == 1) return rows_(d_, x, y, 0, rows);
#pragma omp parallel num_threads(threads_)
    {
      const int64_t part = omp_get_thread_num(), parts = omp_get_num_threads();
      rows_(d_, x, y, rows * part / parts, rows * (part + 1) / parts);
    }
  }

 private:
  DepthwiseF32 d_;
  DepthwiseRows rows_;
  std::vector<float> weights_, bias_, zeros_;
  size_t x_;
  int threads_;
};

// The clamp that the fused nodes amount to; none where there is anything else.
std::optional<std::pair<float, float>> clamp_of(const Fused& fused) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  if (fused.residual != no_value || fused.row != no_value || fused.items.size() > 1) return std::nullopt;
  if (fused.items.empty()) return {{-infinity, infinity}};
  const Fused::Eltwise& e = fused.items[0].eltwise;
  if (e.algorithm == dnnl::algorithm::eltwise_relu && e.alpha == 0) return {{0.0f, infinity}};
  if (e.algorithm == dnnl::algorithm::eltwise_clip && e.alpha <= e.beta) return {{e.alpha, e.beta}};
  return std::nullopt;
}

}  // namespace

std::optional<PreparedKernel> prepare_depthwise(const KernelRequest& request, const Fused& fused) {
  const Node& node = request.graph.node(request.members[0]);
  const size_t xs = slot_of(request, node.inputs.at(0)), ws = slot_of(request, node.inputs.at(1));
  const TensorSpec &x = request.inputs[xs], &w = request.inputs[ws];
  const bool has_bias = node.inputs.size() > 2 && node.inputs[2] != no_value;
  const TensorSpec* bias = has_bias ? &request.inputs[slot_of(request, node.inputs[2])] : nullptr;
  const DepthwiseForm form = depthwise_form();
  const auto clamp = clamp_of(fused);
  if (!form.rows || !clamp || !w.constant || x.constant || (bias && !bias->constant)) return std::nullopt;
  if (x.dtype != DType::f32 || w.dtype != DType::f32 || (bias && bias->dtype != DType::f32) || request.outputs[0].dtype != DType::f32) return std::nullopt;
  if (x.dims.size() < 3 || x.dims.size() > 4 || w.dims[1] != 1 || w.dims[0] != x.dims[1] || element_count(x.dims) == 0) return std::nullopt;
  const Window g = conv_window(node, x.dims, w.dims);
  if (g.group != x.dims[1] || g.group == 1) return std::nullopt;
  const auto at = [&](const Dims& dims, size_t axis, int64_t other) {  // axis 0: height; a single axis is the width
    const size_t axes = x.dims.size() - 2;
    return axes == 2 ? dims[dims.size() - 2 + axis] : axis == 0 ? other : dims.back();
  };
  const Dims& y = request.outputs[0].dims;
  const DepthwiseF32 d{.batch = x.dims[0], .channels = x.dims[1], .ih = at(x.dims, 0, 1), .iw = at(x.dims, 1, 1), .oh = at(y, 0, 1), .ow = at(y, 1, 1),
                       .kh = at(g.kernel, 0, 1), .kw = at(g.kernel, 1, 1), .sh = at(g.stride, 0, 1), .sw = at(g.stride, 1, 1), .dh = at(g.dilation, 0, 1),
                       .dw = at(g.dilation, 1, 1), .pad_top = at(g.pad_begin, 0, 0), .pad_left = at(g.pad_begin, 1, 0), .weights = nullptr, .bias = nullptr,
                       .zeros = nullptr, .low = clamp->first, .high = clamp->second};
  PreparedKernel made;
  made.kernel = std::make_unique<DepthwiseKernel>(d, form, *w.constant, bias ? bias->constant : nullptr, xs, request.threads);
  made.name = fmt::format("quern.depthwise:{}", form.name);
  made.input_layouts.assign(request.inputs.size(), Layout::row_major);
  made.input_layouts[xs] = Layout::channels_last;
  made.output_layouts = {Layout::channels_last};
  made.portable = false;  // a machine without fma computes it with oneDNN
  return made;
}

}  // namespace onednn
}  // namespace quern
