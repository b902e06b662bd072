#include "core/placement/placement.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>

#include "core/base/error.hpp"
#include "tests/rules/sample_rules.hpp"

namespace quern {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using test::Builder;
using test::sample_rules;

// The placement in a form to compare: quantizers, units, float nodes; no reasons.
std::string text_of(const Graph& g, const Placement& p) {
  std::string out;
  for (const auto& q : p.quantizers) {
    out += fmt::format("q{} {}", q.id, g.value(q.value).name);
    if (q.consumer != no_node) out += fmt::format(" for {}[{}]", g.node(q.consumer).name, q.slot);
    out += fmt::format(": {}", fmt::join(q.types, "|"));
    if (q.channel_axis >= 0) out += fmt::format(" axis {}", q.channel_axis);
    if (q.tie >= 0) out += fmt::format(" tie {}", q.tie);
    out += "\n";
  }
  for (const auto& u : p.units) {
    for (size_t i = 0; i < u.members.size(); ++i) out += (i ? "+" : "unit ") + g.node(u.members[i]).name;
    out += fmt::format(" [{}]", u.config);
    for (const auto& o : u.operands) {
      if (o.role.empty()) continue;
      out += " " + o.role;
      if (o.quantizer >= 0) out += fmt::format("=q{}", o.quantizer);
    }
    out += u.output_quantizer >= 0 ? fmt::format(" -> q{}\n", u.output_quantizer) : " -> f32\n";
  }
  for (const auto& f : p.floats) out += fmt::format("float {}\n", g.node(f.node).name);
  return out;
}

// What must hold for any placement.
void check_invariants(const Graph& g, const Rules& rules, const Placement& p) {
  std::vector<int> seen(g.node_slots(), 0);
  for (const auto& u : p.units) for (const NodeId n : u.members) ++seen[static_cast<size_t>(n)];
  for (const auto& f : p.floats) { ++seen[static_cast<size_t>(f.node)]; EXPECT_FALSE(f.reason.empty()); }
  for (const NodeId n : g.order()) EXPECT_EQ(seen[static_cast<size_t>(n)], 1) << g.node(n).name;
  for (size_t i = 0; i < p.quantizers.size(); ++i) {
    EXPECT_EQ(p.quantizers[i].id, static_cast<int>(i));
    EXPECT_FALSE(p.quantizers[i].types.empty());
    EXPECT_FALSE(p.quantizers[i].reason.empty());
    for (size_t k = 0; k < i && p.quantizers[i].tie >= 0; ++k) {
      if (p.quantizers[k].tie == p.quantizers[i].tie) { EXPECT_EQ(p.quantizers[k].types, p.quantizers[i].types); }
    }
  }
  for (const auto& u : p.units) {
    EXPECT_FALSE(u.reason.empty());
    const OpConfig* config = nullptr;
    for (const auto& rule : rules.ops) {
      if (rule.match.op == g.node(u.members[0]).op) for (const auto& c : rule.configs) if (c.id == u.config) config = &c;
    }
    ASSERT_NE(config, nullptr);
    const auto has = [](const std::vector<std::string>& v, const std::string& t) { return std::find(v.begin(), v.end(), t) != v.end(); };
    if (u.output_quantizer < 0) {
      EXPECT_TRUE(has(config->output, "f32")) << u.reason;
    } else {
      for (const auto& t : p.quantizers[static_cast<size_t>(u.output_quantizer)].types) EXPECT_TRUE(has(config->output, t)) << u.reason;
    }
    for (const auto& o : u.operands) {
      if (o.quantizer < 0 || !config->inputs.count(o.role)) continue;
      for (const auto& t : p.quantizers[static_cast<size_t>(o.quantizer)].types) EXPECT_TRUE(has(config->inputs.at(o.role), t)) << u.reason;
    }
  }
}

std::string placed(const Builder& b, const PlacementOptions& options = {}, const Rules& rules = sample_rules()) {
  const Placement p = place(b.g, rules, options);
  check_invariants(b.g, rules, p);
  EXPECT_EQ(text_of(b.g, place(b.g, rules, options)), text_of(b.g, p));
  const std::string text = explain(b.g, rules, p);
  for (const auto& q : p.quantizers) EXPECT_THAT(text, HasSubstr(q.reason));
  return text_of(b.g, p);
}

std::string error_of(const Builder& b, const PlacementOptions& options) {
  try {
    place(b.g, sample_rules(), options);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::config);
    return e.what();
  }
  return "no error";
}

