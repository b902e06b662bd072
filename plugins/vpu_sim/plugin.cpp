// The target "vpu_sim": a VPU in plain C++. Rules and arithmetic: rules.json, docs/targets/vpu_sim.md.
#include "plugins/common/moves.hpp"
#include "plugins/vpu_sim/kernel.hpp"

namespace quern_vpu {

std::string_view rules_text();  // rules.json

namespace {

bool is_one_of(std::string_view what, std::initializer_list<const char*> names) {
  return std::any_of(names.begin(), names.end(), [&](const char* n) { return what == n; });
}

void check_profile(std::string_view profile) {
  if (profile != "sim") throw Failure(QUERN_NOT_FOUND, "there is no profile '" + std::string(profile) + "'; there is sim");
}

struct VpuTarget {
  using Kernel = quern_vpu::Kernel;
  struct Context {};

  std::string_view describe() { return rules_text(); }
  bool available(std::string_view profile, std::string&) {
    check_profile(profile);
    return true;
  }
  bool supports(std::string_view profile, const OpView& op, std::string& reason) {
    check_profile(profile);
    return quern_vpu::supports(op, reason);
  }
  void derive(std::string_view profile, const OpView& op, quern_sdk::TableSink& tables) {
    check_profile(profile);
    quern_vpu::derive(op, tables);
  }

  std::unique_ptr<Kernel> compile(std::string_view profile, const OpView& op, uint32_t threads) {
    check_profile(profile);
    if (op.outputs() != 1 || op.nodes() < 1) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": a unit has members and one output");
    std::string reason;
    if (!quern_vpu::supports(op, reason)) throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": " + reason);
    const std::string_view kind = op.op();
    if (is_one_of(kind, {"Conv", "ConvTranspose", "Gemm", "MatMul"})) return compile_dot(op, threads);
    if (op.contract() == "table") return compile_table(op, threads);
    if (is_one_of(kind, {"Add", "Sub", "Mul", "Max", "Min"})) return compile_pair(op, threads);
    if (is_one_of(kind, {"AveragePool", "GlobalAveragePool", "MaxPool", "GlobalMaxPool"})) return compile_pool(op, threads);
    if (kind == "Resize") return compile_resample(op, threads);
    if (kind == "ReduceMean") return compile_mean(op, threads);
    if (is_selection(kind) || is_blocks(kind) || is_one_of(kind, {"Relu", "Clip", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Concat"}))
      return compile_move(op, threads);
    throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": vpu_sim has no kernel for " + std::string(kind));
  }

  void info(const Kernel& kernel, quern_kernel_info& out) {
    const auto layouts = kernel.input_layouts();
    out.n_inputs = static_cast<uint32_t>(layouts.size());
    for (size_t i = 0; i < std::min<size_t>(layouts.size(), 16); ++i) out.input_layouts[i] = layouts[i];
    out.output_layout = kernel.output_layout();
    out.kernel_name = quern_sdk::str(kernel.name());
  }

  std::unique_ptr<Context> create_context(const Kernel&) { return std::make_unique<Context>(); }

  void execute(const Kernel& kernel, Context&, Span<const quern_tensor> inputs, Span<const quern_tensor> outputs, void*) {
    if (inputs.size() != kernel.input_layouts().size() || outputs.size() != 1) throw Failure(QUERN_INVALID_ARGUMENT, kernel.name() + ": a wrong number of tensors");
    kernel.execute(inputs, outputs[0]);
  }

  bool cost(std::string_view profile, const OpView& op, double& cycles, double& bytes) {
    check_profile(profile);
    return quern_vpu::cost(op, cycles, bytes);
  }
};

}  // namespace
}  // namespace quern_vpu

QUERN_SDK_TARGET(quern_vpu::VpuTarget)
