// Codes of one byte turned over: what a change between row major and channels last, and most Transposes, come down to.
#pragma once
#include <cstdint>

namespace quern_cpu {

// to[r * to_step + c] = from[c * from_step + r], 0 <= r < rows, 0 <= c < columns: both sides dense along their own axis.
void turn_codes(const uint8_t* from, int64_t from_step, uint8_t* to, int64_t to_step, int64_t rows, int64_t columns);
void turn_codes_scalar(const uint8_t* from, int64_t from_step, uint8_t* to, int64_t to_step, int64_t rows, int64_t columns);  // the model

}  // namespace quern_cpu
