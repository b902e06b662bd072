// A plan: one segment of a graph for one set of complete input shapes, ready to run. Private to the engine room.
//
// Building goes in four passes: shapes of all values; groups of nodes (fusion), by provider in order of priority; a
// prepared kernel per group in an order in which all its inputs exist, with the layout copies it needs; places in the
// arena by lifetimes. Afterwards a plan changes only by refresh(), when constants were replaced.
//
// The first segment starts at the graph's inputs. Nodes whose output shapes can't be known yet, and what follows from them, remain.
// At the cut the run finds: tensors that data-sized kernels made, and the data of values that shapes depend on (`asked`). With
// these (a Found) the plan of the next segment is made, for the remaining nodes.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/engine/arena.hpp"
#include "core/engine/engine.hpp"
#include "core/graph/shapes.hpp"

namespace quern {

// What does not depend on shapes: computed once per engine.
struct GraphFacts {
  std::vector<NodeId> order;
  std::vector<int> position;             // of a node in `order`; -1: not needed for outputs or taps
  std::vector<std::vector<Graph::Use>> uses;  // by needed nodes only
  std::vector<bool> is_output, is_tap;   // by value
};
GraphFacts graph_facts(const Graph& graph, const EngineOptions& options);

// A value in one layout. Exactly one of: in the arena (storage >= 0), entering from outside (input >= 0), a constant.
struct Buffer {
  ValueId value = no_value;
  DType type = DType::undefined;
  Dims dims, strides;
  Layout layout = Layout::row_major;
  int storage = -1;
  int input = -1;        // among the plan's entries
  bool steady = false;   // of an entry: lies still in an earlier segment's memory, aligned and padded
  std::shared_ptr<const Tensor> constant;
  int last = 0;  // the last step that reads or writes it
};

struct BufferCopy { int from = -1, to = -1; };

// Where a value that enters a plan lies: input `index` of the caller; a buffer, or a tensor made by a data-sized kernel, of an earlier
// segment. The entries of the first segment are the graph's inputs in their order.
struct Entry {
  enum class From { caller, buffer, made };
  ValueId value = no_value;
  From from = From::caller;
  int segment = 0, index = 0;
};

// What a run has found at the end of a segment, in the order of Plan::made and Plan::asked.
struct Found {
  std::vector<Dims> made;
  std::vector<std::shared_ptr<const Tensor>> asked;
  bool operator==(const Found& other) const;
};

// Where an output of the graph lies in the last segment.
struct OutputPlace { int buffer = -1, made = -1; };

struct Step {
  std::shared_ptr<const Provider> provider;
  std::vector<NodeId> members;
  std::vector<ValueId> input_values, output_values;
  std::vector<Layout> input_layouts, output_layouts;  // as the kernel stated them
  std::vector<Layout> input_came;                     // as the inputs came
  std::shared_ptr<const Kernel> kernel;               // null: nothing to compute (every output is empty)
  std::string kernel_name;
  bool portable = true, view = false, may_alias = false;
  int alias_input = 0;
  int version = 0;                                    // counts preparations
  std::vector<BufferCopy> copies;                     // before the kernel
  std::vector<int> inputs, outputs;                   // buffers; -1: absent
  std::vector<int> taps;                              // buffers of tapped outputs
  const DataSizedKernel* data_sized = nullptr;        // `kernel`, when it makes its outputs
  int first_made = 0;                                 // its outputs begin here in Plan::made
};

class Plan {
 public:
  Plan(const Graph& graph, const GraphFacts& facts, const EngineOptions& options, int threads, std::vector<Dims> input_dims);
  // The segment after `before`, whose run has found this.
  Plan(const Graph& graph, const GraphFacts& facts, const EngineOptions& options, std::shared_ptr<const Plan> before, Found found);

  // Prepares again every kernel that uses a constant for which `changed(value)` holds. False: the new constants change
  // shapes or layouts and a new plan is needed.
  bool refresh(const Graph& graph, const std::function<bool(ValueId)>& changed);
  PlanInfo info(const Graph& graph) const;
  bool last() const { return remaining.empty(); }

  int threads = 1;
  std::vector<Dims> input_dims;
  const std::shared_ptr<const Plan> before;  // null: the first segment
  const Found found;                     // at the cut before this segment
  const int segment = 0;
  std::vector<Entry> entries;
  std::vector<NodeId> remaining;         // for later segments, in topological order
  std::vector<ValueId> made;             // by data-sized kernels; no_value where nobody wants one
  std::vector<std::pair<ValueId, int>> asked;  // values whose data shapes depend on, with the buffer
  std::vector<Buffer> buffers;
  std::vector<ArenaSpan> storages;
  std::vector<Step> steps;
  std::vector<OutputPlace> output_places;  // per graph output; of the last segment only
  size_t arena_bytes = 0, workspace_bytes = 0;
  int reorders = 0;
  std::atomic<uint64_t> epoch{0};        // of the engine's constants; written under the engine's lock

 private:
  struct Group { std::shared_ptr<const Provider> provider; std::vector<NodeId> members; };

  void build();
  ShapeTable infer(const Graph& graph) const;
  void enter();
  void classify(std::span<const NodeId> nodes);
  void cut();
  bool add_data_sized(NodeId node);
  [[noreturn]] void refuse_shape(NodeId node) const;
  bool complete(ValueId value) const;
  void find_groups();
  void end_island(std::vector<NodeId>& run);
  void prepare_all();
  void prepare_group(Group group);
  bool try_group(const std::shared_ptr<const Provider>& provider, std::span<const NodeId> members);
  void queue(Group group);
  Group propose(NodeId node, size_t first_provider) const;
  std::vector<NodeId> checked(std::vector<NodeId> members, int last_position) const;
  bool free_to_fuse(ValueId value) const;
  bool empty_result(NodeId node) const;
  [[noreturn]] void refuse(NodeId node) const;

  KernelRequest request(const Graph& graph, std::span<const NodeId> members, std::vector<ValueId> results, std::vector<Layout> came) const;
  std::vector<ValueId> results_of(std::span<const NodeId> members) const;
  std::optional<PreparedKernel> prepare(const Provider& provider, const KernelRequest& request) const;
  std::optional<TensorSpec> spec_of(const Graph& graph, ValueId value) const;
  void add_step(Step step, const PreparedKernel& prepared);
  const Tensor* known(const Graph& graph, ValueId value) const;
  Layout primary_layout(ValueId value) const;
  bool has_layout(ValueId value, Layout layout) const;
  int want(ValueId value, Layout layout, Step& step);
  int add_buffer(ValueId value, Layout layout);
  int in_new_storage(int buffer);
  std::vector<Layout> resolve_any(const Step& step) const;
  void finish();
  void keep_leaving();
  void place_outputs();
  void share_in_place();
  void check_memory(size_t bytes, ValueId value) const;

  const Graph* graph_ = nullptr;         // while building only
  const GraphFacts* facts_ = nullptr;
  const EngineOptions* options_ = nullptr;
  ShapeTable table_;
  std::vector<std::vector<int>> buffers_of_;   // by value
  std::vector<bool> planned_;                  // by node: member of a group in the queue or of a step, or not of this segment
  std::vector<NodeId> ready_, frontier_;       // nodes of this segment; nodes whose inputs are there, but not their shapes
  std::map<int, Group> queue_;                 // by position of the last member
};

// What a plan was made for, and what it found; for error messages.
std::string describe(const Graph& graph, ValueId value, DType type, const Dims& dims);

}  // namespace quern
