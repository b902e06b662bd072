// The geometry of Conv, ConvTranspose, Gemm and MatMul by a constant as one thing: a convolution. A matrix product is a 1x1 convolution over
// an image of height 1 whose width is the rows.
#pragma once
#include "plugins/common/unit.hpp"

namespace quern_common {

struct DotShape {
  int64_t batch = 1, ic = 1, oc = 1, groups = 1;
  Axis h, w;
  // Weights lie as [oc][ic/groups][kh][kw]; as [ic][oc] where `columns`; as [ic][oc/groups][kh][kw] where `transposed`.
  bool columns = false, transposed = false;
};
// At complete shapes. Failure where input, weight, output and attributes do not fit each other.
DotShape dot_shape(const OpView& op);

}  // namespace quern_common
