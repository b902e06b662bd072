// Packed weights that several kernels hold alike: the steps of an unrolled recurrent operator multiply by the same matrix. One copy of them
// stays in the cache from step to step; one for each step would come from further away every time.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

namespace quern_cpu {

using SharedBytes = std::shared_ptr<const std::vector<uint8_t>>;

// The bytes as they are held already, if some kernel does, or these. From any thread.
SharedBytes share_bytes(std::vector<uint8_t> bytes);

}  // namespace quern_cpu
