// Operators sized by data, through the engine: what they pick, in which order, and bad inputs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/engine/engine_testing.hpp"

namespace quern::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Tensor floats(const Dims& dims, const std::vector<float>& v) { return Tensor::of<float>(dims, v); }
std::vector<int64_t> whole(const Tensor& t) { return {t.values<int64_t>().begin(), t.values<int64_t>().end()}; }

// One node whose inputs are all fed.
Tensor run(const std::string& op, const std::vector<Tensor>& in, std::map<std::string, Attribute> attributes = {}, int since = 11) {
  Builder b;
  std::vector<ValueId> ids;
  NamedTensors fed;
  for (size_t i = 0; i < in.size(); ++i) {
    if (in[i].empty()) { ids.push_back(no_value); continue; }
    ids.push_back(b.input("in" + std::to_string(i), in[i].dims(), in[i].type()));
    fed.emplace_back("in" + std::to_string(i), in[i]);
  }
  Engine engine(b.outputs({b.op(op, ids, std::move(attributes), since, "node")}), {.providers = {own_float_provider()}});
  return engine.runner().run(fed)[0].second;
}

std::string refused(const std::function<void()>& f, ErrorCode code) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    EXPECT_EQ(e.node(), "node");
    return e.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

TEST(SelectOps, NonZeroOfEveryType) {
  EXPECT_THAT(whole(run("NonZero", {floats({2, 3}, {0, 1, -0.0F, 2, 0, NAN})})), ElementsAre(0, 1, 1, 1, 0, 2));
  EXPECT_THAT(whole(run("NonZero", {Tensor::of<int64_t>({3}, std::vector<int64_t>{0, 5, -1})})), ElementsAre(1, 2));
  Tensor flags(DType::boolean, {2, 2});
  flags.mutable_values<uint8_t>()[3] = 1;
  EXPECT_THAT(whole(run("NonZero", {flags})), ElementsAre(1, 1));
  EXPECT_EQ(run("NonZero", {floats({}, {3})}).dims(), (Dims{0, 1}));
  EXPECT_EQ(run("NonZero", {floats({2, 0}, {})}).dims(), (Dims{2, 0}));
}

TEST(SelectOps, CompressAlongAnAxisAndFlat) {
  const Tensor x = floats({3, 2}, {1, 2, 3, 4, 5, 6});
  Tensor two(DType::boolean, {2}), all(DType::boolean, {5}), many(DType::boolean, {4});
  two.mutable_values<uint8_t>()[1] = 1;
  all.mutable_values<uint8_t>()[0] = all.mutable_values<uint8_t>()[4] = 1;
  const Tensor rows = run("Compress", {x, two}, {{"axis", int64_t{0}}}), columns = run("Compress", {x, two}, {{"axis", int64_t{-1}}});
  EXPECT_EQ(rows.dims(), (Dims{1, 2}));
  EXPECT_THAT(rows.values<float>(), ElementsAre(3, 4));
  EXPECT_EQ(columns.dims(), (Dims{3, 1}));
  EXPECT_THAT(columns.values<float>(), ElementsAre(2, 4, 6));
  EXPECT_THAT(run("Compress", {x, all}).values<float>(), ElementsAre(1, 5));
  EXPECT_THAT(refused([&] { run("Compress", {x, many}, {{"axis", int64_t{0}}}); }, ErrorCode::data), HasSubstr("4 conditions"));
  EXPECT_THAT(refused([&] { run("Compress", {x, floats({2}, {1, 0})}); }, ErrorCode::model), HasSubstr("bools"));
}

struct Suppression {
  std::vector<float> boxes, scores;
  int64_t batch = 1, classes = 1, most = 10;
  float iou = 0.5F, least = 0;
  bool with_least = true, center = false;
  Tensor operator()() const {
    const int64_t n = static_cast<int64_t>(boxes.size()) / 4 / batch;
    return run("NonMaxSuppression", {floats({batch, n, 4}, boxes), floats({batch, classes, n}, scores), Tensor::of<int64_t>({1}, std::vector<int64_t>{most}), floats({1}, {iou}), with_least ? floats({1}, {least}) : Tensor()}, {{"center_point_box", int64_t{center}}});
  }
};

TEST(SelectOps, SuppressionKeepsTheBestOfOverlappingBoxes) {
  Suppression s{.boxes = {0, 0, 1, 1, 0, 0.1F, 1, 1.1F, 0, 2, 1, 3}, .scores = {0.8F, 0.9F, 0.5F}};
  EXPECT_THAT(whole(s()), ElementsAre(0, 0, 1, 0, 0, 2));
  s.most = 1;
  EXPECT_THAT(whole(s()), ElementsAre(0, 0, 1));
  s.most = 0;
  EXPECT_EQ(s().dims(), (Dims{0, 3}));
  s.most = 10;
  s.iou = 0.9F;
  EXPECT_THAT(whole(s()), ElementsAre(0, 0, 1, 0, 0, 0, 0, 0, 2));
  s.least = 0.5F;  // only scores above it
  EXPECT_THAT(whole(s()), ElementsAre(0, 0, 1, 0, 0, 0));
}

