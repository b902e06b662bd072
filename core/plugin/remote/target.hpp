// A target whose plugin runs in a process of its own. What it does there can't hurt the host: a crash, a hang, exit(), a write
// beside its buffers end that process, and the caller gets PluginLost.
#pragma once
#include "core/plugin/manifest.hpp"
#include "core/plugin/plugin.hpp"

namespace quern::remote {

std::shared_ptr<const Target> make_isolated_target(const fs::path& path, const Manifest& manifest, double deadline_seconds);

}  // namespace quern::remote
