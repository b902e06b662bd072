// Bias correction. Quantizing shifts the mean of a layer's output; the bias can take the shift back.
//
// For every Conv, Gemm and MatMul with quantized, constant weights and a constant bias, in topological order:
//   shift   fast: mean over positions of (output with float weights - output with quantized weights), both computed by running
//           the node alone on its mean input (every channel filled with its mean over the calibration data). Padding acts on
//           both alike, so that only the weights' error is left.
//           full: mean over samples and positions of (float output - estimated output), with everything before the layer
//           quantized and corrected as it stands: the error that has piled up on the way is taken back too.
//   gate    a channel whose shift is larger than `threshold` times the range of its float output is left alone: something
//           else is wrong there. Relative to the output and not to the bias: a bias of zero is no reason to do nothing.
//   proof   the error of the layer's output is measured before and after, on `samples` calibration samples, with everything
//           quantized as it stands. Channels that got worse get their bias back; when none got better, nothing is changed.
#include <quern/plugin.hpp>

#include <cmath>
#include <cstdio>

namespace {

using namespace quern_sdk;

struct Settings {
  bool full = false;
  uint32_t samples = 32;
  double threshold = 0.5;
};

Settings settings_of(const Json& p) {
  p.only({"mode", "samples", "threshold"}, "bias_correction");
  const std::string mode = p.text("mode", "fast");
  if (mode != "fast" && mode != "full") throw Failure(QUERN_INVALID_ARGUMENT, "bias_correction: there is no mode '" + mode + "'; there are fast and full");
  Settings s;
  s.full = mode == "full";
  const int64_t samples = p.integer("samples", s.samples);
  if (samples < 1 || samples > 1000000) throw Failure(QUERN_INVALID_ARGUMENT, "bias_correction: samples must be from 1 to 1000000");
  s.samples = static_cast<uint32_t>(samples);
  s.threshold = p.number("threshold", s.threshold);
  if (!(s.threshold > 0)) throw Failure(QUERN_INVALID_ARGUMENT, "bias_correction: threshold must be above 0");
  return s;
}

// A layer that can be corrected: where things are.
struct Layer {
  uint32_t node = 0;
  std::string name;
  uint32_t n_inputs = 0;
  int32_t input_slot = -1, weight_slot = -1;
  int32_t input = -1, bias = -1, output = -1;  // values
  int32_t input_axis = 1, output_axis = 1;     // of channels
};

bool find_layer(const GraphView& graph, uint32_t index, Layer& layer) {
  const quern_node_view raw = graph.node(index);
  const GraphNode node(raw);
  const bool conv = node.op() == "Conv" || node.op() == "ConvTranspose";
  if (!conv && node.op() != "Gemm" && node.op() != "MatMul") return false;
  if (node.op() == "Gemm" && node.integer("transA", 0) != 0) return false;
  layer.node = index;
  layer.name = std::string(node.name());
  layer.n_inputs = raw.n_inputs;
  layer.input_slot = graph.slot(index, "input");
  layer.weight_slot = graph.slot(index, "weight");
  const int32_t bias_slot = graph.slot(index, "bias");
  auto value_at = [&](int32_t slot) { return slot >= 0 && slot < static_cast<int32_t>(raw.n_inputs) ? raw.inputs[slot] : -1; };
  layer.input = value_at(layer.input_slot);
  layer.bias = value_at(bias_slot);
  const int32_t weight = value_at(layer.weight_slot);
  if (layer.input < 0 || layer.bias < 0 || weight < 0 || raw.n_outputs == 0) return false;
  layer.output = raw.outputs[0];
  if (!graph.value(weight).is_constant || !graph.value(layer.bias).is_constant || graph.value(layer.input).is_constant) return false;
  if (!conv) {
    const quern_value_view input = graph.value(layer.input), output = graph.value(layer.output);
    if (input.rank < 2 || output.rank < 2) return false;
    layer.input_axis = static_cast<int32_t>(input.rank) - 1;
    layer.output_axis = static_cast<int32_t>(output.rank) - 1;
  }
  return true;
}

// Means per index of `axis`.
std::vector<double> channel_means(const quern_tensor& t, int32_t axis) {
  const TensorView view(t);
  const Span<const float> data = view.values<const float>();
  if (axis < 0 || static_cast<uint32_t>(axis) >= view.rank()) throw Failure(QUERN_INTERNAL, "an output has fewer axes than its value");
  const auto channels = static_cast<size_t>(view.dim(static_cast<size_t>(axis)));
  size_t inner = 1;
  for (size_t i = static_cast<size_t>(axis) + 1; i < view.rank(); ++i) inner *= static_cast<size_t>(view.dim(i));
  std::vector<double> sums(channels);
  for (size_t i = 0; i < data.size(); ++i) sums[i / inner % channels] += data[i];
  const double n = channels ? static_cast<double>(data.size()) / static_cast<double>(channels) : 1;
  for (double& s : sums) s /= n;
  return sums;
}

double total(const std::vector<double>& v) {
  double sum = 0;
  for (double x : v) sum += x;
  return sum;
}

std::string number(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", v);
  for (char& c : text) if (c == ',') c = '.';  // some locales
  return text;
}

class BiasCorrection {
 public:
  static constexpr std::string_view name = "bias_correction", reads = "weights,bias,statistics", changes = "bias";
  static constexpr uint32_t when = QUERN_STAGE_AFTER_RANGES;
  static constexpr std::string_view parameters = R"({
    "type": "object", "additionalProperties": false,
    "properties": {
      "mode": {"enum": ["fast", "full"], "default": "fast", "description": "fast: from the mean input of each layer; full: from the measured outputs"},
      "samples": {"type": "integer", "minimum": 1, "maximum": 1000000, "default": 32,
                  "description": "calibration samples on which the error is measured before and after"},
      "threshold": {"type": "number", "exclusiveMinimum": 0, "default": 0.5,
                    "description": "largest shift of a channel, as a part of the range of its float output"}
    }})";

  void plan(const Json& p, const GraphView& graph, StatisticsPlan& statistics) {
    const Settings settings = settings_of(p);
    for (uint32_t i = 0; i < graph.nodes(); ++i) {
      Layer layer;
      if (!find_layer(graph, i, layer)) continue;
      if (!settings.full) statistics.request(layer.input, stat_request(QUERN_STAT_MEAN, layer.input_axis));
      statistics.request(layer.output, stat_request(QUERN_STAT_MIN_MAX, layer.output_axis));
    }
  }

  void run(const Json& p, GraphView& graph) {
    const Settings settings = settings_of(p);
    for (uint32_t i = 0; i < graph.nodes(); ++i) {
      if (cancelled()) throw Failure(QUERN_CANCELLED, "bias_correction: interrupted");
      Layer layer;
      if (find_layer(graph, i, layer) && graph.quantizer(i, layer.weight_slot)) correct(settings, graph, layer);
    }
  }

 private:
  // The shift of the output's mean per channel, or empty with a reason.
  static std::vector<double> shifts(const GraphView& graph, const Layer& layer, std::string& why) {
    const quern_statistic means = graph.statistic(layer.input, stat_request(QUERN_STAT_MEAN, layer.input_axis));
    const std::vector<double> mean(means.mean, means.mean + means.channels);
    const quern_value_view input = graph.value(layer.input);
    std::vector<int64_t> dims(input.dims, input.dims + input.rank);
    if (dims.empty()) { why = "the shape of its input is not known"; return {}; }
    dims[0] = 1;
    int64_t count = 1;
    for (int64_t d : dims) {
      if (d < 1) { why = "the shape of its input is not known"; return {}; }
      count *= d;
    }
    const auto axis = static_cast<size_t>(layer.input_axis);
    if (axis >= dims.size() || static_cast<size_t>(dims[axis]) != mean.size()) { why = "its statistics do not fit its input"; return {}; }
    size_t inner = 1;
    for (size_t d = axis + 1; d < dims.size(); ++d) inner *= static_cast<size_t>(dims[d]);
    std::vector<float> blob(static_cast<size_t>(count));
    for (size_t j = 0; j < blob.size(); ++j) blob[j] = static_cast<float>(mean[j / inner % mean.size()]);

    const OwnTensor filled(Span<const float>(blob.data(), blob.size()), dims);
    std::vector<quern_tensor> inputs(layer.n_inputs, make<quern_tensor>());  // no data: the node's own constant
    inputs[static_cast<size_t>(layer.input_slot)] = filled.raw();
    const Span<const quern_tensor> span(inputs.data(), inputs.size());
    const std::vector<double> exact = channel_means(graph.run_node(layer.node, span, false), layer.output_axis);
    const std::vector<double> rounded = channel_means(graph.run_node(layer.node, span, true), layer.output_axis);
    std::vector<double> shift(exact.size());
    for (size_t c = 0; c < shift.size(); ++c) shift[c] = exact[c] - rounded[c];
    return shift;
  }

  static void correct(const Settings& settings, const GraphView& graph, const Layer& layer) {
    const quern_tensor constant = graph.constant(layer.bias);
    const TensorView bias_view(constant);
    const Span<const float> bias_data = bias_view.values<const float>();
    const std::vector<float> bias(bias_data.begin(), bias_data.end());
    const std::vector<int64_t> bias_dims(bias_view.dims().begin(), bias_view.dims().end());

    std::string why;
    std::vector<double> before(bias.size()), after(bias.size()), difference(bias.size());
    std::vector<double> shift;
    if (settings.full) {
      graph.measure(layer.node, settings.samples, before, difference);
      for (double d : difference) shift.push_back(-d);  // measured: estimated - float
    } else {
      shift = shifts(graph, layer, why);
    }
    if (why.empty() && shift.size() != bias.size()) why = "its bias is not one value per output channel";
    if (!why.empty()) return graph.report(layer.name, "left", why, 0, 0);

    // The gate.
    const quern_statistic seen = graph.statistic(layer.output, stat_request(QUERN_STAT_MIN_MAX, layer.output_axis));
    if (seen.channels != bias.size()) return graph.report(layer.name, "left", "its statistics do not fit its output", 0, 0);
    size_t gated = 0;
    bool any = false;
    for (size_t c = 0; c < shift.size(); ++c) {
      if (!(std::fabs(shift[c]) <= settings.threshold * (seen.high[c] - seen.low[c]))) {
        gated += shift[c] != 0;
        shift[c] = 0;
      }
      any = any || static_cast<float>(bias[c] + shift[c]) != bias[c];
    }
    const std::string channels = std::to_string(bias.size());
    if (!any)
      return graph.report(layer.name, "left",
                          gated ? "the shift of " + std::to_string(gated) + " of " + channels + " channels is above the threshold, of the rest zero"
                                : "rounding its weights does not shift its output", 0, 0);

    if (!settings.full) graph.measure(layer.node, settings.samples, before, difference);
    std::vector<float> corrected(bias.size());
    for (size_t c = 0; c < bias.size(); ++c) corrected[c] = static_cast<float>(bias[c] + shift[c]);

    Transaction change(graph);
    const OwnTensor first(Span<const float>(corrected.data(), corrected.size()), bias_dims);
    graph.set_constant(layer.bias, first.raw());
    graph.measure(layer.node, settings.samples, after, difference);
    // A bias acts on its own channel alone, so the channels can be judged one by one.
    size_t kept = 0, worse = 0;
    double largest = 0;
    for (size_t c = 0; c < bias.size(); ++c) {
      if (corrected[c] == bias[c]) { after[c] = before[c]; continue; }
      if (after[c] < before[c]) {
        ++kept;
        largest = std::max(largest, std::fabs(shift[c]));
      } else {
        ++worse;
        corrected[c] = bias[c];
        after[c] = before[c];
      }
    }
    const auto n = static_cast<double>(bias.size());
    const double error_before = total(before) / n, error_after = total(after) / n;
    if (kept == 0) {
      change.rollback();
      return graph.report(layer.name, "left", "the measured error did not get lower", error_before, error_before);
    }
    if (worse > 0) {
      const OwnTensor second(Span<const float>(corrected.data(), corrected.size()), bias_dims);
      graph.set_constant(layer.bias, second.raw());
    }
    change.commit();
    std::string reason = std::to_string(kept) + " of " + channels + " channels, largest shift " + number(largest);
    if (worse) reason += "; " + std::to_string(worse) + " got worse and keep their bias";
    if (gated) reason += "; " + std::to_string(gated) + " above the threshold";
    graph.report(layer.name, "corrected", reason, error_before, error_after);
  }
};

}  // namespace

QUERN_SDK_ALGORITHMS(quern_sdk::Stages<BiasCorrection>)