TEST(Placement, ResidualBlock) {
  Builder b;
  const ValueId x = b.input("x");
  const ValueId r1 = b.op("Relu", "relu1", {b.conv("conv1", x)});
  const ValueId c2 = b.conv("conv2", r1);
  const ValueId r2 = b.op("Relu", "relu2", {b.op("Add", "add", {c2, r1})});
  b.output({b.conv("conv3", r2)});
  EXPECT_EQ(placed(b), R"(q0 x: u8|s8
q1 conv1_w: w8|w8t axis 0
q2 relu1_out: u8|s8
q3 conv2_w: w8|w8t axis 0
q4 relu2_out: u8|s8
q5 conv3_w: w8|w8t axis 0
unit conv1+relu1 [conv8] input=q0 weight=q1 bias -> q2
unit conv2+add+relu2 [conv8] input=q2 weight=q3 bias residual=q2 -> q4
unit conv3 [conv8] input=q4 weight=q5 bias -> f32
)");
}

TEST(Placement, SharedResidualBetweenTwoConvs) {
  // Both operands of the Add come from convolutions: the later one takes it, whatever the slot.
  for (const bool swapped : {false, true}) {
    Builder b;
    const ValueId x = b.input("x");
    const ValueId a = b.conv("shortcut", x);
    const ValueId c = b.conv("main", b.op("Relu", "relu1", {b.conv("first", x)}));
    const ValueId sum = swapped ? b.op("Add", "add", {c, a}) : b.op("Add", "add", {a, c});
    b.output({b.op("GlobalAveragePool", "gap", {b.op("Relu", "relu2", {sum})})});
    EXPECT_EQ(placed(b), R"(q0 x: u8|s8
q1 shortcut_w: w8|w8t axis 0
q2 shortcut_out: u8|s8
q3 first_w: w8|w8t axis 0
q4 relu1_out: u8|s8
q5 main_w: w8|w8t axis 0
q6 relu2_out: u8
unit shortcut [conv8] input=q0 weight=q1 bias -> q2
unit first+relu1 [conv8] input=q0 weight=q3 bias -> q4
unit main+add+relu2 [conv8] input=q4 weight=q5 bias residual=q2 -> q6
unit gap [avg8] input=q6 -> f32
)");
  }
}

TEST(Placement, DepthwiseAndPointwise) {
  Builder b;
  const ValueId x = b.input("x");
  const ValueId dw = b.op("Conv", "dw", {x, b.constant("dw_w", {8, 1, 3, 3}), b.constant("dw_b", {8})}, {{"group", int64_t{8}}});
  const ValueId clip = b.op("Clip", "clip1", {dw, b.constant("zero", {}), b.constant("six", {})});
  const ValueId pw = b.op("Conv", "pw", {clip, b.constant("pw_w", {8, 8, 1, 1}), b.constant("pw_b", {8})});
  b.output({b.op("Clip", "clip2", {pw, b.constant("zero2", {}), b.constant("six2", {})})});
  EXPECT_EQ(placed(b), R"(q0 x: u8|s8
q1 dw_w: w8|w8t axis 0
q2 clip1_out: u8|s8
q3 pw_w: w8|w8t axis 0
unit dw+clip1 [conv8] input=q0 weight=q1 bias -> q2
unit pw+clip2 [conv8] input=q2 weight=q3 bias -> f32
)");
}

TEST(Placement, ClipWithMovingBoundsIsNotFused) {
  Builder b;
  const ValueId x = b.input("x");
  b.output({b.op("Clip", "clip", {b.conv("conv", x), b.input("low"), b.input("high")})});
  EXPECT_THAT(placed(b), AllOf(HasSubstr("unit conv [conv8]"), HasSubstr("float clip")));
}

TEST(Placement, ConcatOfTwoBranches) {
  Builder b;
  const ValueId x = b.input("x");
  const ValueId left = b.op("Relu", "relu_l", {b.conv("left", x)});
  const ValueId right = b.conv("right", x);
  const ValueId cat = b.op("Concat", "cat", {left, right}, {{"axis", int64_t{1}}});
  b.output({b.conv("last", b.op("MaxPool", "pool", {cat}))});
  EXPECT_EQ(placed(b), R"(q0 x: u8|s8
q1 left_w: w8|w8t axis 0
q2 relu_l_out: u8|s8 tie 0
q3 right_w: w8|w8t axis 0
q4 right_out: u8|s8 tie 0
q5 cat_out: u8|s8 tie 0
q6 last_w: w8|w8t axis 0
unit left+relu_l [conv8] input=q0 weight=q1 bias -> q2
unit right [conv8] input=q0 weight=q3 bias -> q4
unit cat [concat8] in0=q2 in1=q4 -> q5
unit pool [max8] input=q5 -> q5
unit last [conv8] input=q5 weight=q6 bias -> f32
)");
}

TEST(Placement, NestedConcatsAreOneTie) {
  Builder b;
  const ValueId x = b.input("x");
  const ValueId a = b.conv("a", x), c = b.conv("c", x), d = b.conv("d", x);
  const ValueId cat1 = b.op("Concat", "cat1", {a, c});
  const ValueId cat2 = b.op("Concat", "cat2", {cat1, d});
  b.output({b.op("GlobalAveragePool", "gap", {cat2})});  // u8 only
  const std::string text = placed(b);
  for (const char* v : {"a_out: u8 tie 0", "c_out: u8 tie 0", "d_out: u8 tie 0", "cat1_out: u8 tie 0", "cat2_out: u8 tie 0"}) EXPECT_THAT(text, HasSubstr(v));
}

