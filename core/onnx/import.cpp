#include <fmt/format.h>

#include <climits>
#include <new>

#include "core/base/error.hpp"
#include "core/graph/shapes.hpp"
#include "core/onnx/import_graph.hpp"
#include "core/onnx/operator_gate.hpp"
#include "core/onnx/upgrade.hpp"

namespace quern {
namespace {

// Runs `body`; whatever goes wrong names the file.
template <class F>
auto naming(const std::string& file, F&& body) {
  try {
    return body();
  } catch (Error& e) {
    if (e.file().empty()) e.set_file(file);
    throw;
  } catch (const std::bad_alloc&) {
    throw Error(ErrorCode::memory, "out of memory while reading the model").at_file(file);
  } catch (const std::exception& e) {
    throw Error(ErrorCode::internal, fmt::format("reading the model failed: {}", e.what())).at_file(file);
  }
}

void parse(google::protobuf::MessageLite& proto, std::span<const std::byte> bytes, const char* what) {
  if (bytes.empty()) throw Error(ErrorCode::model, "is empty");
  if (bytes.size() > static_cast<size_t>(INT_MAX))
    throw Error(ErrorCode::model, fmt::format("is {} bytes long; a single ONNX file can't be larger than 2 GB", bytes.size()))
        .hint("save the weights as external data (onnx.save_model(..., save_as_external_data=True))");
  if (!proto.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    throw Error(ErrorCode::model, fmt::format("is not {}, or is cut off", what));
}

Graph import_bytes(std::span<const std::byte> bytes, const fs::path& folder, const ImportOptions& options) {
  onnx::ModelProto model;
  parse(model, bytes, "an ONNX model");
  if (!model.has_graph() || (model.graph().node_size() == 0 && model.graph().output_size() == 0))
    throw Error(ErrorCode::model, "holds no graph: it is not an ONNX model, or is cut off");
  ImportContext context;
  ExternalData external(folder);
  context.external = &external;
  context.refuse_unknown = options.refuse_unknown;
  for (const auto& set : model.opset_import()) {
    const std::string domain = set.domain() == "ai.onnx" ? "" : set.domain();
    int64_t& version = context.opsets[domain];
    version = std::max<int64_t>(version, set.version());
  }
  for (const auto& function : model.functions())
    context.functions.emplace_back(function.domain() == "ai.onnx" ? "" : function.domain(), function.name());
  Graph graph = build_graph(*model.mutable_graph(), context, nullptr);
  if (auto it = context.opsets.find(""); it != context.opsets.end()) graph.opset = it->second;
  for (const auto& property : model.metadata_props()) graph.metadata[property.key()] = property.value();
  model.Clear();
  if (graph.outputs().empty()) throw Error(ErrorCode::model, "the graph has no outputs");
  if (options.digest) *options.digest = external.digest_with(bytes);
  graph.check();
  upgrade_definitions(graph);
  infer_shapes(graph);
  if (upgrade_softmax(graph)) infer_shapes(graph);
  return graph;
}

}  // namespace

Graph import_onnx(const fs::path& path, const ImportOptions& options) {
  return naming(path.string(), [&] {
    auto file = MappedFile::open(path);
    const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
    return import_bytes(file->bytes(), folder, options);
  });
}

Graph import_onnx_bytes(std::span<const std::byte> bytes, const std::string& name, const fs::path& folder) {
  return naming(name, [&] { return import_bytes(bytes, folder, {}); });
}

Tensor read_onnx_tensor(const fs::path& path, std::string* name) {
  return naming(path.string(), [&] {
    auto file = MappedFile::open(path);
    onnx::TensorProto proto;
    parse(proto, file->bytes(), "an ONNX tensor");
    if (name) *name = proto.name();
    ExternalData external(path.has_parent_path() ? path.parent_path() : fs::path("."));
    return take_tensor(proto, external, "the tensor");
  });
}

}  // namespace quern
