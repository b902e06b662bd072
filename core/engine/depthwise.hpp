// Depthwise convolution in f32 (one input and one output channel a group), channels last, with bias and a clamp fused. oneDNN's
// kernel reaches a fifth of what multiply-adds from registers do; this one half and more.
//
// Per output element: acc = bias; acc = fma(x, w, acc) tap by tap in row-major order of the window. Rows above and below the image are left
// out, columns beside it are zeros. So AVX2, AVX-512 and the scalar model give the same bytes, whatever the threads.
#pragma once
#include "core/engine/depthwise_plan.hpp"
#include "core/engine/onednn_kernel.hpp"

namespace quern {

struct DepthwiseForm { DepthwiseRows rows; int64_t lanes; const char* name; };
// The form for this machine (and oneDNN's limit on instruction sets, if one is set); rows == nullptr: none.
DepthwiseForm depthwise_form();

namespace onednn {
// None: not depthwise, or with something that is not fused here; oneDNN takes it then.
std::optional<PreparedKernel> prepare_depthwise(const KernelRequest& request, const Fused& fused);
}  // namespace onednn

}  // namespace quern