TEST(Placement, ConcatAlsoReadElsewhere) {
  // The branch is read by another consumer too: one quantizer, tied.
  Builder b;
  const ValueId x = b.input("x");
  const ValueId a = b.conv("a", x);
  const ValueId cat = b.op("Concat", "cat", {a, b.conv("c", x)});
  b.output({b.conv("after", cat), b.conv("beside", a)});
  EXPECT_THAT(placed(b), AllOf(HasSubstr("unit beside [conv8] input=q2"), HasSubstr("unit cat [concat8] in0=q2 in1=q4 -> q5")));
}

TEST(Placement, MaxPoolPassesThrough) {
  Builder b;
  const ValueId x = b.input("x");
  const ValueId r = b.op("Relu", "relu", {b.conv("conv1", x)});
  b.output({b.conv("conv2", b.op("MaxPool", "pool", {r}))});
  EXPECT_EQ(placed(b), R"(q0 x: u8|s8
q1 conv1_w: w8|w8t axis 0
q2 relu_out: u8|s8
q3 conv2_w: w8|w8t axis 0
unit conv1+relu [conv8] input=q0 weight=q1 bias -> q2
unit pool [max8] input=q2 -> q2
unit conv2 [conv8] input=q2 weight=q3 bias -> f32
)");
  const Placement p = place(b.g, sample_rules());
  EXPECT_EQ(p.quantizer_at(b.value("pool_out"), b.g.find_node("conv2"), 0), 2);
  EXPECT_EQ(p.quantizer_at(b.value("conv2_b"), b.g.find_node("conv2"), 2), -1);
  EXPECT_THAT(p.quantizers[2].reason, AllOf(HasSubstr("Conv 'conv2' takes u8 or s8 at 'input'"), HasSubstr("moved up through MaxPool 'pool'")));
}

TEST(Placement, LayoutInFrontOfTheNetwork) {
  Builder b;
  const ValueId x = b.input("x");
  const ValueId t = b.op("Transpose", "t", {b.op("Reshape", "r", {x, b.constant("s", {4})})});
  b.output({b.conv("conv", t)});
  EXPECT_EQ(placed(b), R"(q0 x: u8|s8
q1 conv_w: w8|w8t axis 0
unit r [move8] input=q0 -> q0
unit t [move8] input=q0 -> q0
unit conv [conv8] input=q0 weight=q1 bias -> f32
)");
  // Rules that quantize no model inputs leave what touches one to the host.
  Rules rules = sample_rules();
  rules.quantize_model_inputs = false;
  EXPECT_EQ(placed(b, {}, rules), R"(q0 r_out: u8|s8
q1 conv_w: w8|w8t axis 0
unit t [move8] input=q0 -> q0
unit conv [conv8] input=q0 weight=q1 bias -> f32
float r
)");
}

TEST(Placement, BranchWithAFloatConsumer) {
  Builder b;
  const ValueId x = b.input("x");
  const ValueId r = b.op("Relu", "relu", {b.conv("conv1", x)});
  b.output({b.conv("conv2", r), b.op("Softmax", "soft", {r})});
  EXPECT_EQ(placed(b), R"(q0 x: u8|s8
q1 conv1_w: w8|w8t axis 0
q2 relu_out: u8|s8
q3 conv2_w: w8|w8t axis 0
unit conv1+relu [conv8] input=q0 weight=q1 bias -> q2
unit conv2 [conv8] input=q2 weight=q3 bias -> f32
float soft
)");
}

TEST(Placement, FloatProducer) {
  Builder b;
  const ValueId x = b.input("x");
  const ValueId s = b.op("Softmax", "soft", {x});
  b.output({b.conv("conv", b.op("MaxPool", "pool", {s})), b.op("Sigmoid", "sig", {s})});
  EXPECT_EQ(placed(b), R"(q0 soft_out: u8|s8
q1 conv_w: w8|w8t axis 0
unit pool [max8] input=q0 -> q0
unit conv [conv8] input=q0 weight=q1 bias -> f32
float soft
float sig
)");
}

TEST(Placement, PassthroughWithAFloatBranchIsNotCrossed) {
  Builder b;
  const ValueId x = b.input("x");
  const ValueId p = b.op("MaxPool", "pool", {b.op("Softmax", "soft", {x})});
  b.output({b.conv("conv", p), p});
  EXPECT_EQ(placed(b), R"(q0 pool_out: u8|s8
q1 conv_w: w8|w8t axis 0
unit conv [conv8] input=q0 weight=q1 bias -> f32
float soft
float pool
)");
}

