// Private to the graph room: a Conv, ConvTranspose, Gemm or MatMul of constant weights, and what scales and shifts of its
// output channels need. All arithmetic in double, rounded to the type of the weights once.
#pragma once
#include <optional>
#include <vector>

#include "core/graph/editor.hpp"

namespace quern {

using Row = std::vector<double>;

struct Linear {
  NodeId id = no_node;
  const Tensor* weight = nullptr;
  int64_t channels = 0;
  int64_t channel_axis = 1;  // of the output
  int64_t rank = 0;          // of the output
};

inline bool is_real(DType t) { return t == DType::f32 || t == DType::f64; }
Row doubles(const Tensor& t);
Tensor tensor_of(DType type, Dims dims, const Row& values);

// None: another operator, or weights or bias that are not constant.
std::optional<Linear> linear(GraphEditor& edit, NodeId id);
// `t` as one number per channel: everything but the channel axis is 1. None when it has another shape.
std::optional<Row> per_channel(const Tensor& t, const Linear& l);
// The bias of a node per channel, zeros where it has none. A Gemm's also with beta. None for a full matrix.
std::optional<Row> bias_of(const Graph& g, const Linear& l);
void set_bias(GraphEditor& edit, const Linear& l, const Row& row);  // makes a Gemm of a MatMul
void scale_weights(GraphEditor& edit, const Linear& l, const Row& by);

}  // namespace quern
