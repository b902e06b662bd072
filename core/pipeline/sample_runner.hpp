// Values inside a graph over a fixed set of samples, computed from the nearest values that are kept: what a stage that works
// through a network layer by layer needs. Walking along the network once, each node is run once per sample.
//
//   SampleRunner runner(graph, data, {0, 5, 10}, threads, budget);
//   runner.keep({x, y});                                  // computes and keeps these values of all samples
//   runner.compute(z, [&](size_t sample, const Tensor& t) { ... });
//   runner.set_constant(bias, tensor);                    // forgets what depends on it
//
// Kept values: up to `budget` bytes, of them `memory` in memory and the others in a temporary file (sample_store.hpp); beyond it the
// earliest in the network are dropped and computed again when needed. A weight behind a FakeQuantize is quantized when a part
// of the network that reads it is run: no second copy of all weights.
#pragma once
#include <functional>
#include <limits>
#include <vector>

#include "core/dataset/dataset.hpp"
#include "core/engine/engine.hpp"
#include "core/pipeline/sample_store.hpp"

namespace quern {

class SampleRunner {
 public:
  SampleRunner(Graph graph, const Dataset& data, std::vector<int64_t> samples, int threads, size_t budget,
               size_t memory = std::numeric_limits<size_t>::max());
  const Graph& graph() const { return graph_; }
  size_t samples() const { return samples_.size(); }
  void keep(const std::vector<ValueId>& values);
  // `use` is called in parallel, once per sample.
  void compute(ValueId value, const std::function<void(size_t sample, const Tensor&)>& use);
  void set_constant(ValueId value, Tensor tensor);
  // Of a value that is kept.
  Tensor value(ValueId value, size_t sample) const { return kept_.get(value, sample); }
  // Forgets what lies before `node`, in the order of the network, and is not needed to compute what lies behind it.
  void forget_before(NodeId node);

 private:
  Graph graph_;
  const Dataset& data_;
  std::vector<int64_t> samples_;
  int threads_;
  size_t budget_;
  SampleStore kept_;
  std::vector<int> position_;  // of nodes, in topological order

  bool is_constant(ValueId value) const;  // itself, or behind a FakeQuantize
  void run(const std::vector<ValueId>& wanted, const std::function<void(size_t, std::vector<Tensor>&)>& use);
  void shrink(const std::vector<ValueId>& needed);
};

}  // namespace quern
