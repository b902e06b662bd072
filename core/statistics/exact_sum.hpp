// The exact sum of any number (< 2^63) of f32 values: a fixed-point number of 384 bits whose last bit is 2^-149, the
// smallest f32. Addition is then integer addition: order, grouping and threads can't change a bit.
#pragma once
#include <array>
#include <cstdint>

namespace quern {

class ExactSum {
 public:
  // A finite double that is a multiple of 2^-149 and below 2^190: an f32, or an exact partial sum of f32 values.
  void add(double value);
  void merge(const ExactSum& other);
  double mean(uint64_t count) const;  // sum / count, rounded once, half to even; 0 of nothing

  using Limbs = std::array<uint64_t, 6>;  // two's complement, least significant first
  const Limbs& limbs() const { return limbs_; }
  void set_limbs(const Limbs& limbs) { limbs_ = limbs; }

 private:
  Limbs limbs_{};
};

// Adds x[0..count) to one sum. `bound` is a value that no |x| exceeds (of these or of all data: tighter is faster).
void add_run(const float* x, int64_t count, float bound, ExactSum& sum);
// Adds rows of `channels` values to `channels` sums.
void add_rows(const float* x, int64_t rows, int64_t channels, float bound, ExactSum* sums);

}  // namespace quern
