// Piecewise-linear functions as the hardware evaluates them: a list of segments {x_base, slope, y_base}, sorted by x_base.
//
//   the last segment with (x_base & ~3) <= x holds; y = y_base + ((x - (x_base & ~3)) * slope >> shift), rounding down
//   shift = 8, 16, 24 or 32 by the two low bits of x_base; left of the first segment y = y_base of the first
//
// slope has 16 bits, x_base and y_base 32. Source: docs/targets/gna_sim.md.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace quern_gna {

struct Segment { int32_t x_base, slope, y_base; };

class Segments {
 public:
  Segments() = default;
  explicit Segments(std::vector<Segment> rows);
  bool empty() const { return base_.empty(); }
  size_t size() const { return base_.size(); }

  int64_t operator()(int32_t x) const;
  // out[i] = clamp((*this)(x[i]), low, high): the plain model, and a version that finds segments by a table of places.
  void plain(const int32_t* x, int64_t n, int32_t low, int32_t high, int16_t* out) const;
  void run(const int32_t* x, int64_t n, int32_t low, int32_t high, int16_t* out) const;

 private:
  size_t find(int32_t x) const;
  std::vector<int32_t> base_;  // low bits cleared
  std::vector<int32_t> slope_, y_, shift_;
  // The range of x in 1024 even parts of 2^part_shift_: the segment that holds where the part begins.
  int64_t first_ = 0;
  int part_shift_ = 0;
  std::vector<uint16_t> part_;
};

}  // namespace quern_gna
