// What comes before the first run, for networks of 100, 1,000 and 10,000 nodes: reading a model (import and passes), placing
// quantizers, planning. Residual blocks of small convolutions, each with a Reshape by a computed size. `per_node` must not grow.
#include "bench/micro/data.hpp"
#include "core/engine/engine.hpp"
#include "core/graph/passes.hpp"
#include "core/graph/shapes.hpp"
#include "core/onnx/onnx.hpp"
#include "core/placement/placement.hpp"

namespace quern::bench {
namespace {

constexpr const char* rules_text = R"({
  "quern_rules": 1, "id": "bench",
  "types": {"u8": {"bits": 8, "signed": false, "zero_point": "free"}, "w8": {"bits": 8, "signed": true, "granularity": {"channel": {"axis": 0}}},
            "b32": {"bits": 32, "signed": true, "scale": {"product_of": ["input", "weight"]}}},
  "ops": [{"match": {"op": "Conv", "constant": ["weight", "bias"]},
           "configs": [{"id": "conv8", "inputs": {"input": "u8", "weight": "w8", "bias": "b32"}, "output": "u8", "contract": "dot"}]},
          {"match": {"op": ["Relu", "Reshape"]}, "configs": [{"id": "move8", "inputs": {"input": "u8"}, "output": "u8", "contract": "move"}]},
          {"match": {"op": "Add"}, "configs": [{"id": "add8", "inputs": {"a": "u8", "b": "u8"}, "output": "u8", "contract": "sum"}]}],
  "fuse": [{"name": "conv", "steps": [{"op": ["Conv"]}, {"op": ["Add"], "other": "residual", "types": ["u8"], "optional": true}, {"op": ["Relu"], "optional": true}]}],
  "passthrough": ["Relu", "Reshape"],
  "contracts": {
    "dot": {"form": "dot", "acc": {"bits": 32}, "post": [{"i2f32": {}}, {"fmul32": "multiplier"}, {"f2i": {"round": "half_even", "low": "qmin", "high": "qmax"}}]},
    "move": {"form": "move"},
    "sum": {"form": "elementwise2", "combine": "add", "post": [{"clamp": ["qmin", "qmax"]}]}}})";

struct Network {
  Graph g;
  int64_t made = 0;
  ValueId node(const std::string& op, int since, std::vector<ValueId> in, std::map<std::string, Attribute> attributes = {}) {
    const std::string name = op + std::to_string(made++);
    const ValueId out = g.add_value(name + ".out");
    g.add_node({.name = name, .op = op, .since_version = since, .inputs = std::move(in), .outputs = {out}, .attributes = std::move(attributes)});
    return out;
  }
};

Graph network(int64_t nodes) {
  Network n;
  ValueId v = n.g.add_value("x", DType::f32, Dims{-1, 8, 4, 4});
  n.g.set_inputs({v});
  const Tensor weight = uniform(DType::f32, {8, 8, 1, 1}, -1, 1), row = uniform(DType::f32, {8}, 0.5, 1.5);
  const Tensor two = Tensor::of<int64_t>({1}, std::vector<int64_t>{0}), rest = Tensor::of<int64_t>({3}, std::vector<int64_t>{8, 4, 4});
  const auto constant = [&](const Tensor& t) { return n.g.add_constant("c" + std::to_string(n.made++), t); };
  while (static_cast<int64_t>(n.g.node_slots()) < nodes) {
    const ValueId in = v;
    for (int k = 0; k < 3; ++k) {
      v = n.node("Conv", 11, {v, constant(weight), constant(row)});
      v = n.node("BatchNormalization", 15, {v, constant(row), constant(row), constant(row), constant(row)});
      if (k < 2) v = n.node("Relu", 14, {v});
    }
    v = n.node("Relu", 14, {n.node("Add", 14, {v, in})});
    const ValueId batch = n.node("Gather", 13, {n.node("Shape", 13, {v}), constant(two)});
    v = n.node("Reshape", 13, {v, n.node("Concat", 13, {batch, constant(rest)}, {{"axis", int64_t{0}}})});
    v = n.node("Relu", 14, {v});
  }
  n.g.set_outputs({v});
  return std::move(n.g);
}

void per_node(benchmark::State& state) {
  using benchmark::Counter;
  state.counters["per_node"] = Counter(static_cast<double>(state.range(0)), Counter::kIsIterationInvariantRate | Counter::kInvert);
}

void planning_import(benchmark::State& state) {
  const std::string bytes = export_onnx(network(state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(import_onnx_bytes(std::as_bytes(std::span(bytes)), "bench.onnx"));
  per_node(state);
}
BENCHMARK(planning_import)->Arg(100)->Arg(1000)->Arg(10000)->Unit(benchmark::kMillisecond);

void planning_passes(benchmark::State& state) {
  Graph g = network(state.range(0));
  infer_shapes(g);
  for (auto _ : state) {
    Graph copy = g;
    benchmark::DoNotOptimize(canonicalize(copy, evaluate_constant_node));
  }
  per_node(state);
}
BENCHMARK(planning_passes)->Arg(100)->Arg(1000)->Arg(10000)->Unit(benchmark::kMillisecond);

void planning_placement(benchmark::State& state) {
  Graph g = network(state.range(0));
  canonicalize(g, evaluate_constant_node);
  const Rules rules = parse_rules(rules_text, "bench.json");
  for (auto _ : state) benchmark::DoNotOptimize(place(g, rules));
  per_node(state);
}
BENCHMARK(planning_placement)->Arg(100)->Arg(1000)->Arg(10000)->Unit(benchmark::kMillisecond);

void planning_plan(benchmark::State& state) {
  Graph g = network(state.range(0));
  canonicalize(g, evaluate_constant_node);
  const NamedTensors x{{"x", normal({1, 8, 4, 4})}};
  for (auto _ : state) {
    Engine engine(g, {.providers = {onednn_provider(), own_float_provider()}});
    benchmark::DoNotOptimize(engine.plan_info(x));
  }
  per_node(state);
}
BENCHMARK(planning_plan)->Arg(100)->Arg(1000)->Arg(10000)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace quern::bench
