// A loaded target plugin behind the host's Target interface.
#pragma once
#include "core/plugin/library.hpp"

namespace quern {

std::shared_ptr<const Target> make_target(const LoadedPlugin& plugin, const Manifest& manifest);

}  // namespace quern
