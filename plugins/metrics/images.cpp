#include "images.hpp"

#include <array>

namespace quern_metrics {

void Psnr::update(Meter& m, int64_t, const OutputsView& outputs, const quern_tensor* label, const OutputsView&) {
  const Pair p = pair_of(outputs, m.output, label);
  double sum = 0;
  for (size_t i = 0; i < p.out.size(); ++i) sum += (p.out[i] - p.want[i]) * (p.out[i] - p.want[i]);
  const double mse = sum / static_cast<double>(p.out.size());
  m.mean.add(decibels(mse > 0 ? m.peak * m.peak / mse : std::numeric_limits<double>::infinity()));
}

namespace {

constexpr int radius = 5, window = 2 * radius + 1;

std::array<double, window> gaussian() {
  std::array<double, window> g{};
  double sum = 0;
  for (int i = 0; i < window; ++i) sum += g[static_cast<size_t>(i)] = portable::exp(-0.5 * (i - radius) * (i - radius) / (1.5 * 1.5));
  for (double& v : g) v /= sum;
  return g;
}

// The window's mean at every place where it lies inside: [h-10][w-10].
std::vector<double> blurred(const std::vector<double>& plane, int64_t h, int64_t w) {
  static const std::array<double, window> g = gaussian();
  const int64_t oh = h - 2 * radius, ow = w - 2 * radius;
  std::vector<double> rows(static_cast<size_t>(h * ow)), out(static_cast<size_t>(oh * ow));
  for (int64_t y = 0; y < h; ++y)
    for (int64_t x = 0; x < ow; ++x)
      for (int k = 0; k < window; ++k) rows[static_cast<size_t>(y * ow + x)] += g[static_cast<size_t>(k)] * plane[static_cast<size_t>(y * w + x + k)];
  for (int64_t y = 0; y < oh; ++y)
    for (int k = 0; k < window; ++k)
      for (int64_t x = 0; x < ow; ++x) out[static_cast<size_t>(y * ow + x)] += g[static_cast<size_t>(k)] * rows[static_cast<size_t>((y + k) * ow + x)];
  return out;
}

std::vector<double> product(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> out(a.size());
  for (size_t i = 0; i < a.size(); ++i) out[i] = a[i] * b[i];
  return out;
}

double similarity(const std::vector<double>& a, const std::vector<double>& b, int64_t h, int64_t w, double peak) {
  const double c1 = 0.01 * peak * 0.01 * peak, c2 = 0.03 * peak * 0.03 * peak;
  const auto ma = blurred(a, h, w), mb = blurred(b, h, w), aa = blurred(product(a, a), h, w), bb = blurred(product(b, b), h, w), ab = blurred(product(a, b), h, w);
  double sum = 0;
  for (size_t i = 0; i < ma.size(); ++i) {
    const double va = aa[i] - ma[i] * ma[i], vb = bb[i] - mb[i] * mb[i], cov = ab[i] - ma[i] * mb[i];
    sum += (2 * ma[i] * mb[i] + c1) * (2 * cov + c2) / ((ma[i] * ma[i] + mb[i] * mb[i] + c1) * (va + vb + c2));
  }
  return sum / static_cast<double>(ma.size());
}

}  // namespace

void Ssim::update(Meter& m, int64_t, const OutputsView& outputs, const quern_tensor* label, const OutputsView&) {
  const Pair p = pair_of(outputs, m.output, label);
  const TensorView t(output_of(outputs, m.output));
  const size_t axes = m.channels_last ? 3 : 2;
  if (t.rank() < axes) refuse("ssim needs pictures, not an output of shape " + dims_text(t.dims()));
  const int64_t h = t.dim(t.rank() - axes), w = t.dim(t.rank() - axes + 1), step = m.channels_last ? t.dim(t.rank() - 1) : 1;
  if (h < window || w < window) refuse("ssim needs pictures of 11 x 11 at least, not an output of shape " + dims_text(t.dims()));
  const int64_t planes = t.count() / (h * w);
  double sum = 0;
  std::vector<double> a(static_cast<size_t>(h * w)), b(a.size());
  for (int64_t k = 0; k < planes; ++k) {
    const int64_t begin = k / step * h * w * step + k % step;
    for (int64_t i = 0; i < h * w; ++i) {
      a[static_cast<size_t>(i)] = p.out[static_cast<size_t>(begin + i * step)];
      b[static_cast<size_t>(i)] = p.want[static_cast<size_t>(begin + i * step)];
    }
    sum += similarity(a, b, h, w, m.peak);
  }
  m.mean.add(sum / static_cast<double>(planes));
}

}  // namespace quern_metrics
