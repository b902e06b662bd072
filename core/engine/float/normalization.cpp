// Normalisations. Means and variances in double, in a fixed order, by two passes.
#include <cmath>
#include <vector>

#include "core/engine/float/families.hpp"
#include "core/base/wide.hpp"
#include "core/engine/float/functions.hpp"
#include "core/engine/float/rows.hpp"
#include "core/engine/float/strided.hpp"

namespace quern::own {
namespace {

struct Moments { double mean = 0, variance = 0; };

template <class T>
[[gnu::always_inline]] inline Moments moments(const T* x, int64_t n) {
  Moments m;
  if (n == 0) return m;
  m.mean = sum_row(x, n) / static_cast<double>(n);
  m.variance = sum_row(x, n, [&](double v) { return (v - m.mean) * (v - m.mean); }) / static_cast<double>(n);
  return m;
}

template <class T>
double number(const TensorView& view, int64_t i) { return static_cast<double>(view.as<const T>()[i]); }

// ---- BatchNormalization: (x - mean) * (scale / sqrt(variance + epsilon)) + bias per channel --------------------------------

template <class T>
void normalize_channels(const TensorView& x, const TensorView& y, std::span<const T> mean, std::span<const T> factor,
                        std::span<const T> bias) {
  Strides per_channel{};
  if (x.dims.size() > 1) per_channel[1] = 1;
  const auto nest = make_nest<3>(x.dims, {strides_of(y), strides_of(x), per_channel});
  const size_t in = nest.rank - 1;
  const int64_t n = nest.size[in], so = nest.stride[0][in], sx = nest.stride[1][in], sc = nest.stride[2][in];
  for_rows(nest, in, [&](const auto& at) {
    T* o = y.as<T>() + at[0];
    const T* a = x.as<const T>() + at[1];
    const T* m = mean.data() + at[2];
    const T* f = factor.data() + at[2];
    const T* b = bias.data() + at[2];
    if (so == 1 && sx == 1 && sc == 1) {
#pragma GCC ivdep
      for (int64_t i = 0; i < n; ++i) o[i] = (a[i] - m[i]) * f[i] + b[i];
    } else if (so == 1 && sx == 1 && sc == 0) {
      const T m0 = *m, f0 = *f, b0 = *b;
#pragma GCC ivdep
      for (int64_t i = 0; i < n; ++i) o[i] = (a[i] - m0) * f0 + b0;
    } else {
      for (int64_t i = 0; i < n; ++i) o[i * so] = (a[i * sx] - m[i * sc]) * f[i * sc] + b[i * sc];
    }
  });
}

Made batch_normalization(const Op& op) {
  const double epsilon = op.node().real("epsilon", 1e-5f);
  const double momentum = op.node().real("momentum", 0.9f);
  const bool training = op.node().integer("training_mode", 0) != 0;
  if (op.node().since_version < 9 && op.node().integer("spatial", 1) == 0)
    op.fail("BatchNormalization with spatial = 0 is not computed; normalise with Sub, Mul and Add");
  for (size_t i = 1; i < 5; ++i)
    if (op.type(i) != op.type(0)) return {};
  const int64_t channels = op.rank() > 1 ? op.in(0).dims[1] : 1;
  for (size_t i = 1; i < 5; ++i)
    if (product(op.in(i).dims, 0, op.in(i).dims.size()) != channels)
      op.fail("BatchNormalization needs one scale, bias, mean and variance per channel");
  Made made;
  dispatch<float, double>(op.type(), [&](auto tag) {
    using T = decltype(tag);
    const auto count = static_cast<size_t>(channels);
    made = op.in_place(Layout::any, [=](const Call& c) {
      const TensorView& x = c.in[0];
      std::vector<T> mean(count), factor(count), bias(count);
      std::vector<double> means(count), variances(count);
      for (size_t k = 0; k < count; ++k) {
        means[k] = number<T>(c.in[3], static_cast<int64_t>(k));
        variances[k] = number<T>(c.in[4], static_cast<int64_t>(k));
      }
      if (training) {  // statistics of this batch; the running ones move towards them
        std::vector<T> line;
        for (size_t k = 0; k < count; ++k) {
          line.clear();
          Odometer o(x.dims, x.strides);
          if (x.count() > 0)
            do {
              if (static_cast<size_t>(o.at[1]) == k) line.push_back(x.as<const T>()[o.offset]);
            } while (o.next());
          const Moments m = moments(line.data(), static_cast<int64_t>(line.size()));
          const auto moved = [&](size_t output, double from, double to) {
            if (c.out.size() > output && c.out[output].data)
              c.out[output].template as<T>()[k] = static_cast<T>(from * momentum + to * (1 - momentum));
          };
          moved(1, means[k], m.mean);
          moved(2, variances[k], m.variance);
          means[k] = m.mean;
          variances[k] = m.variance;
        }
      }
      for (size_t k = 0; k < count; ++k) {
        const auto i = static_cast<int64_t>(k);
        mean[k] = static_cast<T>(means[k]);
        factor[k] = static_cast<T>(number<T>(c.in[1], i) / std::sqrt(variances[k] + epsilon));
        bias[k] = c.in[2].as<const T>()[i];
      }
      normalize_channels<T>(x, c.out[0], mean, factor, bias);
    });
  });
  return made;
}

// ---- rows of a matrix: Instance, Group, Layer, MeanVariance ------------------------------------------------------------------

template <class T>
void scale_row(const T* x, T* y, int64_t n, const Moments& m, double inverse, double scale, double bias) {
  const double f = inverse * scale;
  for (int64_t i = 0; i < n; ++i) y[i] = static_cast<T>((static_cast<double>(x[i]) - m.mean) * f + bias);
}

Made instance_normalization(const Op& op) {
  const double epsilon = op.node().real("epsilon", 1e-5f);
  if (op.rank() < 3) op.fail("InstanceNormalization needs a tensor of rank 3 or more");
  Made made;
  dispatch<float, double>(op.type(), [&](auto tag) {
    using T = decltype(tag);
    made = op.in_place(Layout::row_major, [epsilon](const Call& c) {
      const auto dims = c.in[0].dims;
      const int64_t rows = dims[0] * dims[1], n = product(dims, 2, dims.size());
      for (int64_t r = 0; r < rows; ++r) {
        const T* x = c.in[0].as<const T>() + r * n;
        const Moments m = moments(x, n);
        scale_row(x, c.out[0].as<T>() + r * n, n, m, 1 / std::sqrt(m.variance + epsilon), number<T>(c.in[1], r % dims[1]),
                  number<T>(c.in[2], r % dims[1]));
      }
    });
  });
  return made;
}

Made group_normalization(const Op& op) {
  const double epsilon = op.node().real("epsilon", 1e-5f);
  const int64_t groups = op.node().integer("num_groups", 0);
  if (op.rank() < 3) op.fail("GroupNormalization needs a tensor of rank 3 or more");
  const int64_t channels = op.in(0).dims[1];
  if (groups <= 0 || channels % groups != 0) op.fail("GroupNormalization 'num_groups' must divide the number of channels");
  const int64_t in_group = channels / groups;
  const int64_t scales = product(op.in(1).dims, 0, op.in(1).dims.size());  // per group (opset 18) or per channel (21)
  if (scales != groups && scales != channels) op.fail("GroupNormalization needs one scale per group or per channel");
  const bool per_group = scales == groups && (op.node().since_version < 21 || groups == channels);
  Made made;
  dispatch<float, double>(op.type(), [&](auto tag) {
    using T = decltype(tag);
    made = op.in_place(Layout::row_major, [=](const Call& c) {
      const auto dims = c.in[0].dims;
      const int64_t n = product(dims, 2, dims.size());
      for (int64_t g = 0; g < dims[0] * groups; ++g) {
        const T* x = c.in[0].as<const T>() + g * in_group * n;
        T* y = c.out[0].as<T>() + g * in_group * n;
        const Moments m = moments(x, in_group * n);
        for (int64_t k = 0; k < in_group; ++k) {
          const int64_t s = per_group ? g % groups : (g % groups) * in_group + k;
          scale_row(x + k * n, y + k * n, n, m, 1 / std::sqrt(m.variance + epsilon), number<T>(c.in[1], s), number<T>(c.in[2], s));
        }
      }
    });
  });
  return made;
}

template <class T>
[[gnu::always_inline]] inline void layer_row(const T* x, T* y, int64_t n, const T* scale, const T* bias, const Moments& m, double inverse) {
  if (bias) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) y[i] = static_cast<T>((static_cast<double>(x[i]) - m.mean) * inverse * static_cast<double>(scale[i]) + static_cast<double>(bias[i]));
  } else {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) y[i] = static_cast<T>((static_cast<double>(x[i]) - m.mean) * inverse * static_cast<double>(scale[i]));
  }
}

