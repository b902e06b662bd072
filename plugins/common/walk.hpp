// Walking tensors of any strides together: their axes in the order of the output's memory, joined where every tensor allows it.
#pragma once
#include <algorithm>
#include <array>

#include "plugins/common/unit.hpp"

namespace quern_common {

inline constexpr size_t most_operands = 2;

// Dims and strides put into the order of the output's memory, with axes joined where every tensor allows it.
struct Walk {
  Dims dims, out;               // outermost first; never empty
  std::array<Dims, most_operands> in;
  size_t operands = 0;
};
Walk make_walk(const Dims& dims, const Dims& out, const std::vector<Dims>& in);

// Row by row, with as few and as long rows as strides allow: row(out, in, n, out_step, in_step) gets the offset of a row in each tensor, its
// length, and the step between its elements in each. pieces(count, threads, body) calls body(first, last) over [0, count), as the target
// runs parallel work.
template <class Pieces, class F>
void for_rows(const Dims& dims, const Dims& out, const std::vector<Dims>& in, uint32_t threads, const Pieces& pieces, F&& row) {
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
  pieces(rows * parts, rows * n < 16384 ? 1 : threads, [&](int64_t first, int64_t end) {
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

// Strides of `t` as seen from dims it is broadcast to (0 along broadcast axes). Failure where it does not fit.
Dims broadcast_strides(const quern_tensor& t, const Dims& to);
Dims row_major_strides(const Dims& dims);
bool is_row_major(const quern_tensor& t);

}  // namespace quern_common
