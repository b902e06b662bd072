// The target "cpu". Profiles: vnni, avx512, avx2, sse41, with the same rules and the same bytes. Rules and arithmetic: rules.json, docs/targets/cpu.md.
#include "plugins/cpu/cost.hpp"
#include "plugins/common/derive.hpp"
#include "plugins/cpu/kernel.hpp"
#include "plugins/cpu/self_check.hpp"

namespace quern_cpu {

std::string_view rules_text();  // rules.json

namespace {

struct CpuTarget {
  using Kernel = quern_cpu::Kernel;
  using Context = quern_cpu::Context;

  std::string_view describe() { return rules_text(); }

  bool available(std::string_view profile, std::string& reason) {
    return isa_available(isa_of(profile), reason);
  }

  bool supports(std::string_view profile, const OpView& op, std::string& reason) {
    isa_of(profile);
    return quern_cpu::supports(op, reason);
  }

  void derive(std::string_view profile, const OpView& op, quern_sdk::TableSink& tables) {
    isa_of(profile);
    quern_cpu::derive(op, tables);
  }

  std::unique_ptr<Kernel> compile(std::string_view profile, const OpView& op, uint32_t threads) {
    const Isa isa = isa_of(profile);
    std::string reason;
    if (!isa_available(isa, reason)) throw Failure(QUERN_FAILED_PRECONDITION, reason);
    const IsaScope scope(isa);
    const std::string_view kind = op.op();
    if (op.outputs() != 1 || op.nodes() < 1) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": a unit has members and one output");
    if (kind == "Conv" || kind == "ConvTranspose" || kind == "Gemm" || kind == "MatMul") return compile_dot(op, threads);
    if (op.contract() == "table") return compile_table(op, threads);
    for (const char* pair : {"Add", "Sub", "Mul", "Div", "Max", "Min"})
      if (kind == pair) return compile_elementwise(op, threads);
    if (kind == "Resize") return compile_resample(op, threads);
    if (kind == "ReduceMean") return compile_mean(op, threads);
    for (const char* select : {"Slice", "Gather", "Pad", "Tile", "Expand", "DepthToSpace", "SpaceToDepth"})
      if (kind == select) return compile_select(op, threads);
    if (kind == "AveragePool" || kind == "GlobalAveragePool" || kind == "MaxPool" || kind == "GlobalMaxPool") return compile_pool(op, threads);
    for (const char* move : {"Relu", "Clip", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Concat"})
      if (kind == move) return compile_move(op, threads);
    throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": the cpu target has no kernel for " + std::string(kind));
  }

  void info(const Kernel& kernel, quern_kernel_info& out) {
    const auto layouts = kernel.input_layouts();
    out.workspace_bytes = kernel.workspace_bytes();
    out.n_inputs = static_cast<uint32_t>(layouts.size());
    for (size_t i = 0; i < std::min<size_t>(layouts.size(), 16); ++i) out.input_layouts[i] = layouts[i];
    out.output_layout = kernel.output_layout();
    out.kernel_name = quern_sdk::str(kernel.name());
  }

  std::unique_ptr<Context> create_context(const Kernel& kernel) { return kernel.create_context(); }

  void execute(const Kernel& kernel, Context& context, Span<const quern_tensor> inputs, Span<const quern_tensor> outputs, void* workspace) {
    if (inputs.size() != kernel.input_layouts().size() || outputs.size() != 1)
      throw Failure(QUERN_INVALID_ARGUMENT, kernel.name() + ": a wrong number of tensors");
    const IsaScope scope(kernel.isa());
    kernel.execute(context, inputs, outputs[0], workspace);
  }

  bool cost(std::string_view profile, const OpView& op, double& cycles, double& bytes) {
    isa_of(profile);
    return quern_cpu::cost(op, cycles, bytes);
  }
};

}  // namespace
}  // namespace quern_cpu

QUERN_SDK_TARGET(quern_cpu::CpuTarget)
