#include "words.hpp"

#include <algorithm>

namespace quern_metrics {
namespace {

using Words = std::vector<std::vector<int64_t>>;  // characters count as words of one token

Words words_of(const std::vector<int64_t>& tokens, int64_t separator) {
  Words out;
  bool open = false;
  for (int64_t t : tokens) {
    if (separator < 0) { out.push_back({t}); continue; }
    if (t == separator) { open = false; continue; }
    if (!open) out.emplace_back();
    open = true;
    out.back().push_back(t);
  }
  return out;
}

// Levenshtein's distance, one row at a time.
size_t edits(const Words& a, const Words& b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({substituted, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

// The best token of every step: of [1, steps, tokens] scores, or of tokens as they are.
std::vector<int64_t> best_tokens(const quern_tensor& out) {
  const TensorView t(out);
  const bool scores = out.dtype == QUERN_DTYPE_F32 || out.dtype == QUERN_DTYPE_F64 || out.dtype == QUERN_DTYPE_F16;
  if (!scores) return classes_of(out);
  if (t.rank() < 2) refuse("scores of tokens need the shape [1, steps, tokens], not " + dims_text(t.dims()));
  const int64_t tokens = t.dim(t.rank() - 1), steps = tokens > 0 ? t.count() / tokens : 0;
  const Scores s{numbers_of(out), steps, tokens, 1};
  std::vector<int64_t> best(static_cast<size_t>(steps));
  for (int64_t i = 0; i < steps; ++i) best[static_cast<size_t>(i)] = s.best(i);
  return best;
}

}  // namespace

std::unique_ptr<ErrorRate::Meter> ErrorRate::make(const Json& p, bool words) {
  auto m = std::make_unique<Meter>();
  m->output = p.text("output", "");
  m->ctc = p.text("decode", "ctc") == "ctc";
  m->blank = p.integer("blank", 0);
  m->pad = p.integer("pad", -1);
  m->separator = words ? p.integer("separator", 0) : -1;
  return m;
}

void ErrorRate::update(Meter& m, int64_t, const OutputsView& outputs, const quern_tensor* label, const OutputsView&) {
  std::vector<int64_t> want = classes_of(*label), got;
  want.erase(std::find(want.begin(), want.end(), m.pad), want.end());
  int64_t last = -1;
  for (int64_t t : best_tokens(output_of(outputs, m.output))) {
    const bool dropped = m.ctc && (t == m.blank || t == last);
    last = t;
    if (!dropped && t != m.pad) got.push_back(t);
  }
  const Words a = words_of(want, m.separator);
  m.edits += static_cast<double>(edits(a, words_of(got, m.separator)));
  m.length += static_cast<double>(a.size());
}

double ErrorRate::result(const Meter& m) {
  if (m.length == 0) refuse("the right texts are all empty; an error rate says nothing about them");
  return m.edits / m.length;
}

}  // namespace quern_metrics
