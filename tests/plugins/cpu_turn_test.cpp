// Turning codes over: blocks and rests against the plain loops, and nothing written beside them.
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "plugins/cpu/turn.hpp"

namespace {

TEST(CpuTurn, EqualsTheModelForEverySize) {
  std::mt19937 random(5);
  for (int64_t rows : {1, 2, 7, 8, 9, 16, 31, 64, 65})
    for (int64_t columns : {1, 3, 15, 16, 17, 32, 47, 100})
      for (int64_t extra : {0, 1, 5}) {
        const int64_t from_step = rows + extra, to_step = columns + 2 * extra;
        std::vector<uint8_t> from(static_cast<size_t>(columns * from_step)), got(static_cast<size_t>(rows * to_step + 32), 77), want = got;
        for (auto& v : from) v = static_cast<uint8_t>(random());
        quern_cpu::turn_codes(from.data(), from_step, got.data(), to_step, rows, columns);
        quern_cpu::turn_codes_scalar(from.data(), from_step, want.data(), to_step, rows, columns);
        ASSERT_EQ(got, want) << rows << " x " << columns << ", " << extra;
        for (int64_t r = 0; r < rows; ++r)
          for (int64_t c = 0; c < columns; ++c) ASSERT_EQ(got[static_cast<size_t>(r * to_step + c)], from[static_cast<size_t>(c * from_step + r)]);
      }
}

}  // namespace
