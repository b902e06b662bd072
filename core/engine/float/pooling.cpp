// Pooling over windows and over all of space. Channels are innermost in memory: every window is a few adds or maxima over
// dense rows of channels. Sums are taken in double, taps in row-major order of the window.
#include <cmath>
#include <limits>

#include "core/engine/float/families.hpp"
#include "core/engine/float/functions.hpp"
#include "core/engine/float/pool_planes.hpp"
#include "core/engine/float/strided.hpp"
#include "core/graph/shapes.hpp"

namespace quern::own {
namespace {

constexpr int64_t chunk = 64;  // channels at a time: their partial results stay in registers and the first cache

// Calls tap(offset of its row of channels in the input, index in row-major spatial order) for every tap of the window at
// `place` that lies inside the input. Returns the number of taps inside the padded input.
template <class F>
int64_t for_taps(const Window& w, const TensorView& x, const Strides& place, const F& tap) {
  const size_t axes = w.kernel.size();
  int64_t first[max_rank], last[max_rank], counted = 1;
  for (size_t a = 0; a < axes; ++a) {
    const int64_t n = x.dims[a + 2], start = place[a] * w.stride[a] - w.pad_begin[a], d = w.dilation[a];
    first[a] = start < 0 ? (-start + d - 1) / d : 0;
    last[a] = start >= n ? 0 : std::min(w.kernel[a], (n - start + d - 1) / d);
    const int64_t limit = n + w.pad_end[a];
    counted *= start >= limit ? 0 : std::min(w.kernel[a], (limit - start + d - 1) / d);
  }
  for (size_t a = 0; a < axes; ++a)
    if (first[a] >= last[a]) return counted;
  Strides k{};
  for (size_t a = 0; a < axes; ++a) k[a] = first[a];
  for (;;) {
    int64_t offset = 0, index = 0;
    for (size_t a = 0; a < axes; ++a) {
      const int64_t at = place[a] * w.stride[a] - w.pad_begin[a] + k[a] * w.dilation[a];
      offset += at * x.strides[a + 2];
      index = index * x.dims[a + 2] + at;
    }
    tap(offset, index);
    size_t a = axes;
    for (;;) {
      if (a == 0) return counted;
      --a;
      if (++k[a] < last[a]) break;
      k[a] = first[a];
    }
  }
}

// visit(place, offset in the input's batch, offset in the output): every window of every sample.
template <class F>
void for_windows(const Window& w, const TensorView& x, const TensorView& y, const F& visit) {
  if (y.count() == 0) return;
  const std::span<const int64_t> space = y.dims.subspan(2), strides = y.strides.subspan(2);
  (void)w;
  for (int64_t b = 0; b < y.dims[0]; ++b) {
    Odometer o(space, strides);
    do visit(o.at, b * x.strides[0], b * y.strides[0] + o.offset); while (o.next());
  }
}

Window window_of(const Op& op) {
  if (op.rank() < 3) op.fail(op.node().op + " needs a tensor with at least one spatial axis");
  return pool_window(op.node(), op.in(0).dims);
}

Made max_pool(const Op& op) {
  const Window w = window_of(op);
  const bool columns = op.node().integer("storage_order", 0) != 0;
  Made made;
  dispatch<float, double, int8_t, uint8_t>(op.type(), [&](auto tag) {
    using T = decltype(tag);
    constexpr T least = std::is_floating_point_v<T> ? -std::numeric_limits<T>::infinity() : std::numeric_limits<T>::lowest();
    made = op.kernel(Layout::channels_last, [w, columns](const Call& c) {
      const TensorView &x = c.in[0], &y = c.out[0];
      const int64_t channels = x.dims[1], sx = x.strides[1], sy = y.strides[1];
      const bool indices = c.out.size() > 1 && c.out[1].data;
      const bool dense = sx == 1 && sy == 1;
      if (!indices && is_planes(x, y)) {
        over_planes<T, T, true>(w, x, y, least, [](auto a, auto v) { return v > a ? v : a; }, [](T a, int64_t, int64_t) { return a; });
        return;
      }
      const int64_t plane = product(x.dims, 2, x.dims.size());
      for_windows(w, x, y, [&](const Strides& place, int64_t from, int64_t to) {
        T* o = y.as<T>() + to;
        const T* base = x.as<const T>() + from;
        for (int64_t k = 0; k < channels; ++k) o[k * sy] = least;
        for_taps(w, x, place, [&](int64_t offset, int64_t) {
          const T* i = base + offset;
          if (dense) {
            for (int64_t k = 0; k < channels; ++k) o[k] = i[k] > o[k] ? i[k] : o[k];
          } else {
            for (int64_t k = 0; k < channels; ++k) o[k * sy] = i[k * sx] > o[k * sy] ? i[k * sx] : o[k * sy];
          }
        });
        if (!indices) return;
        const int64_t sample = from / std::max<int64_t>(1, x.strides[0]);
        const TensorView& where = c.out[1];
        int64_t at = sample * where.strides[0];
        for (size_t a = 2; a < where.dims.size(); ++a) at += place[a - 2] * where.strides[a];
        for (int64_t k = 0; k < channels; ++k) {
          bool found = false;
          for_taps(w, x, place, [&](int64_t offset, int64_t index) {
            if (found || base[offset + k * sx] != o[k * sy]) return;
            found = true;
            if (columns) {  // column-major order of the spatial axes
              int64_t rest = index, column = 0;
              Strides parts{};
              for (size_t a = x.dims.size(); a-- > 2;) { parts[a] = rest % x.dims[a]; rest /= x.dims[a]; }
              for (size_t a = x.dims.size(); a-- > 2;) column = column * x.dims[a] + parts[a];
              index = column;
            }
            where.as<int64_t>()[at + k * where.strides[1]] = (sample * channels + k) * plane + index;
          });
        }
      });
    });
  });
  return made;
}

// Sum over the window of f(x), then g(sum, taps counted) per channel.
template <class T, bool vectors, class F, class G>
void sum_windows(const Window& w, const Call& c, const F& f, const G& g) {
  const TensorView &x = c.in[0], &y = c.out[0];
  const int64_t channels = x.dims[1], sx = x.strides[1], sy = y.strides[1];
  if (is_planes(x, y)) {
    const bool padded = w.count_include_pad;
    over_planes<T, double, vectors>(w, x, y, 0.0, [&](auto a, auto v) { return a + f(v); },
                           [&](double a, int64_t inside, int64_t counted) { return static_cast<T>(g(a, static_cast<double>(padded ? counted : inside))); });
    return;
  }
  for_windows(w, x, y, [&](const Strides& place, int64_t from, int64_t to) {
    for (int64_t k0 = 0; k0 < channels; k0 += chunk) {
      const int64_t m = std::min(chunk, channels - k0);
      double sum[chunk] = {};
      int64_t inside = 0;
      const T* base = x.as<const T>() + from + k0 * sx;
      const int64_t padded = for_taps(w, x, place, [&](int64_t offset, int64_t) {
        ++inside;
        const T* i = base + offset;
        if (sx == 1) {
          for (int64_t k = 0; k < m; ++k) sum[k] += f(static_cast<double>(i[k]));
        } else {
          for (int64_t k = 0; k < m; ++k) sum[k] += f(static_cast<double>(i[k * sx]));
        }
      });
      T* o = y.as<T>() + to + k0 * sy;
      const double count = static_cast<double>(w.count_include_pad ? padded : inside);
      for (int64_t k = 0; k < m; ++k) o[k * sy] = static_cast<T>(g(sum[k], count));
    }
  });
}

Made average_pool(const Op& op) {
  const Window w = window_of(op);
  Made made;
  dispatch<float, double>(op.type(), [&](auto tag) {
    using T = decltype(tag);
    made = op.kernel(Layout::channels_last, [w](const Call& c) {
      sum_windows<T, true>(w, c, [](auto v) { return v; }, [](double sum, double count) { return count > 0 ? sum / count : 0; });
    });
  });
  return made;
}

Made lp_pool(const Op& op) {
  const Window w = window_of(op);
  const auto p = static_cast<double>(op.node().integer("p", 2));
  Made made;
  dispatch<float, double>(op.type(), [&](auto tag) {
    using T = decltype(tag);
    made = op.kernel(Layout::channels_last, [w, p](const Call& c) {
      sum_windows<T, false>(w, c, [p](double v) { return pow(std::fabs(v), p); }, [p](double sum, double) { return pow(sum, 1 / p); });
    });
  });
  return made;
}

bool strides_are_row_major(std::span<const int64_t> dims, std::span<const int64_t> strides) {
  int64_t expected = 1;
  for (size_t a = dims.size(); a-- > 0; expected *= dims[a])
    if (dims[a] != 1 && strides[a] != expected) return false;
  return true;
}

// fold(sum, v) over all of space per channel; the same order for every layout.
template <class T, class F, class G>
void over_space(const Call& c, double start, const F& fold, const G& finish) {
  const TensorView &x = c.in[0], &y = c.out[0];
  const int64_t channels = x.dims[1], sx = x.strides[1], sy = y.strides[1], n = product(x.dims, 2, x.dims.size());
  const std::span<const int64_t> space = x.dims.subspan(2), strides = x.strides.subspan(2);
  if (sx == n && strides_are_row_major(space, strides)) {  // row major: eight channels side by side, so that no sum waits for itself
    constexpr int64_t together = 8;
    const auto some = [&](const T* from, T* to, auto count) {
      double sum[together];
      for (int64_t k = 0; k < count; ++k) sum[k] = start;
      for (int64_t i = 0; i < n; ++i)
        for (int64_t k = 0; k < count; ++k) sum[k] = fold(sum[k], static_cast<double>(from[k * n + i]));
      for (int64_t k = 0; k < count; ++k) to[k * sy] = static_cast<T>(finish(sum[k], static_cast<double>(n)));
    };
    for (int64_t b = 0; b < x.dims[0]; ++b) {
      int64_t k = 0;
      const T* from = x.as<const T>() + b * x.strides[0];
      T* to = y.as<T>() + b * y.strides[0];
      for (; k + together <= channels; k += together) some(from + k * n, to + k * sy, std::integral_constant<int64_t, together>{});
      for (; k < channels; ++k) some(from + k * n, to + k * sy, std::integral_constant<int64_t, 1>{});
    }
    return;
  }
  const int64_t step = sx == 1 ? chunk : 1;
  for (int64_t b = 0; b < x.dims[0]; ++b)
    for (int64_t k0 = 0; k0 < channels; k0 += step) {
      const int64_t m = std::min(step, channels - k0);
      double sum[chunk];
      for (int64_t k = 0; k < m; ++k) sum[k] = start;
      const T* base = x.as<const T>() + b * x.strides[0] + k0 * sx;
      Odometer o(space, strides);
      if (n > 0)
        do {
          const T* i = base + o.offset;
          for (int64_t k = 0; k < m; ++k) sum[k] = fold(sum[k], static_cast<double>(i[k]));
        } while (o.next());
      T* to = y.as<T>() + b * y.strides[0] + k0 * sy;
      for (int64_t k = 0; k < m; ++k) to[k * sy] = static_cast<T>(finish(sum[k], static_cast<double>(n)));
    }
}

template <class F, class G>
Made global(const Op& op, double start, F fold, G finish) {
  if (op.rank() < 3) op.fail(op.node().op + " needs a tensor with at least one spatial axis");
  Made made;
  dispatch<float, double>(op.type(), [&](auto tag) {
    using T = decltype(tag);
    made = op.kernel(Layout::any, [=](const Call& c) { over_space<T>(c, start, fold, finish); });
  });
  return made;
}

Made global_average_pool(const Op& op) {
  return global(op, 0, [](double s, double v) { return s + v; }, [](double s, double n) { return s / n; });
}
Made global_max_pool(const Op& op) {
  return global(op, -std::numeric_limits<double>::infinity(), [](double s, double v) { return v > s ? v : s; },
                [](double s, double) { return s; });
}
Made global_lp_pool(const Op& op) {
  const auto p = static_cast<double>(op.node().integer("p", 2));
  return global(op, 0, [p](double s, double v) { return s + pow(std::fabs(v), p); }, [p](double s, double) { return pow(s, 1 / p); });
}

constexpr Entry entries[] = {
    {"", "MaxPool", max_pool}, {"", "AveragePool", average_pool}, {"", "LpPool", lp_pool},
    {"", "GlobalAveragePool", global_average_pool}, {"", "GlobalMaxPool", global_max_pool}, {"", "GlobalLpPool", global_lp_pool},
};

}  // namespace

std::span<const Entry> pooling_ops() { return entries; }

}  // namespace quern::own
