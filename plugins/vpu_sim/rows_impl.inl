// Included once for each instruction set, inside of a namespace of its own.
constexpr double magic = 6755399441055744.0;  // 1.5 * 2^52: what is added to it keeps no fraction

// Vectors of the compiler: what one instruction can't do, several do.
using Doubles = double __attribute__((vector_size(32)));
using Four = int32_t __attribute__((vector_size(16)));
using FourBytes = uint8_t __attribute__((vector_size(4)));
using Eight = int32_t __attribute__((vector_size(32)));
using EightShorts = int16_t __attribute__((vector_size(16)));
using EightUnsigned = uint8_t __attribute__((vector_size(8)));
using EightSigned = int8_t __attribute__((vector_size(8)));

template <bool has_table>
inline void codes_of(const int32_t* acc, const double* bias, const double* factor, int64_t n, const Codes& to, uint8_t* out) {
  const Doubles none{}, offset = none + to.offset, low = none + to.low, high = none + to.high, much = none + magic;
  const auto four = [&](const int32_t* a, const double* b, const double* f, uint8_t* y) {
    Four sums;
    Doubles biases, factors;
    std::memcpy(&sums, a, sizeof sums);
    std::memcpy(&biases, b, sizeof biases);
    std::memcpy(&factors, f, sizeof factors);
    Doubles v = ((__builtin_convertvector(sums, Doubles) + biases) * factors + much) - much + offset;
    v = v < low ? low : v;
    v = v > high ? high : v;
    const Four whole = __builtin_convertvector(v, Four);
    if (has_table) {
      for (int k = 0; k < 4; ++k) y[k] = to.table[whole[k]];
    } else {
      const FourBytes bytes = __builtin_convertvector(whole, FourBytes);
      std::memcpy(y, &bytes, sizeof bytes);
    }
  };
  // Most of a long row in a loop that the compiler makes wider than four; what it would then do one by one, by fours.
  const int64_t wide = has_table ? 0 : n / 32 * 32;
  const double shift = to.offset, least = to.low, most = to.high;
  for (int64_t k = 0; k < wide; ++k) {
    double v = ((static_cast<double>(acc[k]) + bias[k]) * factor[k] + magic) - magic + shift;
    v = v < least ? least : v;
    v = v > most ? most : v;
    out[k] = static_cast<uint8_t>(static_cast<int32_t>(v));
  }
  int64_t i = wide;
  for (; i + 4 <= n; i += 4) four(acc + i, bias + i, factor + i, out + i);
  if (i == n) return;
  int32_t sums[4] = {};
  double biases[4] = {}, factors[4] = {};
  uint8_t last[4];
  for (int64_t k = 0; k < n - i; ++k) {
    sums[k] = acc[i + k];
    biases[k] = bias[i + k];
    factors[k] = factor[i + k];
  }
  four(sums, biases, factors, last);
  std::memcpy(out + i, last, static_cast<size_t>(n - i));
}

void codes(const int32_t* acc, const double* bias, const double* factor, int64_t n, const Codes& to, uint8_t* out) {
  if (to.table) codes_of<true>(acc, bias, factor, n, to, out);
  else codes_of<false>(acc, bias, factor, n, to, out);
}

// The nearest f16, ties to even, as f32.
float half(float v) {
  uint32_t bits;
  std::memcpy(&bits, &v, 4);
  const uint32_t sign = bits & 0x80000000u, size = bits & 0x7fffffffu;
  const uint32_t rounded = (size + 0xfffu + ((size >> 13) & 1)) & ~0x1fffu;
  const uint32_t normal = rounded >= 0x47800000u ? 0x7f800000u : rounded;  // 65,520 and more: infinite
  float small;
  std::memcpy(&small, &size, 4);
  small = (small + 0.5f) - 0.5f;  // steps of 2^-24, those of a subnormal f16
  uint32_t below;
  std::memcpy(&below, &small, 4);
  const uint32_t result = sign | (size < 0x38800000u ? below : normal);  // 2^-14
  float out;
  std::memcpy(&out, &result, 4);
  return out;
}

void halves(const int32_t* acc, const double* bias, const float* scale, int64_t n, const Halves& to, float* out) {
  const float low = to.low, high = to.high;
  for (int64_t i = 0; i < n; ++i) {
    float v = static_cast<float>(static_cast<double>(acc[i]) + bias[i]) * scale[i];
    v = v < low ? low : v;
    v = v > high ? high : v;
    out[i] = half(v);
  }
}

