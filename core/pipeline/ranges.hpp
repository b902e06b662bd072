// From statistics to scales: which statistics the range estimators want, which type a quantizer takes of those that remain,
// and its range.
//
//   RangeFinder ranges(graph, placement, rules, config, registry);
//   ranges.request(statistics);            // before the pass over the calibration data
//   ranges.compute(statistics, threads);   // after: fills type, ranges and params of every quantizer
//
// Quantizers that are tied share their statistics, and so their range: the widest of the group for extremes and quantiles.
#pragma once
#include "core/pipeline/config.hpp"
#include "core/pipeline/fit_accumulators.hpp"
#include "core/placement/placement.hpp"
#include "core/statistics/statistics.hpp"

namespace quern {

class RangeFinder {
 public:
  // All but the registry must outlive it.
  RangeFinder(const Graph& graph, Placement& placement, const Rules& rules, const Config& config, PluginRegistry& registry);
  void request(StatisticsSet& set) const;
  void compute(const StatisticsSet& set, int threads);
  // What compute() did to weights so that their sums fit a saturating accumulator (fit_accumulators).
  const std::vector<FittedWeight>& fitted() const { return fitted_; }

 private:
  struct Group {
    std::vector<int> quantizers;
    std::vector<std::string> types;  // left for all of them
    bool weight = false;
    int axis = -1;                   // channel axis, should a type be per channel
  };
  const Graph& graph_;
  Placement& placement_;
  const Rules& rules_;
  EstimatorHandle activation_, weight_;
  std::string activation_parameters_, weight_parameters_;
  SaturationFix saturation_fix_;
  const Config& config_;
  std::vector<Group> groups_;
  std::vector<FittedWeight> fitted_;

  TypeRule type_of(const Group& group, const std::string& name) const;  // with the codes that the configuration leaves
  void apply_levels(Group& group) const;
  int channel_axis(const Quantizer& quantizer) const;
  std::vector<StatisticRequest> wanted(const Group& group, const std::string& type, const std::string& value) const;
  StatisticResult merged(const Group& group, const StatisticRequest& request, const StatisticsSet& set) const;
  void compute_group(const Group& group, const StatisticsSet& set);
};

// Results of the same request on several tensors of the same samples, as one (exposed for tests).
StatisticResult merge_tied(const StatisticRequest& request, const std::vector<StatisticResult>& results);
// Ranges to parameters under a type's rules for zero points and scales (exposed for tests).
QuantParams params_for(const TypeRule& type, std::span<const Range> observed, int axis, std::vector<Range>* used = nullptr);

}  // namespace quern
