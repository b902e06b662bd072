// A network of 10,000 nodes is planned in less than two seconds of this process's time.
#include <ctime>

#include "tests/engine/engine_testing.hpp"

namespace quern::testing {
namespace {

TEST(Planning, TenThousandNodes) {
  if (std::getenv("QUERN_SANITIZED")) GTEST_SKIP() << "sanitizers take several times as long";
  Builder b;
  ValueId v = b.input("x", {1, 8, 4, 4});
  while (b.g.node_slots() < 10000) {
    const ValueId in = v;
    v = b.op("Relu", {b.conv(v, {8, 8, 1, 1})}, {}, 14);
    v = b.op("Add", {b.conv(v, {8, 8, 1, 1}), in}, {}, 14);
    v = b.op("Sigmoid", {b.op("Neg", {v}, {}, 13)}, {}, 13);
  }
  Engine engine(b.outputs({v}), with_own_kernels());
  const NamedTensors x{{"x", random_tensor({1, 8, 4, 4}, 1)}};
  const std::clock_t begin = std::clock();
  const PlanInfo info = engine.plan_info(x);
  const double seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  EXPECT_GT(info.steps.size(), 3000u);
  EXPECT_EQ(info.segments, 1);
  EXPECT_LT(seconds, 2.0);
}

}  // namespace
}  // namespace quern::testing
