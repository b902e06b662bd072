// Conv and ConvTranspose by oneDNN: activations channels last, weights in the order the primitive likes best.
#include <fmt/format.h>

#include "core/engine/onednn_kernel.hpp"
#include "core/graph/shapes.hpp"

namespace quern::onednn {
namespace {

using dnnl::memory;
const auto f32 = memory::data_type::f32;

memory::format_tag channels_last_tag(size_t rank) { return rank == 5 ? memory::format_tag::ndhwc : memory::format_tag::nhwc; }

// One spatial axis becomes two, the first of size 1: the same memory, and oneDNN's best-kept path.
void widen(Dims& dims, int64_t value) {
  dims.insert(dims.end() - 1, value);
}

struct Geometry {
  Dims src, dst, stride, dilation, pad_begin, pad_end, kernel;
  int64_t group = 1;
};

Geometry geometry(const Window& w, const Dims& x, const Dims& y) {
  Geometry g{.src = x, .dst = y, .stride = w.stride, .dilation = w.dilation, .pad_begin = w.pad_begin, .pad_end = w.pad_end,
             .kernel = w.kernel, .group = w.group};
  for (auto& d : g.dilation) --d;
  if (x.size() == 3) {
    widen(g.src, 1);
    widen(g.dst, 1);
    widen(g.kernel, 1);
    widen(g.stride, 1);
    widen(g.dilation, 0);
    widen(g.pad_begin, 0);
    widen(g.pad_end, 0);
  }
  return g;
}

struct Operands {
  size_t x = 0, w = 0, bias = 0;
  bool has_bias = false;
};

// None: types or shapes oneDNN is not asked for.
std::optional<Operands> operands(const KernelRequest& request, const Fused& fused) {
  const Node& node = request.graph.node(request.members[0]);
  Operands o;
  o.x = slot_of(request, node.inputs.at(0));
  o.w = slot_of(request, node.inputs.at(1));
  o.has_bias = node.inputs.size() > 2 && node.inputs[2] != no_value;
  if (o.has_bias) o.bias = slot_of(request, node.inputs[2]);
  const Dims& x = request.inputs[o.x].dims;
  if (x.size() < 3 || x.size() > 5 || fused.row != no_value) return std::nullopt;
  for (size_t i : {o.x, o.w, o.has_bias ? o.bias : o.w})
    if (request.inputs[i].dtype != DType::f32 || element_count(request.inputs[i].dims) == 0) return std::nullopt;
  if (request.outputs.size() != 1 || request.outputs[0].dtype != DType::f32) return std::nullopt;
  if (fused.residual != no_value) {
    const TensorSpec& r = request.inputs[slot_of(request, fused.residual)];
    if (r.dtype != DType::f32 || r.dims != request.outputs[0].dims) return std::nullopt;
  }
  return o;
}

// Everything after the primitive has been found.
template <class Desc>
std::optional<PreparedKernel> finish(const KernelRequest& request, const Fused& fused, const Operands& o, const Desc& pd,
                                     const memory::desc& given_weights, const memory::desc& bias, dnnl::primitive primitive, const char* name) {
  const std::string implementation = pd.impl_info_str();
  if (request.members.size() > 1 && !is_fast(implementation)) return std::nullopt;
  Recipe recipe;
  PreparedKernel made;
  recipe.primitive = std::move(primitive);
  recipe.add_input(DNNL_ARG_SRC, pd.src_desc(), o.x);
  recipe.add_weights(DNNL_ARG_WEIGHTS, given_weights, pd.weights_desc(), request.inputs[o.w], o.w);
  if (o.has_bias) recipe.add_weights(DNNL_ARG_BIAS, bias, bias, request.inputs[o.bias], o.bias);
  recipe.add_output(DNNL_ARG_DST, pd.dst_desc());
  recipe.add_scratchpad(pd.scratchpad_desc());
  add_residual(request, fused, recipe, made);
  made.input_layouts.assign(request.inputs.size(), Layout::row_major);
  made.input_layouts[o.x] = Layout::channels_last;
  if (fused.residual != no_value) made.input_layouts[slot_of(request, fused.residual)] = Layout::channels_last;
  made.output_layouts = {Layout::channels_last};
  made.name = fmt::format("onednn.{}:{}", name, implementation);
  made.portable = false;
  made.kernel = make_kernel(std::move(recipe));
  return made;
}

}  // namespace

std::optional<PreparedKernel> prepare_conv(const KernelRequest& request, const Fused& fused) {
  const Node& node = request.graph.node(request.members[0]);
  const auto o = operands(request, fused);
  if (!o) return std::nullopt;
  const Dims& x = request.inputs[o->x].dims;
  const Dims& w = request.inputs[o->w].dims;
  const Geometry g = geometry(conv_window(node, x, w), x, request.outputs[0].dims);
  const memory::desc src(g.src, f32, channels_last_tag(g.src.size())), dst(g.dst, f32, channels_last_tag(g.dst.size()));
  Dims weights;
  if (g.group > 1) weights = {g.group, w[0] / g.group, w[1]};
  else weights = {w[0], w[1]};
  weights.insert(weights.end(), g.kernel.begin(), g.kernel.end());
  const memory::desc any(weights, f32, memory::format_tag::any), given = strided(weights, row_major_strides(weights));
  const memory::desc bias(Dims{w[0]}, f32, memory::format_tag::x);
  const auto kind = dnnl::prop_kind::forward_inference;
  const auto algorithm = dnnl::algorithm::convolution_direct;
  using Conv = dnnl::convolution_forward;
  const Conv::desc desc = o->has_bias ? Conv::desc(kind, algorithm, src, any, bias, dst, g.stride, g.dilation, g.pad_begin, g.pad_end)
                                      : Conv::desc(kind, algorithm, src, any, dst, g.stride, g.dilation, g.pad_begin, g.pad_end);
  const Conv::primitive_desc pd(desc, attributes(fused), cpu());
  return finish(request, fused, *o, pd, given, bias, Conv(pd), "conv");
}

std::optional<PreparedKernel> prepare_conv_transpose(const KernelRequest& request, const Fused& fused) {
  const Node& node = request.graph.node(request.members[0]);
  const auto o = operands(request, fused);
  if (!o) return std::nullopt;
  const Dims& x = request.inputs[o->x].dims;
  const Dims& w = request.inputs[o->w].dims;
  Geometry g = geometry(conv_transpose_window(node, x, w), x, request.outputs[0].dims);
  // The end padding that makes oneDNN's sizes meet: less than ONNX's by output_padding, below 0 where that is larger.
  for (size_t i = 0; i < g.kernel.size(); ++i)
    g.pad_end[i] = (g.src[i + 2] - 1) * g.stride[i] + (g.kernel[i] - 1) * (g.dilation[i] + 1) + 1 - g.pad_begin[i] - g.dst[i + 2];
  const memory::desc src(g.src, f32, channels_last_tag(g.src.size())), dst(g.dst, f32, channels_last_tag(g.dst.size()));
  // ONNX keeps [in][out/group][kernel]; oneDNN names them [group][out/group][in/group][kernel].
  int64_t taps = 1;
  for (int64_t k : g.kernel) taps *= k;
  const int64_t in = w[0] / g.group, out = w[1];
  Dims weights, strides;
  if (g.group > 1) { weights = {g.group}; strides = {in * out * taps}; }
  weights.insert(weights.end(), {out, in});
  strides.insert(strides.end(), {taps, out * taps});
  const Dims inner = row_major_strides(g.kernel);
  weights.insert(weights.end(), g.kernel.begin(), g.kernel.end());
  strides.insert(strides.end(), inner.begin(), inner.end());
  const memory::desc any(weights, f32, memory::format_tag::any), given = strided(weights, strides);
  const memory::desc bias(Dims{out * g.group}, f32, memory::format_tag::x);
  const auto kind = dnnl::prop_kind::forward_inference;
  const auto algorithm = dnnl::algorithm::deconvolution_direct;
  using Deconv = dnnl::deconvolution_forward;
  const Deconv::desc desc = o->has_bias ? Deconv::desc(kind, algorithm, src, any, bias, dst, g.stride, g.dilation, g.pad_begin, g.pad_end)
                                        : Deconv::desc(kind, algorithm, src, any, dst, g.stride, g.dilation, g.pad_begin, g.pad_end);
  const Deconv::primitive_desc pd(desc, attributes(fused), cpu());
  return finish(request, fused, *o, pd, given, bias, Deconv(pd), "conv_transpose");
}

}  // namespace quern::onednn
