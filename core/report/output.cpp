#include "core/base/error.hpp"
#include "core/onnx/onnx.hpp"
#include "core/report/report.hpp"

namespace quern {

namespace {

// A result of ours is replaced; a file of somebody's that only has the name of one is not.
void refuse_to_overwrite(const fs::path& folder) {
  std::error_code error;
  if (fs::exists(folder / "package" / "index.json", error)) return;
  for (const char* name : {"effective.yaml", "model.onnx", "package", "report.json"})
    if (fs::exists(fs::symlink_status(folder / name, error)))
      throw Error(ErrorCode::io, std::string("holds '") + name + "', which is no result of Quern and would be replaced").at_file(folder.string())
          .hint("give another folder with -o, or move that file away");
}

}  // namespace

OutputFolder::OutputFolder(const fs::path& folder) {
  final_ = fs::absolute(folder).lexically_normal();
  if (!final_.has_filename()) final_ = final_.parent_path();
  refuse_to_overwrite(final_);
  std::error_code ignored;
  for (fs::path p = final_.parent_path(); !p.empty() && !fs::exists(p, ignored); p = p.parent_path()) created_.push_back(p);
  try {
    staged_ = std::make_unique<StagedFolder>(final_);
  } catch (...) {
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
  staged_->commit();
  done_ = true;
}

void write_output(const Config& config, const RunResult& r, OutputFolder& folder) {
  Graph qdq = qdq_graph(r.graph, r.placement, r.integer);
  qdq.metadata["quern.tool"] = "quern";
  qdq.metadata["quern.version"] = version();
  qdq.metadata["quern.target"] = r.target_id + " " + r.target_version + " " + r.profile;
  qdq.metadata["quern.rules_sha256"] = r.rules_digest;
  qdq.metadata["quern.configuration_sha256"] = r.config_digest;
  qdq.metadata["quern.model_sha256"] = r.model_digest;
  ExportOptions options;
  options.producer_version = version();
  write_file(folder.path() / "model.onnx", export_onnx(qdq, options));
  write_package(r.integer, folder.path() / "package");
  write_file(folder.path() / "report.json", to_text(report_json(config, r)));
  // As seen from where the folder will lie, not from where it lies for the moment.
  write_file(folder.path() / "effective.yaml", effective_yaml(config, folder.final_path()));
  folder.commit();
}

}  // namespace quern
