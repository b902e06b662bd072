// The statistics file (.qstat): what the passes over calibration data found, of all samples or of a shard, and the few samples that
// later stages look at. With it a network is quantized where the data is not, to the same bytes (docs/statistics.md).
//
//   StatisticsFile file = StatisticsFile::deserialize(bytes, "a.qstat");
//   file.merge(StatisticsFile::deserialize(others, "b.qstat"), "b.qstat");   // any order, any grouping: the same file
//   write_file("all.qstat", file.serialize());
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/tensor.hpp"
#include "core/statistics/statistics.hpp"

namespace quern {

// One pass: the network that was run, by its digest, and what was collected of it.
struct StatisticsPass {
  int32_t order = 0;    // of the passes of one run
  std::string name;     // for people
  std::string network;
  StatisticsSet set;

  int64_t samples() const;  // of the value that has the fewest
};

struct StatisticsFile {
  std::map<std::string, std::string> provenance;  // model, data, preprocessing, float_class: what has to be alike in what is merged
  int64_t samples = 0;                            // of the whole calibration data
  std::vector<std::string> warnings;              // of the check of the data
  std::vector<StatisticsPass> passes;             // by order and network
  std::map<int64_t, std::vector<std::pair<std::string, Tensor>>> kept;  // samples that later stages look at, by number

  // Error(data), naming `other_name` and both sides, when they are not of the same thing, or hold the same sample; nothing is changed then.
  // A pass that is complete may be in both.
  void merge(StatisticsFile other, const std::string& other_name);
  std::string serialize() const;  // the same content gives the same bytes
  static StatisticsFile deserialize(std::string_view bytes, const std::string& file_name);
};

}  // namespace quern
