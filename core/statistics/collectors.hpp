// One collector per request. All of them are fed from the same look at the data (Observation), so that passes over memory
// are shared: extremes are found once per tensor and once per channel axis.
#pragma once
#include <map>
#include <memory>
#include <vector>

#include "core/statistics/exact_sum.hpp"
#include "core/statistics/scan.hpp"
#include "core/statistics/statistics.hpp"
#include "core/statistics/stream.hpp"

namespace quern {

// One sample of one tensor as dense memory, whatever the order of its axes.
class Observation {
 public:
  // Copies to `scratch` when the elements do not lie behind one another.
  Observation(const std::string& value, int64_t sample, const TensorView& view, std::vector<float>& scratch);

  const std::string& value;
  int64_t sample;
  const float* data = nullptr;
  int64_t count = 0;
  Extremes extremes;  // of a finite tensor; Error(data) otherwise

  // For an axis the memory is [outer][channels][inner].
  struct Blocks { int64_t outer, channels, inner; };
  Blocks blocks(int axis) const;
  struct ChannelExtremes { std::vector<float> low, high; };
  const ChannelExtremes& channel_extremes(int axis);
  float bound() const;  // max |x|

 private:
  Dims dims_, strides_;
  std::map<int, ChannelExtremes> by_axis_;
};

class Statistic {
 public:
  virtual ~Statistic() = default;
  virtual void observe(Observation& o) = 0;
  virtual void merge(const Statistic& other) = 0;
  virtual bool empty() const = 0;
  virtual StatisticResult result() const = 0;
  virtual void save(Writer& w) const = 0;
  virtual void load(Reader& r) = 0;

  StatisticRequest request;
};

std::unique_ptr<Statistic> make_statistic(const StatisticRequest& request);

}  // namespace quern
