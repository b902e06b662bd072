// Convolution and matrix products by plain loops: for types and shapes that the fast library declines (f64, integers, empty
// tensors), and wherever the same bytes everywhere matter more than speed. f32 is summed in double, in the order of the
// channels and taps.
#include <fmt/format.h>

#include <type_traits>
#include <vector>

#include "core/engine/float/families.hpp"
#include "core/engine/float/strided.hpp"
#include "core/graph/shapes.hpp"

namespace quern::own {
namespace {

template <class T> using SumOf = std::conditional_t<std::is_floating_point_v<T>, double, uint64_t>;  // integers wrap

void same_types(const Op& op, size_t count) {
  for (size_t i = 1; i < count; ++i)
    if (op.has(i) && op.type(i) != op.type(0)) op.fail("the inputs of " + op.node().op + " have different types");
}

// ---- Conv ----------------------------------------------------------------------------------------------------------------

// Calls tap(input index, kernel index), both in row-major order of their spatial axes, for the taps of one output place.
template <class F>
void for_taps(const Window& w, std::span<const int64_t> space, const Strides& place, const F& tap) {
  const size_t axes = w.kernel.size();
  Strides k{};
  for (;;) {
    int64_t input = 0, kernel = 0;
    bool inside = true;
    for (size_t a = 0; a < axes; ++a) {
      const int64_t at = place[a] * w.stride[a] - w.pad_begin[a] + k[a] * w.dilation[a];
      inside = inside && at >= 0 && at < space[a];
      input = input * space[a] + at;
      kernel = kernel * w.kernel[a] + k[a];
    }
    if (inside) tap(input, kernel);
    size_t a = axes;
    for (;;) {
      if (a == 0) return;
      --a;
      if (++k[a] < w.kernel[a]) break;
      k[a] = 0;
    }
  }
}

// X, W: types of input and weights; Y: of the result; zero points are subtracted before the product (ConvInteger).
template <class X, class W, class Y>
void convolve(const Window& w, const TensorView& x, const TensorView& weight, const Y* bias, const TensorView& y, int64_t x_zero,
              const std::vector<int64_t>& w_zero) {
  using Acc = SumOf<Y>;
  if (y.count() == 0) return;
  const int64_t samples = x.dims[0], channels = x.dims[1], outs = y.dims[1], per_group = channels / w.group, outs_per_group = outs / w.group;
  const std::span<const int64_t> space = x.dims.subspan(2);
  const int64_t plane = product(x.dims, 2, x.dims.size()), out_plane = product(y.dims, 2, y.dims.size());
  const int64_t taps = product(weight.dims, 2, weight.dims.size());
  const Dims none(y.dims.size() - 2, 0);
  for (int64_t b = 0; b < samples; ++b)
    for (int64_t o = 0; o < outs; ++o) {
      const X* in = x.as<const X>() + (b * channels + (o / outs_per_group) * per_group) * plane;
      const W* k = weight.as<const W>() + o * per_group * taps;
      const int64_t zero = w_zero.empty() ? 0 : w_zero.size() == 1 ? w_zero[0] : w_zero[static_cast<size_t>(o)];
      Y* out = y.as<Y>() + (b * outs + o) * out_plane;
      Odometer place(y.dims.subspan(2), none);
      do {
        Acc sum = bias ? static_cast<Acc>(bias[o]) : Acc{0};
        for (int64_t c = 0; c < per_group; ++c)
          for_taps(w, space, place.at, [&](int64_t input, int64_t kernel) {
            if constexpr (std::is_integral_v<Y>)
              sum += static_cast<Acc>((static_cast<int64_t>(in[c * plane + input]) - x_zero) * (static_cast<int64_t>(k[c * taps + kernel]) - zero));
            else
              sum += static_cast<Acc>(in[c * plane + input]) * static_cast<Acc>(k[c * taps + kernel]);
          });
        *out++ = static_cast<Y>(sum);
      } while (place.next());
    }
}

Made conv(const Op& op) {
  same_types(op, 3);
  const Window w = conv_window(op.node(), op.in(0).dims, op.in(1).dims);
  Made made;
  dispatch<float, double>(op.type(), [&](auto tag) {
    using T = decltype(tag);
    made = op.kernel(Layout::row_major, [w](const Call& c) {
      const T* bias = c.in.size() > 2 && c.in[2].data ? c.in[2].as<const T>() : nullptr;
      convolve<T, T, T>(w, c.in[0], c.in[1], bias, c.out[0], 0, {});
    });
  });
  return made;
}

std::vector<int64_t> zero_points(const Call& c, size_t slot) {
  std::vector<int64_t> zero;
  if (c.in.size() <= slot || !c.in[slot].data) return zero;
  dispatch<int8_t, uint8_t>(c.in[slot].type, [&](auto tag) {
    const auto* z = c.in[slot].as<const decltype(tag)>();
    zero.assign(z, z + c.in[slot].count());
  });
  return zero;
}

Made conv_integer(const Op& op) {
  const Window w = conv_window(op.node(), op.in(0).dims, op.in(1).dims);
  Made made;
  dispatch<int8_t, uint8_t>(op.type(0), [&](auto a) {
    dispatch<int8_t, uint8_t>(op.type(1), [&](auto b) {
      made = op.kernel(Layout::row_major, [w](const Call& c) {
        const auto x_zero = zero_points(c, 2);
        convolve<decltype(a), decltype(b), int32_t>(w, c.in[0], c.in[1], nullptr, c.out[0], x_zero.empty() ? 0 : x_zero[0], zero_points(c, 3));
      });
    });
  });
  return made;
}

// Every input element adds its kernel to the output: collected per output channel in double, in the order of the inputs.
Made conv_transpose(const Op& op) {
  same_types(op, 3);
  const Window w = conv_transpose_window(op.node(), op.in(0).dims, op.in(1).dims);
  Made made;
  dispatch<float, double>(op.type(), [&](auto tag) {
    using T = decltype(tag);
    made = op.kernel(Layout::row_major, [w](const Call& c) {
      const TensorView &x = c.in[0], &weight = c.in[1], &y = c.out[0];
      if (y.count() == 0) return;
      const int64_t channels = x.dims[1], outs = y.dims[1], per_group = channels / w.group, outs_per_group = outs / w.group;
      const int64_t plane = product(x.dims, 2, x.dims.size()), out_plane = product(y.dims, 2, y.dims.size());
      const int64_t taps = product(weight.dims, 2, weight.dims.size());
      const std::span<const int64_t> space = x.dims.subspan(2), out_space = y.dims.subspan(2);
      const Dims none(space.size(), 0);
      std::vector<double> sum(static_cast<size_t>(out_plane));
      for (int64_t b = 0; b < x.dims[0]; ++b)
        for (int64_t o = 0; o < outs; ++o) {
          const double start = c.in.size() > 2 && c.in[2].data ? static_cast<double>(c.in[2].as<const T>()[o]) : 0;
          std::fill(sum.begin(), sum.end(), start);
          const int64_t group = o / outs_per_group;
          for (int64_t i = 0; i < per_group && plane > 0; ++i) {
            const T* in = x.as<const T>() + (b * channels + group * per_group + i) * plane;
            const T* k = weight.as<const T>() + ((group * per_group + i) * outs_per_group + o % outs_per_group) * taps;
            Odometer place(space, none);
            int64_t at = 0;
            do {
              const auto value = static_cast<double>(in[at++]);
              Odometer tap({w.kernel.data(), w.kernel.size()}, none);
              int64_t t = 0;
              do {
                int64_t to = 0;
                bool inside = true;
                for (size_t a = 0; a < space.size(); ++a) {
                  const int64_t p = place.at[a] * w.stride[a] - w.pad_begin[a] + tap.at[a] * w.dilation[a];
                  inside = inside && p >= 0 && p < out_space[a];
                  to = to * out_space[a] + p;
                }
                if (inside) sum[static_cast<size_t>(to)] += value * static_cast<double>(k[t]);
                ++t;
              } while (tap.next());
            } while (place.next());
          }
          for (int64_t i = 0; i < out_plane; ++i) y.as<T>()[(b * outs + o) * out_plane + i] = static_cast<T>(sum[static_cast<size_t>(i)]);
        }
    });
  });
  return made;
}

// ---- Gemm and MatMul ---------------------------------------------------------------------------------------------------------

struct Matrix { int64_t offset, row, column; };  // strides in elements

// out(i,j) = finish(sum over k of a(i,k) b(k,j), i, j), a row of sums at a time.
template <class A, class B, class Y, class Finish>
void multiply(const A* a, const Matrix& ma, const B* b, const Matrix& mb, int64_t rows, int64_t depth, int64_t columns, int64_t a_zero,
              int64_t b_zero, Y* out, const Finish& finish) {
  using Acc = SumOf<Y>;
  std::vector<Acc> sum(static_cast<size_t>(columns));
  for (int64_t i = 0; i < rows; ++i) {
    std::fill(sum.begin(), sum.end(), Acc{0});
    for (int64_t k = 0; k < depth; ++k) {
      const A left = a[ma.offset + i * ma.row + k * ma.column];
      const B* right = b + mb.offset + k * mb.row;
      for (int64_t j = 0; j < columns; ++j) {
        if constexpr (std::is_integral_v<Y>)
          sum[static_cast<size_t>(j)] += static_cast<Acc>(static_cast<int64_t>(left) - a_zero) * static_cast<Acc>(static_cast<int64_t>(right[j * mb.column]) - b_zero);
        else
          sum[static_cast<size_t>(j)] += static_cast<Acc>(left) * static_cast<Acc>(right[j * mb.column]);
      }
    }
    for (int64_t j = 0; j < columns; ++j) out[i * columns + j] = finish(sum[static_cast<size_t>(j)], i, j);
  }
}

Made gemm(const Op& op) {
  same_types(op, 3);
  if (op.rank(0) != 2 || op.rank(1) != 2) op.fail("Gemm needs two matrices");
  const float alpha = op.node().real("alpha", 1), beta = op.node().real("beta", 1);
  const bool ta = op.node().integer("transA", 0) != 0, tb = op.node().integer("transB", 0) != 0;
  Made made;
  dispatch<float, double, int32_t, int64_t, uint32_t, uint64_t>(op.type(), [&](auto tag) {
    using T = decltype(tag);
    made = op.kernel(Layout::row_major, [=](const Call& c) {
      const TensorView &a = c.in[0], &b = c.in[1], &y = c.out[0];
      const bool has_bias = c.in.size() > 2 && c.in[2].data;
      const Strides sc = has_bias ? broadcast_strides(c.in[2], y.dims) : Strides{};
      const T* bias = has_bias ? c.in[2].as<const T>() : nullptr;
      const int64_t ca = a.dims[1], cb = b.dims[1];
      const auto finish = [&](SumOf<T> sum, int64_t i, int64_t j) {
        if constexpr (std::is_integral_v<T>) {
          double v = static_cast<double>(static_cast<T>(sum)) * static_cast<double>(alpha);
          if (alpha == 1 && beta == 1) return static_cast<T>(sum + static_cast<uint64_t>(bias ? bias[i * sc[0] + j * sc[1]] : T{0}));
          if (bias) v += static_cast<double>(beta) * static_cast<double>(bias[i * sc[0] + j * sc[1]]);
          return static_cast<T>(v);
        } else {
          double v = sum * static_cast<double>(alpha);
          if (bias) v += static_cast<double>(beta) * static_cast<double>(bias[i * sc[0] + j * sc[1]]);
          return static_cast<T>(v);
        }
      };
      multiply<T, T, T>(a.as<const T>(), ta ? Matrix{0, 1, ca} : Matrix{0, ca, 1}, b.as<const T>(), tb ? Matrix{0, 1, cb} : Matrix{0, cb, 1},
                        y.dims[0], ta ? a.dims[0] : a.dims[1], y.dims[1], 0, 0, y.as<T>(), finish);
    });
  });
  return made;
}

// Batches of matrices with broadcasting; a vector on the left is a row, on the right a column.
template <class A, class B, class Y>
void matmul_run(const Call& c, int64_t a_zero, int64_t b_zero) {
  const TensorView &a = c.in[0], &b = c.in[1], &y = c.out[0];
  const size_t ra = a.dims.size(), rb = b.dims.size();
  const int64_t depth = a.dims[ra - 1], rows = ra > 1 ? a.dims[ra - 2] : 1, columns = rb > 1 ? b.dims[rb - 1] : 1;
  const size_t batch_rank = y.dims.size() - (ra > 1) - (rb > 1);
  const std::span<const int64_t> batch = y.dims.first(batch_rank);
  const auto batch_strides = [&](const TensorView& v, size_t rank) {
    const size_t own = rank > 2 ? rank - 2 : 0;
    return broadcast_strides({v.data, v.type, v.dims.first(own), v.strides.first(own)}, batch);
  };
  const Strides sa = batch_strides(a, ra), sb = batch_strides(b, rb);
  const Matrix ma{0, ra > 1 ? a.strides[ra - 2] : 0, a.strides[ra - 1]};
  const Matrix mb{0, rb > 1 ? b.strides[rb - 2] : b.strides[0], rb > 1 ? b.strides[rb - 1] : 0};
  if (y.count() == 0) return;
  Odometer oa(batch, {sa.data(), batch_rank}), ob(batch, {sb.data(), batch_rank});
  Y* out = y.as<Y>();
  do {
    multiply<A, B, Y>(a.as<const A>() + oa.offset, ma, b.as<const B>() + ob.offset, mb, rows, depth, columns, a_zero, b_zero, out,
                      [](SumOf<Y> sum, int64_t, int64_t) { return static_cast<Y>(sum); });
    out += rows * columns;
    ob.next();
  } while (oa.next());
}

Made matmul(const Op& op) {
  same_types(op, 2);
  if (op.rank(0) < 1 || op.rank(1) < 1) op.fail("MatMul of a scalar");
  Made made;
  dispatch<float, double, int32_t, int64_t, uint32_t, uint64_t>(op.type(), [&](auto tag) {
    using T = decltype(tag);
    made = op.kernel(Layout::row_major, [](const Call& c) { matmul_run<T, T, T>(c, 0, 0); });
  });
  return made;
}

Made matmul_integer(const Op& op) {
  for (size_t i = 2; i < 4; ++i)
    if (op.has(i) && product(op.in(i).dims, 0, op.in(i).dims.size()) != 1) return {};  // one zero point per row or column
  Made made;
  dispatch<int8_t, uint8_t>(op.type(0), [&](auto a) {
    dispatch<int8_t, uint8_t>(op.type(1), [&](auto b) {
      made = op.kernel(Layout::row_major, [](const Call& c) {
        const auto za = zero_points(c, 2), zb = zero_points(c, 3);
        matmul_run<decltype(a), decltype(b), int32_t>(c, za.empty() ? 0 : za[0], zb.empty() ? 0 : zb[0]);
      });
    });
  });
  return made;
}

constexpr Entry entries[] = {
    {"", "Conv", conv}, {"", "ConvInteger", conv_integer}, {"", "ConvTranspose", conv_transpose},
    {"", "Gemm", gemm}, {"", "MatMul", matmul}, {"", "MatMulInteger", matmul_integer},
};

}  // namespace

std::span<const Entry> dot_ops() { return entries; }

}  // namespace quern::own