TEST(Placement, PassthroughBehindIntegersThatAreThere) {
  // conv1's output is consumed as integers anyway: the pool moves those, and only the float consumer reads floats.
  Builder b;
  const ValueId x = b.input("x");
  const ValueId c = b.conv("conv1", x);
  const ValueId p = b.op("MaxPool", "pool", {c});
  b.output({b.conv("conv2", c), b.conv("conv3", p), p});
  EXPECT_THAT(placed(b), AllOf(HasSubstr("unit pool [max8] input=q2 -> q2"), HasSubstr("unit conv3 [conv8] input=q2")));
}

TEST(Placement, LonePassthroughStaysFloat) {
  Builder b;
  const ValueId x = b.input("x");
  b.output({b.op("Softmax", "b", {b.op("MaxPool", "pool", {b.op("Softmax", "a", {x})})})});
  EXPECT_EQ(placed(b), "float a\nfloat pool\nfloat b\n");
}

TEST(Placement, HeadWithReshapeGemmAndFloatSoftmax) {
  Builder b;
  const ValueId x = b.input("x");
  const ValueId pool = b.op("AveragePool", "avg", {b.op("Relu", "relu", {b.conv("conv", x)})});
  const ValueId flat = b.op("Reshape", "flat", {pool, b.g.add_constant("shape", Tensor::of<int64_t>({2}, std::vector<int64_t>{-1, 8}))});
  const ValueId y = b.op("Gemm", "fc", {flat, b.constant("fc_w", {8, 4}), b.constant("fc_b", {4})});
  b.output({b.op("Softmax", "soft", {y})});
  EXPECT_EQ(placed(b), R"(q0 x: u8|s8
q1 conv_w: w8|w8t axis 0
q2 relu_out: u8
q3 avg_out: u8
q4 fc_w: w8|w8t axis 1
unit conv+relu [conv8] input=q0 weight=q1 bias -> q2
unit avg [avg8] input=q2 -> q3
unit flat [move8] input=q3 -> q3
unit fc [dense_f] input=q3 weight=q4 bias -> f32
float soft
)");
}

TEST(Placement, NoFloatOutputNeedsAQuantizer) {
  // MaxPool's and Gemm's rules: a config for each; without the float one the output is quantized, then dequantized.
  Builder b;
  const ValueId x = b.input("x");
  b.output({b.op("Softmax", "soft", {b.op("Gemm", "fc", {x, b.constant("w", {4, 8})}, {{"transB", int64_t{1}}})})});
  Rules rules = sample_rules();
  for (auto& rule : rules.ops) if (rule.match.op == "Gemm") rule.configs.pop_back();
  EXPECT_EQ(placed(b, {}, rules), R"(q0 x: u8|s8
q1 w: w8|w8t axis 0
q2 fc_out: u8|s8
unit fc [dense8] input=q0 weight=q1 -> q2
float soft
)");
  rules = sample_rules();
  rules.op_outputs = "always";
  EXPECT_THAT(placed(b, {}, rules), HasSubstr("unit fc [dense8] input=q0 weight=q1 -> q2"));
}

TEST(Placement, ConsumersThatDisagreeRequantizeOnTheBranch) {
  Builder b;
  const ValueId x = b.input("x");
  const ValueId c = b.conv("conv", x);
  b.output({b.op("GlobalAveragePool", "gap", {c}), b.op("Gemm", "fc1", {c, b.constant("w1", {4, 8})}), b.op("Gemm", "fc2", {c, b.constant("w2", {4, 8})})});
  Rules rules = sample_rules();
  for (auto& rule : rules.ops) if (rule.match.op == "Gemm") for (auto& config : rule.configs) config.inputs["input"] = {"s8"};
  EXPECT_EQ(placed(b, {}, rules), R"(q0 x: u8|s8
q1 conv_w: w8|w8t axis 0
q2 conv_out: s8
q3 conv_out for gap[0]: u8
q4 w1: w8|w8t axis 1
q5 w2: w8|w8t axis 1
unit conv [conv8] input=q0 weight=q1 bias -> q2
unit gap [avg8] input=q3 -> f32
unit fc1 [dense_f] input=q2 weight=q4 -> f32
unit fc2 [dense_f] input=q2 weight=q5 -> f32
)");
}

TEST(Placement, ConfigFollowsTheTypesThatAreLeft) {
  // Two configs of Add, each of one type: where one operand can only be u8, the other follows.
  Builder b;
  const ValueId x = b.input("x");
  const ValueId c1 = b.conv("c1", x), c2 = b.conv("c2", x);
  b.output({b.op("Mul", "mul", {c1, c2}), b.op("GlobalAveragePool", "gap", {c2})});
  Rules rules = sample_rules();
  for (auto& rule : rules.ops) {
    if (rule.match.op != "Mul") continue;
    OpConfig s = rule.configs[0], u = rule.configs[0];
    s.id = "mul_s8";
    s.inputs = {{"a", {"s8"}}, {"b", {"s8"}}};
    u.id = "mul_u8";
    u.inputs = {{"a", {"u8"}}, {"b", {"u8"}}};
    rule.configs = {s, u};
  }
  EXPECT_THAT(placed(b, {}, rules), AllOf(HasSubstr("c1_out: u8\n"), HasSubstr("c2_out: u8\n"), HasSubstr("[mul_u8]")));
}

