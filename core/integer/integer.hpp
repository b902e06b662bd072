// From a placed and ranged float graph to integers, and out: the lowered graph, the package, and QDQ ONNX.
//
// The lowered graph is an ordinary Graph whose integer parts are "quern" nodes: Quantize and Dequantize at borders,
// Requantize-free inside, Unit for every kernel of the target. The interpreter and the target run the same graph.
#pragma once
#include "core/placement/placement.hpp"
#include "core/plugin/plugin.hpp"
#include "core/rules/unit.hpp"

namespace quern {

struct LoweringNote { std::string node, text; };  // weight scale raised for the bias, saturated bias, ...

struct IntegerModel {
  Graph graph;                 // lowered
  std::string target, target_id, target_version, profile, rules_digest;
  std::vector<LoweringNote> notes;
  json::object provenance;     // tool, version, model digest, configuration digest (no times)
  int64_t integer_nodes = 0, float_nodes = 0;    // of the float graph's nodes (constants and folded ones not counted)
  int64_t integer_macs = 0, total_macs = 0;      // per sample
};

inline constexpr int64_t bias_limit = int64_t{1} << 30;  // |bias| in integers

// Multiply-accumulates per sample of a node of the float graph; 0 for all but Conv, ConvTranspose, Gemm, MatMul
// and the recurrent operators.
int64_t macs_of(const Graph& graph, const Node& node);

// Quantizers of `placement` carry their params. Rules give the contracts; the target derives the tables.
IntegerModel lower(const Graph& graph, const Placement& placement, const Rules& rules, const Target& target);

// The float graph with FakeQuantize nodes where `placement` has quantizers with params (for estimates).
// `activations`, `weights`: which kinds are put in.
Graph estimated_graph(const Graph& graph, const Placement& placement, bool activations = true, bool weights = true);

// package/: index.json and data.bin; docs/package.md describes it.
void write_package(const IntegerModel& model, const fs::path& folder);
IntegerModel read_package(const fs::path& folder);  // Error(model) on anything that does not fit (digests, sizes, versions)

// The float graph with QuantizeLinear / DequantizeLinear, weights and biases as integers: ONNX opset >= 13.
Graph qdq_graph(const Graph& graph, const Placement& placement, const IntegerModel& model);

}  // namespace quern
