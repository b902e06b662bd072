// GridSample: reads a tensor at places that another one gives. Row major, f32 and f64.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "core/engine/float/families.hpp"
#include "core/engine/float/strided.hpp"
#include "core/numeric/rounding.hpp"

namespace quern::own {
namespace {

enum class Mode { nearest, linear, cubic };
enum class Padding { zeros, border, reflection };
constexpr size_t most_axes = 3;

struct Settings { Mode mode = Mode::linear; Padding padding = Padding::zeros; bool align_corners = false; };

// From [-1, 1] to places of an axis of n.
double place(double g, int64_t n, bool align_corners) {
  const auto size = static_cast<double>(n);
  return align_corners ? (g + 1) / 2 * (size - 1) : ((g + 1) * size - 1) / 2;
}

double reflected(double x, double low, double high) {
  const double range = high - low;
  if (!(range > 0)) return 0;
  double d = std::fabs(x - low);
  d = std::fmod(d, 2 * range);
  return low + (d > range ? 2 * range - d : d);
}

// A whole place, inside of the axis; -1: outside, where zeros are.
int64_t inside(int64_t i, int64_t n, const Settings& s) {
  if (i >= 0 && i < n) return i;
  if (s.padding == Padding::zeros) return -1;
  if (s.padding == Padding::border) return std::clamp<int64_t>(i, 0, n - 1);
  const double low = s.align_corners ? 0 : -0.5, high = static_cast<double>(n) - (s.align_corners ? 1 : 0.5);
  return std::clamp<int64_t>(static_cast<int64_t>(reflected(static_cast<double>(i), low, high)), 0, n - 1);
}

struct Taps { int count = 0; std::array<int64_t, 4> at{}; std::array<double, 4> weight{}; };

Taps taps_of(double x, int64_t n, const Settings& s) {
  if (!(std::fabs(x) < 1e15)) x = -1e15;  // also NaN: beyond the border
  if (s.mode != Mode::cubic && s.padding == Padding::border) x = std::clamp(x, 0.0, static_cast<double>(n - 1));
  if (s.mode != Mode::cubic && s.padding == Padding::reflection)
    x = reflected(x, s.align_corners ? 0 : -0.5, static_cast<double>(n) - (s.align_corners ? 1 : 0.5));
  if (s.mode == Mode::nearest) return {1, {inside(to_integer(x, Round::half_even), n, s)}, {1}};
  const auto below = static_cast<int64_t>(std::floor(x));
  const double p = x - static_cast<double>(below);
  if (s.mode == Mode::linear) return {2, {inside(below, n, s), inside(below + 1, n, s)}, {1 - p, p}};
  constexpr double a = -0.75;
  const auto near = [](double d) { return ((a + 2) * d - (a + 3)) * d * d + 1; };
  const auto far = [](double d) { return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a; };
  Taps t{4, {}, {far(1 + p), near(p), near(1 - p), far(2 - p)}};
  for (int k = 0; k < 4; ++k) t.at[static_cast<size_t>(k)] = inside(below - 1 + k, n, s);
  return t;
}

template <class T>
void sample(const Call& c, const Settings& s) {
  const TensorView &x = c.in[0], &grid = c.in[1], &y = c.out[0];
  const size_t axes = x.dims.size() - 2;
  const int64_t channels = x.dims[1], image = product(x.dims, 2, x.dims.size()), points = product(y.dims, 2, y.dims.size());
  std::array<int64_t, most_axes> step{};
  for (size_t a = axes, n = 1; a-- > 0;) {
    step[a] = static_cast<int64_t>(n);
    n *= static_cast<size_t>(x.dims[2 + a]);
  }
  for (int64_t b = 0; b < x.dims[0]; ++b)
    for (int64_t p = 0; p < points; ++p) {
      std::array<Taps, most_axes> taps;
      const T* at = grid.as<const T>() + (b * points + p) * static_cast<int64_t>(axes);
      for (size_t a = 0; a < axes; ++a)  // the grid names the last axis first
        taps[a] = taps_of(place(static_cast<double>(at[axes - 1 - a]), x.dims[2 + a], s.align_corners), x.dims[2 + a], s);
      for (size_t a = axes; a < most_axes; ++a) taps[a] = {1, {0}, {1}};
      for (int64_t k = 0; k < channels; ++k) {
        const T* from = x.as<const T>() + (b * channels + k) * image;
        double sum = 0;
        for (int i = 0; i < taps[0].count; ++i)
          for (int j = 0; j < taps[1].count; ++j)
            for (int l = 0; l < taps[2].count; ++l) {
              const auto i0 = taps[0].at[static_cast<size_t>(i)], i1 = taps[1].at[static_cast<size_t>(j)], i2 = taps[2].at[static_cast<size_t>(l)];
              if (i0 < 0 || i1 < 0 || i2 < 0) continue;
              const double w = taps[0].weight[static_cast<size_t>(i)] * taps[1].weight[static_cast<size_t>(j)] * taps[2].weight[static_cast<size_t>(l)];
              sum += w * static_cast<double>(from[i0 * step[0] + i1 * step[1] + i2 * step[2]]);
            }
        y.as<T>()[(b * channels + k) * points + p] = static_cast<T>(sum);
      }
    }
}

Made grid_sample(const Op& op) {
  Settings s;
  const std::string mode = op.node().text("mode", op.node().since_version < 20 ? "bilinear" : "linear");
  const std::string padding = op.node().text("padding_mode", "zeros");
  if (mode == "nearest") s.mode = Mode::nearest;
  else if (mode == "bicubic" || mode == "cubic") s.mode = Mode::cubic;
  else if (mode != "bilinear" && mode != "linear") op.fail("GridSample 'mode' is '" + mode + "': nearest, linear and cubic exist");
  if (padding == "border") s.padding = Padding::border;
  else if (padding == "reflection") s.padding = Padding::reflection;
  else if (padding != "zeros") op.fail("GridSample 'padding_mode' is '" + padding + "': zeros, border and reflection exist");
  s.align_corners = op.node().integer("align_corners", 0) != 0;
  const auto rank = static_cast<size_t>(op.rank());
  if (rank < 3 || rank > 2 + most_axes) op.fail(fmt::format("GridSample of rank {} is not computed: 3 to {} are", rank, 2 + most_axes));
  if (op.in(1).dims.back() != op.rank() - 2 || op.in(1).dims[0] != op.in(0).dims[0]) op.fail("GridSample needs a grid of shape [batch, ..., axes]");
  for (size_t a = 2; a < rank; ++a)
    if (op.in(0).dims[a] < 1) op.fail("GridSample can't read an empty image");
  if (op.type() != op.type(1)) return {};
  if (op.type() == DType::f32) return op.kernel(Layout::row_major, [s](const Call& c) { sample<float>(c, s); });
  if (op.type() == DType::f64) return op.kernel(Layout::row_major, [s](const Call& c) { sample<double>(c, s); });
  return {};
}

constexpr Entry entries[] = {{"", "GridSample", grid_sample}};

}  // namespace

std::span<const Entry> grid_ops() { return entries; }

}  // namespace quern::own
