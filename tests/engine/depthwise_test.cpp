// The depthwise kernel: every form gives the bytes of the scalar model, and the engine chooses it.
#include "core/engine/depthwise.hpp"

#include <gmock/gmock.h>

#include <cstring>
#include <limits>

#include "tests/engine/engine_testing.hpp"

namespace quern::testing {
namespace {

using Ints = std::vector<int64_t>;
constexpr float infinity = std::numeric_limits<float>::infinity();

std::vector<float> in_lanes(std::span<const float> from, int64_t channels, int64_t inner, int64_t lanes) {
  std::vector<float> to(static_cast<size_t>((channels + lanes - 1) / lanes * lanes * inner), 0.0f);
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t i = 0; i < inner; ++i) to[static_cast<size_t>((c / lanes * inner + i) * lanes + c % lanes)] = from[static_cast<size_t>(c * inner + i)];
  return to;
}

struct Problem {
  DepthwiseF32 d;
  Tensor weights, bias;
  std::vector<float> x;

  Problem(int64_t channels, int64_t ih, int64_t iw, int64_t kh, int64_t kw, int64_t s, int64_t dilation, int64_t pad, float low, float high) {
    d = {.batch = 2, .channels = channels, .ih = ih, .iw = iw, .oh = (ih + 2 * pad - (kh - 1) * dilation - 1) / s + 1,
         .ow = (iw + 2 * pad - (kw - 1) * dilation - 1) / s + 1, .kh = kh, .kw = kw, .sh = s, .sw = s, .dh = dilation, .dw = dilation, .pad_top = pad,
         .pad_left = pad, .weights = nullptr, .bias = nullptr, .zeros = nullptr, .low = low, .high = high};
    weights = random_tensor({channels, kh, kw}, 3);
    bias = random_tensor({channels}, 4);
    const Tensor values = random_tensor({2, ih, iw, channels}, 5, -3, 3);
    x.assign(values.values<float>().begin(), values.values<float>().end());
    x.resize(x.size() + 16, 1e30f);  // what follows is read, and must not matter
  }
  std::vector<float> run(DepthwiseRows rows, int64_t lanes, int64_t cut = 0) {
    const auto w = in_lanes(weights.values<float>(), d.channels, d.kh * d.kw, lanes), b = in_lanes(bias.values<float>(), d.channels, 1, lanes);
    const std::vector<float> zeros(static_cast<size_t>(d.channels + lanes), 0.0f);
    d.weights = w.data();
    d.bias = b.data();
    d.zeros = zeros.data();
    std::vector<float> y(static_cast<size_t>(d.batch * d.oh * d.ow * d.channels) + 16, 7.0f);
    rows(d, x.data(), y.data(), cut, d.batch * d.oh);
    rows(d, x.data(), y.data(), 0, cut);
    return y;
  }
};

TEST(Depthwise, EveryFormGivesTheBytesOfTheModel) {
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl"), avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (!avx2) GTEST_SKIP() << "this machine has neither AVX2 with FMA nor AVX-512";
  int tried = 0;
  for (int64_t channels : {2, 8, 15, 16, 17, 40})
    for (const auto& [kh, kw] : std::vector<std::pair<int64_t, int64_t>>{{3, 3}, {5, 5}, {1, 3}, {7, 7}, {2, 4}})
      for (int64_t s : {1, 2, 3})
        for (int64_t dilation : {1, 2})
          for (int64_t size : {3, 7, 9, 20})
            for (int64_t pad : {int64_t{0}, kw / 2}) {
              if (size + 2 * pad < (std::max(kh, kw) - 1) * dilation + 1) continue;
              Problem p(channels, size, size + 2, kh, kw, s, dilation, pad, s == 2 ? 0.0f : -infinity, s == 2 ? 6.0f : infinity);
              const auto want = p.run(depthwise_rows_scalar, 1);
              ASSERT_EQ(want[want.size() - 1], 7.0f) << "written beyond the output";
              const std::string what = std::to_string(channels) + " channels, " + std::to_string(kh) + "x" + std::to_string(kw) + ", stride " + std::to_string(s);
              for (int64_t cut : {int64_t{0}, p.d.oh}) {  // as two threads would divide it
                if (avx512) {
                  ASSERT_EQ(std::memcmp(p.run(depthwise_rows_avx512, 16, cut).data(), want.data(), 4 * want.size()), 0) << "avx512: " << what;
                }
                ASSERT_EQ(std::memcmp(p.run(depthwise_rows_avx2, 8, cut).data(), want.data(), 4 * want.size()), 0) << "avx2: " << what;
              }
              ++tried;
            }
  EXPECT_GT(tried, 500);
}

TEST(Depthwise, NaNAndInfinityStay) {
  if (!depthwise_form().rows) GTEST_SKIP() << "this machine has neither AVX2 with FMA nor AVX-512";
  Problem p(17, 5, 6, 3, 3, 1, 1, 1, 0.0f, 6.0f);
  p.x[100] = std::numeric_limits<float>::quiet_NaN();
  p.x[300] = infinity;
  const auto want = p.run(depthwise_rows_scalar, 1), got = p.run(depthwise_form().rows, depthwise_form().lanes);
  int nans = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    if (std::isnan(want[i])) { ++nans; EXPECT_TRUE(std::isnan(got[i])) << i; }
    else EXPECT_EQ(got[i], want[i]) << i;
  }
  EXPECT_GE(nans, 4);
}

