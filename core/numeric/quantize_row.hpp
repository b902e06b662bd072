// Numbers that lie densely to codes, by one scale: what quantize() of quantization.hpp gives, without a look at types and shapes. For rows so short
// that the look would take longer than the codes.
#pragma once
#include <cstdint>

#include "core/numeric/quantization.hpp"

namespace quern {

// `out` has room for `count` codes of the storage type.
void quantize_row(const float* in, int64_t count, const QuantParams& params, void* out);

}  // namespace quern
