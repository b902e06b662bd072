// A unit of Conv, ConvTranspose, Gemm or MatMul by a constant with its fused members as a Dot.
#include <algorithm>
#include <cstring>

#include "plugins/common/derive.hpp"
#include "plugins/cpu/dot.hpp"
#include "plugins/cpu/numbers.hpp"
#include "plugins/cpu/strided.hpp"

namespace quern_cpu {
namespace {

class DotKernel : public Kernel {
 public:
  DotKernel(const DotSpec& spec, std::vector<uint32_t> layouts, size_t input, int residual, bool spatial)
      : Kernel("cpu.dot:"), dot_(spec), layouts_(std::move(layouts)), input_(input), residual_(residual), spatial_(spatial) {
    name_ += dot_.implementation();
    // Room for the codes of a residual that does not lie as the output does.
    const DotSpec& s = dot_.spec();
    if (residual_ >= 0 && !dot_.residual_in_output()) residual_bytes_ = static_cast<uint64_t>(s.batch * s.oc * s.h.out * s.w.out + 127) / 64 * 64;
  }

  uint64_t workspace_bytes() const override { return dot_.workspace_bytes() + residual_bytes_; }
  std::vector<uint32_t> input_layouts() const override { return layouts_; }
  uint32_t output_layout() const override { return spatial_ ? QUERN_LAYOUT_CHANNELS_LAST : QUERN_LAYOUT_ROW_MAJOR; }
  std::unique_ptr<Context> create_context() const override { return std::make_unique<Dot::Run>(dot_); }

  void execute(Context& context, Span<const quern_tensor> inputs, const quern_tensor& output, void* workspace) const override {
    const void* residual = nullptr;
    auto* scratch = static_cast<uint8_t*>(workspace);
    if (residual_ >= 0) {
      const quern_tensor& r = inputs[static_cast<size_t>(residual_)];
      if (dot_.residual_in_output()) {
        output.dtype == QUERN_DTYPE_F32 ? put_values(r, output) : put_codes(r, output, output.data);
      } else if (same_places(r, output)) {
        residual = r.data;
      } else {
        put_codes(r, output, scratch);
        residual = scratch;
      }
    }
    static_cast<Dot::Run&>(context)(inputs[input_].data, residual, output.data, scratch + residual_bytes_);
  }

 private:
  static bool same_places(const quern_tensor& a, const quern_tensor& b) {
    if (a.rank != b.rank || !std::equal(a.dims, a.dims + a.rank, b.dims)) return false;
    for (uint32_t i = 0; i < a.rank; ++i)
      if (a.dims[i] > 1 && a.strides[i] != b.strides[i]) return false;
    return true;
  }

  // The residual's codes, broadcast, as the output lies.
  void put_codes(const quern_tensor& residual, const quern_tensor& output, void* place) const {
    const Dims out(output.dims, output.dims + output.rank), own(output.strides, output.strides + output.rank);
    const auto* in = static_cast<const uint8_t*>(residual.data);
    auto* to = static_cast<uint8_t*>(place);
    for_rows(out, own, {broadcast_strides(residual, out)}, dot_.spec().threads,
             [&](int64_t o, const int64_t* i, int64_t n, int64_t step_out, const int64_t* step) {
               if (step_out == 1 && step[0] == 1) {
                 std::memcpy(to + o, in + i[0], static_cast<size_t>(n));
               } else {
                 for (int64_t k = 0; k < n; ++k) to[o + k * step_out] = in[i[0] + k * step[0]];
               }
             });
  }

  // Its values less the zero point, in a float output: oneDNN adds to what lies there.
  void put_values(const quern_tensor& residual, const quern_tensor& output) const {
    const Dims out(output.dims, output.dims + output.rank), own(output.strides, output.strides + output.rank);
    const auto* in = static_cast<const uint8_t*>(residual.data);
    auto* to = static_cast<float*>(output.data);
    const bool is_signed = residual.dtype == QUERN_DTYPE_S8;
    const int32_t zero = dot_.spec().residual_zp;
    for_rows(out, own, {broadcast_strides(residual, out)}, dot_.spec().threads,
             [&](int64_t o, const int64_t* i, int64_t n, int64_t step_out, const int64_t* step) {
               for (int64_t k = 0; k < n; ++k) {
                 const uint8_t code = in[i[0] + k * step[0]];
                 to[o + k * step_out] = static_cast<float>((is_signed ? static_cast<int32_t>(static_cast<int8_t>(code)) : code) - zero);
               }
             });
  }

  Dot dot_;
  std::vector<uint32_t> layouts_;
  size_t input_;
  int residual_;
  bool spatial_;
  uint64_t residual_bytes_ = 0;
};

void read_tables(const OpView& op, DotSpec& s) {
  const auto multiplier = op.table<float>("multiplier");
  if (static_cast<int64_t>(multiplier.size()) != s.oc) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": table multiplier has a wrong size");
  s.multiplier.assign(multiplier.begin(), multiplier.end());
  if (op.has("bias")) {
    const auto bias = op.table<float>("bias_f32");
    if (static_cast<int64_t>(bias.size()) != s.oc) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": table bias_f32 has a wrong size");
    s.bias.assign(bias.begin(), bias.end());
  }
  s.table = activation_table(op);
  if (!s.table.empty()) s.table_offset = op.table<float>("act_offset")[0];
  if (op.find_table("act_low")) {
    s.clamp = true;
    s.low = op.table<float>("act_low")[0];
    s.high = op.table<float>("act_high")[0];
  }
}

}  // namespace

std::unique_ptr<Kernel> compile_dot(const OpView& op, uint32_t threads) {
  std::string reason;
  if (!supports(op, reason)) throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": " + reason);
  const OperandView input = op.input("input"), weight = op.input("weight"), output = op.output();
  if (!weight.is_constant()) {
    if (op.op() == "MatMul") return compile_product(op, threads);
    throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": the weight is not a constant");
  }
  DotSpec s;
  static_cast<DotShape&>(s) = dot_shape(op);
  s.threads = threads;
  const bool spatial = op.op() == "ConvTranspose" || op.op() == "Conv";
  const QuantView x = activation_quant(op, input);
  s.src = input.dtype();
  s.src_zp = static_cast<int32_t>(x.zero_point());
  s.dst = output.dtype();
  if (s.dst != QUERN_DTYPE_F32) s.dst_zp = static_cast<int32_t>(activation_quant(op, output).zero_point());
  const OperandView residual = op.find("residual");
  if (residual) {
    s.residual = residual.dtype();
    s.residual_zp = static_cast<int32_t>(activation_quant(op, residual).zero_point());
    s.residual_scale = op.table<float>("residual_scale")[0];
  }
  s.weights = weight.tensor().values<const int8_t>().data();
  read_tables(op, s);

  std::vector<uint32_t> layouts;
  size_t input_at = 0;
  int residual_at = -1;
  for (const OperandView& o : op.variable_inputs()) {
    if (o.role() == "input") input_at = layouts.size();
    if (o.role() == "residual") residual_at = static_cast<int>(layouts.size());
    layouts.push_back(spatial ? QUERN_LAYOUT_CHANNELS_LAST : QUERN_LAYOUT_ROW_MAJOR);
  }
  if (residual && residual_at < 0) throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": a constant is added as a residual");
  return std::make_unique<DotKernel>(s, std::move(layouts), input_at, residual_at, spatial);
}

}  // namespace quern_cpu
