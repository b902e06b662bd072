// Layers whose weights can be rounded, and the inputs of their rows: what a row of weights is multiplied with at a position of the output.
#pragma once
#include <quern/plugin.hpp>

#include <string>
#include <vector>

namespace adaround {

struct Layer {
  uint32_t node = 0;
  std::string name;
  int32_t input_slot = -1, weight_slot = -1;
  int32_t weight = -1, bias = -1;  // values; bias -1: none that can be changed
  int64_t outputs = 0, columns = 0, groups = 1;  // rows of weights, length of a row
  bool columns_first = false;                    // stored as [columns][outputs] (Gemm without transB, MatMul)
  bool convolution = false;
  std::vector<int64_t> kernel, strides, pads, dilations;
  size_t index(int64_t output, int64_t column) const {
    return static_cast<size_t>(columns_first ? column * outputs + output : output * columns + column);
  }
};

// False where the node is no such layer; `why` says so where one would expect it to be.
bool find_layer(const quern_sdk::GraphView& graph, uint32_t node, Layer& layer, std::string& why);

// Positions of an output tensor, at most `wanted` of them, spread evenly over it; and what lies there.
struct Patches {
  int64_t positions = 0;
  std::vector<float> x;  // [groups][positions][columns]
  std::vector<float> y;  // [groups][positions][outputs / groups]
};
// x: what the layer reads, y: what it gives. Failure where the shapes do not fit.
Patches patches(const Layer& layer, const quern_sdk::TensorView& x, const quern_sdk::TensorView& y, int64_t wanted);

}  // namespace adaround
