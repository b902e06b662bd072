#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "core/base/error.hpp"
#include "core/dataset/dataset.hpp"

namespace quern {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string error_of(const std::function<void()>& f, ErrorCode code = ErrorCode::data) {
  try { f(); } catch (const Error& e) { EXPECT_EQ(e.code(), code) << e.what(); return e.what(); }
  return "no error";
}
std::unique_ptr<Metric> metric(const std::string& description) { return make_metric(parse_json(description, "t")); }
Sample out(Dims dims, std::vector<float> v) { return {{"out", Tensor::of<float>(std::move(dims), v)}}; }
Tensor label(std::vector<int64_t> v, Dims dims = {}) { return Tensor::of<int64_t>(std::move(dims), v); }

TEST(Metrics, TopK) {
  auto top1 = metric(R"("top1")"), top2 = metric(R"({"type": "topk", "k": 2})");
  EXPECT_EQ(top2->name(), "top2");
  EXPECT_TRUE(top1->needs_labels());
  EXPECT_FALSE(top1->needs_reference());
  for (auto* m : {top1.get(), top2.get()}) {
    m->update(out({1, 3}, {0.1f, 0.7f, 0.2f}), label({1}), nullptr);
    m->update(out({1, 3}, {0.1f, 0.7f, 0.2f}), label({2}), nullptr);
    m->update(out({1, 3}, {0.1f, 0.7f, 0.2f}), label({0}, {1}), nullptr);
    m->update(out({3}, {0.5f, 0.5f, 0.2f}), label({1}), nullptr);  // a tie goes to the lower class
  }
  EXPECT_EQ(top1->value(), 0.25);
  EXPECT_EQ(top2->value(), 0.75);
}

TEST(Metrics, ManyPositions) {
  auto m = metric(R"("top1")");
  m->update(out({1, 2, 2, 2}, {1, 0, 0, 1, 0, 1, 1, 0}), label({0, 1, 1, 1}, {2, 2}), nullptr);   // classes on axis 1
  EXPECT_EQ(m->value(), 0.75);
  auto last = metric(R"("top1")");
  last->update(out({1, 4, 3}, {1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0}), label({0, 1, 2, 2}, {4}), nullptr);  // on the last
  EXPECT_EQ(last->value(), 0.75);
  auto batch = metric(R"("top1")");
  batch->update(out({2, 3}, {1, 0, 0, 0, 1, 0}), label({0, 2}, {2}), nullptr);
  EXPECT_EQ(batch->value(), 0.5);
}

TEST(Metrics, NaNIsNeverRight) {
  auto m = metric(R"("top1")");
  m->update(out({1, 2}, {NAN, NAN}), label({0}), nullptr);
  m->update(out({1, 2}, {NAN, 1}), label({1}), nullptr);
  EXPECT_EQ(m->value(), 0.5);
}

TEST(Metrics, BadLabelsAndOutputs) {
  auto m = metric(R"("top5")");
  EXPECT_THAT(error_of([&] { m->update(out({1, 3}, {1, 2, 3}), label({3}), nullptr); }), AllOf(HasSubstr("label 3"), HasSubstr("3 classes")));
  EXPECT_THAT(error_of([&] { m->update(out({1, 3}, {1, 2, 3}), label({-1}), nullptr); }), HasSubstr("label -1"));
  EXPECT_THAT(error_of([&] { m->update(out({1, 3}, {1, 2, 3}), {}, nullptr); }), HasSubstr("needs labels"));
  EXPECT_THAT(error_of([&] { m->update(out({1, 3}, {1, 2, 3}), label({0, 1}, {2}), nullptr); }), HasSubstr("2 label(s)"));
  EXPECT_THAT(error_of([&] { m->update(out({1, 1}, {1}), label({0}), nullptr); }), HasSubstr("two classes"));
  EXPECT_THAT(error_of([&] { m->update(out({1, 2}, {1, 2}), Tensor::of<float>({}, std::vector<float>{0.5f}), nullptr); }), HasSubstr("not a class number"));
  EXPECT_THAT(error_of([&] { m->update({}, label({0}), nullptr); }), HasSubstr("no outputs"));
  EXPECT_THAT(error_of([&] { m->value(); }), HasSubstr("no samples"));
}

TEST(Metrics, AgainstFloat) {
  const Sample reference{{"a", Tensor::of<float>({1, 2}, std::vector<float>{3, 4})}, {"b", Tensor::of<float>({1, 1}, std::vector<float>{1})}};
  const Sample other{{"a", Tensor::of<float>({1, 2}, std::vector<float>{3, 3})}, {"b", Tensor::of<float>({1, 1}, std::vector<float>{1.1f})}};
  auto mse = metric(R"("mse")"), sqnr = metric(R"("sqnr")"), cos = metric(R"("cosine")"), same = metric(R"("agreement")");
  for (auto* m : {mse.get(), sqnr.get(), cos.get(), same.get()}) {
    EXPECT_TRUE(m->needs_reference());
    EXPECT_FALSE(m->needs_labels());
    m->update(other, {}, &reference);
    if (m == same.get()) continue;
    EXPECT_THROW(m->update(out({1, 3}, {1, 2, 3}), {}, &reference), Error);  // another number of outputs
  }
  EXPECT_NEAR(mse->value(), 1.01 / 3, 1e-7);
  EXPECT_FALSE(mse->higher_is_better());
  EXPECT_NEAR(sqnr->value(), (10 * std::log10(25.0) + 20) / 2, 1e-5);
  EXPECT_NEAR(cos->value(), (21 / (5 * std::sqrt(18.0)) + 1) / 2, 1e-12);
  EXPECT_EQ(same->value(), 0);  // 3, 3: the first wins
  auto equal = metric(R"("sqnr")"), agree = metric(R"("agreement")");
  equal->update(reference, {}, &reference);
  agree->update(reference, {}, &reference);
  EXPECT_EQ(equal->value(), INFINITY);
  EXPECT_EQ(agree->value(), 1);
  auto labels = metric(R"({"mse": {"against": "labels"}})");
  EXPECT_TRUE(labels->needs_labels());
  labels->update(out({1, 2}, {1, 2}), Tensor::of<float>({2}, std::vector<float>{1, 4}), nullptr);
  EXPECT_EQ(labels->value(), 2);
}

// Boxes that one of the two networks keeps and the other does not.
TEST(Metrics, OutputsOfAnotherShape) {
  const Sample two = out({2, 2}, {1, 2, 3, 4}), one = out({1, 2}, {1, 2}), none = out({0, 2}, {});
  for (const char* name : {"agreement", "cosine", "sqnr", "mse"}) {
    auto m = metric("\"" + std::string(name) + "\"");
    m->update(two, {}, &two);
    EXPECT_EQ(m->remark(), "") << name;
    m->update(one, {}, &two);
    m->update(none, {}, &two);
    m->update(none, {}, &none);
    EXPECT_THAT(m->remark(), AllOf(HasSubstr("2 of 4 outputs"), HasSubstr("'out' [1,2] instead of [2,2]"))) << name;
  }
  auto agreement = metric(R"("agreement")"), cosine = metric(R"("cosine")"), mse = metric(R"("mse")"), sqnr = metric(R"("sqnr")");
  for (Metric* m : {agreement.get(), cosine.get(), mse.get(), sqnr.get()}) {
    m->update(two, {}, &two);
    m->update(one, {}, &two);
  }
  EXPECT_EQ(agreement->value(), 0.5);
  EXPECT_NEAR(cosine->value(), 0.5, 1e-12);
  EXPECT_EQ(mse->value(), 0);
  EXPECT_EQ(sqnr->value(), INFINITY);
  auto never_mse = metric(R"("mse")"), never_sqnr = metric(R"("sqnr")");  // nothing can be said: the worst value
  for (Metric* m : {never_mse.get(), never_sqnr.get()}) m->update(one, {}, &two);
  EXPECT_EQ(never_mse->value(), INFINITY);
  EXPECT_EQ(never_sqnr->value(), -INFINITY);
}

TEST(Metrics, Functions) {
  const std::vector<float> a{1, 0, -2}, zero{0, 0, 0}, b{1, 1, -2};
  EXPECT_EQ(sqnr_db(a, a), INFINITY);
  EXPECT_NEAR(sqnr_db(a, b), 10 * std::log10(5.0), 1e-12);
  EXPECT_EQ(sqnr_db(zero, a), -INFINITY);
  EXPECT_NEAR(cosine(a, a), 1, 1e-15);
  EXPECT_EQ(cosine(zero, zero), 1);
  EXPECT_EQ(cosine(a, zero), 0);
  EXPECT_NEAR(cosine(a, b), 5 / std::sqrt(30.0), 1e-15);
}

TEST(Metrics, DescriptionsAreChecked) {
  for (const auto& name : metric_names())
    if (name != "topk") { EXPECT_EQ(make_metric(json::value(json::string(name)))->name(), name); }
  EXPECT_EQ(metric(R"({"topk": {"k": 3}})")->name(), "top3");
  const auto refuse = [](const std::string& d) { return error_of([&] { metric(d); }, ErrorCode::config); };
  EXPECT_THAT(refuse(R"("top2")"), AllOf(HasSubstr("'top2'"), HasSubstr("agreement")));
  EXPECT_THAT(refuse(R"("agrement")"), HasSubstr("did you mean 'agreement'"));
  EXPECT_THAT(refuse(R"("topk")"), HasSubstr("needs k"));
  EXPECT_THAT(refuse(R"({"type": "topk", "k": 0})"), HasSubstr("needs k"));
  EXPECT_THAT(refuse(R"({"type": "topk", "k": 2.5})"), HasSubstr("needs k"));
  EXPECT_THAT(refuse(R"({"type": "top1", "k": 2})"), HasSubstr("no option 'k'"));
  EXPECT_THAT(refuse(R"({"type": "mse", "against": "me"})"), HasSubstr("'float' or 'labels'"));
  EXPECT_THAT(refuse("3"), HasSubstr("a metric is a name"));
  EXPECT_THAT(refuse("{}"), HasSubstr("a metric is a name"));
}

}  // namespace
}  // namespace quern
