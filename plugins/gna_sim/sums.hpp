// Sums of products in the accumulator: 32 bits, brought back into them after every `every` products and at the end. Each time that
// changes the sum is counted.
#pragma once
#include <cstdint>

namespace quern_gna {

// The contract, product by product: start + x[k] * w[k], k = 0..n-1.
int32_t saturating_sum(const int16_t* x, const int16_t* w, int64_t n, int64_t start, int64_t every, uint64_t& saturated);

// Of `rows` (1 to 4) rows of weights that lie `pitch` apart, where no sum can leave 32 bits: the same numbers, in any order. x and w are readable
// up to n rounded up to 16, zeros there. The plain version, and the one for this machine.
void plain_sums(const int16_t* x, const int16_t* w, int64_t pitch, int rows, int64_t n, int32_t* sums);
void exact_sums(const int16_t* x, const int16_t* w, int64_t pitch, int rows, int64_t n, int32_t* sums);

}  // namespace quern_gna
