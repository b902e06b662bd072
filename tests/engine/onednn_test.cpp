// Numerics of the oneDNN provider against naive loops in double: max|a-b| <= 1e-5 max|b|.
#include <gtest/gtest.h>

#include "tests/engine/engine_testing.hpp"

namespace quern::testing {
namespace {

using Ints = std::vector<int64_t>;

struct ConvCase {
  const char* name;
  Dims x, w;
  bool bias;
  std::map<std::string, Attribute> attributes;
  bool transposed = false;
};

const ConvCase conv_cases[] = {
    {"plain3x3", {1, 8, 9, 7}, {16, 8, 3, 3}, true, {}},
    {"one_by_one", {1, 17, 6, 5}, {23, 17, 1, 1}, true, {}},
    {"first_layer", {1, 3, 20, 20}, {16, 3, 7, 7}, true, {{"strides", Ints{2, 2}}}},
    {"one_channel", {1, 1, 12, 12}, {8, 1, 3, 3}, false, {}},
    {"batch3", {3, 5, 8, 8}, {7, 5, 3, 3}, true, {}},
    {"depthwise", {2, 16, 10, 10}, {16, 1, 3, 3}, true, {{"group", int64_t{16}}}},
    {"depthwise_odd", {1, 13, 9, 9}, {13, 1, 5, 5}, false, {{"group", int64_t{13}}, {"strides", Ints{2, 2}}}},
    {"depthwise_multiplier", {1, 6, 8, 8}, {12, 1, 3, 3}, true, {{"group", int64_t{6}}}},
    {"groups", {1, 12, 8, 8}, {18, 4, 3, 3}, true, {{"group", int64_t{3}}}},
    {"dilated", {1, 8, 12, 12}, {8, 8, 3, 3}, true, {{"dilations", Ints{2, 3}}, {"pads", Ints{2, 3, 2, 3}}}},
    {"asymmetric_pads", {1, 4, 8, 9}, {6, 4, 3, 2}, true, {{"pads", Ints{0, 1, 2, 0}}, {"strides", Ints{2, 1}}}},
    {"one_d", {2, 6, 25}, {10, 6, 5}, true, {{"strides", Ints{2}}}},
    {"one_d_depthwise", {1, 8, 30}, {8, 1, 3}, true, {{"group", int64_t{8}}, {"dilations", Ints{2}}}},
    {"three_d", {1, 4, 5, 6, 7}, {6, 4, 3, 3, 3}, true, {}},
    {"three_d_strided", {1, 4, 6, 6, 6}, {4, 2, 2, 3, 1}, false, {{"group", int64_t{2}}, {"strides", Ints{2, 1, 2}}, {"pads", Ints{0, 1, 0, 0, 1, 0}}}},
    {"transposed", {1, 8, 5, 6}, {8, 6, 3, 3}, true, {{"strides", Ints{2, 2}}, {"pads", Ints{1, 1, 1, 1}}}, true},
    {"transposed_output_padding", {2, 4, 5, 5}, {4, 3, 3, 3}, true, {{"strides", Ints{2, 2}}, {"pads", Ints{1, 0, 1, 1}}, {"output_padding", Ints{1, 1}}}, true},
    {"transposed_groups", {1, 6, 5, 5}, {6, 2, 2, 2}, true, {{"strides", Ints{2, 2}}, {"group", int64_t{3}}, {"pads", Ints{0, 0, 0, 0}}}, true},
    {"transposed_one_d", {1, 4, 9}, {4, 5, 4}, false, {{"strides", Ints{3}}, {"pads", Ints{1, 0}}}, true},
    {"transposed_dilated", {1, 4, 6, 6}, {4, 4, 3, 3}, true, {{"dilations", Ints{2, 2}}, {"pads", Ints{1, 1, 1, 1}}}, true},
};

class ConvTest : public ::testing::TestWithParam<ConvCase> {};
INSTANTIATE_TEST_SUITE_P(Onednn, ConvTest, ::testing::ValuesIn(conv_cases), [](const auto& info) { return std::string(info.param.name); });

TEST_P(ConvTest, equals_naive_loops) {
  const ConvCase& c = GetParam();
  Builder b;
  const ValueId x = b.input("x", c.x);
  ValueId y;
  if (c.transposed) {
    std::vector<ValueId> in{x, b.weights(c.w)};
    const auto group = c.attributes.count("group") ? std::get<int64_t>(c.attributes.at("group")) : 1;
    if (c.bias) in.push_back(b.weights({c.w[1] * group}));
    y = b.op("ConvTranspose", in, c.attributes, 11, "deconv");
  } else {
    y = b.conv(x, c.w, c.bias, c.attributes);
  }
  check_against_reference(b.outputs({y}), {{"x", random_tensor(c.x, 7)}}, usual());
}

TEST(Onednn, weights_that_flow) {
  Builder b;
  const ValueId x = b.input("x", {1, 8, 6, 6}), w = b.input("w", {4, 8, 3, 3}), bias = b.input("b", {4});
  const ValueId y = b.op("Conv", {x, w, bias}, {}, 11);
  check_against_reference(b.outputs({y}), {{"x", random_tensor({1, 8, 6, 6}, 1)}, {"w", random_tensor({4, 8, 3, 3}, 2)}, {"b", random_tensor({4}, 3)}},
                          usual());
}

struct Activation {
  const char* op;
  std::map<std::string, Attribute> attributes;
  int since;
  std::vector<float> bounds;
};
const Activation activations[] = {
    {"Relu", {}, 14, {}},      {"LeakyRelu", {{"alpha", 0.2f}}, 16, {}}, {"Sigmoid", {}, 13, {}}, {"Tanh", {}, 13, {}},
    {"Swish", {}, 24, {}},     {"Swish", {{"alpha", 1.702f}}, 24, {}},       {"Mish", {}, 18, {}},     {"Gelu", {}, 20, {}},
    {"Gelu", {{"approximate", std::string("tanh")}}, 20, {}},
    {"HardSwish", {}, 14, {}}, {"Elu", {{"alpha", 0.7f}}, 6, {}},         {"Clip", {{"min", 0.0f}, {"max", 0.6f}}, 6, {}},
    {"Clip", {}, 13, {-0.5f, 0.25f}}, {"Clip", {}, 11, {0.0f}},            {"Clip", {{"max", 0.1f}}, 6, {}},
};

TEST(Onednn, activations_run_inside_the_convolution) {
  for (const Activation& a : activations) {
    Builder b;
    const ValueId x = b.input("x", {2, 8, 7, 7});
    std::vector<ValueId> in{b.conv(x, {16, 8, 3, 3})};
    for (float bound : a.bounds) in.push_back(b.constant(Tensor::scalar(bound)));
    const ValueId y = b.op(a.op, in, a.attributes, a.since);
    const Graph g = b.outputs({y});
    const NamedTensors inputs{{"x", random_tensor({2, 8, 7, 7}, 3)}};
    SCOPED_TRACE(a.op);
    check_against_reference(g, inputs, with_own_kernels());
    const PlanInfo info = Engine(g, with_own_kernels()).plan_info(inputs);
    ASSERT_EQ(info.steps.size(), 1u);
    EXPECT_EQ(info.steps[0].members.size(), 2u);
    EXPECT_FALSE(info.steps[0].portable);
    EXPECT_EQ(info.steps[0].provider, "onednn");
    EXPECT_EQ(info.steps[0].kernel.rfind("onednn.conv:", 0), 0u) << info.steps[0].kernel;
  }
}

TEST(Onednn, clip_with_bounds_that_flow_is_not_fused) {
  Builder b;
  const ValueId x = b.input("x", {1, 4, 5, 5}), high = b.input("high", {});
  const ValueId c = b.conv(x, {4, 4, 3, 3});
  const ValueId y = b.op("Clip", {c, no_value, high}, {}, 13);
  const Graph g = b.outputs({y});
  Engine engine(g, with_own_kernels());
  const NamedTensors in{{"x", random_tensor({1, 4, 5, 5}, 3)}, {"high", Tensor::scalar(0.1f)}};
  EXPECT_EQ(engine.plan_info(in).steps.size(), 2u);
  expect_close(engine.runner().run(in)[0].second, evaluate(g, in).at(y));
}

TEST(Onednn, gemm_forms) {
  int seed = 0;
  for (bool ta : {false, true})
    for (bool tb : {false, true})
      for (bool constant : {false, true})
        for (float alpha : {1.0f, 0.5f})
          for (const Dims& c : {Dims{-1}, Dims{}, Dims{1}, Dims{9}, Dims{1, 9}, Dims{4, 1}, Dims{4, 9}}) {
            Builder b;
            const Dims da = ta ? Dims{6, 4} : Dims{4, 6}, db = tb ? Dims{9, 6} : Dims{6, 9};
            NamedTensors in{{"a", random_tensor(da, 5)}};
            std::vector<ValueId> ids{b.input("a", da)};
            if (constant) {
              ids.push_back(b.weights(db));
            } else {
              ids.push_back(b.input("b", db));
              in.emplace_back("b", random_tensor(db, 6));
            }
            if (c != Dims{-1}) {
              if (++seed % 2) {
                ids.push_back(b.weights(c));
              } else {
                ids.push_back(b.input("c", c));
                in.emplace_back("c", random_tensor(c, 8));
              }
            }
            const ValueId y = b.op("Gemm", ids, {{"transA", int64_t{ta}}, {"transB", int64_t{tb}}, {"alpha", alpha}, {"beta", alpha * 3}}, 13);
            const ValueId z = b.op("Relu", {y}, {}, 14);
            SCOPED_TRACE(::testing::Message() << ta << tb << constant << alpha << to_string(c));
            check_against_reference(b.outputs({z}), in, usual());
          }
}

TEST(Onednn, matmul_forms) {
  const std::pair<Dims, Dims> shapes[] = {{{4, 5}, {5, 6}},       {{5}, {5, 6}},          {{4, 5}, {5}},             {{5}, {5}},
                                          {{2, 3, 4, 5}, {5, 6}}, {{7, 4, 5}, {7, 5, 6}}, {{2, 3, 4, 5}, {2, 3, 5, 6}},
                                          {{2, 1, 4, 5}, {1, 3, 5, 6}}, {{4, 5}, {3, 5, 6}}, {{3, 4, 5}, {1, 5, 6}}, {{2, 3, 5}, {2, 5, 1}}, {{5}, {3, 5, 2}}};
  for (const auto& [da, db] : shapes)
    for (bool constant : {false, true}) {
      Builder b;
      NamedTensors in{{"a", random_tensor(da, 5)}};
      std::vector<ValueId> ids{b.input("a", da)};
      if (constant) {
        ids.push_back(b.weights(db));
      } else {
        ids.push_back(b.input("b", db));
        in.emplace_back("b", random_tensor(db, 6));
      }
      SCOPED_TRACE(to_string(da) + " x " + to_string(db) + (constant ? " constant" : ""));
      const ValueId y = b.op("MatMul", ids);
      check_against_reference(b.outputs({y}), in, usual());
    }
}

TEST(Onednn, matmul_takes_bias_activation_and_residual) {
  Builder b;
  const ValueId x = b.input("x", {2, 6, 16});
  const ValueId y = b.op("Add", {b.weights({16}), b.op("MatMul", {x, b.weights({16, 16})})});
  const ValueId z = b.op("Relu", {b.op("Add", {x, b.op("Tanh", {y})})});
  const Graph g = b.outputs({z});
  const NamedTensors in{{"x", random_tensor({2, 6, 16}, 5)}};
  check_against_reference(g, in, with_own_kernels());
  const PlanInfo info = Engine(g, with_own_kernels()).plan_info(in);
  EXPECT_GE(info.steps[0].members.size(), 3u) << info.steps[0].kernel;  // how much more depends on the instruction set
}

TEST(Onednn, empty_batch_gives_an_empty_result) {
  Builder b;
  const ValueId x = b.input("x", {-1, 3, 8, 8});
  const ValueId y = b.op("Relu", {b.conv(x, {4, 3, 3, 3})});
  Engine engine(b.outputs({y}), usual());
  const auto out = engine.runner().run({{"x", Tensor(DType::f32, {0, 3, 8, 8})}});
  EXPECT_EQ(out[0].second.dims(), (Dims{0, 4, 8, 8}));
}

TEST(Onednn, float_class_is_one_of_three) {
  const std::string c = float_class();
  EXPECT_TRUE(c == "avx512" || c == "avx2" || c == "sse41") << c;
}

}  // namespace
}  // namespace quern::testing
