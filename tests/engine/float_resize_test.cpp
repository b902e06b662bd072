// Resize against a plain model (the same bytes in every layout), a few results worked out by hand, and bad settings. Coordinates and
// weights themselves are held to ONNX's definition by its backend cases.
#include <gmock/gmock.h>

#include "core/engine/float/resize_axes.hpp"
#include "tests/engine/float_harness.hpp"

namespace quern::test {
namespace {

using ::testing::HasSubstr;
using own::ResizedAxis;
using own::ResizeSettings;

Tensor sizes(const std::vector<int64_t>& v) { return Tensor::of<int64_t>({static_cast<int64_t>(v.size())}, v); }
Tensor scales(const std::vector<float>& v) { return Tensor::of<float>({static_cast<int64_t>(v.size())}, v); }
FloatOp resize(const Tensor& x, int since = 19) {
  FloatOp op("Resize", since);
  op.in(x).absent();
  return op;
}
FloatOp to_sizes(const Tensor& x, const std::vector<int64_t>& to) {
  FloatOp op = resize(x);
  op.absent().constant(sizes(to));
  return op;
}

// One element, by the tables: later axes first, taps in order, in T.
template <class T>
T element(const Tensor& x, const std::vector<ResizedAxis>& axes, Dims& at, size_t axis) {
  if (axis == axes.size()) return x.values<T>()[flat(x.dims(), at)];
  const ResizedAxis& a = axes[axis];
  const int64_t j = at[axis];
  T sum = 0;
  if (a.taps == 0) sum = element<T>(x, axes, at, axis + 1);
  for (int t = 0; t < a.taps; ++t) {
    const auto k = static_cast<size_t>(j * a.taps + t);
    at[axis] = a.index[k];
    const T v = element<T>(x, axes, at, axis + 1);
    sum = a.weight.empty() ? v : t == 0 ? static_cast<T>(a.weight[k]) * v : sum + static_cast<T>(a.weight[k]) * v;
  }
  at[axis] = j;
  return sum;
}

template <class T>
Tensor model(const Tensor& x, const Dims& to, const ResizeSettings& s) {
  std::vector<ResizedAxis> axes;
  for (size_t a = 0; a < to.size(); ++a) {
    ResizedAxis r = own::resized_axis(s, a, x.dims()[a], to[a], static_cast<float>(to[a]) / static_cast<float>(x.dims()[a]), 0, 1);
    if (r.changes_nothing()) r.taps = 0;
    axes.push_back(std::move(r));
  }
  Tensor y(x.type(), to);
  for_each_place(to, [&](const Dims& place) {
    Dims at = place;
    y.mutable_values<T>()[flat(to, place)] = element<T>(x, axes, at, 0);
  });
  return y;
}

const char* mode_names[] = {"nearest", "linear", "cubic"};

template <class T>
void compare_with_model(int rounds, unsigned seed) {
  Random random(seed);
  for (int round = 0; round < rounds; ++round) {
    const int rank = round % 3 == 0 ? static_cast<int>(random.integer(1, 5)) : 4;
    const Dims from = random.dims(rank, 1, 9);
    Dims to = from;
    for (size_t a = 0; a < to.size(); ++a)
      if (round % 3 == 0 ? random.integer(0, 1) == 1 : a >= 2) to[a] = random.integer(0, 3) == 0 ? 2 * from[a] : random.integer(1, 19);
    const Tensor x = random.tensor<T>(from);
    ResizeSettings s;
    const int mode = static_cast<int>(random.integer(0, 2));
    s.mode = static_cast<ResizeSettings::Mode>(mode);
    const char* coordinates[] = {"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"};
    const char* nearest[] = {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"};
    s.coordinates = coordinates[random.integer(0, 4)];
    s.nearest = nearest[random.integer(0, 3)];
    s.antialias = mode != 0 && random.integer(0, 3) == 0;
    s.exclude_outside = mode == 2 && random.integer(0, 1) == 1;
    for (bool last : {false, true}) {
      FloatOp op = to_sizes(x, to);
      op.with("mode", std::string(mode_names[mode])).with("coordinate_transformation_mode", s.coordinates).with("nearest_mode", s.nearest)
          .with("antialias", int64_t{s.antialias}).with("exclude_outside", int64_t{s.exclude_outside});
      if (last) op.channels_last();
      ASSERT_TRUE(same_bytes(op.run()[0], model<T>(x, to, s)))
          << to_string(from) << " to " << to_string(to) << " " << mode_names[mode] << " " << s.coordinates << " " << s.nearest << " " << s.antialias << last;
    }
  }
}

TEST(FloatResize, EqualsThePlainModelInFloat) { compare_with_model<float>(400, 31); }
TEST(FloatResize, EqualsThePlainModelInDouble) { compare_with_model<double>(100, 32); }

TEST(FloatResize, NearestMovesAnyType) {
  Random random(33);
  const Tensor bytes = random.tensor<uint8_t>({2, 3, 4, 5}, 0, 255), longs = random.tensor<int64_t>({2, 3, 4, 5}, -100, 100);
  const Tensor a = to_sizes(bytes, {2, 3, 8, 10}).run()[0], b = to_sizes(longs, {2, 3, 8, 10}).channels_last().run()[0];
  for_each_place({2, 3, 8, 10}, [&](const Dims& at) {
    const Dims from{at[0], at[1], at[2] / 2, at[3] / 2};
    ASSERT_EQ(a.values<uint8_t>()[flat(a.dims(), at)], bytes.values<uint8_t>()[flat(bytes.dims(), from)]);
    ASSERT_EQ(b.values<int64_t>()[flat(b.dims(), at)], longs.values<int64_t>()[flat(longs.dims(), from)]);
  });
}

TEST(FloatResize, IntegersAreCutToWholeNumbers) {
  const Tensor x = Tensor::of<int32_t>({1, 1, 1, 2}, std::vector<int32_t>{0, 11});
  const Tensor y = to_sizes(x, {1, 1, 1, 4}).with("mode", std::string("linear")).run()[0];
  EXPECT_THAT(y.values<int32_t>(), ::testing::ElementsAre(0, 2, 8, 11));
}

TEST(FloatResize, UpsampleAndTheFirstResizeTakeTheFloorOfTheCoordinate) {
  const Tensor x = Tensor::of<float>({1, 1, 1, 3}, std::vector<float>{1, 2, 3});
  for (const char* op : {"Upsample", "Resize"}) {
    FloatOp o(op, op == std::string("Resize") ? 10 : 9);
    const Tensor y = o.in(x).constant(scales({1, 1, 1, 2})).run()[0];
    EXPECT_THAT(y.values<float>(), ::testing::ElementsAre(1, 1, 2, 2, 3, 3));
  }
  FloatOp old("Upsample", 7);
  old.in(x).with("scales", std::vector<float>{1, 1, 1, 2}).with("mode", std::string("linear"));
  EXPECT_THAT(old.run()[0].values<float>(), ::testing::ElementsAre(1, 1.5F, 2, 2.5F, 3, 3));
}

TEST(FloatResize, ACropTakesTheValueBeyondTheBorder) {
  const Tensor x = Tensor::of<float>({1, 1, 1, 3}, std::vector<float>{1, 2, 3});
  for (bool fed : {false, true}) {  // the roi may be computed: nothing of the shape depends on it
    FloatOp op("Resize", 19);
    op.in(x);
    const Tensor roi = Tensor::of<float>({8}, std::vector<float>{0, 0, 0, 0.5F, 1, 1, 1, 1.5F});
    if (fed) op.in(roi);
    else op.constant(roi);
    op.absent().constant(sizes({1, 1, 1, 3}));
    op.with("coordinate_transformation_mode", std::string("tf_crop_and_resize")).with("mode", std::string("linear")).with("extrapolation_value", 9.0F);
    EXPECT_THAT(op.run()[0].values<float>(), ::testing::ElementsAre(2, 3, 9));
  }
}

template <class O>
std::string refused(O&& op) {
  try {
    op.run();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::model) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

TEST(FloatResize, BadSettingsAreNamed) {
  const Tensor x = Tensor(DType::f32, {1, 1, 2, 2});
  EXPECT_THAT(refused(to_sizes(x, {1, 1, 4, 4}).with("mode", std::string("square"))), HasSubstr("'square'"));
  EXPECT_THAT(refused(to_sizes(x, {1, 1, 4, 4}).with("coordinate_transformation_mode", std::string("left"))), HasSubstr("'left'"));
  EXPECT_THAT(refused(to_sizes(x, {1, 1, 4, 4}).with("nearest_mode", std::string("up"))), HasSubstr("'up'"));
  EXPECT_THAT(refused(to_sizes(x, {1, 1, 4, 4}).with("coordinate_transformation_mode", std::string("tf_crop_and_resize"))), HasSubstr("roi"));
  EXPECT_THAT(refused(to_sizes(x, {4, 4}).with("axes", std::vector<int64_t>{2, 7})), HasSubstr("axis 7"));
  EXPECT_THAT(refused(to_sizes(x, {4, 4}).with("axes", std::vector<int64_t>{2, -2})), HasSubstr("twice"));
  EXPECT_THAT(refused(to_sizes(x, {4, 4})), HasSubstr("sizes"));
  EXPECT_THAT(refused(resize(x).constant(scales({1, 1, 0, 2}))), HasSubstr("scale"));
  EXPECT_THAT(refused(resize(x).constant(scales({1, 2}))), HasSubstr("scales"));
  EXPECT_THAT(refused(to_sizes(Tensor(DType::f32, {1, 1, 0, 2}), {1, 1, 4, 4})), HasSubstr("axis 2"));
}

}  // namespace
}  // namespace quern::test
