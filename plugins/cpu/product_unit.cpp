// A unit of MatMul of two tensors that flow, with its fused members, as a Product.
#include <algorithm>
#include <cstring>

#include "plugins/common/derive.hpp"
#include "plugins/cpu/numbers.hpp"
#include "plugins/cpu/product.hpp"
#include "plugins/cpu/strided.hpp"

namespace quern_cpu {
namespace {

class ProductKernel : public Kernel {
 public:
  ProductKernel(ProductSpec spec, size_t count, int a, int b, int residual)
      : Kernel("cpu.product:"), out_(spec.out), product_(std::move(spec)), layouts_(count, QUERN_LAYOUT_ROW_MAJOR), a_(a), b_(b), residual_(residual) {
    name_ += product_.name();
    if (residual_ >= 0) residual_bytes_ = (static_cast<uint64_t>(count_of(out_)) + 127) / 64 * 64;
  }
  uint64_t workspace_bytes() const override { return product_.workspace_bytes() + residual_bytes_; }
  std::vector<uint32_t> input_layouts() const override { return layouts_; }
  uint32_t output_layout() const override { return QUERN_LAYOUT_ROW_MAJOR; }

  void execute(Context&, Span<const quern_tensor> inputs, const quern_tensor& output, void* workspace) const override {
    const auto data = [&](int i) { return static_cast<const uint8_t*>(inputs[static_cast<size_t>(i)].data); };
    auto* scratch = static_cast<uint8_t*>(workspace);
    const uint8_t* residual = nullptr;
    if (residual_ >= 0) {
      const quern_tensor& r = inputs[static_cast<size_t>(residual_)];
      residual = data(residual_);
      if (Dims(r.dims, r.dims + r.rank) != out_) {
        for_rows(out_, row_major_strides(out_), {broadcast_strides(r, out_)}, 1,
                 [&](int64_t o, const int64_t* i, int64_t n, int64_t step_out, const int64_t* step) {
                   for (int64_t k = 0; k < n; ++k) scratch[o + k * step_out] = residual[i[0] + k * step[0]];
                 });
        residual = scratch;
      }
    }
    product_.run(data(a_), data(b_), residual, output.data, scratch + residual_bytes_);
  }

 private:
  Dims out_;
  Product product_;
  std::vector<uint32_t> layouts_;
  int a_, b_, residual_;
  uint64_t residual_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Kernel> compile_product(const OpView& op, uint32_t threads) {
  const std::string where(op.name());
  const OperandView a = op.input("input"), b = op.input("weight");
  ProductSpec s;
  s.threads = threads;
  s.a = dims_of(a);
  s.b = dims_of(b);
  s.out = dims_of(op.output());
  const size_t rank = s.out.size();
  if (rank < 2 || s.a.size() < 2 || s.b.size() < 2 || s.a.size() > rank || s.b.size() > rank || s.a.back() != s.b[s.b.size() - 2] ||
      s.a[s.a.size() - 2] != s.out[rank - 2] || s.b.back() != s.out[rank - 1])
    throw Failure(QUERN_INVALID_ARGUMENT, where + ": the two tensors and the output do not fit each other");
  for (const Dims* d : {&s.a, &s.b})
    for (size_t i = 0; i + 2 < d->size(); ++i)
      if ((*d)[i] != 1 && (*d)[i] != s.out[rank - d->size() + i])
        throw Failure(QUERN_INVALID_ARGUMENT, where + ": the batch axes of the two tensors do not fit each other");
  const QuantView qa = activation_quant(op, a), qb = activation_quant(op, b);
  s.a_signed = qa.is_signed();
  s.b_signed = qb.is_signed();
  s.a_zp = static_cast<int32_t>(qa.zero_point());
  s.b_zp = static_cast<int32_t>(qb.zero_point());
  const auto multiplier = op.table<float>("multiplier");
  s.multiplier.assign(multiplier.begin(), multiplier.end());
  if (multiplier.size() != 1) throw Failure(QUERN_INVALID_ARGUMENT, where + ": table multiplier has a wrong size");
  if (op.has("bias")) throw Failure(QUERN_UNIMPLEMENTED, where + ": a bias in a product of two tensors");

  const Sink sink = sink_of(op);
  s.end.floats = writes_floats(op);
  s.end.is_signed = op.output().dtype() == QUERN_DTYPE_S8;
  s.end.low = sink.low;
  s.end.high = sink.high;
  s.end.zero_point = sink.zero_point;
  s.end.qmin = sink.qmin;
  s.end.qmax = sink.qmax;
  s.table = activation_table(op);
  if (!s.table.empty()) {
    s.end.table_offset = op.table<float>("act_offset")[0];
    s.end.table_last = static_cast<float>(s.table.size() - 1);
  }
  int at = 0, a_at = -1, b_at = -1, residual_at = -1;
  for (const OperandView& o : op.variable_inputs()) {
    if (o.role() == "input") a_at = at;
    if (o.role() == "weight") b_at = at;
    if (o.role() == "residual") residual_at = at;
    ++at;
  }
  if (a_at < 0) throw Failure(QUERN_UNIMPLEMENTED, where + ": a constant times a tensor");
  if (const OperandView residual = op.find("residual")) {
    if (residual_at < 0) throw Failure(QUERN_UNIMPLEMENTED, where + ": a constant is added as a residual");
    const QuantView q = activation_quant(op, residual);
    s.end.residual = true;
    s.end.residual_flip = q.is_signed() ? 0x80 : 0;
    s.end.residual_zero = static_cast<int32_t>(q.zero_point()) + s.end.residual_flip;
    s.end.residual_scale = op.table<float>("residual_scale")[0];
  }
  return std::make_unique<ProductKernel>(std::move(s), static_cast<size_t>(at), a_at, b_at, residual_at);
}

}  // namespace quern_cpu
