// Gemm and MatMul, by a constant matrix or of two tensors that flow.
#include "sdk/conformance/drawing.hpp"

namespace quern::conform {
namespace {

void draw_gemm(Pencil& p) {
  const int64_t rows = p.sweeping() ? p.source.pick(1, 9) : p.frame.depth > 1 ? 4 : 256, depth = p.sweeping() ? p.channels() : p.frame.depth, columns = p.sweeping() ? p.channels() : 17;
  const int64_t a = p.limits.number("transA", 0), b = p.limits.number("transB", p.source.pick(0, 1));
  p.input("input", a ? Dims{depth, rows} : Dims{rows, depth});
  const Dims weight = b ? Dims{columns, depth} : Dims{depth, columns};
  if (p.limits.variable("weight")) p.input("weight", weight);
  else p.constant("weight", weight);
  if (!p.limits.absent("bias") && (!p.sweeping() || p.source.pick(0, 4) < 4)) p.constant("bias", {columns});
  p.node.attributes["transA"] = a;
  p.node.attributes["transB"] = b;
  p.node.attributes["alpha"] = p.limits.real("alpha", 1);
  p.node.attributes["beta"] = p.limits.real("beta", 1);
}

void draw_matmul(Pencil& p) {
  const bool flows = p.limits.variable("weight") || (!p.limits.constant("weight") && p.source.one_in(3));
  const int64_t rank = p.limits.rank("input", p.sweeping() ? p.source.pick(2, 3) : 2, p.source);
  const int64_t depth = p.sweeping() ? p.channels() : p.frame.depth;
  const int64_t columns = p.sweeping() ? p.channels() : flows && p.frame.depth == 1 ? 256 : 17;
  Dims a, b;
  for (int64_t i = 0; i + 2 < rank; ++i) a.push_back(p.sweeping() ? p.source.pick(1, 3) : 1);
  if (flows && rank > 2 && p.limits.rank("weight", rank, p.source) == rank) b = a;
  if (p.sweeping() && !b.empty() && p.source.one_in(3)) b[0] = 1;  // broadcast
  a.push_back(p.sweeping() ? p.source.pick(1, 9) : p.frame.depth > 1 ? 4 : 256);
  a.push_back(depth);
  b.push_back(depth);
  b.push_back(columns);
  p.input("input", a);
  if (flows) p.input("weight", b);
  else p.constant("weight", {depth, columns});
}

}  // namespace

bool draw_product(Pencil& p) {
  if (p.node.op == "Gemm") draw_gemm(p);
  else if (p.node.op == "MatMul") draw_matmul(p);
  else return false;
  return true;
}

}  // namespace quern::conform