struct LayerRows { int64_t rows = 0, n = 0; double epsilon = 0; };

// `mean` and `deviation`: null where nobody wants them.
template <class T>
[[gnu::always_inline]] inline void layer_rows(const LayerRows& l, const T* x, T* y, const T* scale, const T* bias, T* mean, T* deviation) {
  for (int64_t r = 0; r < l.rows; ++r, x += l.n, y += l.n) {
    const Moments m = moments(x, l.n);
    const double inverse = 1 / std::sqrt(m.variance + l.epsilon);
    layer_row(x, y, l.n, scale, bias, m, inverse);
    if (mean) mean[r] = static_cast<T>(m.mean);
    if (deviation) deviation[r] = static_cast<T>(inverse);
  }
}

// One loop, compiled for several vector widths: the sums keep their pattern (rows.hpp), so the bits are the same.
QUERN_WIDE
void layer_rows_f32(const LayerRows& l, const float* x, float* y, const float* scale, const float* bias, float* mean, float* deviation) {
  layer_rows(l, x, y, scale, bias, mean, deviation);
}

Made layer_normalization(const Op& op) {
  const double epsilon = op.node().real("epsilon", 1e-5f);
  const auto axis = static_cast<size_t>(op.axis("axis", -1, op.rank()));
  Made made;
  dispatch<float, double>(op.type(), [&](auto tag) {
    using T = decltype(tag);
    const LayerRows l{product(op.in(0).dims, 0, axis), product(op.in(0).dims, axis, op.in(0).dims.size()), epsilon};
    for (size_t i = 1; i < 3; ++i)
      if (op.has(i) && product(op.in(i).dims, 0, op.in(i).dims.size()) != l.n)
        op.fail("LayerNormalization needs scale and bias of the size of the normalised axes");
    made = op.in_place(Layout::row_major, [l](const Call& c) {
      const T *x = c.in[0].as<const T>(), *scale = c.in[1].as<const T>();
      const T* bias = c.in.size() > 2 ? c.in[2].as<const T>() : nullptr;
      T* mean = c.out.size() > 1 && c.out[1].data ? c.out[1].as<T>() : nullptr;
      T* deviation = c.out.size() > 2 && c.out[2].data ? c.out[2].as<T>() : nullptr;
      if constexpr (std::is_same_v<T, float>) layer_rows_f32(l, x, c.out[0].as<T>(), scale, bias, mean, deviation);
      else layer_rows(l, x, c.out[0].as<T>(), scale, bias, mean, deviation);
    });
  });
  return made;
}

