// The embedded example in float, through import, rewrites and engine: the accuracy its README states, with the fast library and
// with own kernels alone, and the same function before and after the rewrites.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "core/base/npy.hpp"
#include "core/engine/engine.hpp"
#include "core/graph/passes.hpp"
#include "core/onnx/onnx.hpp"

namespace quern::test {
namespace {

fs::path example() {
  const char* source = std::getenv("QUERN_SOURCE_DIR");
  return fs::path(source ? source : ".") / "examples" / "digits";
}

Tensor logits_of(Graph graph, const std::vector<std::shared_ptr<const Provider>>& providers, const Tensor& x) {
  Engine engine(std::move(graph), {.providers = providers});
  return engine.runner().run({{"image", x}})[0].second;
}

double accuracy(const Tensor& logits, const Tensor& labels) {
  const auto v = logits.values<float>();
  const int64_t rows = logits.dims()[0], n = logits.dims()[1];
  int64_t right = 0;
  for (int64_t r = 0; r < rows; ++r) {
    const auto row = v.subspan(size_t(r * n), size_t(n));
    right += std::max_element(row.begin(), row.end()) - row.begin() == labels.values<int64_t>()[size_t(r)];
  }
  return double(right) / double(rows);
}

double distance(const Tensor& a, const Tensor& b) {
  double worst = 0, size = 0;
  for (size_t i = 0; i < size_t(a.count()); ++i) {
    worst = std::max(worst, std::fabs(double(a.values<float>()[i]) - b.values<float>()[i]));
    size = std::max(size, std::fabs(double(b.values<float>()[i])));
  }
  return worst / size;
}

TEST(FloatDigits, ReachesItsStatedAccuracyOnEveryPath) {
  const Npz data(example() / "data.npz");
  const Tensor x = data.read("x_eval"), y = data.read("y_eval");
  const Graph graph = import_onnx(example() / "digits.onnx");
  const Tensor fast = logits_of(graph, {onednn_provider(), own_float_provider()}, x);
  const Tensor some = Tensor::of<float>({50, 1, 8, 8}, x.values<float>().first(50 * 64));  // plain loops are slow
  const Tensor own = logits_of(graph, {own_float_provider()}, some);
  Graph rewritten = graph;
  canonicalize(rewritten, evaluate_constant_node);
  int64_t norms = 0;
  for (NodeId id : rewritten.order()) norms += rewritten.node(id).op == "BatchNormalization";
  EXPECT_EQ(norms, 0);
  const Tensor folded = logits_of(rewritten, {onednn_provider(), own_float_provider()}, x);
  EXPECT_DOUBLE_EQ(accuracy(fast, y), 0.982);
  EXPECT_LE(distance(own, fast), 1e-5);
  EXPECT_LE(distance(folded, fast), 1e-5);
}

TEST(FloatDigits, CalibrationAndEvaluationAreDisjoint) {
  const Npz data(example() / "data.npz");
  const Tensor a = data.read("x_calib"), b = data.read("x_eval");
  for (int64_t i = 0; i < a.dims()[0]; ++i)
    for (int64_t j = 0; j < b.dims()[0]; ++j)
      ASSERT_NE(std::memcmp(a.values<float>().data() + i * 64, b.values<float>().data() + j * 64, 64 * sizeof(float)), 0) << i << " " << j;
}

}  // namespace
}  // namespace quern::test
