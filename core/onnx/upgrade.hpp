// Private to the onnx room: brings definitions older than opset 13 to the form of opset 13, so that every other room meets
// one form of Clip, Slice, Squeeze, Pad, ... and the graph can be written again with opset 13 or newer.
#pragma once
#include "core/graph/graph.hpp"

namespace quern {

void upgrade_definitions(Graph& graph);
// Softmax, LogSoftmax and Hardmax before opset 13 work on the input flattened at `axis`. Needs shapes; true when the graph
// has new nodes.
bool upgrade_softmax(Graph& graph);

}  // namespace quern
