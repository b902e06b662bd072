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

// The profile whose kernels can run what was made for `profile` on this machine: itself, or the first of the target's default
// profiles with the same rules (the same contracts, so the same bytes). None, and the reason, where there is none. (A target
// without profiles has one that is called "".)
std::optional<std::string> runnable_profile(const Target& target, const std::string& profile, std::string* reason);

}  // namespace quern
