#include "cli/verbs.hpp"
#include "core/base/parallel.hpp"
#include "core/pipeline/calibrate.hpp"
#include "core/report/report.hpp"

namespace quern::cli {
namespace {

// The first one made the parent that they share, so it goes last.
struct OutputFolders {
  std::vector<std::unique_ptr<OutputFolder>> list;
  ~OutputFolders() {
    while (!list.empty()) list.pop_back();
  }
};

int print_plans(const QuantizeArguments& a, std::vector<Config>& configs, PluginRegistry& registry) {
  json::array all;
  std::string text;
  for (Config& config : configs) {
    const QuantizePlan planned = plan(config, registry);
    all.push_back(plan_json(config, planned));
    text += (text.empty() ? "" : "\n") + plan_text(config, planned);
  }
  print(!a.json ? text : to_text(configs.size() == 1 ? all[0] : json::value(all), false) + "\n");
  return 0;
}

}  // namespace

int quantize_verb(const QuantizeArguments& a) {
  std::vector<Config> configs = load_configs(a.config, {.target = a.target, .preset = a.preset, .output = a.output, .threads = a.threads, .set = a.set});
  const Config& first = configs.front();
  PluginRegistry registry(a.plugin_options());
  std::optional<StatisticsJob> statistics;
  if (!a.statistics.empty()) statistics.emplace(read_statistics(a.statistics), a.statistics);
  if (a.dry_run) return print_plans(a, configs, registry);
  // Taken before any work, so that a place that can't be written is found at once; gone without a trace on any failure.
  OutputFolders folders;
  for (const Config& config : configs) folders.list.push_back(std::make_unique<OutputFolder>(config.output));
  Progress progress(ProgressStyle::automatic);
  const auto results = quantize(configs, registry, {.threads = first.thread_count(), .progress = &progress, .evaluate = !a.skip_evaluation, .statistics = statistics ? &*statistics : nullptr});
  throw_if_cancelled();
  for (size_t i = 0; i < configs.size(); ++i) write_output(configs[i], results[i], *folders.list[i]);
  if (configs.size() > 1) {
    const json::object comparison = comparison_json(configs, results);
    write_file(first.output.parent_path() / "comparison.json", to_text(comparison) + "\n");
    print(a.json ? to_text(comparison, false) + "\n" : comparison_text(configs, results) + "written    " + first.output.parent_path().string() + "\n");
  } else if (a.json) {
    json::object report = report_json(first, results.front());
    for (const char* key : {"units", "quantizers", "stages"}) report.erase(key);
    report["output"] = first.output.string();
    print(to_text(report, false) + "\n");
  } else {
    print(summary_text(first, results.front()));
  }
  return 0;
}

}  // namespace quern::cli