// Vec: 32-bit lanes of this instruction set, with products of pairs of 16-bit numbers.
template <int R>
inline void block(const int16_t* a, const int16_t* w, int64_t depth, int32_t* out, int64_t out_stride) {
  constexpr int N = static_cast<int>(panel / Vec::lanes);
  typename Vec::type sum[R][N];
  for (auto& row : sum)
    for (auto& v : row) v = Vec::zero();
  for (int64_t k = 0; k < depth; k += 2, w += 2 * panel) {
    typename Vec::type by[N];
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) by[n] = Vec::load(w + 2 * Vec::lanes * n);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      int32_t pair;
      std::memcpy(&pair, a + r * depth + k, 4);
      const auto x = Vec::spread(pair);
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) sum[r][n] = Vec::add(sum[r][n], Vec::products(x, by[n]));
    }
  }
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < N; ++n) Vec::store(out + r * out_stride + n * Vec::lanes, sum[r][n]);
}

void dot(const int16_t* a, int64_t rows, const int16_t* w, int64_t panels, int64_t depth, int32_t* out, int64_t out_stride) {
  for (int64_t p = 0; p < panels; ++p, w += depth * panel, out += panel) {
    int64_t r = 0;
    for (; r + Vec::rows <= rows; r += Vec::rows) block<Vec::rows>(a + r * depth, w, depth, out + r * out_stride, out_stride);
    for (; r < rows; ++r) block<1>(a + r * depth, w, depth, out + r * out_stride, out_stride);
  }
}

// f(Code{}) with the type of the codes.
template <class F>
inline void with_codes(bool is_signed, F&& f) {
  if (is_signed) f(int8_t{});
  else f(uint8_t{});
}

void widen(const uint8_t* in, bool is_signed, int32_t zero, int64_t n, int16_t* out) {
  const auto z = static_cast<int16_t>(zero);
  with_codes(is_signed, [&](auto code) {
    const auto* x = reinterpret_cast<const decltype(code)*>(in);
    for (int64_t i = 0; i < n; i += 16)
      for (int64_t k = i; k < i + 16; ++k) out[k] = static_cast<int16_t>(x[k] - z);
  });
}

// Eight codes less the zero point.
template <class Code>
inline EightShorts less(const uint8_t* in, int16_t zero) {
  std::conditional_t<std::is_signed_v<Code>, EightSigned, EightUnsigned> x;
  std::memcpy(&x, in, sizeof x);
  return __builtin_convertvector(x, EightShorts) - zero;
}

void depthwise(const uint8_t* const* in, int64_t taps, bool is_signed, int32_t zero, const int16_t* w, int64_t step, int64_t n, int32_t* acc) {
  const auto z = static_cast<int16_t>(zero);
  with_codes(is_signed, [&](auto code) {
    using Code = decltype(code);
    int64_t i = 0;
    // Most of a long row as one loop a tap, which the compiler makes wider than eight.
    const int64_t wide = n / 32 * 32;
    std::memset(acc, 0, static_cast<size_t>(wide) * sizeof *acc);
    for (int64_t t = 0; t < taps && wide > 0; ++t) {
      const auto* x = reinterpret_cast<const Code*>(in[t]);
      const int16_t* by = w + t * step;
      for (int64_t k = 0; k < wide; ++k) acc[k] += static_cast<int32_t>(static_cast<int16_t>(x[k] - z)) * static_cast<int32_t>(by[k]);
    }
    i = wide;
    for (; i + 8 <= n; i += 8) {
      Eight sum{};
      for (int64_t t = 0; t < taps; ++t) {
        EightShorts by;
        std::memcpy(&by, w + t * step + i, sizeof by);
        sum += __builtin_convertvector(less<Code>(in[t] + i, z), Eight) * __builtin_convertvector(by, Eight);
      }
      std::memcpy(acc + i, &sum, sizeof sum);
    }
    for (; i < n; ++i) {
      acc[i] = 0;
      for (int64_t t = 0; t < taps; ++t) acc[i] += (static_cast<int32_t>(static_cast<Code>(in[t][i])) - zero) * w[t * step + i];
    }
  });
}

// f(acc, x) for every element, by eights and then one by one.
template <class Code, class F>
inline void for_sums(const uint8_t* in, int32_t zero, int64_t n, int32_t* acc, F&& f) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    Eight sum;
    std::memcpy(&sum, acc + i, sizeof sum);
    const Eight x = __builtin_convertvector(less<Code>(in + i, static_cast<int16_t>(zero)), Eight);
    f(sum, x);
    std::memcpy(acc + i, &sum, sizeof sum);
  }
  for (; i < n; ++i) f(acc[i], static_cast<int32_t>(static_cast<Code>(in[i])) - zero);
}

void add(const uint8_t* in, bool is_signed, int32_t zero, int32_t by, int64_t n, int32_t* acc) {
  with_codes(is_signed, [&](auto code) {
    for_sums<decltype(code)>(in, zero, n, acc, [by](auto& sum, const auto& x) { sum += x * by; });
  });
}

void largest(const uint8_t* in, bool is_signed, int64_t n, int32_t* acc) {
  with_codes(is_signed, [&](auto code) {
    for_sums<decltype(code)>(in, 0, n, acc, [](auto& sum, const auto& x) { sum = sum < x ? x : sum; });
  });
}
