// Steps of quantize() that stand on their own.
#pragma once
#include "core/pipeline/pipeline.hpp"

namespace quern {

// The network of a file, rewritten, before any target is looked at.
struct ImportedNetwork {
  Graph graph;
  std::string digest;
  std::vector<PassReport> passes;
};
// `imported`: looks at the graph as it is in the file, and its digest; no copy of it is kept.
ImportedNetwork import_network(const Config& config, const std::function<void(const Graph&, const std::string& digest)>& imported = {});
// For the target of a completed configuration: unrolled, biases added, placed.
PreparedNetwork prepare(ImportedNetwork network, const Config& config, const Rules& rules, PluginRegistry& registry);

// Conv, ConvTranspose and Gemm without a bias get one of zeros, and a bias shared by several nodes is copied, so that a stage
// can correct every node by itself. Returns how many were changed.
int64_t give_every_node_its_bias(Graph& graph);

// Runs the graph as imported and as rewritten on the same samples and compares every output. Error(internal) beyond the
// tolerance: nothing that follows would mean anything. In two steps, so that both need not be in memory at once.
std::vector<NamedTensors> float_outputs(const Graph& graph, const Dataset& data, int64_t samples, int threads);
std::vector<RewriteCheck> check_rewrite(const std::vector<NamedTensors>& expected, const Graph& rewritten, const Dataset& data, int threads);
std::vector<RewriteCheck> check_rewrite(const Graph& original, const Graph& rewritten, const Dataset& data, int64_t samples, int threads);

// Calibration data against the model: names, types, sizes (Error(data)), NaN, emptiness.
std::unique_ptr<Dataset> open_calibration(const Config& config, const Graph& graph, int threads, std::vector<std::string>& warnings,
                                          PluginRegistry& registry);

// The evaluation data and the metric; nulls where the configuration has none. Their mistakes are named with their place.
struct EvaluationInputs { std::unique_ptr<Dataset> data; std::unique_ptr<Metric> metric; };
EvaluationInputs open_evaluation(const Config& config, const std::vector<InputSpec>& inputs, PluginRegistry& registry);

}  // namespace quern
