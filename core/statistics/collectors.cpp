#include "core/statistics/collectors.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace quern {
namespace {

// The number of channels is a fact of the tensor; a sample that has another is an error of the data.
void fix_channels(int64_t& channels, int64_t now, const StatisticRequest& r, int64_t sample) {
  if (channels == 0) channels = now;
  if (channels != now)
    throw Error(ErrorCode::data, fmt::format("tensor '{}' has {} channels on axis {} in sample {}, but {} in others", r.value, now,
                                             r.axis, sample, channels));
}
void same_channels(int64_t& channels, int64_t other, const StatisticRequest& r) {
  if (channels == 0) channels = other;
  if (other != 0 && channels != other)
    throw Error(ErrorCode::data, fmt::format("the statistics of tensor '{}' have {} and {} channels; they are of different models",
                                             r.value, channels, other));
}

class MinMax : public Statistic {
 public:
  void observe(Observation& o) override {
    const auto& e = o.channel_extremes(request.axis);
    fix_channels(channels_, static_cast<int64_t>(e.low.size()), request, o.sample);
    include(e.low, e.high);
    count_ += o.count / channels_;
  }
  void merge(const Statistic& other) override {
    const auto& m = static_cast<const MinMax&>(other);
    if (m.empty()) return;
    same_channels(channels_, m.channels_, request);
    include(m.low_, m.high_);
    count_ += m.count_;
  }
  bool empty() const override { return low_.empty(); }
  StatisticResult result() const override {
    StatisticResult r;
    r.channels = channels_;
    r.count = count_;
    r.low.assign(low_.begin(), low_.end());
    r.high.assign(high_.begin(), high_.end());
    return r;
  }
  void save(Writer& w) const override { w.put(count_); w.array(low_); w.array(high_); }
  void load(Reader& r) override {
    count_ = r.get<int64_t>();
    low_ = r.array<float>();
    high_ = r.array<float>();
    channels_ = static_cast<int64_t>(low_.size());
    if (low_.size() != high_.size()) r.fail("has a minimum without a maximum");
  }

 private:
  void include(const std::vector<float>& low, const std::vector<float>& high) {
    if (low_.empty()) { low_ = low; high_ = high; return; }
    for (size_t c = 0; c < low_.size(); ++c) {
      low_[c] = std::min(low_[c], low[c]);
      high_[c] = std::max(high_[c], high[c]);
    }
  }
  int64_t channels_ = 0, count_ = 0;
  std::vector<float> low_, high_;
};

// The exponent is the smallest that holds all data seen; growing by one merges pairs of bins, which is exact because bins
// begin at 0. So the result depends on the data only.
class Histogram : public Statistic {
 public:
  void observe(Observation& o) override {
    grow(histogram_exponent(o.bound()));
    count_bins(o.data, o.count, exponent_, negative_.data(), positive_.data(), zeros_);
    count_ += o.count;
  }
  void merge(const Statistic& other) override {
    const auto& h = static_cast<const Histogram&>(other);
    if (h.empty()) return;
    grow(h.exponent_);
    const int shift = exponent_ - h.exponent_;
    for (size_t i = 0; i < histogram_bins; ++i) {
      const size_t to = shift < 31 ? i >> shift : 0;
      negative_[to] += h.negative_[i];
      positive_[to] += h.positive_[i];
    }
    zeros_ += h.zeros_;
    count_ += h.count_;
  }
  bool empty() const override { return count_ == 0; }
  StatisticResult result() const override {
    StatisticResult r;
    r.count = count_;
    r.exponent = exponent_;
    r.negative = negative_;
    r.positive = positive_;
    r.zeros = zeros_;
    return r;
  }
  void save(Writer& w) const override {
    w.put(count_);
    w.put<int32_t>(exponent_);
    w.put(zeros_);
    w.array(negative_);
    w.array(positive_);
  }
  void load(Reader& r) override {
    count_ = r.get<int64_t>();
    exponent_ = r.get<int32_t>();
    zeros_ = r.get<int64_t>();
    negative_ = r.array<int64_t>();
    positive_ = r.array<int64_t>();
    if (negative_.size() != histogram_bins || positive_.size() != histogram_bins || exponent_ < histogram_lowest_exponent || exponent_ > 128)
      r.fail("has a histogram of another form");
  }

