#include <fmt/format.h>

#include <chrono>
#include <thread>

#include "core/base/error.hpp"
#include "core/onnx/onnx.hpp"
#include "core/report/report.hpp"

namespace quern {

namespace {

// The name of what is no result of ours but would be replaced by one; null: nothing.
const char* foreign(const fs::path& folder) {
  std::error_code error;
  if (fs::exists(folder / "package" / "index.json", error)) return nullptr;
  for (const char* name : {"effective.yaml", "model.onnx", "model.ort.onnx", "model.openvino.onnx", "package", "report.json"})
    if (fs::exists(fs::symlink_status(folder / name, error))) return name;
  return nullptr;
}

// A result of ours is replaced; a file of somebody's that only has the name of one is not. Another process may be moving its
// results into the folder at this moment, which takes milliseconds: so a second look, and more, before a refusal.
void refuse_to_overwrite(const fs::path& folder) {
  constexpr int looks = 10;
  for (int look = 1; const char* name = foreign(folder); ++look) {
    if (look == looks)
      throw Error(ErrorCode::io, std::string("holds '") + name + "', which is no result of Quern and would be replaced").at_file(folder.string())
          .hint("give another folder with -o, or move that file away");
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

}  // namespace

OutputFolder::OutputFolder(const fs::path& folder) {
  final_ = fs::absolute(folder).lexically_normal();
  if (!final_.has_filename()) final_ = final_.parent_path();
  std::error_code ignored;
  for (fs::path p = final_.parent_path(); !p.empty() && !fs::exists(p, ignored); p = p.parent_path())
    if (!fs::exists(fs::symlink_status(p, ignored))) created_.push_back(p);  // a link that leads nowhere is not ours
  try {
    staged_ = std::make_unique<StagedFolder>(final_);  // first puts in order what a killed run has left
    refuse_to_overwrite(final_);
  } catch (...) {
    staged_.reset();
    for (const auto& p : created_) fs::remove(p, ignored);
    throw;
  }
}

OutputFolder::~OutputFolder() {
  if (done_) return;
  staged_.reset();
  std::error_code ignored;
  for (const auto& p : created_) fs::remove(p, ignored);  // only what is empty
}

void OutputFolder::commit() {
  refuse_to_overwrite(final_);  // somebody may have put a file there meanwhile
  staged_->commit();
  done_ = true;
}

namespace {

void write_qdq(const RunResult& r, QdqProfile profile, const QdqExport& made, const fs::path& folder) {
  Graph graph = made.graph;  // shares the constants
  auto& metadata = graph.metadata;
  metadata["quern.tool"] = "quern";
  metadata["quern.version"] = version();
  metadata["quern.target"] = r.target_id + " " + r.target_version + " " + r.profile;
  metadata["quern.rules_sha256"] = r.rules_digest;
  metadata["quern.configuration_sha256"] = r.config_digest;
  metadata["quern.model_sha256"] = r.model_digest;
  if (profile != QdqProfile::plain) metadata["quern.qdq"] = name_of(profile);
  if (!made.added.empty()) {
    std::string names;
    for (const QdqAddition& a : made.added) names += (names.empty() ? "" : "\n") + a.tensor;
    metadata["quern.qdq_added"] = names;
  }
  if (made.preview) {
    // What a reader of the file has to know: the package is the truth.
    std::string text = fmt::format("the package differs; file against package on {} samples:", made.preview_samples);
    for (const QdqDeviation& d : made.deviations) text += fmt::format(" {} {:.1f} dB, largest difference {:.3g};", d.output, d.sqnr_db, d.largest);
    text.pop_back();
    metadata["quern.qdq_preview"] = text;
  }
  ExportOptions options;
  options.producer_version = version();
  write_onnx(graph, folder / qdq_file_name(profile), options);
}

}  // namespace

void write_output(const Config& config, const RunResult& r, OutputFolder& folder) {
  const std::string report = to_text(report_json(config, r));
  // As seen from where the folder will lie, not from where it lies for the moment.
  const std::string effective = effective_yaml(config, folder.final_path());
  const fs::path& staging = folder.path();
  try {
    for (const auto& [profile, made] : r.exports)
      if (made.left_out.empty()) write_qdq(r, profile, made, staging);
    write_package(r.integer, staging / "package");
    write_file(staging / "report.json", report);
    write_file(staging / "effective.yaml", effective);
  } catch (Error& e) {  // names the place that the user knows
    if (e.file().starts_with(staging.string())) e.set_file(folder.final_path().string() + e.file().substr(staging.string().size()));
    throw;
  }
  // Files of an earlier result that this one does not have would be taken for its own.
  std::error_code ignored;
  std::vector<fs::path> stale;
  for (QdqProfile profile : {QdqProfile::plain, QdqProfile::ort, QdqProfile::openvino})
    for (const std::string& name : {qdq_file_name(profile), qdq_file_name(profile) + ".data"})
      if (!fs::exists(staging / name, ignored)) stale.push_back(folder.final_path() / name);
  folder.commit();
  for (const fs::path& path : stale) fs::remove(path, ignored);
}

}  // namespace quern
