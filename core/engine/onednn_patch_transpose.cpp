// ConvTranspose whose patches don't overlap (stride = kernel, no padding), as decoders double their images with: every output pixel
// is one dot product. Row ky of all patches of an image row is one row of the output, so it is a matrix product
//
//   [width, in] x [in, kw * out] -> [width, kw * out]     per image row, written to output row y * kh + ky
//
// which oneDNN's matmul does at a multiple of the speed of its deconvolution.
#include <fmt/format.h>

#include "core/engine/onednn_kernel.hpp"
#include "core/graph/shapes.hpp"

namespace quern::onednn {
namespace {

using dnnl::memory;
const auto f32 = memory::data_type::f32;

class Patches final : public Kernel {
 public:
  Patches(std::vector<std::unique_ptr<Kernel>> rows, int64_t step) : rows_(std::move(rows)), step_(step) {}

  struct States final : KernelState { std::vector<std::unique_ptr<KernelState>> rows; };

  size_t workspace_bytes() const override {
    size_t most = 0;
    for (const auto& k : rows_) most = std::max(most, k->workspace_bytes());
    return most;
  }
  std::unique_ptr<KernelState> make_state() const override {
    auto s = std::make_unique<States>();
    for (const auto& k : rows_) s->rows.push_back(k->make_state());
    return s;
  }
  void run(std::span<const TensorView> inputs, std::span<const TensorView> outputs, void* workspace, KernelState* state) const override {
    TensorView row = outputs[0];
    for (size_t i = 0; i < rows_.size(); ++i) {
      rows_[i]->run(inputs, {&row, 1}, workspace, state ? static_cast<States*>(state)->rows[i].get() : nullptr);
      row.data = static_cast<float*>(row.data) + step_;
    }
  }

 private:
  std::vector<std::unique_ptr<Kernel>> rows_;
  int64_t step_;
};

}  // namespace

std::optional<PreparedKernel> prepare_patch_transpose(const KernelRequest& request, const Fused& fused) {
  const Node& node = request.graph.node(request.members[0]);
  const size_t xs = slot_of(request, node.inputs.at(0)), ws = slot_of(request, node.inputs.at(1));
  const TensorSpec &x = request.inputs[xs], &w = request.inputs[ws];
  const TensorSpec* bias = node.inputs.size() > 2 && node.inputs[2] != no_value ? &request.inputs[slot_of(request, node.inputs[2])] : nullptr;
  if (!w.constant || (bias && !bias->constant) || x.constant || fused.residual != no_value || fused.row != no_value) return std::nullopt;
  if (x.dtype != DType::f32 || w.dtype != DType::f32 || (bias && bias->dtype != DType::f32) || request.outputs[0].dtype != DType::f32) return std::nullopt;
  if (x.dims.size() != 4 || element_count(x.dims) == 0) return std::nullopt;
  const Window g = conv_transpose_window(node, x.dims, w.dims);
  const int64_t batch = x.dims[0], in = x.dims[1], height = x.dims[2], width = x.dims[3], out = w.dims[1], kh = g.kernel[0], kw = g.kernel[1];
  if (g.group != 1 || g.stride != g.kernel || g.dilation != std::vector<int64_t>{1, 1} || request.outputs[0].dims != Dims{batch, out, height * kh, width * kw})
    return std::nullopt;
  for (int64_t p : g.pad_begin)
    if (p != 0) return std::nullopt;

  const int64_t columns = kw * out;  // of one product
  auto shared_bias = std::make_shared<Tensor>(DType::f32, Dims{columns});
  if (bias)
    for (int64_t i = 0; i < columns; ++i) shared_bias->mutable_values<float>()[static_cast<size_t>(i)] = bias->constant->values<float>()[static_cast<size_t>(i % out)];
  const memory::desc src = strided({batch * height, width, in}, {width * in, in, 1});
  const memory::desc dst = strided({batch * height, width, columns}, {kh * width * columns, columns, 1});
  const memory::desc given = strided({1, in, columns}, {in * columns, columns, 1});
  const memory::desc any({1, in, columns}, f32, memory::format_tag::any), bias_desc = strided({1, 1, columns}, {columns, columns, 1});
  const dnnl::matmul::desc desc = bias ? dnnl::matmul::desc(src, any, bias_desc, dst) : dnnl::matmul::desc(src, any, dst);
  const dnnl::matmul::primitive_desc pd(desc, attributes(fused), cpu());
  if (!is_fast(pd.impl_info_str())) return std::nullopt;

  std::vector<std::unique_ptr<Kernel>> rows;
  for (int64_t ky = 0; ky < kh; ++ky) {
    Tensor weights(DType::f32, {1, in, columns});
    const auto from = w.constant->values<float>();
    auto to = weights.mutable_values<float>();
    for (int64_t i = 0; i < in; ++i)
      for (int64_t kx = 0; kx < kw; ++kx)
        for (int64_t o = 0; o < out; ++o)
          to[static_cast<size_t>((i * kw + kx) * out + o)] = from[static_cast<size_t>(((i * out + o) * kh + ky) * kw + kx)];
    TensorSpec spec{.dtype = DType::f32, .dims = weights.dims(), .layout = Layout::row_major, .constant = &weights};
    Recipe recipe;
    recipe.primitive = dnnl::matmul(pd);
    recipe.add_input(DNNL_ARG_SRC, src, xs);
    recipe.add_weights(DNNL_ARG_WEIGHTS, given, pd.weights_desc(), spec, ws);
    if (bias) recipe.add_fixed(DNNL_ARG_BIAS, bias_desc, shared_bias, shared_bias->data());
    recipe.add_output(DNNL_ARG_DST, dst);
    recipe.add_scratchpad(pd.scratchpad_desc());
    rows.push_back(make_kernel(std::move(recipe)));
  }
  PreparedKernel made;
  made.kernel = std::make_unique<Patches>(std::move(rows), width * columns);
  made.name = fmt::format("onednn.conv_transpose_as_matmul:{}", pd.impl_info_str());
  made.input_layouts.assign(request.inputs.size(), Layout::row_major);
  made.input_layouts[xs] = Layout::channels_last;
  made.output_layouts = {Layout::channels_last};
  made.portable = false;
  return made;
}

}  // namespace quern::onednn
