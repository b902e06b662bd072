#include "core/pipeline/guarded_kernel.hpp"

#include "core/plugin/plugin.hpp"

namespace quern {
namespace {

struct Both : KernelState { std::unique_ptr<KernelState> plugin, interpreted; };

class GuardedKernel : public Kernel {
 public:
  GuardedKernel(std::unique_ptr<Kernel> plugin, std::unique_ptr<Kernel> interpreted) : plugin_(std::move(plugin)), interpreted_(std::move(interpreted)) {}
  size_t workspace_bytes() const override { return std::max(plugin_->workspace_bytes(), interpreted_->workspace_bytes()); }
  std::unique_ptr<KernelState> make_state() const override {
    auto both = std::make_unique<Both>();
    both->plugin = plugin_->make_state();
    both->interpreted = interpreted_->make_state();
    return both;
  }
  void run(std::span<const TensorView> inputs, std::span<const TensorView> outputs, void* workspace, KernelState* state) const override {
    auto& both = *static_cast<Both*>(state);
    try {
      plugin_->run(inputs, outputs, workspace, both.plugin.get());
    } catch (const PluginLost&) {
      interpreted_->run(inputs, outputs, workspace, both.interpreted.get());
    }
  }

 private:
  std::unique_ptr<Kernel> plugin_, interpreted_;
};

}  // namespace

std::unique_ptr<Kernel> guarded(std::unique_ptr<Kernel> plugin, std::unique_ptr<Kernel> interpreted) {
  return std::make_unique<GuardedKernel>(std::move(plugin), std::move(interpreted));
}

}  // namespace quern
