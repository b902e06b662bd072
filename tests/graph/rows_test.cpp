// Numbers per channel behind Reshapes become bias or weights of the layer above.
#include "tests/graph/net.hpp"

namespace quern {
namespace {

using namespace net;

// A dense layer over the last of several axes, as a converter from TensorFlow writes it.
ValueId dense(Net& n, ValueId x, const L& shape, int64_t out) {
  const ValueId flat = n.op("Reshape", {x, n.i({-1, 6})});
  return n.op("Reshape", {n.op("MatMul", {flat, n.c({6, out})}), n.i(shape)});
}

TEST(Rows, BehindADenseLayer) {
  const std::map<std::string, std::string> cases{
      {"Add", "Reshape Gemm Reshape"}, {"Sub", "Reshape Gemm Reshape"}, {"Mul", "Reshape MatMul Reshape"}, {"Div", "Reshape MatMul Reshape"}};
  for (const auto& [op, expected] : cases)
    for (const Dims& row : {Dims{4}, Dims{1, 4}, Dims{1, 1, 4}}) {
      Net n;
      const ValueId x = n.input({2, 3, 6});
      const Graph r = rewritten(n.done({n.op(op, {dense(n, x, {2, 3, 4}, 4), n.c(row)})}));
      EXPECT_EQ(ops(r), expected) << op;
      EXPECT_EQ(*r.value(r.outputs()[0]).shape, (Dims{2, 3, 4}));
    }
}

TEST(Rows, OverSeveralMovesWithAnOpenBatch) {
  Net n;
  const ValueId x = n.input({-1, 6});
  const ValueId y = n.op("Unsqueeze", {n.op("Reshape", {n.op("MatMul", {x, n.c({6, 4})}), n.i({-1, 1, 1, 4})}), n.i({0})});
  const Graph r = rewritten(n.done({n.two("Add", n.two("Mul", y, n.c(Dims{4})), n.c({1, 1, 4}))}));
  EXPECT_EQ(ops(r).rfind("Gemm ", 0), 0U) << ops(r);
  EXPECT_EQ(ops(r).find("Add"), std::string::npos);
  EXPECT_EQ(ops(r).find("Mul"), std::string::npos);
}

TEST(Rows, ChannelsOfAConvolution) {
  Net n;
  const ValueId y = n.op("Reshape", {n.op("Conv", {n.input({2, 3, 4, 4}), n.c({5, 3, 3, 3})}), n.i({2, 5, 4})});
  EXPECT_EQ(ops(rewritten(n.done({n.op("Add", {n.op("Mul", {y, n.c({5, 1})}), n.c({1, 5, 1})})}))), "Conv Reshape");
}

// More than two axes: the sum stays beside the MatMul, where a kernel takes it in.
TEST(Rows, BesideAMatMulOfThreeAxes) {
  Net n;
  const ValueId y = n.op("Reshape", {n.op("MatMul", {n.input({2, 3, 6}), n.c({6, 4})}), n.i({2, 3, 1, 4})});
  EXPECT_EQ(ops(rewritten(n.done({n.op("Add", {n.c(Dims{4}), y})}))), "MatMul Add Reshape");
}

TEST(Rows, WhatStays) {
  const auto with = [](const L& shape, const Dims& row, bool twice = false) {
    Net n;
    const ValueId y = dense(n, n.input({2, 3, 6}), shape, 4);
    std::vector<ValueId> outputs{n.op("Add", {y, n.c(row)})};
    if (twice) outputs.push_back(n.op("Relu", {y}));
    return ops(rewritten(n.done(outputs)));
  };
  EXPECT_EQ(with({2, 3, 2, 2}, {2}), "Reshape MatMul Reshape Add");        // half of the channels
  EXPECT_EQ(with({3, 8}, {8}), "Reshape MatMul Reshape Add");              // two rows at once
  EXPECT_EQ(with({2, 3, 4}, {3, 1}), "Reshape MatMul Reshape Add");        // another axis
  EXPECT_EQ(with({2, 3, 4}, {3, 4}), "Reshape MatMul Reshape Add");        // not a row
  EXPECT_EQ(with({6, 4}, {2, 1, 4}), "Reshape MatMul Add");                // stretches the sum
  EXPECT_EQ(with({2, 3, 4}, {4}, true), "Reshape MatMul Reshape Add Relu");  // the unshifted is read too
  EXPECT_EQ(with({4, 6}, {6}), "Reshape MatMul Reshape Add");              // as many in front as channels
  Net n;  // nothing linear above
  EXPECT_EQ(ops(rewritten(n.done({n.op("Add", {n.op("Reshape", {n.op("Relu", {n.input({6, 4})}), n.i({2, 3, 4})}), n.c(Dims{4})})}))), "Relu Reshape Add");
}

}  // namespace
}  // namespace quern
