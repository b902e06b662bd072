// Gemm and MatMul by oneDNN's matmul.
#include <fmt/format.h>

#include <algorithm>

#include "core/engine/onednn_kernel.hpp"

namespace quern::onednn {
namespace {

using dnnl::memory;
const auto f32 = memory::data_type::f32;

// A row of n numbers, times `factor`, from a constant of n numbers or one.
std::shared_ptr<Tensor> row_of(const Tensor& c, int64_t n, float factor) {
  auto row = std::make_shared<Tensor>(DType::f32, Dims{n});
  const auto values = c.values<float>();
  auto out = row->mutable_values<float>();
  for (size_t i = 0; i < out.size(); ++i) out[i] = factor * values[values.size() == 1 ? 0 : i];
  return row;
}

bool residual_fits(const KernelRequest& request, const Fused& fused) {
  if (fused.residual == no_value) return true;
  const TensorSpec& r = request.inputs[slot_of(request, fused.residual)];
  return r.dtype == DType::f32 && r.dims == request.outputs[0].dims;
}

struct Problem {
  memory::desc src, given_weights, dst;  // given: as the weights lie
  bool pack = false;                     // weights are constant: in the order the primitive wants
  float scale = 1;
  std::shared_ptr<Tensor> bias;          // one per column
  bool sum_first = false;
};

struct Prepared {
  dnnl::matmul::primitive_desc pd;
  Recipe recipe;
};

constexpr size_t most_scratchpad = size_t{16} << 20;  // a primitive that packs into more than that at every run gains nothing

Prepared primitive(const Problem& p, const Fused& fused) {
  dnnl::primitive_attr attr = attributes(fused, p.sum_first);
  if (p.scale != 1) attr.set_output_scales(0, {p.scale});
  const memory::desc weights = p.pack ? memory::desc(p.given_weights.dims(), f32, memory::format_tag::any) : p.given_weights;
  memory::desc bias;
  if (p.bias) {
    Dims dims(p.dst.dims().size(), 1);
    dims.back() = p.dst.dims().back();
    bias = strided(dims, row_major_strides(dims));
  }
  const dnnl::matmul::desc desc = p.bias ? dnnl::matmul::desc(p.src, weights, bias, p.dst) : dnnl::matmul::desc(p.src, weights, p.dst);
  Prepared out{dnnl::matmul::primitive_desc(desc, attr, cpu()), {}};
  out.recipe.primitive = dnnl::matmul(out.pd);
  if (p.bias) out.recipe.add_fixed(DNNL_ARG_BIAS, bias, p.bias, p.bias->data());
  return out;
}

bool plain_weights(const Problem& p, const Tensor* constant, const Fused& fused) {
  if (!constant || constant->bytes() < large_weights || !usable_as_it_lies(*constant)) return false;
  Problem plain = p;
  plain.pack = false;
  const Prepared made = primitive(plain, fused);
  return is_fast(made.pd.impl_info_str()) && made.pd.scratchpad_desc().get_size() <= most_scratchpad;
}

std::optional<PreparedKernel> finish(const KernelRequest& request, const Fused& fused, Prepared p, const char* name) {
  const std::string implementation = p.pd.impl_info_str();
  if (request.members.size() > 1 && !is_fast(implementation)) return std::nullopt;
  PreparedKernel made;
  p.recipe.add_output(DNNL_ARG_DST, p.pd.dst_desc());
  p.recipe.add_scratchpad(p.pd.scratchpad_desc());
  add_residual(request, fused, p.recipe, made);
  made.input_layouts.assign(request.inputs.size(), Layout::row_major);
  made.output_layouts = {Layout::row_major};
  made.name = fmt::format("onednn.{}:{}", name, implementation);
  made.portable = false;
  made.kernel = make_kernel(std::move(p.recipe));
  return made;
}

}  // namespace

std::optional<PreparedKernel> prepare_gemm(const KernelRequest& request, const Fused& fused) {
  const Node& node = request.graph.node(request.members[0]);
  const size_t a = slot_of(request, node.inputs.at(0)), b = slot_of(request, node.inputs.at(1));
  const bool has_c = node.inputs.size() > 2 && node.inputs[2] != no_value;
  const size_t c = has_c ? slot_of(request, node.inputs[2]) : 0;
  const TensorSpec &sa = request.inputs[a], &sb = request.inputs[b];
  if (sa.dtype != DType::f32 || sb.dtype != DType::f32 || (has_c && request.inputs[c].dtype != DType::f32)) return std::nullopt;
  if (sa.dims.size() != 2 || sb.dims.size() != 2 || element_count(sa.dims) == 0 || element_count(sb.dims) == 0 ||
      request.outputs[0].dims.size() != 2 || fused.row != no_value || !residual_fits(request, fused))
    return std::nullopt;
  const bool ta = node.integer("transA", 0) != 0, tb = node.integer("transB", 0) != 0;
  const float alpha = node.real("alpha", 1), beta = node.real("beta", 1);
  const int64_t m = sa.dims[ta ? 1 : 0], k = sa.dims[ta ? 0 : 1], n = sb.dims[tb ? 0 : 1];
  if (sb.dims[tb ? 1 : 0] != k || request.outputs[0].dims != Dims{m, n}) return std::nullopt;

  Problem p;
  p.src = strided({m, k}, ta ? Dims{1, m} : Dims{k, 1});
  p.given_weights = strided({k, n}, tb ? Dims{1, k} : Dims{n, 1});
  p.dst = strided({m, n}, {n, 1});
  p.pack = sb.constant != nullptr;
  TensorSpec weights = sb;
  Tensor scaled;
  if (alpha != 1 && p.pack) {  // into the constant weights
    scaled = Tensor(DType::f32, sb.dims);
    std::transform(sb.constant->values<float>().begin(), sb.constant->values<float>().end(), scaled.mutable_values<float>().begin(),
                   [&](float w) { return alpha * w; });
    weights.constant = &scaled;
  } else {
    p.scale = alpha;
  }
  std::function<void(std::span<const TensorView>, std::span<const TensorView>)> before;
  if (has_c && beta != 0) {
    const Dims& dims = request.inputs[c].dims;
    const bool row = dims.size() < 2 || dims[0] == 1;
    if (row && request.inputs[c].constant && p.scale == 1) {
      p.bias = row_of(*request.inputs[c].constant, n, beta);
    } else {  // any other C: written to the output, which the product is then added to
      if (fused.residual != no_value) return std::nullopt;
      p.sum_first = true;
      const int64_t row_step = dims.size() == 2 && dims[0] > 1 ? dims[1] : 0;
      const int64_t column_step = !dims.empty() && dims.back() > 1 ? 1 : 0;
      before = [=](std::span<const TensorView> inputs, std::span<const TensorView> outputs) {
        const float* from = inputs[c].as<float>();
        float* to = outputs[0].as<float>();
        for (int64_t i = 0; i < m; ++i)
          for (int64_t j = 0; j < n; ++j) to[i * n + j] = beta * from[i * row_step + j * column_step];
      };
    }
  }
  const bool as_it_lies = plain_weights(p, weights.constant, fused);
  p.pack = p.pack && !as_it_lies;
  Prepared prepared = primitive(p, fused);
  prepared.recipe.add_input(DNNL_ARG_SRC, p.src, a);
  prepared.recipe.add_weights(DNNL_ARG_WEIGHTS, p.given_weights, prepared.pd.weights_desc(), weights, b);
  prepared.recipe.before = std::move(before);
  return finish(request, fused, std::move(prepared), "gemm");
}

std::optional<PreparedKernel> prepare_matmul(const KernelRequest& request, const Fused& fused) {
  const Node& node = request.graph.node(request.members[0]);
  const size_t a = slot_of(request, node.inputs.at(0)), b = slot_of(request, node.inputs.at(1));
  const TensorSpec &sa = request.inputs[a], &sb = request.inputs[b];
  if (sa.dtype != DType::f32 || sb.dtype != DType::f32 || sa.dims.empty() || sb.dims.empty()) return std::nullopt;
  if (element_count(sa.dims) == 0 || element_count(sb.dims) == 0 || !residual_fits(request, fused)) return std::nullopt;
  Dims da = sa.dims, db = sb.dims;
  if (da.size() == 1) da.insert(da.begin(), 1);
  if (db.size() == 1) db.push_back(1);
  const int64_t m = da[da.size() - 2], k = da.back(), n = db.back();
  if (db[db.size() - 2] != k) return std::nullopt;
  Dims batch_a(da.begin(), da.end() - 2), batch_b(db.begin(), db.end() - 2);
  const bool flat = std::all_of(batch_b.begin(), batch_b.end(), [](int64_t d) { return d == 1; });
  Dims src, weights, dst;
  if (flat) {  // one matrix for all: rows of every batch behind one another
    const int64_t rows = element_count(batch_a) * m;
    src = {rows, k};
    weights = {k, n};
    dst = {rows, n};
  } else {
    while (batch_a.size() < batch_b.size()) batch_a.insert(batch_a.begin(), 1);
    while (batch_b.size() < batch_a.size()) batch_b.insert(batch_b.begin(), 1);
    Dims batch(batch_a.size());
    for (size_t i = 0; i < batch.size(); ++i) {
      if (batch_a[i] != batch_b[i] && batch_a[i] != 1 && batch_b[i] != 1) return std::nullopt;
      batch[i] = std::max(batch_a[i], batch_b[i]);
    }
    if (batch_a == batch_b) batch_a = batch_b = batch = {element_count(batch)};
    src = batch_a, weights = batch_b, dst = batch;
    src.insert(src.end(), {m, k});
    weights.insert(weights.end(), {k, n});
    dst.insert(dst.end(), {m, n});
  }
  Problem p;
  p.src = strided(src, row_major_strides(src));
  p.given_weights = strided(weights, row_major_strides(weights));
  p.dst = strided(dst, row_major_strides(dst));
  p.pack = sb.constant != nullptr;
  if (fused.row != no_value) {
    const TensorSpec& row = request.inputs[slot_of(request, fused.row)];
    const int64_t count = element_count(row.dims);
    const bool fits = count == 1 || (count == n && row.dims.back() == n);
    if (!row.constant || row.dtype != DType::f32 || !fits || sb.dims.size() < 2 || row.dims.size() > request.outputs[0].dims.size())
      return std::nullopt;
    p.bias = row_of(*row.constant, n, 1);
  }
  const bool as_it_lies = plain_weights(p, sb.constant, fused);
  p.pack = p.pack && !as_it_lies;
  Prepared prepared = primitive(p, fused);
  prepared.recipe.add_input(DNNL_ARG_SRC, p.src, a);
  prepared.recipe.add_weights(DNNL_ARG_WEIGHTS, p.given_weights, prepared.pd.weights_desc(), sb, b);
  return finish(request, fused, std::move(prepared), "matmul");
}

}  // namespace quern::onednn