Made mean_variance_normalization(const Op& op) {
  std::vector<int64_t> axes = op.node().integers("axes", {0, 2, 3});
  std::vector<bool> reduced(op.in(0).dims.size());
  for (int64_t a : axes) {
    if (a < 0) a += op.rank();
    if (a < 0 || a >= op.rank()) op.fail("MeanVarianceNormalization 'axes' names an axis that does not exist");
    reduced[static_cast<size_t>(a)] = true;
  }
  Made made;
  dispatch<float, double>(op.type(), [&](auto tag) {
    using T = decltype(tag);
    made = op.kernel(Layout::any, [reduced](const Call& c) {
      const TensorView& x = c.in[0];
      Dims kept, kept_in, kept_out, lines, line_in, line_out;
      for (size_t a = 0; a < reduced.size(); ++a) {
        (reduced[a] ? lines : kept).push_back(x.dims[a]);
        (reduced[a] ? line_in : kept_in).push_back(x.strides[a]);
        (reduced[a] ? line_out : kept_out).push_back(c.out[0].strides[a]);
      }
      if (x.count() == 0) return;
      std::vector<T> line;
      Odometer from(kept, kept_in), to(kept, kept_out);
      do {
        line.clear();
        Odometer i(lines, line_in), o(lines, line_out);
        do line.push_back(x.as<const T>()[from.offset + i.offset]); while (i.next());
        const Moments m = moments(line.data(), static_cast<int64_t>(line.size()));
        const double deviation = std::sqrt(m.variance) + 1e-9;
        size_t k = 0;
        do c.out[0].as<T>()[to.offset + o.offset] = static_cast<T>((static_cast<double>(line[k++]) - m.mean) / deviation);
        while (o.next());
        to.next();
      } while (from.next());
    });
  });
  return made;
}

