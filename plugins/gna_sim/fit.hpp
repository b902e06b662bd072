// A function of one real variable as segments: our own optimiser, pure and the same on every machine.
//
//   Target t;                       // y = f(x * x_scale) / y_scale, x an integer of 32 bits, y a code of low..high
//   Fit fit = fit_segments(t, 128);
//   fit.rows                        // for the table
//   fit_error(t, fit)               // largest |segments(x) - f| in codes at 33 places of each, rounding included
//
// Segments are as long as a tolerance allows, from left to right; the tolerance is about the smallest that the number of segments allows. Each has the line through the ends of its piece, moved to the middle of the largest deviations; its slope is rounded to what
// 16 bits and a shift can say before the deviation is judged, so that coarse slopes give short segments. Half a code is added, because
// the hardware rounds down.
#pragma once
#include <functional>

#include "plugins/gna_sim/segments.hpp"

namespace quern_gna {

struct Target {
  std::function<double(double)> f;  // real to real, monotone but for `turn`
  double x_scale = 1, y_scale = 1;
  double low = -32768, high = 32767;
  double turn = 0;                  // where a function that falls and rises has its lowest point
  std::vector<double> kinks;        // real x where the slope jumps
  std::vector<double> identity{};   // numbers that say which f this is, for whoever keeps fits; empty: none do
};

struct Fit {
  std::vector<Segment> rows;        // 2 at least
};

Fit fit_segments(const Target& target, int most);
double fit_error(const Target& target, const Fit& fit);

}  // namespace quern_gna