TEST(SelectOps, EqualScoresGoByIndexAndNoNumbersAreNoScores) {
  Suppression s{.boxes = {0, 0, 1, 1, 0, 0, 1, 1, 5, 5, 6, 6, 7, 7, 8, 8}, .scores = {0.5F, 0.5F, NAN, 0.5F}};
  EXPECT_THAT(whole(s()), ElementsAre(0, 0, 0, 0, 0, 3));
  s.with_least = false;
  s.scores = {-1, -2, -3, -0.5F};
  EXPECT_THAT(whole(s()), ElementsAre(0, 0, 3, 0, 0, 0, 0, 0, 2));
}

TEST(SelectOps, CornersComeInAnyOrderAndCentersWithSizes) {
  // Two boxes of one place: the corners of the second the other way round.
  const Suppression corners{.boxes = {0, 0, 2, 2, 2, 2, 0, 0}, .scores = {1, 2}};
  EXPECT_THAT(whole(corners()), ElementsAre(0, 0, 1));
  const Suppression centers{.boxes = {1, 1, 2, 2, 1.1F, 1, 2, 2, 4, 1, 2, 2}, .scores = {3, 2, 1}, .center = true};
  EXPECT_THAT(whole(centers()), ElementsAre(0, 0, 0, 0, 0, 2));
}

TEST(SelectOps, EveryBatchAndClassByItself) {
  const Suppression s{.boxes = {0, 0, 1, 1, 5, 5, 6, 6, 0, 0, 1, 1, 0, 0, 1, 1}, .scores = {1, 2, 2, 1, 1, 2, 3, 4}, .batch = 2, .classes = 2};
  EXPECT_THAT(whole(s()), ElementsAre(0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 1));
}

TEST(SelectOps, BadBoxesAndThresholds) {
  const Tensor boxes = floats({1, 2, 4}, {0, 0, 1, 1, 0, 0, 1, 1}), scores = floats({1, 1, 2}, {1, 2}), few = floats({1, 1, 3}, {1, 2, 3});
  const Tensor most = Tensor::of<int64_t>({1}, std::vector<int64_t>{5});
  EXPECT_THAT(refused([&] { run("NonMaxSuppression", {boxes, few}); }, ErrorCode::model), HasSubstr("as many as there are boxes"));
  EXPECT_THAT(refused([&] { run("NonMaxSuppression", {floats({2, 4}, std::vector<float>(8)), scores}); }, ErrorCode::model), HasSubstr("[batch, boxes, 4]"));
  EXPECT_THAT(refused([&] { run("NonMaxSuppression", {boxes, scores}, {{"center_point_box", int64_t{2}}}); }, ErrorCode::model), HasSubstr("center_point_box"));
  EXPECT_THAT(refused([&] { run("NonMaxSuppression", {boxes, scores, most, floats({1}, {1.5F})}); }, ErrorCode::data), HasSubstr("1.5"));
  EXPECT_THAT(refused([&] { run("NonMaxSuppression", {boxes, scores, most, floats({2}, {0.5F, 0.5F})}); }, ErrorCode::model), HasSubstr("single number"));
  EXPECT_EQ(run("NonMaxSuppression", {boxes, scores}).dims(), (Dims{0, 3}));  // no number of boxes: none
}

TEST(SelectOps, GridSampleRefusesWhatDoesNotFit) {
  const Tensor x = floats({1, 1, 2, 2}, {1, 2, 3, 4}), grid = floats({1, 1, 1, 2}, {0, 0});
  EXPECT_THAT(run("GridSample", {x, grid}, {}, 16).values<float>(), ElementsAre(2.5F));
  EXPECT_THAT(run("GridSample", {x, floats({1, 1, 2, 2}, {NAN, 0, 1e30F, 0})}, {}, 16).values<float>(), ElementsAre(0, 0));
  EXPECT_THAT(refused([&] { run("GridSample", {x, grid}, {{"mode", std::string("square")}}, 16); }, ErrorCode::model), HasSubstr("'square'"));
  EXPECT_THAT(refused([&] { run("GridSample", {x, grid}, {{"padding_mode", std::string("wrap")}}, 16); }, ErrorCode::model), HasSubstr("'wrap'"));
  EXPECT_THAT(refused([&] { run("GridSample", {x, floats({1, 1, 1, 3}, {0, 0, 0})}, {}, 16); }, ErrorCode::model), HasSubstr("grid"));
}

}  // namespace
}  // namespace quern::testing
