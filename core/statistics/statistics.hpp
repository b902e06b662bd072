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

// Sample ids, kept as runs, so that memory does not grow with samples taken in order.
class SampleIds {
 public:
  bool insert(int64_t id);                              // false: was there already
  void merge(const SampleIds& other);
  bool overlaps(const SampleIds& other, int64_t& id) const;  // the smallest id in both
  bool empty() const { return runs_.empty(); }
  int64_t count() const;
  const std::map<int64_t, int64_t>& runs() const { return runs_; }  // first -> last
  void set_runs(const std::vector<int64_t>& pairs);                 // first, last, first, last, ... ascending, apart

 private:
  std::map<int64_t, int64_t> runs_;
};

class StatisticsSet {
 public:
  StatisticsSet();
  ~StatisticsSet();
  StatisticsSet(const StatisticsSet& other);
  StatisticsSet& operator=(const StatisticsSet& other) { return *this = StatisticsSet(other); }
  StatisticsSet(StatisticsSet&&) noexcept;
  StatisticsSet& operator=(StatisticsSet&&) noexcept;

  // Twice the same is once. Before the first observation of that value; later it is Error(internal).
  void request(const StatisticRequest& request);
  std::vector<StatisticRequest> requests() const;
  std::vector<std::string> values() const;        // tensors to tap, sorted
  StatisticsSet empty_copy() const;               // the same requests and provenance, nothing observed
  // What `wanted` asks for, with what was observed. Error(internal) for what was not requested here.
  StatisticsSet part(const StatisticsSet& wanted) const;
  int64_t samples(const std::string& value) const;  // observed so far
  // f32 view of any strides; axis 0 is the sample's batch and is folded into the sample. Error(data) on NaN or infinity,
  // naming tensor and sample; on a sample seen before. A value without requests is ignored, and so is a view without elements.
  void observe(const std::string& value, int64_t sample_id, const TensorView& view);
  // Error(data) when a value has a sample in both, when the requests differ, or when provenance contradicts; then nothing is
  // changed. A set without requests takes over those of the other.
  void merge(const StatisticsSet& other);
  bool has(const StatisticRequest& request) const;  // requested and observed
  // Error(internal) when not requested or nothing was observed.
  StatisticResult result(const StatisticRequest& request) const;

  // Provenance of the file: digests of model, preprocessing and reader, float class of the machine ("avx512", ...).
  std::map<std::string, std::string> provenance;
  // Canonical bytes: the same content gives the same file. Readers check magic, version, sizes, sha256.
  std::string serialize() const;
  static StatisticsSet deserialize(std::string_view bytes, const std::string& file_name);

 private:
  struct Entry;
  Entry& entry(const std::string& value);
  std::map<std::string, std::unique_ptr<Entry>> by_value_;
};

}  // namespace quern
