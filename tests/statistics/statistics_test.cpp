#include "core/statistics/statistics.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <random>

#include "core/base/digest.hpp"
#include "core/base/error.hpp"
#include "core/statistics/collectors.hpp"

namespace quern {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Kind = StatisticKind;

std::string error_of(const std::function<void()>& f, ErrorCode code = ErrorCode::data) {
  try { f(); } catch (const Error& e) { EXPECT_EQ(e.code(), code) << e.what(); return e.what(); }
  return "no error";
}

struct Data {
  Dims dims;
  std::vector<float> values;
  TensorView view(const Dims& strides) { return {values.data(), DType::f32, dims, strides}; }
};

Data sample_of(int64_t id, Dims dims) {
  Data d{dims, std::vector<float>(static_cast<size_t>(element_count(dims)))};
  std::mt19937 random(static_cast<uint32_t>(id) * 7919 + static_cast<uint32_t>(dims.size()));
  std::normal_distribution<float> normal(0, std::exp(static_cast<float>(id % 9) - 4));
  for (float& x : d.values) x = id % 3 ? normal(random) : std::max(0.0f, normal(random));
  return d;
}

void observe(StatisticsSet& set, const std::string& value, int64_t id, Data d) {
  const Dims strides = row_major_strides(d.dims);
  set.observe(value, id, d.view(strides));
}

StatisticsSet requests() {
  StatisticsSet s;
  for (const char* value : {"x", "y"}) {
    s.request({value, Kind::min_max, -1, 0});
    s.request({value, Kind::min_max, 1, 0});
    s.request({value, Kind::histogram, -1, 0});
    s.request({value, Kind::mean, -1, 0});
    s.request({value, Kind::mean, 1, 0});
    s.request({value, Kind::sample_min, -1, 0});
    s.request({value, Kind::sample_max, 1, 0});
    s.request({value, Kind::sample_abs_max, -1, 0});
    s.request({value, Kind::sample_quantile, -1, 1e-2});
    s.request({value, Kind::sample_quantile, 1, 0.99});
    s.request({value, Kind::sample_abs_quantile, -1, 0.9999});
  }
  s.provenance = {{"model", "abc"}, {"reader", "def"}};
  return s;
}

constexpr int samples = 40;
void observe_all(StatisticsSet& s, int64_t id) {
  observe(s, "x", id, sample_of(id, {1, 6, 5, 7}));
  observe(s, "y", id, sample_of(id + 1000, {1, 11}));
}

TEST(Statistics, FiftySplitsAndOrdersGiveTheSameBytes) {
  StatisticsSet whole = requests();
  for (int64_t id = 0; id < samples; ++id) observe_all(whole, id);
  const std::string expected = whole.serialize();
  std::mt19937 random(1);
  for (int round = 0; round < 50; ++round) {
    std::vector<int64_t> order(samples);
    std::iota(order.begin(), order.end(), int64_t{0});
    std::shuffle(order.begin(), order.end(), random);
    std::vector<StatisticsSet> parts;
    const size_t n = 1 + random() % 7;
    for (size_t k = 0; k < n; ++k) parts.push_back(whole.empty_copy());
    for (int64_t id : order) observe_all(parts[random() % n], id);
    // Merge in a random tree, some parts by way of their file.
    while (parts.size() > 1) {
      const size_t a = random() % parts.size();
      StatisticsSet taken = std::move(parts[a]);
      parts.erase(parts.begin() + static_cast<ptrdiff_t>(a));
      if (random() % 2) taken = StatisticsSet::deserialize(taken.serialize(), "part");
      parts[random() % parts.size()].merge(taken);
    }
    StatisticsSet total;  // takes over requests and provenance
    total.merge(parts[0]);
    ASSERT_EQ(total.serialize(), expected) << "round " << round;
  }
  EXPECT_EQ(StatisticsSet::deserialize(expected, "f").serialize(), expected);
}

TEST(Statistics, LayoutDoesNotMatter) {
  const Dims dims{2, 6, 5, 7};
  Data d = sample_of(5, dims);
  const Dims row = row_major_strides(dims), last = channels_last_strides(dims), gaps{6 * 5 * 8 + 3, 5 * 8, 8, 1};
  std::vector<float> moved(d.values.size()), gapped(1000, 1e30f);
  copy(d.view(row), {moved.data(), DType::f32, dims, last});
  copy(d.view(row), {gapped.data(), DType::f32, dims, gaps});
  StatisticsSet a = requests(), b = requests(), c = requests();
  a.observe("x", 3, d.view(row));
  b.observe("x", 3, {moved.data(), DType::f32, dims, last});
  c.observe("x", 3, {gapped.data(), DType::f32, dims, gaps});
  EXPECT_EQ(a.serialize(), b.serialize());
  EXPECT_EQ(a.serialize(), c.serialize());
}

TEST(Statistics, ValuesByThePlainDefinition) {
  StatisticsSet s = requests();
  std::vector<Data> all;
  for (int64_t id : {4, 2, 9}) {
    all.push_back(sample_of(id, {1, 6, 5, 7}));
    observe(s, "x", id, all.back());
  }
  const auto mm = s.result({"x", Kind::min_max, 1, 0});
  ASSERT_EQ(mm.channels, 6);
  const auto mean = s.result({"x", Kind::mean, 1, 0});
  EXPECT_EQ(mean.count, 3 * 35);
  for (size_t c = 0; c < 6; ++c) {
    double low = 1e30, high = -1e30;
    long double sum = 0;
    for (const auto& d : all)
      for (size_t i = 0; i < 35; ++i) {
        low = std::min(low, static_cast<double>(d.values[c * 35 + i]));
        high = std::max(high, static_cast<double>(d.values[c * 35 + i]));
        sum += d.values[c * 35 + i];
      }
    EXPECT_EQ(mm.low[c], low);
    EXPECT_EQ(mm.high[c], high);
    EXPECT_NEAR(mean.mean[c], static_cast<double>(sum / 105), 1e-15);
  }
  const auto rows = s.result({"x", Kind::sample_abs_max, -1, 0});
  EXPECT_EQ(rows.sample_ids, (std::vector<int64_t>{2, 4, 9}));
  const auto abs_max = [](const Data& d) { float m = 0; for (float x : d.values) m = std::max(m, std::fabs(x)); return m; };
  EXPECT_EQ(rows.rows, (std::vector<float>{abs_max(all[1]), abs_max(all[0]), abs_max(all[2])}));
  const auto per_channel = s.result({"x", Kind::sample_quantile, 1, 0.99});
  EXPECT_EQ(per_channel.rows.size(), 18u);
  std::vector<float> one(all[0].values.begin() + 35, all[0].values.begin() + 70);  // sample 4, channel 1
  std::sort(one.begin(), one.end());
  EXPECT_FLOAT_EQ(per_channel.rows[6 + 1], one[33] + 0.66f * (one[34] - one[33]));
  const auto h = s.result({"x", Kind::histogram, -1, 0});
  EXPECT_EQ(h.count, 3 * 210);
  EXPECT_EQ(std::accumulate(h.negative.begin(), h.negative.end(), h.zeros) + std::accumulate(h.positive.begin(), h.positive.end(), int64_t{0}), h.count);
  const float largest = std::max({abs_max(all[0]), abs_max(all[1]), abs_max(all[2])});
  EXPECT_LT(largest, std::ldexp(1.0f, h.exponent));
  EXPECT_GE(largest, std::ldexp(1.0f, h.exponent - 1));
  EXPECT_EQ(s.samples("x"), 3);
  EXPECT_EQ(s.samples("y"), 0);
}

TEST(Statistics, BatchBelongsToTheSample) {
  StatisticsSet s;
  s.request({"x", Kind::sample_max, 1, 0});
  observe(s, "x", 0, {{2, 3}, {1, 5, 2, 4, 0, 9}});
  EXPECT_EQ(s.result({"x", Kind::sample_max, 1, 0}).rows, (std::vector<float>{4, 5, 9}));
}

TEST(Statistics, BadValuesAreNamed) {
  StatisticsSet s = requests();
  for (const auto& [bad, word] : {std::pair{NAN, "NaN"}, {INFINITY, "infinity"}, {-INFINITY, "infinity"}}) {
    Data d = sample_of(1, {1, 6, 5, 7});
    d.values[100] = bad;
    EXPECT_THAT(error_of([&, d = d] { observe(s, "x", 17, d); }), AllOf(HasSubstr("'x'"), HasSubstr(word), HasSubstr("sample 17")));
  }
  EXPECT_EQ(s.samples("x"), 0);
}

TEST(Statistics, DuplicatesAreErrors) {
  StatisticsSet a = requests(), b = requests();
  observe_all(a, 3);
  EXPECT_THAT(error_of([&] { observe_all(a, 3); }), AllOf(HasSubstr("sample 3"), HasSubstr("twice")));
  observe_all(b, 4);
  observe_all(b, 3);
  const std::string before = a.serialize();
  EXPECT_THAT(error_of([&] { a.merge(b); }), HasSubstr("sample 3"));
  EXPECT_EQ(a.serialize(), before);
}

TEST(Statistics, WhatCanNotBeMerged) {
  StatisticsSet a = requests(), b = requests(), c;
  b.provenance["model"] = "other";
  EXPECT_THAT(error_of([&] { a.merge(b); }), AllOf(HasSubstr("model"), HasSubstr("abc"), HasSubstr("other")));
  c.request({"x", Kind::min_max, -1, 0});
  EXPECT_THAT(error_of([&] { a.merge(c); }), HasSubstr("different requests"));
  StatisticsSet d, e;
  d.request({"x", Kind::mean, 1, 0});
  e.request({"x", Kind::mean, 1, 0});
  observe(d, "x", 0, sample_of(0, {1, 4, 3}));
  observe(e, "x", 1, sample_of(1, {1, 5, 3}));
  EXPECT_THAT(error_of([&] { d.merge(e); }), HasSubstr("4 and 5 channels"));
  EXPECT_THAT(error_of([&] { observe(d, "x", 2, sample_of(1, {1, 5, 3})); }), HasSubstr("sample 2"));
}

TEST(Statistics, WrongUse) {
  StatisticsSet s = requests();
  EXPECT_THAT(error_of([&] { s.result({"x", Kind::min_max, -1, 0}); }, ErrorCode::internal), HasSubstr("no sample"));
  EXPECT_THAT(error_of([&] { s.result({"z", Kind::min_max, -1, 0}); }, ErrorCode::internal), HasSubstr("not collected"));
  observe_all(s, 0);
  s.request({"x", Kind::mean, 1, 0});  // again: nothing
  EXPECT_THAT(error_of([&] { s.request({"x", Kind::mean, 2, 0}); }, ErrorCode::internal), HasSubstr("after samples"));
  EXPECT_THAT(error_of([&] { s.request({"q", Kind::sample_quantile, -1, 1.5}); }, ErrorCode::config), HasSubstr("quantile"));
  EXPECT_THAT(error_of([&] { s.request({"q", Kind::histogram, 1, 0}); }, ErrorCode::config), HasSubstr("per tensor"));
  StatisticsSet t;
  t.request({"x", Kind::mean, 4, 0});
  EXPECT_THAT(error_of([&] { observe(t, "x", 0, sample_of(0, {1, 2})); }, ErrorCode::internal), HasSubstr("axis 4"));
  observe(s, "unknown", 0, sample_of(0, {1, 2}));
  EXPECT_EQ(s.values(), (std::vector<std::string>{"x", "y"}));
  EXPECT_EQ(s.requests().size(), 22u);
}

TEST(Statistics, KeysAndNames) {
  EXPECT_EQ((StatisticRequest{"x", Kind::min_max, -1, 0}).key(), "min_max");
  EXPECT_EQ((StatisticRequest{"x", Kind::min_max, 1, 0}).key(), "min_max(axis=1)");
  EXPECT_EQ((StatisticRequest{"x", Kind::sample_quantile, -1, 0.9999}).key(), "sample_quantile(axis=-1,q=0.9999)");
  for (int k = 0; k < 8; ++k) {
    Kind back;
    ASSERT_TRUE(statistic_kind_from_name(name_of(static_cast<Kind>(k)), back));
    EXPECT_EQ(static_cast<int>(back), k);
  }
  Kind k;
  EXPECT_FALSE(statistic_kind_from_name("median", k));
}

TEST(Statistics, DamagedFilesAreRefused) {
  StatisticsSet s = requests();
  for (int64_t id = 0; id < 3; ++id) observe_all(s, id);
  const std::string good = s.serialize();
  const auto refuse = [&](const std::string& bytes) { return error_of([&] { StatisticsSet::deserialize(bytes, "stats.bin"); }); };
  EXPECT_THAT(refuse(""), AllOf(HasSubstr("stats.bin"), HasSubstr("does not begin")));
  EXPECT_THAT(refuse("hello"), HasSubstr("does not begin"));
  EXPECT_THAT(refuse(good.substr(0, 50)), HasSubstr("cut off"));
  EXPECT_NE(refuse(good.substr(0, good.size() - 1)), "no error");
  EXPECT_NE(refuse(good + "x"), "no error");
  std::string other = good;
  other[8] = 9;
  EXPECT_THAT(refuse(other), HasSubstr("version 9"));
  std::mt19937 random(1);
  for (int i = 0; i < 300; ++i) {
    std::string bad = good;
    bad[random() % bad.size()] ^= static_cast<char>(1 + random() % 255);
    ASSERT_NE(refuse(bad), "no error");
  }
}

// With lengths and digest as they should be, so that nothing but the content is wrong.
TEST(Statistics, FilesWithContentThatNobodyWrites) {
  const auto refuse = [](std::initializer_list<std::pair<const char*, int>> tensors, const std::vector<int64_t>& samples = {0, 2}) {
    Writer content;
    content.put<uint64_t>(0);  // no provenance
    content.put<uint64_t>(tensors.size());
    for (const auto& [name, count] : tensors) {
      content.text(name);
      content.array(samples);
      content.put<uint64_t>(static_cast<uint64_t>(count));
      if (count == 0) continue;
      StatisticsSet one;
      one.request({name, Kind::min_max});
      content.text("min_max");
      content.put<int32_t>(-1);
      content.put<double>(0);
      make_statistic(one.requests()[0])->save(content);
    }
    Writer file;
    file.put<uint32_t>(1);
    file.text(content.bytes());
    const std::string body = "QUERNST\n" + file.bytes();
    return error_of([&] { StatisticsSet::deserialize(body + sha256(std::string_view(body)), "stats.bin"); });
  };
  EXPECT_EQ(refuse({{"x", 1}, {"y", 1}}), "no error");
  EXPECT_THAT(refuse({{"x", 1}, {"y", 0}}), HasSubstr("a tensor without statistics"));
  EXPECT_THAT(refuse({{"x", 1}, {"x", 1}}), HasSubstr("names a tensor twice"));
  constexpr int64_t most = std::numeric_limits<int64_t>::max(), least = std::numeric_limits<int64_t>::min();
  for (const auto& samples : std::vector<std::vector<int64_t>>{{least, 0}, {0, most}, {most, most}, {-1, -1}, {2, 1}, {0, 2, 2, 3}, {0}})
    EXPECT_THAT(refuse({{"x", 1}}, samples), HasSubstr("sample numbers"));
}

TEST(SampleIds, RunsAreJoined) {
  SampleIds ids;
  for (int64_t i : {5, 3, 4, 9, 7, 8}) EXPECT_TRUE(ids.insert(i));
  for (int64_t i : {5, 3, 4, 9, 7, 8}) EXPECT_FALSE(ids.insert(i));
  EXPECT_EQ(ids.runs(), (std::map<int64_t, int64_t>{{3, 5}, {7, 9}}));
  SampleIds more;
  more.insert(6);
  more.insert(20);
  int64_t id = 0;
  EXPECT_FALSE(ids.overlaps(more, id));
  ids.merge(more);
  EXPECT_EQ(ids.runs(), (std::map<int64_t, int64_t>{{3, 9}, {20, 20}}));
  EXPECT_TRUE(ids.overlaps(more, id));
  EXPECT_EQ(id, 6);
  EXPECT_EQ(ids.count(), 8);
}

}  // namespace
}  // namespace quern