TEST(Placement, ConstantOperandOfAnAddIsAWeight) {
  Builder b;
  const ValueId x = b.input("x");
  b.output({b.op("Add", "add", {x, b.constant("k", {1, 8, 16, 16})})});
  EXPECT_EQ(placed(b), R"(q0 x: u8|s8
q1 k: s8|u8
unit add [pair8] a=q0 b=q1 -> f32
)");
}

TEST(Placement, SameValueTwice) {
  Builder b;
  const ValueId c = b.conv("conv", b.input("x"));
  b.output({b.op("Mul", "square", {c, c})});
  EXPECT_THAT(placed(b), HasSubstr("unit square [pair8] a=q2 b=q2 -> f32"));
}

TEST(Placement, SharedWeightIsOneQuantizer) {
  Builder b;
  const ValueId x = b.input("x"), w = b.constant("w", {8, 8, 3, 3});
  const ValueId c1 = b.op("Conv", "c1", {x, w});
  b.output({b.op("Conv", "c2", {c1, w})});
  EXPECT_EQ(placed(b), R"(q0 x: u8|s8
q1 w: w8|w8t axis 0
q2 c1_out: u8|s8
unit c1 [conv8] input=q0 weight=q1 -> q2
unit c2 [conv8] input=q2 weight=q1 -> f32
)");
}

TEST(Placement, AxisOfMatMulIsTheLast) {
  Builder b;
  const ValueId x = b.input("x");
  b.output({b.op("MatMul", "mm", {x, b.constant("w", {3, 16, 4})})});
  EXPECT_THAT(placed(b), HasSubstr("w: w8|w8t axis 2"));
}

TEST(Placement, ShapesAreNotQuantized) {
  Builder b;
  const ValueId x = b.input("x");
  const ValueId c = b.conv("conv1", x);
  const ValueId shape = b.op("Shape", "shape", {c});
  b.g.value(shape).dtype = DType::s64;
  const ValueId f = b.op("Cast", "to_float", {shape});            // f32, but only for a shape
  const ValueId m = b.op("Mul", "times", {f, b.constant("two", {4})});
  const ValueId i = b.op("Cast", "to_int", {m});
  b.g.value(i).dtype = DType::s64;
  b.output({b.conv("conv2", b.op("Reshape", "r", {c, i}))});
  EXPECT_EQ(placed(b), R"(q0 x: u8|s8
q1 conv1_w: w8|w8t axis 0
q2 conv1_out: u8|s8
q3 conv2_w: w8|w8t axis 0
unit conv1 [conv8] input=q0 weight=q1 bias -> q2
unit r [move8] input=q2 -> q2
unit conv2 [conv8] input=q2 weight=q3 bias -> f32
float shape
float to_float
float times
float to_int
)");
}

TEST(Placement, PinAndForbid) {
  Builder b;
  const ValueId x = b.input("x");
  const ValueId c1 = b.conv("conv1", x);
  const ValueId r = b.op("Relu", "relu", {c1});
  b.output({b.conv("conv2", r)});
  PlacementOptions o;
  o.pin = {"conv1_out", "conv2_out"};
  EXPECT_EQ(placed(b, o), R"(q0 x: u8|s8
q1 conv1_w: w8|w8t axis 0
q2 conv1_out: u8|s8
q3 relu_out: u8|s8
q4 conv2_w: w8|w8t axis 0
q5 conv2_out: u8|s8
unit conv1 [conv8] input=q0 weight=q1 bias -> q2
unit conv2 [conv8] input=q3 weight=q4 bias -> q5
float relu
)");
  o = {};
  o.forbid = {"relu_out"};  // conv2 can't run then
  EXPECT_EQ(placed(b, o), R"(q0 x: u8|s8
q1 conv1_w: w8|w8t axis 0
unit conv1+relu [conv8] input=q0 weight=q1 bias -> f32
float conv2
)");
  o.forbid = {"rel_out"};
  EXPECT_THAT(error_of(b, o), AllOf(HasSubstr("'rel_out' matched no tensor"), HasSubstr("'relu_out'")));
  o.forbid = {"nothing*"};
  EXPECT_THAT(error_of(b, o), HasSubstr("matched no tensor"));
  o.forbid = {"conv?_out"};
  o.pin = {"conv1_out"};
  EXPECT_THAT(error_of(b, o), HasSubstr("pinned and forbidden"));
}

TEST(Placement, PinWhereNothingIsInteger) {
  Builder b;
  const ValueId x = b.input("x");
  b.output({b.op("Softmax", "soft", {b.op("Sigmoid", "sig", {x})})});
  PlacementOptions o;
  o.pin = {"sig_out"};
  EXPECT_THAT(error_of(b, o), HasSubstr("no quantizer can be at 'sig_out'"));
}

