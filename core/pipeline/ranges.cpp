#include "core/pipeline/ranges.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/base/parallel.hpp"
#include "core/numeric/multiples.hpp"
#include "core/pipeline/abi_views.hpp"

namespace quern {
namespace {

// The quantizer as an estimator sees it.
struct QuantizerStruct {
  quern_quantizer_view view{};
  std::optional<TensorStruct> weight;

  QuantizerStruct(const std::string& value, const TypeRule& type, bool is_weight, int axis, int64_t channels, const Tensor* data) {
    view = abi_struct<quern_quantizer_view>();
    view.value = str_of(value);
    view.type = str_of(type.name);
    view.is_weight = is_weight;
    view.symmetric = type.symmetric();
    view.bits = static_cast<uint32_t>(type.format.bits);
    view.is_signed = type.format.is_signed;
    view.narrow = type.format.is_signed && type.format.qmin == -type.format.qmax;
    view.axis = axis;
    view.channels = static_cast<uint64_t>(channels);
    view.qmin = type.format.qmin;
    view.qmax = type.format.qmax;
    if (data) view.weight = &weight.emplace(*data).tensor;
  }
};

struct RequestList {
  const std::string& value;
  std::vector<StatisticRequest> list;
};
quern_status* add_request(void* self, const quern_stat_request* request) {
  return guarded([&] {
    auto& to = *static_cast<RequestList*>(self);
    to.list.push_back(to_request(*request, to.value));
  });
}

// Histogram bins doubled to a larger exponent by merging pairs.
void widen(std::vector<int64_t>& bins, int by) {
  for (int k = 0; k < by; ++k) {
    const size_t half = bins.size() / 2;
    for (size_t i = 0; i < half; ++i) bins[i] = bins[2 * i] + bins[2 * i + 1];
    std::fill(bins.begin() + static_cast<std::ptrdiff_t>(half), bins.end(), 0);
  }
}

bool covers_negative(const TypeRule& t) { return t.format.is_signed || !t.symmetric(); }
bool wastes_nothing_on_positive(const TypeRule& t) { return !t.format.is_signed || !t.symmetric(); }

}  // namespace

StatisticResult merge_tied(const StatisticRequest& request, const std::vector<StatisticResult>& results) {
  StatisticResult out = results.front();
  for (size_t k = 1; k < results.size(); ++k) {
    StatisticResult r = results[k];
    if (r.channels != out.channels)
      throw Error(ErrorCode::internal, "tied tensors with different numbers of channels can't share a statistic per channel");
    switch (request.kind) {
      case StatisticKind::min_max:
        for (size_t c = 0; c < out.low.size(); ++c) {
          out.low[c] = std::min(out.low[c], r.low[c]);
          out.high[c] = std::max(out.high[c], r.high[c]);
        }
        break;
      case StatisticKind::histogram: {
        StatisticResult& lower = out.exponent < r.exponent ? out : r;
        const int by = std::abs(out.exponent - r.exponent);
        widen(lower.negative, by);
        widen(lower.positive, by);
        out.exponent = std::max(out.exponent, r.exponent);
        for (size_t i = 0; i < out.negative.size(); ++i) out.negative[i] += r.negative[i];
        for (size_t i = 0; i < out.positive.size(); ++i) out.positive[i] += r.positive[i];
        out.zeros += r.zeros;
        break;
      }
      case StatisticKind::mean:
        for (size_t c = 0; c < out.mean.size(); ++c) {
          const double a = static_cast<double>(out.count), b = static_cast<double>(r.count);
          if (a + b > 0) out.mean[c] = (out.mean[c] * a + r.mean[c] * b) / (a + b);
        }
        break;
      default: {
        // One row a sample: the wider of the two. A constant among the tied has one row for all samples.
        const bool low_side = request.kind == StatisticKind::sample_min ||
                              (request.kind == StatisticKind::sample_quantile && request.quantile < 0.5);
        if (out.rows.size() < r.rows.size()) std::swap(out, r);
        const size_t other = r.rows.size();
        for (size_t i = 0; other > 0 && i < out.rows.size(); ++i)
          out.rows[i] = low_side ? std::min(out.rows[i], r.rows[i % other]) : std::max(out.rows[i], r.rows[i % other]);
      }
    }
    out.count += r.count;
  }
  return out;
}

QuantParams params_for(const TypeRule& type, std::span<const Range> observed, int axis, std::vector<Range>* used) {
  if (type.granularity == GranularityRule::tensor) axis = -1;
  std::vector<Range> ranges;
  if (type.zero_point == ZeroPointRule::zero) {
    std::vector<double> largest;
    for (const Range& r : observed) largest.push_back(std::max(std::abs(r.low), std::abs(r.high)));
    if (!type.format.is_signed)
      for (size_t i = 0; i < largest.size(); ++i) largest[i] = std::max(0.0, observed[i].high);
    ranges = symmetric_ranges(largest, type.format);
  } else if (type.zero_point == ZeroPointRule::unified) {
    ranges = unified_ranges(observed, type.format);
  } else {
    ranges = asymmetric_ranges(observed, type.format);
  }
  QuantParams params = params_from_ranges(ranges, type.format, axis);
  if (type.zero_point == ZeroPointRule::list || type.zero_point == ZeroPointRule::range) {
    // The legal zero point that covers the range with the smallest scale.
    std::vector<int64_t> legal = type.zero_points;
    if (type.zero_point == ZeroPointRule::range && legal.size() == 2)
      for (int64_t z = type.zero_points[0] + 1; z < type.zero_points[1] && legal.size() < 70000; ++z) legal.push_back(z);
    std::sort(legal.begin(), legal.end());
    for (size_t c = 0; c < ranges.size(); ++c) {
      double best = std::numeric_limits<double>::infinity();
      for (int64_t z : legal) {
        if (z < type.format.qmin || z > type.format.qmax) continue;
        const double up = ranges[c].high > 0 ? ranges[c].high / static_cast<double>(type.format.qmax - z) : 0;  // inf when z = qmax
        const double down = ranges[c].low < 0 ? -ranges[c].low / static_cast<double>(z - type.format.qmin) : 0;
        const double scale = std::max({up, down, static_cast<double>(std::numeric_limits<float>::min())});
        if (scale < best) { best = scale; params.scale[c] = static_cast<float>(scale); params.zero_point[c] = z; }
      }
    }
  }
  if (type.scale == ScaleRule::pow2) params = to_power_of_two(params, type.scale_min, type.scale_max);
  if (type.scale == ScaleRule::tensor_scale_times_integer) params = to_multiples(params, type.scale_min, type.scale_max);
  if (type.scale == ScaleRule::fixed) std::fill(params.scale.begin(), params.scale.end(), static_cast<float>(type.scale_value));
  if (used) *used = std::move(ranges);
  return params;
}

RangeFinder::RangeFinder(const Graph& graph, Placement& placement, const Rules& rules, const Config& config, PluginRegistry& registry)
    : graph_(graph), placement_(placement), rules_(rules),
      activation_(registry.estimator(config.activation_range.estimator)), weight_(registry.estimator(config.weight_range.estimator)),
      activation_parameters_(to_text(config.activation_range.parameters, false)),
      weight_parameters_(to_text(config.weight_range.parameters, false)), saturation_fix_(config.saturation_fix), config_(config) {
  std::map<int, size_t> tie_group;
  for (const Quantizer& q : placement_.quantizers) {
    if (q.kind == QuantizerKind::bias) continue;
    size_t at = groups_.size();
    if (q.tie >= 0) {
      const auto [it, fresh] = tie_group.emplace(q.tie, at);
      at = it->second;
    }
    if (at == groups_.size()) {
      Group g;
      g.types = q.types;
      g.weight = q.kind == QuantizerKind::weight;
      g.axis = channel_axis(q);
      groups_.push_back(std::move(g));
    } else {
      std::erase_if(groups_[at].types, [&](const std::string& t) { return std::find(q.types.begin(), q.types.end(), t) == q.types.end(); });
    }
    groups_[at].weight = groups_[at].weight && q.kind == QuantizerKind::weight;  // a constant that is tied to a tensor takes the tensor's numbers
    groups_[at].quantizers.push_back(q.id);
    if (groups_[at].types.empty())
      throw Error(ErrorCode::internal, fmt::format("the quantizers tied to '{}' have no type in common", graph_.value(q.value).name));
  }
  for (Group& g : groups_) apply_levels(g);
}

TypeRule RangeFinder::type_of(const Group& group, const std::string& name) const {
  TypeRule type = rules_.type(name);
  const auto& levels = (group.weight ? config_.weight_range : config_.activation_range).levels;
  if (!levels) return type;
  type.format.qmin = levels->low;
  type.format.qmax = levels->high;
  return type;
}

// Of the types that a quantizer may take, those that have the configuration's levels remain.
void RangeFinder::apply_levels(Group& group) const {
  const RangeSpec& spec = group.weight ? config_.weight_range : config_.activation_range;
  if (!spec.levels) return;
  const auto lacks = [&](const std::string& name) {
    const NumberFormat& f = rules_.type(name).format;
    return spec.levels->low < f.qmin || spec.levels->high > f.qmax;
  };
  const TypeRule& first = rules_.type(group.types.front());
  std::erase_if(group.types, lacks);
  if (!group.types.empty()) return;
  throw config_.error(spec.pointer.substr(0, spec.pointer.rfind('/')) + "/levels",
                      fmt::format("'{}' can't have the levels {} to {}: its type on this target is {}, with {} to {}",
                                  graph_.value(placement_.quantizers.at(static_cast<size_t>(group.quantizers.front())).value).name, spec.levels->low,
                                  spec.levels->high, describe_type(first), first.format.qmin, first.format.qmax));
}

int RangeFinder::channel_axis(const Quantizer& q) const {
  if (q.kind != QuantizerKind::weight) return q.types.empty() ? -1 : rules_.type(q.types.front()).axis;
  for (const PlacedUnit& unit : placement_.units) {
    for (const PlacedOperand& operand : unit.operands) {
      if (operand.quantizer != q.id) continue;
      const Node& node = graph_.node(unit.members.front());
      const int rank = static_cast<int>(graph_.value(q.value).constant ? graph_.value(q.value).constant->rank() : 0);
      if (node.op == "Conv") return 0;
      if (node.op == "ConvTranspose") return 1;
      if (node.op == "Gemm") return node.integer("transB", 0) ? 0 : 1;
      if (node.op == "MatMul") return rank >= 2 ? rank - 1 : -1;
    }
  }
  return q.types.empty() ? -1 : rules_.type(q.types.front()).axis;
}

std::vector<StatisticRequest> RangeFinder::wanted(const Group& group, const std::string& type_name, const std::string& value) const {
  const TypeRule type = type_of(group, type_name);
  const EstimatorHandle& e = group.weight ? weight_ : activation_;
  const Quantizer& q = placement_.quantizers.at(static_cast<size_t>(group.quantizers.front()));
  const Tensor* data = graph_.value(q.value).constant.get();
  const int axis = type.granularity == GranularityRule::channel ? group.axis : -1;
  const int64_t channels = axis >= 0 && data ? data->dims().at(static_cast<size_t>(axis)) : 1;
  QuantizerStruct view(value, type, group.weight, axis, channels, group.weight ? data : nullptr);
  RequestList requests{value, {}};
  auto sink = abi_struct<quern_request_sink>();
  sink.self = &requests;
  sink.request = add_request;
  throw_if_failed(e.table->requires_statistics(e.table->self, str_of(group.weight ? weight_parameters_ : activation_parameters_), &view.view, &sink),
                  e.plugin, fmt::format("asking the range estimator '{}' what it needs", e.name));
  return requests.list;
}

void RangeFinder::request(StatisticsSet& set) const {
  for (const Group& group : groups_) {
    if (group.weight) continue;
    for (int id : group.quantizers) {
      const Value& value = graph_.value(placement_.quantizers.at(static_cast<size_t>(id)).value);
      if (value.is_constant()) continue;
      set.request({value.name, StatisticKind::min_max, -1, 0});  // which type is taken depends on the sign
      for (const auto& type : group.types)
        for (const auto& r : wanted(group, type, value.name)) set.request(r);
    }
  }
}

StatisticResult RangeFinder::merged(const Group& group, const StatisticRequest& request, const StatisticsSet& set) const {
  std::vector<StatisticResult> results;
  for (int id : group.quantizers) {
    const Value& value = graph_.value(placement_.quantizers.at(static_cast<size_t>(id)).value);
    StatisticRequest own = request;
    own.value = value.name;
    if (!value.is_constant()) {
      results.push_back(set.result(own));
      continue;
    }
    // A constant is its own statistic.
    StatisticsSet one;
    one.request(own);
    const Tensor& t = *value.constant;
    const Dims strides = row_major_strides(t.dims());
    one.observe(value.name, 0, TensorView{const_cast<void*>(t.data()), t.type(), t.dims(), strides});
    results.push_back(one.result(own));
  }
  return results.size() == 1 ? std::move(results.front()) : merge_tied(request, results);
}

void RangeFinder::compute_group(const Group& group, const StatisticsSet& set) {
  const Quantizer& first = placement_.quantizers.at(static_cast<size_t>(group.quantizers.front()));
  const std::string value = graph_.value(first.value).name;
  const StatisticResult extremes = merged(group, {value, StatisticKind::min_max, -1, 0}, set);

  // In the rules' order of preference: the first type that holds the sign of what was seen without wasting half its codes.
  const bool positive = extremes.low.at(0) >= 0;
  std::string chosen = group.types.front();
  for (const auto& t : group.types) {
    const TypeRule& rule = rules_.type(t);
    if (positive ? wastes_nothing_on_positive(rule) : covers_negative(rule)) { chosen = t; break; }
  }
  const TypeRule type = type_of(group, chosen);

  const Tensor* data = graph_.value(first.value).constant.get();
  const int axis = type.granularity == GranularityRule::channel ? group.axis : -1;
  std::vector<StatisticResult> results;
  std::vector<quern_statistic> views;
  const auto requests = wanted(group, chosen, value);
  for (const auto& r : requests) results.push_back(merged(group, r, set));
  for (size_t i = 0; i < requests.size(); ++i) views.push_back(statistic_view(requests[i], results[i]));
  std::vector<const quern_statistic*> pointers;
  for (const auto& v : views) pointers.push_back(&v);

  size_t channels = 1;
  if (axis >= 0) {
    if (data) channels = static_cast<size_t>(data->dims().at(static_cast<size_t>(axis)));
    else if (!results.empty()) channels = static_cast<size_t>(results.front().channels);
  }
  QuantizerStruct view(value, type, group.weight, axis, static_cast<int64_t>(channels), group.weight ? data : nullptr);
  std::vector<double> low(channels, 0), high(channels, 0);
  const EstimatorHandle& e = group.weight ? weight_ : activation_;
  const std::string doing = fmt::format("estimating the range of '{}' with '{}'", value, e.name);
  throw_if_failed(e.table->estimate(e.table->self, str_of(group.weight ? weight_parameters_ : activation_parameters_), &view.view, pointers.data(),
                                    static_cast<uint32_t>(pointers.size()), low.data(), high.data()), e.plugin, doing);
  std::vector<Range> observed;
  for (size_t c = 0; c < channels; ++c) {
    if (!std::isfinite(low[c]) || !std::isfinite(high[c]) || low[c] > high[c])
      throw Error(ErrorCode::plugin, fmt::format("{}: gave the range {} .. {}", doing, low[c], high[c])).at_file(e.plugin);
    observed.push_back({low[c], high[c]});
  }
  std::vector<Range> used;
  QuantParams params = params_for(type, observed, axis, &used);
  if (!group.weight) params.format = rules_.type(chosen).format;  // a kernel cuts off at its type's ends
  for (int id : group.quantizers) {
    Quantizer& q = placement_.quantizers[static_cast<size_t>(id)];
    q.type = chosen;
    q.ranges = used;
    q.params = params;
  }
}

void RangeFinder::compute(const StatisticsSet& set, int threads) {
  parallel_for(static_cast<int64_t>(groups_.size()), threads, [&](int64_t i, int) { compute_group(groups_[static_cast<size_t>(i)], set); });
  fitted_ = fit_accumulators(graph_, placement_, rules_);
  for (FittedWeight& w : fit_pairs(graph_, placement_, rules_, saturation_fix_)) fitted_.push_back(std::move(w));
}

}  // namespace quern
