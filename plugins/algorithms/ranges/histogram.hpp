// The host's histogram of an activation as a list of bins in ascending order: 2,048 a side, of a power-of-two range.
#pragma once
#include <quern/plugin.hpp>

#include <vector>

namespace ranges {

struct Bin { double begin, end, count; };  // values are taken as even within a bin

class Histogram {
 public:
  // The outermost bins end at the extreme values.
  Histogram(const quern_statistic& histogram, double low, double high);
  const std::vector<Bin>& bins() const { return bins_; }  // those that hold something
  double zeros() const { return zeros_; }
  double total() const { return total_; }                 // with the zeros

 private:
  std::vector<Bin> bins_;
  double zeros_ = 0, total_ = 0;
};

// The same for |x|: what lies on both sides at one distance, in one bin.
std::vector<Bin> folded(const std::vector<Bin>& bins);

// The point that `share` of all values (with the zeros) lie below; linear within a bin. share 0: the lowest end, 1: the highest.
double point_below(const std::vector<Bin>& bins, double zeros, double share);

// Extremes (request 0) and histogram (request 1) of a per-tensor activation, as the estimators here ask for them.
void request_histogram(const quern_sdk::QuantizerView& q, quern_sdk::RequestSink& sink);

}  // namespace ranges
