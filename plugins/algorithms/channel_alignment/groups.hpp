// Tensors that must be rescaled together. A factor per channel can be put into the rows of the weights that make a tensor
// and taken out of the columns of the weights that read it; what lies between has to pass a positive factor through (Relu,
// pooling, residual sums). The tensors connected that way are one group: they share the factors.
#pragma once
#include <quern/plugin.hpp>

#include <string>
#include <vector>

namespace alignment {

// A convolution or dense layer with constant weights that nobody else uses.
struct Layer {
  uint32_t node = 0;
  std::string name;
  int32_t input = -1, output = -1, weight = -1, bias = -1;  // values; bias -1: none
  // Weight as [outputs][columns][taps]; column k of output o reads input channel group(o) * columns + k.
  int64_t outputs = 0, columns = 0, taps = 1, groups = 1;
  bool columns_first = false;  // stored as [columns][outputs] (Gemm without transB, MatMul)
  int64_t input_channels() const { return columns * groups; }
  int64_t channel(int64_t output, int64_t column) const { return output / (outputs / groups) * columns + column; }
  size_t index(int64_t output, int64_t column, int64_t tap) const {
    return static_cast<size_t>(columns_first ? column * outputs + output : (output * columns + column) * taps + tap);
  }
};

struct Group {
  int64_t channels = 0;
  std::vector<int32_t> values;      // all of the group
  std::vector<int32_t> quantized;   // those that some consumer takes as integers
  std::vector<Layer> makers, readers;
};

// Groups in the order of their first value; only those that can be rescaled (no graph input or output, no operator that
// would notice, at least one maker and one reader).
std::vector<Group> find_groups(const quern_sdk::GraphView& graph);

}  // namespace alignment
