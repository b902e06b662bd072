// Own kernels that move elements: every element size, both layouts, against the definition by index; bad indices and axes.
#include <limits>
#include <numeric>
#include <set>

#include "core/engine/float/families.hpp"
#include "tests/engine/float_harness.hpp"

namespace quern::test {
namespace {

// Numbers 0, 1, 2, ... (as far as the type holds them), so that every element says where it came from.
Tensor numbered(DType type, const Dims& dims) {
  Tensor t(type, dims);
  auto* bytes = static_cast<unsigned char*>(t.mutable_bytes());
  for (int64_t i = 0; i < t.count(); ++i) {
    const uint64_t v = uint64_t(i) * 2654435761u;
    std::memcpy(bytes + size_t(i) * size_of(type), &v, size_of(type));
  }
  return t;
}

bool element_equal(const Tensor& a, size_t i, const Tensor& b, size_t j) {
  const size_t n = size_of(a.type());
  return std::memcmp(static_cast<const char*>(a.data()) + i * n, static_cast<const char*>(b.data()) + j * n, n) == 0;
}

const DType types[] = {DType::u8, DType::s8, DType::f16, DType::f32, DType::s32, DType::s64, DType::f64, DType::boolean};

std::vector<int64_t> ints(std::initializer_list<int64_t> v) { return v; }
Tensor int_tensor(const std::vector<int64_t>& v) { return Tensor::of<int64_t>({int64_t(v.size())}, v); }

TEST(FloatMove, TransposeOfAnyTypeAndOrder) {
  Random random(21);
  for (int round = 0; round < 200; ++round) {
    const Dims dims = random.dims(int(random.integer(1, 5)), 1, round % 4 == 0 ? 40 : 6);
    if (element_count(dims) > 200000) continue;
    const Tensor x = numbered(types[random.integer(0, 7)], dims);
    std::vector<int64_t> order(dims.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = int64_t(i);
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[size_t(random.integer(0, int64_t(i) - 1))]);
    FloatOp op("Transpose", 13);
    op.in(x).with("perm", order);
    if (round % 2) op.channels_last();
    const Tensor y = op.run()[0];
    for_each_place(y.dims(), [&](const Dims& at) {
      Dims from(at.size());
      for (size_t a = 0; a < at.size(); ++a) from[size_t(order[a])] = at[a];
      ASSERT_TRUE(element_equal(y, flat(y.dims(), at), x, flat(dims, from)));
    });
  }
}

TEST(FloatMove, SlicesWithAnySteps) {
  Random random(22);
  for (int round = 0; round < 200; ++round) {
    const Dims dims = random.dims(int(random.integer(1, 4)), 1, 9);
    const Tensor x = numbered(types[random.integer(0, 7)], dims);
    std::vector<int64_t> starts, ends, steps, axes;
    Dims first(dims.size(), 0), by(dims.size(), 1), count = dims;
    for (size_t a = 0; a < dims.size(); ++a) {
      const int64_t n = dims[a], step = random.integer(0, 1) ? random.integer(1, 3) : -random.integer(1, 3);
      const int64_t start = random.integer(0, n - 1), length = random.integer(1, step > 0 ? (n - start + step - 1) / step : start / -step + 1);
      first[a] = start; by[a] = step; count[a] = length;
      axes.push_back(random.integer(0, 1) ? int64_t(a) : int64_t(a) - int64_t(dims.size()));
      starts.push_back(random.integer(0, 1) ? start : start - n);
      steps.push_back(step);
      const int64_t end = start + length * step;  // one past the last, in steps
      ends.push_back(end < 0 ? -1000 : end);
    }
    const bool constant = true;  // the shape depends on them
    FloatOp op("Slice", 13);
    op.in(x);
    for (const auto& list : {starts, ends, axes, steps}) constant ? op.constant(int_tensor(list)) : op.in(int_tensor(list));
    if (round % 2) op.channels_last();
    const Tensor y = op.run()[0];
    ASSERT_EQ(y.dims(), count);
    for_each_place(count, [&](const Dims& at) {
      Dims from(at.size());
      for (size_t a = 0; a < at.size(); ++a) from[a] = first[a] + at[a] * by[a];
      ASSERT_TRUE(element_equal(y, flat(count, at), x, flat(dims, from)));
    });
  }
}

TEST(FloatMove, SplitUndoesConcat) {
  Random random(23);
  for (int round = 0; round < 100; ++round) {
    const int rank = int(random.integer(1, 4));
    const auto axis = size_t(random.integer(0, rank - 1));
    Dims dims = random.dims(rank, 1, 6);
    const DType type = types[random.integer(0, 7)];
    std::vector<Tensor> parts;
    std::vector<int64_t> sizes;
    for (int i = 0; i < random.integer(1, 12); ++i) {
      Dims d = dims;
      d[axis] = random.integer(1, 7);
      sizes.push_back(d[axis]);
      parts.push_back(numbered(type, d));
    }
    FloatOp join("Concat", 13);
    for (const Tensor& p : parts) join.in(p);
    join.with("axis", int64_t(axis));
    if (round % 2) join.channels_last();
    const Tensor whole = join.run()[0];
    FloatOp cut("Split", 13);
    cut.in(whole).constant(int_tensor(sizes)).with("axis", int64_t(axis)).outputs(parts.size());
    if (round % 3) cut.channels_last();
    const auto again = cut.run();
    for (size_t i = 0; i < parts.size(); ++i) ASSERT_TRUE(same_bytes(again[i], parts[i]));
    EXPECT_EQ(whole.dims()[axis], std::accumulate(sizes.begin(), sizes.end(), int64_t{0}));
  }
}

TEST(FloatMove, PadsOfAllModes) {
  const Tensor x = Tensor::of<float>({4}, std::vector<float>{1, 2, 3, 4});
  const auto pad = [&](const char* mode, std::vector<int64_t> pads) {
    return FloatOp("Pad", 19).in(x).constant(int_tensor(pads)).constant(Tensor::scalar(9.0f)).with("mode", std::string(mode)).run()[0].to_floats();
  };
  EXPECT_EQ(pad("constant", {2, 1}), (std::vector<float>{9, 9, 1, 2, 3, 4, 9}));
  EXPECT_EQ(pad("reflect", {3, 2}), (std::vector<float>{4, 3, 2, 1, 2, 3, 4, 3, 2}));
  EXPECT_EQ(pad("edge", {1, 2}), (std::vector<float>{1, 1, 2, 3, 4, 4, 4}));
  EXPECT_EQ(pad("wrap", {1, 2}), (std::vector<float>{4, 1, 2, 3, 4, 1, 2}));
  EXPECT_EQ(pad("constant", {-1, 2}), (std::vector<float>{2, 3, 4, 9, 9}));
  EXPECT_THROW(pad("mirror", {1, 1}), Error);
  Random random(24);
  const Tensor picture = numbered(DType::u8, {2, 3, 4, 5});
  const auto make = [&] { FloatOp f("Pad", 13); f.in(picture).constant(int_tensor({0, 1, 2, 0, 0, 0, 1, 3})); return f; };
  EXPECT_TRUE(same_bytes(make().run()[0], make().channels_last().run()[0]));
}

TEST(FloatMove, BlocksAndChannels) {
  const Tensor x = numbered(DType::f32, {2, 12, 4, 6});
  for (const char* mode : {"DCR", "CRD"}) {
    const Tensor y = FloatOp("DepthToSpace", 13).in(x).with("blocksize", int64_t{2}).with("mode", std::string(mode)).run()[0];
    EXPECT_TRUE(same_bytes(y, FloatOp("DepthToSpace", 13).in(x).with("blocksize", int64_t{2}).with("mode", std::string(mode)).channels_last().run()[0]));
    if (mode != std::string("DCR")) continue;
    EXPECT_TRUE(same_bytes(FloatOp("SpaceToDepth", 13).in(y).with("blocksize", int64_t{2}).run()[0], x));
  }
}

TEST(FloatMove, ViewsKeepTheElements) {
  const Tensor x = numbered(DType::s64, {2, 3, 4});
  FloatOp reshape("Reshape", 14);
  const Tensor y = reshape.in(x).constant(int_tensor({4, -1})).run()[0];
  EXPECT_TRUE(reshape.prepared.view);
  EXPECT_EQ(y.dims(), (Dims{4, 6}));
  EXPECT_EQ(std::memcmp(y.data(), x.data(), x.bytes()), 0);
  EXPECT_EQ(FloatOp("Flatten", 13).in(x).with("axis", int64_t{2}).run()[0].dims(), (Dims{6, 4}));
  EXPECT_EQ(FloatOp("Unsqueeze", 13).in(x).constant(int_tensor({0, -1})).run()[0].dims(), (Dims{1, 2, 3, 4, 1}));
  EXPECT_EQ(FloatOp("Shape", 15).in(x).with("start", int64_t{-2}).run()[0].to_ints(), (std::vector<int64_t>{3, 4}));
}

TEST(FloatMove, GatherTakesNegativeIndicesAndRefusesBadOnes) {
  const Tensor x = numbered(DType::f32, {4, 2});
  const Tensor y = FloatOp("Gather", 13).in(x).in(Tensor::of<int64_t>({3}, std::vector<int64_t>{-1, 0, 2})).run()[0];
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_TRUE(element_equal(y, i, x, 6 + i));
    EXPECT_TRUE(element_equal(y, 2 + i, x, i));
    EXPECT_TRUE(element_equal(y, 4 + i, x, 4 + i));
  }
  for (int64_t bad : {4, -5}) EXPECT_THROW(FloatOp("Gather", 13).in(x).in(Tensor::of<int64_t>({1}, std::vector<int64_t>{bad})).run(), Error);
  EXPECT_THROW(FloatOp("GatherND", 13).in(x).in(Tensor::of<int64_t>({1, 2}, std::vector<int64_t>{0, 2})).run(), Error);
  EXPECT_THROW(FloatOp("ScatterND", 18).in(x).in(Tensor::of<int64_t>({1, 1}, std::vector<int64_t>{9})).in(numbered(DType::f32, {1, 2})).run(), Error);
}

TEST(FloatMove, TopKOrdersEqualElementsByIndex) {
  const Tensor x = Tensor::of<float>({5}, std::vector<float>{2, 7, 7, 1, 7});
  const auto y = FloatOp("TopK", 11).in(x).constant(int_tensor({4})).outputs(2).run();
  EXPECT_EQ(y[0].to_floats(), (std::vector<float>{7, 7, 7, 2}));
  EXPECT_EQ(y[1].to_ints(), (std::vector<int64_t>{1, 2, 4, 0}));
}

TEST(FloatProvider, RefusesWithASentence) {
  const Tensor x = numbered(DType::f32, {2, 3});
  const auto message = [](FloatOp& op) -> std::string {
    try { op.run(); } catch (const Error& e) { return e.what(); }
    return "";
  };
  FloatOp transpose("Transpose", 13);
  EXPECT_NE(message(transpose.in(x).with("perm", ints({0, 0}))), "");
  FloatOp softmax("Softmax", 13);
  EXPECT_NE(message(softmax.in(x).with("axis", int64_t{5})), "");
  FloatOp add("Add", 14);
  EXPECT_NE(message(add.in(x).in(numbered(DType::f64, {2, 3}))), "");
  FloatOp reshape("Reshape", 14);
  EXPECT_NE(message(reshape.in(x).constant(int_tensor({4, 4}))), "");
}

TEST(FloatProvider, KnowsItsOperatorsOnceAndDeclinesHalves) {
  Graph graph;
  EXPECT_TRUE(own_float_provider()->knows(graph, {.name = "a", .op = "Relu"}));
  EXPECT_TRUE(own_float_provider()->knows(graph, {.name = "a", .domain = "ai.onnx", .op = "Relu"}));
  EXPECT_FALSE(own_float_provider()->knows(graph, {.name = "a", .domain = "com.example", .op = "Relu"}));
  EXPECT_FALSE(own_float_provider()->knows(graph, {.name = "a", .op = "NoSuchOperator"}));
  EXPECT_FALSE(FloatOp("Relu", 14).in(numbered(DType::f16, {4})).try_run());
  std::set<std::string> names;
  for (auto family : {own::activation_ops(), own::unary_ops(), own::binary_ops(), own::softmax_ops(), own::normalization_ops(), own::pooling_ops(),
                      own::reduction_ops(), own::shape_ops(), own::move_ops(), own::gather_ops(), own::quantize_ops(), own::dot_ops()})
    for (const own::Entry& e : family) EXPECT_TRUE(names.insert(std::string(e.op)).second) << e.op << " is registered twice";
  EXPECT_GT(names.size(), 120u);
}

TEST(FloatQuantize, RoundsToEvenThenAddsTheZeroPointAndSaturates) {
  const float inf = std::numeric_limits<float>::infinity();
  const Tensor x = Tensor::of<float>({8}, std::vector<float>{0.5f, 1.5f, -0.5f, 1e9f, -1e9f, inf, -inf, std::numeric_limits<float>::quiet_NaN()});
  const auto q = FloatOp("QuantizeLinear", 13).in(x).constant(Tensor::scalar(1.0f)).constant(Tensor::scalar<uint8_t>(3)).run()[0];
  EXPECT_EQ(q.to_ints(), (std::vector<int64_t>{3, 5, 3, 255, 0, 255, 0, 3}));
  const auto s = FloatOp("QuantizeLinear", 13).in(x).in(Tensor::scalar(0.5f)).in(Tensor::scalar<int8_t>(-1)).run()[0];
  EXPECT_EQ(s.to_ints(), (std::vector<int64_t>{0, 2, -2, 127, -128, 127, -128, -1}));
}

TEST(FloatQuantize, PerAxisInEveryLayout) {
  Random random(25);
  const Tensor x = random.tensor({2, 3, 4, 5}, -200, 200), scale = Tensor::of<float>({3}, std::vector<float>{0.5f, 1.0f, 3.0f}),
               zero = Tensor::of<int8_t>({3}, std::vector<int8_t>{-3, 0, 9});
  const auto quantize = [&] { FloatOp f("QuantizeLinear", 13); f.in(x).constant(scale).constant(zero).with("axis", int64_t{1}); return f; };
  const Tensor q = quantize().run()[0];
  EXPECT_TRUE(same_bytes(q, quantize().channels_last().run()[0]));
  const auto back = [&] { FloatOp f("DequantizeLinear", 13); f.in(q).constant(scale).constant(zero).with("axis", int64_t{1}); return f; };
  const Tensor y = back().run()[0];
  EXPECT_TRUE(same_bytes(y, back().channels_last().run()[0]));
  for_each_place(x.dims(), [&](const Dims& at) {
    const size_t i = flat(x.dims(), at);
    const float s = scale.values<float>()[size_t(at[1])];
    const float low = s * float(-128 - zero.values<int8_t>()[size_t(at[1])]), high = s * float(127 - zero.values<int8_t>()[size_t(at[1])]);
    ASSERT_LE(std::abs(y.values<float>()[i] - std::min(std::max(x.values<float>()[i], low), high)), s / 2 + 1e-4f);
  });
  EXPECT_THROW(FloatOp("QuantizeLinear", 13).in(x).constant(scale).constant(zero).with("axis", int64_t{2}).run(), Error);
}

// The plain loops for Conv, Gemm and MatMul against the definition, also where the fast library would be asked otherwise.
TEST(FloatDot, ConvolutionOfDoublesByTheDefinition) {
  Random random(26);
  const Tensor x = random.tensor<double>({2, 4, 6, 5}), w = random.tensor<double>({6, 2, 3, 2}), b = random.tensor<double>({6});
  const std::vector<int64_t> stride{2, 1}, dilation{1, 2}, pads{1, 0, 2, 1};
  const Tensor y = FloatOp("Conv", 11).in(x).constant(w).constant(b).with("group", int64_t{2}).with("strides", stride).with("dilations", dilation).with("pads", pads).run()[0];
  for_each_place(y.dims(), [&](const Dims& at) {
    double sum = b.values<double>()[size_t(at[1])];
    for (int64_t c = 0; c < 2; ++c)
      for (int64_t i = 0; i < 3; ++i)
        for (int64_t j = 0; j < 2; ++j) {
          const int64_t h = at[2] * 2 - 1 + i, v = at[3] - 0 + j * 2;
          if (h < 0 || h >= 6 || v < 0 || v >= 5) continue;
          sum += x.values<double>()[flat(x.dims(), {at[0], (at[1] / 3) * 2 + c, h, v})] * w.values<double>()[flat(w.dims(), {at[1], c, i, j})];
        }
    ASSERT_NEAR(y.values<double>()[flat(y.dims(), at)], sum, 1e-12);
  });
}

TEST(FloatDot, MatMulBroadcastsBatchesAndTakesVectors) {
  Random random(27);
  const Tensor a = random.tensor({2, 1, 3, 4}), b = random.tensor({5, 4, 6});
  const Tensor y = FloatOp("MatMul", 13).in(a).in(b).run()[0];
  ASSERT_EQ(y.dims(), (Dims{2, 5, 3, 6}));
  for_each_place(y.dims(), [&](const Dims& at) {
    double sum = 0;
    for (int64_t k = 0; k < 4; ++k) sum += double(a.values<float>()[flat(a.dims(), {at[0], 0, at[2], k})]) * b.values<float>()[flat(b.dims(), {at[1], k, at[3]})];
    ASSERT_NEAR(y.values<float>()[flat(y.dims(), at)], sum, 1e-6);
  });
  const Tensor v = random.tensor({4});
  EXPECT_EQ(FloatOp("MatMul", 13).in(v).in(b).run()[0].dims(), (Dims{5, 6}));
  EXPECT_EQ(FloatOp("MatMul", 13).in(a).in(v).run()[0].dims(), (Dims{2, 1, 3}));
  EXPECT_EQ(FloatOp("MatMul", 13).in(v).in(v).run()[0].dims(), (Dims{}));
}

}  // namespace
}  // namespace quern::test
