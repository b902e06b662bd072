#include <fmt/format.h>

#include <cstdio>
#include <optional>

#include "cli/verbs.hpp"
#include "core/base/error.hpp"
#include "core/base/parallel.hpp"
#include "core/pipeline/calibrate.hpp"

namespace quern::cli {
namespace {

// "2/4" -> the second of four.
ShardOf shard_from(const std::string& text) {
  if (text.empty()) return {};
  long long i = 0, n = 0;
  int used = 0;
  if (std::sscanf(text.c_str(), "%lld/%lld%n", &i, &n, &used) != 2 || static_cast<size_t>(used) != text.size() || n < 1 || n > 1000000 || i < 1 || i > n)
    throw Error(ErrorCode::usage, fmt::format("--shard can't be '{}'; it is i/n with i from 1 to n, for example 2/4", text));
  return {i - 1, n};
}

void write_statistics(const StatisticsFile& file, const std::string& path) { write_file(path, std::string_view(file.serialize())); }

json::object described(const StatisticsFile& file, const std::string& path) {
  json::array passes;
  for (const auto& p : file.passes) passes.push_back(json::object{{"name", p.name}, {"samples", p.samples()}, {"statistics", p.set.requests().size()}});
  return {{"file", path}, {"samples", file.samples}, {"kept_samples", file.kept.size()}, {"passes", passes}};
}

std::string text_of(const StatisticsFile& file, const std::string& path) {
  std::string out;
  for (const auto& p : file.passes)
    out += fmt::format("pass       {}: {} of {} samples, {} statistics\n", p.name, p.samples(), file.samples, p.set.requests().size());
  return out + fmt::format("kept       {} samples that stages look at\nwritten    {}\n", file.kept.size(), path);
}

}  // namespace

int calibrate_verb(const CalibrateArguments& a) {
  const ShardOf shard = shard_from(a.shard);
  std::vector<Config> configs = load_configs(a.config, {.target = a.target, .preset = a.preset, .threads = a.threads, .set = a.set});
  PluginRegistry registry(a.plugin_options());
  std::optional<StatisticsJob> before;
  if (!a.statistics.empty()) before.emplace(read_statistics(a.statistics), a.statistics);
  Progress progress(ProgressStyle::automatic);
  const Calibration done = calibrate(configs, registry, {.threads = configs.front().thread_count(), .progress = &progress}, shard, before ? &*before : nullptr);
  throw_if_cancelled();
  write_statistics(done.file, a.output);
  if (a.json) {
    json::object out = described(done.file, a.output);
    out["more_rounds"] = !done.complete;
    print(to_text(out, false) + "\n");
    return 0;
  }
  print(text_of(done.file, a.output));
  if (!done.complete)
    print("next       a stage changes the network by what this pass found: merge the files of all shards (quern merge), then calibrate each shard\n"
          "           again with --statistics MERGED.qstat\n");
  return 0;
}

int merge_verb(const MergeArguments& a) {
  std::optional<StatisticsFile> all;
  for (const auto& path : a.files) {
    StatisticsFile file = read_statistics(path);
    if (all) all->merge(std::move(file), path);
    else all = std::move(file);
    throw_if_cancelled();
  }
  write_statistics(*all, a.output);
  print(a.json ? to_text(described(*all, a.output), false) + "\n" : text_of(*all, a.output));
  return 0;
}

}  // namespace quern::cli
