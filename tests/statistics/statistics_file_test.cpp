#include "core/statistics/statistics_file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "core/base/digest.hpp"
#include "core/base/error.hpp"

namespace quern {
namespace {
using ::testing::HasSubstr;

constexpr int64_t all_samples = 40;

template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

StatisticsSet requests() {
  StatisticsSet set;
  set.request({"a", StatisticKind::min_max, 1, 0});
  set.request({"a", StatisticKind::histogram, -1, 0});
  set.request({"a", StatisticKind::mean, 1, 0});
  set.request({"b", StatisticKind::sample_quantile, -1, 0.99});
  return set;
}

Tensor sample(int64_t id, const char* of) {
  std::mt19937 random(static_cast<unsigned>(id * 2 + (*of == 'a')));
  std::normal_distribution<float> normal(0.1f, 1.0f + static_cast<float>(id));
  Tensor t(DType::f32, {1, 3, 5, 2});
  for (float& v : t.mutable_values<float>()) v = normal(random);
  return t;
}

StatisticsFile file_of(const std::vector<int64_t>& ids) {
  StatisticsFile f;
  f.provenance = {{"model", "m1"}, {"data", "d1"}, {"preprocessing", "none"}, {"float_class", "avx2"}};
  f.samples = all_samples;
  f.warnings = {"a warning"};
  f.passes.push_back({0, "statistics", "network", requests()});
  for (int64_t id : ids) {
    for (const char* name : {"a", "b"}) {
      const Tensor t = sample(id, name);
      const Dims strides = row_major_strides(t.dims());
      f.passes[0].set.observe(name, id, {const_cast<void*>(t.data()), t.type(), t.dims(), strides});
    }
    if (id % 10 == 0) f.kept[id].emplace_back("x", sample(id, "b"));
  }
  return f;
}

std::vector<int64_t> everyone() {
  std::vector<int64_t> ids(all_samples);
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

TEST(StatisticsFileTest, FiftySplitsInAnyOrderGiveTheSameBytes) {
  const std::string whole = file_of(everyone()).serialize();
  for (unsigned seed = 0; seed < 50; ++seed) {
    std::mt19937 random(seed);
    std::vector<int64_t> ids = everyone();
    std::shuffle(ids.begin(), ids.end(), random);
    std::vector<StatisticsFile> shards;
    for (size_t at = 0; at < ids.size();) {
      const size_t n = std::min<size_t>(ids.size() - at, 1 + random() % 15);
      // As a process would: through the bytes of a file.
      shards.push_back(StatisticsFile::deserialize(file_of({ids.begin() + static_cast<long>(at), ids.begin() + static_cast<long>(at + n)}).serialize(), "s"));
      at += n;
    }
    // Any grouping: two of them become one until one is left.
    while (shards.size() > 1) {
      const size_t a = random() % shards.size();
      StatisticsFile one = std::move(shards[a]);
      shards.erase(shards.begin() + static_cast<long>(a));
      shards[random() % shards.size()].merge(std::move(one), "s");
    }
    ASSERT_EQ(shards[0].serialize(), whole) << seed;
  }
}

TEST(StatisticsFileTest, OtherThingsAreNotMerged) {
  const auto merged = [](const char* key, const char* value) {
    StatisticsFile a = file_of({1}), b = file_of({2});
    b.provenance[key] = value;
    const std::string before = a.serialize();
    const std::string text = error_of([&] { a.merge(std::move(b), "b.qstat"); });
    EXPECT_EQ(a.serialize(), before);
    return text;
  };
  EXPECT_THAT(merged("model", "m2"), AllOf(HasSubstr("b.qstat"), HasSubstr("model"), HasSubstr("'m2'"), HasSubstr("'m1'")));
  EXPECT_THAT(merged("preprocessing", "{\"mean\":1}"), AllOf(HasSubstr("preprocessing"), HasSubstr("mean"), HasSubstr("'none'")));
  EXPECT_THAT(merged("float_class", "avx512"), AllOf(HasSubstr("'avx512'"), HasSubstr("'avx2'")));
  EXPECT_THAT(merged("data", "d2"), HasSubstr("data"));

  StatisticsFile a = file_of({1, 2}), again = file_of({2, 3});
  const std::string before = a.serialize();
  EXPECT_THAT(error_of([&] { a.merge(std::move(again), "b.qstat"); }), AllOf(HasSubstr("sample 2"), HasSubstr("b.qstat")));
  EXPECT_EQ(a.serialize(), before);
  StatisticsFile more = file_of({4});
  more.samples = all_samples + 1;
  EXPECT_THAT(error_of([&] { a.merge(std::move(more), "b.qstat"); }), HasSubstr("samples in all"));
  StatisticsFile wider = file_of({5});
  wider.passes[0].set.request({"c", StatisticKind::min_max, -1, 0});
  EXPECT_THAT(error_of([&] { a.merge(std::move(wider), "b.qstat"); }), HasSubstr("different requests"));
}

TEST(StatisticsFileTest, ACompletePassMayBeInBoth) {
  StatisticsFile a = file_of(everyone()), b = file_of(everyone());
  const std::string whole = a.serialize();
  a.merge(std::move(b), "b");
  EXPECT_EQ(a.serialize(), whole);
}

TEST(StatisticsFileTest, BadFilesAreNamed) {
  const std::string good = file_of({0, 1, 2}).serialize();
  const auto read = [](const std::string& bytes) { return error_of([&] { StatisticsFile::deserialize(bytes, "x.qstat"); }); };
  EXPECT_EQ(read(good), "no error");
  EXPECT_EQ(StatisticsFile::deserialize(good, "x").serialize(), good);
  for (size_t n = 0; n < good.size(); n += 1 + good.size() / 97) EXPECT_THAT(read(good.substr(0, n)), HasSubstr("x.qstat")) << n;
  for (size_t at = 0; at < good.size(); at += 1 + good.size() / 211) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x20);
    EXPECT_THAT(read(bad), HasSubstr("x.qstat")) << at;
  }
  std::string later = good;
  later[8] = 2;
  EXPECT_THAT(read(later), HasSubstr("version 2; this Quern reads version 1"));
  EXPECT_THAT(read(good + "x"), HasSubstr("damaged"));
  EXPECT_THAT(read(requests().serialize()), HasSubstr("does not begin as one"));
}

// Lengths that lie, under a digest that is right: nothing is read behind the end.
TEST(StatisticsFileTest, LyingLengthsAreFound) {
  const std::string good = file_of({0, 1, 2}).serialize();
  std::mt19937 random(5);
  size_t refused = 0;
  for (int i = 0; i < 400; ++i) {
    std::string body = good.substr(0, good.size() - 64);
    const size_t at = 20 + random() % (body.size() - 20);
    body[at] = static_cast<char>(random());
    try {
      StatisticsFile::deserialize(body + sha256(std::string_view(body)), "x.qstat");
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 10u);
}

}  // namespace
}  // namespace quern
