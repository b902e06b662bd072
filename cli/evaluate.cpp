#include <fmt/format.h>

#include "cli/verbs.hpp"

namespace quern::cli {

int evaluate_verb(const EvaluateArguments& a) {
  const RunAs as = run_as_from_name(a.as);
  const Config config = load_config(a.config, {.threads = a.threads});
  const fs::path model = !a.model.empty() ? fs::path(a.model) : as == RunAs::as_float ? config.model : config.output;
  PluginRegistry registry(a.plugin_options());
  Progress progress(ProgressStyle::automatic);
  const Evaluation e = evaluate(config, model, as, registry, {.threads = config.thread_count(), .progress = &progress});
  if (a.json) {
    json::object out{{"metric", e.metric}, {"value", number(e.value)}, {"samples", e.samples}, {"seconds", e.seconds}};
    if (as != RunAs::as_float) out["saturations"] = e.saturations;
    if (!e.remark.empty()) out["remark"] = e.remark;
    print(to_text(out, false) + "\n");
  } else {
    print(fmt::format("{} {:.6g} on {} samples, {}, {:.2f} s\n", e.metric, e.value, e.samples, a.as, e.seconds));
    if (e.saturations > 0) print(fmt::format("  {} sums were cut off by their accumulators\n", e.saturations));
    if (!e.remark.empty()) print("  " + e.remark + "\n");
  }
  return 0;
}

}  // namespace quern::cli
