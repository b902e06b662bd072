// What is told about a run, and where its results are put.
//
// The report (report.json) says what was done and why: model, target, rules, every unit, every quantizer with its range and
// reason, every node that stayed float, what the stages changed, and what the checks gave. Everything that may differ
// between two equal runs (times, memory, threads) stands in its object "timing".
#pragma once
#include <string>

#include "core/base/files.hpp"
#include "core/pipeline/config.hpp"
#include "core/pipeline/pipeline.hpp"

namespace quern {

json::object report_json(const Config& config, const RunResult& result);
// Its objects "units", "quantizers" and "float_nodes"; before ranges are set, without types and scales.
json::object placement_json(const Graph& graph, const Placement& placement);
// Ten lines or so for the terminal.
std::string summary_text(const Config& config, const RunResult& result);
// Several targets side by side, for the terminal and for comparison.json.
std::string comparison_text(const std::vector<Config>& configs, const std::vector<RunResult>& results);
json::object comparison_json(const std::vector<Config>& configs, const std::vector<RunResult>& results);
// For --dry-run.
std::string plan_text(const Config& config, const QuantizePlan& plan);
json::object plan_json(const Config& config, const QuantizePlan& plan);

// The folder a run writes: made under a temporary name at once (so that a place that can't be written is found before any
// work), renamed at the end, gone without a trace when the run fails. An earlier result there is replaced; a folder that holds
// anything else is refused.
class OutputFolder {
 public:
  explicit OutputFolder(const fs::path& folder);
  ~OutputFolder();
  const fs::path& path() const { return staged_->path(); }        // where to write
  const fs::path& final_path() const { return final_; }           // where it will lie
  void commit();

 private:
  fs::path final_;
  std::vector<fs::path> created_;  // parents that did not exist, deepest first
  std::unique_ptr<StagedFolder> staged_;
  bool done_ = false;
};

// model.onnx, package/, report.json, effective.yaml.
void write_output(const Config& config, const RunResult& result, OutputFolder& folder);

}  // namespace quern
