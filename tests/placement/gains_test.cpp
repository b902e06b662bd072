// What stays float because integers would be rounded for nothing, and what close by stays integer.
#include <gmock/gmock.h>

#include <chrono>

#include "tests/placement/blocks.hpp"

namespace quern {
namespace {

using namespace blocks;
using ::testing::HasSubstr;
using ::testing::Not;
using L = std::vector<int64_t>;

// A mask times features that a normalization (here Softmax) reads as floats, on the way to a decoder.
struct Masked {
  Net n;
  ValueId features, mask;
  explicit Masked(bool floats) {
    features = n.op("Transpose", "turned", {n.conv("encoder", n.input("x", {1, 4, 8, 8}), 4, 8, 1)}, {{"perm", L{0, 2, 3, 1}}});
    const ValueId read = floats ? n.op("Softmax", "norm", {features}, {{"axis", int64_t{-1}}}) : features;
    mask = n.op("Sigmoid", "mask", {n.dense("gate", read, 8, 8)});
  }
  Graph decoded(std::vector<ValueId> more = {}) {
    more.insert(more.begin(), n.dense("decoder", n.op("Mul", "masked", {features, mask}), 8, 4));
    return n.done(more);
  }
};

TEST(Gains, AMaskTimesFeaturesThatFloatsAreReadFrom) {
  Masked m(true);
  const Graph g = m.decoded();
  EXPECT_EQ(placed(g), R"(q0 x
q2 norm_out
q4 masked_out
encoder [dot] input=q0 -> f32
gate+gate_add+mask [dot] input=q2 -> f32
decoder+decoder_add [dot] input=q4 -> f32
float Transpose turned
float Softmax norm
float Mul masked
)");
  EXPECT_EQ(reason_of(g, place(g, block_rules()), "masked"),
            "Mul is left in float: 'turned_out' is there as floats anyway, and no other unit takes integers from its operands");
}

// The gate itself reads the features as integers: so does the product.
TEST(Gains, AMaskTimesFeaturesThatADotReads) {
  Masked m(false);
  EXPECT_THAT(placed(m.decoded()), HasSubstr("masked [pair] a=q2 b=q4 -> q5"));
  // Also where a float node reads them besides: the numbers are rounded already.
  Masked both(false);
  const ValueId soft = both.n.op("Softmax", "soft", {both.features}, {{"axis", int64_t{-1}}});
  EXPECT_THAT(placed(both.decoded({soft})), HasSubstr("masked [pair] a=q2 b=q4 -> q5"));
}

TEST(Gains, WishesOfTheRulesAndTheUserAreAbove) {
  Masked m(true);
  const Graph g = m.decoded();
  PlacementOptions pin;
  pin.pin = {"masked_out"};
  EXPECT_THAT(text_of(g, place(g, block_rules(), pin)), HasSubstr("masked [pair]"));
  pin.pin = {"encoder_out"};
  EXPECT_THAT(text_of(g, place(g, block_rules(), pin)), HasSubstr("masked [pair]"));
  Rules rules = block_rules();
  rules.op_outputs = "always";
  EXPECT_THAT(placed(g, rules), HasSubstr("masked [pair]"));
}

// What makes the operand writes integers only: they are there in any case.
TEST(Gains, OperandsThatAreIntegersInAnyCase) {
  Net n;
  const ValueId x = n.op("MaxPool", "pool", {n.conv("conv1", n.input("x", {1, 4, 8, 8}), 4, 8)}, {{"kernel_shape", L{1, 1}}});
  const ValueId soft = n.op("Softmax", "soft", {x}, {{"axis", int64_t{1}}});
  Rules rules = block_rules();
  rules.ops[0].configs[0].output = {"u8"};  // the dots
  const Graph g = n.done({n.conv("conv2", n.op("Mul", "both", {x, n.conv("gate", soft, 8, 8)}), 8, 4)});
  EXPECT_THAT(text_of(g, place(g, rules)), HasSubstr("both [pair]"));
}

// Behind a float node a function is computed in float too: one rounding, and none of the half that Relu throws away.
TEST(Gains, AFunctionBehindAFloatNode) {
  Net n;
  const ValueId soft = n.op("Softmax", "soft", {n.input("x", {1, 4, 8, 8})}, {{"axis", int64_t{1}}});
  const Graph g = n.done({n.conv("conv", n.op("Sigmoid", "function", {n.op("Mul", "scaled", {soft, n.numbers("row", {4, 1, 1})})}), 4, 8)});
  EXPECT_EQ(placed(g), R"(q0 function_out
conv [dot] input=q0 -> f32
float Softmax soft
float Mul scaled
float Sigmoid function
)");
}

// One sum of a stream that a convolution reads as integers keeps what hangs on the same tensor integer; the others go.
TEST(Gains, SumsOfAStream) {
  Net n;
  const ValueId x = n.dense("embed", n.input("x", {1, 16, 8}), 8, 8);
  const auto block = [&](const std::string& name, ValueId v) {
    return n.op("Add", name + "_sum", {v, n.dense(name, n.op("Softmax", name + "_norm", {v}, {{"axis", int64_t{-1}}}), 8, 8)});
  };
  const ValueId a = block("a", x), b = block("b", a);
  const std::string text = placed(n.done({n.dense("head", a, 8, 4), n.op("Softmax", "end", {b}, {{"axis", int64_t{-1}}})}));
  EXPECT_THAT(text, HasSubstr("float Add a_sum"));                 // read by Softmax, made with floats
  EXPECT_THAT(text, HasSubstr("b+b_add+b_sum [dot] input=q"));     // its operand goes to the head as integers
  EXPECT_THAT(text, HasSubstr("head+head_add [dot] input=q"));
}

// The state holds h and c; c is read as floats. h has its own range.
TEST(Gains, APartOfAStateHasItsOwnRange) {
  const auto network = [](bool float_part) {
    Net n;
    const ValueId state = n.input("state", {2, 4, 8});
    const auto part = [&](const std::string& name, int64_t at) { return n.op("Slice", name, {state, n.i({at}), n.i({at + 1}), n.i({0})}); };
    const ValueId h = n.op("MatMul", "recurrent", {part("h", 0), n.numbers("w", {8, 8})});
    const ValueId c = part("c", 1);
    return n.done({h, float_part ? n.op("Softmax", "soft", {c}) : n.op("MatMul", "other", {c, n.numbers("v", {8, 8})})});
  };
  const Graph g = network(true);
  EXPECT_EQ(placed(g), R"(q0 h_out
recurrent [dot] input=q0 -> f32
float Slice h
float Slice c
float Softmax soft
)");
  EXPECT_EQ(reason_of(g, place(g, block_rules()), "h"),
            "Slice is left in float: floats are read from 'state' too, so the part that it takes has a range of its own");
  EXPECT_THAT(placed(network(false)), HasSubstr("q0 state\n"));  // all of it as integers: one quantizer at the input
}

// A dense layer over three axes: the bias is a bias, on both sides of the Reshape, and so are a factor and Sub.
TEST(Gains, ABiasBehindAReshape) {
  for (const char* op : {"Add", "Sub"}) {
    Net n;
    const ValueId flat = n.op("Reshape", "flat", {n.input("x", {2, 3, 8}), n.i({-1, 8})});
    const ValueId y = n.op("Reshape", "back", {n.op("MatMul", "dense", {flat, n.numbers("w", {8, 4})}), n.i({2, 3, 4})});
    const Graph g = n.done({n.op("Sigmoid", "act", {n.op(op, "bias", {n.op("Mul", "factor", {y, n.numbers("f", {4})}), n.numbers("b", {4})})})});
    EXPECT_EQ(placed(g), R"(q0 x
flat [move] input=q0 -> q0
dense [dot] input=q0 -> f32
float Reshape back
float Sigmoid act
)");
  }
}

TEST(Gains, NearLinearInSizeAndDepth) {
  const auto seconds = [](int blocks) {
    Net n;
    ValueId v = n.input("x", {1, 8});
    for (int i = 0; i < blocks; ++i) {
      const std::string name = std::to_string(i);
      const ValueId gate = n.op("Sigmoid", "s" + name, {v});
      v = n.op("Add", "a" + name, {n.op("Mul", "m" + name, {v, gate}), i % 2 ? v : n.op("Softmax", "f" + name, {v})});
    }
    n.g.set_outputs({n.dense("head", v, 8, 4)});
    infer_shapes(n.g);
    const auto start = std::chrono::steady_clock::now();
    place(n.g, block_rules());
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  seconds(50);
  EXPECT_LT(seconds(2500), 2.0);  // about 9,000 nodes
}

}  // namespace
}  // namespace quern
