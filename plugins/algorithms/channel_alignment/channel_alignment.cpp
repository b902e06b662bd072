// Channel alignment. One scale serves all channels of an activation; channels that are much smaller than the largest lose
// their bits. Multiplying each by a factor of its own (rows of the weights before) and dividing it out (columns of the
// weights after) leaves the network's function as it is, exactly: the factors are powers of two.
//
// Intel POT aligns a pair of layers with nothing between, by arbitrary factors. Here a factor goes through Relu, pooling,
// residual sums and depthwise convolutions (groups.hpp).
//
// What aligns activations spreads the columns of the weights that read them. For each group of tensors the factors
//   f_c = 2^round(t * log2(R / r_c)),   r_c the largest |x| of channel c, R the largest of all
// are tried for several t from 0 (nothing) to 1 (all channels alike), and the t is taken that has the least expected noise
// at the outputs of the reading layers, from uniform rounding errors of both operands:
//   sum over layers of sum_o ( A^2 sum_c (w_oc / f_c)^2 + B_o^2 sum_c (m_c f_c)^2 ) / sum_oc (w_oc m_c)^2
// A the step of the activation, B_o that of the weights of output o, m_c = r_c / 3 for the typical size of channel c.
#include <cmath>
#include <cstdio>

#include "groups.hpp"

namespace {

using namespace quern_sdk;
using alignment::Group;
using alignment::Layer;

constexpr int largest_exponent = 12;          // factors up to 4096; beyond that a channel is noise
constexpr double activation_levels = 255, weight_levels = 254;
constexpr double least_gain = 0.5;            // the estimate is good to a factor of about two: less than that is left alone

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

// Largest |x| per channel of a value, from its min and max.
std::vector<double> sizes(const GraphView& graph, int32_t value) {
  const quern_statistic s = graph.statistic(value, stat_request(QUERN_STAT_MIN_MAX, 1));
  std::vector<double> out(s.channels);
  for (size_t c = 0; c < out.size(); ++c) out[c] = std::max(std::fabs(s.low[c]), std::fabs(s.high[c]));
  return out;
}

std::vector<int> exponents(const std::vector<double>& size, double t) {
  double largest = 0;
  for (double s : size) largest = std::max(largest, s);
  std::vector<int> out(size.size(), 0);
  for (size_t c = 0; c < size.size(); ++c)
    if (size[c] > 0) out[c] = static_cast<int>(std::min<double>(largest_exponent, std::floor(t * std::log2(largest / size[c]) + 0.5)));
  return out;
}

// Expected noise of one reading layer, relative to its signal. Depthwise layers have one column an output: their weights
// scale with the channel and lose nothing.
double noise(const Layer& layer, const std::vector<float>& weight, const std::vector<double>& size, const std::vector<int>& exponent) {
  double step = 0, signal = 0, total = 0;
  for (size_t c = 0; c < size.size(); ++c) step = std::max(step, std::ldexp(size[c], exponent[c]));
  step /= activation_levels;
  for (int64_t o = 0; o < layer.outputs; ++o) {
    double largest = 0, from_activations = 0, from_weights = 0;
    for (int64_t k = 0; k < layer.columns; ++k) {
      const auto c = static_cast<size_t>(layer.channel(o, k));
      const double typical = size[c] / 3;
      for (int64_t t = 0; t < layer.taps; ++t) {
        const double w = weight[layer.index(o, k, t)], scaled = std::ldexp(w, -exponent[c]);
        largest = std::max(largest, std::fabs(scaled));
        from_activations += scaled * scaled;
        signal += w * w * typical * typical;
      }
      const double moved = std::ldexp(typical, exponent[c]);
      from_weights += static_cast<double>(layer.taps) * moved * moved;
    }
    const double weight_step = 2 * largest / weight_levels;
    total += (step * step * from_activations + weight_step * weight_step * from_weights) / 12;
  }
  return signal > 0 ? total / signal : 0;
}

std::string number(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", v);
  for (char& c : text) if (c == ',') c = '.';  // some locales
  return text;
}

class ChannelAlignment {
 public:
  static constexpr std::string_view name = "channel_alignment", reads = "weights,bias,statistics", changes = "weights,bias";
  static constexpr uint32_t when = QUERN_STAGE_BEFORE_RANGES;
  static constexpr std::string_view parameters = R"({"type": "object", "additionalProperties": false, "properties": {}})";