TEST(Placement, IgnoredNodes) {
  Builder b;
  const ValueId x = b.input("x");
  const ValueId c1 = b.conv("conv1", x);
  const ValueId c2 = b.conv("conv2", c1);
  b.output({b.conv("conv3", c2)});
  b.g.node(b.g.find_node("conv2")).origin = {"conv2", "bn2"};
  for (const char* name : {"conv2", "bn2", "*2"}) {
    PlacementOptions o;
    o.ignored_nodes = {name};
    EXPECT_EQ(placed(b, o), R"(q0 x: u8|s8
q1 conv1_w: w8|w8t axis 0
q2 conv2_out: u8|s8
q3 conv3_w: w8|w8t axis 0
unit conv1 [conv8] input=q0 weight=q1 bias -> f32
unit conv3 [conv8] input=q2 weight=q3 bias -> f32
float conv2
)");
  }
  PlacementOptions o;
  o.ignored_nodes = {"convv2"};
  EXPECT_THAT(error_of(b, o), AllOf(HasSubstr("'convv2' matched no node"), HasSubstr("'conv2'")));
  o.ignored_nodes = {};
  o.ignored_ops = {"Gemm"};
  EXPECT_THAT(error_of(b, o), HasSubstr("the model has no operator 'Gemm'"));
  o.ignored_ops = {"Conv"};
  EXPECT_EQ(placed(b, o), "float conv1\nfloat conv2\nfloat conv3\n");
}

TEST(Placement, NarrowedByTheUser) {
  Builder b;
  const ValueId x = b.input("x");
  b.output({b.conv("conv2", b.conv("conv1", x))});
  PlacementOptions o;
  o.narrowing.preset = "performance";
  o.narrowing.weights = {{.nodes = "conv2", .op = "", .bits = {}, .symmetric = {}, .per_channel = false}};
  EXPECT_EQ(placed(b, o), R"(q0 x: s8|u8
q1 conv1_w: w8|w8t axis 0
q2 conv1_out: s8|u8
q3 conv2_w: w8t
unit conv1 [conv8] input=q0 weight=q1 bias -> q2
unit conv2 [conv8] input=q2 weight=q3 bias -> f32
)");
  o.narrowing.activations = {{.nodes = "", .op = "Conv", .bits = 4, .symmetric = {}, .per_channel = {}}};
  EXPECT_THAT(error_of(b, o), AllOf(HasSubstr("4 bits"), HasSubstr("u8 (8 bits")));
  o.narrowing.activations = {{.nodes = "cnv*", .op = "", .bits = 8, .symmetric = {}, .per_channel = {}}};
  EXPECT_THAT(error_of(b, o), HasSubstr("'cnv*' matched no node"));
  o.narrowing.activations = {{.nodes = "", .op = "Covn", .bits = 8, .symmetric = {}, .per_channel = {}}};
  EXPECT_THAT(error_of(b, o), HasSubstr("'Conv'"));
}

TEST(Placement, PreferredConfigOfAPreset) {
  Builder b;
  const ValueId x = b.input("x");
  const ValueId c = b.conv("conv", x);
  b.output({b.op("GlobalAveragePool", "gap", {c})});
  Rules rules = sample_rules();
  OpConfig second = rules.ops[0].configs[0];
  second.id = "conv_s8";
  second.inputs["input"] = {"s8"};
  rules.ops[0].configs.push_back(second);
  EXPECT_THAT(placed(b, {}, rules), HasSubstr("conv [conv8]"));
  rules.presets.at("mixed").prefer = {{"Conv", "conv_s8"}};
  EXPECT_THAT(placed(b, {}, rules), AllOf(HasSubstr("conv [conv_s8]"), HasSubstr("x: s8\n")));
}

TEST(Placement, BiasOfAnAddAndMandatorySteps) {
  Rules rules = sample_rules();
  rules.fuse.insert(rules.fuse.begin(), FusePattern{"dot_bias", {{{"Conv", "MatMul"}, false, "", {}, {}}, {{"Add"}, false, "bias", {}, {}}, {{"Relu"}, true, "", {}, {}}}});
  // A pattern whose end is mandatory takes nothing when the end does not come.
  rules.fuse.push_back(FusePattern{"swish_like", {{{"Conv"}, false, "", {}, {}}, {{"Sigmoid"}, false, "", {}, {}}, {{"Relu"}, false, "", {}, {}}}});
  Builder b;
  const ValueId x = b.input("x");
  const ValueId mm = b.op("MatMul", "mm", {x, b.constant("w", {16, 4})});
  const ValueId row = b.op("Add", "row", {b.constant("bias", {4}), mm});
  const ValueId s1 = b.op("Sigmoid", "s1", {b.conv("c1", b.op("Relu", "relu", {row}))});
  b.output({b.op("Softmax", "soft", {s1}), b.op("Relu", "r2", {b.op("Sigmoid", "s2", {b.conv("c2", x)})})});
  const std::string text = placed(b, {}, rules);
  EXPECT_THAT(text, AllOf(HasSubstr("unit mm+row+relu [dense8] input=q0 weight=q1 bias -> q2"), HasSubstr("unit c1 [conv8]"), HasSubstr("float s1\n"),
                          HasSubstr("unit c2+s2+r2 [conv8]")));
}

