// ONNX's QuantizeLinear and DequantizeLinear per tensor, per axis and per block: saturate(rne(x / s) + z) with x / s in f32, and
// float(q - z) * s. (The borders of integer parts are nodes of the "quern" domain: engine/quantize_kernels.cpp.)
#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "core/engine/float/families.hpp"
#include "core/engine/float/strided.hpp"
#include "core/numeric/rounding.hpp"

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
PreparedKernel quantizing(const Op& op, const Grid& g) {
  return op.kernel(Layout::any, [g](const Call& c) {
    static constexpr Q nothing = 0;
    over_grid(g, c, zero_or(c, 2, &nothing), [](const TensorView& y, const TensorView& x, const TensorView& s, const TensorView& z) {
      map3<Q, X, float, Q>(y, x, s, z, [](X v, float scale, Q zero) {
        const float quotient = static_cast<float>(v) / scale;
        // NaN gives the zero point. Clamped before the sum, so that infinities don't overflow.
        const int64_t q = std::clamp<int64_t>(rne(quotient), -(int64_t{1} << 32), int64_t{1} << 32) + zero;
        return static_cast<Q>(std::clamp<int64_t>(q, std::numeric_limits<Q>::min(), std::numeric_limits<Q>::max()));
      });
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
        c.out[0].as<uint8_t>()[i] = static_cast<uint8_t>(std::clamp<int64_t>(std::clamp<int64_t>(rne(x[i] / scale), -1024, 1024) + zero, 0, 255));
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
