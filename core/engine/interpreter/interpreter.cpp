// The reference interpreter: runs units by their contract alone. Generic and plain; it shares no code with any target and
// uses no library a target may use. What it computes is what `simulated` means.
#include <fmt/format.h>

#include "core/base/error.hpp"
#include "core/engine/interpreter/unit_view.hpp"

namespace quern {
namespace {

class InterpreterProvider : public Provider {
 public:
  std::string name() const override { return "interpreter"; }

  bool knows(const Graph&, const Node& node) const override { return node.domain == "quern" && node.op == "Unit"; }

  std::optional<PreparedKernel> prepare(const KernelRequest& request) const override {
    const Node& node = request.graph.node(request.members.front());
    if (!knows(request.graph, node)) return std::nullopt;
    const interpreter::UnitView view(request);
    PreparedKernel prepared;
    switch (view.contract().form) {
      case KernelForm::dot: prepared.kernel = interpreter::make_dot(view); break;
      case KernelForm::pool_sum:
      case KernelForm::pool_max: prepared.kernel = interpreter::make_pool(view); break;
      case KernelForm::reduce: prepared.kernel = interpreter::make_reduce(view); break;
      case KernelForm::elementwise2: prepared.kernel = interpreter::make_elementwise2(view); break;
      case KernelForm::resample: prepared.kernel = interpreter::make_resample(view); break;
      case KernelForm::move:
      case KernelForm::table: prepared.kernel = interpreter::make_move(view, request); break;
    }
    prepared.name = fmt::format("interpreter.{}", view.contract().id);
    for (const TensorSpec& in : request.inputs) {
      (void)in;
      prepared.input_layouts.push_back(Layout::any);
    }
    prepared.output_layouts = {request.outputs[0].dims.size() >= 3 ? Layout::channels_last : Layout::row_major};
    prepared.portable = true;
    return prepared;
  }
};

}  // namespace

std::shared_ptr<const Provider> interpreter_provider() {
  static const auto provider = std::make_shared<const InterpreterProvider>();
  return provider;
}

}  // namespace quern