// A pattern may write less than its config does, and take constants of one element only.
TEST(Placement, PatternsLimitOutputsAndConstants) {
  Rules rules = sample_rules();
  FuseStep prelu{{"PRelu"}, false, "", {}, {}};
  prelu.scalar = true;
  rules.fuse = {{"bounded", {{{"Conv"}, false, "", {}, {}}, {{"Sigmoid"}, false, "", {}, {}}}},
                {"codes", {{{"Conv"}, false, "", {}, {}}, prelu}, {"u8"}}};
  Builder b;
  const ValueId x = b.input("x");
  b.output({b.op("Sigmoid", "s", {b.conv("c1", x)}), b.op("PRelu", "one", {b.conv("c2", x), b.constant("slope", {1})}),
            b.op("PRelu", "many", {b.conv("c3", x), b.constant("slopes", {8, 1, 1})})});
  const std::string text = placed(b, {}, rules);
  EXPECT_THAT(text, AllOf(HasSubstr("unit c1+s [conv8] input=q0 weight=q1 bias -> f32"), HasSubstr("unit c2+one [conv8]"), HasSubstr("unit c3 [conv8]"),
                          HasSubstr("float many\n"), HasSubstr(" one_out: u8\n")));
}

TEST(Placement, FloatNodesSayWhy) {
  Builder b;
  const ValueId x = b.input("x");
  const ValueId c = b.conv("grouped", x, {{"group", int64_t{5000}}});
  b.output({b.op("Softmax", "soft", {b.op("MaxPool", "pool", {c})}), b.op("Split", "split", {x})});
  const Placement p = place(b.g, sample_rules());
  std::map<std::string, std::string> why;
  for (const auto& f : p.floats) why[b.g.node(f.node).name] = f.reason;
  EXPECT_THAT(why["grouped"], HasSubstr("group 5000 is above the limit of 4096"));
  EXPECT_THAT(why["soft"], HasSubstr("Softmax has no rule"));
  EXPECT_THAT(why["pool"], HasSubstr("nothing integer consumes its output"));
}

TEST(Placement, WrongTypesStayFloat) {
  Builder b;
  const ValueId x = b.input("x");
  b.g.value(x).dtype = DType::f64;
  b.output({b.conv("conv", x)});
  EXPECT_THAT(placed(b), HasSubstr("float conv"));
}

