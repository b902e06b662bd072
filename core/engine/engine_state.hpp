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
  std::list<std::shared_ptr<Plan>> plans;         // first segments, most recently used first
  std::list<std::shared_ptr<Plan>> later;         // later segments, likewise
  std::map<ValueId, uint64_t> changed_at;         // epoch of the last set_constant

  // The plan for these shapes, up to date with all constants; from the cache or made now.
  std::shared_ptr<Plan> plan(int threads, const std::vector<Dims>& input_dims);
  // The plan of the segment after `before`, whose run has found this.
  std::shared_ptr<Plan> plan_after(const std::shared_ptr<Plan>& before, Found found);
  std::shared_ptr<Plan> cached(std::list<std::shared_ptr<Plan>>& list, const std::function<bool(const Plan&)>& wanted,
                               const std::function<std::shared_ptr<Plan>()>& make, size_t most);
  bool up_to_date(const Plan& plan) const { return plan.epoch == epoch.load(std::memory_order_acquire); }
  // Tensors by graph input, in order. Error(data) when names, types or shapes do not fit.
  void match_inputs(const NamedTensors& given, std::vector<const Tensor*>& matched) const;
};

struct Runner::State {
  struct BoundStep { size_t inputs = 0, outputs = 0; };  // where the views of the step begin
  struct Free { void operator()(void* p) const; };
  using Memory = std::unique_ptr<void, Free>;

  // One plan and the memory that it runs in.
  struct Segment {
    std::shared_ptr<Plan> plan;
    uint64_t bound_epoch = 0, binding = 0;  // of the engine's constants; counts bindings of the runner
    Memory arena, workspace;
    size_t arena_size = 0, workspace_size = 0;
    std::vector<TensorView> views;
    std::vector<BoundStep> bound;
    std::vector<std::unique_ptr<KernelState>> states;
    std::vector<int> versions;      // Step::version for which the state was made
    std::vector<char> prepared_anew;  // steps whose kernel was replaced since the values kept were computed
    std::vector<Tensor> made;       // by data-sized kernels, of the last run
    bool complete = false;          // with keep_all: every value of the last run is there
    // Of the last rerun: storages, tensors made and entries whose values were computed again.
    std::vector<char> dirty, dirty_made, dirty_entry;
    bool is_dirty(int buffer) const;
  };

  std::shared_ptr<Engine::State> engine;
  int threads = 1;
  std::vector<std::unique_ptr<Segment>> segments;  // as far as a run has come
  uint64_t bindings = 0;
  std::vector<const Tensor*> inputs;
  NamedTensors kept_inputs;       // with keep_all: of the last run
  bool profiling = false;
  size_t segments_run = 0;        // by the last run
  RunProfile times;               // of all segments, one after the other
  std::map<std::string, uint64_t> saturations;  // of all runs, by node

  // Runs all segments; with `changed` only what depends on these nodes, on the values kept.
  NamedTensors execute(const std::vector<NodeId>* changed, const TapFunction& tap);
  void bind(size_t segment, std::shared_ptr<Plan> to);
  bool fits_after(size_t segment, const Found& found) const;  // what is bound there may stay
  void run_all(Segment& s, const TapFunction& tap);
  void run_dirty(Segment& s, const std::vector<char>& is_changed, const TapFunction& tap);
  Found find(const Segment& s) const;
  TensorView entry(const Entry& at) const;
  TensorView view(const Segment& s, int buffer) const;
  void copy_buffer(const Segment& s, const BufferCopy& copy) const;
  void make_copies(const Segment& s, size_t step, std::span<const BufferCopy> copies);
  void run_step(Segment& s, size_t index, const TapFunction& tap);
  void run_kernel(Segment& s, const Step& step, size_t index);
  NamedTensors outputs() const;
};

}  // namespace quern
