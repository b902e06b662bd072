// The graph as algorithm plugins see it: the host's side of quern_graph (sdk/include/quern/abi.h).
//
//   GraphView view(graph, placement, data, threads);
//   view.plan(stage, parameters, statistics);         // asks the stage what it wants to know
//   ... pass over the data, ranges ...
//   view.run(stage, parameters, statistics, lines);   // lets it change the graph, in transactions
#pragma once
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/dataset/dataset.hpp"
#include "core/pipeline/abi_views.hpp"
#include "core/pipeline/pipeline.hpp"
#include "core/pipeline/sample_runner.hpp"
#include "core/placement/placement.hpp"
#include "core/plugin/plugin.hpp"

namespace quern {

// `wanted` of `size` samples, spread evenly: the ones that stages look at.
std::vector<int64_t> spread_samples(int64_t wanted, int64_t size);

class GraphView {
 public:
  // `graph` and `placement` are changed in place by stages and must outlive the view.
  GraphView(Graph& graph, Placement& placement, const Dataset& data, int threads);
  ~GraphView();
  void plan(const StageHandle& stage, const json::object& parameters, StatisticsSet& statistics);
  void run(const StageHandle& stage, const json::object& parameters, const StatisticsSet& statistics, std::vector<StageLine>& lines,
           const std::function<void()>& tick = {});

  // Of values kept by the two runners of measure(): in all, most of it in a temporary file; and in memory, each, beside a
  // quarter of the weights.
  static constexpr size_t sample_budget = size_t{512} << 20, sample_memory = size_t{2} << 20;

 private:
  struct Calls;  // the C functions
  friend struct Calls;
  struct Undo { ValueId value; std::shared_ptr<const Tensor> before; };

  Graph& graph_;
  Placement& placement_;
  const Dataset& data_;
  const int threads_;
  quern_graph table_{};

  std::vector<NodeId> order_;
  std::vector<int32_t> index_of_;                       // node id -> index
  std::vector<std::vector<int32_t>> consumers_;         // by value
  std::vector<std::unique_ptr<AttributeStructs>> attributes_;
  std::vector<Dims> dims_;                              // by value, for views

  const StatisticsSet* statistics_ = nullptr;           // while running
  std::vector<StageLine>* lines_ = nullptr;
  std::function<void()> tick_;
  std::string stage_;
  bool planning_ = false;
  bool open_ = false;
  bool starved_ = false;  // memory ran out where no status could be given
  std::vector<Undo> undo_;

  // Kept for the caller of a table function, until its next call.
  std::unique_ptr<TensorStruct> constant_struct_, run_struct_, sample_struct_;
  Tensor constant_, run_output_, sample_;
  StatisticRequest statistic_request_;
  StatisticResult statistic_result_;

  std::optional<Graph> original_;
  std::vector<int64_t> chosen_;  // the samples of the two runners
  std::optional<SampleRunner> reference_, estimated_;
  int measured_node_ = -1;
  // The last measurement, as long as nothing but the bias of its node has changed since.
  struct Measured { uint32_t node = 0, samples = 0; ValueId bias = no_value; std::vector<float> before; std::vector<double> square, difference; };
  Measured last_;

  const Node& node_at(uint32_t index) const;
  ValueId value_at(uint32_t index) const;
  int quantizer_at(uint32_t node, uint32_t slot) const;
  void set_constant(ValueId value, Tensor tensor);
  void put_constant(ValueId value, const Tensor& tensor);
  Tensor run_node(uint32_t node, std::span<const quern_tensor> inputs, bool quantized_weights);
  void open_runners(uint32_t samples);
  Tensor sample_value(uint32_t node, int32_t slot, uint32_t samples, uint32_t sample, bool estimated);
  void measure_outputs(uint32_t samples, std::span<double> signal, std::span<double> noise);
  bool from_last_measure(uint32_t node, uint32_t samples, double* square, double* difference, uint64_t channels) const;
  void measure(uint32_t node, uint32_t samples, double* square, double* difference, uint64_t channels);
};

}  // namespace quern
