#include "cli/verbs.hpp"
#include "core/base/parallel.hpp"
#include "core/report/report.hpp"

namespace quern::cli {

int quantize_verb(const QuantizeArguments& a) {
  ConfigOverrides overrides{.target = a.target, .preset = a.preset, .output = a.output, .threads = a.threads, .set = a.set};
  Config config = load_config(a.config, overrides);
  PluginRegistry registry(a.plugin_options());
  if (a.dry_run) {
    const QuantizePlan planned = plan(config, registry);
    print(a.json ? to_text(plan_json(config, planned), false) + "\n" : plan_text(config, planned));
    return 0;
  }
  // Taken before any work, so that a place that can't be written is found at once; gone without a trace on any failure.
  OutputFolder folder(config.output);
  Progress progress(ProgressStyle::automatic);
  const RunResult result = quantize(config, registry, {.threads = config.thread_count(), .progress = &progress, .evaluate = !a.skip_evaluation});
  throw_if_cancelled();
  write_output(config, result, folder);
  if (a.json) {
    json::object report = report_json(config, result);
    for (const char* key : {"units", "quantizers", "stages"}) report.erase(key);
    report["output"] = config.output.string();
    print(to_text(report, false) + "\n");
  } else {
    print(summary_text(config, result));
  }
  return 0;
}

}  // namespace quern::cli
