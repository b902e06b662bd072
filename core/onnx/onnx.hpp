// ONNX in and out. The only room that includes protobuf's headers; this header has none.
#pragma once
#include "core/base/files.hpp"
#include "core/graph/graph.hpp"

namespace quern {

// Reads a model: parses, passes the gate (operators by since-version, types, sizes), copies or maps the weights, and lets
// protobuf go. Constant nodes become constants; definitions older than opset 13 whose attributes became inputs (Clip, Slice,
// Squeeze, Pad, ...) are brought to the form of opset 13; shapes are inferred. Large constants (> 64 KiB) of external data
// look into the mapped file; those of the model file itself are copied once. Throws Error(model) naming file and node.
// Unknown operators are imported as they are (since_version 0) unless `refuse_unknown`: a reader of the graph can list them
// all at once. An If keeps its branches as attributes of type Graph; what they take from around them is appended to the
// inputs of the node, with the names in the attribute "quern.captured".
// `digest`, where given, receives the SHA-256 of the file, followed by each file of external data that it uses (name, size, bytes; by name).
struct ImportOptions { bool refuse_unknown = false; std::string* digest = nullptr; };
Graph import_onnx(const fs::path& path, const ImportOptions& options = {});
// The same from memory; `folder` is where external data may lie (none when empty).
Graph import_onnx_bytes(std::span<const std::byte> bytes, const std::string& name, const fs::path& folder = {});

// A single tensor of ONNX's test data (.pb), for tests and tools.
Tensor read_onnx_tensor(const fs::path& path, std::string* name = nullptr);

struct ExportOptions {
  int64_t opset = 0;       // 0: the smallest that holds every node (>= 13), the newer operators of expand_for_opset written out
  int64_t ir_version = 8;
  std::string producer = "quern", producer_version = "";
  size_t external_above = (size_t{2} << 30) - (size_t{16} << 20);
};
// Writes with operators of `opset` what is newer: Swish (24), Gelu (20), Mish and GroupNormalization (18), LayerNormalization (17),
// HardSwish (14). The number of nodes written out. export_onnx does this for its opset, or else for that of the graph's file.
int64_t expand_for_opset(Graph& graph, int64_t opset);
bool needs_expansion(const Graph& graph, int64_t opset);
// Brings nodes to definitions that `opset` has: reductions before 18 get their axes as an input. The name of a node that can't be
// brought there; "" when all are.
std::string raise_to_opset(Graph& graph, int64_t opset);
// Deterministic bytes. Nodes of the domain "quern" can't be exported: Error(internal).
std::string export_onnx(const Graph& graph, const ExportOptions& options = {});

// The same into a file, tensor by tensor: no second copy of the weights is made. Beyond `external_above` bytes the weights go to
// a file beside it, "NAME.data" (an ONNX file can't be larger than 2 GB). Each is written under a temporary name and renamed, the
// data first.
void write_onnx(const Graph& graph, const fs::path& path, const ExportOptions& options = {});

// What the gate knows of an operator: the since-versions whose meaning Quern reads, oldest first. Used by the importer,
// `quern inspect` and the documentation.
struct OperatorGate { std::string domain, op; std::vector<int> since_versions; };
const std::vector<OperatorGate>& operator_gates();
// since_version of `op` that applies under `opset`; 0 when the operator is unknown, -1 when the opset is older or newer than
// those whose definition of it Quern has read, or no longer has the operator.
int since_version_for(const std::string& domain, const std::string& op, int64_t opset);

}  // namespace quern