std::string kernel_of(const Graph& g, const NamedTensors& in, EngineOptions options) {
  Engine engine(g, options);
  return engine.plan_info(in).steps.back().kernel;
}

TEST(Depthwise, TheEngineChoosesItWithWhatCanBeFused) {
  if (!depthwise_form().rows) GTEST_SKIP() << "this machine has neither AVX2 with FMA nor AVX-512";
  const NamedTensors in{{"x", random_tensor({2, 24, 11, 10}, 2, -4, 4)}};
  const std::map<std::string, Attribute> group{{"group", int64_t{24}}};
  const auto check = [&](const std::function<ValueId(Builder&, ValueId)>& after, const std::string& kernel, size_t steps) {
    Builder b;
    const ValueId x = b.input("x", {2, 24, 11, 10});
    const Graph g = b.outputs({after(b, b.conv(x, {24, 1, 3, 3}, true, group))});
    EXPECT_THAT(kernel_of(g, in, with_own_kernels()), ::testing::HasSubstr(kernel));
    Engine engine(g, with_own_kernels());
    EXPECT_EQ(engine.plan_info(in).steps.size(), steps);
    return engine.runner().run(in)[0].second;
  };
  const Tensor plain = check([](Builder&, ValueId v) { return v; }, "quern.depthwise", 1);
  const Tensor relu = check([](Builder& b, ValueId v) { return b.op("Relu", {v}); }, "quern.depthwise", 1);
  const Tensor clip = check(
      [](Builder& b, ValueId v) {
        return b.op("Clip", {v, b.constant(Tensor::of<float>({}, {-0.5f})), b.constant(Tensor::of<float>({}, {1.0f}))}, {}, 13);
      },
      "quern.depthwise", 1);
  check([](Builder& b, ValueId v) { return b.op("HardSwish", {v}, {}, 14); }, "onednn.conv", 1);
  for (size_t i = 0; i < plain.values<float>().size(); ++i) {
    const float v = plain.values<float>()[i];
    ASSERT_EQ(relu.values<float>()[i], std::max(v, 0.0f));
    ASSERT_EQ(clip.values<float>()[i], std::min(std::max(v, -0.5f), 1.0f));
  }
}

TEST(Depthwise, ThreadsDoNotChangeTheBytes) {
  Builder b;
  const ValueId x = b.input("x", {1, 48, 56, 56});
  const Graph g = b.outputs({b.op("MaxPool", {b.conv(x, {48, 1, 3, 3}, true, {{"group", int64_t{48}}})}, {{"kernel_shape", Ints{3, 3}}, {"strides", Ints{2, 2}}}, 12)});
  const NamedTensors in{{"x", random_tensor({1, 48, 56, 56}, 2)}};
  Engine engine(g, with_own_kernels());
  const Tensor one = engine.runner(1).run(in)[0].second;
  for (int threads : {2, 3, 8}) expect_same_bytes(engine.runner(threads).run(in)[0].second, one, std::to_string(threads) + " threads");
}

// Patches that don't overlap become matrix products; everything else is left to oneDNN's deconvolution.
TEST(PatchTranspose, EqualsNaiveLoops) {
  struct Case { Dims x, w; Ints strides, pads, output_padding; bool bias, matmul; };
  const Case cases[] = {
      {{1, 32, 8, 8}, {32, 16, 2, 2}, {2, 2}, {}, {}, true, true},   {{2, 7, 5, 6}, {7, 5, 3, 2}, {3, 2}, {}, {}, true, true},
      {{1, 16, 4, 9}, {16, 8, 1, 4}, {1, 4}, {}, {}, false, true},   {{1, 8, 4, 4}, {8, 8, 2, 2}, {2, 2}, {1, 0, 0, 0}, {}, true, false},
      {{1, 8, 4, 4}, {8, 8, 2, 2}, {2, 2}, {}, {1, 0}, true, false}, {{1, 8, 4, 4}, {8, 8, 2, 3}, {2, 2}, {}, {}, true, false},
  };
  for (const Case& c : cases) {
    Builder b;
    const ValueId x = b.input("x", c.x);
    std::vector<ValueId> in{x, b.weights(c.w)};
    if (c.bias) in.push_back(b.weights({c.w[1]}));
    std::map<std::string, Attribute> attributes{{"strides", c.strides}};
    if (!c.pads.empty()) attributes["pads"] = c.pads;
    if (!c.output_padding.empty()) attributes["output_padding"] = c.output_padding;
    const Graph g = b.outputs({b.op("Relu", {b.op("ConvTranspose", in, attributes, 11)})});
    const NamedTensors data{{"x", random_tensor(c.x, 7)}};
    check_against_reference(g, data, usual());
    EXPECT_EQ(kernel_of(g, data, usual()).find("as_matmul") != std::string::npos, c.matmul) << to_string(c.w);
  }
}

