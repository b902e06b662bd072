#include "core/pipeline/target_provider.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/error.hpp"
#include "core/engine/saturations.hpp"
#include "core/pipeline/guarded_kernel.hpp"
#include "core/rules/unit.hpp"

namespace quern {
namespace {

Layout layout_of(uint32_t number, const std::string& target) {
  switch (number) {
    case QUERN_LAYOUT_ROW_MAJOR: return Layout::row_major;
    case QUERN_LAYOUT_CHANNELS_LAST: return Layout::channels_last;
    case QUERN_LAYOUT_ANY: return Layout::any;
    default: throw Error(ErrorCode::plugin, fmt::format("the target '{}' asks for a memory layout {} that does not exist", target, number));
  }
}

struct ContextState : SaturatingState {
  std::unique_ptr<TargetKernel::Context> context;
};

class TargetNode : public Kernel {
 public:
  // `slots`: per input of the unit its place among the inputs of the group (a value used twice enters once).
  TargetNode(std::unique_ptr<TargetKernel> kernel, std::vector<size_t> slots) : kernel_(std::move(kernel)), slots_(std::move(slots)) {
    direct_ = true;
    for (size_t i = 0; i < slots_.size(); ++i) direct_ = direct_ && slots_[i] == i;
  }
  size_t workspace_bytes() const override { return static_cast<size_t>(kernel_->workspace_bytes()); }
  std::unique_ptr<KernelState> make_state() const override {
    auto state = std::make_unique<ContextState>();
    state->context = kernel_->make_context();
    return state;
  }
  void run(std::span<const TensorView> inputs, std::span<const TensorView> outputs, void* workspace, KernelState* state) const override {
    auto& own = *static_cast<ContextState*>(state);
    auto& context = *own.context;
    if (direct_ && slots_.size() == inputs.size()) {
      kernel_->execute(context, inputs, outputs, workspace);
    } else {
      std::vector<TensorView> ordered;
      ordered.reserve(slots_.size());
      for (size_t s : slots_) ordered.push_back(inputs[s]);
      kernel_->execute(context, ordered, outputs, workspace);
    }
    own.saturations = kernel_->saturations(context);
  }

 private:
  std::unique_ptr<TargetKernel> kernel_;
  std::vector<size_t> slots_;
  bool direct_ = false;
};

class TargetProvider : public Provider {
 public:
  TargetProvider(std::shared_ptr<const Target> target, std::string profile) : target_(std::move(target)), profile_(std::move(profile)) {}
  std::string name() const override { return target_->name(); }
  bool knows(const Graph&, const Node& node) const override {
    return node.domain == "quern" && node.op == "Unit" && dynamic_cast<const IntegerUnit*>(node.payload.get());
  }
  std::optional<PreparedKernel> prepare(const KernelRequest& request) const override {
    const Node& node = request.graph.node(request.members.at(0));
    const auto* unit = dynamic_cast<const IntegerUnit*>(node.payload.get());
    if (!unit || node.op != "Unit") return std::nullopt;
    std::vector<size_t> slots;
    std::vector<Dims> dims;
    for (ValueId v : node.inputs) {
      const auto it = std::find(request.input_values.begin(), request.input_values.end(), v);
      if (it == request.input_values.end())
        throw Error(ErrorCode::internal, fmt::format("an operand of unit '{}' does not enter its kernel", unit->name));
      const auto place = static_cast<size_t>(it - request.input_values.begin());
      slots.push_back(place);
      dims.push_back(request.inputs[place].dims);
    }
    std::optional<PreparedKernel> interpreted;
    if (target_->isolated()) interpreted = interpreter_->prepare(request);
    std::unique_ptr<TargetKernel> kernel;
    try {
      kernel = target_->compile(profile_, *unit, dims, request.outputs.at(0).dims, request.threads);
    } catch (const PluginLost&) {
      if (interpreted) return interpreted;
      throw;
    }
    PreparedKernel out;
    out.name = target_->name() + "." + kernel->name();
    const auto layouts = kernel->input_layouts();
    out.input_layouts.assign(request.inputs.size(), Layout::any);
    for (size_t i = 0; i < slots.size(); ++i) {
      const Layout wish = i < layouts.size() ? layout_of(layouts[i], target_->name()) : Layout::any;
      Layout& slot = out.input_layouts[slots[i]];
      if (slot == Layout::any) slot = wish;  // the same value twice: the first definite wish holds
    }
    out.output_layouts = {layout_of(kernel->output_layout(), target_->name())};
    out.kernel = std::make_unique<TargetNode>(std::move(kernel), std::move(slots));
    if (interpreted) out.kernel = guarded(std::move(out.kernel), std::move(interpreted->kernel));
    return out;
  }

 private:
  std::shared_ptr<const Target> target_;
  std::string profile_;
  std::shared_ptr<const Provider> interpreter_ = interpreter_provider();
};

}  // namespace

std::shared_ptr<const Provider> target_provider(std::shared_ptr<const Target> target, std::string profile) {
  return std::make_shared<TargetProvider>(std::move(target), std::move(profile));
}

std::optional<std::string> runnable_profile(const Target& target, const std::string& profile, std::string* reason) {
  if (target.available(profile, reason)) return profile;
  const auto sections = [&](const std::string& name) {
    json::value v = target.rules(name).effective;
    for (const char* key : {"profiles", "default_profile"}) v.as_object().erase(key);
    return v;
  };
  const json::value wanted = sections(profile);
  for (const std::string& other : target.rules(profile).default_profiles)
    if (other != profile && target.available(other, nullptr) && sections(other) == wanted) return other;
  return std::nullopt;
}

}  // namespace quern
