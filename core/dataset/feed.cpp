#include "core/dataset/feed.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/base/error.hpp"
#include "core/base/log.hpp"
#include "core/numeric/rounding.hpp"

namespace quern {
namespace {

bool integral(DType t) { return !is_float(t) && t != DType::string && t != DType::undefined; }

Error bad_data(const Origin& o, const std::string& what) { return Error(ErrorCode::data, fmt::format("{} {}", o.name, what)).at_file(o.file); }

// Dimensions as a person would write them down: what the input wants, "?" for what is free.
bool fits(std::span<const int64_t> have, std::span<const int64_t> want) {
  if (have.size() != want.size()) return false;
  for (size_t i = 0; i < have.size(); ++i)
    if (want[i] >= 0 && want[i] != have[i]) return false;
  return true;
}

// Axis 0 is the sample. A row that lacks only the input's batch axis gets one; a row of the input's rank stays.
Dims sample_dims(const Origin& o, const Dims& row, const InputSpec& spec) {
  const std::span<const int64_t> want(spec.dims);
  Dims with_batch{1};
  with_batch.insert(with_batch.end(), row.begin(), row.end());
  if (with_batch.size() == want.size() && fits(with_batch, want)) return with_batch;
  if (row.size() == want.size() && fits(row, want)) return row;
  std::string wanted = "a row of " + to_string(want);
  if (!want.empty() && (want[0] == -1 || want[0] == 1)) wanted = fmt::format("a row of {} (or {})", to_string(want.subspan(1)), to_string(want));
  std::string hint;
  if (o.rows >= 0 && row.size() + 1 == want.size() && want[0] > 1 && o.rows == want[0] && fits(row, want.subspan(1)))
    hint = fmt::format("the model's batch is fixed to {}: store samples as [samples,{},...]", want[0], want[0]);
  // The commonest slip: the channels on the other side.
  if (row.size() == 3 && want.size() == 4 && fits(Dims{1, row[2], row[0], row[1]}, want)) hint = "the data looks channels-last; transpose it with x.transpose(0, 3, 1, 2)";
  if (row.size() == 3 && want.size() == 4 && fits(Dims{1, row[1], row[2], row[0]}, want)) hint = "the data looks channels-first; transpose it with x.transpose(0, 2, 3, 1)";
  Dims shape = row;
  if (o.rows >= 0) shape.insert(shape.begin(), o.rows);
  throw bad_data(o, fmt::format("has the shape {}; input '{}' of the model needs {}{}", to_string(shape), spec.name,
                                o.rows >= 0 ? "samples on axis 0 and " : "", wanted)).hint(hint);
}

void check_type(const Origin& s, DType from, const InputSpec& spec, const Affine& affine) {
  const DType to = spec.dtype;
  if (from == DType::bf16) throw bad_data(s, "is bf16, which has no reader; store it as float32");
  if (to == DType::f32 || to == DType::f64 || to == DType::f16) return;
  if (affine.active) throw Error(ErrorCode::config, fmt::format("preprocess: input '{}' is {}; only float inputs can be preprocessed", spec.name, name_of(to)));
  if (!integral(to)) throw Error(ErrorCode::data, fmt::format("input '{}' of the model is {}, for which data can't be read", spec.name, name_of(to)));
  if (!integral(from) || (to == DType::boolean && from != DType::boolean))
    throw bad_data(s, fmt::format("is {}; input '{}' of the model is {}", name_of(from), spec.name, name_of(to)));
}

template <class F>
void with_type(DType t, F&& f) {
  switch (t) {
    case DType::f32: f(float{}); break;
    case DType::f64: f(double{}); break;
    case DType::u8: case DType::boolean: f(uint8_t{}); break;
    case DType::s8: f(int8_t{}); break;
    case DType::u16: f(uint16_t{}); break;
    case DType::s16: f(int16_t{}); break;
    case DType::u32: f(uint32_t{}); break;
    case DType::s32: f(int32_t{}); break;
    case DType::u64: f(uint64_t{}); break;
    case DType::s64: f(int64_t{}); break;
    default: throw Error(ErrorCode::internal, fmt::format("data of type {}", name_of(t)));
  }
}

Tensor to_f32(const Tensor& row) {
  if (row.type() == DType::f32) return row;
  Tensor out(DType::f32, row.dims());
  const auto to = out.mutable_values<float>();
  if (row.type() == DType::f16) {
    const auto from = row.values<uint16_t>();
    for (size_t i = 0; i < to.size(); ++i) to[i] = from_half(from[i]);
    return out;
  }
  with_type(row.type(), [&](auto tag) {
    const auto from = row.values<decltype(tag)>();
    for (size_t i = 0; i < to.size(); ++i) to[i] = static_cast<float>(from[i]);
  });
  return out;
}

Tensor preprocessed(const Tensor& row, const Feed& in) {
  Tensor out(DType::f32, row.dims());
  const auto from = row.values<float>();
  const auto to = out.mutable_values<float>();
  const Affine& a = in.affine;
  size_t inner = from.size(), channels = 1;
  if (in.channel_axis >= 0) {
    channels = static_cast<size_t>(in.dims[static_cast<size_t>(in.channel_axis)]);
    inner = 1;
    for (size_t i = static_cast<size_t>(in.channel_axis) + 1; i < in.dims.size(); ++i) inner *= static_cast<size_t>(in.dims[i]);
  }
  for (size_t at = 0, c = 0; at < from.size(); at += inner, c = (c + 1) % channels) {
    const float mean = a.mean[a.mean.size() == 1 ? 0 : c], scale = a.scale[a.scale.size() == 1 ? 0 : c];
    for (size_t i = at; i < at + inner; ++i) to[i] = (from[i] - mean) * scale;
  }
  return out;
}

Tensor to_integer_type(const Tensor& row, const Feed& in, int64_t index) {
  if (row.type() == in.spec.dtype) return row;
  Tensor out(in.spec.dtype, row.dims());
  with_type(row.type(), [&](auto from_tag) {
    with_type(in.spec.dtype, [&](auto to_tag) {
      using From = decltype(from_tag);
      using To = decltype(to_tag);
      if constexpr (std::is_integral_v<From> && std::is_integral_v<To>) {
        const auto from = row.values<From>();
        const auto to = out.template mutable_values<To>();
        for (size_t i = 0; i < from.size(); ++i) {
          if (!std::in_range<To>(from[i]))
            throw bad_data(in.origin, fmt::format("holds {} in sample {}, which does not fit input '{}' of type {}", from[i], index, in.spec.name,
                                                  name_of(in.spec.dtype)));
          to[i] = static_cast<To>(from[i]);
        }
      }
    });
  });
  return out;
}

Tensor to_half_tensor(const Tensor& t) {
  Tensor out(DType::f16, t.dims());
  const auto from = t.values<float>();
  const auto to = out.mutable_values<uint16_t>();
  for (size_t i = 0; i < to.size(); ++i) to[i] = to_half(from[i]);
  return out;
}
Tensor to_double_tensor(const Tensor& t) {
  Tensor out(DType::f64, t.dims());
  const auto from = t.values<float>();
  std::copy(from.begin(), from.end(), out.mutable_values<double>().begin());
  return out;
}

std::vector<float> numbers(const json::value& v, const char* what) {
  std::vector<float> out;
  const auto add = [&](const json::value& e) {
    if (!e.is_number() || !std::isfinite(e.to_number<double>())) throw Error(ErrorCode::config, fmt::format("preprocess: {} has to be a number or a list of numbers", what));
    out.push_back(static_cast<float>(e.to_number<double>()));
  };
  if (const auto* list = v.if_array()) for (const auto& e : *list) add(e);
  else add(v);
  if (out.empty()) throw Error(ErrorCode::config, fmt::format("preprocess: {} is an empty list", what));
  return out;
}

Affine affine_of(const json::object& o) {
  Affine a;
  a.active = true;
  for (const auto& [key, value] : o) {
    if (key == "mean") a.mean = numbers(value, "mean");
    else if (key == "scale") a.scale = numbers(value, "scale");
    else if (key == "range") {
      if (const auto r = numbers(value, "range"); r.size() != 2 || r[0] >= r[1]) throw Error(ErrorCode::config, "preprocess: range has to be [low, high]");
    } else {
      throw Error(ErrorCode::config, fmt::format("preprocess: unknown key '{}'{}; there are mean, scale and range", std::string_view(key), did_you_mean(key, {"mean", "scale", "range"})));
    }
  }
  return a;
}

// {mean, scale} for every float input, or {input name: {mean, scale}}.
Affine preprocessing_of(const json::object& section, const InputSpec& spec) {
  const auto* p = section.if_contains("preprocess");
  if (!p || p->is_null()) return {};
  const auto* o = p->if_object();
  if (!o) throw Error(ErrorCode::config, "preprocess has to be {mean, scale}");
  const bool by_input = std::any_of(o->begin(), o->end(), [](const auto& e) { return e.value().is_object(); });
  if (!by_input) return is_float(spec.dtype) && !o->empty() ? affine_of(*o) : Affine{};
  const auto* mine = o->if_contains(spec.name);
  if (!mine) return {};
  if (!mine->is_object()) throw Error(ErrorCode::config, fmt::format("preprocess: input '{}' needs {{mean, scale}}", spec.name));
  return affine_of(mine->get_object());
}

// Per-channel numbers go to axis 1, or to the last axis where only that one has as many elements.
int channel_axis_of(const Affine& a, const Dims& dims, const InputSpec& spec) {
  const size_t n = std::max(a.mean.size(), a.scale.size());
  if (n == 1) return -1;
  const bool agree = (a.mean.size() == 1 || a.mean.size() == n) && (a.scale.size() == 1 || a.scale.size() == n);
  if (agree && dims.size() >= 2) {
    if (dims[1] == static_cast<int64_t>(n)) return 1;
    if (dims.back() == static_cast<int64_t>(n)) return static_cast<int>(dims.size()) - 1;
  }
  throw Error(ErrorCode::config, fmt::format("preprocess: {} means and {} scales do not fit input '{}' of shape {} (axis 1 or the last one)", a.mean.size(),
                                             a.scale.size(), spec.name, to_string(dims)));
}

}  // namespace

Feed::Feed(const json::object& section, InputSpec wanted, Origin from, const Dims& row, DType type) : spec(std::move(wanted)), origin(std::move(from)) {
  affine = preprocessing_of(section, spec);
  check_type(origin, type, spec, affine);
  dims = sample_dims(origin, row, spec);
  channel_axis = channel_axis_of(affine, dims, spec);
}

Tensor Feed::convert(const Tensor& given, int64_t index) const {
  if (integral(spec.dtype)) return to_integer_type(given, *this, index);
  if (given.type() == spec.dtype && !affine.active) return given;
  Tensor row = to_f32(given);
  if (affine.active) row = preprocessed(row, *this);
  if (spec.dtype == DType::f16) return to_half_tensor(row);
  if (spec.dtype == DType::f64) return to_double_tensor(row);
  return row;
}

void refuse_unknown_inputs(const json::object& named, const std::vector<InputSpec>& inputs, const char* where) {
  std::vector<std::string> names;
  for (const auto& i : inputs) names.push_back(i.name);
  for (const auto& [key, value] : named)
    if (std::find(names.begin(), names.end(), std::string_view(key)) == names.end())
      throw Error(ErrorCode::config, fmt::format("{}: the model has no input '{}'{}; it has {}", where, std::string_view(key), did_you_mean(key, names), list_of(names)));
}

void refuse_unknown_preprocessing(const json::object& section, const std::vector<InputSpec>& inputs) {
  const auto* p = section.if_contains("preprocess");
  if (!p || !p->is_object()) return;
  json::object by_input;
  for (const auto& e : p->get_object()) if (e.value().is_object()) by_input[e.key()] = e.value();
  refuse_unknown_inputs(by_input, inputs, "preprocess");
}

Part part_of(const json::object& section, int64_t there, const std::string& file) {
  const auto whole = [&](const char* key, int64_t least, int64_t otherwise) {
    const auto* n = section.if_contains(key);
    if (!n || n->is_null()) return otherwise;
    const int64_t v = n->is_int64() ? n->get_int64() : n->is_uint64() ? static_cast<int64_t>(n->get_uint64()) : -1;
    if (v < least) throw Error(ErrorCode::config, fmt::format("{} has to be a whole number from {}", key, least));
    return v;
  };
  const int64_t first = whole("skip", 0, 0), wanted = whole("samples", 1, -1);
  if (first > 0 && first >= there) throw Error(ErrorCode::config, fmt::format("skip: {} leaves nothing; {} holds {} samples", first, file, there));
  const int64_t left = there - first;
  if (wanted > left) log::info("{} samples were asked for, {} holds {}", wanted, file, left);
  return {first, wanted < 0 ? left : std::min(wanted, left)};
}

}  // namespace quern
