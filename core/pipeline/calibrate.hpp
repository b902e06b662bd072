// Statistics apart from quantizing: `quern calibrate` writes them to a file, shard by shard where one wants, and `quern quantize` takes
// them from there. quantize() itself runs in both; a StatisticsJob tells it where a pass takes its statistics from.
//
//   StatisticsFile shard = calibrate(configs, registry, {.threads = 2}, {.shard = 1, .shards = 4});
//   StatisticsJob job(merged, "all.qstat");
//   quantize(configs, registry, {.statistics = &job});
//
// A stage before `quantize` changes the network by what a pass has found, so the next pass needs that one complete: shards are
// calibrated in as many rounds as there are passes, each but the first with the merged file of the round before (docs/statistics.md).
#pragma once
#include <optional>

#include "core/dataset/dataset.hpp"
#include "core/pipeline/pipeline.hpp"
#include "core/statistics/statistics_file.hpp"

namespace quern {

class StatisticsJob {
 public:
  StatisticsJob() = default;
  StatisticsJob(StatisticsFile given, std::string name) : given_(std::move(given)), name_(std::move(name)) {}

  // Of calibrate(): what is collected is recorded, of one shard of the samples.
  bool recording = false;
  int64_t shard = 0, shards = 1;  // 0 <= shard < shards
  StatisticsFile record;
  bool partial = false;  // a pass was over a shard
  bool stopped = false;  // a stage needs what only all shards together know

  bool has_file() const { return given_.has_value(); }
  // The samples of the file in place of the data. Error(data) when the file is of another model or preprocessing.
  std::unique_ptr<Dataset> open(const Config& config, const std::string& model_digest, std::vector<std::string>& warnings) const;
  // The statistics that `set` asks for, from the file; false when they have to be collected (and then given to add()). Error(data) when
  // the file has to have them and lacks them.
  bool fill(const Graph& graph, StatisticsSet& set, const std::string& purpose) const;
  void add(const Graph& graph, const StatisticsSet& set, const std::string& name);
  // Notes what the record is of, and keeps the samples that stages will look at.
  void describe(const std::vector<Config>& configs, const std::string& model_digest, const Dataset& data, const std::vector<std::string>& warnings);
  // The samples of this shard: first, and behind the last.
  std::pair<int64_t, int64_t> range(int64_t samples) const;

 private:
  std::optional<StatisticsFile> given_;
  std::string name_;
  int32_t passes_ = 0;
};

// The samples of `size` that a run of these configurations looks at one by one, beside the passes.
std::vector<int64_t> samples_looked_at(const std::vector<Config>& configs, int64_t size);

struct ShardOf { int64_t shard = 0, shards = 1; };
struct Calibration { StatisticsFile file; bool complete = true; };  // complete: nothing but other shards is missing
Calibration calibrate(std::vector<Config>& configs, PluginRegistry& registry, const RunOptions& options, const ShardOf& shard = {},
                      const StatisticsJob* before = nullptr);

StatisticsFile read_statistics(const fs::path& path);

}  // namespace quern
