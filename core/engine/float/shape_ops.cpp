// Operators whose result is another view of the same elements, a shape, or made from nothing.
#include <fmt/format.h>

#include <cstring>

#include "core/engine/float/families.hpp"
#include "core/engine/float/strided.hpp"

namespace quern::own {
namespace {

// Reshape, Flatten, Squeeze, Unsqueeze: the dims are known when a kernel is prepared; the elements keep their order.
Made reshaped(const Op& op) {
  if (!movable(op.type())) return {};
  if (product(op.in(0).dims, 0, op.in(0).dims.size()) != product(op.out().dims, 0, op.out().dims.size()))
    op.fail(fmt::format("{} of {} to {}: the numbers of elements differ", op.node().op, to_string(op.in(0).dims), to_string(op.out().dims)));
  return op.view(Layout::row_major);
}

Made identity(const Op& op) {
  if (!movable(op.type())) return {};
  return op.view(Layout::any);
}

// Dropout at inference; the mask, where somebody wants it, is all true.
Made dropout(const Op& op) {
  if (!movable(op.type())) return {};
  const Tensor* training = op.constant(2);
  if (op.has(2) && (!training || training->values<uint8_t>()[0] != 0))
    op.fail("Dropout in training mode is not computed");
  if (!op.wants(1)) return op.view(Layout::any);
  return op.kernel(Layout::any, [](const Call& c) {
    copy_strided(c.in[0], c.out[0]);
    const uint8_t one[8] = {1};
    if (c.out[1].type == DType::boolean) {
      fill_strided(c.out[1], one);
    } else {  // before opset 10 the mask has the type of the data
      const float f = 1;
      const double d = 1;
      fill_strided(c.out[1], c.out[1].type == DType::f64 ? static_cast<const void*>(&d) : &f);
    }
  });
}

Made shape(const Op& op) {
  const auto rank = op.rank();
  const auto limit = [rank](int64_t at) {
    if (at < 0) at += rank;
    return at < 0 ? int64_t{0} : at > rank ? rank : at;
  };
  const int64_t start = limit(op.node().integer("start", 0)), end = limit(op.node().integer("end", rank));
  const Dims dims(op.in(0).dims.begin() + start, op.in(0).dims.begin() + std::max(start, end));
  return op.kernel(Layout::any, [dims](const Call& c) {
    if (!dims.empty()) std::memcpy(c.out[0].data, dims.data(), dims.size() * sizeof(int64_t));
  });
}

Made size(const Op& op) {
  const int64_t n = product(op.in(0).dims, 0, op.in(0).dims.size());
  return op.kernel(Layout::any, [n](const Call& c) { *c.out[0].as<int64_t>() = n; });
}

Made constant(const Op& op) {
  const Node& n = op.node();
  Tensor value;
  if (auto it = n.attributes.find("value"); it != n.attributes.end() && std::holds_alternative<Tensor>(it->second)) {
    value = std::get<Tensor>(it->second);
  } else if (n.has("value_float")) {
    value = Tensor::scalar<float>(n.real("value_float", 0));
  } else if (n.has("value_int")) {
    value = Tensor::scalar<int64_t>(n.integer("value_int", 0));
  } else if (n.has("value_floats")) {
    const auto v = n.reals("value_floats");
    value = Tensor::of<float>({static_cast<int64_t>(v.size())}, v);
  } else if (n.has("value_ints")) {
    const auto v = n.integers("value_ints");
    value = Tensor::of<int64_t>({static_cast<int64_t>(v.size())}, v);
  } else {
    return {};
  }
  return op.kernel(Layout::row_major, [value](const Call& c) {
    if (value.bytes()) std::memcpy(c.out[0].data, value.data(), value.bytes());
  });
}

Made constant_of_shape(const Op& op) {
  Tensor value = Tensor::scalar<float>(0);
  if (auto it = op.node().attributes.find("value"); it != op.node().attributes.end()) {
    const Tensor* given = std::get_if<Tensor>(&it->second);
    if (!given || given->count() != 1) op.fail("ConstantOfShape 'value' must be a tensor of one element");
    value = *given;
  }
  if (!movable(value.type())) return {};
  return op.kernel(Layout::row_major, [value](const Call& c) { fill_strided(c.out[0], value.data()); });
}

Made range(const Op& op) {
  Made made;
  dispatch<float, double, int16_t, int32_t, int64_t>(op.type(), [&](auto tag) {
    using T = decltype(tag);
    made = op.kernel(Layout::row_major, [](const Call& c) {
      const T start = *c.in[0].as<const T>(), delta = *c.in[2].as<const T>();
      const int64_t n = c.out[0].count();
      for (int64_t i = 0; i < n; ++i) c.out[0].as<T>()[i] = static_cast<T>(start + static_cast<T>(i) * delta);
    });
  });
  return made;
}

Made eye_like(const Op& op) {
  if (op.rank() != 2) op.fail("EyeLike needs a matrix");
  const int64_t k = op.node().integer("k", 0);
  Made made;
  dispatch<float, double, QUERN_OWN_INTEGERS, bool>(op.out().dtype, [&](auto tag) {
    using T = decltype(tag);
    made = op.kernel(Layout::row_major, [k](const Call& c) {
      const int64_t rows = c.out[0].dims[0], columns = c.out[0].dims[1];
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t j = 0; j < columns; ++j) c.out[0].as<T>()[r * columns + j] = static_cast<T>(j - r == k);
    });
  });
  return made;
}

constexpr Entry entries[] = {
    {"", "Reshape", reshaped}, {"", "Flatten", reshaped}, {"", "Squeeze", reshaped}, {"", "Unsqueeze", reshaped},
    {"", "Identity", identity}, {"", "Dropout", dropout}, {"", "Shape", shape}, {"", "Size", size}, {"", "Constant", constant},
    {"", "ConstantOfShape", constant_of_shape}, {"", "Range", range}, {"", "EyeLike", eye_like},
};

}  // namespace

std::span<const Entry> shape_ops() { return entries; }

}  // namespace quern::own
