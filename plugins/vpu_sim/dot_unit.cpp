// A unit of Conv, ConvTranspose, Gemm or MatMul by a constant with its fused members as a Dot.
#include "plugins/vpu_sim/dot.hpp"

namespace quern_vpu {
namespace {

class DotKernel : public Kernel {
 public:
  DotKernel(const DotSpec& spec, const OpView& op, size_t operands, bool spatial)
      : Kernel(""), dot_(spec, Finish(op, spec.oc)), layout_(spatial ? QUERN_LAYOUT_CHANNELS_LAST : QUERN_LAYOUT_ROW_MAJOR),
        operands_(operands), input_(flowing_index(op, "input")) {
    name_ += std::string(dot_.name()) + ":" + rows().name;
  }
  std::vector<uint32_t> input_layouts() const override { return std::vector<uint32_t>(operands_, layout_); }
  uint32_t output_layout() const override { return layout_; }
  void execute(Span<const quern_tensor> inputs, const quern_tensor& output) const override { dot_.run(inputs[input_].data, output.data); }

 private:
  Dot dot_;
  uint32_t layout_;
  size_t operands_, input_;
};

}  // namespace

std::unique_ptr<Kernel> compile_dot(const OpView& op, uint32_t threads) {
  const OperandView weight = op.input("weight");
  if (!weight.is_constant()) {
    if (op.op() == "MatMul") return compile_product(op, threads);
    throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": the weight is not a constant");
  }
  DotSpec s;
  static_cast<DotShape&>(s) = dot_shape(op);
  s.threads = threads;
  const QuantView x = activation_quant(op, op.input("input"));
  s.is_signed = x.is_signed();
  s.zero = static_cast<int32_t>(x.zero_point());
  s.weight_zero = static_cast<int32_t>(weight.quant().zero_point());
  s.weights = weight.tensor().values<const int8_t>().data();
  return std::make_unique<DotKernel>(s, op, op.variable_inputs().size(), op.op() == "Conv" || op.op() == "ConvTranspose");
}

}  // namespace quern_vpu
