#include "detection.hpp"

namespace quern_metrics {

std::unique_ptr<MeanAveragePrecision::Meter> MeanAveragePrecision::create(const Json& p) {
  auto m = std::make_unique<Meter>(Meter{BoxDecoder(p["boxes"]), p.text("rule", "coco") == "coco", static_cast<int>(p.integer("points", 0)), {}, {}});
  for (const Json& o : p["overlaps"].items()) m->overlaps.push_back(o.number());
  if (m->overlaps.empty()) {
    if (!m->coco) m->overlaps.push_back(0.5);
    else for (int i = 0; i < 10; ++i) m->overlaps.push_back(i < 9 ? 0.5 + i * ((0.95 - 0.5) / 9) : 0.95);  // as COCO's program makes them
  }
  return m;
}

void MeanAveragePrecision::update(Meter& m, int64_t sample, const OutputsView& outputs, const quern_tensor* label, const OutputsView&) {
  const TensorView t(*label);
  const int64_t columns = t.rank() >= 1 ? t.dim(t.rank() - 1) : 0;
  if (columns != 5 && columns != 6)
    refuse("sample " + std::to_string(sample) + ": map needs labels of rows [class, x1, y1, x2, y2] or with a sixth number, not of shape " + dims_text(t.dims()));
  const auto v = numbers_of(*label);
  std::vector<Truth> truths;
  for (size_t at = 0; at < v.size(); at += static_cast<size_t>(columns)) {
    if (v[at] < 0) continue;
    truths.push_back({{v[at + 1], v[at + 2], v[at + 3], v[at + 4], 1, static_cast<int64_t>(v[at])}, columns == 6 && v[at + 5] != 0});
  }
  m.precision.add(m.decoder.decode(outputs), truths);
}

double MeanAveragePrecision::result(const Meter& m) {
  if (m.coco) return m.precision.coco(m.overlaps);
  double sum = 0;
  for (double o : m.overlaps) sum += m.precision.voc(o, m.points);
  return sum / static_cast<double>(m.overlaps.size());
}

std::unique_ptr<CellF1::Meter> CellF1::create(const Json& p) {
  auto m = std::make_unique<Meter>(Meter{p.text("output", ""), p.integer("objectness", 0), p.integer("classes", 5), 0.6, 0.4, p.number("threshold", 0.5)});
  if (p.has("exponents")) {
    const auto& e = p["exponents"].items();
    if (e.size() != 2) refuse("exponents has to be two numbers");
    m->a = e[0].number();
    m->b = e[1].number();
  }
  return m;
}

void CellF1::update(Meter& m, int64_t, const OutputsView& outputs, const quern_tensor*, const OutputsView& float_outputs) {
  // The class of every confident cell, 0 of the others.
  const auto cells = [&](const quern_tensor& out) {
    const TensorView t(out);
    if (t.rank() != 4 || m.objectness >= t.dim(1) || m.classes >= t.dim(1))
      refuse("cell_f1 needs an output [1, channels, height, width] with objectness and classes, not " + dims_text(t.dims()));
    const auto v = numbers_of(out);
    const int64_t channels = t.dim(1), plane = t.dim(2) * t.dim(3);
    std::vector<int64_t> kinds;
    for (int64_t n = 0; n < t.dim(0); ++n)
      for (int64_t i = 0; i < plane; ++i) {
        const auto at = [&](int64_t c) { return v[static_cast<size_t>((n * channels + c) * plane + i)]; };
        int64_t best = m.classes;
        for (int64_t c = m.classes + 1; c < channels; ++c) if (at(c) > at(best)) best = c;
        kinds.push_back(power(at(m.objectness), m.a) * power(at(best), m.b) > m.threshold ? best - m.classes + 1 : 0);
      }
    return kinds;
  };
  const auto got = cells(output_of(outputs, m.output)), want = cells(output_of(float_outputs, m.output));
  if (got.size() != want.size()) refuse("the output has another size than the float network's");
  for (size_t i = 0; i < got.size(); ++i) {
    m.right += got[i] > 0 && got[i] == want[i];
    m.found += got[i] > 0;
    m.wanted += want[i] > 0;
  }
}

double CellF1::result(const Meter& m) { return m.found + m.wanted > 0 ? 2 * m.right / (m.found + m.wanted) : 1; }

}  // namespace quern_metrics
