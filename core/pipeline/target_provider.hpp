// The integer run: "quern" Unit nodes computed by a target's own kernels. Knows nothing else, so that an engine built with
// it can't quietly fall back to the interpreter.
//
//   Engine engine(model.graph, {.providers = {target_provider(target, model.profile), own_float_provider(), onednn_provider()}});
#pragma once
#include <memory>
#include <string>

#include "core/engine/provider.hpp"
#include "core/plugin/plugin.hpp"

namespace quern {

std::shared_ptr<const Provider> target_provider(std::shared_ptr<const Target> target, std::string profile);

}  // namespace quern
