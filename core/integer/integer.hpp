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
  int64_t f16_nodes = 0, f16_macs = 0;           // of the float ones: those that run in f16 (core/rules/fallback.hpp)
};

inline constexpr int64_t bias_limit = int64_t{1} << 30;  // |bias| in integers

// Multiply-accumulates per sample of a node of the float graph; 0 for all but Conv, ConvTranspose, Gemm, MatMul
// and the recurrent operators.
int64_t macs_of(const Graph& graph, const Node& node);

// Quantizers of `placement` carry their params. Rules give the contracts; the target derives the tables.
IntegerModel lower(const Graph& graph, const Placement& placement, const Rules& rules, const Target& target);

// The float graph with FakeQuantize nodes where `placement` has quantizers with params (for estimates).
// `activations`, `weights`: which kinds are put in. Without `fold`, weights stay as they are and the node stands behind them.
Graph estimated_graph(const Graph& graph, const Placement& placement, bool activations = true, bool weights = true, bool fold = true);

// package/: index.json and data.bin; docs/package.md describes it.
void write_package(const IntegerModel& model, const fs::path& folder);
IntegerModel read_package(const fs::path& folder);  // Error(model) on anything that does not fit (digests, sizes, versions)

// QDQ: the float graph with QuantizeLinear / DequantizeLinear, weights and biases as integers; ONNX opset >= 13. `plain` says
// what the package computes and nothing else. `ort` and `openvino` hold the same integers, arranged so that this runtime makes
// integer kernels of them (docs/qdq.md).
enum class QdqProfile { plain, ort, openvino };
std::string name_of(QdqProfile profile);
QdqProfile qdq_profile_from_name(const std::string& name);  // Error(config)
std::string qdq_file_name(QdqProfile profile);              // "model.onnx", "model.ort.onnx", "model.openvino.onnx"

// A quantizer that the runtime needs inside of what the target runs as one unit: the file's result is no longer the package's
// to the last bit.
struct QdqAddition { std::string tensor, node; QuantParams params; };
struct QdqFloatNode { std::string node, op, reason; };
struct QdqDeviation { std::string output; double sqnr_db = 0, largest = 0; };  // signal to noise; largest difference
struct QdqExport {
  Graph graph;
  // The target computes what QuantizeLinear and DequantizeLinear can't say (sums that saturate, functions by segments, integer
  // multipliers): the file comes near the package, and how near is measured (deviations: file against package on some samples).
  bool preview = false;
  int64_t preview_samples = 0;
  std::vector<QdqDeviation> deviations;
  std::string left_out;  // why the file can't be written; "" when it can
  std::vector<QdqAddition> added;
  // Nodes that the runtime runs in float, by our knowledge of what it fuses, and how many Conv, ConvTranspose, Gemm and MatMul
  // it runs in integers. Of `plain`, nothing is said.
  std::vector<QdqFloatNode> floats;
  int64_t heavy_integer = 0, heavy_float = 0;
};

// Values for which a quantizer is added; the caller finds out their range over the calibration data.
std::vector<ValueId> qdq_added_values(const Graph& graph, const Placement& placement, QdqProfile profile);
QdqExport export_qdq(const Graph& graph, const Placement& placement, const IntegerModel& model, QdqProfile profile = QdqProfile::plain,
                     const std::map<ValueId, Range>& added = {});

}  // namespace quern
