// Operators that put elements elsewhere: every one is a copy between two strided views, of any type.
#include <fmt/format.h>

#include <cstring>
#include <map>
#include <vector>

#include "core/engine/float/families.hpp"
#include "core/engine/float/strided.hpp"

namespace quern::own {
namespace {

const char* bytes_at(const TensorView& view, int64_t element) {
  return static_cast<const char*>(view.data) + element * static_cast<int64_t>(size_of(view.type));
}
char* mutable_at(const TensorView& view, int64_t element) {
  return static_cast<char*>(view.data) + element * static_cast<int64_t>(size_of(view.type));
}

int64_t checked_axis(int64_t axis, size_t rank) {
  const int64_t at = axis < 0 ? axis + static_cast<int64_t>(rank) : axis;
  if (at < 0 || at >= static_cast<int64_t>(rank)) throw Error(ErrorCode::model, fmt::format("axis {} does not exist in a tensor of rank {}", axis, rank));
  return at;
}

Made transpose(const Op& op) {
  if (!movable(op.type())) return {};
  const auto rank = static_cast<size_t>(op.rank());
  std::vector<int64_t> order = op.node().integers("perm");
  if (order.empty())
    for (size_t a = rank; a-- > 0;) order.push_back(static_cast<int64_t>(a));
  std::vector<bool> seen(rank);
  if (order.size() != rank) op.fail("Transpose 'perm' must name every axis once");
  for (int64_t& a : order) {
    if (a < 0) a += static_cast<int64_t>(rank);
    if (a < 0 || a >= static_cast<int64_t>(rank) || seen[static_cast<size_t>(a)]) op.fail("Transpose 'perm' must name every axis once");
    seen[static_cast<size_t>(a)] = true;
  }
  const Body body = [order](const Call& c) {
    if (c.in[0].data == c.out[0].data) return;  // a view
    Strides from{};
    for (size_t a = 0; a < order.size(); ++a) from[a] = c.in[0].strides[static_cast<size_t>(order[a])];
    copy_strided(size_of(c.in[0].type), c.in[0].data, from, c.out[0].data, strides_of(c.out[0]), c.out[0].dims);
  };
  // Bringing channels to the front of a row-major tensor, or to the end of one that lies channels last, moves nothing: the memory is
  // the result's in the other layout. Where a neighbour wants it otherwise the engine's copy does what the transposition would have done.
  std::vector<int64_t> to_front{0}, to_end{0};
  for (size_t a = 1; a < rank; ++a) {
    to_front.push_back(a == 1 ? static_cast<int64_t>(rank) - 1 : static_cast<int64_t>(a) - 1);
    to_end.push_back(a + 1 < rank ? static_cast<int64_t>(a) + 1 : 1);
  }
  const bool front = rank >= 3 && order == to_front, end = rank >= 3 && order == to_end;
  if ((!front && !end) || op.constant(0)) return op.kernel(Layout::any, Layout::row_major, body);
  // Rank 3 is both: taken as it comes.
  const bool last = end && (!front || op.in(0).layout == Layout::channels_last);
  PreparedKernel made = op.kernel(last ? Layout::channels_last : Layout::row_major, last ? Layout::row_major : Layout::channels_last, body);
  made.view = true;
  return made;
}

Made concat(const Op& op) {
  if (!movable(op.type())) return {};
  const auto axis = static_cast<size_t>(op.axis("axis", op.node().since_version < 4 ? 1 : 0, static_cast<int64_t>(op.out().dims.size())));
  for (size_t i = 1; i < op.slots(); ++i)
    if (op.type(i) != op.type(0)) op.fail("the inputs of Concat have different types");
  return op.kernel(Layout::any, [axis](const Call& c) {
    int64_t at = 0;
    const TensorView& to = c.out[0];
    for (const TensorView& from : c.in) {
      copy_strided(size_of(from.type), from.data, strides_of(from), mutable_at(to, at * to.strides[axis]), strides_of(to), from.dims);
      at += from.dims[axis];
    }
  });
}

Made split(const Op& op) {
  if (!movable(op.type())) return {};
  const auto axis = static_cast<size_t>(op.axis("axis", 0, op.rank()));
  const IntList later(op, "split", 1);
  return op.kernel(Layout::any, [axis, later](const Call& c) {
    const TensorView& from = c.in[0];
    const std::vector<int64_t> sizes = later.get(c);
    int64_t at = 0;
    // Parts nobody wants still take their place; without sizes all parts are equal but the last.
    int64_t equal = (from.dims[axis] + static_cast<int64_t>(c.out.size()) - 1) / static_cast<int64_t>(c.out.size());
    for (size_t i = 0; i < c.out.size(); ++i) {
      const TensorView& to = c.out[i];
      const int64_t n = !sizes.empty() ? sizes.at(i) : to.data ? to.dims[axis] : equal;
      if (to.data)
        copy_strided(size_of(from.type), bytes_at(from, at * from.strides[axis]), strides_of(from), to.data, strides_of(to), to.dims);
      at += n;
    }
  });
}

Made slice(const Op& op) {
  if (!movable(op.type())) return {};
  const IntList starts(op, "starts", 1), ends(op, "ends", 2), axes(op, "axes", 3), steps(op, 4);
  return op.kernel(Layout::any, [=](const Call& c) {
    const TensorView &from = c.in[0], &to = c.out[0];
    const auto s = starts.get(c), a = axes.get(c), by = steps.get(c);
    Strides strides = strides_of(from);
    int64_t offset = 0;
    for (size_t i = 0; i < s.size(); ++i) {
      const auto axis = static_cast<size_t>(checked_axis(a.empty() ? static_cast<int64_t>(i) : a.at(i), from.dims.size()));
      const int64_t n = from.dims[axis], step = by.empty() ? 1 : by.at(i);
      if (step == 0) throw Error(ErrorCode::model, "Slice with a step of 0");
      int64_t start = s[i] < 0 ? s[i] + n : s[i];
      start = std::clamp<int64_t>(start, 0, step > 0 ? n : n - 1);
      offset += start * from.strides[axis];
      strides[axis] = from.strides[axis] * step;
    }
    copy_strided(size_of(from.type), bytes_at(from, offset), strides, to.data, strides_of(to), to.dims);
  });
}

Made expand(const Op& op) {
  if (!movable(op.type())) return {};
  return op.kernel(Layout::any, [](const Call& c) { copy_strided(c.in[0], c.out[0]); });
}

// Repeats: the output seen as [repeat, size] per axis, stretched along the repeats.
Made tile(const Op& op) {
  if (!movable(op.type())) return {};
  if (op.rank() * 2 > static_cast<int64_t>(max_rank)) op.fail("Tile of a tensor of rank above 8");
  return op.kernel(Layout::any, [](const Call& c) {
    const TensorView &from = c.in[0], &to = c.out[0];
    Dims dims;
    Strides in{}, out{};
    for (size_t a = 0; a < from.dims.size(); ++a) {
      if (from.dims[a] == 0) return;
      out[dims.size()] = to.strides[a] * from.dims[a];
      dims.push_back(to.dims[a] / from.dims[a]);
      in[dims.size()] = from.strides[a];
      out[dims.size()] = to.strides[a];
      dims.push_back(from.dims[a]);
    }
    copy_strided(size_of(from.type), from.data, in, to.data, out, dims);
  });
}

// ---- Pad -----------------------------------------------------------------------------------------------------------------

enum class PadMode { constant, reflect, edge, wrap };

// Where output index `at` of an axis of n elements comes from, with `before` elements in front; -1: the constant.
int64_t source_index(PadMode mode, int64_t at, int64_t before, int64_t n) {
  int64_t i = at - before;
  if (i >= 0 && i < n) return i;
  switch (mode) {
    case PadMode::constant: return -1;
    case PadMode::edge: return i < 0 ? 0 : n - 1;
    case PadMode::wrap: return ((i % n) + n) % n;
    case PadMode::reflect: {
      if (n == 1) return 0;
      const int64_t period = 2 * (n - 1);
      i = ((i % period) + period) % period;
      return i < n ? i : period - i;
    }
  }
  return -1;
}

template <class T>
void pad(const TensorView& from, const TensorView& to, const std::vector<int64_t>& before, PadMode mode, T value) {
  const size_t rank = to.dims.size();
  if (to.count() == 0) return;
  if (rank == 0) { *to.as<T>() = *from.as<T>(); return; }
  std::vector<std::vector<int64_t>> source(rank);  // offset in the input by output index, or -1
  for (size_t a = 0; a < rank; ++a) {
    if (from.dims[a] == 0 && mode != PadMode::constant) throw Error(ErrorCode::model, "an axis without elements can't be padded from itself");
    for (int64_t i = 0; i < to.dims[a]; ++i) {
      const int64_t s = source_index(mode, i, before[a], from.dims[a]);
      source[a].push_back(s < 0 ? -1 : s * from.strides[a]);
    }
  }
  // The axis that is dense in memory is walked inside.
  size_t in = rank - 1;
  for (size_t a = 0; a < rank; ++a)
    if (to.strides[a] == 1 && to.dims[a] > 1) in = a;
  Dims dims(to.dims.begin(), to.dims.end());
  dims[in] = 1;
  Odometer o(dims, to.strides);
  do {
    int64_t base = 0;
    bool inside = true;
    for (size_t a = 0; a < rank; ++a) {
      if (a == in) continue;
      const int64_t s = source[a][static_cast<size_t>(o.at[a])];
      inside = inside && s >= 0;
      base += s;
    }
    T* out = to.as<T>() + o.offset;
    const int64_t step = to.strides[in];
    for (int64_t i = 0; i < to.dims[in]; ++i) {
      const int64_t s = inside ? source[in][static_cast<size_t>(i)] : -1;
      out[i * step] = s < 0 ? value : from.as<const T>()[base + s];
    }
  } while (o.next());
}

Made pad_op(const Op& op) {
  if (!movable(op.type())) return {};
  static const std::map<std::string, PadMode> modes{{"constant", PadMode::constant}, {"reflect", PadMode::reflect},
                                                    {"edge", PadMode::edge}, {"wrap", PadMode::wrap}};
  const std::string name = op.node().text("mode", "constant");
  const auto found = modes.find(name);
  if (found == modes.end()) op.fail("Pad 'mode' is '" + name + "': constant, reflect, edge and wrap exist");
  const PadMode mode = found->second;
  const IntList pads(op, op.node().has("paddings") ? "paddings" : "pads", 1), axes(op, 3);
  const float attribute_value = op.node().real("value", 0);
  Made made;
  dispatch_size(op.type(), [&](auto tag) {
    using T = decltype(tag);
    const bool is_f32 = op.type() == DType::f32, is_f64 = op.type() == DType::f64;
    made = op.kernel(Layout::any, [=](const Call& c) {
      T value{};
      const double as_double = attribute_value;
      if (is_f32) std::memcpy(&value, &attribute_value, sizeof(T));
      if (is_f64) std::memcpy(&value, &as_double, sizeof(T));
      if (c.in.size() > 2 && c.in[2].data) value = *c.in[2].as<const T>();
      const size_t rank = c.in[0].dims.size();
      std::vector<int64_t> before(rank), which = axes.get(c);
      const auto amounts = pads.get(c);
      if (!axes.present())
        for (size_t a = 0; a < rank; ++a) which.push_back(static_cast<int64_t>(a));
      if (amounts.size() != 2 * which.size()) throw Error(ErrorCode::model, "Pad needs two numbers per axis");
      for (size_t i = 0; i < which.size(); ++i) before[static_cast<size_t>(checked_axis(which[i], rank))] = amounts[i];
      pad<T>(c.in[0], c.out[0], before, mode, value);
    });
  });
  return made;
}

// ---- blocks and channels ---------------------------------------------------------------------------------------------------

Made depth_to_space(const Op& op) {
  if (!movable(op.type())) return {};
  const int64_t b = op.node().integer("blocksize", 0);
  if (op.rank() != 4 || b < 1 || op.in(0).dims[1] % (b * b) != 0) op.fail("DepthToSpace needs [N,C,H,W] with C a multiple of blocksize^2");
  const std::string mode = op.node().text("mode", "DCR");
  if (mode != "DCR" && mode != "CRD") op.fail("DepthToSpace 'mode' must be DCR or CRD");
  const bool depth_first = mode == "DCR";
  return op.kernel(Layout::any, [b, depth_first](const Call& c) {
    const TensorView &x = c.in[0], &y = c.out[0];
    const int64_t depth = y.dims[1];
    // [n, c, h, row in block, w, column in block]
    const Dims dims{y.dims[0], depth, x.dims[2], b, x.dims[3], b};
    const int64_t s = x.strides[1];
    const Strides from{x.strides[0], depth_first ? s : s * b * b, x.strides[2], depth_first ? s * depth * b : s * b, x.strides[3],
                       depth_first ? s * depth : s};
    const Strides to{y.strides[0], y.strides[1], y.strides[2] * b, y.strides[2], y.strides[3] * b, y.strides[3]};
    copy_strided(size_of(x.type), x.data, from, y.data, to, dims);
  });
}

Made space_to_depth(const Op& op) {
  if (!movable(op.type())) return {};
  const int64_t b = op.node().integer("blocksize", 0);
  if (op.rank() != 4 || b < 1 || op.in(0).dims[2] % b != 0 || op.in(0).dims[3] % b != 0)
    op.fail("SpaceToDepth needs [N,C,H,W] with H and W multiples of blocksize");
  return op.kernel(Layout::any, [b](const Call& c) {
    const TensorView &x = c.in[0], &y = c.out[0];
    const Dims dims{x.dims[0], b, b, x.dims[1], y.dims[2], y.dims[3]};
    const Strides from{x.strides[0], x.strides[2], x.strides[3], x.strides[1], x.strides[2] * b, x.strides[3] * b};
    const int64_t s = y.strides[1];
    const Strides to{y.strides[0], s * b * x.dims[1], s * x.dims[1], s, y.strides[2], y.strides[3]};
    copy_strided(size_of(x.type), x.data, from, y.data, to, dims);
  });
}

Made trilu(const Op& op) {
  if (!movable(op.type()) || op.rank() < 2) return {};
  const bool upper = op.node().integer("upper", 1) != 0;
  Made made;
  dispatch_size(op.type(), [&](auto tag) {
    using T = decltype(tag);
    made = op.kernel(Layout::row_major, [upper](const Call& c) {
      const auto dims = c.in[0].dims;
      const int64_t k = c.in.size() > 1 && c.in[1].data ? *c.in[1].as<const int64_t>() : 0;
      const int64_t rows = dims[dims.size() - 2], columns = dims[dims.size() - 1], matrices = product(dims, 0, dims.size() - 2);
      for (int64_t i = 0; i < matrices * rows * columns; ++i) {
        const int64_t distance = i % columns - (i / columns) % rows;
        c.out[0].as<T>()[i] = (upper ? distance >= k : distance <= k) ? c.in[0].as<const T>()[i] : T{};
      }
    });
  });
  return made;
}

constexpr Entry entries[] = {
    {"", "Transpose", transpose}, {"", "Concat", concat}, {"", "Split", split}, {"", "Slice", slice}, {"", "Expand", expand},
    {"", "Tile", tile}, {"", "Pad", pad_op}, {"", "DepthToSpace", depth_to_space}, {"", "SpaceToDepth", space_to_depth},
    {"", "Trilu", trilu},
};

}  // namespace

std::span<const Entry> move_ops() { return entries; }

}  // namespace quern::own
