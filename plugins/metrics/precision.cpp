#include "precision.hpp"

#include <algorithm>

namespace quern_metrics {
namespace {

struct Curve { std::vector<double> recall, precision; };

// Hits in order of score; precision made to fall only (each the largest of those at higher recall).
template <class Hits>
Curve curve_of(Hits hits, double wanted) {
  std::stable_sort(hits.begin(), hits.end(), [](const auto& a, const auto& b) { return a.score > b.score; });
  Curve c;
  double right = 0, all = 0;
  for (const auto& hit : hits) {
    right += hit.right;
    all += 1;
    c.recall.push_back(right / wanted);
    c.precision.push_back(right / all);
  }
  for (size_t i = c.precision.size(); i-- > 1;) c.precision[i - 1] = std::max(c.precision[i - 1], c.precision[i]);
  return c;
}

// The precision at the first recall that reaches `wanted`, 0 beyond the last.
double at_recall(const Curve& c, double wanted) {
  const auto at = std::lower_bound(c.recall.begin(), c.recall.end(), wanted) - c.recall.begin();
  return static_cast<size_t>(at) < c.precision.size() ? c.precision[static_cast<size_t>(at)] : 0;
}

}  // namespace

void Precision::add(std::vector<Box> found, const std::vector<Truth>& truths) {
  std::stable_sort(found.begin(), found.end(), [](const Box& a, const Box& b) { return a.score > b.score; });
  for (const Box& b : found) classes_[b.kind][images_].found.push_back(b);
  for (const Truth& t : truths) classes_[t.box.kind][images_].truths.push_back(t);
  ++images_;
}

double Precision::voc(double wanted_overlap, int points) const {
  double sum = 0;
  int64_t counted = 0;
  for (const auto& [kind, images] : classes_) {
    double wanted = 0;
    std::vector<Hit> hits;
    for (const auto& [number, image] : images) {
      std::vector<bool> taken(image.truths.size());
      for (const Truth& t : image.truths) wanted += !t.crowd;
      for (const Box& b : image.found) {
        size_t best = image.truths.size();
        double largest = wanted_overlap;
        for (size_t g = 0; g < image.truths.size(); ++g)
          if (const double o = iou(b, image.truths[g].box); o >= largest && (best == image.truths.size() || o > largest)) largest = o, best = g;
        if (best < image.truths.size() && image.truths[best].crowd) continue;
        const bool right = best < image.truths.size() && !taken[best];
        if (right) taken[best] = true;
        hits.push_back({b.score, right});
      }
    }
    if (wanted == 0) continue;
    ++counted;
    const Curve c = curve_of(std::move(hits), wanted);
    if (points == 11) {
      for (int i = 0; i <= 10; ++i) sum += at_recall(c, i / 10.0) / 11;
    } else {
      double before = 0;
      for (size_t i = 0; i < c.recall.size(); ++i) sum += (c.recall[i] - before) * c.precision[i], before = c.recall[i];
    }
  }
  if (counted == 0) refuse("map: no label has a box");
  return sum / static_cast<double>(counted);
}

double Precision::coco(const std::vector<double>& overlaps) const {
  double sum = 0;
  int64_t counted = 0;
  for (const auto& [kind, images] : classes_) {
    double wanted = 0;
    for (const auto& [number, image] : images)
      for (const Truth& t : image.truths) wanted += !t.crowd;
    if (wanted == 0) continue;
    for (double threshold : overlaps) {
      std::vector<Hit> hits;
      for (const auto& [number, image] : images) {
        std::vector<const Truth*> truths;  // crowds last
        for (bool crowd : {false, true})
          for (const Truth& t : image.truths) if (t.crowd == crowd) truths.push_back(&t);
        std::vector<bool> taken(truths.size());
        for (const Box& b : image.found) {
          size_t best = truths.size();
          double largest = std::min(threshold, 1 - 1e-10);
          for (size_t g = 0; g < truths.size(); ++g) {
            if (taken[g] && !truths[g]->crowd) continue;
            if (best < truths.size() && !truths[best]->crowd && truths[g]->crowd) break;
            const double mine = area(b);
            const double o = truths[g]->crowd ? (mine > 0 ? overlap(b, truths[g]->box) / mine : 0) : iou(b, truths[g]->box);
            if (o >= largest) largest = o, best = g;
          }
          if (best == truths.size()) { hits.push_back({b.score, false}); continue; }
          taken[best] = true;
          if (!truths[best]->crowd) hits.push_back({b.score, true});
        }
      }
      const Curve c = curve_of(std::move(hits), wanted);
      for (int i = 0; i <= 100; ++i) sum += at_recall(c, i < 100 ? i * 0.01 : 1) / 101;  // the very numbers of COCO's program: 35 * 0.01 is above 7 / 20
      ++counted;
    }
  }
  if (counted == 0) refuse("map: no label has a box");
  return sum / static_cast<double>(counted);
}

}  // namespace quern_metrics
