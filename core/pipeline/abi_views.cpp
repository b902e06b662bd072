#include "core/pipeline/abi_views.hpp"

#include <fmt/format.h>

#include "core/plugin/abi_op.hpp"

namespace quern {

static_assert(static_cast<int>(StatisticKind::min_max) == QUERN_STAT_MIN_MAX);
static_assert(static_cast<int>(StatisticKind::histogram) == QUERN_STAT_HISTOGRAM);
static_assert(static_cast<int>(StatisticKind::mean) == QUERN_STAT_MEAN);
static_assert(static_cast<int>(StatisticKind::sample_min) == QUERN_STAT_SAMPLE_MIN);
static_assert(static_cast<int>(StatisticKind::sample_max) == QUERN_STAT_SAMPLE_MAX);
static_assert(static_cast<int>(StatisticKind::sample_abs_max) == QUERN_STAT_SAMPLE_ABS_MAX);
static_assert(static_cast<int>(StatisticKind::sample_quantile) == QUERN_STAT_SAMPLE_QUANTILE);
static_assert(static_cast<int>(StatisticKind::sample_abs_quantile) == QUERN_STAT_SAMPLE_ABS_QUANTILE);

quern_status* caught_status() noexcept { return status_of_exception(); }

StatisticRequest to_request(const quern_stat_request& r, const std::string& value) {
  if (r.kind > QUERN_STAT_SAMPLE_ABS_QUANTILE)
    throw Error(ErrorCode::plugin, fmt::format("asks for a statistic of kind {}, which does not exist", r.kind));
  StatisticRequest out;
  out.value = value;
  out.kind = static_cast<StatisticKind>(r.kind);
  out.axis = r.axis;
  const bool quantile = out.kind == StatisticKind::sample_quantile || out.kind == StatisticKind::sample_abs_quantile;
  out.quantile = quantile ? r.quantile : 0;
  if (quantile && !(out.quantile >= 0 && out.quantile <= 1))
    throw Error(ErrorCode::plugin, fmt::format("asks for the quantile {}; it lies in 0..1", r.quantile));
  return out;
}

quern_statistic statistic_view(const StatisticRequest& request, const StatisticResult& r) {
  auto s = abi_struct<quern_statistic>();
  s.request = abi_struct<quern_stat_request>();
  s.request.kind = static_cast<uint32_t>(request.kind);
  s.request.axis = request.axis;
  s.request.quantile = request.quantile;
  s.channels = static_cast<uint64_t>(r.channels);
  s.samples = r.sample_ids.size();
  s.count = static_cast<uint64_t>(r.count);
  s.low = r.low.empty() ? nullptr : r.low.data();
  s.high = r.high.empty() ? nullptr : r.high.data();
  s.mean = r.mean.empty() ? nullptr : r.mean.data();
  s.rows = r.rows.empty() ? nullptr : r.rows.data();
  s.negative = r.negative.empty() ? nullptr : r.negative.data();
  s.positive = r.positive.empty() ? nullptr : r.positive.data();
  s.zeros = r.zeros;
  s.exponent = r.exponent;
  return s;
}

TensorStruct::TensorStruct(const Tensor& t) : dims(t.dims()), strides(row_major_strides(t.dims())) {
  tensor = abi_struct<quern_tensor>();
  tensor.data = const_cast<void*>(t.data());
  tensor.bytes = t.bytes();
  tensor.dtype = static_cast<uint32_t>(t.type());
  tensor.rank = static_cast<uint32_t>(dims.size());
  tensor.dims = dims.data();
  tensor.strides = strides.data();
  tensor.layout = QUERN_LAYOUT_ROW_MAJOR;
}

Tensor f32_copy(const quern_tensor& t, const std::string& what) {
  if (t.dtype != QUERN_DTYPE_F32 || t.rank > 16 || (t.rank > 0 && !t.dims) || !t.data)
    throw Error(ErrorCode::plugin, fmt::format("{} should be a tensor of f32", what));
  const Dims dims(t.dims, t.dims + t.rank);
  Tensor out(DType::f32, dims);
  const Dims dense = row_major_strides(dims);
  const Dims strides = t.strides ? Dims(t.strides, t.strides + t.rank) : dense;
  copy(TensorView{t.data, DType::f32, dims, strides}, TensorView{out.mutable_bytes(), DType::f32, dims, dense});
  return out;
}

AttributeStructs::AttributeStructs(const std::map<std::string, Attribute>& attributes) {
  for (const auto& [name, value] : attributes)
    if (const auto a = abi_attribute(name, value, [&](const Tensor& t) { return &tensors_.emplace_back(t).tensor; })) attributes_.push_back(*a);
  for (const auto& a : attributes_) pointers_.push_back(&a);
}

}  // namespace quern
