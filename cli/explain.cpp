#include "cli/verbs.hpp"
#include "core/report/report.hpp"

namespace quern::cli {

int explain_verb(const ExplainArguments& a) {
  fs::path path = a.config;
  std::error_code ignored;
  if (fs::is_directory(path, ignored) && fs::exists(path / "effective.yaml", ignored)) path /= "effective.yaml";
  Config config = load_config(path, {.target = a.target, .preset = a.preset, .set = a.set});
  PluginRegistry registry(a.plugin_options());
  const PreparedNetwork p = prepare(config, registry);
  print(a.json ? to_text(placement_json(p.graph, p.placement), false) + "\n" : explain(p.graph, p.rules, p.placement));
  return 0;
}

}  // namespace quern::cli
