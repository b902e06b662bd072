// A kernel of an isolated plugin with the interpreter behind it: where the plugin is lost, the interpreter gives the same bytes.
#pragma once
#include <memory>

#include "core/engine/provider.hpp"

namespace quern {

// `interpreted` takes tensors in any layout.
std::unique_ptr<Kernel> guarded(std::unique_ptr<Kernel> plugin, std::unique_ptr<Kernel> interpreted);

}  // namespace quern
