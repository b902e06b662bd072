// Operators that take places from an index tensor: Gather*, Scatter*, OneHot, TopK, ReverseSequence. Row major, any type.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "core/engine/float/families.hpp"
#include "core/engine/float/strided.hpp"

namespace quern::own {
namespace {

// Element i of an index tensor, negative counted from the end of n; checked at every run, as it comes from data.
int64_t index_at(const TensorView& view, int64_t i, int64_t n) {
  const int64_t given = view.type == DType::s64 ? view.as<const int64_t>()[i] : view.as<const int32_t>()[i];
  const int64_t at = given < 0 ? given + n : given;
  if (at < 0 || at >= n) throw Error(ErrorCode::data, fmt::format("index {} does not exist in an axis of {} elements", given, n));
  return at;
}

void indices_are_integers(const Op& op, size_t slot) {
  if (op.type(slot) != DType::s64 && op.type(slot) != DType::s32) op.fail("the indices of " + op.node().op + " must be of type s64 or s32");
}

Made gather(const Op& op) {
  if (!movable(op.type())) return {};
  indices_are_integers(op, 1);
  const auto axis = static_cast<size_t>(op.axis("axis", 0, op.rank()));
  return op.kernel(Layout::row_major, [axis](const Call& c) {
    const TensorView &x = c.in[0], &places = c.in[1];
    const int64_t outer = product(x.dims, 0, axis), n = x.dims[axis], count = places.count();
    const size_t inner = static_cast<size_t>(product(x.dims, axis + 1, x.dims.size())) * size_of(x.type);
    const char* from = x.as<const char>();
    char* to = c.out[0].as<char>();
    for (int64_t o = 0; o < outer; ++o)
      for (int64_t i = 0; i < count; ++i, to += inner)
        if (inner) std::memcpy(to, from + static_cast<size_t>(o * n + index_at(places, i, n)) * inner, inner);
  });
}

// The element (or element update) of every index: f(offset in `data`, number of the index). Offsets go by row-major dims.
template <class F>
void for_elements(const TensorView& data, const TensorView& places, size_t axis, const F& f) {
  if (places.count() == 0) return;
  Strides strides = strides_of(data);
  const int64_t along = strides[axis];
  strides[axis] = 0;
  Odometer o(places.dims, {strides.data(), places.dims.size()});
  int64_t i = 0;
  do {
    f(o.offset + index_at(places, i, data.dims[axis]) * along, i);
    ++i;
  } while (o.next());
}

Made gather_elements(const Op& op) {
  if (!movable(op.type())) return {};
  indices_are_integers(op, 1);
  const auto axis = static_cast<size_t>(op.axis("axis", 0, op.rank()));
  if (op.rank(1) != op.rank()) op.fail("GatherElements needs indices of the rank of the data");
  Made made;
  dispatch_size(op.type(), [&](auto tag) {
    using T = decltype(tag);
    made = op.kernel(Layout::row_major, [axis](const Call& c) {
      for_elements(c.in[0], c.in[1], axis, [&](int64_t at, int64_t i) { c.out[0].as<T>()[i] = c.in[0].as<const T>()[at]; });
    });
  });
  return made;
}

// f(offset of a slice of the data, number of the index tuple), with the size of a slice.
template <class F>
void for_slices(const TensorView& data, const TensorView& places, size_t batch, const F& f) {
  const auto depth = static_cast<size_t>(places.dims.back());
  if (batch + depth > data.dims.size()) throw Error(ErrorCode::model, "the index tuples are longer than the rank of the data");
  const int64_t slice = product(data.dims, batch + depth, data.dims.size());
  const int64_t per_batch = product(places.dims, batch, places.dims.size() - 1);
  const int64_t tuples = product(places.dims, 0, places.dims.size() - 1);
  for (int64_t t = 0; t < tuples; ++t) {
    int64_t at = batch ? t / per_batch : 0;
    for (size_t k = 0; k < depth; ++k) {
      const int64_t n = data.dims[batch + k];
      at = at * n + index_at(places, t * static_cast<int64_t>(depth) + static_cast<int64_t>(k), n);
    }
    f(at * slice, t, slice);
  }
}

Made gather_nd(const Op& op) {
  if (!movable(op.type())) return {};
  indices_are_integers(op, 1);
  const int64_t batch = op.node().integer("batch_dims", 0);
  if (op.rank(1) < 1 || batch < 0 || batch >= op.rank() || batch >= op.rank(1)) op.fail("GatherND 'batch_dims' does not fit the ranks");
  return op.kernel(Layout::row_major, [batch](const Call& c) {
    const size_t size = size_of(c.in[0].type);
    for_slices(c.in[0], c.in[1], static_cast<size_t>(batch), [&](int64_t at, int64_t t, int64_t slice) {
      const size_t bytes = static_cast<size_t>(slice) * size;
      if (bytes) std::memcpy(c.out[0].as<char>() + static_cast<size_t>(t) * bytes, c.in[0].as<const char>() + static_cast<size_t>(at) * size, bytes);
    });
  });
}

// ---- scatter -------------------------------------------------------------------------------------------------------------

enum class Mix { none, add, mul, min, max };

Mix mix_of(const Op& op) {
  const std::string name = op.node().text("reduction", "none");
  if (name == "none") return Mix::none;
  if (name == "add") return Mix::add;
  if (name == "mul") return Mix::mul;
  if (name == "min") return Mix::min;
  if (name == "max") return Mix::max;
  op.fail(op.node().op + " 'reduction' is '" + name + "': none, add, mul, min and max exist");
}

template <class T>
T mixed(Mix mix, T old, T update) {
  switch (mix) {
    case Mix::none: return update;
    case Mix::add: return static_cast<T>(old + update);
    case Mix::mul: return static_cast<T>(old * update);
    case Mix::min: return update < old ? update : old;
    case Mix::max: return update > old ? update : old;
  }
  return update;
}

// Body made for numbers where values are mixed, for any movable type where they are only put.
template <class Make>
Made scatter(const Op& op, Mix mix, const Make& make) {
  if (!movable(op.type())) return {};
  indices_are_integers(op, 1);
  if (op.type(0) != op.type(2)) op.fail("data and updates of " + op.node().op + " have different types");
  Made made;
  const auto with = [&](auto tag) { made = make(tag); };
  if (mix == Mix::none) dispatch_size(op.type(), with);
  else dispatch<float, double, uint8_t, uint32_t, uint64_t, int8_t, int32_t, int64_t>(op.type(), with);
  return made;
}

Made scatter_elements(const Op& op) {
  const Mix mix = mix_of(op);
  const auto axis = static_cast<size_t>(op.axis("axis", 0, op.rank()));
  if (op.rank(1) != op.rank()) op.fail(op.node().op + " needs indices of the rank of the data");
  return scatter(op, mix, [&](auto tag) {
    using T = decltype(tag);
    return op.in_place(Layout::row_major, [axis, mix](const Call& c) {
      if (c.out[0].data != c.in[0].data) copy_strided(c.in[0], c.out[0]);
      for_elements(c.out[0], c.in[1], axis, [&](int64_t at, int64_t i) {
        T& place = c.out[0].as<T>()[at];
        place = mixed(mix, place, c.in[2].as<const T>()[i]);
      });
    });
  });
}

Made scatter_nd(const Op& op) {
  const Mix mix = mix_of(op);
  if (op.rank(1) < 1) op.fail("ScatterND needs indices of rank 1 or more");
  return scatter(op, mix, [&](auto tag) {
    using T = decltype(tag);
    return op.in_place(Layout::row_major, [mix](const Call& c) {
      if (c.out[0].data != c.in[0].data) copy_strided(c.in[0], c.out[0]);
      for_slices(c.out[0], c.in[1], 0, [&](int64_t at, int64_t t, int64_t slice) {
        for (int64_t i = 0; i < slice; ++i) {
          T& place = c.out[0].as<T>()[at + i];
          place = mixed(mix, place, c.in[2].as<const T>()[t * slice + i]);
        }
      });
    });
  });
}

// ---- OneHot, TopK, ReverseSequence -------------------------------------------------------------------------------------------

Made one_hot(const Op& op) {
  if (!movable(op.type(2))) return {};
  const auto axis = static_cast<size_t>(op.axis("axis", -1, op.rank() + 1));
  if (product(op.in(2).dims, 0, op.in(2).dims.size()) != 2) op.fail("OneHot needs two values");
  Made made;
  dispatch<float, double, QUERN_OWN_INTEGERS>(op.type(0), [&](auto from) {
    dispatch_size(op.type(2), [&](auto to) {
      using I = decltype(from);
      using T = decltype(to);
      made = op.kernel(Layout::row_major, [axis](const Call& c) {
        const auto dims = c.in[0].dims;
        const int64_t inner = product(dims, axis, dims.size()), outer = product(dims, 0, axis), depth = c.out[0].dims[axis];
        const T off = c.in[2].as<const T>()[0], on = c.in[2].as<const T>()[1];
        T* y = c.out[0].as<T>();
        std::fill(y, y + outer * depth * inner, off);
        for (int64_t i = 0; i < outer * inner; ++i) {
          auto at = static_cast<int64_t>(c.in[0].as<const I>()[i]);
          if (at < 0) at += depth;
          if (at >= 0 && at < depth) y[((i / inner) * depth + at) * inner + i % inner] = on;
        }
      });
    });
  });
  return made;
}

Made top_k(const Op& op) {
  const auto axis = static_cast<size_t>(op.axis("axis", -1, op.rank()));
  const bool largest = op.node().integer("largest", 1) != 0;
  Made made;
  dispatch<float, double, QUERN_OWN_INTEGERS>(op.type(), [&](auto tag) {
    using T = decltype(tag);
    made = op.kernel(Layout::row_major, [axis, largest](const Call& c) {
      const auto dims = c.in[0].dims;
      const TensorView& some = c.out[0].data ? c.out[0] : c.out[1];
      const int64_t n = dims[axis], k = some.dims[axis], inner = product(dims, axis + 1, dims.size()), outer = product(dims, 0, axis);
      if (k > n) throw Error(ErrorCode::model, fmt::format("TopK of {} among {} elements", k, n));
      std::vector<int64_t> order(static_cast<size_t>(n));
      for (int64_t o = 0; o < outer; ++o)
        for (int64_t i = 0; i < inner; ++i) {
          const T* line = c.in[0].as<const T>() + o * n * inner + i;
          std::iota(order.begin(), order.end(), 0);
          // Equal elements by index, so that the order is total; NaN last.
          std::partial_sort(order.begin(), order.begin() + k, order.end(), [&](int64_t a, int64_t b) {
            const T x = line[a * inner], y = line[b * inner];
            if (x != x || y != y) return x == x && y != y ? true : y == y ? false : a < b;
            if (x != y) return largest ? x > y : x < y;
            return a < b;
          });
          for (int64_t j = 0; j < k; ++j) {
            const int64_t at = (o * k + j) * inner + i;
            if (c.out[0].data) c.out[0].as<T>()[at] = line[order[static_cast<size_t>(j)] * inner];
            if (c.out.size() > 1 && c.out[1].data) c.out[1].as<int64_t>()[at] = order[static_cast<size_t>(j)];
          }
        }
    });
  });
  return made;
}

Made reverse_sequence(const Op& op) {
  if (!movable(op.type())) return {};
  const int64_t batch = op.node().integer("batch_axis", 1), time = op.node().integer("time_axis", 0);
  if (op.rank() < 2 || batch + time != 1 || batch * time != 0) op.fail("ReverseSequence needs batch_axis and time_axis to be 0 and 1");
  return op.kernel(Layout::row_major, [batch, time](const Call& c) {
    const TensorView &x = c.in[0], &y = c.out[0];
    const auto t = static_cast<size_t>(time), b = static_cast<size_t>(batch);
    const size_t inner = static_cast<size_t>(product(x.dims, 2, x.dims.size())) * size_of(x.type);
    for (int64_t i = 0; i < x.dims[b]; ++i) {
      const int64_t length = c.in[1].as<const int64_t>()[i];
      if (length < 0 || length > x.dims[t]) throw Error(ErrorCode::data, "ReverseSequence with a length beyond the time axis");
      for (int64_t s = 0; s < x.dims[t]; ++s) {
        const int64_t from = s < length ? length - 1 - s : s;
        const auto place = [&](int64_t step) { return static_cast<size_t>(time == 0 ? step * x.dims[1] + i : i * x.dims[1] + step) * inner; };
        if (inner) std::memcpy(y.as<char>() + place(s), x.as<const char>() + place(from), inner);
      }
    }
  });
}

constexpr Entry entries[] = {
    {"", "Gather", gather}, {"", "GatherElements", gather_elements}, {"", "GatherND", gather_nd},
    {"", "ScatterElements", scatter_elements}, {"", "Scatter", scatter_elements}, {"", "ScatterND", scatter_nd},
    {"", "OneHot", one_hot}, {"", "TopK", top_k}, {"", "ReverseSequence", reverse_sequence},
};

}  // namespace

std::span<const Entry> gather_ops() { return entries; }

}  // namespace quern::own
