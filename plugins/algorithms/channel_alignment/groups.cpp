#include "groups.hpp"

#include <algorithm>
#include <map>
#include <numeric>

namespace alignment {

using namespace quern_sdk;

namespace {

bool passes_factors(const std::string_view op) {
  static const std::string_view ops[] = {"Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Identity", "Dropout"};
  return std::find(std::begin(ops), std::end(ops), op) != std::end(ops);
}

std::vector<int64_t> dims_of(const quern_value_view& v) { return {v.dims, v.dims + v.rank}; }
int64_t channels_of(const quern_value_view& v) { return v.rank >= 2 ? v.dims[1] : -1; }

// [N, C, 1, ...] and [N, C]: the same channels under another rank.
bool same_channels(const quern_value_view& a, const quern_value_view& b) {
  const auto plain = [](const quern_value_view& v) {
    for (uint32_t i = 2; i < v.rank; ++i)
      if (v.dims[i] != 1) return false;
    return v.rank >= 2;
  };
  return plain(a) && plain(b) && channels_of(a) > 0 && channels_of(a) == channels_of(b);
}

bool find_layer(const GraphView& graph, uint32_t index, Layer& layer) {
  const quern_node_view raw = graph.node(index);
  const GraphNode node(raw);
  const bool conv = node.op() == "Conv";
  if (!conv && node.op() != "Gemm" && node.op() != "MatMul") return false;
  if (node.op() == "Gemm" && (node.integer("transA", 0) != 0 || node.real("alpha", 1) != 1 || node.real("beta", 1) != 1)) return false;
  const auto value_at = [&](int32_t slot) { return slot >= 0 && slot < static_cast<int32_t>(raw.n_inputs) ? raw.inputs[slot] : -1; };
  layer.node = index;
  layer.name = std::string(node.name());
  layer.input = value_at(graph.slot(index, "input"));
  layer.weight = value_at(graph.slot(index, "weight"));
  layer.bias = value_at(graph.slot(index, "bias"));
  layer.output = raw.n_outputs ? raw.outputs[0] : -1;
  if (layer.input < 0 || layer.weight < 0 || layer.output < 0) return false;
  const quern_value_view weight = graph.value(layer.weight), input = graph.value(layer.input), output = graph.value(layer.output);
  // Shared weights would change under somebody else.
  if (!weight.is_constant || weight.n_consumers != 1 || input.is_constant) return false;
  if (layer.bias >= 0) {
    const quern_value_view bias = graph.value(layer.bias);
    if (!bias.is_constant || bias.n_consumers != 1) return false;
  }
  if (conv) {
    if (weight.rank < 3) return false;
    layer.groups = node.integer("group", 1);
    layer.outputs = weight.dims[0];
    layer.columns = weight.dims[1];
    for (uint32_t i = 2; i < weight.rank; ++i) layer.taps *= weight.dims[i];
  } else {
    if (weight.rank != 2 || input.rank != 2 || output.rank != 2) return false;
    layer.columns_first = node.op() == "MatMul" || node.integer("transB", 0) == 0;
    layer.outputs = weight.dims[layer.columns_first ? 1 : 0];
    layer.columns = weight.dims[layer.columns_first ? 0 : 1];
  }
  if (layer.bias >= 0) {
    const quern_value_view bias = graph.value(layer.bias);
    if (bias.rank != 1 || bias.dims[0] != layer.outputs) return false;
  }
  return layer.groups > 0 && layer.outputs > 0 && layer.outputs % layer.groups == 0;
}

class Sets {
 public:
  int32_t find(int32_t v) {
    grow(v);
    while (parent_[static_cast<size_t>(v)] != v) v = parent_[static_cast<size_t>(v)] = parent_[static_cast<size_t>(parent_[static_cast<size_t>(v)])];
    return v;
  }
  void join(int32_t a, int32_t b) {
    a = find(a);
    b = find(b);
    if (a == b) return;
    if (b < a) std::swap(a, b);
    parent_[static_cast<size_t>(b)] = a;
    blocked_[static_cast<size_t>(a)] = blocked_[static_cast<size_t>(a)] || blocked_[static_cast<size_t>(b)];
  }
  void block(int32_t v) { blocked_[static_cast<size_t>(find(v))] = true; }
  bool blocked(int32_t v) { return blocked_[static_cast<size_t>(find(v))]; }

