// What Engine and its runners share. Private to the engine room.
#pragma once
#include <atomic>
#include <list>
#include <memory>
#include <mutex>

#include "core/engine/engine.hpp"
#include "core/engine/plan.hpp"

namespace quern {

struct Engine::State {
  Graph graph;
  EngineOptions options;
  GraphFacts facts;
  std::atomic<uint64_t> epoch{0};                 // counts set_constant
  std::mutex mutex;                               // guards what follows, and the making of plans
  std::list<std::shared_ptr<Plan>> plans;         // most recently used first
  std::map<ValueId, uint64_t> changed_at;         // epoch of the last set_constant

  // The plan for these shapes, up to date with all constants; from the cache or made now.
  std::shared_ptr<Plan> plan(int threads, const std::vector<Dims>& input_dims);
  bool up_to_date(const Plan& plan) const { return plan.epoch == epoch.load(std::memory_order_acquire); }
  // Tensors by graph input, in order. Error(data) when names, types or shapes do not fit.
  void match_inputs(const NamedTensors& given, std::vector<const Tensor*>& matched) const;
};

struct Runner::State {
  struct BoundStep { size_t inputs = 0, outputs = 0; };  // where the views of the step begin
  struct Free { void operator()(void* p) const; };
  using Memory = std::unique_ptr<void, Free>;

  std::shared_ptr<Engine::State> engine;
  int threads = 1;
  std::shared_ptr<Plan> plan;
  uint64_t bound_epoch = 0;
  Memory arena, workspace;
  size_t arena_size = 0, workspace_size = 0;
  std::vector<TensorView> views;
  std::vector<BoundStep> bound;
  std::vector<std::unique_ptr<KernelState>> states;
  std::vector<int> versions;      // Step::version for which the state was made
  std::vector<char> prepared_anew;  // steps whose kernel was replaced since the values kept were computed
  std::vector<const Tensor*> inputs;
  NamedTensors kept_inputs;       // with keep_all: of the last run
  bool complete = false;          // every value of the last run is in the arena
  bool profiling = false;
  RunProfile times;

  void bind(std::shared_ptr<Plan> to);
  TensorView view(int buffer) const;
  void copy_buffer(const BufferCopy& copy) const;
  void make_copies(size_t step, const std::vector<BufferCopy>& copies);
  void reset_times();
  void run_step(size_t index, const TapFunction& tap);
  void run_kernel(const Step& step, size_t index) const;
  NamedTensors outputs() const;
};

}  // namespace quern
