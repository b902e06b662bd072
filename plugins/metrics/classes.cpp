#include "classes.hpp"

#include <algorithm>
#include <map>

namespace quern_metrics {

std::unique_ptr<Auc::Meter> Auc::create(const Json& p) {
  return std::make_unique<Meter>(Meter{p.text("output", ""), p.text("score", "output") == "error", static_cast<size_t>(p.integer("positive", 1)), {}});
}

void Auc::update(Meter& m, int64_t sample, const OutputsView& outputs, const quern_tensor* label, const OutputsView&) {
  const std::vector<double> out = numbers_of(output_of(outputs, m.output)), marks = numbers_of(*label);
  if (marks.empty() || (marks[0] != 0 && marks[0] != 1)) refuse("sample " + std::to_string(sample) + ": auc needs labels that are 0 or 1");
  double score = 0;
  if (m.error) {
    if (marks.size() != out.size() + 1)
      refuse("auc of the error needs the class and " + std::to_string(out.size()) + " numbers of the target as labels, not " + std::to_string(marks.size()) +
             " numbers: labels: [class array, target array]");
    for (size_t i = 0; i < out.size(); ++i) score += (out[i] - marks[i + 1]) * (out[i] - marks[i + 1]);
    score /= static_cast<double>(out.size());
  } else {
    if (marks.size() != 1) refuse("auc needs one label a sample, not " + std::to_string(marks.size()));
    if (out.size() > 1 && m.positive >= out.size()) refuse("auc: there is no class " + std::to_string(m.positive) + " among " + std::to_string(out.size()));
    if (out.empty()) refuse("auc: the output is empty");
    score = out[out.size() == 1 ? 0 : m.positive];
  }
  if (std::isnan(score)) refuse("sample " + std::to_string(sample) + ": the score is not a number");
  m.seen.emplace_back(score, marks[0] == 1);
}

double Auc::result(const Meter& m) {
  auto sorted = m.seen;
  std::sort(sorted.begin(), sorted.end());
  double right = 0, below = 0, positives = 0;  // negatives with a smaller score so far
  for (size_t i = 0; i < sorted.size();) {
    double equal_negatives = 0, equal_positives = 0;
    const double score = sorted[i].first;
    for (; i < sorted.size() && sorted[i].first == score; ++i) (sorted[i].second ? equal_positives : equal_negatives) += 1;
    right += equal_positives * (below + equal_negatives / 2);
    below += equal_negatives;
    positives += equal_positives;
  }
  if (positives == 0 || below == 0) refuse("auc needs samples of both classes; all have label " + std::string(positives > 0 ? "1" : "0"));
  return right / (positives * below);
}

std::unique_ptr<F1::Meter> F1::create(const Json& p) {
  return std::make_unique<Meter>(Meter{p.text("output", ""), p.text("average", "macro"), p.integer("positive", 1), p.number("threshold", 0.5), {}});
}

void F1::update(Meter& m, int64_t, const OutputsView& outputs, const quern_tensor* label, const OutputsView&) {
  const auto marks = classes_of(*label);
  const auto found = decided(output_of(outputs, m.output), static_cast<int64_t>(marks.size()), m.threshold);
  for (size_t i = 0; i < marks.size(); ++i) m.seen.emplace_back(marks[i], found[i]);
}

double F1::result(const Meter& m) {
  if (m.seen.empty()) refuse("f1 was given no sample");
  struct Counts { double right = 0, found = 0, labelled = 0; };
  std::map<int64_t, Counts> classes;
  double right = 0;
  for (const auto& [mark, found] : m.seen) {
    classes[mark].labelled += 1;
    classes[found].found += 1;
    if (mark == found) classes[mark].right += 1, right += 1;
  }
  const auto f1 = [](const Counts& c) { return c.found + c.labelled > 0 ? 2 * c.right / (c.found + c.labelled) : 0; };
  const auto all = static_cast<double>(m.seen.size());
  if (m.average == "micro") return right / all;  // one decision a label: FP = FN
  if (m.average == "binary") return f1(classes[m.positive]);
  double sum = 0;
  for (const auto& [number, counts] : classes) sum += f1(counts) * (m.average == "weighted" ? counts.labelled / all : 1 / static_cast<double>(classes.size()));
  return sum;
}

std::unique_ptr<MeanIou::Meter> MeanIou::create(const Json& p) {
  return std::make_unique<Meter>(Meter{p.text("output", ""), p.integer("ignore", 255), p.number("threshold", 0.5), {}});
}

void MeanIou::update(Meter& m, int64_t, const OutputsView& outputs, const quern_tensor* label, const OutputsView&) {
  const auto marks = classes_of(*label);
  const auto found = decided(output_of(outputs, m.output), static_cast<int64_t>(marks.size()), m.threshold);
  const auto of = [&](int64_t c) -> Counts& {
    if (c < 0 || c > 65535) refuse("the class " + std::to_string(c) + " is none");
    if (static_cast<size_t>(c) >= m.classes.size()) m.classes.resize(static_cast<size_t>(c) + 1);
    return m.classes[static_cast<size_t>(c)];
  };
  for (size_t i = 0; i < marks.size(); ++i) {
    if (marks[i] == m.ignore) continue;
    ++of(marks[i]).labelled;
    ++of(found[i]).decided;
    if (marks[i] == found[i]) ++of(marks[i]).both;
  }
}

double MeanIou::result(const Meter& m) {
  double sum = 0;
  int64_t there = 0;
  for (const Counts& c : m.classes) {
    const int64_t together = c.decided + c.labelled - c.both;
    if (together == 0) continue;
    sum += static_cast<double>(c.both) / static_cast<double>(together);
    ++there;
  }
  if (there == 0) refuse("miou: no position has a label");
  return sum / static_cast<double>(there);
}

std::unique_ptr<Dice::Meter> Dice::create(const Json& p) {
  return std::make_unique<Meter>(Meter{p.text("output", ""), p.number("smooth", 1), p.number("threshold", 0.5), {}});
}

void Dice::update(Meter& m, int64_t, const OutputsView& outputs, const quern_tensor* label, const OutputsView&) {
  auto marks = classes_of(*label);
  const quern_tensor& out = output_of(outputs, m.output);
  const auto positions = static_cast<int64_t>(marks.size());
  const bool one = TensorView(out).count() == positions;
  const auto found = decided(out, positions, m.threshold);
  if (one) for (auto& v : marks) v = v > 0;
  std::map<int64_t, std::pair<double, double>> sizes;  // class: |A and B|, |A| + |B|
  if (one) sizes[1];
  for (size_t i = 0; i < marks.size(); ++i) {
    if (marks[i] > 0) sizes[marks[i]].second += 1;
    if (found[i] > 0) sizes[found[i]].second += 1;
    if (marks[i] > 0 && marks[i] == found[i]) sizes[marks[i]].first += 1;
  }
  double sum = 0;
  for (const auto& [number, s] : sizes) sum += s.second + m.smooth > 0 ? (2 * s.first + m.smooth) / (s.second + m.smooth) : 1;
  m.mean.add(sizes.empty() ? 1 : sum / static_cast<double>(sizes.size()));
}

}  // namespace quern_metrics
