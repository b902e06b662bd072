// The target "gpu_opencl": any device with OpenCL 1.2. Rules and arithmetic: rules.json, docs/targets/gpu_opencl.md.
#include "plugins/common/derive.hpp"
#include "plugins/gpu_opencl/kernel.hpp"

namespace quern_gpu {

std::string_view rules_text();  // rules.json

namespace {

void check_profile(std::string_view profile) {
  if (profile != "opencl12") throw Failure(QUERN_NOT_FOUND, "there is no profile '" + std::string(profile) + "'; there is opencl12");
}

struct GpuTarget {
  using Kernel = quern_gpu::Kernel;
  using Context = quern_gpu::Context;

  std::string_view describe() { return rules_text(); }

  bool available(std::string_view profile, std::string& reason) {
    check_profile(profile);
    try {
      reason = device().name();
      return true;
    } catch (const Failure& f) {
      reason = f.what();
      return false;
    }
  }

  bool supports(std::string_view profile, const OpView& op, std::string& reason) {
    check_profile(profile);
    return quern_common::supports(op, reason);
  }

  void derive(std::string_view profile, const OpView& op, quern_sdk::TableSink& tables) {
    check_profile(profile);
    quern_common::derive(op, tables);
  }

  std::unique_ptr<Kernel> compile(std::string_view profile, const OpView& op, uint32_t) {
    check_profile(profile);
    device();  // says what is missing
    const std::string_view kind = op.op();
    if (op.outputs() != 1 || op.nodes() < 1) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": a unit has members and one output");
    if (kind == "MatMul" && !op.input("weight").is_constant()) return compile_product(op);
    if (kind == "Conv" || kind == "ConvTranspose" || kind == "Gemm" || kind == "MatMul") return compile_dot(op);
    if (op.contract() == "table") return compile_move(op);
    if (kind == "Add" || kind == "Sub" || kind == "Mul" || kind == "Max" || kind == "Min") return compile_pair(op);
    if (kind == "Resize") return compile_resample(op);
    if (kind == "AveragePool" || kind == "GlobalAveragePool" || kind == "MaxPool" || kind == "GlobalMaxPool") return compile_pool(op);
    if (kind == "Concat") return compile_concat(op);
    for (const char* select : {"Slice", "Gather", "Pad", "Tile", "Expand", "DepthToSpace", "SpaceToDepth"})
      if (kind == select) return compile_select(op);
    for (const char* move : {"Relu", "Clip", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity"})
      if (kind == move) return compile_move(op);
    throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": the gpu_opencl target has no kernel for " + std::string(kind));
  }

  void info(const Kernel& kernel, quern_kernel_info& out) {
    const auto& layouts = kernel.input_layouts();
    out.n_inputs = static_cast<uint32_t>(layouts.size());
    for (size_t i = 0; i < std::min<size_t>(layouts.size(), 16); ++i) out.input_layouts[i] = layouts[i];
    out.output_layout = kernel.output_layout();
    out.kernel_name = quern_sdk::str(kernel.name());
  }

  std::unique_ptr<Context> create_context(const Kernel&) { return std::make_unique<Context>(); }

  void execute(const Kernel& kernel, Context& context, Span<const quern_tensor> inputs, Span<const quern_tensor> outputs, void*) {
    if (inputs.size() != kernel.input_layouts().size() || outputs.size() != 1)
      throw Failure(QUERN_INVALID_ARGUMENT, kernel.name() + ": a wrong number of tensors");
    kernel.execute(context, inputs, outputs[0]);
  }
};

}  // namespace
}  // namespace quern_gpu

QUERN_SDK_TARGET(quern_gpu::GpuTarget)
