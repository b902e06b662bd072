// erf on arrays: f32 of fixed evaluation (<= 2 ulp), the same bits in every vector form. Beside portable::erf, which works in
// double, as exp_array beside portable::exp.
//
//   portable::erf_array(x, y, n);   // x and y may be the same
#pragma once

namespace quern::portable {

void erf_array(const float* in, float* out, long count);

// The scalar form alone, for tests.
void erf_array_scalar(const float* in, float* out, long count);

}  // namespace quern::portable
