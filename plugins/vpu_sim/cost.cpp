// Cycles and bytes of a unit on the simulated VPU, by the model of docs/targets/vpu_sim.md: an array of multiply-accumulate units beside a
// vector unit, fed by DMA. What is loaded and what is computed overlap, so the longer of the two counts.
#include <cmath>

#include "plugins/vpu_sim/kernel.hpp"

namespace quern_vpu {
namespace {

constexpr double array_inputs = 16, array_outputs = 16, array_pixels = 8;  // 2,048 products a cycle
constexpr double vector_lanes = 32;                                       // elements a cycle of everything else
constexpr double dma_bytes = 32, dma_latency = 200;                       // bytes a cycle; cycles until the first of them
constexpr double start = 400;                                             // cycles to set a unit up

// A batch that is not known counts as one sample; another unknown size makes it negative.
double elements(const Dims& d) {
  double n = 1;
  for (size_t i = 0; i < d.size(); ++i) n *= d[i] >= 0 ? static_cast<double>(d[i]) : i == 0 ? 1.0 : -INFINITY;
  return n;
}
double aligned(double n, double to) { return std::ceil(n / to) * to; }

// Products a sample takes in the array, what stands idle counted too.
double array_cycles(const OpView& op, double out) {
  const Dims w = dims_of(op.input("weight"));
  const std::string_view kind = op.op();
  const double peak = array_inputs * array_outputs * array_pixels;
  if (kind == "Conv" || kind == "ConvTranspose") {
    const double groups = static_cast<double>(op.node(0).integer("group", 1));
    const bool back = kind == "ConvTranspose";
    const double in = back ? static_cast<double>(w[0]) / groups : static_cast<double>(w[1]), outs = back ? static_cast<double>(w[1]) : static_cast<double>(w[0]) / groups;
    double taps = 1;
    for (size_t i = 2; i < w.size(); ++i) taps *= static_cast<double>(w[i]);
    const Dims x = dims_of(op.input("input"));
    const double pixels = back ? elements(x) / static_cast<double>(x[1]) : out / (outs * groups);
    // Depthwise: channels take the place of input channels, one output each, sixteenth of the array.
    if (in == 1 && outs == 1) return pixels * aligned(groups, array_inputs) * taps * array_outputs / peak;
    return groups * aligned(pixels, array_pixels) * aligned(in, array_inputs) * aligned(outs, array_outputs) * taps / peak;
  }
  const bool flipped = kind == "Gemm" && op.node(0).integer("transB", 0) != 0;
  const double depth = static_cast<double>(w[w.size() - (flipped ? 1 : 2)]), columns = static_cast<double>(w[w.size() - (flipped ? 2 : 1)]);
  return aligned(out / columns, array_pixels) * aligned(depth, array_inputs) * aligned(columns, array_outputs) / peak;
}

}  // namespace

bool cost(const OpView& op, double& cycles, double& bytes) {
  bytes = 0;
  for (size_t i = 0; i < op.inputs(); ++i) {
    const OperandView o = op.input_at(i);
    const QuantView q = o.quant();
    // Weights of fewer bits are packed on their way.
    const double size = q && q.bits() < 8 ? q.bits() / 8.0 : static_cast<double>(quern_sdk::size_of(o.dtype()));
    bytes += elements(dims_of(o)) * size;
  }
  const double out = elements(dims_of(op.output()));
  bytes += out * (writes_floats(op) ? 2.0 : 1.0);
  if (!std::isfinite(bytes) || !std::isfinite(out) || bytes < 0 || out < 0) return false;
  double work = out / vector_lanes;
  if (op.contract() == "dot") {
    work = array_cycles(op, out);
  } else if (op.op() == "AveragePool" || op.op() == "MaxPool") {
    for (int64_t k : op.node(0).integers("kernel_shape")) work *= static_cast<double>(k);
  } else if (op.op() == "GlobalAveragePool" || op.op() == "GlobalMaxPool" || op.op() == "ReduceMean") {
    work = elements(dims_of(op.input("input"))) / vector_lanes;
  } else if (op.op() == "Resize") {
    work *= 4;
  }
  cycles = start + dma_latency + std::max(work, bytes / dma_bytes);
  return true;
}

}  // namespace quern_vpu
