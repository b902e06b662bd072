// Softmax, LogSoftmax, Hardmax along one axis. Up to opset 12 the axis splits the tensor into a matrix and the whole of the
// right side is normalised; from 13 on it is one axis.
//
// A line is computed the same way wherever its elements lie: largest element, e^(x - largest) by the array exponential, the
// sum in double in the pattern of rows.hpp, one division.
#include <algorithm>
#include <cmath>
#include <vector>

#include "core/engine/float/families.hpp"
#include "core/engine/float/functions.hpp"
#include "core/engine/float/rows.hpp"
#include "core/engine/float/strided.hpp"

namespace quern::own {
namespace {

enum class Kind { softmax, log_softmax, hardmax };

// Eight running maxima, which become vectors. Where there is a NaN any of them may do: the line becomes NaN all the same.
template <class T>
T largest(const T* x, int64_t n) {
  T m = x[0];
  int64_t i = 0;
  if (n >= 16) {
    T lane[8];
    for (int j = 0; j < 8; ++j) lane[j] = x[j];
    for (i = 8; i + 8 <= n; i += 8)
      for (int j = 0; j < 8; ++j) lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
    for (T v : lane) m = v > m ? v : m;
  }
  for (; i < n; ++i) m = x[i] > m ? x[i] : m;
  return m;
}

void exponentials(const float* x, float* y, int64_t n, float shift) {
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] - shift;
  portable::exp_array(y, y, n);
}
void exponentials(const double* x, double* y, int64_t n, double shift) {
  for (int64_t i = 0; i < n; ++i) y[i] = portable::exp(x[i] - shift);
}

template <class T>
void line(Kind kind, const T* x, T* y, int64_t n) {
  const T top = largest(x, n);
  if (kind == Kind::hardmax) {
    bool found = false;
    for (int64_t i = 0; i < n; ++i) {
      const bool here = !found && x[i] == top;
      found = found || here;
      y[i] = here ? T{1} : T{0};
    }
    return;
  }
  if (kind == Kind::log_softmax) {
    std::vector<T> e(static_cast<size_t>(n));
    exponentials(x, e.data(), n, top);
    const double log_sum = portable::log(sum_row(e.data(), n));
    for (int64_t i = 0; i < n; ++i) y[i] = static_cast<T>(static_cast<double>(x[i]) - static_cast<double>(top) - log_sum);
    return;
  }
  exponentials(x, y, n, top);
  const T factor = static_cast<T>(1.0 / sum_row(y, n));
  for (int64_t i = 0; i < n; ++i) y[i] *= factor;
}

// Dense lines behind one another: what line() does to each, but the exponentials of several in one call.
template <class T>
void softmax_lines(const T* x, T* y, int64_t lines, int64_t n) {
  const int64_t together = std::max<int64_t>(1, 1024 / n);
  for (int64_t l = 0; l < lines; l += together) {
    const int64_t m = std::min(together, lines - l);
    for (int64_t k = l; k < l + m; ++k) {
      const T top = largest(x + k * n, n);
      for (int64_t i = k * n; i < (k + 1) * n; ++i) y[i] = x[i] - top;
    }
    exponentials(y + l * n, y + l * n, m * n, T{0});
    for (int64_t k = l; k < l + m; ++k) {
      const T factor = static_cast<T>(1.0 / sum_row(y + k * n, n));
      for (int64_t i = k * n; i < (k + 1) * n; ++i) y[i] *= factor;
    }
  }
}

// One axis, any strides: lines that are not dense go through a buffer, eight neighbours at a time where they are adjacent.
template <class T>
void along(Kind kind, const TensorView& in, const TensorView& out, size_t axis) {
  const int64_t n = in.dims[axis], step_in = in.strides[axis], step_out = out.strides[axis];
  if (n == 0) return;
  std::array<int64_t, max_rank> dims{};
  std::copy(in.dims.begin(), in.dims.end(), dims.begin());
  dims[axis] = 1;
  const auto nest = make_nest<2>({dims.data(), in.dims.size()}, {strides_of(out), strides_of(in)});
  if (step_in == 1 && step_out == 1) {
    const size_t last = nest.rank - 1;
    for_rows(nest, last, [&](const auto& at) {
      if (kind == Kind::softmax && nest.stride[1][last] == n && nest.stride[0][last] == n) {
        softmax_lines(in.as<const T>() + at[1], out.as<T>() + at[0], nest.size[last], n);
        return;
      }
      for (int64_t i = 0; i < nest.size[last]; ++i)
        line(kind, in.as<const T>() + at[1] + i * nest.stride[1][last], out.as<T>() + at[0] + i * nest.stride[0][last], n);
    });
    return;
  }
  constexpr int64_t together = 8;
  std::vector<T> from(static_cast<size_t>(n * together)), to(static_cast<size_t>(n));
  const size_t last = nest.rank - 1;
  const int64_t si = nest.stride[1][last], so = nest.stride[0][last];
  for_rows(nest, last, [&](const auto& at) {
    for (int64_t i = 0; i < nest.size[last]; i += together) {
      const int64_t m = std::min(together, nest.size[last] - i);
      const T* x = in.as<const T>() + at[1] + i * si;
      T* y = out.as<T>() + at[0] + i * so;
      for (int64_t k = 0; k < n; ++k)
        for (int64_t j = 0; j < m; ++j) from[static_cast<size_t>(j * n + k)] = x[k * step_in + j * si];
      for (int64_t j = 0; j < m; ++j) {
        line(kind, from.data() + j * n, to.data(), n);
        for (int64_t k = 0; k < n; ++k) y[k * step_out + j * so] = to[static_cast<size_t>(k)];
      }
    }
  });
}

template <Kind kind>
Made make(const Op& op) {
  Made made;
  const bool matrix = op.node().since_version < 13;
  const auto axis = static_cast<size_t>(op.axis("axis", matrix ? 1 : -1, op.rank(), matrix));
  dispatch<float, double>(op.type(), [&](auto tag) {
    using T = decltype(tag);
    const bool last = axis + 1 == op.in(0).dims.size();
    if (!matrix || last) {
      made = op.in_place(Layout::any, [axis](const Call& c) { along<T>(kind, c.in[0], c.out[0], axis); });
    } else {
      made = op.in_place(Layout::row_major, [axis](const Call& c) {
        const auto dims = c.in[0].dims;
        const int64_t rows = product(dims, 0, axis), n = product(dims, axis, dims.size());
        for (int64_t r = 0; r < rows && n > 0; ++r) line(kind, c.in[0].as<const T>() + r * n, c.out[0].as<T>() + r * n, n);
      });
    }
  });
  return made;
}

constexpr Entry entries[] = {
    {"", "Softmax", make<Kind::softmax>}, {"", "LogSoftmax", make<Kind::log_softmax>}, {"", "Hardmax", make<Kind::hardmax>},
};

}  // namespace

std::span<const Entry> softmax_ops() { return entries; }

}  // namespace quern::own
