// The configuration: one YAML file, checked against the published schema (sdk/schemas/config.schema.json), with every error
// at its file, line and column. Two steps, since the second needs plugins:
//
//   Config c = load_config("digits.yaml", {.set = {"target.preset=performance"}});   // syntax, schema, paths
//   complete_config(c, registry);                      // profile, preset, parameters of estimators and stages
//   write_file("effective.yaml", effective_yaml(c, "out/"));
//
// Relative paths in the file are relative to the file's folder; those of the command line to the current one.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/files.hpp"
#include "core/base/json.hpp"
#include "core/integer/integer.hpp"
#include "core/pipeline/fit_accumulators.hpp"
#include "core/pipeline/yaml.hpp"
#include "core/placement/placement.hpp"
#include "core/plugin/plugin.hpp"

namespace quern {

// What is used where the configuration says nothing. Chosen by measurement (docs/decisions/0004-defaults.md).
inline constexpr std::string_view default_activation_estimator = "mse";
inline constexpr std::string_view default_weight_estimator = "min_max";
inline constexpr std::string_view default_alignment_stage = "channel_alignment";
inline constexpr std::string_view default_bias_stage = "bias_correction";

struct ConfigOverrides {
  std::string target{};           // DEVICE or DEVICE:PROFILE
  std::string preset{};
  fs::path output{};                // relative to the current folder
  int threads = -1;               // -1: as the file says
  std::vector<std::string> set{};   // key.path=value; list elements by index or by stage name
};

// One element of `pipeline`.
struct StageEntry {
  std::string name;
  json::object parameters;        // complete after complete_config
  std::string pointer;            // of the parameters in the document
};

// levels: the codes that the range is spread over, where they are fewer than the type's.
struct Levels { int64_t low = 0, high = 0; };
struct RangeSpec { std::string estimator; json::object parameters; std::string pointer; std::optional<Levels> levels = {}; };

struct Config {
  std::string file;
  fs::path folder;
  Document document;              // as written, with positions; document.value after overrides
  json::object effective;         // normalised, every default filled in
  fs::path model, output;         // absolute
  std::string device, profile, preset;
  std::optional<json::object> calibration, evaluation;  // sections for open_dataset
  std::map<std::string, std::vector<std::string>> reader_paths;  // by "calibration", "evaluation": parameters of a plugin's reader that are paths
  json::value metric;
  std::vector<QdqProfile> qdq;    // files to write, each once, in the order of the profiles
  std::vector<StageEntry> stages; // plugin stages and "quantize", in order
  int threads = 0;                // 0: all cores this process may use
  int64_t seed = 0;
  bool isolated = false;          // plugins.isolated, plugins.deadline
  double deadline_seconds = 60;

  // Of the `quantize` stage.
  RangeSpec activation_range, weight_range;
  SaturationFix saturation_fix = SaturationFix::no;
  PlacementOptions placement;

  size_t quantize_index() const;  // in stages
  int thread_count() const;       // threads, or the usable cores
  Error error(const std::string& pointer, const std::string& message, bool key = false) const {
    return document.error(pointer, message, key);
  }
};

Config load_config(const fs::path& path, const ConfigOverrides& overrides = {});
// The same for every target that is asked for: `overrides.target` or target.device may list several ("cpu,vpu_sim"). With several, each
// has a folder of its own name in the output folder. Error(config) for a target that is listed twice.
std::vector<Config> load_configs(const fs::path& path, const ConfigOverrides& overrides = {});
// From text, for tests; `folder` is what relative paths mean.
Config load_config_text(std::string_view text, const std::string& file_name, const fs::path& folder,
                        const ConfigOverrides& overrides = {});

// How the configuration wants its plugins run.
void apply_isolation(const Config& config, PluginRegistry& registry);

// Loads the target's rules and the named plugins' parameter schemas; checks and completes. Returns the rules.
Rules complete_config(Config& config, PluginRegistry& registry);

// The effective configuration as YAML, with paths relative to `folder` (where it will lie), so that it can be run again.
std::string effective_yaml(const Config& config, const fs::path& folder);

// What the result depends on, without paths, threads and evaluation data; `calibration_digest` stands for the data.
std::string config_digest(const Config& config, const std::string& calibration_digest);

std::string_view config_schema();  // the published schema, as embedded
std::string_view version();        // "0.1.0"

}  // namespace quern
