#include "core/numeric/multiples.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace quern {
namespace {

QuantParams of(std::vector<float> scale) {
  QuantParams p;
  p.format = make_format(8, true, true);
  p.axis = 0;
  p.zero_point.assign(scale.size(), 0);
  p.scale = std::move(scale);
  return p;
}

TEST(Multiples, RoundedUpToStepsOfTheLargest) {
  const QuantParams p = to_multiples(of({0.7f, 0.2f, 0.1f, 0.0001f}), 1, 255);
  const double step = 0.7f / 255.0;
  const double wanted[] = {255, 73, 37, 1};
  for (size_t c = 0; c < 4; ++c) EXPECT_NEAR(p.scale[c] / step, wanted[c], 1e-4);
}

TEST(Multiples, WhatIsAMultipleStaysOne) {
  QuantParams p = to_multiples(of({0.123f, 0.0777f, 0.0456f, 0.011f}), 1, 255);
  const QuantParams once = p;
  for (int i = 0; i < 20; ++i) p = to_multiples(p, 1, 255);
  EXPECT_EQ(p, once);
}

TEST(Multiples, ALargerStepMakesRowsCoarser) {
  const QuantParams before = of({0.8f, 0.41f, 0.05f});
  const QuantParams p = to_multiples(before, 1, 255, 0.1);
  EXPECT_FLOAT_EQ(p.scale[0], 0.8f);
  EXPECT_FLOAT_EQ(p.scale[1], 0.5f);
  EXPECT_FLOAT_EQ(p.scale[2], 0.1f);
  for (size_t c = 0; c < 3; ++c) EXPECT_GE(p.scale[c] * 1.000001f, before.scale[c]);
  EXPECT_FLOAT_EQ(to_multiples(before, 1, 255, 3).scale[0], 3.f);  // a step beyond all of them
}

}  // namespace
}  // namespace quern
