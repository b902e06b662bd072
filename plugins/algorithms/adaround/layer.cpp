#include "layer.hpp"

#include <algorithm>

namespace adaround {

using namespace quern_sdk;

bool find_layer(const GraphView& graph, uint32_t index, Layer& l, std::string& why) {
  const quern_node_view raw = graph.node(index);
  const GraphNode node(raw);
  if (node.op() == "ConvTranspose") { why = "transposed convolutions are rounded to the nearest"; return false; }
  l.convolution = node.op() == "Conv";
  if (!l.convolution && node.op() != "Gemm" && node.op() != "MatMul") return false;
  l.node = index;
  l.name = std::string(node.name());
  l.input_slot = graph.slot(index, "input");
  l.weight_slot = graph.slot(index, "weight");
  const auto value_at = [&](int32_t slot) { return slot >= 0 && slot < static_cast<int32_t>(raw.n_inputs) ? raw.inputs[slot] : -1; };
  l.weight = value_at(l.weight_slot);
  l.bias = value_at(graph.slot(index, "bias"));
  if (l.weight < 0 || value_at(l.input_slot) < 0 || raw.n_outputs == 0) return false;
  const quern_value_view w = graph.value(l.weight);
  if (!w.is_constant || graph.value(value_at(l.input_slot)).is_constant || !graph.quantizer(index, l.weight_slot)) return false;
  if (w.n_consumers != 1) { why = "its weights are shared with another node"; return false; }
  if (l.convolution) {
    if (w.rank < 3 || node.text("auto_pad", "NOTSET") != "NOTSET") { why = "its padding is not known"; return false; }
    l.kernel.assign(w.dims + 2, w.dims + w.rank);
    const size_t n = l.kernel.size();
    l.strides = node.integers("strides", std::vector<int64_t>(n, 1));
    l.dilations = node.integers("dilations", std::vector<int64_t>(n, 1));
    l.pads = node.integers("pads", std::vector<int64_t>(2 * n, 0));
    l.groups = node.integer("group", 1);
    l.outputs = w.dims[0];
    l.columns = w.dims[1];
    for (int64_t k : l.kernel) l.columns *= k;
    if (l.strides.size() != n || l.dilations.size() != n || l.pads.size() != 2 * n || l.groups < 1 || l.outputs % l.groups) return false;
  } else {
    if (w.rank != 2) { why = "its weights are no matrix"; return false; }
    if (node.op() == "Gemm" && (node.integer("transA", 0) || node.real("alpha", 1) != 1 || node.real("beta", 1) != 1)) { why = "it scales or transposes its operands"; return false; }
    l.columns_first = node.op() == "MatMul" || node.integer("transB", 0) == 0;
    l.outputs = w.dims[l.columns_first ? 1 : 0];
    l.columns = w.dims[l.columns_first ? 0 : 1];
  }
  if (l.bias >= 0) {
    const quern_value_view b = graph.value(l.bias);
    if (!b.is_constant || b.n_consumers != 1 || b.rank != 1 || b.dims[0] != l.outputs) l.bias = -1;
  }
  return l.outputs > 0 && l.columns > 0;
}

namespace {

// One row of the input of group `g` at the position `at` of the output, of sample `n` of the batch.
void gather(const Layer& l, const float* x, const std::vector<int64_t>& dims, int64_t n, int64_t g, const std::vector<int64_t>& at, float* out) {
  const size_t rank = l.kernel.size();
  const int64_t channels = dims[1] / l.groups;
  int64_t area = 1, taps = 1;
  for (size_t d = 0; d < rank; ++d) { area *= dims[d + 2]; taps *= l.kernel[d]; }
  std::vector<int64_t> tap(rank, 0);
  for (int64_t t = 0; t < taps; ++t) {
    int64_t offset = 0;
    bool inside = true;
    for (size_t d = 0; d < rank; ++d) {
      const int64_t p = at[d] * l.strides[d] - l.pads[d] + tap[d] * l.dilations[d];
      inside = inside && p >= 0 && p < dims[d + 2];
      offset = offset * dims[d + 2] + p;
    }
    for (int64_t c = 0; c < channels; ++c) out[c * taps + t] = inside ? x[((n * dims[1] + g * channels + c) * area) + offset] : 0.0f;
    for (size_t d = rank; d-- > 0;) {
      if (++tap[d] < l.kernel[d]) break;
      tap[d] = 0;
    }
  }
}

}  // namespace

Patches patches(const Layer& l, const TensorView& xv, const TensorView& yv, int64_t wanted) {
  const std::vector<int64_t> xd(xv.dims().begin(), xv.dims().end()), yd(yv.dims().begin(), yv.dims().end());
  const float* x = xv.values<const float>().data();
  const float* y = yv.values<const float>().data();
  const auto fail = [&] { return Failure(QUERN_INTERNAL, "adaround: the input and output of '" + l.name + "' do not fit its weights"); };
  const int64_t rows = l.outputs / l.groups;
  Patches p;
  int64_t total = 1;
  if (l.convolution) {
    const size_t rank = l.kernel.size();
    int64_t taps = 1;
    for (int64_t k : l.kernel) taps *= k;
    if (xd.size() != rank + 2 || yd.size() != rank + 2 || xd[0] != yd[0] || yd[1] != l.outputs || xd[1] * taps != l.columns * l.groups) throw fail();
    for (size_t d = 0; d < yd.size(); ++d) total *= d == 1 ? 1 : yd[d];
  } else {
    if (xd.empty() || yd.size() != xd.size() || xd.back() != l.columns || yd.back() != l.outputs) throw fail();
    for (size_t d = 0; d + 1 < yd.size(); ++d) total *= yd[d];
  }
  p.positions = std::min(total, wanted);
  p.x.resize(static_cast<size_t>(l.groups * p.positions * l.columns));
  p.y.resize(static_cast<size_t>(p.positions * l.outputs));
  for (int64_t i = 0; i < p.positions; ++i) {
    int64_t at = i * total / p.positions;
    if (!l.convolution) {
      std::copy_n(x + at * l.columns, l.columns, p.x.begin() + i * l.columns);
      std::copy_n(y + at * l.outputs, l.outputs, p.y.begin() + i * l.outputs);
      continue;
    }
    const size_t rank = l.kernel.size();
    int64_t area = 1;
    for (size_t d = 2; d < yd.size(); ++d) area *= yd[d];
    const int64_t n = at / area, place = at % area;
    std::vector<int64_t> coordinates(rank);
    for (int64_t rest = place, d = static_cast<int64_t>(rank); d-- > 0;) {
      coordinates[static_cast<size_t>(d)] = rest % yd[static_cast<size_t>(d) + 2];
      rest /= yd[static_cast<size_t>(d) + 2];
    }
    for (int64_t g = 0; g < l.groups; ++g) {
      gather(l, x, xd, n, g, coordinates, p.x.data() + (g * p.positions + i) * l.columns);
      for (int64_t o = 0; o < rows; ++o) p.y[static_cast<size_t>((g * p.positions + i) * rows + o)] = y[(n * l.outputs + g * rows + o) * area + place];
    }
  }
  return p;
}

}  // namespace adaround
