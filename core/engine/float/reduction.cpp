// Reductions over axes, ArgMax and ArgMin, CumSum. Elements of one result are taken in row-major order of the reduced axes,
// whatever the layout; sums of floats in double.
#include <cmath>
#include <limits>

#include "core/engine/float/families.hpp"
#include "core/engine/float/functions.hpp"
#include "core/engine/float/strided.hpp"

namespace quern::own {
namespace {

template <class T> using SumOf = std::conditional_t<std::is_floating_point_v<T>, double,
                                                    std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>>;

template <class T> struct Summing {
  using Acc = SumOf<T>;
  static Acc start() { return 0; }
  static Acc add(Acc a, T x) { return a + static_cast<Acc>(x); }
  static T finish(Acc a, int64_t) { return static_cast<T>(a); }
};
template <class T> struct Averaging : Summing<T> {
  using Acc = SumOf<T>;
  static T finish(Acc a, int64_t n) {
    if constexpr (std::is_floating_point_v<T>) return static_cast<T>(a / static_cast<double>(n));
    else return n == 0 ? T{0} : static_cast<T>(a / static_cast<Acc>(n));
  }
};
template <class T> struct Multiplying {
  using Acc = std::conditional_t<std::is_floating_point_v<T>, double, uint64_t>;
  static Acc start() { return 1; }
  static Acc add(Acc a, T x) { return a * static_cast<Acc>(x); }
  static T finish(Acc a, int64_t) { return static_cast<T>(a); }
};
template <class T> struct Squares : Summing<T> {
  using Acc = SumOf<T>;
  static Acc add(Acc a, T x) { return a + static_cast<Acc>(x) * static_cast<Acc>(x); }
};
template <class T> struct Magnitudes : Summing<T> {
  using Acc = SumOf<T>;
  static Acc add(Acc a, T x) { const auto v = static_cast<Acc>(x); return a + (v < 0 ? Acc{0} - v : v); }
};
template <class T> struct Length : Squares<T> {
  using Acc = SumOf<T>;
  static T finish(Acc a, int64_t) { return static_cast<T>(std::sqrt(static_cast<double>(a))); }
};
template <class T> struct LogOfSum : Summing<T> {
  using Acc = SumOf<T>;
  static T finish(Acc a, int64_t) { return static_cast<T>(portable::log(static_cast<double>(a))); }
};
// Running log(sum(e^x)): the sum is kept relative to the largest element so far.
template <class T> struct LogOfSumOfExp {
  struct Acc { double top, sum; };
  static Acc start() { return {-std::numeric_limits<double>::infinity(), 0}; }
  static Acc add(Acc a, T element) {
    const auto x = static_cast<double>(element);
    if (x == a.top) return {a.top, a.sum + 1};
    if (x > a.top) return {x, a.sum * portable::exp(a.top - x) + 1};
    return {a.top, a.sum + portable::exp(x - a.top)};
  }
  static T finish(Acc a, int64_t) { return static_cast<T>(a.sum == 0 ? a.top : a.top + portable::log(a.sum)); }
};
template <class T> struct Largest {
  using Acc = T;
  static Acc start() { return std::is_floating_point_v<T> ? -std::numeric_limits<T>::infinity() : std::numeric_limits<T>::lowest(); }
  static Acc add(Acc a, T x) { return x > a || x != x ? x : a; }
  static T finish(Acc a, int64_t) { return a; }
};
template <class T> struct Smallest {
  using Acc = T;
  static Acc start() { return std::is_floating_point_v<T> ? std::numeric_limits<T>::infinity() : std::numeric_limits<T>::max(); }
  static Acc add(Acc a, T x) { return x < a || x != x ? x : a; }
  static T finish(Acc a, int64_t) { return a; }
};

// Splits the axes of x; adjacent reduced axes that are one run in memory become one.
struct Split {
  Dims kept, kept_in, kept_out, reduced, reduced_in;
  int64_t count = 1;  // elements per result
};

Split split_axes(const TensorView& x, const TensorView& y, const std::vector<bool>& gone, bool keep_dims) {
  Split s;
  size_t out = 0;
  for (size_t a = 0; a < x.dims.size(); ++a) {
    if (!gone[a]) {
      s.kept.push_back(x.dims[a]);
      s.kept_in.push_back(x.strides[a]);
      s.kept_out.push_back(y.strides[out++]);
      continue;
    }
    if (keep_dims) ++out;
    s.count *= x.dims[a];
    if (x.dims[a] == 1) continue;
    if (!s.reduced.empty() && s.reduced_in.back() == x.strides[a] * x.dims[a]) {
      s.reduced.back() *= x.dims[a];
      s.reduced_in.back() = x.strides[a];
    } else {
      s.reduced.push_back(x.dims[a]);
      s.reduced_in.push_back(x.strides[a]);
    }
  }
  return s;
}

template <class T, class R>
void reduce(const TensorView& x, const TensorView& y, Split s) {
  constexpr int64_t chunk = 64;
  // A kept axis that is dense in memory is walked inside the reduced ones, a chunk of results at a time.
  int64_t width = 1, out_step = 1;
  for (size_t a = 0; a < s.kept.size(); ++a)
    if (s.kept_in[a] == 1 && s.kept[a] > 1) {
      width = s.kept[a];
      out_step = s.kept_out[a];
      s.kept[a] = 1;
      break;
    }
  if (product(s.kept, 0, s.kept.size()) * width == 0) return;
  int64_t inner = 1, inner_step = 0;
  if (!s.reduced.empty()) {
    inner = s.reduced.back();
    inner_step = s.reduced_in.back();
    s.reduced.pop_back();
    s.reduced_in.pop_back();
  }
  const bool nothing = s.count == 0;
  Odometer from(s.kept, s.kept_in), to(s.kept, s.kept_out);
  do {
    for (int64_t j0 = 0; j0 < width; j0 += chunk) {
      const int64_t m = std::min(chunk, width - j0);
      typename R::Acc acc[chunk];
      for (int64_t j = 0; j < m; ++j) acc[j] = R::start();
      const T* base = x.as<const T>() + from.offset + j0;
      Odometer r(s.reduced, s.reduced_in);
      if (!nothing)
        do {
          const T* row = base + r.offset;
          if (m == 1) {
            typename R::Acc a = acc[0];
            for (int64_t i = 0; i < inner; ++i) a = R::add(a, row[i * inner_step]);
            acc[0] = a;
          } else {
            for (int64_t i = 0; i < inner; ++i)
              for (int64_t j = 0; j < m; ++j) acc[j] = R::add(acc[j], row[i * inner_step + j]);
          }
        } while (r.next());
      T* o = y.as<T>() + to.offset + j0 * out_step;
      for (int64_t j = 0; j < m; ++j) o[j * out_step] = R::finish(acc[j], s.count);
    }
    to.next();
  } while (from.next());
}

// Which axes go; all of them when none are named (none at all with noop_with_empty_axes).
std::vector<bool> reduced_axes(const std::vector<int64_t>& axes, size_t rank, bool none_is_all) {
  std::vector<bool> gone(rank, axes.empty() && none_is_all);
  for (int64_t a : axes) {
    const int64_t at = a < 0 ? a + static_cast<int64_t>(rank) : a;
    if (at < 0 || at >= static_cast<int64_t>(rank))
      throw Error(ErrorCode::model, "axis " + std::to_string(a) + " does not exist in a tensor of rank " + std::to_string(rank));
    gone[static_cast<size_t>(at)] = true;
  }
  return gone;
}

template <template <class> class R, bool bools, class... Ts>
Made reduction(const Op& op) {
  const IntList axes(op, "axes", 1);
  const bool keep = op.node().integer("keepdims", 1) != 0;
  const bool all = op.node().integer("noop_with_empty_axes", 0) == 0;
  if (axes.fixed()) reduced_axes(*axes.fixed(), op.in(0).dims.size(), all);  // bad axes are found before the first run
  Made made;
  const auto make = [&](auto tag) {
    using T = decltype(tag);
    made = op.kernel(Layout::any, [axes, keep, all](const Call& c) {
      const auto gone = reduced_axes(axes.get(c), c.in[0].dims.size(), all);
      reduce<T, R<T>>(c.in[0], c.out[0], split_axes(c.in[0], c.out[0], gone, keep));
    });
  };
  if (bools && op.type() == DType::boolean) make(bool{});
  else dispatch<Ts...>(op.type(), make);
  return made;
}

template <template <class> class R>
Made sums(const Op& op) { return reduction<R, false, float, double, int32_t, int64_t, uint32_t, uint64_t>(op); }
template <template <class> class R>
Made extremes(const Op& op) {
  // The extremes of bools are 0 and 1; nothing at all gives false for the largest and true for the smallest.
  return reduction<R, true, float, double, QUERN_OWN_INTEGERS>(op);
}

template <bool largest>
Made arg(const Op& op) {
  const auto axis = static_cast<size_t>(op.axis("axis", 0, op.rank()));
  const bool keep = op.node().integer("keepdims", 1) != 0, last = op.node().integer("select_last_index", 0) != 0;
  if (op.in(0).dims[axis] == 0) op.fail(op.node().op + " over an axis without elements");
  Made made;
  dispatch<float, double, QUERN_OWN_INTEGERS>(op.type(), [&](auto tag) {
    using T = decltype(tag);
    made = op.kernel(Layout::any, [axis, keep, last](const Call& c) {
      const TensorView &x = c.in[0], &y = c.out[0];
      std::vector<bool> gone(x.dims.size());
      gone[axis] = true;
      const Split s = split_axes(x, y, gone, keep);
      const int64_t n = x.dims[axis], step = x.strides[axis];
      if (product(s.kept, 0, s.kept.size()) == 0) return;
      Odometer from(s.kept, s.kept_in), to(s.kept, s.kept_out);
      do {
        const T* line = x.as<const T>() + from.offset;
        int64_t best = 0;
        for (int64_t i = 1; i < n; ++i) {
          const T a = line[i * step], b = line[best * step];
          const bool better = largest ? a > b : a < b;
          if (better || (last && a == b)) best = i;
        }
        y.as<int64_t>()[to.offset] = best;
        to.next();
      } while (from.next());
    });
  });
  return made;
}

Made cum_sum(const Op& op) {
  const bool exclusive = op.node().integer("exclusive", 0) != 0, reverse = op.node().integer("reverse", 0) != 0;
  Made made;
  dispatch<float, double, int32_t, int64_t, uint32_t, uint64_t>(op.type(), [&](auto tag) {
    using T = decltype(tag);
    made = op.kernel(Layout::row_major, [exclusive, reverse](const Call& c) {
      const auto dims = c.in[0].dims;
      auto axis = static_cast<int64_t>(read_scalar(c.in[1]));
      if (axis < 0) axis += static_cast<int64_t>(dims.size());
      if (axis < 0 || axis >= static_cast<int64_t>(dims.size())) throw Error(ErrorCode::model, "CumSum along an axis that does not exist");
      const auto a = static_cast<size_t>(axis);
      const int64_t n = dims[a], inner = product(dims, a + 1, dims.size()), outer = product(dims, 0, a);
      for (int64_t o = 0; o < outer; ++o)
        for (int64_t i = 0; i < inner; ++i) {
          using Acc = std::conditional_t<std::is_floating_point_v<T>, double, uint64_t>;
          Acc sum = 0;
          for (int64_t k = 0; k < n; ++k) {
            const int64_t at = (o * n + (reverse ? n - 1 - k : k)) * inner + i;
            const auto v = static_cast<Acc>(c.in[0].as<const T>()[at]);
            if (!exclusive) sum += v;
            c.out[0].as<T>()[at] = static_cast<T>(sum);
            if (exclusive) sum += v;
          }
        }
    });
  });
  return made;
}

constexpr Entry entries[] = {
    {"", "ReduceSum", sums<Summing>}, {"", "ReduceMean", sums<Averaging>}, {"", "ReduceProd", sums<Multiplying>},
    {"", "ReduceSumSquare", sums<Squares>}, {"", "ReduceL1", sums<Magnitudes>}, {"", "ReduceL2", sums<Length>},
    {"", "ReduceLogSum", sums<LogOfSum>}, {"", "ReduceLogSumExp", reduction<LogOfSumOfExp, false, float, double>},
    {"", "ReduceMax", extremes<Largest>}, {"", "ReduceMin", extremes<Smallest>},
    {"", "ArgMax", arg<true>}, {"", "ArgMin", arg<false>}, {"", "CumSum", cum_sum},
};

}  // namespace

std::span<const Entry> reduction_ops() { return entries; }

}  // namespace quern::own