 private:
  void grow(int exponent) {
    if (exponent <= exponent_) return;
    const int shift = exponent - exponent_;
    exponent_ = exponent;
    for (auto* side : {&negative_, &positive_}) {
      std::vector<int64_t> wider(histogram_bins, 0);
      for (size_t i = 0; i < histogram_bins; ++i) wider[shift < 31 ? i >> shift : 0] += (*side)[i];
      *side = std::move(wider);
    }
  }
  int64_t count_ = 0, zeros_ = 0;
  int exponent_ = histogram_lowest_exponent;
  std::vector<int64_t> negative_ = std::vector<int64_t>(histogram_bins, 0), positive_ = negative_;
};

class Mean : public Statistic {
 public:
  void observe(Observation& o) override {
    const auto b = o.blocks(request.axis);
    fix_channels(channels_, b.channels, request, o.sample);
    sums_.resize(static_cast<size_t>(channels_));
    count_ += o.count / b.channels;
    const float bound = o.bound();
    if (b.inner == 1 && b.channels > 1) {
      add_rows(o.data, b.outer, b.channels, bound, sums_.data());
      return;
    }
    const float* x = o.data;
    for (int64_t k = 0; k < b.outer; ++k)
      for (int64_t c = 0; c < b.channels; ++c, x += b.inner) add_run(x, b.inner, bound, sums_[static_cast<size_t>(c)]);
  }
  void merge(const Statistic& other) override {
    const auto& m = static_cast<const Mean&>(other);
    if (m.empty()) return;
    same_channels(channels_, m.channels_, request);
    sums_.resize(static_cast<size_t>(channels_));
    for (size_t c = 0; c < sums_.size(); ++c) sums_[c].merge(m.sums_[c]);
    count_ += m.count_;
  }
  bool empty() const override { return count_ == 0; }
  StatisticResult result() const override {
    StatisticResult r;
    r.channels = channels_;
    r.count = count_;
    for (const auto& s : sums_) r.mean.push_back(s.mean(static_cast<uint64_t>(count_)));
    return r;
  }
  void save(Writer& w) const override {
    w.put(count_);
    std::vector<ExactSum::Limbs> limbs;
    for (const auto& s : sums_) limbs.push_back(s.limbs());
    w.array(limbs);
  }
  void load(Reader& r) override {
    count_ = r.get<int64_t>();
    const auto limbs = r.array<ExactSum::Limbs>();
    channels_ = static_cast<int64_t>(limbs.size());
    sums_.resize(limbs.size());
    for (size_t c = 0; c < limbs.size(); ++c) sums_[c].set_limbs(limbs[c]);
    if (count_ < 0) r.fail("has a negative count");
  }

