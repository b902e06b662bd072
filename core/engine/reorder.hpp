// Copies between layouts: row major <-> channels last by blocked transposition, everything else by quern::copy.
#pragma once
#include "core/base/tensor.hpp"
#include "core/engine/provider.hpp"

namespace quern {

// Strides of `dims` in a layout (row_major or channels_last).
Dims strides_of(std::span<const int64_t> dims, Layout layout);
// Do both layouts put every element at the same place (rank < 3, one channel, or one pixel)?
bool layouts_coincide(std::span<const int64_t> dims);
// Same type and dims; any strides.
void reorder(const TensorView& from, const TensorView& to);

}  // namespace quern
