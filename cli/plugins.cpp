#include <fmt/format.h>

#include "cli/verbs.hpp"

namespace quern::cli {

int plugins_verb(const PluginsArguments& a) {
  static const char* const states[] = {"usable", "loaded", "rejected", "shadowed"};
  PluginRegistry registry(a.plugin_options());
  json::array out;
  std::string text;
  for (const PluginListing& p : registry.listing()) {
    json::array provides;
    for (const auto& name : p.provides) provides.emplace_back(name);
    const char* state = states[static_cast<int>(p.state)];
    out.push_back(json::object{{"path", p.path.string()}, {"state", state}, {"reason", p.reason}, {"id", p.id}, {"kind", p.kind}, {"name", p.name},
                               {"version", p.version}, {"vendor", p.vendor}, {"license", p.license}, {"provides", std::move(provides)}});
    text += fmt::format("{:<9} {}\n", state, p.path.string());
    if (!p.id.empty()) text += fmt::format("          {} {} ({}), provides {}\n", p.id, p.version, p.kind, p.provides.empty() ? "nothing" : list_of(p.provides));
    if (!p.reason.empty()) text += fmt::format("          {}\n", p.reason);
  }
  if (a.json) print(to_text(out, false) + "\n");
  else print(text.empty() ? "no plugin was found\n" : text);
  return 0;
}

}  // namespace quern::cli
