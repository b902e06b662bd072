// Rounding of one row of weights to codes, so that the layer's output stays closest. For a row w over inputs x with the target y,
//   E (q.x - y)^2 = (q - w*)' H (q - w*) + const,   H = E x x',  w* = w + H^-1 (E x y - H w)
// a quadratic in the rounded weights q: the objective of adaptive rounding (Nagel et al., 2020), which is here minimised on the integers
// themselves instead of through a relaxation: successive rounding that passes each error on to the weights still free (Babai's nearest
// plane; Frantar et al., 2022, with H = L L'), then single codes are moved while that lowers the error. No random numbers.
#pragma once
#include <cstdint>
#include <vector>

namespace adaround {

// The inputs of a group of rows, summed up over positions.
class Moments {
 public:
  Moments(int64_t inputs, int64_t outputs);
  ~Moments();
  Moments(Moments&&) noexcept;
  // x: [positions][inputs], y: [positions][outputs].
  void add(const float* x, const float* y, int64_t positions);
  int64_t positions() const { return positions_; }

 private:
  friend class Rounder;
  struct Sums;
  Sums* sums_;
  int64_t inputs_, outputs_, positions_ = 0;
};

struct Grid { double scale = 1; int64_t zero = 0, qmin = 0, qmax = 0; };

class Rounder {
 public:
  // `damping`: of the mean of H's diagonal, added to it. `centred`: means are taken out, since a bias takes them.
  Rounder(Moments moments, double damping, bool centred);
  ~Rounder();
  Rounder(const Rounder&) = delete;
  Rounder& operator=(const Rounder&) = delete;
  // Codes of row `output` whose weights are w[inputs]. Several threads may call this.
  std::vector<int64_t> round(int64_t output, const float* w, const Grid& grid) const;
  // The bias with which the mean of the output is the target's.
  double bias(int64_t output, const std::vector<float>& rounded) const;
  // E (q.x - y)^2 about the means, plus a constant of the row (for tests).
  double error(int64_t output, const std::vector<float>& q) const;

 private:
  struct Solved;
  Solved* solved_;
};

}  // namespace adaround