// Random graphs, rules with several configs, random wishes: the invariants hold, and errors are the user's.
TEST(Placement, RandomGraphs) {
  uint64_t state = 12345;
  const auto random = [&](int n) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<int>((state >> 33) % static_cast<uint64_t>(n));
  };
  const char* ops[] = {"Conv", "Relu", "Add", "Mul", "Concat", "MaxPool", "Reshape", "GlobalAveragePool", "Softmax", "Gemm", "Clip"};
  int refused = 0, units = 0;
  for (int round = 0; round < 400; ++round) {
    Builder b;
    std::vector<ValueId> values = {b.input("x"), b.input("y")};
    const int n = 3 + random(25);
    for (int i = 0; i < n; ++i) {
      const std::string op = ops[random(11)], name = "n" + std::to_string(i);
      // Mostly recent values, so that chains and residuals come about.
      const auto pick = [&] { return values[static_cast<size_t>(std::max<int>(0, static_cast<int>(values.size()) - 1 - random(random(3) ? 2 : 30)))]; };
      const ValueId a = pick();
      if (op == "Conv") values.push_back(b.conv(name, a));
      else if (op == "Gemm") values.push_back(b.op(op, name, {a, b.constant("w" + name, {8, 8})}));
      else if (op == "Concat" || op == "Add" || op == "Mul") values.push_back(b.op(op, name, {a, random(6) ? pick() : b.constant("k" + name, {8})}));
      else values.push_back(b.op(op, name, {a}));
    }
    std::vector<ValueId> outputs = {values.back()};
    for (int i = random(3); i > 0; --i) outputs.push_back(values[static_cast<size_t>(2 + random(n))]);
    std::sort(outputs.begin(), outputs.end());
    outputs.erase(std::unique(outputs.begin(), outputs.end()), outputs.end());
    b.output(outputs);
    Rules rules = sample_rules();
    if (random(2)) for (auto& rule : rules.ops) if (rule.match.op == "Gemm") for (auto& c : rule.configs) c.inputs["input"] = {"s8"};
    if (random(2)) for (auto& rule : rules.ops) if (rule.match.op == "Conv") rule.configs[0].output = {"s8"};
    if (random(3) == 0) rules.tie.push_back({"Add", true, random(2) == 0, "max_range"});
    if (random(4) == 0) rules.op_outputs = "always";
    PlacementOptions o;
    const auto value_name = [&] { return b.g.value(values[static_cast<size_t>(random(static_cast<int>(values.size())))]).name; };
    if (random(4) == 0) o.forbid = {value_name()};
    if (random(4) == 0) o.pin = {value_name()};
    if (random(4) == 0) o.ignored_nodes = {"n" + std::to_string(random(n))};
    SCOPED_TRACE(round);
    try {
      const Placement p = place(b.g, rules, o);
      units += static_cast<int>(p.units.size());
      check_invariants(b.g, rules, p);
      EXPECT_EQ(text_of(b.g, place(b.g, rules, o)), text_of(b.g, p));
      int before = -1;
      std::map<NodeId, int> position;
      for (const NodeId id : b.g.order()) position[id] = static_cast<int>(position.size());
      std::map<ValueId, int> carried;
      const auto uses = b.g.uses();
      for (const auto& u : p.units) {
        EXPECT_LT(before, position[u.members.back()]);
        before = position[u.members.back()];
        for (size_t m = 0; m + 1 < u.members.size(); ++m) EXPECT_EQ(uses[static_cast<size_t>(b.g.node(u.members[m]).outputs[0])].size(), 1u);
        if (u.output_quantizer >= 0) carried[u.output] = u.output_quantizer;
      }
      for (const auto& u : p.units) {
        // A unit that shares its input's quantizer reads and writes the same codes.
        for (const auto& operand : u.operands) {
          if (operand.quantizer < 0 || o.forbid.empty()) continue;
          EXPECT_NE(b.g.value(operand.value).name, o.forbid[0]);
        }
        const std::string& op = b.g.node(u.members[0]).op;
        if ((op == "MaxPool" || op == "Reshape") && u.members.size() == 1) { EXPECT_EQ(u.operands[0].quantizer, u.output_quantizer); }
        if (op == "Concat") {
          for (const auto& operand : u.operands) EXPECT_TRUE(operand.quantizer == u.output_quantizer || p.quantizers[static_cast<size_t>(operand.quantizer)].tie == p.quantizers[static_cast<size_t>(u.output_quantizer)].tie);
        }
      }
      if (!o.pin.empty()) {
        const ValueId v = b.value(o.pin[0]);
        bool found = carried.count(v) != 0;
        for (const auto& u : p.units) for (const auto& operand : u.operands) found = found || (operand.value == v && operand.quantizer >= 0);
        EXPECT_TRUE(found);
      }
    } catch (const Error& e) {
      EXPECT_TRUE(e.code() == ErrorCode::config || e.code() == ErrorCode::plugin) << e.what();
      ++refused;
    }
  }
  EXPECT_LT(refused, 120);
  EXPECT_GT(units, 1500);
}

// Ten thousand nodes of everything, under a second.
TEST(Placement, TenThousandNodes) {
  Builder b;
  ValueId x = b.input("x");
  for (int i = 0; i < 2000; ++i) {
    const std::string n = std::to_string(i);
    const ValueId a = b.op("Relu", "relu" + n, {b.conv("conv" + n, x)});
    const ValueId r = b.op("Reshape", "reshape" + n, {a, b.constant("shape" + n, {4})});
    const ValueId y = b.op("Add", "add" + n, {b.conv("second" + n, r), a});
    x = i % 10 == 9 ? b.op("Concat", "concat" + n, {y, a}) : i % 10 == 4 ? b.op("Sigmoid", "sigmoid" + n, {y}) : y;
  }
  b.output({x});
  const Rules rules = sample_rules();
  const auto begin = std::chrono::steady_clock::now();
  const Placement p = place(b.g, rules);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  EXPECT_EQ(p.floats.size(), 201u);  // the Sigmoids, and the Concat at the end
  EXPECT_LT(seconds, 20.0);  // measured: well below one; loose for busy machines and sanitizers
  RecordProperty("seconds", std::to_string(seconds));
  if (std::getenv("QUERN_PRINT_TIMES")) fmt::print("placed {} nodes in {:.3f} s\n", b.g.node_slots(), seconds);

  // A long chain of passthroughs, and one value with many consumers.
  Builder c;
  ValueId v = c.input("x");
  for (int i = 0; i < 10000; ++i) v = c.op("Reshape", "r" + std::to_string(i), {v, c.constant("s", {4})});
  std::vector<ValueId> outputs;
  for (int i = 0; i < 3000; ++i) outputs.push_back(c.conv("c" + std::to_string(i), v));
  c.output(outputs);
  const auto again = std::chrono::steady_clock::now();
  EXPECT_TRUE(place(c.g, rules).floats.empty());
  EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - again).count(), 20.0);
}

}  // namespace
}  // namespace quern
