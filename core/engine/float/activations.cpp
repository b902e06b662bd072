// Activations: one tensor, element by element, attributes as constants. f32 and f64; what needs exp or tanh is evaluated
// in double and rounded once, or in f32 by the array functions of portable_math.hpp.
#include <cmath>
#include <limits>

#include "core/engine/float/families.hpp"
#include "core/engine/float/functions.hpp"
#include "core/engine/float/mapped.hpp"
#include "core/engine/float/strided.hpp"
#include "core/numeric/portable_erf.hpp"

namespace quern::own {
namespace {

Made relu(const Op& op) {
  Made made;
  dispatch<float, double, int8_t, int16_t, int32_t, int64_t>(op.type(), [&](auto tag) {
    using T = decltype(tag);
    made = mapped<T>(op, [](T x) { return x < T{0} ? T{0} : x; });
  });
  return made;
}

Made leaky_relu(const Op& op) {
  const float alpha = op.node().real("alpha", 0.01f);
  if (op.type() == DType::f32)
    return op.in_place(Layout::any, [alpha](const Call& c) {
      map_blocks<float>(c.out[0], c.in[0], [alpha](const float* x, float* y, int64_t n) {
        const float slope = alpha;  // in a register: behind the lambda's address it would be read only where x < 0, which is a branch
        for (int64_t i = 0; i < n; ++i) {
          const float v = x[i], below = slope * v;
          y[i] = v < 0 ? below : v;
        }
      });
    });
  return plain(op, [alpha](auto x) { return x < 0 ? static_cast<decltype(x)>(alpha) * x : x; });
}

Made thresholded_relu(const Op& op) {
  const float alpha = op.node().real("alpha", 1.0f);
  return plain(op, [alpha](auto x) { return x > static_cast<decltype(x)>(alpha) ? x : decltype(x){0}; });
}

Made shrink(const Op& op) {
  const float lambd = op.node().real("lambd", 0.5f), bias = op.node().real("bias", 0.0f);
  return plain(op, [lambd, bias](auto x) {
    using T = decltype(x);
    const T l = static_cast<T>(lambd), b = static_cast<T>(bias);
    return x < -l ? x + b : x > l ? x - b : T{0};
  });
}

Made elu(const Op& op) {
  const double alpha = op.node().real("alpha", 1.0f);
  return in_double(op, [alpha](double x) { return x < 0 ? alpha * expm1(x) : x; });
}

Made celu(const Op& op) {
  const double alpha = op.node().real("alpha", 1.0f);
  return in_double(op, [alpha](double x) { return x < 0 ? alpha * expm1(x / alpha) : x; });
}

Made selu(const Op& op) {
  const double alpha = op.node().real("alpha", 1.67326319217681884765625f), gamma = op.node().real("gamma", 1.05070102214813232421875f);
  return in_double(op, [alpha, gamma](double x) { return gamma * (x <= 0 ? alpha * expm1(x) : x); });
}

// f32 by a function of arrays, f64 by one of numbers.
template <class Block, class F>
Made by_block(const Op& op, Block block, F f) {
  if (op.type() == DType::f32) return op.in_place(Layout::any, [block](const Call& c) { map_blocks<float>(c.out[0], c.in[0], block); });
  return in_double(op, f);
}

Made sigmoid(const Op& op) { return by_block(op, portable::sigmoid_array, [](double x) { return portable::sigmoid(x); }); }

Made swish(const Op& op) {
  const float alpha = op.node().real("alpha", 1.0f);
  return by_block(op, [alpha](const float* x, float* y, int64_t n) { portable::swish_array(x, y, n, alpha); },
                  [alpha = static_cast<double>(alpha)](double x) { return x * portable::sigmoid(alpha * x); });
}

Made tanh(const Op& op) { return by_block(op, portable::tanh_array, [](double x) { return portable::tanh(x); }); }
Made erf(const Op& op) { return by_block(op, portable::erf_array, [](double x) { return portable::erf(x); }); }
Made softplus_op(const Op& op) { return in_double(op, [](double x) { return softplus(x); }); }
Made mish(const Op& op) { return by_block(op, portable::mish_array, [](double x) { return x * portable::tanh(softplus(x)); }); }
Made softsign(const Op& op) { return plain(op, [](auto x) { return x / (1 + std::fabs(x)); }); }

Made hard_sigmoid(const Op& op) {
  const float alpha = op.node().real("alpha", 0.2f), beta = op.node().real("beta", 0.5f);
  return plain(op, [alpha, beta](auto x) {
    using T = decltype(x);
    const T y = static_cast<T>(alpha) * x + static_cast<T>(beta);
    return y < 0 ? T{0} : y > 1 ? T{1} : y;
  });
}

Made hard_swish(const Op& op) {
  return plain(op, [](auto x) {
    using T = decltype(x);
    const T y = x / 6 + T{0.5};
    return x * (y < 0 ? T{0} : y > 1 ? T{1} : y);
  });
}

Made gelu(const Op& op) {
  const std::string how = op.node().text("approximate", "none");
  if (how == "none")
    return by_block(op, portable::gelu_array, [](double x) { return 0.5 * x * (1 + portable::erf(x * 0.70710678118654752)); });
  if (how == "tanh")
    return by_block(op, portable::gelu_tanh_array, [](double x) {
      return 0.5 * x * (1 + portable::tanh(0.79788456080286536 * (x + 0.044715 * x * x * x)));
    });
  op.fail("Gelu 'approximate' is '" + how + "': 'none' and 'tanh' exist");
}

// Limits are attributes up to opset 10 and inputs from 11 on (also ones known only at a run).
Made clip(const Op& op) {
  Made made;
  const bool attributes = op.node().since_version < 11 && !op.has(1);
  const float low = op.node().real("min", std::numeric_limits<float>::lowest());
  const float high = op.node().real("max", std::numeric_limits<float>::max());
  dispatch<float, double, QUERN_OWN_INTEGERS>(op.type(), [&](auto tag) {
    using T = decltype(tag);
    made = op.in_place(Layout::any, [=](const Call& c) {
      T lo = std::numeric_limits<T>::lowest(), hi = std::numeric_limits<T>::max();
      bool has_low = false, has_high = false;
      if constexpr (std::is_floating_point_v<T>) {
        if (attributes) { lo = static_cast<T>(low); hi = static_cast<T>(high); has_low = has_high = true; }
      }
      if (c.in.size() > 1 && c.in[1].data) { lo = *c.in[1].as<const T>(); has_low = true; }
      if (c.in.size() > 2 && c.in[2].data) { hi = *c.in[2].as<const T>(); has_high = true; }
      if constexpr (std::is_floating_point_v<T>) {  // without a limit, infinities stay
        if (!has_low) lo = -std::numeric_limits<T>::infinity();
        if (!has_high) hi = std::numeric_limits<T>::infinity();
      }
      map1<T, T>(c.out[0], c.in[0], [lo, hi](T x) {
        const T y = x < lo ? lo : x;
        return y > hi ? hi : y;
      });
    });
  });
  return made;
}

constexpr Entry entries[] = {
    {"", "Relu", relu}, {"", "LeakyRelu", leaky_relu}, {"", "ThresholdedRelu", thresholded_relu}, {"", "Shrink", shrink},
    {"", "Elu", elu}, {"", "Celu", celu}, {"", "Selu", selu}, {"", "Sigmoid", sigmoid}, {"", "Tanh", tanh}, {"", "Erf", erf},
    {"", "Softplus", softplus_op}, {"", "Mish", mish}, {"", "Softsign", softsign}, {"", "HardSigmoid", hard_sigmoid},
    {"", "HardSwish", hard_swish}, {"", "Gelu", gelu}, {"", "Clip", clip}, {"", "Swish", swish},
};

}  // namespace

std::span<const Entry> activation_ops() { return entries; }

}  // namespace quern::own
