// Several targets side by side: what each makes of the same network and the same data.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/report/report.hpp"

namespace quern {
namespace {

double share(int64_t part, int64_t whole) { return whole > 0 ? 100.0 * static_cast<double>(part) / static_cast<double>(whole) : 0; }

// The worst output.
double lowest_sqnr(const RunResult& r) {
  double db = std::numeric_limits<double>::infinity();
  for (const OutputSqnr& s : r.sqnr) db = std::min(db, s.db);
  return db;
}

uint64_t saturated(const RunResult& r) {
  uint64_t sums = 0;
  for (const auto& [node, count] : r.saturations) sums += count;
  return sums;
}

int64_t integers_bytes(const Config& config) {
  std::error_code error;
  const auto size = fs::file_size(config.output / "package" / "data.bin", error);
  return error ? -1 : static_cast<int64_t>(size);
}

using Row = std::vector<std::string>;

// First column to the left, numbers to the right.
std::string table(const std::vector<Row>& rows) {
  std::vector<size_t> widths(rows.front().size(), 0);
  for (const Row& row : rows)
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  std::string out;
  for (const Row& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) line += i == 0 ? fmt::format("{:<{}}", row[i], widths[i]) : fmt::format("  {:>{}}", row[i], widths[i]);
    out += line + "\n";
  }
  return out;
}

}  // namespace

std::string comparison_text(const std::vector<Config>& configs, const std::vector<RunResult>& results) {
  const std::string& metric = results.front().metric;
  std::vector<Row> rows{{"target", "preset", metric.empty() ? "metric" : metric, "SQNR dB", "integer nodes", "integer MACs", "f16 nodes", "float nodes", "kB", "cycles", "saturated", "warnings"}};
  if (!metric.empty()) rows.push_back({"float", "", fmt::format("{:.4f}", results.front().metric_float), "", "", "", "", "", "", "", "", ""});
  for (size_t i = 0; i < results.size(); ++i) {
    const RunResult& r = results[i];
    const IntegerModel& m = r.integer;
    const double db = lowest_sqnr(r);
    const int64_t bytes = integers_bytes(configs[i]);
    rows.push_back({fmt::format("{} ({})", r.target, r.profile), r.preset, metric.empty() || !r.evaluated ? "" : fmt::format("{:.4f}", r.metric_quantized),
                    r.sqnr.empty() ? "" : std::isfinite(db) ? fmt::format("{:.1f}", db) : "equal",
                    fmt::format("{:.1f} %", share(m.integer_nodes, m.integer_nodes + m.float_nodes)), fmt::format("{:.2f} %", share(m.integer_macs, m.total_macs)),
                    std::to_string(m.f16_nodes), std::to_string(m.float_nodes - m.f16_nodes), bytes < 0 ? "" : fmt::format("{:.1f}", static_cast<double>(bytes) / 1e3),
                    r.cost_units == 0 ? "" : fmt::format("{:.3g}{}", r.cost_cycles, r.cost_unknown > 0 ? "+" : ""), r.evaluated ? std::to_string(saturated(r)) : "", std::to_string(r.warnings.size())});
  }
  return table(rows);
}

json::object comparison_json(const std::vector<Config>& configs, const std::vector<RunResult>& results) {
  json::array targets;
  for (size_t i = 0; i < results.size(); ++i) {
    const RunResult& r = results[i];
    json::object report = report_json(configs[i], r);
    json::object t{{"target", report["target"]}, {"folder", configs[i].output.filename().string()}, {"coverage", report["coverage"]}};
    if (const auto* e = report.if_contains("evaluation")) t["evaluation"] = *e;
    if (const auto* c = report.if_contains("cost")) t["cost"] = *c;
    if (const int64_t bytes = integers_bytes(configs[i]); bytes >= 0) t["integers_bytes"] = bytes;
    targets.push_back(std::move(t));
  }
  return json::object{{"quern_comparison", 1}, {"model_sha256", results.front().model_digest}, {"data_sha256", results.front().data_digest}, {"targets", std::move(targets)}};
}

}  // namespace quern