// Local response normalisation across neighbouring channels.
Made lrn(const Op& op) {
  const double alpha = op.node().real("alpha", 1e-4f), beta = op.node().real("beta", 0.75f), bias = op.node().real("bias", 1.0f);
  const int64_t size = op.node().integer("size", 0);
  if (size < 1 || op.rank() < 2) op.fail("LRN needs 'size' of at least 1 and a tensor with channels");
  Made made;
  dispatch<float, double>(op.type(), [&](auto tag) {
    using T = decltype(tag);
    made = op.kernel(Layout::row_major, [=](const Call& c) {
      const auto dims = c.in[0].dims;
      const int64_t channels = dims[1], n = product(dims, 2, dims.size());
      for (int64_t b = 0; b < dims[0]; ++b)
        for (int64_t k = 0; k < channels; ++k) {
          const int64_t first = std::max<int64_t>(0, k - (size - 1) / 2), last = std::min(channels - 1, k + size / 2);
          for (int64_t i = 0; i < n; ++i) {
            const T* x = c.in[0].as<const T>() + b * channels * n + i;
            double sum = 0;
            for (int64_t j = first; j <= last; ++j) sum += static_cast<double>(x[j * n]) * static_cast<double>(x[j * n]);
            c.out[0].as<T>()[(b * channels + k) * n + i] =
                static_cast<T>(static_cast<double>(x[k * n]) / pow(bias + alpha / static_cast<double>(size) * sum, beta));
          }
        }
    });
  });
  return made;
}

// x / |x| along one axis (p = 1 or 2).
Made lp_normalization(const Op& op) {
  const int64_t p = op.node().integer("p", 2);
  if (p != 1 && p != 2) op.fail("LpNormalization 'p' must be 1 or 2");
  const auto axis = static_cast<size_t>(op.axis("axis", -1, op.rank()));
  Made made;
  dispatch<float, double>(op.type(), [&](auto tag) {
    using T = decltype(tag);
    made = op.kernel(Layout::row_major, [p, axis](const Call& c) {
      const auto dims = c.in[0].dims;
      const int64_t n = dims[axis], inner = product(dims, axis + 1, dims.size()), outer = product(dims, 0, axis);
      for (int64_t o = 0; o < outer; ++o)
        for (int64_t i = 0; i < inner; ++i) {
          const T* x = c.in[0].as<const T>() + o * n * inner + i;
          T* y = c.out[0].as<T>() + o * n * inner + i;
          double sum = 0;
          for (int64_t k = 0; k < n; ++k) {
            const auto v = static_cast<double>(x[k * inner]);
            sum += p == 1 ? std::fabs(v) : v * v;
          }
          const double norm = p == 1 ? sum : std::sqrt(sum);
          for (int64_t k = 0; k < n; ++k) y[k * inner] = norm == 0 ? T{0} : static_cast<T>(static_cast<double>(x[k * inner]) / norm);
        }
    });
  });
  return made;
}

constexpr Entry entries[] = {
    {"", "BatchNormalization", batch_normalization}, {"", "InstanceNormalization", instance_normalization},
    {"", "GroupNormalization", group_normalization}, {"", "LayerNormalization", layer_normalization},
    {"", "MeanVarianceNormalization", mean_variance_normalization}, {"", "LRN", lrn}, {"", "LpNormalization", lp_normalization},
};

}  // namespace

std::span<const Entry> normalization_ops() { return entries; }

}  // namespace quern::own
