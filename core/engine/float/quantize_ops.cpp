// ONNX's QuantizeLinear and DequantizeLinear per tensor, per axis and per block: saturate(rne(x / s) + z) with x / s in f32, and
// float(q - z) * s. (The borders of integer parts are nodes of the "quern" domain: engine/quantize_kernels.cpp.)
#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "core/engine/float/families.hpp"
#include "core/engine/float/strided.hpp"
#include "core/numeric/rounding.hpp"
#include "core/numeric/rounding_f32.hpp"

namespace quern::own {
namespace {

// Scale and zero point as they lie beside x: one, one per index of the axis, or one per block of the axis.
struct Grid {
  bool per_axis = false;
  size_t axis = 0;
  int64_t block = 0;  // 0: not in blocks
};

Grid grid_of(const Op& op) {
  Grid g;
  const Dims& scale = op.in(1).dims;
  const int64_t count = product(scale, 0, scale.size());
  if (scale.size() <= 1 && count == 1) return g;
  g.per_axis = true;
  g.axis = static_cast<size_t>(op.axis("axis", 1, op.rank()));
  g.block = op.node().integer("block_size", 0);
  const Dims& x = op.in(0).dims;
  if (g.block == 0 && (scale.size() != 1 || count != x[g.axis]))
    op.fail(fmt::format("{} has {} scales for axis {} of {}", op.node().op, count, g.axis, to_string(x)));
  if (g.block != 0) {
    bool fits = scale.size() == x.size() && g.block > 0;
    for (size_t a = 0; fits && a < x.size(); ++a)
      fits = scale[a] == (a == g.axis ? (x[a] + g.block - 1) / g.block : x[a]);
    if (!fits) op.fail(fmt::format("{} in blocks of {}: scales {} do not fit {}", op.node().op, g.block, to_string(scale), to_string(x)));
  }
  return g;
}

// `parameter` seen with the dims of x (or of one block of x): stretched where it has no elements of its own.
struct Stretched { TensorView view; Dims dims, strides; };
void stretch(const TensorView& parameter, const Grid& g, size_t rank, Stretched& s) {
  s.dims.assign(rank, 1);
  s.strides.assign(rank, 0);
  if (g.per_axis) {
    s.dims[g.axis] = parameter.dims[0];
    s.strides[g.axis] = parameter.strides[0];
  }
  s.view = {parameter.data, parameter.type, s.dims, s.strides};
}

// visit(out, x, scale, zero) once, or once per block.
template <class F>
void over_grid(const Grid& g, const Call& c, const TensorView& zero, const F& visit) {
  const TensorView &x = c.in[0], &y = c.out[0];
  if (g.block == 0) {
    Stretched s, z;
    stretch(c.in[1], g, x.dims.size(), s);
    stretch(zero, zero.count() == 1 ? Grid{} : g, x.dims.size(), z);
    visit(y, x, s.view, z.view);
    return;
  }
  const auto part = [&](const TensorView& v, int64_t at, Dims& dims, int64_t n) {
    dims.assign(v.dims.begin(), v.dims.end());
    dims[g.axis] = n;
    return TensorView{static_cast<char*>(v.data) + at * v.strides[g.axis] * static_cast<int64_t>(size_of(v.type)), v.type, dims, v.strides};
  };
  const bool blocked_zero = zero.dims.size() == x.dims.size();
  for (int64_t b = 0; b < c.in[1].dims[g.axis]; ++b) {
    Dims dx, dy, ds, dz;
    const int64_t at = b * g.block, n = std::min(g.block, x.dims[g.axis] - at);
    Stretched single;
    if (!blocked_zero) stretch(zero, Grid{}, x.dims.size(), single);
    visit(part(y, at, dy, n), part(x, at, dx, n), part(c.in[1], b, ds, 1), blocked_zero ? part(zero, b, dz, 1) : single.view);
  }
}

template <class T>
TensorView zero_or(const Call& c, size_t slot, const T* zero) {
  static constexpr int64_t one[] = {1};
  if (c.in.size() > slot && c.in[slot].data) return c.in[slot];
  return {const_cast<T*>(zero), dtype_of<T>::value, {one, 0}, {one, 0}};
}

template <class X, class Q>
Q quantized(X v, float scale, int32_t zero) {
  // NaN gives the zero point. Bounded before the sum, so that infinities don't overflow.
  constexpr int32_t least = std::numeric_limits<Q>::min(), most = std::numeric_limits<Q>::max();
  const int32_t q = bounded_int(nearest_even(static_cast<float>(v) / scale)) + zero;
  const int32_t low = q < least ? least : q;
  return static_cast<Q>(low > most ? most : low);
}

// Dense elements of one scale. Results go through a buffer of the function's own, so that bytes written can't be anything that is read.
template <class X, class Q>
void quantize_run(const X* x, Q* y, int64_t n, float scale, int32_t zero) {
  constexpr int64_t piece = 256;
  Q to[piece];
  for (int64_t i = 0; i < n; i += piece) {
    const int64_t m = std::min(piece, n - i);
    for (int64_t j = 0; j < m; ++j) to[j] = quantized<X, Q>(x[i + j], scale, zero);
    std::memcpy(y + i, to, static_cast<size_t>(m) * sizeof(Q));
  }
}

// Both sides dense in the same order, and runs of one scale that are worth it: done here.
template <class X, class Q>
bool quantize_runs(const Grid& g, const Call& c, const TensorView& zero) {
  const TensorView &x = c.in[0], &y = c.out[0];
  const auto nest = make_nest<2>(y.dims, {strides_of(y), strides_of(x)});
  if (g.block != 0 || nest.empty || nest.rank != 1 || nest.stride[0][0] != 1 || nest.stride[1][0] != 1) return false;
  const auto at = [&](const TensorView& v, int64_t i) { return v.count() == 1 ? 0 : i * v.strides[0]; };
  const int64_t channels = g.per_axis ? x.dims[g.axis] : 1, inner = g.per_axis && channels > 1 ? x.strides[g.axis] : x.count() / channels;
  if (inner < 16) return false;
  const X* from = x.as<const X>();
  Q* to = y.as<Q>();
  for (int64_t o = 0; o < x.count() / (channels * inner); ++o)
    for (int64_t k = 0; k < channels; ++k, from += inner, to += inner)
      quantize_run(from, to, inner, c.in[1].as<const float>()[at(c.in[1], k)], static_cast<int32_t>(zero.as<const Q>()[at(zero, k)]));
  return true;
}

template <class X, class Q>
PreparedKernel quantizing(const Op& op, const Grid& g) {
  return op.kernel(Layout::any, [g](const Call& c) {
    static constexpr Q nothing = 0;
    if (quantize_runs<X, Q>(g, c, zero_or(c, 2, &nothing))) return;
    over_grid(g, c, zero_or(c, 2, &nothing), [](const TensorView& y, const TensorView& x, const TensorView& s, const TensorView& z) {
      map3<Q, X, float, Q>(y, x, s, z, [](X v, float scale, Q zero) { return quantized<X, Q>(v, scale, zero); });
    });
  });
}

Made quantize_linear(const Op& op) {
  if (op.type(1) != DType::f32) return {};
  const Grid g = grid_of(op);
  if (op.has(2) && op.type(2) != op.out().dtype) op.fail("QuantizeLinear's zero point and output have different types");
  Made made;
  dispatch<float, int32_t>(op.type(0), [&](auto x) {
    dispatch<uint8_t, int8_t, uint16_t, int16_t>(op.out().dtype, [&](auto q) { made = quantizing<decltype(x), decltype(q)>(op, g); });
  });
  return made;
}

Made dequantize_linear(const Op& op) {
  if (op.type(1) != DType::f32 || op.out().dtype != DType::f32) return {};
  const Grid g = grid_of(op);
  if (op.has(2) && op.type(2) != op.type(0)) op.fail("DequantizeLinear's zero point and input have different types");
  Made made;
  dispatch<uint8_t, int8_t, uint16_t, int16_t, int32_t>(op.type(0), [&](auto tag) {
    using Q = decltype(tag);
    made = op.kernel(Layout::any, [g](const Call& c) {
      static constexpr Q nothing = 0;
      over_grid(g, c, zero_or(c, 2, &nothing), [](const TensorView& y, const TensorView& x, const TensorView& s, const TensorView& z) {
        map3<float, Q, float, Q>(y, x, s, z, [](Q q, float scale, Q zero) {
          return static_cast<float>(static_cast<int64_t>(q) - static_cast<int64_t>(zero)) * scale;
        });
      });
    });
  });
  return made;
}

// u8 with a range found at the run: [min(0, x), max(0, x)].
Made dynamic_quantize_linear(const Op& op) {
  if (op.type() != DType::f32) return {};
  return op.kernel(Layout::row_major, [](const Call& c) {
    const int64_t n = c.in[0].count();
    const float* x = c.in[0].as<const float>();
    float low = 0, high = 0;
    for (int64_t i = 0; i < n; ++i) {
      low = x[i] < low ? x[i] : low;
      high = x[i] > high ? x[i] : high;
    }
    const float scale = high == low ? 1.0f : (high - low) / 255.0f;
    const auto zero = static_cast<int64_t>(std::clamp<int64_t>(rne(0.0f - low / scale), 0, 255));
    if (c.out[0].data)
      for (int64_t i = 0; i < n; ++i)
        c.out[0].as<uint8_t>()[i] = static_cast<uint8_t>(std::clamp<int64_t>(bounded_int(nearest_even(x[i] / scale)) + zero, 0, 255));
    if (c.out.size() > 1 && c.out[1].data) *c.out[1].as<float>() = scale;
    if (c.out.size() > 2 && c.out[2].data) *c.out[2].as<uint8_t>() = static_cast<uint8_t>(zero);
  });
}

constexpr Entry entries[] = {
    {"", "QuantizeLinear", quantize_linear}, {"", "DequantizeLinear", dequantize_linear},
    {"", "DynamicQuantizeLinear", dynamic_quantize_linear},
};

}  // namespace

std::span<const Entry> quantize_ops() { return entries; }

}  // namespace quern::own
