// The other end, in the plugin's process: loads the plugin and answers the host until it hangs up. Every context has a channel
// and a thread of its own.
#pragma once
#include "core/base/files.hpp"
#include "core/plugin/remote/channel.hpp"

namespace quern::remote {

void serve(const fs::path& plugin, File socket);

}  // namespace quern::remote
