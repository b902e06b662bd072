// Loading a plugin into the process: Boost.DLL, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE, once per file, for ever.
#pragma once
#include <new>

#include "core/plugin/host.hpp"
#include "core/plugin/manifest.hpp"

namespace quern {

struct LoadedPlugin {
  std::string id;
  fs::path path;
  quern_plugin plugin;   // checked: kind, tables and names are what the manifest says
  quern_target target;   // kind target: a copy; members the plugin does not know are null
};

// Loads and calls the entry at the first call for this file; a failure is remembered as well. Error(plugin).
const LoadedPlugin& load_plugin(const fs::path& path, const Manifest& manifest);

// Runs a call into the plugin: a status or an exception that crossed the boundary becomes Error(plugin).
template <class F>
void call_plugin(const std::string& plugin, const std::string& doing, F&& call) {
  quern_status* status = nullptr;
  try {
    status = call();
  } catch (const std::bad_alloc&) {
    throw;
  } catch (...) {
    status = new_status(QUERN_INTERNAL, "it let an exception cross the plugin interface");
  }
  throw_if_failed(status, plugin, doing);
}

}  // namespace quern
