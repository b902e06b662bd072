// A range estimator of the plugin `ranges`, called through its table as the host calls it, on statistics made of plain numbers.
#pragma once
#include <algorithm>
#include <cmath>
#include <deque>

#include "core/numeric/quantization.hpp"
#include "core/plugin/host.hpp"
#include "tests/plugin/support.hpp"

namespace quern::testing {

struct Asked { uint32_t kind; int axis; double quantile; bool operator==(const Asked&) const = default; };
inline void PrintTo(const Asked& a, std::ostream* out) { *out << a.kind << '/' << a.axis << '/' << a.quantile; }

class Estimator {
 public:
  Estimator(const Estimator&) = delete;  // the structs point into it
  explicit Estimator(const std::string& name) {
    static PluginRegistry registry(only({own_plugin("ranges")}));
    handle_ = registry.estimator(name);
    q_ = abi_struct<quern_quantizer_view>();
    q_.value = str_of("x");
    q_.type = str_of("u8");
    q_.axis = -1;
    q_.channels = 1;
    format(8, false, false);
  }
  Estimator& format(int bits, bool is_signed, bool narrow) {
    format_ = make_format(bits, is_signed, narrow);
    q_.bits = static_cast<uint32_t>(bits);
    q_.is_signed = is_signed;
    q_.narrow = narrow;
    q_.qmin = format_.qmin;
    q_.qmax = format_.qmax;
    return *this;
  }
  Estimator& symmetric(bool on = true) { q_.symmetric = on; return *this; }
  Estimator& channels(int axis, uint64_t n) { q_.axis = axis; q_.channels = n; return *this; }
  Estimator& weight(Tensor t) {
    weight_ = std::move(t);
    strides_ = row_major_strides(weight_.dims());
    w_ = abi_struct<quern_tensor>();
    w_.data = weight_.mutable_bytes();
    w_.bytes = weight_.bytes();
    w_.dtype = QUERN_DTYPE_F32;
    w_.rank = static_cast<uint32_t>(weight_.rank());
    w_.dims = weight_.dims().data();
    w_.strides = strides_.data();
    q_.weight = &w_;
    q_.is_weight = 1;
    return *this;
  }
  // Samples in rows, one or more channels each.
  Estimator& rows(uint32_t kind, std::vector<float> values) {
    auto s = abi_struct<quern_statistic>();
    s.request.kind = kind;
    store_.push_back(std::move(values));
    s.channels = kind == QUERN_STAT_SAMPLE_MIN && q_.symmetric ? 1 : q_.channels;
    s.samples = store_.back().size() / s.channels;
    s.rows = store_.back().data();
    statistics_.push_back(s);
    return *this;
  }
  Estimator& extremes_and_histogram(const std::vector<float>& data) {
    auto m = abi_struct<quern_statistic>();
    m.request.kind = QUERN_STAT_MIN_MAX;
    m.channels = 1;
    low_ = *std::min_element(data.begin(), data.end());
    high_ = *std::max_element(data.begin(), data.end());
    m.low = &low_;
    m.high = &high_;
    statistics_.push_back(m);
    auto h = abi_struct<quern_statistic>();
    h.request.kind = QUERN_STAT_HISTOGRAM;
    h.channels = 1;
    negative_.assign(2048, 0);
    positive_.assign(2048, 0);
    const double largest = std::max(std::abs(low_), std::abs(high_));
    while (std::ldexp(1.0, h.exponent) <= largest) ++h.exponent;
    while (std::ldexp(1.0, h.exponent - 1) > largest) --h.exponent;
    for (float v : data) {
      if (v == 0) ++h.zeros;
      else ++(v < 0 ? negative_ : positive_)[static_cast<size_t>(std::abs(v) / std::ldexp(1.0, h.exponent) * 2048)];
    }
    h.negative = negative_.data();
    h.positive = positive_.data();
    statistics_.push_back(h);
    return *this;
  }

  std::vector<Asked> asks(const std::string& parameters = "{}") {
    std::vector<Asked> out;
    auto sink = abi_struct<quern_request_sink>();
    sink.self = &out;
    sink.request = [](void* self, const quern_stat_request* r) -> quern_status* {
      static_cast<std::vector<Asked>*>(self)->push_back({r->kind, r->axis, r->quantile});
      return nullptr;
    };
    throw_if_failed(handle_.table->requires_statistics(handle_.table->self, str_of(parameters), &q_, &sink), handle_.plugin, "asking");
    return out;
  }
  std::vector<Range> estimate(const std::string& parameters = "{}") {
    std::vector<const quern_statistic*> list;
    for (const auto& s : statistics_) list.push_back(&s);
    std::vector<double> low(q_.channels, -1e9), high(q_.channels, -1e9);
    throw_if_failed(handle_.table->estimate(handle_.table->self, str_of(parameters), &q_, list.data(), static_cast<uint32_t>(list.size()),
                                            low.data(), high.data()), handle_.plugin, "estimating");
    std::vector<Range> out;
    for (size_t c = 0; c < low.size(); ++c) out.push_back({low[c], high[c]});
    return out;
  }
  const NumberFormat& number_format() const { return format_; }

 private:
  EstimatorHandle handle_;
  quern_quantizer_view q_;
  NumberFormat format_;
  Tensor weight_;
  Dims strides_;
  quern_tensor w_;
  std::deque<std::vector<float>> store_;
  std::deque<quern_statistic> statistics_;
  std::vector<int64_t> negative_, positive_;
  double low_ = 0, high_ = 0;
};

}  // namespace quern::testing
