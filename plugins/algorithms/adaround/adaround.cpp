// Adaptive rounding. Rounding every weight to the nearest code is not what keeps a layer's output closest: errors of weights that are
// read together can cancel. Layer by layer, in the order of the network, with what the layer really reads (everything before it quantized and
// rounded) and the output of the float network as the target, each row of weights gets the codes with the least squared error
// (rounding.hpp), and the bias takes what is left of the mean. A row is kept only where the measured error of its channel got lower.
#include <algorithm>

#include "layer.hpp"
#include "rounding.hpp"

namespace {

using namespace quern_sdk;
using adaround::Layer;

struct Settings {
  uint32_t samples = 32;
  int64_t positions = 8192;
  double damping = 0.01;
};

Settings settings_of(const Json& p) {
  p.only({"samples", "positions", "damping"}, "adaround");
  Settings s;
  const int64_t samples = p.integer("samples", s.samples);
  if (samples < 1 || samples > 1000000) throw Failure(QUERN_INVALID_ARGUMENT, "adaround: samples must be from 1 to 1000000");
  s.samples = static_cast<uint32_t>(samples);
  s.positions = p.integer("positions", s.positions);
  if (s.positions < 1 || s.positions > (int64_t{1} << 24)) throw Failure(QUERN_INVALID_ARGUMENT, "adaround: positions must be from 1 to 16777216");
  s.damping = p.number("damping", s.damping);
  if (!(s.damping > 0 && s.damping <= 1)) throw Failure(QUERN_INVALID_ARGUMENT, "adaround: damping must be above 0 and at most 1");
  return s;
}

std::vector<float> floats(const GraphView& graph, int32_t value) {
  const quern_tensor t = graph.constant(value);
  const Span<const float> data = TensorView(t).values<const float>();
  return {data.begin(), data.end()};
}
void put(const GraphView& graph, int32_t value, const std::vector<float>& data) {
  const quern_value_view v = graph.value(value);
  const std::vector<int64_t> dims(v.dims, v.dims + v.rank);
  graph.set_constant(value, OwnTensor(Span<const float>(data.data(), data.size()), dims).raw());
}

class AdaRound {
 public:
  static constexpr std::string_view name = "adaround", reads = "weights,bias", changes = "weights,bias";
  static constexpr uint32_t when = QUERN_STAGE_AFTER_RANGES;
  static constexpr std::string_view parameters = R"({
    "type": "object", "additionalProperties": false,
    "properties": {
      "samples": {"type": "integer", "minimum": 1, "maximum": 1000000, "default": 32, "description": "calibration samples that are looked at"},
      "positions": {"type": "integer", "minimum": 1, "maximum": 16777216, "default": 8192, "description": "positions of a layer's output, of all samples together, at most"},
      "damping": {"type": "number", "exclusiveMinimum": 0, "maximum": 1, "default": 0.01,
                  "description": "pull to the weights as they are, as a part of the mean square of the inputs"}
    }})";

  void plan(const Json& p, const GraphView&, StatisticsPlan&) { settings_of(p); }

  void run(const Json& p, GraphView& graph) {
    const Settings settings = settings_of(p);
    for (uint32_t i = 0; i < graph.nodes(); ++i) {
      if (cancelled()) throw Failure(QUERN_CANCELLED, "adaround: interrupted");
      Layer layer;
      std::string why;
      if (adaround::find_layer(graph, i, layer, why)) improve(settings, graph, layer);
      else if (!why.empty()) graph.report(view(graph.node(i).name), "left", why, 0, 0);
    }
  }

 private:
  static std::vector<adaround::Grid> grids(const GraphView& graph, const Layer& layer) {
    auto q = make<quern_quant>();
    graph.quantizer(layer.node, layer.weight_slot, &q);
    if (q.count != 1 && q.count != layer.outputs) return {};
    std::vector<adaround::Grid> out;
    for (int64_t o = 0; o < layer.outputs; ++o) {
      const size_t c = q.count == 1 ? 0 : static_cast<size_t>(o);
      out.push_back({q.scale[c], q.zero_point[c], q.qmin, q.qmax});
    }
    return out;
  }

  static std::vector<adaround::Moments> moments(const Settings& settings, const GraphView& graph, const Layer& layer) {
    const uint32_t samples = std::min(settings.samples, graph.samples());
    const int64_t rows = layer.outputs / layer.groups, wanted = std::max<int64_t>(1, settings.positions / samples);
    std::vector<adaround::Moments> out;
    for (int64_t g = 0; g < layer.groups; ++g) out.emplace_back(layer.columns, rows);
    for (uint32_t s = 0; s < samples; ++s) {
      const quern_tensor read = graph.sample(layer.node, layer.input_slot, samples, s, true);
      const TensorView view(read);
      const Span<const float> data = view.values<const float>();
      const std::vector<float> kept(data.begin(), data.end());  // the next call takes the memory back
      const OwnTensor x(Span<const float>(kept.data(), kept.size()), {view.dims().begin(), view.dims().end()});
      const quern_tensor given = graph.sample(layer.node, -1, samples, s, false);
      const auto p = adaround::patches(layer, TensorView(x.raw()), TensorView(given), wanted);
      for (int64_t g = 0; g < layer.groups; ++g)
        out[static_cast<size_t>(g)].add(p.x.data() + g * p.positions * layer.columns, p.y.data() + g * p.positions * rows, p.positions);
    }
    return out;
  }

  static void improve(const Settings& settings, const GraphView& graph, const Layer& layer) {
    const std::vector<adaround::Grid> grid = grids(graph, layer);
    if (grid.empty()) return graph.report(layer.name, "left", "its weights have no scale per output channel", 0, 0);
    const auto n = static_cast<size_t>(layer.outputs);
    const std::vector<float> weights = floats(graph, layer.weight), bias = layer.bias >= 0 ? floats(graph, layer.bias) : std::vector<float>();
    std::vector<float> new_weights = weights, new_bias = bias;
    const int64_t rows = layer.outputs / layer.groups;
    std::vector<adaround::Moments> sums = moments(settings, graph, layer);
    for (int64_t g = 0; g < layer.groups; ++g) {
      const adaround::Rounder rounder(std::move(sums[static_cast<size_t>(g)]), settings.damping, !bias.empty());
      parallel_for(rows, [&](int64_t r) {
        const int64_t o = g * rows + r;
        std::vector<float> row(static_cast<size_t>(layer.columns));
        for (int64_t k = 0; k < layer.columns; ++k) row[static_cast<size_t>(k)] = weights[layer.index(o, k)];
        const adaround::Grid& grid_of_row = grid[static_cast<size_t>(o)];
        const std::vector<int64_t> codes = rounder.round(r, row.data(), grid_of_row);
        for (size_t k = 0; k < row.size(); ++k) row[k] = static_cast<float>(static_cast<double>(codes[k] - grid_of_row.zero) * grid_of_row.scale);
        for (int64_t k = 0; k < layer.columns; ++k) new_weights[layer.index(o, k)] = row[static_cast<size_t>(k)];
        if (!bias.empty()) new_bias[static_cast<size_t>(o)] = static_cast<float>(rounder.bias(r, row));
      });
    }

    std::vector<double> before(n), after(n), difference(n);
    graph.measure(layer.node, settings.samples, before, difference);
    Transaction change(graph);
    const auto put_all = [&] {
      put(graph, layer.weight, new_weights);
      if (!bias.empty()) put(graph, layer.bias, new_bias);
    };
    put_all();
    graph.measure(layer.node, settings.samples, after, difference);
    size_t kept = 0;
    double error_before = 0, error_after = 0;
    for (size_t o = 0; o < n; ++o) {
      error_before += before[o] / static_cast<double>(n);
      if (after[o] < before[o]) {
        ++kept;
        error_after += after[o] / static_cast<double>(n);
        continue;
      }
      error_after += before[o] / static_cast<double>(n);
      for (int64_t k = 0; k < layer.columns; ++k) new_weights[layer.index(static_cast<int64_t>(o), k)] = weights[layer.index(static_cast<int64_t>(o), k)];
      if (!bias.empty()) new_bias[o] = bias[o];
    }
    if (kept == 0) {
      change.rollback();
      return graph.report(layer.name, "left", "the measured error did not get lower", error_before, error_before);
    }
    if (kept < n) put_all();
    change.commit();
    graph.report(layer.name, "rounded", std::to_string(kept) + " of " + std::to_string(n) + " channels", error_before, error_after);
  }
};

}  // namespace

QUERN_SDK_ALGORITHMS(quern_sdk::Stages<AdaRound>)
