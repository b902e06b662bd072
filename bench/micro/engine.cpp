// What the engine adds to its kernels: chains of Neg on 8 floats, whose kernels take a few nanoseconds, so that nearly all of
// the time is the engine's. One thread. `per_node` is the time of a run divided by its nodes; a chain of one shows the cost of
// a call. `plan` builds the plan of a chain (shapes, groups, kernels, memory), as the first run at a shape does.
#include "bench/micro/data.hpp"
#include "core/engine/engine.hpp"

namespace quern::bench {
namespace {

Graph chain(int64_t nodes) {
  Graph g;
  ValueId v = g.add_value("x", DType::f32, Dims{1, 8});
  g.set_inputs({v});
  for (int64_t i = 0; i < nodes; ++i) {
    const ValueId out = g.add_value("v" + std::to_string(i));
    g.add_node({.name = "n" + std::to_string(i), .op = "Neg", .since_version = 13, .inputs = {v}, .outputs = {out}});
    v = out;
  }
  g.set_outputs({v});
  return g;
}
NamedTensors input() { return {{"x", normal({1, 8})}}; }
EngineOptions options() { return {.providers = {onednn_provider(), own_float_provider()}}; }
void per_node(benchmark::State& state) {
  using benchmark::Counter;
  state.counters["per_node"] = Counter(static_cast<double>(state.range(0)), Counter::kIsIterationInvariantRate | Counter::kInvert);
}

void engine_run(benchmark::State& state) {
  Engine engine(chain(state.range(0)), options());
  Runner runner = engine.runner();
  const NamedTensors x = input();
  for (auto _ : state) benchmark::DoNotOptimize(runner.run(x));
  per_node(state);
}
BENCHMARK(engine_run)->Arg(1)->Arg(16)->Arg(256);

// The gates of a GRU of 64 units: one island of ten operators.
void engine_run_gates(benchmark::State& state) {
  Graph g;
  const ValueId gates = g.add_value("gates", DType::f32, Dims{1, 1, 128}), late = g.add_value("late", DType::f32, Dims{1, 1, 64}), h = g.add_value("h", DType::f32, Dims{1, 1, 64});
  g.set_inputs({gates, late, h});
  const auto op = [&](const std::string& type, std::vector<ValueId> in, size_t outputs = 1) {
    Node n{.name = type + std::to_string(g.node_slots()), .op = type, .since_version = 13, .inputs = std::move(in), .outputs = {}};
    for (size_t i = 0; i < outputs; ++i) n.outputs.push_back(g.add_value(n.name + "_" + std::to_string(i)));
    if (type == "Split") n.attributes["axis"] = int64_t{2};
    const std::vector<ValueId> out = n.outputs;
    g.add_node(std::move(n));
    return out;
  };
  const auto zr = op("Split", op("Sigmoid", {gates}), 2);
  const ValueId candidate = op("Tanh", op("Add", {late, op("Mul", {zr[1], h})[0]}))[0];
  g.set_outputs(op("Add", {candidate, op("Mul", {zr[0], op("Sub", {h, candidate})[0]})[0]}));
  Engine engine(std::move(g), options());
  Runner runner = engine.runner();
  const NamedTensors in{{"gates", normal({1, 1, 128})}, {"late", normal({1, 1, 64})}, {"h", normal({1, 1, 64})}};
  for (auto _ : state) benchmark::DoNotOptimize(runner.run(in));
}
BENCHMARK(engine_run_gates);

void engine_run_tapped(benchmark::State& state) {  // every value is observed
  EngineOptions o = options();
  const Graph g = chain(state.range(0));
  for (int64_t i = 0; i < state.range(0); ++i) o.taps.insert("v" + std::to_string(i));
  Engine engine(g, o);
  Runner runner = engine.runner();
  const NamedTensors x = input();
  int64_t seen = 0;
  for (auto _ : state) runner.run(x, [&](const std::string&, const TensorView& view) { seen += view.count(); });
  benchmark::DoNotOptimize(seen);
  per_node(state);
}
BENCHMARK(engine_run_tapped)->Arg(256);

// A cut: the plan of the second segment is in the cache. A run adds what finding the sizes and entering the next segment takes.
void engine_run_cut(benchmark::State& state) {
  Graph g;
  const ValueId x = g.add_value("x", DType::f32, Dims{64}), places = g.add_value("places"), y = g.add_value("y");
  g.set_inputs({x});
  g.add_node({.name = "where", .op = "NonZero", .since_version = 13, .inputs = {x}, .outputs = {places}});
  g.add_node({.name = "neg", .op = "Neg", .since_version = 13, .inputs = {places}, .outputs = {y}});
  g.set_outputs({y});
  Engine engine(std::move(g), options());
  Runner runner = engine.runner();
  const NamedTensors in{{"x", normal({64})}};
  for (auto _ : state) benchmark::DoNotOptimize(runner.run(in));
}
BENCHMARK(engine_run_cut);

// NonMaxSuppression of 1,000 boxes in 20 classes, as a detector of 640 x 640 has after a first choice.
void engine_run_suppression(benchmark::State& state) {
  Graph g;
  const ValueId boxes = g.add_value("boxes", DType::f32, Dims{1, 1000, 4}), scores = g.add_value("scores", DType::f32, Dims{1, 20, 1000});
  const ValueId kept = g.add_value("kept");
  g.set_inputs({boxes, scores});
  const ValueId most = g.add_constant("most", Tensor::scalar<int64_t>(100)), iou = g.add_constant("iou", Tensor::scalar(0.5F)),
                least = g.add_constant("least", Tensor::scalar(0.3F));
  g.add_node({.name = "nms", .op = "NonMaxSuppression", .since_version = 11, .inputs = {boxes, scores, most, iou, least}, .outputs = {kept},
              .attributes = {{"center_point_box", int64_t{1}}}});
  g.set_outputs({kept});
  Engine engine(std::move(g), options());
  Runner runner = engine.runner();
  const NamedTensors in{{"boxes", uniform(DType::f32, {1, 1000, 4}, 0, 100)}, {"scores", uniform(DType::f32, {1, 20, 1000}, 0, 1)}};
  for (auto _ : state) benchmark::DoNotOptimize(runner.run(in));
}
BENCHMARK(engine_run_suppression);

void engine_plan(benchmark::State& state) {
  const Graph g = chain(state.range(0));
  const NamedTensors x = input();
  for (auto _ : state) {
    Engine engine(g, options());
    benchmark::DoNotOptimize(engine.plan_info(x));
  }
  per_node(state);
}
BENCHMARK(engine_plan)->Arg(256)->Arg(10000);

}  // namespace
}  // namespace quern::bench
