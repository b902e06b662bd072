// own_float_provider(): the host's reproducible float kernels. A fixed order of additions, elementary functions of
// core/numeric/portable_math.hpp and no fused multiply-add: the same bytes on every x86-64.
#include <array>
#include <map>
#include <string>

#include "core/engine/float/families.hpp"

namespace quern {
namespace {

class OwnFloatProvider final : public Provider {
 public:
  OwnFloatProvider() {
    for (auto family : {own::activation_ops(), own::unary_ops(), own::binary_ops(), own::softmax_ops(), own::normalization_ops(),
                        own::pooling_ops(), own::reduction_ops(), own::shape_ops(), own::move_ops(), own::gather_ops(),
                        own::select_ops(), own::resize_ops(), own::grid_ops(), own::quantize_ops(), own::dot_ops(), own::recurrent_ops(),
                        own::einsum_ops()})
      for (const own::Entry& entry : family) entries_[{std::string(entry.domain), std::string(entry.op)}] = entry.prepare;
  }

  std::string name() const override { return "quern"; }

  bool knows(const Graph&, const Node& node) const override { return find(node) != nullptr; }

  std::optional<PreparedKernel> prepare(const KernelRequest& request) const override {
    if (request.members.size() != 1) return {};
    const own::Op op(request);
    const auto make = find(op.node());
    return make ? make(op) : std::nullopt;
  }

 private:
  using Prepare = own::Made (*)(const own::Op&);
  Prepare find(const Node& node) const {
    const auto it = entries_.find({node.domain == "ai.onnx" ? "" : node.domain, node.op});
    return it == entries_.end() ? nullptr : it->second;
  }
  std::map<std::pair<std::string, std::string>, Prepare> entries_;
};

}  // namespace

std::shared_ptr<const Provider> own_float_provider() {
  static const auto provider = std::make_shared<const OwnFloatProvider>();
  return provider;
}

}  // namespace quern
