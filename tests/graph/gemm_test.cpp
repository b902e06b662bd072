// Gemm by constants in its plain form: y = x B + row.
#include "tests/graph/net.hpp"

namespace quern {
namespace {

using namespace net;

TEST(Gemm, BecomesPlain) {
  for (const int64_t ta : {0, 1})
    for (const int64_t tb : {0, 1})
      for (const float alpha : {1.0F, 0.375F})
        for (const float beta : {1.0F, -2.5F, 0.0F})
          for (const Dims& bias : {Dims{}, Dims{4}, Dims{1, 4}, Dims{1, 1}}) {
            Net n;
            std::vector<ValueId> in{n.input(ta ? Dims{6, 5} : Dims{5, 6}), n.c(tb ? Dims{4, 6} : Dims{6, 4})};
            if (!bias.empty()) in.push_back(n.c(bias));
            const Graph r = rewritten(n.done({n.op("Gemm", in, {{"transA", ta}, {"transB", tb}, {"alpha", alpha}, {"beta", beta}})}));
            EXPECT_EQ(ops(r), ta ? "Transpose Gemm" : "Gemm");
            const Node& gemm = r.node(r.value(r.outputs()[0]).producer);
            EXPECT_EQ(gemm.integer("transA", 0), 0);
            EXPECT_EQ(gemm.real("alpha", 1), 1);
            EXPECT_EQ(gemm.real("beta", 1), 1);
            const Tensor* row = r.constant_input(gemm, 2);
            EXPECT_EQ(row != nullptr, !bias.empty() && beta != 0);
            if (row) { EXPECT_EQ(row->dims(), Dims{4}); }
          }
}

// A matrix as C is no row, and of two tensors that flow none is turned.
TEST(Gemm, WhatStays) {
  Net n;
  const ValueId x = n.input({5, 6}), y = n.input({6, 5}, "y");
  const ValueId full = n.op("Gemm", {x, n.c({6, 4}), n.c({5, 4})}, {{"beta", 2.0F}});
  const ValueId both = n.op("Gemm", {y, y}, {{"transA", int64_t{1}}});
  const Graph r = rewritten(n.done({full, both}));
  EXPECT_EQ(ops(r), "Gemm Gemm");
}

}  // namespace
}  // namespace quern
