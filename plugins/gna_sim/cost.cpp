#include "plugins/gna_sim/cost.hpp"

#include <algorithm>

namespace quern_gna {
namespace {

// Assumptions of the model, not measurements: 8 multiply-accumulates a cycle with 8-bit weights and 4 with 16-bit ones, one segment
// a cycle, 8 bytes a cycle from memory, 300 cycles for each layer's descriptor.
constexpr double rate8 = 8, rate16 = 4, byte_rate = 8, call = 300;

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
  double work = 0;
  if (op.contract() == "affine" || op.contract() == "affine_float")
    work = out * static_cast<double>(rows_of(op).depth) / (op.input("weight").dtype() == QUERN_DTYPE_S8 ? rate8 : rate16) + out;
  else if (op.contract() != "copy" && op.contract() != "concat")
    work = 2 * out;  // one multiplication, one segment
  cycles = std::max(work, bytes / byte_rate) + call;
  return true;
}

}  // namespace quern_gna
