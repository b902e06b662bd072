// Golden placements of the blocks that today's networks are made of, written as exporters write them and brought to canonical form.
// First under rules of a made-up accelerator (blocks.hpp), then under the cpu target's own.
#include <gmock/gmock.h>

#include <algorithm>
#include <set>

#include "core/base/files.hpp"
#include "tests/placement/blocks.hpp"

namespace quern {
namespace {

using namespace blocks;

// ---- the blocks ------------------------------------------------------------------------------------------------------------

enum class Swish { whole, pieces, hard, hard_pieces };

ValueId swish(Net& n, const std::string& name, ValueId x, Swish how) {
  if (how == Swish::whole) return n.op("Swish", name, {x});
  if (how == Swish::hard) return n.op("HardSwish", name, {x});
  if (how == Swish::pieces) return n.op("Mul", name, {x, n.op("Sigmoid", name + "_gate", {x})});
  const ValueId clip = n.op("Clip", name + "_clip", {n.op("Add", name + "_add", {x, n.c(3)}), n.c(0), n.c(6)});
  return n.op("Div", name, {n.op("Mul", name + "_mul", {x, clip}), n.c(6)});
}

Graph swish_network(Swish how) {
  Net n;
  const ValueId x = n.input("x", {-1, 4, 8, 8});
  return n.done({n.conv("conv2", swish(n, "act", n.conv("conv1", x, 4, 8), how), 8, 8)});
}

// MobileNetV3's: the gate by hard sigmoid, the mean as PyTorch (GlobalAveragePool) or TensorFlow (ReduceMean) write it.
Graph squeeze_excite(bool pool) {
  Net n;
  const ValueId x = n.op("Relu", "relu0", {n.conv("conv0", n.input("x", {-1, 4, 8, 8}), 4, 8)});
  const ValueId mean = pool ? n.op("GlobalAveragePool", "mean", {x})
                            : n.op("ReduceMean", "mean", {x}, {{"axes", std::vector<int64_t>{2, 3}}, {"keepdims", int64_t{1}}});
  const ValueId reduced = n.op("Relu", "relu1", {n.conv("reduce", mean, 8, 4, 1)});
  const ValueId gate = n.op("Div", "gate", {n.op("Clip", "clip", {n.op("Add", "plus3", {n.conv("expand", reduced, 4, 8, 1), n.c(3)}), n.c(0), n.c(6)}), n.c(6)});
  return n.done({n.conv("conv1", n.op("Mul", "scale", {x, gate}), 8, 8)});
}

ValueId layer_norm(Net& n, const std::string& name, ValueId x, int64_t wide) {
  const std::map<std::string, Attribute> last{{"axes", std::vector<int64_t>{-1}}};
  const ValueId d = n.op("Sub", name + "_sub", {x, n.op("ReduceMean", name + "_mean", {x}, last)});
  const ValueId v = n.op("ReduceMean", name + "_variance", {n.op("Pow", name + "_pow", {d, n.c(2)})}, last);
  const ValueId norm = n.op("Div", name + "_div", {d, n.op("Sqrt", name + "_sqrt", {n.op("Add", name + "_eps", {v, n.c(1e-5F)})})});
  return n.op("Add", name, {n.op("Mul", name + "_mul", {norm, n.numbers(name + "_w", {wide})}), n.numbers(name + "_b", {wide})});
}

// Pre-norm block: x + attention(norm(x)), then x + mlp(norm(x)).
Graph attention() {
  Net n;
  const ValueId x = n.dense("embed", n.input("x", {-1, 16, 8}), 8, 8);
  const ValueId h = layer_norm(n, "norm1", x, 8);
  const auto heads = [&](const std::string& name, const std::vector<int64_t>& perm) {
    return n.op("Transpose", name + "_heads", {n.op("Reshape", name + "_split", {n.dense(name, h, 8, 8), n.i({-1, 16, 2, 4})})}, {{"perm", perm}});
  };
  const ValueId q = heads("q", {0, 2, 1, 3}), k = heads("k", {0, 2, 3, 1}), v = heads("v", {0, 2, 1, 3});
  const ValueId scores = n.op("Div", "scaled", {n.op("MatMul", "scores", {q, k}), n.c(2)});
  const ValueId p = n.op("Softmax", "softmax", {scores}, {{"axis", int64_t{-1}}});
  const ValueId merged = n.op("Reshape", "merge", {n.op("Transpose", "back", {n.op("MatMul", "mix", {p, v})}, {{"perm", std::vector<int64_t>{0, 2, 1, 3}}}), n.i({-1, 16, 8})});
  const ValueId y = n.op("Add", "residual1", {x, n.dense("out", merged, 8, 8)});
  const ValueId m = n.dense("mlp1", layer_norm(n, "norm2", y, 8), 8, 16);
  const ValueId gate = n.op("Add", "gelu_one", {n.op("Erf", "gelu_erf", {n.op("Div", "gelu_div", {m, n.c(1.41421356F)})}), n.c(1)});
  const ValueId act = n.op("Mul", "gelu", {n.op("Mul", "gelu_mul", {m, gate}), n.c(0.5F)});
  return n.done({n.op("Add", "residual2", {y, n.dense("mlp2", act, 16, 8)})});
}

Graph unet() {
  Net n;
  const ValueId x = n.op("Relu", "relu1", {n.conv("down1", n.input("x", {-1, 3, 16, 16}), 3, 8)});
  const ValueId low = n.op("Relu", "relu2", {n.conv("down2", n.op("MaxPool", "pool", {x}, {{"kernel_shape", std::vector<int64_t>{2, 2}}, {"strides", std::vector<int64_t>{2, 2}}}), 8, 16)});
  const ValueId up = n.op("ConvTranspose", "up", {low, n.numbers("up_w", {16, 8, 2, 2}), n.numbers("up_b", {8})}, {{"strides", std::vector<int64_t>{2, 2}}});
  const ValueId both = n.op("Concat", "concat", {up, x}, {{"axis", int64_t{1}}});
  const ValueId y = n.op("Relu", "relu3", {n.conv("merge", both, 16, 8)});
  return n.done({n.op("Sigmoid", "mask", {n.conv("head", y, 8, 1, 1)})});
}

Graph detection() {
  Net n;
  const ValueId x = n.op("Relu", "relu", {n.conv("body", n.input("x", {1, 3, 8, 8}), 3, 8)});
  const ValueId small = n.op("MaxPool", "pool", {x}, {{"kernel_shape", std::vector<int64_t>{2, 2}}, {"strides", std::vector<int64_t>{2, 2}}});
  const auto rows = [&](const std::string& name, ValueId v, int64_t wide) {
    const ValueId t = n.op("Transpose", name + "_t", {n.conv(name, v, 8, wide, 1)}, {{"perm", std::vector<int64_t>{0, 2, 3, 1}}});
    return n.op("Reshape", name + "_r", {t, n.i({1, -1, wide})});
  };
  const ValueId boxes = n.op("Concat", "boxes", {rows("box1", x, 4), rows("box2", small, 4)}, {{"axis", int64_t{1}}});
  const ValueId logits = n.op("Concat", "logits", {rows("class1", x, 3), rows("class2", small, 3)}, {{"axis", int64_t{1}}});
  const ValueId scores = n.op("Transpose", "scores", {n.op("Sigmoid", "sigmoid", {logits})}, {{"perm", std::vector<int64_t>{0, 2, 1}}});
  const ValueId most = n.g.add_constant("most", Tensor::of<int64_t>({1}, std::vector<int64_t>{10}));
  const ValueId overlap = n.g.add_constant("overlap", Tensor::of<float>({1}, std::vector<float>{0.5F}));
  return n.done({n.op("NonMaxSuppression", "nms", {boxes, scores, most, overlap})});
}

// Every attribute of Gemm.
Graph gemm(int64_t turned) {
  Net n;
  const ValueId x = n.input("x", turned ? Dims{8, 5} : Dims{5, 8});
  return n.done({n.op("Gemm", "gemm", {x, n.numbers("w", {8, 4}), n.numbers("b", {1, 4})}, {{"transA", turned}, {"alpha", 0.5F}, {"beta", 3.0F}})});
}

// ---- under the made-up rules -------------------------------------------------------------------------------------------------

TEST(Blocks, SwishWholeAndInPieces) {
  for (const Swish how : {Swish::whole, Swish::pieces, Swish::hard, Swish::hard_pieces}) EXPECT_EQ(placed(swish_network(how)), R"(q0 x
q2 act_out
conv1+act [dot] input=q0 -> q2
conv2 [dot] input=q2 -> f32
)");
}

TEST(Blocks, SqueezeExcite) {
  for (const bool pool : {true, false}) EXPECT_EQ(placed(squeeze_excite(pool)), R"(q0 x
q2 relu0_out
q3 mean_out
q5 relu1_out
q7 gate_out
q8 scale_out
conv0+relu0 [dot] input=q0 -> q2
mean [average] input=q2 -> q3
reduce+relu1 [dot] input=q3 -> q5
expand+gate [dot] input=q5 -> q7
scale [pair] a=q2 b=q7 -> q8
conv1 [dot] input=q8 -> f32
)");
}

// Only what integers can't do well is float: the two normalisations and the Softmax, and with them the sums of the stream that they read.
TEST(Blocks, Attention) {
  EXPECT_EQ(placed(attention()), R"(q0 x
q2 norm1_out
q4 q_add_out
q6 k_add_out
q8 v_add_out
q9 softmax_out
q10 mix_out
q12 norm2_out
q14 gelu_out
embed+embed_add [dot] input=q0 -> f32
q+q_add [dot] input=q2 -> q4
q_split [move] input=q4 -> q4
q_heads [move] input=q4 -> q4
k+k_add [dot] input=q2 -> q6
k_split [move] input=q6 -> q6
k_heads [move] input=q6 -> q6
v+v_add [dot] input=q2 -> q8
v_split [move] input=q8 -> q8
v_heads [move] input=q8 -> q8
scores [product] input=q4 weight=q6 -> f32
mix [product] input=q9 weight=q8 -> q10
back [move] input=q10 -> q10
merge [move] input=q10 -> q10
out+out_add [dot] input=q10 -> f32
mlp1+mlp1_add+gelu [dot] input=q12 -> q14
mlp2+mlp2_add [dot] input=q14 -> f32
float LayerNormalization norm1
float Softmax softmax
float Add residual1
float LayerNormalization norm2
float Add residual2
)");
}

TEST(Blocks, UnetWithTransposedConvolution) {
  EXPECT_EQ(placed(unet()), R"(q0 x
q2 relu1_out tie 0
q4 relu2_out
q6 up_out tie 0
q7 concat_out tie 0
q9 relu3_out
down1+relu1 [dot] input=q0 -> q2
pool [max] input=q2 -> q2
down2+relu2 [dot] input=q2 -> q4
up [dot] input=q4 -> q6
concat [concat] in0=q6 in1=q2 -> q7
merge+relu3 [dot] input=q7 -> q9
head+mask [dot] input=q9 -> f32
)");
}

// Boxes and scores are not rounded on their way to the suppression: the last convolutions write floats.
TEST(Blocks, DetectionHead) {
  EXPECT_EQ(placed(detection()), R"(q0 x
q2 relu_out
body+relu [dot] input=q0 -> q2
pool [max] input=q2 -> q2
box1 [dot] input=q2 -> f32
box2 [dot] input=q2 -> f32
class1 [dot] input=q2 -> f32
class2 [dot] input=q2 -> f32
float Transpose box1_t
float Reshape box1_r
float Transpose box2_t
float Reshape box2_r
float Concat boxes
float Transpose class1_t
float Reshape class1_r
float Transpose class2_t
float Reshape class2_r
float Concat logits
float Sigmoid sigmoid
float Transpose scores
float NonMaxSuppression nms
)");
}

// ---- decisions that these blocks rest on ---------------------------------------------------------------------------------------

// A residual stream that moves: the sum stays in integers for the next sum, and the normalisation reads the same numbers.
TEST(Blocks, IntegersAreMovedForAllConsumers) {
  Net n;
  const ValueId x = n.conv("conv1", n.input("x", {-1, 4, 8, 8}), 4, 8);
  const ValueId moved = n.op("Reshape", "flat", {x, n.i({-1, 8, 64})});
  const Graph g = n.done({n.op("Softmax", "soft", {moved}, {{"axis", int64_t{-1}}}), n.dense("dense", moved, 64, 4)});
  EXPECT_EQ(placed(g), R"(q0 x
q2 conv1_out
conv1 [dot] input=q0 -> q2
flat [move] input=q2 -> q2
dense+dense_add [dot] input=q2 -> f32
float Softmax soft
)");
}

// The factor before a Softmax is no reason to round the product to 8 bits.
TEST(Blocks, AFactorBetweenFloatsStaysFloat) {
  Net n;
  const ValueId a = n.input("a", {2, 4, 8}), b = n.input("b", {2, 8, 4});
  const ValueId scaled = n.op("Mul", "scaled", {n.op("MatMul", "scores", {a, b}), n.c(0.5F)});
  const Graph g = n.done({n.op("Softmax", "soft", {n.op("Add", "mask", {scaled, n.numbers("m", {4, 4})})}, {{"axis", int64_t{-1}}})});
  EXPECT_EQ(placed(g), R"(q0 a
q1 b
scores [product] input=q0 weight=q1 -> f32
float Mul scaled
float Add mask
float Softmax soft
)");
  const Placement p = place(g, block_rules());
  EXPECT_EQ(reason_of(g, p, "scaled"), "Mul is left in float: only floats are read from its output, and integers before it would serve it alone");
  // Something integer behind it, and it is integer too.
  Net m;
  const ValueId c = m.op("Mul", "scaled", {m.op("MatMul", "scores", {m.input("a", {2, 4, 8}), m.input("b", {2, 8, 4})}), m.numbers("factors", {4, 4})});
  EXPECT_THAT(placed(m.done({m.dense("dense", c, 4, 4)})), ::testing::HasSubstr("scaled [pair] a=q2 -> q"));
  // The rules' wish, or the user's, is above it.
  PlacementOptions pin;
  pin.pin = {"scaled_out"};
  EXPECT_EQ(reason_of(g, place(g, block_rules(), pin), "scaled"), "");
}

// ---- under the cpu target's rules ------------------------------------------------------------------------------------------------

// On the cpu target every operator that its rules have an entry for runs in integers, except those in `floats`; no tensor is rounded a second
// time on a branch.
void expect_on_cpu(const Graph& g, const std::set<std::string>& floats = {}) {
  const char* source = std::getenv("QUERN_SOURCE_DIR");
  ASSERT_NE(source, nullptr);
  const fs::path path = fs::path(source) / "plugins/cpu/rules.json";
  for (const char* profile : {"vnni", "avx2", "sse41"}) {
    const Rules rules = parse_rules(read_text(path), path.string(), profile);
    const auto has_entry = [&](const std::string& op) {
      return std::any_of(rules.ops.begin(), rules.ops.end(), [&](const OpRule& rule) { return rule.match.op == op; });
    };
    for (const char* op : {"Conv", "ConvTranspose", "MatMul"}) ASSERT_TRUE(has_entry(op));
    const Placement p = place(g, rules);
    if (std::getenv("QUERN_PRINT_PLACEMENT")) std::puts(explain(g, rules, p).c_str());
    for (const auto& f : p.floats) {
      const std::string& op = g.node(f.node).op;
      EXPECT_TRUE(!has_entry(op) || floats.count(op)) << op << " " << g.node(f.node).name << ": " << f.reason;
    }
    for (const auto& q : p.quantizers) EXPECT_EQ(q.consumer, no_node) << q.reason;
  }
}

TEST(Blocks, OnTheCpuTarget) {
  for (const Swish how : {Swish::whole, Swish::pieces, Swish::hard, Swish::hard_pieces}) expect_on_cpu(swish_network(how));
  for (const bool pool : {true, false}) expect_on_cpu(squeeze_excite(pool));
  expect_on_cpu(attention(), {"Add"});  // the sums of the stream that the normalisations read
  expect_on_cpu(unet());
  for (const int64_t turned : {0, 1}) expect_on_cpu(gemm(turned));
  expect_on_cpu(detection(), {"Transpose", "Reshape", "Concat", "Sigmoid"});  // on the way to the suppression
}

}  // namespace
}  // namespace quern
