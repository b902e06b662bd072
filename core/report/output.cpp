#include "core/report/report.hpp"

namespace quern {

OutputFolder::OutputFolder(const fs::path& folder) {
  final_ = fs::absolute(folder).lexically_normal();
  if (!final_.has_filename()) final_ = final_.parent_path();
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

}  // namespace quern
