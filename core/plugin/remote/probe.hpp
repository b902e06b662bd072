// Loading a plugin for a try, in a process of its own, before the host does: what crashes, hangs or ends the process there is put
// into quarantine, with the reason, and is not tried again until its file changes.
#pragma once
#include <string>

#include "core/base/files.hpp"

namespace quern::remote {

// "" when the plugin loads and its entry answers, or when that can't be tried (no helper beside this program); else why it must
// not be loaded here: "it crashed (SIGSEGV) while it was loaded".
std::string probe(const fs::path& plugin);

// Why this file, as it is now, is in quarantine; "" when it is not. $XDG_CACHE_HOME or ~/.cache, quern/quarantine.json.
std::string quarantined(const fs::path& plugin);
void quarantine(const fs::path& plugin, const std::string& reason);  // best effort
fs::path quarantine_file();                                          // empty where there is no place for it

}  // namespace quern::remote
