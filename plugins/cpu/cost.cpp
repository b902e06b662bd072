#include "plugins/cpu/cost.hpp"

#include <algorithm>

#include "plugins/cpu/kernel.hpp"

namespace quern_cpu {
namespace {

// Multiply-accumulates a cycle that were measured: dense layers near the peak of two 512-bit ports (2 x 64), depthwise
// layers bound by loads.
constexpr double dense_rate = 100, depthwise_rate = 8;
constexpr double element_rate = 8;   // outputs a cycle of element-wise kernels
constexpr double byte_rate = 16;     // bytes a cycle of moves
constexpr double call = 1500;        // cycles of one call

// A batch that is not known counts as one sample.
double elements(const OperandView& o) {
  double n = 1;
  const auto d = o.tensor().dims();
  for (size_t i = 0; i < d.size(); ++i) n *= d[i] >= 0 ? static_cast<double>(d[i]) : i == 0 ? 1.0 : -1e300;
  return n;
}

}  // namespace

bool cost(const OpView& op, double& cycles, double& bytes) {
  bytes = 0;
  for (size_t i = 0; i < op.inputs(); ++i) bytes += elements(op.input_at(i)) * static_cast<double>(quern_sdk::size_of(op.input_at(i).dtype()));
  const double out = elements(op.output());
  bytes += out * static_cast<double>(quern_sdk::size_of(op.output().dtype()));
  if (!(bytes >= 0) || !(out >= 0)) return false;
  const std::string_view kind = op.op();
  if (kind == "Conv" || kind == "Gemm" || kind == "MatMul") {
    const auto w = op.input("weight").tensor();
    const double taps = static_cast<double>(w.count()) / static_cast<double>(std::max<int64_t>(1, w.dim(kind == "Conv" ? 0 : w.rank() - 1)));
    const bool depthwise = kind == "Conv" && w.dim(1) == 1;
    cycles = out * (kind == "Gemm" && op.node(0).integer("transB", 0) ? static_cast<double>(w.dim(1)) : taps) / (depthwise ? depthwise_rate : dense_rate);
  } else if (kind == "Add" || kind == "Relu" || kind == "Clip") {
    cycles = out / element_rate;
  } else if (kind == "AveragePool" || kind == "MaxPool") {
    double window = 1;
    for (int64_t k : op.node(0).integers("kernel_shape")) window *= static_cast<double>(k);
    cycles = out * window / element_rate;
  } else {
    cycles = bytes / byte_rate;
  }
  cycles += call;
  return true;
}

}  // namespace quern_cpu
