// Walking tensors of any strides together, row by row, with as few and as long rows as their strides allow.
//
//   for_rows(dims, out_strides, {a_strides, b_strides}, threads,
//            [&](int64_t out, const int64_t* in, int64_t n, int64_t out_step, const int64_t* in_step) { ... });
//
// gives the offset of a row in each tensor, its length, and the step between its elements in each.
#pragma once
#include <algorithm>
#include <array>

#include "plugins/common/walk.hpp"
#include "plugins/cpu/kernel.hpp"

namespace quern_cpu {

template <class F>
void for_rows(const Dims& dims, const Dims& out, const std::vector<Dims>& in, uint32_t threads, F&& row) {
  const Walk w = make_walk(dims, out, in);
  const size_t last = w.dims.size() - 1;
  int64_t rows = 1;
  for (size_t a = 0; a < last; ++a) rows *= w.dims[a];
  int64_t n = w.dims[last], parts = 1;
  if (rows * n == 0) return;
  // One long row is cut for several threads; parts of 64 KiB elements, so that the cut does not depend on the threads.
  constexpr int64_t part = 65536;
  if (threads > 1 && n > part) parts = (n + part - 1) / part;
  std::array<int64_t, most_operands> step{};
  for (size_t k = 0; k < w.operands; ++k) step[k] = w.in[k][last];
  for_pieces(rows * parts, rows * n < few_elements ? 1 : threads, [&](int64_t first, int64_t end) {
    for (int64_t r = first; r < end; ++r) {
      int64_t rest = r / parts, o = 0;
      const int64_t from = r % parts * (parts > 1 ? part : 0), length = parts > 1 ? std::min(part, n - from) : n;
      std::array<int64_t, most_operands> at{};
      for (size_t a = last; a-- > 0;) {
        const int64_t i = rest % w.dims[a];
        rest /= w.dims[a];
        o += i * w.out[a];
        for (size_t k = 0; k < w.operands; ++k) at[k] += i * w.in[k][a];
      }
      for (size_t k = 0; k < w.operands; ++k) at[k] += from * step[k];
      row(o + from * w.out[last], at.data(), length, w.out[last], step.data());
    }
  });
}

}  // namespace quern_cpu
