// Operators whose output size only the data say: NonMaxSuppression, NonZero, Compress. Row major. Their kernels return tensors.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <vector>

#include "core/engine/float/families.hpp"
#include "core/engine/float/strided.hpp"

namespace quern::own {
namespace {

// ---- NonZero, Compress -----------------------------------------------------------------------------------------------------

template <class T>
Tensor places_of_non_zeros(const TensorView& x) {
  const int64_t n = x.count(), rank = static_cast<int64_t>(x.dims.size());
  const T* values = x.as<const T>();
  int64_t found = 0;
  for (int64_t i = 0; i < n; ++i) found += values[i] != T(0);
  Tensor places(DType::s64, {rank, found});
  int64_t* to = places.mutable_values<int64_t>().data();
  int64_t at = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (values[i] == T(0)) continue;
    int64_t rest = i;
    for (int64_t a = rank; a-- > 0;) {
      to[a * found + at] = rest % x.dims[static_cast<size_t>(a)];
      rest /= x.dims[static_cast<size_t>(a)];
    }
    ++at;
  }
  return places;
}

Made non_zero(const Op& op) {
  Made made;
  dispatch<float, double, QUERN_OWN_INTEGERS, bool>(op.type(), [&](auto tag) {
    using T = decltype(tag);
    made = op.data_sized([](const Call& c) { return std::vector<Tensor>{places_of_non_zeros<T>(c.in[0])}; });
  });
  return made;
}

Made compress(const Op& op) {
  if (!movable(op.type())) return {};
  if (op.type(1) != DType::boolean || op.rank(1) != 1) op.fail("Compress needs a condition of one axis of bools");
  const bool flat = !op.node().has("axis");
  const size_t axis = flat ? 0 : static_cast<size_t>(op.axis("axis", 0, op.rank()));
  return op.data_sized([flat, axis](const Call& c) {
    const TensorView& x = c.in[0];
    Dims dims = flat ? Dims{x.count()} : Dims(x.dims.begin(), x.dims.end());
    const int64_t n = dims[axis], given = c.in[1].dims[0];
    const uint8_t* wanted = c.in[1].as<const uint8_t>();
    if (given > n) throw Error(ErrorCode::data, fmt::format("Compress has {} conditions for an axis of {} elements", given, n));
    const int64_t outer = product(dims, 0, axis);
    const size_t inner = static_cast<size_t>(product(dims, axis + 1, dims.size())) * size_of(x.type);
    dims[axis] = std::count_if(wanted, wanted + given, [](uint8_t w) { return w != 0; });
    Tensor picked(x.type, dims);
    char* to = static_cast<char*>(picked.mutable_bytes());
    for (int64_t o = 0; o < outer; ++o)
      for (int64_t i = 0; i < given; ++i) {
        if (!wanted[i] || !inner) continue;
        std::memcpy(to, x.as<const char>() + static_cast<size_t>(o * n + i) * inner, inner);
        to += inner;
      }
    return std::vector<Tensor>{picked};
  });
}

// ---- NonMaxSuppression -------------------------------------------------------------------------------------------------------

struct Box { float y1, x1, y2, x2, area; };

Box box_at(const float* p, bool center) {
  Box b;
  if (center) {  // x, y, width, height
    const float w = p[2] / 2, h = p[3] / 2;
    b = {p[1] - h, p[0] - w, p[1] + h, p[0] + w, 0};
  } else {  // any two opposite corners
    b = {std::min(p[0], p[2]), std::min(p[1], p[3]), std::max(p[0], p[2]), std::max(p[1], p[3]), 0};
  }
  b.area = (b.y2 - b.y1) * (b.x2 - b.x1);
  return b;
}

bool overlap(const Box& a, const Box& b, float threshold) {
  const float height = std::min(a.y2, b.y2) - std::max(a.y1, b.y1), width = std::min(a.x2, b.x2) - std::max(a.x1, b.x1);
  if (!(height > 0) || !(width > 0)) return false;
  const float both = height * width, all = a.area + b.area - both;
  return a.area > 0 && b.area > 0 && all > 0 && both / all > threshold;
}

// The boxes kept of one class of one image: by falling score, equal scores by index; a NaN is no score.
std::vector<int64_t> kept_boxes(const std::vector<Box>& boxes, const float* scores, int64_t most, float iou, const float* least) {
  std::vector<int64_t> order, kept;
  for (int64_t i = 0; i < static_cast<int64_t>(boxes.size()); ++i)
    if (least ? scores[i] > *least : scores[i] == scores[i]) order.push_back(i);
  std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return scores[a] != scores[b] ? scores[a] > scores[b] : a < b; });
  for (int64_t i : order) {
    if (static_cast<int64_t>(kept.size()) >= most) break;
    const Box& box = boxes[static_cast<size_t>(i)];
    if (std::none_of(kept.begin(), kept.end(), [&](int64_t k) { return overlap(box, boxes[static_cast<size_t>(k)], iou); })) kept.push_back(i);
  }
  return kept;
}

std::vector<Tensor> suppress(const Call& c, bool center) {
  const TensorView &boxes = c.in[0], &scores = c.in[1];
  const int64_t batches = boxes.dims[0], count = boxes.dims[1], classes = scores.dims[1];
  const auto given = [&](size_t slot) { return slot < c.in.size() && c.in[slot].data; };
  const double most = given(2) ? read_scalar(c.in[2]) : 0;
  const auto iou = static_cast<float>(given(3) ? read_scalar(c.in[3]) : 0);
  const auto least = static_cast<float>(given(4) ? read_scalar(c.in[4]) : 0);
  if (!(iou >= 0 && iou <= 1)) throw Error(ErrorCode::data, fmt::format("NonMaxSuppression: an IoU threshold of {} is not between 0 and 1", iou));
  std::vector<int64_t> rows;
  for (int64_t b = 0; b < batches && most > 0; ++b) {
    std::vector<Box> here(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) here[static_cast<size_t>(i)] = box_at(boxes.as<const float>() + (b * count + i) * 4, center);
    for (int64_t k = 0; k < classes; ++k)
      for (int64_t i : kept_boxes(here, scores.as<const float>() + (b * classes + k) * count, static_cast<int64_t>(most), iou, given(4) ? &least : nullptr))
        rows.insert(rows.end(), {b, k, i});
  }
  return {Tensor::of<int64_t>({static_cast<int64_t>(rows.size()) / 3, 3}, rows)};
}

Made non_max_suppression(const Op& op) {
  if (op.type() != DType::f32 || op.type(1) != DType::f32) return {};
  if (op.rank() != 3 || op.in(0).dims[2] != 4) op.fail("NonMaxSuppression needs boxes of shape [batch, boxes, 4]");
  if (op.rank(1) != 3 || op.in(1).dims[0] != op.in(0).dims[0] || op.in(1).dims[2] != op.in(0).dims[1])
    op.fail("NonMaxSuppression needs scores of shape [batch, classes, boxes], as many as there are boxes");
  const int64_t center = op.node().integer("center_point_box", 0);
  if (center != 0 && center != 1) op.fail(fmt::format("NonMaxSuppression 'center_point_box' is {}: 0 and 1 exist", center));
  return op.data_sized([center](const Call& c) { return suppress(c, center == 1); });
}

constexpr Entry entries[] = {
    {"", "NonMaxSuppression", non_max_suppression}, {"", "NonZero", non_zero}, {"", "Compress", compress},
};

}  // namespace

std::span<const Entry> select_ops() { return entries; }

}  // namespace quern::own
