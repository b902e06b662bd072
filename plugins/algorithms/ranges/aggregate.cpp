#include "aggregate.hpp"

#include <quern/views.hpp>

#include <algorithm>
#include <cmath>

namespace ranges {
namespace {

constexpr std::pair<std::string_view, Aggregator> names[] = {
    {"mean", Aggregator::mean},
    {"max", Aggregator::max},
    {"min", Aggregator::min},
    {"median", Aggregator::median},
    {"mean_no_outliers", Aggregator::mean_no_outliers},
    {"median_no_outliers", Aggregator::median_no_outliers},
    {"hl_estimator", Aggregator::hl_estimator},
};

constexpr double outliers = 0.01;  // POT's, on each side

double mean(const std::vector<double>& v) {
  double sum = 0;
  for (double x : v) sum += x;
  return sum / static_cast<double>(v.size());
}

double median_of_sorted(const std::vector<double>& v) {
  const size_t n = v.size();
  return n % 2 ? v[n / 2] : 0.5 * (v[n / 2 - 1] + v[n / 2]);
}

std::vector<double> without_outliers(const std::vector<double>& v, const std::vector<double>& sorted) {
  const double low = quantile(sorted, outliers), high = quantile(sorted, 1 - outliers);
  std::vector<double> kept;
  for (double x : v)
    if (x >= low && x <= high) kept.push_back(x);
  return kept.empty() ? v : kept;
}

// Doubles as integers of the same order.
uint64_t key_of(double v) {
  uint64_t bits;
  std::memcpy(&bits, &v, sizeof bits);
  return bits >> 63 ? ~bits : bits | (uint64_t{1} << 63);
}
double value_of(uint64_t key) {
  const uint64_t bits = key >> 63 ? key & ~(uint64_t{1} << 63) : ~key;
  double v;
  std::memcpy(&v, &bits, sizeof v);
  return v;
}

// Pairs i > j with v_i + v_j <= limit, by two pointers: no list of all pairs is made.
uint64_t pairs_up_to(const std::vector<double>& sorted, double limit) {
  uint64_t count = 0;
  size_t end = sorted.size();  // for i, partners below `end`; shrinks as i grows
  for (size_t i = 0; i < sorted.size(); ++i) {
    while (end > 0 && sorted[i] + sorted[end - 1] > limit) --end;
    if (end <= i + 1) break;
    count += end - i - 1;
  }
  return count;
}

// The k-th smallest (from 0) sum of a pair, by bisection over all doubles.
double pair_sum(const std::vector<double>& sorted, uint64_t k) {
  uint64_t low = key_of(sorted[0] + sorted[1]), high = key_of(sorted[sorted.size() - 1] + sorted[sorted.size() - 2]);
  while (low < high) {
    const uint64_t middle = low + (high - low) / 2;
    if (pairs_up_to(sorted, value_of(middle)) > k) high = middle;
    else low = middle + 1;
  }
  return value_of(low);
}

double hodges_lehmann(const std::vector<double>& sorted) {
  const uint64_t n = sorted.size();
  if (n == 1) return sorted[0];
  const uint64_t pairs = n * (n - 1) / 2;
  const double upper = pair_sum(sorted, pairs / 2);
  return pairs % 2 ? 0.5 * upper : 0.25 * (pair_sum(sorted, pairs / 2 - 1) + upper);
}

}  // namespace

Aggregator aggregator_from_name(std::string_view name) {
  std::string list;
  for (const auto& [known, value] : names) {
    if (name == known) return value;
    list += (list.empty() ? "" : ", ") + std::string(known);
  }
  throw quern_sdk::Failure(QUERN_INVALID_ARGUMENT, "there is no aggregator '" + std::string(name) + "'; there are " + list);
}

double quantile(const std::vector<double>& sorted, double q) {
  const double h = static_cast<double>(sorted.size() - 1) * q;
  const auto below = static_cast<size_t>(std::floor(h));
  if (below + 1 >= sorted.size()) return sorted.back();
  return sorted[below] + (h - static_cast<double>(below)) * (sorted[below + 1] - sorted[below]);
}

double aggregate(Aggregator how, std::vector<double> values) {
  if (values.empty()) throw quern_sdk::Failure(QUERN_INVALID_ARGUMENT, "no sample was seen");
  if (how == Aggregator::mean) return mean(values);
  if (how == Aggregator::max) return *std::max_element(values.begin(), values.end());
  if (how == Aggregator::min) return *std::min_element(values.begin(), values.end());
  std::vector<double> sorted = values;
  std::sort(sorted.begin(), sorted.end());
  switch (how) {
    case Aggregator::mean_no_outliers: return mean(without_outliers(values, sorted));
    case Aggregator::median_no_outliers: return median_of_sorted(without_outliers(sorted, sorted));
    case Aggregator::hl_estimator: return hodges_lehmann(sorted);
    default: return median_of_sorted(sorted);
  }
}

}  // namespace ranges
