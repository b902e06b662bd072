// Included once for each instruction set, inside of a namespace of its own.
constexpr double magic = 6755399441055744.0;  // 1.5 * 2^52: what is added to it keeps no fraction

void codes(const int32_t* acc, const double* bias, const double* factor, int64_t n, const Codes& to, uint8_t* out) {
  const double offset = to.offset, low = to.low, high = to.high;
  const auto place = [&](int64_t i) {
    const double rounded = ((static_cast<double>(acc[i]) + bias[i]) * factor[i] + magic) - magic;
    double v = rounded + offset;
    v = v < low ? low : v;
    v = v > high ? high : v;
    return static_cast<int32_t>(v);
  };
  if (!to.table) {
    for (int64_t i = 0; i < n; ++i) out[i] = static_cast<uint8_t>(place(i));
    return;
  }
  for (int64_t i = 0; i < n; ++i) out[i] = to.table[place(i)];
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

template <int R, int C>
inline void block(const int16_t* a, const int16_t* w, int64_t depth, int32_t* out, int64_t out_stride) {
  int32_t sum[R][C] = {};
  for (int64_t k = 0; k < depth; ++k) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) sum[r][c] += static_cast<int32_t>(a[r * depth + k]) * static_cast<int32_t>(w[c * depth + k]);
  }
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) out[r * out_stride + c] = sum[r][c];
}

template <int C>
inline void columns_of(const int16_t* a, int64_t rows, const int16_t* w, int64_t depth, int32_t* out, int64_t out_stride) {
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) block<4, C>(a + r * depth, w, depth, out + r * out_stride, out_stride);
  for (; r < rows; ++r) block<1, C>(a + r * depth, w, depth, out + r * out_stride, out_stride);
}

void dot(const int16_t* a, int64_t rows, const int16_t* w, int64_t columns, int64_t depth, int32_t* out, int64_t out_stride) {
  int64_t c = 0;
  for (; c + 2 <= columns; c += 2) columns_of<2>(a, rows, w + c * depth, depth, out + c, out_stride);
  if (c < columns) columns_of<1>(a, rows, w + c * depth, depth, out + c, out_stride);
}

// f(code) for every element, whatever the sign: the choice is outside of the loop.
template <class F>
inline void for_codes(const uint8_t* in, bool is_signed, int64_t n, F&& f) {
  if (is_signed) {
    const auto* s = reinterpret_cast<const int8_t*>(in);
    for (int64_t i = 0; i < n; ++i) f(i, static_cast<int16_t>(s[i]));
  } else {
    for (int64_t i = 0; i < n; ++i) f(i, static_cast<int16_t>(in[i]));
  }
}

void widen(const uint8_t* in, bool is_signed, int32_t zero, int64_t n, int16_t* out) {
  const auto z = static_cast<int16_t>(zero);
  for_codes(in, is_signed, n, [&](int64_t i, int16_t code) { out[i] = static_cast<int16_t>(code - z); });
}

void depthwise(const uint8_t* in, bool is_signed, int32_t zero, const int16_t* w, int64_t n, int32_t* acc) {
  const auto z = static_cast<int16_t>(zero);
  for_codes(in, is_signed, n, [&](int64_t i, int16_t code) { acc[i] += static_cast<int32_t>(static_cast<int16_t>(code - z)) * static_cast<int32_t>(w[i]); });
}

void add(const uint8_t* in, bool is_signed, int32_t zero, int32_t by, int64_t n, int32_t* acc) {
  for_codes(in, is_signed, n, [&](int64_t i, int16_t code) { acc[i] += (code - zero) * by; });
}

void largest(const uint8_t* in, bool is_signed, int64_t n, int32_t* acc) {
  for_codes(in, is_signed, n, [&](int64_t i, int16_t code) { acc[i] = acc[i] < code ? code : acc[i]; });
}
