// What metrics take out of tensors: numbers of any type, the output that is meant, and where its classes lie.
#pragma once
#include <memory>

#include <quern/algorithm.hpp>
#include <quern/portable_math.hpp>

namespace quern_metrics {

using namespace quern_sdk;

// The elements as doubles. Failure for types that hold no numbers.
std::vector<double> numbers_of(const quern_tensor& t);
// Class numbers: whole, else a Failure that says which value is none.
std::vector<int64_t> classes_of(const quern_tensor& label);
std::string dims_text(Span<const int64_t> dims);
[[noreturn]] void refuse(const std::string& what);

// The output called `name`, the first one when it is empty. Failure that lists what there is.
const quern_tensor& output_of(const OutputsView& outputs, const std::string& name);

// Scores as [positions][classes]: classes on axis 1, or on the last axis, whichever leaves `positions` positions.
struct Scores {
  std::vector<double> values;
  int64_t positions = 0, classes = 0, inner = 1;
  double at(int64_t position, int64_t c) const { return values[static_cast<size_t>((position / inner * classes + c) * inner + position % inner)]; }
  int64_t best(int64_t position) const;  // the first of the largest
};
Scores scores_of(const quern_tensor& output, int64_t positions);
// One class number a position: of class scores the best, of one number a position whether it is above `threshold`,
// and an integer output as it is.
std::vector<int64_t> decided(const quern_tensor& output, int64_t positions, double threshold);

inline double decibels(double ratio) { return 10 * portable::log(ratio) / portable::log(10.0); }

// A mean over samples, and the last one's value.
struct Mean {
  double sum = 0, last = 0;
  int64_t samples = 0;
  void add(double v) { last = v; sum += v; ++samples; }
  double value() const {
    if (samples == 0) refuse("no sample was given");
    return sum / static_cast<double>(samples);
  }
};

}  // namespace quern_metrics
