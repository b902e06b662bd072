// The main job: from a configuration to an integer model; and the ways to run one.
//
//   PluginRegistry registry;
//   Config config = load_config("digits.yaml");
//   RunResult result = quantize(config, registry, {.threads = 2});
//   write_output(config, result, "out/");                       // core/report
//   Evaluation e = evaluate(config, "out/", RunAs::integer, registry, {});
//   Verification v = verify("out/", registry, {});
//
// Results do not depend on the number of threads. Times are kept apart (RunResult::timing).
#pragma once
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "core/dataset/dataset.hpp"
#include "core/engine/engine.hpp"
#include "core/graph/passes.hpp"
#include "core/integer/integer.hpp"
#include "core/pipeline/config.hpp"
#include "core/pipeline/progress.hpp"

namespace quern {

class StatisticsJob;  // calibrate.hpp

struct RunOptions {
  int threads = 1;
  Progress* progress = nullptr;  // null: silent
  bool evaluate = true;          // metric and SQNR at the end of quantize()
  StatisticsJob* statistics = nullptr;  // of quantize(): statistics of a file, or into one
};

// "rewritten float = unrewritten float on real data": per output.
struct RewriteCheck { std::string output; double max_difference = 0, max_value = 0; };
inline constexpr double rewrite_tolerance = 1e-4;  // of max_value

struct StageLine { std::string stage, node, action, reason; double before = 0, after = 0; };

struct PlannedPass { std::string purpose; int64_t samples = 0; };
// What quantize() would do, before any data is run.
struct QuantizePlan {
  Placement placement;
  std::vector<PlannedPass> passes;
  std::vector<std::string> stages;
};

struct OutputSqnr { std::string output; double db = 0; };

struct RunResult {
  std::string model_digest, data_digest, config_digest, float_class;
  std::string target, target_id, target_version, profile, preset, rules_id, rules_digest;
  int64_t calibration_samples = 0;
  std::vector<std::string> warnings;
  std::vector<PassReport> passes;
  std::vector<RewriteCheck> rewrite_checks;
  int64_t rewrite_samples = 0;
  Graph graph;                    // float, rewritten, as the stages left it; without large constants, which nothing needs any more
  Placement placement;            // with types, ranges and params
  std::vector<StageLine> stage_lines;
  std::vector<std::string> not_portable;  // float nodes that run on a library's kernels
  IntegerModel integer;
  std::vector<std::pair<QdqProfile, QdqExport>> exports;  // the files of config.qdq, ready to be written
  // Over the evaluation data (or some calibration samples, without a metric).
  bool evaluated = false;
  std::string metric;             // "" when there is none
  double metric_float = 0, metric_quantized = 0;
  int64_t evaluation_samples = 0;
  std::vector<OutputSqnr> sqnr;
  std::map<std::string, uint64_t> saturations;  // sums that accumulators cut off, by node; of these samples
  double cost_cycles = 0, cost_bytes = 0;  // of one sample by the target's model, over the units that it has one for
  int64_t cost_units = 0, cost_unknown = 0;
  json::object timing;            // seconds, memory, threads: everything that may differ between two runs
};

// Import, rewrite, place: what --dry-run and explain need. Completes the configuration.
struct PreparedNetwork {
  Rules rules;
  std::shared_ptr<const Target> target;
  Graph graph;                    // rewritten
  std::string model_digest;
  std::vector<PassReport> passes;
  Placement placement;
};
PreparedNetwork prepare(Config& config, PluginRegistry& registry);
QuantizePlan plan(Config& config, PluginRegistry& registry);
RunResult quantize(Config& config, PluginRegistry& registry, const RunOptions& options = {});
// One model and its data for several targets (load_configs): the model is read once, and so is the data, as long as the networks of the
// targets are the same; each target's result is what it would be alone.
std::vector<RunResult> quantize(std::vector<Config>& configs, PluginRegistry& registry, const RunOptions& options = {});

enum class RunAs { as_float, simulated, integer };
RunAs run_as_from_name(const std::string& name);  // Error(usage)

// A model ready to run: an ONNX file, or the folder that quantize wrote.
struct LoadedModel {
  Graph graph;
  std::vector<std::shared_ptr<const Provider>> providers;
  std::vector<InputSpec> inputs;
  std::optional<IntegerModel> integer;  // its graph moved to `graph`
  bool rewritten = false;
};
// `rewrite`: fold and fuse a float model first (faster; outputs agree to rewrite_tolerance).
LoadedModel load_model(const fs::path& file_or_folder, RunAs as, PluginRegistry& registry, bool rewrite = true);
std::vector<InputSpec> input_specs(const Graph& graph);

struct Evaluation { std::string metric; double value = 0; int64_t samples = 0; double seconds = 0; std::string remark; uint64_t saturations = 0; };
Evaluation evaluate(const Config& config, const fs::path& model, RunAs as, PluginRegistry& registry, const RunOptions& options);

struct VerifyOptions { int64_t samples = 0; /* 0: all */ int threads = 1; Progress* progress = nullptr; };
struct Difference { std::string tensor, node; int64_t sample = 0, index = 0; double simulated = 0, integer = 0; };
struct Verification {
  int64_t samples = 0, tensors = 0, elements = 0, mismatches = 0;
  std::map<std::string, uint64_t> simulated_saturations, integer_saturations;  // sums that accumulators cut off, by node
  int64_t integer_nodes = 0, nodes = 0;
  double coverage_nodes = 0, coverage_macs = 0;
  std::optional<Difference> first;
};
// Runs simulated and integer side by side on the evaluation data that FOLDER/effective.yaml names (calibration data where
// there is none) and compares every quantized tensor bit by bit. Does not judge; see passes().
Verification verify(const fs::path& folder, PluginRegistry& registry, const VerifyOptions& options);
// The comparison itself, of two ways to run the same lowered graph.
Verification compare_runs(LoadedModel simulated, LoadedModel integer, const Dataset& data, const VerifyOptions& options);
// The reason why a verification does not hold; "" when it does. Coverage is that of multiply-accumulates (of nodes where
// the network has none).
std::string verdict(const Verification& result, double min_coverage);

NamedTensors to_named(const Sample& sample);

}  // namespace quern
