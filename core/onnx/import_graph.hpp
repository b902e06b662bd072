// Private to the onnx room: GraphProto to Graph.
#pragma once
#include <onnx/onnx_pb.h>

#include "core/graph/graph.hpp"
#include "core/onnx/onnx.hpp"
#include "core/onnx/tensor_proto.hpp"

namespace quern {

struct ImportContext {
  std::map<std::string, int64_t> opsets;                        // by domain, "" for ai.onnx
  std::vector<std::pair<std::string, std::string>> functions;   // (domain, name) that the file defines itself
  ExternalData* external = nullptr;
  bool refuse_unknown = false;
};

// `captured` (for a branch of an If): receives the names that the graph takes from around it, which become its inputs;
// null for the graph of the model.
Graph build_graph(onnx::GraphProto& proto, const ImportContext& context, std::vector<std::string>* captured);

}  // namespace quern
