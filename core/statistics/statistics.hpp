// Statistics of tensors over calibration data. Three classes, all independent of the order of samples, of the number of
// threads and of how the data was cut:
//
//   exact merge   min_max (per tensor or channel), histogram (2,048 bins a side, power-of-two range, doubled by merging pairs)
//   exact sums    mean: a long fixed-point accumulator per channel, rounded once at the end
//   row tables    one value per sample (or sample x channel), keyed by the global sample id, sorted before use:
//                 sample_min, sample_max, sample_abs_max, sample_quantile(p), sample_abs_quantile(p)
//
//   StatisticsSet set;                                   // one per worker
//   set.request({value, StatisticKind::min_max});
//   set.observe(value_name, sample_id, view);            // during runs
//   total.merge(set);                                    // any order, any grouping: the same result
//
// Threads: one StatisticsSet per thread; merge in one thread.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/base/files.hpp"
#include "core/base/tensor.hpp"

namespace quern {

enum class StatisticKind { min_max, histogram, mean, sample_min, sample_max, sample_abs_max, sample_quantile, sample_abs_quantile };
std::string_view name_of(StatisticKind kind);
bool statistic_kind_from_name(std::string_view name, StatisticKind& out);

struct StatisticRequest {
  std::string value;         // name of the tensor
  StatisticKind kind = StatisticKind::min_max;
  int axis = -1;             // channel axis kept; -1: per tensor
  double quantile = 0;       // of sample_quantile / sample_abs_quantile, 0..1; linear interpolation between order statistics
  std::string key() const;   // canonical: "min_max", "sample_quantile(axis=-1,q=0.9999)"
  bool operator==(const StatisticRequest&) const = default;
};

// Result of any kind, as plain arrays. channels = 1 per tensor.
struct StatisticResult {
  StatisticKind kind = StatisticKind::min_max;
  int64_t channels = 1;
  int64_t count = 0;                  // elements seen per channel (for mean, histogram)
  std::vector<double> low, high;      // min_max: per channel
  std::vector<double> mean;           // mean: per channel
  std::vector<int64_t> sample_ids;    // row tables: sorted
  std::vector<float> rows;            // row tables: [samples][channels]
  // histogram: negative side bins[0..2047] of |x| in [0, 2^exponent), positive side likewise; zeros counted apart.
  int exponent = 0;
  std::vector<int64_t> negative, positive;
  int64_t zeros = 0;
};

class Statistic;  // one collector

class StatisticsSet {
 public:
  StatisticsSet();
  ~StatisticsSet();
  StatisticsSet(StatisticsSet&&) noexcept;
  StatisticsSet& operator=(StatisticsSet&&) noexcept;

  void request(const StatisticRequest& request);  // twice the same is once
  std::vector<StatisticRequest> requests() const;
  std::vector<std::string> values() const;        // tensors to tap, sorted
  StatisticsSet empty_copy() const;               // the same requests, nothing observed
  // f32 view of any strides; axis 0 is the sample's batch and is folded into the sample. Error(data) on NaN or infinity,
  // naming tensor and sample.
  void observe(const std::string& value, int64_t sample_id, const TensorView& view);
  // Error(data) when a sample id is in both.
  void merge(const StatisticsSet& other);
  // Error(internal) when not requested or nothing was observed.
  StatisticResult result(const StatisticRequest& request) const;

  // Provenance of the file: digests of model, preprocessing and reader, float class of the machine ("avx512", ...).
  std::map<std::string, std::string> provenance;
  // Canonical bytes: the same content gives the same file. Readers check magic, version, sizes, sha256.
  std::string serialize() const;
  static StatisticsSet deserialize(std::string_view bytes, const std::string& file_name);

 private:
  std::map<std::string, std::map<std::string, std::unique_ptr<Statistic>>> by_value_;
  std::vector<int64_t> sample_ids_;
};

}  // namespace quern
