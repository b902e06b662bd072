// From one value per sample to one value. Inputs are in the order of sample ids, sums are in double and in that order: the
// result depends on the set of samples alone.
#pragma once
#include <string_view>
#include <vector>

namespace ranges {

enum class Aggregator { mean, max, min, median, mean_no_outliers, median_no_outliers, hl_estimator };

// Failure naming the aggregators there are when `name` is none of them.
Aggregator aggregator_from_name(std::string_view name);

// mean_no_outliers, median_no_outliers: without the values outside of the 1 % and 99 % quantiles (with few samples: without
// the smallest and the largest); where that leaves nothing, of all values.
// hl_estimator (Hodges-Lehmann): half of the median of v_i + v_j over all pairs i > j.
double aggregate(Aggregator how, std::vector<double> values);

// Linear interpolation between order statistics, h = (n - 1) q. `sorted` ascending, not empty.
double quantile(const std::vector<double>& sorted, double q);

}  // namespace ranges
