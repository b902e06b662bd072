// The target "gna_sim". Profiles: gna1, gna2, gna3. Rules and arithmetic: rules/, docs/targets/gna_sim.md.
#include "plugins/gna_sim/cost.hpp"
#include "plugins/gna_sim/derive.hpp"
#include "plugins/gna_sim/kernel.hpp"

namespace quern_gna {

std::string_view rules_text();  // rules/*.json

namespace {

// Products after which a generation's accumulator saturates.
uint32_t saturate_every(std::string_view profile) {
  if (profile == "gna1") return 6144;
  if (profile == "gna2" || profile == "gna3") return 12288;
  throw Failure(QUERN_NOT_FOUND, "gna_sim has no profile '" + std::string(profile) + "'; it has gna1, gna2 and gna3");
}

struct GnaTarget {
  using Kernel = quern_gna::Kernel;
  using Context = quern_gna::Context;

  std::string_view describe() { return rules_text(); }
  bool available(std::string_view profile, std::string&) { return saturate_every(profile) > 0; }

  bool supports(std::string_view profile, const OpView& op, std::string& reason) {
    saturate_every(profile);
    return quern_gna::supports(op, reason);
  }
  void derive(std::string_view profile, const OpView& op, quern_sdk::TableSink& tables) {
    saturate_every(profile);
    quern_gna::derive(op, tables);
  }

  std::unique_ptr<Kernel> compile(std::string_view profile, const OpView& op, uint32_t threads) {
    const uint32_t every = saturate_every(profile);
    if (op.outputs() != 1 || op.nodes() < 1) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": a unit has members and one output");
    std::string reason;
    if (!quern_gna::supports(op, reason)) throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": " + reason);
    const std::string_view contract = op.contract();
    if (contract == "affine" || contract == "affine_float") return compile_affine(op, every, threads);
    if (contract == "sum" || contract == "product") return compile_pair(op);
    if (contract == "function") return compile_function(op);
    if (contract == "max") return compile_pool(op);
    if (contract == "copy") return compile_copy(op);
    if (contract == "concat") return compile_concat(op);
    throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": gna_sim has no kernel for the contract " + std::string(contract));
  }

  void info(const Kernel& kernel, quern_kernel_info& out) {
    out.workspace_bytes = kernel.workspace_bytes();
    out.n_inputs = static_cast<uint32_t>(kernel.inputs());
    for (uint32_t& layout : out.input_layouts) layout = QUERN_LAYOUT_ROW_MAJOR;
    out.output_layout = QUERN_LAYOUT_ROW_MAJOR;
    out.kernel_name = quern_sdk::str(kernel.name());
  }

  std::unique_ptr<Context> create_context(const Kernel&) { return std::make_unique<Context>(); }

  void execute(const Kernel& kernel, Context& context, Span<const quern_tensor> inputs, Span<const quern_tensor> outputs, void* workspace) {
    if (inputs.size() != kernel.inputs() || outputs.size() != 1) throw Failure(QUERN_INVALID_ARGUMENT, kernel.name() + ": a wrong number of tensors");
    kernel.execute(context, inputs, outputs[0], workspace);
  }

  uint64_t saturations(Context& context) { return context.saturated; }

  bool cost(std::string_view profile, const OpView& op, double& cycles, double& bytes) {
    saturate_every(profile);
    return quern_gna::cost(op, cycles, bytes);
  }
};

}  // namespace
}  // namespace quern_gna

QUERN_SDK_TARGET(quern_gna::GnaTarget)
