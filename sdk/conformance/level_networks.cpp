// L6: small networks, placed, lowered and run as Quern does it: the contract and the plugin on every layer, and the first that differs.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/base/error.hpp"
#include "core/engine/engine.hpp"
#include "core/graph/passes.hpp"
#include "core/graph/shapes.hpp"
#include "core/integer/integer.hpp"
#include "core/onnx/onnx.hpp"
#include "core/pipeline/ranges.hpp"
#include "core/pipeline/target_provider.hpp"
#include "sdk/conformance/cases.hpp"

namespace quern::conform {
namespace {

// Writes a float network down, layer by layer.
class Sketch {
 public:
  explicit Sketch(const Source& s) : s_(s) { g_.opset = 22; }

  ValueId input(Dims dims) {
    const ValueId v = g_.add_value("input", DType::f32, std::move(dims));
    g_.set_inputs({v});
    return v;
  }
  ValueId constant(Dims dims, double spread) {
    Tensor t(DType::f32, std::move(dims));
    auto v = t.mutable_values<float>();
    const uint64_t stream = 100 + g_.value_slots();
    for (size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>((static_cast<double>(s_.noise(stream, i) % 2001) / 1000 - 1) * spread);
    return g_.add_constant("constant" + std::to_string(g_.value_slots()), std::move(t));
  }
  ValueId integers(const std::vector<int64_t>& list) {
    return g_.add_constant("list" + std::to_string(g_.value_slots()), Tensor::of<int64_t>({static_cast<int64_t>(list.size())}, list));
  }
  ValueId node(const std::string& op, std::vector<ValueId> inputs, std::map<std::string, Attribute> attributes = {}) {
    Node n;
    n.name = fmt::format("{}{}", op, ++count_);
    n.op = op;
    for (const auto& gate : operator_gates())
      if (gate.op == op) n.since_version = gate.since_versions.back();
    n.inputs = std::move(inputs);
    n.attributes = std::move(attributes);
    n.outputs = {g_.add_value(n.name + "_out")};
    const ValueId out = n.outputs[0];
    g_.add_node(std::move(n));
    return out;
  }
  ValueId conv(ValueId x, int64_t in, int64_t out, int64_t k, int64_t stride = 1, int64_t group = 1, size_t axes = 2) {
    Dims w{out, in / group};
    for (size_t i = 0; i < axes; ++i) w.push_back(k);
    const double fan = static_cast<double>(in / group) * std::pow(static_cast<double>(k), static_cast<double>(axes));
    using Ints = std::vector<int64_t>;
    return node("Conv", {x, constant(w, 1.6 / std::sqrt(fan)), constant({out}, 0.3)},
                {{"kernel_shape", Ints(axes, k)}, {"strides", Ints(axes, stride)}, {"dilations", Ints(axes, 1)}, {"pads", Ints(2 * axes, k / 2)}, {"group", group}});
  }
  ValueId dense(ValueId x, int64_t in, int64_t out) {
    return node("Gemm", {x, constant({out, in}, 1.6 / std::sqrt(static_cast<double>(in))), constant({out}, 0.3)},
                {{"transB", int64_t{1}}, {"transA", int64_t{0}}, {"alpha", 1.0f}, {"beta", 1.0f}});
  }
  Graph finish(ValueId out) {
    g_.set_outputs({out});
    infer_shapes(g_);
    g_.check();
    return std::move(g_);
  }

 private:
  const Source& s_;
  Graph g_;
  int count_ = 0;
};

Graph image_network(const Source& s) {
  Sketch k(s);
  ValueId x = k.node("Relu", {k.conv(k.input({1, 3, 13, 11}), 3, 9, 3)});
  const ValueId branch = k.conv(x, 9, 9, 3);
  x = k.node("Relu", {k.node("Add", {branch, x})});
  x = k.node("MaxPool", {x}, {{"kernel_shape", std::vector<int64_t>{2, 2}}, {"strides", std::vector<int64_t>{2, 2}}, {"pads", std::vector<int64_t>(4, 0)}});
  const ValueId a = k.conv(x, 9, 8, 1), b = k.node("Relu", {k.conv(x, 9, 5, 3)});
  x = k.node("Concat", {a, b}, {{"axis", int64_t{1}}});
  x = k.node("GlobalAveragePool", {x});
  x = k.node("Flatten", {x}, {{"axis", int64_t{1}}});
  return k.finish(k.dense(x, 13, 7));
}

Graph depthwise_network(const Source& s) {
  Sketch k(s);
  ValueId x = k.node("Relu", {k.conv(k.input({1, 3, 12, 12}), 3, 16, 3, 2)});
  x = k.node("Relu", {k.conv(x, 16, 16, 3, 1, 16)});
  const ValueId y = k.conv(x, 16, 17, 1);
  x = k.node("HardSwish", {y});
  x = k.node("AveragePool", {x}, {{"kernel_shape", std::vector<int64_t>{3, 3}}, {"strides", std::vector<int64_t>{1, 1}}, {"pads", std::vector<int64_t>(4, 1)}});
  x = k.node("Mul", {x, k.node("Sigmoid", {y})});
  return k.finish(k.conv(x, 17, 4, 1));
}

Graph dense_network(const Source& s) {
  Sketch k(s);
  ValueId x = k.node("Relu", {k.dense(k.input({1, 24}), 24, 33)});
  const ValueId kept = x;
  x = k.node("Tanh", {k.dense(x, 33, 33)});
  x = k.node("Add", {x, kept});
  x = k.node("Sigmoid", {k.dense(x, 33, 19)});
  return k.finish(k.dense(x, 19, 5));
}

Graph signal_network(const Source& s) {
  Sketch k(s);
  ValueId x = k.node("Relu", {k.conv(k.input({1, 4, 40}), 4, 8, 5, 1, 1, 1)});
  x = k.node("MaxPool", {x}, {{"kernel_shape", std::vector<int64_t>{2}}, {"strides", std::vector<int64_t>{2}}, {"pads", std::vector<int64_t>(2, 0)}});
  x = k.node("Relu", {k.conv(x, 8, 12, 3, 2, 1, 1)});
  x = k.node("Reshape", {x, k.integers({1, -1})});
  return k.finish(k.dense(x, 120, 6));
}

Graph gate_network(const Source& s) {
  Sketch k(s);
  const ValueId x = k.input({1, 20});
  const ValueId gate = k.node("Sigmoid", {k.dense(x, 20, 20)}), value = k.node("Tanh", {k.dense(x, 20, 20)});
  const ValueId mixed = k.node("Mul", {gate, value});
  const ValueId both = k.node("Concat", {mixed, k.node("Add", {mixed, value})}, {{"axis", int64_t{1}}});
  return k.finish(k.dense(both, 40, 8));
}

NamedTensors feed_of(const Graph& g, const Source& s, uint64_t sample) {
  NamedTensors feed;
  for (const ValueId v : g.inputs()) {
    Tensor t(DType::f32, *g.value(v).shape);
    auto f = t.mutable_values<float>();
    for (size_t i = 0; i < f.size(); ++i) f[i] = static_cast<float>(s.noise(500 + sample, i) % 2001) / 500.f - 2;
    feed.emplace_back(g.value(v).name, std::move(t));
  }
  return feed;
}

// Types and ranges of every quantizer: the first type left, the extremes of a few runs. Tied ones share both.
void set_ranges(const Graph& g, const Rules& rules, Placement& placement, const Source& s) {
  std::map<std::string, Range> seen;
  std::set<std::string> taps;
  for (const Quantizer& q : placement.quantizers) taps.insert(g.value(q.value).name);
  Engine engine(g, {.providers = {own_float_provider()}, .taps = taps});
  auto runner = engine.runner();
  const auto note = [&](const std::string& name, std::span<const float> values) {
    Range& r = seen[name];
    for (const float v : values) r.low = std::min<double>(r.low, v), r.high = std::max<double>(r.high, v);
  };
  for (uint64_t sample = 0; sample < 3; ++sample)
    runner.run(feed_of(g, s, sample), [&](const std::string& name, const TensorView& view) {
      if (view.type != DType::f32) return;
      Tensor t(DType::f32, Dims(view.dims.begin(), view.dims.end()));
      copy(view, TensorView{t.mutable_bytes(), t.type(), t.dims(), row_major_strides(t.dims())});
      note(name, t.values<float>());
    });
  std::map<int, Range> united;
  const auto range_of = [&](const Quantizer& q) {
    const Value& v = g.value(q.value);
    if (v.is_constant() && !seen.count(v.name)) note(v.name, v.constant->values<float>());
    return seen[v.name];
  };
  for (const Quantizer& q : placement.quantizers)
    if (q.tie >= 0) {
      const Range r = range_of(q);
      Range& u = united[q.tie];
      u.low = std::min(u.low, r.low), u.high = std::max(u.high, r.high);
    }
  for (Quantizer& q : placement.quantizers) {
    if (q.kind == QuantizerKind::bias) continue;
    q.type = q.types.front();
    const TypeRule& type = rules.type(q.type);
    std::vector<Range> ranges{q.tie >= 0 ? united[q.tie] : range_of(q)};
    int axis = -1;
    if (type.granularity == GranularityRule::channel && q.channel_axis >= 0 && g.value(q.value).is_constant()) {
      axis = q.channel_axis;
      const Tensor& t = *g.value(q.value).constant;
      const auto values = t.values<float>();
      const int64_t step = row_major_strides(t.dims())[static_cast<size_t>(axis)], size = t.dims()[static_cast<size_t>(axis)];
      ranges.assign(static_cast<size_t>(size), {});
      for (int64_t i = 0; i < t.count(); ++i) {
        Range& r = ranges[static_cast<size_t>(i / step % size)];
        r.low = std::min<double>(r.low, values[static_cast<size_t>(i)]), r.high = std::max<double>(r.high, values[static_cast<size_t>(i)]);
      }
    }
    for (Range& r : ranges) if (r.high - r.low < 1e-4) r.high = r.low + 1e-4;
    q.params = params_for(type, ranges, axis);
  }
}

Outcome compare(const Bench& b, const std::string& name, Graph graph, const Source& s) {
  Placement placement = place(graph, *b.rules);
  if (placement.units.empty()) return {Verdict::skipped, "nothing of this network runs as integers", name};
  set_ranges(graph, *b.rules, placement, s);
  const IntegerModel model = lower(graph, placement, *b.rules, b.target());
  std::set<std::string> taps;
  std::map<std::string, std::string> made_by;
  for (const NodeId id : model.graph.order()) {
    const Node& n = model.graph.node(id);
    if (n.domain != "quern" || n.op != "Unit") continue;
    taps.insert(model.graph.value(n.outputs[0]).name);
    made_by[model.graph.value(n.outputs[0]).name] = n.name;
  }
  if (taps.empty()) return {Verdict::skipped, "it takes no unit of this network", name};
  for (const int threads : {1, 3}) {
    Engine by_contract(model.graph, {.providers = {interpreter_provider(), own_float_provider()}, .taps = taps});
    Engine by_plugin(model.graph, {.providers = {target_provider(b.subject.target, b.profile), own_float_provider()}, .op_threads = threads, .taps = taps});
    auto expected = by_contract.runner(), got = by_plugin.runner();
    for (uint64_t sample = 0; sample < 4; ++sample) {
      std::map<std::string, Tensor> seen;
      std::string first;
      const auto copied = [](const TensorView& view) {
        Tensor t(view.type, Dims(view.dims.begin(), view.dims.end()));
        copy(view, TensorView{t.mutable_bytes(), t.type(), t.dims(), row_major_strides(t.dims())});
        return t;
      };
      expected.run(feed_of(graph, s, 10 + sample), [&](const std::string& value, const TensorView& view) { if (taps.count(value)) seen[value] = copied(view); });
      got.run(feed_of(graph, s, 10 + sample), [&](const std::string& value, const TensorView& view) {
        if (!taps.count(value) || !first.empty()) return;
        const std::string d = difference(seen.at(value), copied(view));
        if (!d.empty()) first = fmt::format("the first layer that differs is '{}' (sample {}, {} threads): {}", made_by[value], sample, threads, d);
      });
      if (!first.empty()) return {Verdict::fail, first, name};
    }
  }
  return {Verdict::pass, "", fmt::format("{}: {} of {} nodes as integers", name, model.integer_nodes, model.integer_nodes + model.float_nodes)};
}

}  // namespace

void network_cases(const Bench& bench, std::vector<Case>& out) {
  const std::pair<const char*, Graph (*)(const Source&)> networks[] = {
      {"image", image_network}, {"depthwise", depthwise_network}, {"dense", dense_network}, {"signal", signal_network}, {"gates", gate_network}};
  for (const auto& [name, make] : networks)
    out.push_back({fmt::format("L6/{}/{}", bench.profile, name), [bench, name = std::string(name), make = make](const Source& s) {
                     try {
                       return compare(bench, name, make(s), s);
                     } catch (const Error& e) {
                       return Outcome{Verdict::fail, e.what(), name};
                     }
                   }});
}

}  // namespace quern::conform