 private:
  void grow(int32_t v) {
    const size_t old = parent_.size();
    if (static_cast<size_t>(v) < old) return;
    parent_.resize(static_cast<size_t>(v) + 1);
    blocked_.resize(parent_.size());
    std::iota(parent_.begin() + static_cast<std::ptrdiff_t>(old), parent_.end(), static_cast<int32_t>(old));
  }
  std::vector<int32_t> parent_;
  std::vector<bool> blocked_;
};

}  // namespace

std::vector<Group> find_groups(const GraphView& graph) {
  Sets sets;
  std::vector<Layer> layers;
  std::vector<int32_t> flowing;
  std::vector<std::pair<uint32_t, int32_t>> uses;  // (node, slot) of flowing values
  for (uint32_t i = 0; i < graph.nodes(); ++i) {
    const quern_node_view raw = graph.node(i);
    const GraphNode node(raw);
    std::vector<int32_t> in, all;
    for (uint32_t s = 0; s < raw.n_inputs; ++s) {
      const int32_t v = raw.inputs[s];
      if (v < 0) continue;
      const quern_value_view value = graph.value(v);
      if (value.is_constant) continue;
      in.push_back(v);
      uses.emplace_back(i, static_cast<int32_t>(s));
      if (value.producer < 0) sets.block(v);
    }
    all = in;
    for (uint32_t o = 0; o < raw.n_outputs; ++o) {
      const int32_t v = raw.outputs[o];
      if (v < 0) continue;
      all.push_back(v);
      flowing.push_back(v);
      if (graph.value(v).is_output) sets.block(v);
    }
    Layer layer;
    if (find_layer(graph, i, layer)) {
      layers.push_back(std::move(layer));
      continue;
    }
    const quern_value_view out = raw.n_outputs && raw.outputs[0] >= 0 ? graph.value(raw.outputs[0]) : make<quern_value_view>();
    bool together = false;
    if (raw.n_outputs == 1 && in.size() == 1 && passes_factors(node.op())) together = true;
    if (raw.n_outputs == 1 && in.size() == 1 && (node.op() == "Reshape" || node.op() == "Flatten" || node.op() == "Squeeze" || node.op() == "Unsqueeze"))
      together = same_channels(graph.value(in[0]), out);
    if (node.op() == "Add" && in.size() == 2) together = dims_of(graph.value(in[0])) == dims_of(graph.value(in[1])) && out.rank >= 2;
    for (int32_t v : all) {
      if (together) sets.join(all[0], v);
      else sets.block(v);
    }
  }

  std::map<int32_t, Group> groups;
  for (int32_t v : flowing) {
    if (sets.blocked(v)) continue;
    const quern_value_view value = graph.value(v);
    Group& g = groups[sets.find(v)];
    if (g.values.empty()) g.channels = channels_of(value);
    else if (g.channels != channels_of(value)) g.channels = -1;
    g.values.push_back(v);
  }
  for (const Layer& layer : layers) {
    if (const auto it = groups.find(sets.find(layer.output)); it != groups.end()) {
      if (it->second.channels != layer.outputs) it->second.channels = -1;
      it->second.makers.push_back(layer);
    }
    if (const auto it = groups.find(sets.find(layer.input)); it != groups.end()) {
      if (it->second.channels != layer.input_channels()) it->second.channels = -1;
      it->second.readers.push_back(layer);
    }
  }
  for (const auto& [node, slot] : uses) {
    const int32_t v = graph.node(node).inputs[slot];
    const auto it = groups.find(sets.find(v));
    if (it == groups.end() || !graph.quantizer(node, slot)) continue;
    auto& q = it->second.quantized;
    if (std::find(q.begin(), q.end(), v) == q.end()) q.push_back(v);
  }
  std::vector<Group> out;
  for (auto& [root, g] : groups)
    if (g.channels > 1 && !g.makers.empty() && !g.readers.empty() && !g.quantized.empty()) out.push_back(std::move(g));
  return out;
}

}  // namespace alignment
