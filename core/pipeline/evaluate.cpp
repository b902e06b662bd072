// The metric of a model over the evaluation data, in any of the ways to run one.
#include "core/pipeline/evaluate.hpp"

#include <fmt/format.h>

#include <chrono>

#include "core/base/error.hpp"
#include "core/base/parallel.hpp"
#include "core/pipeline/prepare.hpp"

namespace quern {

Sample to_sample(NamedTensors outputs) {
  Sample out;
  out.reserve(outputs.size());
  for (auto& [name, tensor] : outputs) out.push_back({std::move(name), std::move(tensor)});
  return out;
}

std::vector<Saturations> run_together(const std::vector<Engine*>& engines, const Dataset& data, int64_t count, int threads, const std::string& stage_name,
                  Progress* progress, const std::function<void(int64_t, std::vector<Sample>&)>& use) {
  Progress silent;
  auto stage = (progress ? *progress : silent).stage(stage_name, count);
  threads = static_cast<int>(std::min<int64_t>(std::max(1, threads), std::max<int64_t>(1, count)));
  std::vector<std::vector<Runner>> runners(static_cast<size_t>(threads));
  for (auto& worker : runners)
    for (Engine* e : engines) worker.push_back(e->runner());
  // In blocks, so that results can be used in order of the samples without keeping them all.
  const int64_t block = 32 * threads;
  for (int64_t begin = 0; begin < count; begin += block) {
    const int64_t size = std::min(block, count - begin);
    std::vector<std::vector<Sample>> outputs(static_cast<size_t>(size));
    parallel_for(size, threads, [&](int64_t i, int worker) {
      const NamedTensors inputs = to_named(data.item(begin + i));
      for (auto& runner : runners[static_cast<size_t>(worker)]) outputs[static_cast<size_t>(i)].push_back(to_sample(runner.run(inputs)));
      stage.advance();
    });
    for (int64_t i = 0; i < size; ++i) use(begin + i, outputs[static_cast<size_t>(i)]);
  }
  std::vector<Saturations> saturations(engines.size());
  for (const auto& worker : runners)
    for (size_t e = 0; e < engines.size(); ++e)
      for (const auto& [node, count] : worker[e].saturations()) saturations[e][node] += count;
  return saturations;
}

Evaluation evaluate(const Config& config, const fs::path& path, RunAs as, PluginRegistry& registry, const RunOptions& options) {
  if (!config.evaluation)
    throw config.error("/data", "an evaluation needs data.evaluation");
  if (config.metric.is_null()) throw config.error("", "an evaluation needs a metric").hint("legal: " + list_of(metric_names()));
  apply_isolation(config, registry);
  LoadedModel model = load_model(path, as, registry);
  const auto [data, metric] = open_evaluation(config, model.inputs, registry);

  Engine engine(std::move(model.graph), {.providers = model.providers});
  std::unique_ptr<Engine> reference;
  std::vector<Engine*> engines{&engine};
  if (metric->needs_reference()) {
    LoadedModel original = load_model(config.model, RunAs::as_float, registry);
    reference = std::make_unique<Engine>(std::move(original.graph), EngineOptions{.providers = original.providers});
    engines.push_back(reference.get());
  }
  const auto start = std::chrono::steady_clock::now();
  const auto saturations = run_together(engines, *data, data->size(), options.threads, "evaluate", options.progress, [&](int64_t i, std::vector<Sample>& outputs) {
    metric->update(outputs[0], data->label(i), outputs.size() > 1 ? &outputs[1] : nullptr);
  });
  Evaluation result;
  result.metric = metric->name();
  result.value = metric->value();
  result.remark = metric->remark();
  result.samples = data->size();
  for (const auto& [node, count] : saturations.front()) result.saturations += count;
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

}  // namespace quern
