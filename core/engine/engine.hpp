// The executor. One graph, many plans (one per set of input shapes, a bounded cache), any number of runners.
//
//   Engine engine(graph, {.providers = {onednn_provider(), own_float_provider()}});
//   auto runner = engine.runner();                          // one per thread
//   std::vector<NamedTensor> out = runner.run({{"input", x}});
//
// A plan fixes: groups of fused nodes with prepared kernels, layouts and the reorders between them, one memory arena with
// an offset per value. Planning is done once per shape under a lock; running takes no lock.
//
// Where shapes depend on data (NonMaxSuppression, a Reshape whose shape is computed), a run goes in segments: the plan ends before the
// nodes whose shapes it can't know, and what its run has found gives the plan of the next segment, cached like any other. Networks
// without such nodes have one segment and pay nothing.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "core/engine/provider.hpp"

namespace quern {

struct EngineOptions {
  std::vector<std::shared_ptr<const Provider>> providers = {};
  int op_threads = 1;                  // threads inside an operator
  std::set<std::string> taps = {};     // values that must exist (not fused away) so that they can be observed
  bool keep_all = false;               // runners keep every value, for rerun()
  size_t plan_cache = 8;               // sets of input shapes; and 4 times as many plans of later segments
  size_t memory_limit = 0;             // bytes for the values of one segment; 0: the memory of this machine. More is Error(memory)
};

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;
// Called for every tapped value when it has been computed (graph inputs included); the view is valid during the call only.
using TapFunction = std::function<void(const std::string& value, const TensorView& view)>;

struct PlanCopy { std::string value; bool turns = false; size_t bytes = 0; };  // turns: to another layout; else into the arena
struct PlanStep {
  std::string node, op, kernel, provider;
  bool portable = true;
  std::vector<std::string> members;
  int64_t macs = 0;                  // multiply-accumulates of one run
  std::vector<PlanCopy> copies;      // made before the kernel
  int segment = 0;
};
struct PlanInfo { std::vector<PlanStep> steps; size_t arena_bytes = 0, workspace_bytes = 0; int reorders = 0, segments = 1; };

// Seconds of one run. What is missing to `total` is the runner's own work between the steps.
struct RunProfile {
  std::vector<double> kernels, copies;  // by step, in the order of PlanInfo::steps
  double outputs = 0;                   // copies of the results, for the caller
  double total = 0;
};

class Plan;

class Runner {
 public:
  ~Runner();
  Runner(Runner&&) noexcept;
  // Inputs by name: types and ranks are checked (Error(data) naming the input and what is expected). Outputs in the order of
  // the graph, row major, owned by the caller.
  NamedTensors run(const NamedTensors& inputs, const TapFunction& tap = {});
  // Runs again only what depends on `changed` nodes (their constants were replaced with Engine::set_constant), on the values
  // kept from the last run. Needs keep_all.
  NamedTensors rerun(const std::vector<NodeId>& changed, const TapFunction& tap = {});
  // The times of the last run or rerun; only after profile(true). A step that a rerun leaves out took 0.
  void profile(bool on);
  const RunProfile& last_profile() const;
  PlanInfo plan_info() const;  // of the last run, all segments; nothing before a run
  // Sums that accumulators cut off, in all runs of this runner: by name of the node, where there were any.
  const std::map<std::string, uint64_t>& saturations() const;

 private:
  friend class Engine;
  struct State;
  explicit Runner(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

class Engine {
 public:
  Engine(Graph graph, EngineOptions options);
  ~Engine();
  const Graph& graph() const;
  Runner runner();
  Runner runner(int op_threads);  // instead of options.op_threads
  // Replaces a constant; kernels that use it are prepared again at the next run. Not while runners run.
  void set_constant(ValueId value, Tensor tensor);
  PlanInfo plan_info(const NamedTensors& inputs);  // runs the model where shapes depend on data
  // Nodes no provider knows, with the reason; Engine's constructor throws Error(model) listing them unless `lenient`.
  static std::vector<NodeId> unknown_nodes(const Graph& graph, const EngineOptions& options);

 private:
  friend class Runner;
  struct State;
  std::shared_ptr<State> state_;
};

// Runs every sample of 0..count-1, one sample and one thread per kernel, in parallel over samples; `done(index, outputs)` is
// called in the order of indices, from one thread at a time.
void run_samples(Engine& engine, int64_t count, int threads, const std::function<NamedTensors(int64_t)>& input,
                 const std::function<void(int64_t index, int worker, const std::string& value, const TensorView&)>& tap,
                 const std::function<void(int64_t index, NamedTensors outputs)>& done);

// Folds one node of constants with the kernels of `own_float_provider` (and oneDNN where needed); for graph/passes.hpp.
std::optional<std::vector<Tensor>> evaluate_constant_node(const Graph& graph, const Node& node);

// What float results may depend on: "avx512", "avx2", "sse41" as oneDNN dispatches (ONEDNN_MAX_CPU_ISA respected).
std::string float_class();

}  // namespace quern