 private:
  int64_t channels_ = 0, count_ = 0;
  std::vector<ExactSum> sums_;
};

class Rows : public Statistic {
 public:
  void observe(Observation& o) override {
    const auto b = o.blocks(request.axis);
    fix_channels(channels_, b.channels, request, o.sample);
    ids_.push_back(o.sample);
    const size_t at = rows_.size();
    rows_.resize(at + static_cast<size_t>(channels_));
    float* row = rows_.data() + at;
    const bool quantile = request.kind == StatisticKind::sample_quantile || request.kind == StatisticKind::sample_abs_quantile;
    if (quantile) {
      quantiles(o, b, row);
      return;
    }
    const auto& e = o.channel_extremes(request.axis);
    for (size_t c = 0; c < e.low.size(); ++c) {
      if (request.kind == StatisticKind::sample_min) row[c] = e.low[c];
      else if (request.kind == StatisticKind::sample_max) row[c] = e.high[c];
      else row[c] = std::max(std::fabs(e.low[c]), std::fabs(e.high[c]));
    }
  }
  void merge(const Statistic& other) override {
    const auto& m = static_cast<const Rows&>(other);
    if (m.empty()) return;
    same_channels(channels_, m.channels_, request);
    ids_.insert(ids_.end(), m.ids_.begin(), m.ids_.end());
    rows_.insert(rows_.end(), m.rows_.begin(), m.rows_.end());
  }
  bool empty() const override { return ids_.empty(); }
  StatisticResult result() const override {
    StatisticResult r;
    r.channels = channels_;
    r.count = static_cast<int64_t>(ids_.size());
    sorted(r.sample_ids, r.rows);
    return r;
  }
  void save(Writer& w) const override {
    std::vector<int64_t> ids;
    std::vector<float> rows;
    sorted(ids, rows);
    w.put(channels_);
    w.array(ids);
    w.array(rows);
  }
  void load(Reader& r) override {
    channels_ = r.get<int64_t>();
    ids_ = r.array<int64_t>();
    rows_ = r.array<float>();
    if (channels_ < 0 || (ids_.empty() ? !rows_.empty() : channels_ == 0 || rows_.size() / static_cast<size_t>(channels_) != ids_.size() ||
                                                               rows_.size() % ids_.size() != 0))
      r.fail("has a table whose rows do not fit its samples");
  }

 private:
  void quantiles(Observation& o, const Observation::Blocks& b, float* row) {
    const bool absolute = request.kind == StatisticKind::sample_abs_quantile;
    if (b.channels == 1) {
      row[0] = quantile_of(o.data, o.count, request.quantile, absolute);
      return;
    }
    std::vector<float> one(static_cast<size_t>(b.outer * b.inner));
    for (int64_t c = 0; c < b.channels; ++c) {
      for (int64_t k = 0; k < b.outer; ++k)
        std::copy_n(o.data + (k * b.channels + c) * b.inner, b.inner, one.begin() + k * b.inner);
      row[c] = quantile_of(one.data(), static_cast<int64_t>(one.size()), request.quantile, absolute);
    }
  }
  void sorted(std::vector<int64_t>& ids, std::vector<float>& rows) const {
    std::vector<size_t> order(ids_.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return ids_[a] < ids_[b]; });
    const size_t channels = static_cast<size_t>(channels_);
    rows.reserve(rows_.size());
    for (size_t k : order) {
      ids.push_back(ids_[k]);
      rows.insert(rows.end(), rows_.begin() + static_cast<ptrdiff_t>(k * channels), rows_.begin() + static_cast<ptrdiff_t>((k + 1) * channels));
    }
  }
  int64_t channels_ = 0;
  std::vector<int64_t> ids_;
  std::vector<float> rows_;
};

}  // namespace

std::unique_ptr<Statistic> make_statistic(const StatisticRequest& request) {
  if (request.axis < -1) throw Error(ErrorCode::internal, fmt::format("statistics on axis {}", request.axis));
  if (!(request.quantile >= 0 && request.quantile <= 1))
    throw Error(ErrorCode::config, fmt::format("a quantile of {}; 0 to 1 are possible", request.quantile));
  std::unique_ptr<Statistic> s;
  switch (request.kind) {
    case StatisticKind::min_max: s = std::make_unique<MinMax>(); break;
    case StatisticKind::histogram:
      if (request.axis >= 0) throw Error(ErrorCode::config, "a histogram is per tensor, not per channel");
      s = std::make_unique<Histogram>();
      break;
    case StatisticKind::mean: s = std::make_unique<Mean>(); break;
    default: s = std::make_unique<Rows>(); break;
  }
  s->request = request;
  return s;
}

}  // namespace quern
