#include <fmt/format.h>

#include "core/base/error.hpp"
#include "core/graph/shape_rules.hpp"

namespace quern::shape_rules {

void RuleScope::fail(const std::string& message) const {
  throw Error(ErrorCode::model, fmt::format("{}: {}", node.op, message)).at_node(node.name);
}

const KnownTensor& RuleScope::in(size_t i) const {
  if (!given(i)) fail(fmt::format("input {} is missing", i));
  return in_[i];
}

const Dims* RuleScope::dims(size_t i) const { return given(i) && in_[i].dims ? &*in_[i].dims : nullptr; }

void RuleScope::need_rank(size_t i, int64_t low, int64_t high) const {
  const Dims* d = dims(i);
  if (!d) return;
  const auto rank = static_cast<int64_t>(d->size());
  if (rank >= low && rank <= high) return;
  fail(fmt::format("input {} has shape {}; it must have {} dimensions", i, to_string(*d),
                   low == high ? std::to_string(low)
                               : high > 64 ? fmt::format("at least {}", low) : fmt::format("{} to {}", low, high)));
}

std::optional<Ints> RuleScope::ints(size_t i) const {
  if (!given(i)) return {};
  const Tensor* t = in_[i].constant ? in_[i].constant : in_[i].shape_data.get();
  if (!t || t->count() > data_limit) return {};
  switch (t->type()) {
    case DType::s64: case DType::s32: case DType::boolean: case DType::u8: case DType::s8: break;
    default: return {};
  }
  Ints v = t->to_ints();
  if (in_[i].constant)  // a real INT64_MIN ("up to the start", in a Slice) must not look like an unknown element
    for (int64_t& e : v) e = e == unknown_element ? e + 1 : e;
  return v;
}

std::optional<Ints> RuleScope::known_ints(size_t i) const {
  auto v = ints(i);
  if (v)
    for (int64_t e : *v)
      if (!known(e)) return {};
  return v;
}

std::optional<std::vector<float>> RuleScope::floats(size_t i) const {
  if (!given(i) || !in_[i].constant || in_[i].constant->count() > data_limit) return {};
  const DType t = in_[i].constant->type();
  if (t != DType::f32 && t != DType::f64) return {};
  return in_[i].constant->to_floats();
}

int64_t RuleScope::axis(int64_t value, int64_t rank, int64_t extra) const {
  const int64_t span = rank + extra;
  if (value < -span || value >= span)
    fail(fmt::format("axis {} is outside the {} dimensions of its tensor", value, rank));
  return value < 0 ? value + span : value;
}

std::optional<Ints> RuleScope::axes(const std::string& key, size_t slot) const {
  if (node.has(key)) return node.integers(key);
  if (!given(slot)) return Ints{};
  return known_ints(slot);
}

KnownTensor RuleScope::make_data(DType type, Dims dims, const Ints& values) {
  KnownTensor out{type, dims, nullptr, nullptr};
  if (static_cast<int64_t>(values.size()) > data_limit) return out;
  switch (type) {
    case DType::s64: out.shape_data = std::make_shared<const Tensor>(Tensor::of<int64_t>(std::move(dims), values)); break;
    case DType::s32: {
      std::vector<int32_t> narrow;
      for (int64_t v : values) {
        if (v < INT32_MIN || v > INT32_MAX) return out;  // also unknown elements: s32 has no room for the mark
        narrow.push_back(static_cast<int32_t>(v));
      }
      out.shape_data = std::make_shared<const Tensor>(Tensor::of<int32_t>(std::move(dims), narrow));
      break;
    }
    case DType::boolean: {
      Tensor t(DType::boolean, std::move(dims));
      for (size_t i = 0; i < values.size(); ++i) {
        if (!known(values[i])) return out;
        t.mutable_values<uint8_t>()[i] = values[i] != 0;
      }
      out.shape_data = std::make_shared<const Tensor>(std::move(t));
      break;
    }
    default: break;
  }
  return out;
}

DType RuleScope::same_type(size_t from, size_t to) const {
  DType type = DType::undefined;
  for (size_t i = from; i < to && i < count(); ++i) {
    if (dtype(i) == DType::undefined) continue;
    if (type != DType::undefined && type != dtype(i))
      fail(fmt::format("its inputs must have one type; there are {} and {}", name_of(type), name_of(dtype(i))));
    type = dtype(i);
  }
  return type;
}

}  // namespace quern::shape_rules
