// The main job. Every step here is a call into the room that does it.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>

#include "core/base/error.hpp"
#include "core/base/log.hpp"
#include "core/base/parallel.hpp"
#include "core/graph/equal.hpp"
#include "core/pipeline/calibrate.hpp"
#include "core/pipeline/evaluate.hpp"
#include "core/pipeline/graph_view.hpp"
#include "core/pipeline/pipeline.hpp"
#include "core/pipeline/prepare.hpp"
#include "core/pipeline/ranges.hpp"
#include "core/pipeline/target_provider.hpp"

namespace quern {
namespace {

constexpr int64_t rewrite_check_samples = 16;
constexpr int64_t preview_samples = 16;
constexpr int64_t sqnr_samples = 64;  // of the calibration data, where there is no evaluation data

struct PlacedStage { StageHandle handle; const StageEntry* entry; };

// Stages before `quantize` change weights before statistics are taken for ranges; the others work on a ranged network.
void split_stages(const Config& config, PluginRegistry& registry, std::vector<PlacedStage>& before, std::vector<PlacedStage>& after) {
  bool ranged = false;
  for (const auto& entry : config.stages) {
    if (entry.name == "quantize") { ranged = true; continue; }
    StageHandle handle = registry.stage(entry.name);
    const bool wants_before = handle.table->when == QUERN_STAGE_BEFORE_RANGES;
    if (wants_before == ranged)
      throw config.error(entry.pointer, fmt::format("the stage '{}' has to stand {} 'quantize'", entry.name, wants_before ? "before" : "after"), true);
    (ranged ? after : before).push_back({std::move(handle), &entry});
  }
}

// One pass of float runs over the calibration data, or of what a file has of it.
void collect(const Graph& graph, const Dataset& data, StatisticsSet& statistics, int threads, Progress& progress, const std::string& name, StatisticsJob* job) {
  const auto values = statistics.values();
  if (values.empty()) return;
  if (job && job->fill(graph, statistics, name)) return job->add(graph, statistics, name);
  const auto [begin, end] = job ? job->range(data.size()) : std::pair<int64_t, int64_t>{0, data.size()};
  const int64_t first = begin, samples = end - begin;
  auto stage = progress.stage(name, samples);
  Engine engine(graph, {.providers = {onednn_provider(), own_float_provider()}, .taps = std::set<std::string>(values.begin(), values.end())});
  const std::set<std::string> wanted(values.begin(), values.end());
  threads = static_cast<int>(std::min<int64_t>(threads, std::max<int64_t>(1, samples)));
  std::vector<StatisticsSet> sets;
  for (int w = 0; w < threads; ++w) sets.push_back(statistics.empty_copy());
  run_samples(
      engine, samples, threads, [&](int64_t i) { return to_named(data.item(first + i)); },
      [&](int64_t i, int worker, const std::string& value, const TensorView& view) {
        if (wanted.count(value)) sets[static_cast<size_t>(worker)].observe(value, first + i, view);
      },
      [&](int64_t, NamedTensors) { stage.advance(); });
  for (const auto& s : sets) statistics.merge(s);
  if (!job) return;
  job->add(graph, statistics, name);
  job->partial = job->partial || samples < data.size();
}

// The range of values that a QDQ profile quantizes though the target doesn't. From statistics that stages asked for anyway (per
// channel behind a convolution, before its Relu); what there is none of gets a pass of its own, so that a file more never
// changes how the others are made.
std::map<ValueId, Range> export_ranges(const Graph& graph, const Placement& placement, const Config& config, const Dataset& data,
                                       const StatisticsSet& kept, int threads, Progress& progress, StatisticsJob* job) {
  std::map<ValueId, Range> out;
  std::vector<ValueId> missing;
  for (QdqProfile profile : config.qdq) {
    for (ValueId v : qdq_added_values(graph, placement, profile)) {
      const Node& maker = graph.node(graph.value(v).producer);
      const bool relu = maker.op == "Relu";
      const StatisticRequest per_channel{graph.value(relu ? maker.inputs.at(0) : v).name, StatisticKind::min_max, 1, 0};
      if (out.count(v)) continue;
      if (!kept.has(per_channel)) { missing.push_back(v); out[v] = {}; continue; }
      const StatisticResult seen = kept.result(per_channel);
      Range r{*std::min_element(seen.low.begin(), seen.low.end()), *std::max_element(seen.high.begin(), seen.high.end())};
      if (relu) r = {std::max(0.0, r.low), std::max(0.0, r.high)};
      out[v] = r;
    }
  }
  StatisticsSet own;
  const auto request = [&](ValueId v) { return StatisticRequest{graph.value(v).name, StatisticKind::min_max, -1, 0}; };
  for (ValueId v : missing) own.request(request(v));
  collect(graph, data, own, threads, progress, "ranges for the QDQ file", job);
  for (ValueId v : missing) {
    const StatisticResult seen = own.result(request(v));
    out[v] = {seen.low.at(0), seen.high.at(0)};
  }
  return out;
}

// Float nodes whose bytes depend on the machine: those a library's kernels compute.
std::vector<std::string> not_portable_nodes(const IntegerModel& model, const Dataset& data) {
  if (model.float_nodes == 0) return {};
  Engine engine(model.graph, {.providers = {interpreter_provider(), onednn_provider(), own_float_provider()}});
  std::vector<std::string> out;
  for (const PlanStep& step : engine.plan_info(to_named(data.item(0))).steps)
    if (!step.portable) out.push_back(step.node);
  return out;
}

// Metric and SQNR of the integer network against the float one. Integer kernels where this machine has them, the
// interpreter otherwise: the same bytes.
void judge(Config& config, const PreparedNetwork& p, const Graph& float_graph, const Dataset& calibration, const RunOptions& options,
           PluginRegistry& registry, Progress& progress, RunResult& r) {
  std::unique_ptr<Dataset> evaluation;
  std::unique_ptr<Metric> metric_float, metric_quantized;
  if (config.evaluation) {
    auto opened = open_evaluation(config, input_specs(p.graph), registry);
    evaluation = std::move(opened.data);
    metric_float = std::move(opened.metric);
    if (metric_float) metric_quantized = make_metric(config.metric, &registry);
  }
  if (evaluation) config.effective["data"].at("evaluation").as_object()["samples"] = evaluation->size();
  const Dataset& data = evaluation ? *evaluation : calibration;
  const int64_t count = evaluation ? data.size() : std::min(sqnr_samples, data.size());
  if (count == 0) return;
  std::string reason;
  const auto profile = runnable_profile(*p.target, r.profile, &reason);
  const bool integer = profile.has_value();
  const auto kernels = integer ? target_provider(p.target, *profile) : interpreter_provider();
  Engine reference(float_graph, {.providers = {onednn_provider(), own_float_provider()}});
  Engine quantized(r.integer.graph, {.providers = {kernels, onednn_provider(), own_float_provider()}});
  std::vector<double> signal, noise;
  std::vector<int64_t> differing;  // samples whose output has another shape: boxes that one of the two keeps
  const auto saturations = run_together({&reference, &quantized}, data, count, options.threads, "evaluate", &progress, [&](int64_t i, std::vector<Sample>& outputs) {
    const Sample &f = outputs[0], &q = outputs[1];
    signal.resize(f.size(), 0);
    noise.resize(f.size(), 0);
    differing.resize(f.size(), 0);
    for (size_t k = 0; k < f.size(); ++k) {
      if (f[k].tensor.dims() != q[k].tensor.dims()) { ++differing[k]; continue; }
      if (f[k].tensor.type() != DType::f32 || q[k].tensor.type() != DType::f32) continue;
      const auto x = f[k].tensor.values<float>(), y = q[k].tensor.values<float>();
      for (size_t e = 0; e < x.size(); ++e) {
        const double d = static_cast<double>(x[e]) - static_cast<double>(y[e]);
        signal[k] += static_cast<double>(x[e]) * static_cast<double>(x[e]);
        noise[k] += d * d;
      }
    }
    if (metric_float) {
      const auto label = data.label(i);
      metric_float->update(f, label, &f);
      metric_quantized->update(q, label, &f);
    }
  });
  r.evaluated = true;
  r.saturations = saturations[1];
  r.evaluation_samples = count;
  if (metric_float) {
    r.metric = metric_float->name();
    r.metric_float = metric_float->value();
    r.metric_quantized = metric_quantized->value();
    if (const std::string remark = metric_quantized->remark(); !remark.empty()) r.warnings.push_back(fmt::format("metric {}: {}", r.metric, remark));
  }
  for (size_t k = 0; k < signal.size(); ++k) {
    if (differing[k])
      r.warnings.push_back(fmt::format("output '{}': in {} of {} samples its shape differs from the float model's; they are left out of the signal to noise",
                                       p.graph.value(p.graph.outputs()[k]).name, differing[k], count));
    if (differing[k] < count) r.sqnr.push_back({p.graph.value(p.graph.outputs()[k]).name,
                      noise[k] > 0 ? 10 * std::log10(signal[k] / noise[k]) : std::numeric_limits<double>::infinity()});
  }
  r.timing["evaluated_with"] = integer ? "integer" : "simulated";
}

// How far files that can't say the target's arithmetic are from the package, on some samples. As the float model runs here.
void measure_previews(const PreparedNetwork& p, const Dataset& data, const RunOptions& options, Progress& progress, RunResult& r) {
  const auto profile = runnable_profile(*p.target, r.profile, nullptr);
  const auto kernels = profile ? target_provider(p.target, *profile) : interpreter_provider();
  for (auto& [name, e] : r.exports) {
    if (!e.preview || !e.left_out.empty()) continue;
    const int64_t count = std::min(preview_samples, data.size());
    Engine file(e.graph, {.providers = {onednn_provider(), own_float_provider()}});
    Engine package(r.integer.graph, {.providers = {kernels, onednn_provider(), own_float_provider()}});
    std::vector<double> signal(p.graph.outputs().size(), 0), noise(signal.size(), 0), largest(signal.size(), 0);
    run_together({&package, &file}, data, count, options.threads, "compare the QDQ file", &progress, [&](int64_t, std::vector<Sample>& outputs) {
      for (size_t k = 0; k < signal.size(); ++k) {
        const Tensor &a = outputs[0][k].tensor, &b = outputs[1][k].tensor;
        if (a.dims() != b.dims() || a.type() != DType::f32 || b.type() != DType::f32) continue;
        const auto x = a.values<float>(), y = b.values<float>();
        for (size_t i = 0; i < x.size(); ++i) {
          const double d = static_cast<double>(x[i]) - static_cast<double>(y[i]);
          signal[k] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
          noise[k] += d * d;
          largest[k] = std::max(largest[k], std::abs(d));
        }
      }
    });
    e.preview_samples = count;
    for (size_t k = 0; k < signal.size(); ++k)
      e.deviations.push_back({p.graph.value(p.graph.outputs()[k]).name,
                              noise[k] > 0 ? 10 * std::log10(signal[k] / noise[k]) : std::numeric_limits<double>::infinity(), largest[k]});
  }
}

}  // namespace

QuantizePlan plan(Config& config, PluginRegistry& registry) {
  PreparedNetwork p = prepare(config, registry);
  std::vector<PlacedStage> before, after;
  split_stages(config, registry, before, after);
  std::vector<std::string> warnings;
  QuantizePlan out;
  int64_t samples = 0;
  samples = open_calibration(config, p.graph, config.thread_count(), warnings, registry)->size();
  out.passes.push_back({"rewritten float against the file's", std::min(rewrite_check_samples, samples)});
  for (const auto& stage : before) out.passes.push_back({"statistics for " + stage.entry->name, samples});
  out.passes.push_back({"statistics", samples});
  const auto evaluation = open_evaluation(config, input_specs(p.graph), registry);
  if (evaluation.data) out.passes.push_back({"evaluation", evaluation.data->size()});
  else out.passes.push_back({"signal to noise at the outputs", std::min(sqnr_samples, samples)});
  for (const auto& stage : config.stages) out.stages.push_back(stage.name);
  out.placement = std::move(p.placement);
  return out;
}

namespace {

// Of one target, on its way through the steps.
struct TargetRun {
  explicit TargetRun(Config& c) : config(c) {}
  Config& config;
  PreparedNetwork p;
  RunResult r;
  std::vector<PlacedStage> before, after;
  Graph float_graph;  // before any stage changes it; shares the weights
  std::unique_ptr<GraphView> view;
  std::unique_ptr<RangeFinder> ranges;
  std::shared_ptr<StatisticsSet> statistics;  // shared with the others whose networks are the same