  void plan(const Json& p, const GraphView& graph, StatisticsPlan& statistics) {
    p.only({}, "channel_alignment");
    for (const Group& g : alignment::find_groups(graph))
      for (int32_t v : g.quantized) statistics.request(v, stat_request(QUERN_STAT_MIN_MAX, 1));
  }

  void run(const Json& p, GraphView& graph) {
    p.only({}, "channel_alignment");
    for (const Group& g : alignment::find_groups(graph)) {
      if (cancelled()) throw Failure(QUERN_CANCELLED, "channel_alignment: interrupted");
      align(graph, g);
    }
  }

 private:
  static void align(const GraphView& graph, const Group& g) {
    std::vector<std::vector<double>> by_value;
    std::vector<double> size(static_cast<size_t>(g.channels), 0);
    for (int32_t v : g.quantized) {
      by_value.push_back(sizes(graph, v));
      if (by_value.back().size() != size.size()) return;
      for (size_t c = 0; c < size.size(); ++c) size[c] = std::max(size[c], by_value.back()[c]);
    }
    // Sizes as each reader sees them: of its own input where that is quantized, else of the group.
    std::vector<std::vector<float>> weights;
    std::vector<const std::vector<double>*> seen;
    for (const Layer& reader : g.readers) {
      weights.push_back(floats(graph, reader.weight));
      const std::vector<double>* own = &size;
      for (size_t i = 0; i < g.quantized.size(); ++i)
        if (g.quantized[i] == reader.input) own = &by_value[i];
      seen.push_back(own);
    }
    const auto expected = [&](const std::vector<int>& e) {
      double sum = 0;
      for (size_t i = 0; i < g.readers.size(); ++i) sum += noise(g.readers[i], weights[i], *seen[i], e);
      return sum;
    };
    const std::vector<int> nothing(size.size(), 0);
    const double before = expected(nothing);
    std::vector<int> best = nothing;
    double least = before;
    for (int step = 1; step <= 8; ++step) {
      const std::vector<int> e = exponents(size, step / 8.0);
      const double n = expected(e);
      if (n < least) { least = n; best = e; }
    }
    const std::string where = g.makers.front().name;
    if (!(least < before * (1 - least_gain)))
      return graph.report(where, "left", "its channels are alike enough: no factors lower the expected noise", before, before);

    Transaction change(graph);
    for (const Layer& maker : g.makers) {
      std::vector<float> w = floats(graph, maker.weight);
      for (int64_t o = 0; o < maker.outputs; ++o)
        for (int64_t k = 0; k < maker.columns; ++k)
          for (int64_t t = 0; t < maker.taps; ++t) scale(w[maker.index(o, k, t)], best[static_cast<size_t>(o)]);
      put(graph, maker.weight, w);
      if (maker.bias < 0) continue;
      std::vector<float> b = floats(graph, maker.bias);
      for (size_t o = 0; o < b.size(); ++o) scale(b[o], best[o]);
      put(graph, maker.bias, b);
    }
    for (const Layer& reader : g.readers) {  // read again: a layer may be maker and reader of one group
      std::vector<float> w = floats(graph, reader.weight);
      for (int64_t o = 0; o < reader.outputs; ++o)
        for (int64_t k = 0; k < reader.columns; ++k)
          for (int64_t t = 0; t < reader.taps; ++t)
            scale(w[reader.index(o, k, t)], -best[static_cast<size_t>(reader.channel(o, k))]);
      put(graph, reader.weight, w);
    }
    change.commit();
    int moved = 0, top = 0;
    for (int e : best) { moved += e != 0; top = std::max(top, e); }
    graph.report(where, "aligned",
                 std::to_string(moved) + " of " + std::to_string(size.size()) + " channels of " + std::to_string(g.quantized.size()) +
                     " tensors, factors up to 2^" + std::to_string(top) + "; expected noise " + number(before) + " -> " + number(least),
                 before, least);
  }

  static void scale(float& value, int exponent) { value = std::ldexp(value, exponent); }
};

}  // namespace

QUERN_SDK_ALGORITHMS(quern_sdk::Stages<ChannelAlignment>)
