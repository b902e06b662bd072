// Own float kernels that sum: reductions, softmax, normalisations, pooling. Against plain loops in double; equal bytes in
// every layout.
#include <cmath>
#include <limits>

#include "tests/engine/float_harness.hpp"

namespace quern::test {
namespace {

TEST(FloatReduce, AnyAxesInAnyLayout) {
  Random random(11);
  for (int round = 0; round < 150; ++round) {
    const Dims dims = random.dims(int(random.integer(1, 5)), 1, 7);
    const Tensor x = random.tensor(dims);
    std::vector<int64_t> axes;
    for (size_t a = 0; a < dims.size(); ++a)
      if (random.integer(0, 1)) axes.push_back(random.integer(0, 1) ? int64_t(a) : int64_t(a) - int64_t(dims.size()));
    const int64_t keep = random.integer(0, 1);
    const char* ops[] = {"ReduceMean", "ReduceSum", "ReduceMax", "ReduceL2"};
    const std::string op = ops[random.integer(0, 3)];
    const auto make = [&] {
      FloatOp f(op, op == "ReduceSum" ? 13 : 13);
      f.in(x).with("keepdims", keep);
      if (op == "ReduceSum") f.constant(Tensor::of<int64_t>({int64_t(axes.size())}, axes));
      else if (!axes.empty()) f.with("axes", axes);
      return f;
    };
    const Tensor y = make().run()[0];
    ASSERT_TRUE(same_bytes(y, make().channels_last().run()[0])) << op << to_string(dims);
    std::vector<bool> gone(dims.size(), axes.empty());
    for (int64_t a : axes) gone[size_t(a < 0 ? a + int64_t(dims.size()) : a)] = true;
    Dims kept = dims;
    for (size_t a = 0; a < dims.size(); ++a)
      if (gone[a]) kept[a] = 1;
    std::vector<double> want(size_t(element_count(kept)), op == "ReduceMax" ? -1e300 : 0);
    for_each_place(dims, [&](Dims at) {
      const double v = x.values<float>()[flat(dims, at)];
      for (size_t a = 0; a < dims.size(); ++a)
        if (gone[a]) at[a] = 0;
      double& w = want[flat(kept, at)];
      if (op == "ReduceMax") w = std::max(w, v);
      else w += op == "ReduceL2" ? v * v : v;
    });
    const double n = double(x.count()) / double(want.size());
    for (size_t i = 0; i < want.size(); ++i) {
      const double w = op == "ReduceMean" ? want[i] / n : op == "ReduceL2" ? std::sqrt(want[i]) : want[i];
      ASSERT_NEAR(y.values<float>()[i], w, 1e-6 * (1 + std::fabs(w))) << op;
    }
  }
}

TEST(FloatReduce, NothingReducedIsTheNeutralElement) {
  const Tensor x(DType::f32, {2, 0, 3});
  const auto reduce = [&](const char* op, int since) { return FloatOp(op, since).in(x).constant(Tensor::of<int64_t>({1}, std::vector<int64_t>{1})).run()[0].to_floats(); };
  EXPECT_EQ(reduce("ReduceSum", 13), std::vector<float>(6, 0.0f));
  EXPECT_EQ(reduce("ReduceProd", 18), std::vector<float>(6, 1.0f));
  EXPECT_EQ(reduce("ReduceMax", 20), std::vector<float>(6, -std::numeric_limits<float>::infinity()));
}

TEST(FloatReduce, ArgMaxTakesTheFirstOrTheLast) {
  const Tensor x = Tensor::of<float>({2, 3}, std::vector<float>{1, 5, 5, 7, 7, 0});
  EXPECT_EQ(FloatOp("ArgMax", 13).in(x).with("axis", int64_t{1}).run()[0].to_ints(), (std::vector<int64_t>{1, 0}));
  EXPECT_EQ(FloatOp("ArgMax", 13).in(x).with("axis", int64_t{-1}).with("select_last_index", int64_t{1}).run()[0].to_ints(), (std::vector<int64_t>{2, 1}));
  EXPECT_EQ(FloatOp("ArgMin", 13).in(x).with("axis", int64_t{0}).with("keepdims", int64_t{0}).run()[0].to_ints(), (std::vector<int64_t>{0, 0, 1}));
}

TEST(FloatSoftmax, SumsToOneInEveryLayoutAndAxis) {
  Random random(12);
  const Tensor x = random.tensor({2, 21, 5, 6}, -20, 20);
  for (int64_t axis : {0, 1, 2, 3, -1}) {
    const auto make = [&](const char* op) { FloatOp f(op, 13); f.in(x).with("axis", axis); return f; };
    const Tensor y = make("Softmax").run()[0], l = make("LogSoftmax").run()[0];
    EXPECT_TRUE(same_bytes(y, make("Softmax").channels_last().run()[0]));
    EXPECT_TRUE(same_bytes(y, make("Softmax").in_place().run()[0]));
    EXPECT_TRUE(same_bytes(l, make("LogSoftmax").channels_last().run()[0]));
    const size_t a = size_t(axis < 0 ? axis + 4 : axis);
    Dims lines = x.dims();
    lines[a] = 1;
    for_each_place(lines, [&](Dims at) {
      double sum = 0, top = -1e300, total = 0;
      for (at[a] = 0; at[a] < x.dims()[a]; ++at[a]) top = std::max(top, double(x.values<float>()[flat(x.dims(), at)]));
      for (at[a] = 0; at[a] < x.dims()[a]; ++at[a]) total += std::exp(double(x.values<float>()[flat(x.dims(), at)]) - top);
      for (at[a] = 0; at[a] < x.dims()[a]; ++at[a]) {
        const size_t i = flat(x.dims(), at);
        const double want = std::exp(double(x.values<float>()[i]) - top) / total;
        ASSERT_NEAR(y.values<float>()[i], want, 1e-6 * want + 1e-12);
        ASSERT_NEAR(l.values<float>()[i], std::log(want), 4e-6 + 1e-6 * std::fabs(std::log(want)));
        sum += y.values<float>()[i];
      }
      ASSERT_NEAR(sum, 1, 1e-6);
    });
  }
}

TEST(FloatSoftmax, BeforeOpset13TheAxisSplitsAMatrix) {
  Random random(13);
  const Tensor x = random.tensor({2, 3, 4});
  const auto flat_y = FloatOp("Softmax", 11).in(x).with("axis", int64_t{1}).run()[0];
  const auto row_y = FloatOp("Softmax", 13).in(x.reshaped({2, 12})).run()[0];
  EXPECT_TRUE(same_bytes(flat_y.reshaped({2, 12}), row_y));
  EXPECT_TRUE(same_bytes(FloatOp("Softmax", 11).in(x).with("axis", int64_t{1}).channels_last().run()[0], flat_y));
}

TEST(FloatSoftmax, LargeValuesDoNotOverflow) {
  const Tensor x = Tensor::of<float>({1, 3}, std::vector<float>{3e38f, 3e38f, -3e38f});
  EXPECT_EQ(FloatOp("Softmax", 13).in(x).run()[0].to_floats(), (std::vector<float>{0.5f, 0.5f, 0.0f}));
}

TEST(FloatNormalization, BatchNormalizationPerChannel) {
  Random random(14);
  const Tensor x = random.tensor({2, 5, 3, 4}), scale = random.tensor({5}), bias = random.tensor({5}), mean = random.tensor({5}), var = random.tensor({5}, 0.1, 2);
  const auto make = [&] { FloatOp f("BatchNormalization", 15); f.in(x).constant(scale).constant(bias).constant(mean).constant(var); return f; };
  const Tensor y = make().run()[0];
  EXPECT_TRUE(same_bytes(y, make().channels_last().run()[0]));
  EXPECT_TRUE(same_bytes(y, make().in_place().run()[0]));
  for_each_place(x.dims(), [&](const Dims& at) {
    const size_t c = size_t(at[1]), i = flat(x.dims(), at);
    const double want = (double(x.values<float>()[i]) - mean.values<float>()[c]) * scale.values<float>()[c] / std::sqrt(double(var.values<float>()[c]) + 1e-5) + bias.values<float>()[c];
    ASSERT_NEAR(y.values<float>()[i], want, 2e-6 * (1 + std::fabs(want)));
  });
}

TEST(FloatNormalization, LayerNormalizationHasMeanZeroAndVarianceOne) {
  Random random(15);
  const Tensor x = random.tensor({3, 4, 50}, -2, 9);
  const auto out = FloatOp("LayerNormalization", 17).in(x).constant(Tensor::of<float>({50}, std::vector<float>(50, 1.0f))).outputs(3).run();
  for (int64_t r = 0; r < 12; ++r) {
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < 50; ++i) { const double v = out[0].values<float>()[size_t(r * 50 + i)]; sum += v; squares += v * v; }
    EXPECT_NEAR(sum, 0, 1e-4);
    EXPECT_NEAR(squares / 50, 1, 1e-4);
  }
}

// Windows by the definition: a tap counts where it lies inside, or inside the padding with count_include_pad.
TEST(FloatPooling, RandomWindowsInEveryLayout) {
  Random random(16);
  for (int round = 0; round < 120; ++round) {
    const int axes = int(random.integer(1, 3));
    Dims dims{random.integer(1, 2), random.integer(1, 70)};
    std::vector<int64_t> kernel, stride, dilation, pads;
    for (int a = 0; a < axes; ++a) {
      kernel.push_back(random.integer(1, 3));
      stride.push_back(random.integer(1, 3));
      dilation.push_back(random.integer(1, 2));
      dims.push_back(random.integer((kernel.back() - 1) * dilation.back() + 1, 8));
    }
    for (int a = 0; a < 2 * axes; ++a) pads.push_back(random.integer(0, kernel[size_t(a % axes)] - 1));
    const int64_t ceil_mode = random.integer(0, 1), include = random.integer(0, 1);
    const bool average = random.integer(0, 1) != 0;
    const Tensor x = random.tensor(dims);
    const auto make = [&] {
      FloatOp f(average ? "AveragePool" : "MaxPool", average ? 19 : 12);
      f.in(x).with("kernel_shape", kernel).with("strides", stride).with("dilations", dilation).with("pads", pads).with("ceil_mode", ceil_mode);
      if (average) f.with("count_include_pad", include);
      return f;
    };
    const Tensor y = make().run()[0];
    ASSERT_TRUE(same_bytes(y, make().channels_last().run()[0]));
    for_each_place(y.dims(), [&](const Dims& at) {
      double sum = 0, best = -1e300;
      int64_t inside = 0, padded = 0;
      for_each_place(kernel, [&](const Dims& k) {
        Dims from = at;
        bool in = true, pad = true;
        for (size_t a = 0; a < kernel.size(); ++a) {
          from[a + 2] = at[a + 2] * stride[a] - pads[a] + k[a] * dilation[a];
          in = in && from[a + 2] >= 0 && from[a + 2] < dims[a + 2];
          pad = pad && from[a + 2] < dims[a + 2] + pads[a + kernel.size()];
        }
        padded += pad;
        if (!in) return;
        ++inside;
        const double v = x.values<float>()[flat(dims, from)];
        sum += v;
        best = std::max(best, v);
      });
      if (inside == 0) return;
      const double want = average ? sum / double(include ? padded : inside) : best;
      ASSERT_NEAR(y.values<float>()[flat(y.dims(), at)], want, 1e-6) << to_string(dims);
    });
  }
}

TEST(FloatPooling, GlobalPoolsInEveryLayoutAndBytes) {
  Random random(17);
  const Tensor x = random.tensor({2, 67, 5, 3});
  for (const char* op : {"GlobalAveragePool", "GlobalMaxPool"}) {
    const Tensor y = FloatOp(op, 1).in(x).run()[0];
    EXPECT_TRUE(same_bytes(y, FloatOp(op, 1).in(x).channels_last().run()[0])) << op;
    EXPECT_EQ(y.dims(), (Dims{2, 67, 1, 1}));
  }
  const Tensor mean = FloatOp("GlobalAveragePool", 1).in(x).run()[0];
  EXPECT_TRUE(same_bytes(mean, FloatOp("ReduceMean", 13).in(x).with("axes", std::vector<int64_t>{2, 3}).run()[0]));
}

TEST(FloatPooling, MaxPoolOfBytesAndIndices) {
  Tensor x(DType::u8, {1, 1, 4, 4});
  for (size_t i = 0; i < 16; ++i) x.mutable_values<uint8_t>()[i] = uint8_t(i * 37 % 101);
  const auto y = FloatOp("MaxPool", 12).in(x).with("kernel_shape", std::vector<int64_t>{2, 2}).with("strides", std::vector<int64_t>{2, 2}).outputs(2).run();
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(x.values<uint8_t>()[size_t(y[1].values<int64_t>()[i])], y[0].values<uint8_t>()[i]);
}

}  // namespace
}  // namespace quern::test