  std::string step(const std::string& name, bool alone) const { return alone ? name : name + ", " + config.device; }
};
using Runs = std::vector<TargetRun*>;

// Statistics are taken once for all networks that are the same.
std::vector<Runs> by_network(const Runs& runs) {
  std::vector<Runs> out;
  for (TargetRun* run : runs) {
    const auto same = std::find_if(out.begin(), out.end(), [&](const Runs& group) { return same_network(group.front()->p.graph, run->p.graph); });
    if (same == out.end()) out.push_back({run});
    else same->push_back(run);
  }
  return out;
}

void open_view(TargetRun& run, const Dataset& data, int threads) {
  run.view = std::make_unique<GraphView>(run.p.graph, run.p.placement, data, threads);
}

// Stages that change weights: each sees statistics of the graph as the one before it left it. False where they are of a shard of the
// data only: what the stages would do is not known then.
bool run_stages_before(const Runs& all, const Dataset& data, int threads, Progress& progress, StatisticsJob* job) {
  size_t most = 0;
  for (const TargetRun* run : all) most = std::max(most, run->before.size());
  for (size_t k = 0; k < most; ++k) {
    Runs runs;
    for (TargetRun* run : all)
      if (k < run->before.size()) runs.push_back(run);
    for (const Runs& group : by_network(runs)) {
      auto statistics = std::make_shared<StatisticsSet>();
      for (TargetRun* run : group) {
        open_view(*run, data, threads);
        run->view->plan(run->before[k].handle, run->before[k].entry->parameters, *statistics);
        run->statistics = statistics;
      }
      collect(group.front()->p.graph, data, *statistics, threads, progress, "statistics for " + group.front()->before[k].entry->name, job);
    }
    if (job && job->partial) {
      job->stopped = true;
      return false;
    }
    for (TargetRun* run : runs) {
      const PlacedStage& stage = run->before[k];
      auto work = progress.stage(run->step(stage.entry->name, all.size() == 1));
      run->view->run(stage.handle, stage.entry->parameters, *run->statistics, run->r.stage_lines, [&] { work.advance(); });
      run->view.reset();
      run->statistics.reset();
    }
  }
  return true;
}

void collect_for_ranges(const Runs& all, const Dataset& data, int threads, Progress& progress, PluginRegistry& registry, StatisticsJob* job) {
  for (const Runs& group : by_network(all)) {
    auto statistics = std::make_shared<StatisticsSet>();
    for (TargetRun* run : group) {
      open_view(*run, data, threads);
      run->statistics = statistics;
      run->ranges = std::make_unique<RangeFinder>(run->p.graph, run->p.placement, run->p.rules, run->config, registry);
      run->ranges->request(*statistics);
      for (const auto& stage : run->after) run->view->plan(stage.handle, stage.entry->parameters, *statistics);
    }
    collect(group.front()->p.graph, data, *statistics, threads, progress, "statistics", job);
  }
}

void estimate_cost(const Target& target, RunResult& r) {
  for (NodeId id : r.integer.graph.order()) {
    const auto* unit = dynamic_cast<const IntegerUnit*>(r.integer.graph.node(id).payload.get());
    if (!unit) continue;
    double cycles = 0, bytes = 0;
    if (!target.cost(r.profile, *unit, &cycles, &bytes)) { ++r.cost_unknown; continue; }
    ++r.cost_units;
    r.cost_cycles += cycles;
    r.cost_bytes += bytes;
  }
}

// From statistics to the integer network, its files and its figures.
void finish(TargetRun& run, bool alone, const Dataset& data, const RunOptions& options, PluginRegistry& registry, int threads, Progress& progress) {
  Config& config = run.config;
  PreparedNetwork& p = run.p;
  RunResult& r = run.r;
  const auto ranges_of_added = export_ranges(p.graph, p.placement, config, data, *run.statistics, threads, progress, options.statistics);
  {
    auto stage = progress.stage(run.step("ranges", alone));
    run.ranges->compute(*run.statistics, threads);
  }
  throw_if_cancelled();
  for (const auto& stage : run.after) {
    auto work = progress.stage(run.step(stage.entry->name, alone));
    run.view->run(stage.handle, stage.entry->parameters, *run.statistics, r.stage_lines, [&] { work.advance(); });
    throw_if_cancelled();
  }
  const std::vector<FittedWeight> fitted = run.ranges->fitted();
  run.view.reset();
  run.ranges.reset();
  run.statistics.reset();

  r.model_digest = p.model_digest;
  r.data_digest = data.digest();
  r.config_digest = config_digest(config, r.data_digest);
  r.float_class = float_class();
  r.target = p.target->name();
  r.target_id = p.target->id();
  r.target_version = p.target->version();
  r.profile = p.rules.profile;
  r.preset = config.preset;
  r.rules_id = p.rules.id;
  r.rules_digest = p.rules.digest;
  r.passes = p.passes;
  {
    auto stage = progress.stage(run.step("integers", alone));
    r.integer = lower(p.graph, p.placement, p.rules, *p.target);
    for (const FittedWeight& w : fitted)
      r.integer.notes.push_back({w.node, fmt::format("weight scale raised {:.3g} times{}, so that {} (it could have been {:.3g} times as large)",
                                                     w.factor, w.units > 1 ? fmt::format(" for {} units", w.units) : "", w.so_that, w.worst)});
  }
  r.integer.provenance = json::object{{"tool", "quern"},
                                      {"version", version()},
                                      {"model_sha256", r.model_digest},
                                      {"data_sha256", r.data_digest},
                                      {"configuration_sha256", r.config_digest},
                                      {"float_class", r.float_class}};
  r.not_portable = not_portable_nodes(r.integer, data);
  estimate_cost(*p.target, r);
  for (QdqProfile profile : config.qdq) r.exports.emplace_back(profile, export_qdq(p.graph, p.placement, r.integer, profile, ranges_of_added));
  for (const auto& [profile, e] : r.exports)
    if (!e.left_out.empty()) r.warnings.push_back(fmt::format("{} is not written: {}", qdq_file_name(profile), e.left_out));
  if (options.evaluate) measure_previews(p, data, options, progress, r);
  // From here on only the float network that the integers are held against needs its weights.
  for (size_t v = 0; v < p.graph.value_slots(); ++v) {
    Value& value = p.graph.value(static_cast<ValueId>(v));
    if (value.constant && value.constant->bytes() > (size_t{64} << 10)) value.constant = nullptr;
  }
  if (options.evaluate) judge(config, p, run.float_graph, data, options, registry, progress, r);
  run.float_graph = Graph();
  for (const std::string& line : p.target->incidents()) r.warnings.push_back(line);
  r.graph = std::move(p.graph);
  r.placement = std::move(p.placement);
}

}  // namespace

std::vector<RunResult> quantize(std::vector<Config>& configs, PluginRegistry& registry, const RunOptions& options) {
  Progress silent;
  Progress& progress = options.progress ? *options.progress : silent;
  const int threads = std::max(1, options.threads);
  StatisticsJob* job = options.statistics;
  set_plugin_threads(threads);
  set_plugin_seed(static_cast<uint64_t>(configs.at(0).seed));
  const auto start = std::chrono::steady_clock::now();

  std::vector<std::unique_ptr<TargetRun>> owned;
  Runs runs;
  std::vector<Rules> rules;
  std::optional<Progress::Stage> step;
  step.emplace(&progress, "import", 0);
  for (Config& c : configs) {
    owned.push_back(std::make_unique<TargetRun>(c));
    runs.push_back(owned.back().get());
    rules.push_back(complete_config(c, registry));
  }
  const bool alone = runs.size() == 1;
  Config& first = configs.front();
  std::unique_ptr<Dataset> data;
  std::vector<std::string> warnings;
  std::vector<NamedTensors> file_outputs;  // what the network of the file gives, to hold the rewritten one against
  ImportedNetwork network = import_network(first, [&](const Graph& graph, const std::string& digest) {
    for (TargetRun* run : runs) split_stages(run->config, registry, run->before, run->after);
    step.emplace(&progress, "check data", 0);
    if (job && job->has_file() && !job->recording) {
      data = job->open(first, digest, warnings);
    } else {
      data = open_calibration(first, graph, threads, warnings, registry);
    }
    if (options.evaluate) open_evaluation(first, input_specs(graph), registry);  // a slip there must not show after the work
    step.emplace(&progress, "float reference", 0);
    file_outputs = float_outputs(graph, *data, rewrite_check_samples, threads);
    step.emplace(&progress, "rewrite and place", 0);
  });
  throw_if_cancelled();
  for (size_t i = 0; i < runs.size(); ++i)
    runs[i]->p = prepare(i + 1 < runs.size() ? network : std::move(network), runs[i]->config, rules[i], registry);
  step.emplace(&progress, "check rewrite", 0);
  for (TargetRun* run : runs) {
    run->r.warnings = warnings;
    run->r.calibration_samples = data->size();
    if (run->config.calibration) run->config.effective["data"].at("calibration").as_object()["samples"] = data->size();
    run->r.rewrite_samples = static_cast<int64_t>(file_outputs.size());
  }
  for (const Runs& group : by_network(runs)) {
    const auto checks = check_rewrite(file_outputs, group.front()->p.graph, *data, threads);
    for (TargetRun* run : group) run->r.rewrite_checks = checks;
  }
  file_outputs.clear();
  step.reset();
  for (TargetRun* run : runs)
    if (options.evaluate) run->float_graph = run->p.graph;

  if (job) job->describe(configs, runs.front()->p.model_digest, *data, warnings);
  if (!run_stages_before(runs, *data, threads, progress, job)) return {};
  collect_for_ranges(runs, *data, threads, progress, registry, job);
  if (job && job->recording) {
    for (TargetRun* run : runs) export_ranges(run->p.graph, run->p.placement, run->config, *data, *run->statistics, threads, progress, job);
    return {};
  }
  for (TargetRun* run : runs) finish(*run, alone, *data, options, registry, threads, progress);

  json::object stages;
  for (const auto& [name, seconds] : progress.seconds()) stages[name] = seconds;
  std::vector<RunResult> results;
  for (TargetRun* run : runs) {
    run->r.timing["seconds"] = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    run->r.timing["stages"] = stages;
    run->r.timing["peak_memory_bytes"] = peak_memory_bytes();
    run->r.timing["threads"] = threads;
    results.push_back(std::move(run->r));
  }
  return results;
}

RunResult quantize(Config& config, PluginRegistry& registry, const RunOptions& options) {
  std::vector<Config> one;
  one.push_back(std::move(config));
  struct Back { Config& to; std::vector<Config>& from; ~Back() { to = std::move(from.front()); } } back{config, one};
  return std::move(quantize(one, registry, options).front());
}

}  // namespace quern
