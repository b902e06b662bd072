#include "core/pipeline/calibrate.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/base/error.hpp"
#include "core/base/log.hpp"
#include "core/graph/equal.hpp"
#include "core/pipeline/graph_view.hpp"

namespace quern {
namespace {

constexpr int64_t always_kept = 64;  // what the checks, the preview and the signal to noise look at: the first ones

// The samples that lie in a file, under the numbers that they have in the data.
class KeptSamples : public Dataset {
 public:
  KeptSamples(const StatisticsFile& file, std::string name) : file_(file), name_(std::move(name)) {}
  int64_t size() const override { return file_.samples; }
  Sample item(int64_t index) const override {
    const auto it = file_.kept.find(index);
    if (it == file_.kept.end())
      throw Error(ErrorCode::data, fmt::format("lacks sample {}, which a stage of this configuration looks at", index)).at_file(name_)
          .hint("calibrate with this configuration, and merge the files of all shards");
    Sample out;
    for (const auto& [name, tensor] : it->second) out.push_back({name, tensor});
    return out;
  }
  std::optional<Tensor> label(int64_t) const override { return std::nullopt; }
  std::string digest() const override { return file_.provenance.at("data"); }

 private:
  const StatisticsFile& file_;
  std::string name_;
};

// Every `samples: N` in the parameters of stages: how many samples a stage looks at.
void find_sample_counts(const json::value& v, std::set<int64_t>& out) {
  if (const auto* object = v.if_object()) {
    for (const auto& [key, value] : *object) {
      if (key == "samples" && (value.is_int64() || value.is_uint64())) out.insert(value.to_number<int64_t>());
      else find_sample_counts(value, out);
    }
  } else if (const auto* list = v.if_array()) {
    for (const auto& e : *list) find_sample_counts(e, out);
  }
}

std::string preprocessing_of(const Config& config) {
  const auto* p = config.calibration ? config.calibration->if_contains("preprocess") : nullptr;
  return p ? to_text(*p, false) : "none";
}

}  // namespace

std::vector<int64_t> samples_looked_at(const std::vector<Config>& configs, int64_t size) {
  std::set<int64_t> counts, out;
  for (const Config& c : configs)
    for (const StageEntry& stage : c.stages) find_sample_counts(stage.parameters, counts);
  for (int64_t i = 0; i < std::min(always_kept, size); ++i) out.insert(i);
  for (int64_t n : counts)
    for (int64_t i : spread_samples(n, size)) out.insert(i);
  return {out.begin(), out.end()};
}

std::pair<int64_t, int64_t> StatisticsJob::range(int64_t samples) const {
  if (!recording) return {0, samples};
  return {shard * samples / shards, (shard + 1) * samples / shards};
}

std::unique_ptr<Dataset> StatisticsJob::open(const Config& config, const std::string& model_digest, std::vector<std::string>& warnings) const {
  const auto of = [&](const char* key) {
    const auto it = given_->provenance.find(key);
    return it == given_->provenance.end() ? std::string() : it->second;
  };
  const auto other = [&](const char* what, const std::string& mine) {
    return Error(ErrorCode::data, fmt::format("is of another {}: {} there, {} here", what, of(what), mine)).at_file(name_)
        .hint("calibrate with this configuration");
  };
  if (of("model") != model_digest) throw other("model", model_digest);
  if (config.calibration && of("preprocessing") != preprocessing_of(config)) throw other("preprocessing", preprocessing_of(config));
  if (of("float_class") != float_class()) {
    const std::string text = fmt::format("{}: taken on a machine of the float class {}; this one is {}: stages that look at samples may decide otherwise here", name_,
                                         of("float_class"), float_class());
    log::warning("{}", text);
    warnings.push_back(text);
  }
  for (const auto& w : given_->warnings) warnings.push_back(w);
  return std::make_unique<KeptSamples>(*given_, name_);
}

bool StatisticsJob::fill(const Graph& graph, StatisticsSet& set, const std::string& purpose) const {
  if (!given_) return false;
  const std::string network = network_digest(graph);
  const auto fail = [&](const std::string& what) { return Error(ErrorCode::data, what).at_file(name_); };
  bool known = false;
  std::vector<StatisticRequest> lacking;  // in the pass that has most
  for (const StatisticsPass& pass : given_->passes) {
    if (pass.network != network) continue;
    const auto there = pass.set.requests();
    std::vector<StatisticRequest> missing;
    for (const auto& r : set.requests())
      if (std::find(there.begin(), there.end(), r) == there.end()) missing.push_back(r);
    if (!missing.empty()) {
      if (!known || missing.size() < lacking.size()) lacking = std::move(missing);
      known = true;
      continue;
    }
    if (pass.samples() < given_->samples)
      throw fail(fmt::format("holds {} of {} samples of the pass '{}'", pass.samples(), given_->samples, pass.name)).hint("merge the files of all shards first: quern merge");
    set = pass.set.part(set);
    return true;
  }
  if (recording) return false;
  if (!known)
    throw fail(fmt::format("has no pass over the network as it is for {}: it was taken with other stages before, or its shards lack a round", purpose))
        .hint("calibrate with this configuration; docs/statistics.md says how shards go");
  throw fail(fmt::format("lacks what {} needs: {} of '{}'", purpose, lacking.front().key(), lacking.front().value)).hint("calibrate with this configuration: ranges and stages say what is collected");
}

void StatisticsJob::add(const Graph& graph, const StatisticsSet& set, const std::string& name) {
  if (!recording) return;
  record.passes.push_back({passes_++, name, network_digest(graph), set.part(set)});
}

void StatisticsJob::describe(const std::vector<Config>& configs, const std::string& model_digest, const Dataset& data,
                             const std::vector<std::string>& warnings) {
  if (!recording) return;
  record.provenance = {{"model", model_digest}, {"data", data.digest()}, {"preprocessing", preprocessing_of(configs.front())}, {"float_class", float_class()}};
  record.samples = data.size();
  if (shards > data.size())
    throw Error(ErrorCode::usage, fmt::format("{} shards of {} samples: some would be empty", shards, data.size()));
  if (given_) {
    StatisticsFile mine;
    mine.provenance = record.provenance;
    mine.samples = record.samples;
    StatisticsFile theirs;
    theirs.provenance = given_->provenance;
    theirs.samples = given_->samples;
    mine.merge(std::move(theirs), name_);  // for its checks
  }
  record.warnings = warnings;
  const auto [first, end] = range(data.size());
  for (int64_t i : samples_looked_at(configs, data.size())) {
    if (i < first || i >= end) continue;
    auto& sample = record.kept[i];
    for (NamedTensor& t : data.item(i)) sample.emplace_back(t.name, std::move(t.tensor));
  }
}

Calibration calibrate(std::vector<Config>& configs, PluginRegistry& registry, const RunOptions& options, const ShardOf& shard, const StatisticsJob* before) {
  StatisticsJob job = before ? *before : StatisticsJob();
  job.recording = true;
  job.shard = shard.shard;
  job.shards = shard.shards;
  RunOptions with = options;
  with.evaluate = false;
  with.statistics = &job;
  quantize(configs, registry, with);
  return {std::move(job.record), !job.stopped};
}

StatisticsFile read_statistics(const fs::path& path) {
  const auto file = MappedFile::open(path);
  return StatisticsFile::deserialize(file->text(), path.string());
}

}  // namespace quern
