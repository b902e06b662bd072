// Conv, ConvTranspose, Gemm and MatMul in f32 by oneDNN, with bias, activations and residual sums fused.
// Depthwise convolutions run on a kernel of our own (depthwise.hpp). What oneDNN does not take (other types, empty tensors, odd padding) is left to the next provider.
#include <atomic>
#include <new>

#include "core/base/error.hpp"
#include "core/engine/depthwise.hpp"
#include "core/engine/engine.hpp"
#include "core/engine/onednn_kernel.hpp"
#include "core/rules/fallback.hpp"

namespace quern {
namespace {

class OnednnProvider final : public Provider {
 public:
  std::string name() const override { return "onednn"; }

  // A node in f16 is computed in an order of ours.
  bool knows(const Graph&, const Node& node) const override {
    return !is_f16(node) && (node.domain.empty() || node.domain == "ai.onnx") &&
           (node.op == "Conv" || node.op == "ConvTranspose" || node.op == "Gemm" || node.op == "MatMul");
  }

  std::vector<NodeId> fuse(const Graph& graph, NodeId node, const std::function<bool(ValueId)>& free_to_fuse) const override {
    return onednn::chain(graph, node, free_to_fuse, graph.node(node).op == "MatMul");
  }

  std::optional<PreparedKernel> prepare(const KernelRequest& request) const override {
    const auto fused = onednn::read_fused(request.graph, request.members);
    if (!fused) return std::nullopt;
    const std::string& op = request.graph.node(request.members[0]).op;
    // What oneDNN had half made when memory ran out stays behind in it, and another thread that asks it next crashes.
    static std::atomic<bool> ran_out{false};
    if (ran_out) throw std::bad_alloc();
    onednn::require_memory();
    try {
      if (op == "Conv") {
        if (auto depthwise = onednn::prepare_depthwise(request, *fused)) return depthwise;
        return onednn::prepare_conv(request, *fused);
      }
      if (op == "ConvTranspose") {
        if (auto patches = onednn::prepare_patch_transpose(request, *fused)) return patches;
        return onednn::prepare_conv_transpose(request, *fused);
      }
      if (op == "Gemm") return onednn::prepare_gemm(request, *fused);
      return onednn::prepare_matmul(request, *fused);
    } catch (const std::bad_alloc&) {
      ran_out = true;
      throw;
    } catch (const dnnl::error& e) {
      if (e.status == dnnl_out_of_memory) {
        ran_out = true;
        throw Error(ErrorCode::memory, "out of memory while preparing " + op);
      }
      return std::nullopt;  // not for these shapes or attributes
    }
  }
};

}  // namespace

std::shared_ptr<const Provider> onednn_provider() {
  static const auto provider = std::make_shared<const OnednnProvider>();
  return provider;
}

std::string float_class() {
  const auto isa = static_cast<unsigned>(dnnl_get_effective_cpu_isa());
  if ((isa & dnnl_cpu_isa_avx512_core) == dnnl_cpu_isa_avx512_core) return "avx512";
  if ((isa & dnnl_cpu_isa_avx2) == dnnl_cpu_isa_avx2) return "avx2";
  return "sse41";
}

}  // namespace quern