// Channels brought to the front or the end cost nothing where the neighbour works channels last.
TEST(TransposeView, NeedsNoCopyBesideAConvolution) {
  Builder b;
  const ValueId x = b.input("x", {1, 9, 8, 3});
  const ValueId front = b.op("Transpose", {x}, {{"perm", Ints{0, 3, 1, 2}}});
  const ValueId y = b.conv(front, {16, 3, 3, 3});
  const Graph g = b.outputs({b.op("Transpose", {y}, {{"perm", Ints{0, 2, 3, 1}}}), b.op("Neg", {front}, {}, 13)});
  const NamedTensors in{{"x", random_tensor({1, 9, 8, 3}, 3)}};
  Engine engine(g, with_own_kernels());
  const PlanInfo info = engine.plan_info(in);
  int turned = 0;
  for (const PlanStep& s : info.steps)
    for (const PlanCopy& c : s.copies) turned += c.turns;
  EXPECT_EQ(turned, 0);
  const auto out = engine.runner().run(in);
  Builder apart;  // the convolution alone, on data turned by hand
  const Tensor& data = in[0].second;
  Tensor planes(DType::f32, {1, 3, 9, 8});
  for (int64_t p = 0; p < 72; ++p)
    for (int64_t c = 0; c < 3; ++c) planes.mutable_values<float>()[static_cast<size_t>(c * 72 + p)] = data.values<float>()[static_cast<size_t>(p * 3 + c)];
  const ValueId px = apart.input("x", {1, 3, 9, 8});
  Engine alone(apart.outputs({apart.conv(px, {16, 3, 3, 3})}), with_own_kernels());
  const Tensor want = alone.runner().run({{"x", planes}})[0].second;
  ASSERT_EQ(out[0].second.dims(), (Dims{1, 9, 8, 16}));
  for (int64_t p = 0; p < 72; ++p)
    for (int64_t c = 0; c < 16; ++c)
      ASSERT_EQ(out[0].second.values<float>()[static_cast<size_t>(p * 16 + c)], want.values<float>()[static_cast<size_t>(c * 72 + p)]);
  for (size_t i = 0; i < 216; ++i) ASSERT_EQ(out[1].second.values<float>()[i], -planes.values<float>()[i]);
}

TEST(TransposeView, EveryOrderOfAxesIsRight) {
  for (const Dims& dims : {Dims{2, 3, 4}, Dims{2, 3, 4, 5}, Dims{1, 2, 3, 2, 4}}) {
    Ints order(dims.size());
    std::iota(order.begin(), order.end(), 0);
    do {
      Builder b;
      const ValueId x = b.input("x", dims);
      const ValueId middle = b.op("Neg", {x}, {}, 13);
      const Graph g = b.outputs({b.op("Transpose", {middle}, {{"perm", order}}), b.op("Relu", {b.op("Transpose", {x}, {{"perm", order}})})});
      const Tensor data = random_tensor(dims, 9);
      Engine engine(g, with_own_kernels());
      const auto out = engine.runner().run({{"x", data}});
      Dims to;
      for (int64_t a : order) to.push_back(dims[static_cast<size_t>(a)]);
      ASSERT_EQ(out[0].second.dims(), to);
      const Dims from_strides = row_major_strides(dims), to_strides = row_major_strides(to);
      for (int64_t i = 0; i < data.count(); ++i) {
        int64_t rest = i, from = 0;
        for (size_t a = 0; a < to.size(); ++a) {
          from += rest / to_strides[a] * from_strides[static_cast<size_t>(order[a])];
          rest %= to_strides[a];
        }
        const float v = data.values<float>()[static_cast<size_t>(from)];
        ASSERT_EQ(out[0].second.values<float>()[static_cast<size_t>(i)], -v);
        ASSERT_EQ(out[1].second.values<float>()[static_cast<size_t>(i)], v < 0 ? 0 : v);
      }
    } while (std::next_permutation(order.begin(), order.end()));
  }
}

}  // namespace
}  // namespace quern::testing
