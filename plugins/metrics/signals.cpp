#include "signals.hpp"

#include <algorithm>
#include <numeric>

namespace quern_metrics {

Pair pair_of(const OutputsView& outputs, const std::string& output, const quern_tensor* label) {
  const quern_tensor& out = output_of(outputs, output);
  Pair p{numbers_of(out), numbers_of(*label)};
  if (p.out.size() != p.want.size())
    refuse("the output has the shape " + dims_text(TensorView(out).dims()) + ", its label " + dims_text(TensorView(*label).dims()));
  if (p.out.empty()) refuse("the output is empty");
  return p;
}

void Rmse::update(Meter& m, int64_t, const OutputsView& outputs, const quern_tensor* label, const OutputsView&) {
  const Pair p = pair_of(outputs, m.output, label);
  for (size_t i = 0; i < p.out.size(); ++i) m.sum += (p.out[i] - p.want[i]) * (p.out[i] - p.want[i]);
  m.count += static_cast<double>(p.out.size());
}
double Rmse::result(const Meter& m) {
  if (m.count == 0) refuse("rmse was given no sample");
  return std::sqrt(m.sum / m.count);
}

void Mae::update(Meter& m, int64_t, const OutputsView& outputs, const quern_tensor* label, const OutputsView&) {
  const Pair p = pair_of(outputs, m.output, label);
  for (size_t i = 0; i < p.out.size(); ++i) m.sum += std::fabs(p.out[i] - p.want[i]);
  m.count += static_cast<double>(p.out.size());
}
double Mae::result(const Meter& m) {
  if (m.count == 0) refuse("mae was given no sample");
  return m.sum / m.count;
}

void Correlation::update(Meter& m, int64_t, const OutputsView& outputs, const quern_tensor* label, const OutputsView&) {
  const Pair p = pair_of(outputs, m.output, label);
  m.all.out.insert(m.all.out.end(), p.out.begin(), p.out.end());
  m.all.want.insert(m.all.want.end(), p.want.begin(), p.want.end());
}

namespace {

double correlation(const std::vector<double>& a, const std::vector<double>& b) {
  const auto n = static_cast<double>(a.size());
  if (a.size() < 2) refuse("a correlation needs two values at least");
  const double mean_a = std::accumulate(a.begin(), a.end(), 0.0) / n, mean_b = std::accumulate(b.begin(), b.end(), 0.0) / n;
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    ab += (a[i] - mean_a) * (b[i] - mean_b);
    aa += (a[i] - mean_a) * (a[i] - mean_a);
    bb += (b[i] - mean_b) * (b[i] - mean_b);
  }
  if (aa == 0 || bb == 0) refuse(std::string("a correlation says nothing where all ") + (aa == 0 ? "outputs" : "labels") + " are equal");
  return ab / std::sqrt(aa) / std::sqrt(bb);
}

std::vector<double> ranks(const std::vector<double>& v) {
  std::vector<size_t> order(v.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return v[a] < v[b]; });
  std::vector<double> out(v.size());
  for (size_t i = 0; i < order.size();) {
    size_t end = i + 1;
    while (end < order.size() && v[order[end]] == v[order[i]]) ++end;
    for (size_t k = i; k < end; ++k) out[order[k]] = static_cast<double>(i + end - 1) / 2;
    i = end;
  }
  return out;
}

}  // namespace

double Pearson::result(const Meter& m) { return correlation(m.all.out, m.all.want); }
double Spearman::result(const Meter& m) { return correlation(ranks(m.all.out), ranks(m.all.want)); }

void SiSdr::update(Meter& m, int64_t sample, const OutputsView& outputs, const quern_tensor* label, const OutputsView&) {
  Pair p = pair_of(outputs, m.output, label);
  if (m.zero_mean)
    for (auto* v : {&p.out, &p.want}) {
      const double mean = std::accumulate(v->begin(), v->end(), 0.0) / static_cast<double>(v->size());
      for (double& x : *v) x -= mean;
    }
  double er = 0, rr = 0, tt = 0, dd = 0;
  for (size_t i = 0; i < p.out.size(); ++i) er += p.out[i] * p.want[i], rr += p.want[i] * p.want[i];
  if (rr == 0) refuse("sample " + std::to_string(sample) + ": the clean signal is silent; si_sdr says nothing about it");
  const double a = er / rr;
  for (size_t i = 0; i < p.out.size(); ++i) {
    const double t = a * p.want[i], d = p.out[i] - t;
    tt += t * t;
    dd += d * d;
  }
  m.mean.add(decibels(dd > 0 ? tt / dd : std::numeric_limits<double>::infinity()));
}

}  // namespace quern_metrics
