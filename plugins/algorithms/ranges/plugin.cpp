#include <quern/plugin.hpp>

#include "estimators.hpp"

QUERN_SDK_ALGORITHMS(quern_sdk::Estimators<ranges::MinMax, ranges::Pot, ranges::Mse, ranges::Mae, ranges::Percentile, ranges::Kl, ranges::Octav, ranges::Admm,
                                           ranges::HistogramSearch, ranges::MovingAverage>)
