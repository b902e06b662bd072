// Tensors to codes and back. The scalar functions are the definition; the AVX2 lines give the same codes (tested).
#include "core/numeric/quantization.hpp"

#include <fmt/format.h>
#include <immintrin.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "core/base/error.hpp"
#include "core/numeric/quantize_row.hpp"
#include "core/numeric/rounding.hpp"

namespace quern {
namespace {

enum class Mode { quantize, dequantize, fake };

int64_t code_of(float x, float scale, int64_t zero_point, const NumberFormat& f) {
  constexpr int64_t far = int64_t{1} << 40;  // keeps the sum from overflowing; beyond every code
  return std::clamp(std::clamp(rne(x / scale), -far, far) + zero_point, f.qmin, f.qmax);
}

// One line of elements. Channel step 0: one scale for the line; 1: one per element.
struct Line {
  const char* in;
  char* out;
  int64_t in_step, out_step, count;  // steps in elements
  const float* scale;
  const int64_t* zero_point;
  int64_t channel_step;
};

template <class Q>
void line_scalar(const Line& l, Mode mode, const NumberFormat& f) {
  for (int64_t i = 0; i < l.count; ++i) {
    const float s = l.scale[i * l.channel_step];
    const int64_t z = l.zero_point[i * l.channel_step];
    if (mode == Mode::dequantize) {
      const Q q = reinterpret_cast<const Q*>(l.in)[i * l.in_step];
      reinterpret_cast<float*>(l.out)[i * l.out_step] = to_float(static_cast<int64_t>(q) - z) * s;
      continue;
    }
    const int64_t q = code_of(reinterpret_cast<const float*>(l.in)[i * l.in_step], s, z, f);
    if (mode == Mode::quantize) reinterpret_cast<Q*>(l.out)[i * l.out_step] = static_cast<Q>(q);
    else reinterpret_cast<float*>(l.out)[i * l.out_step] = to_float(q - z) * s;
  }
}

// Dense lines of formats up to 16 bits. Codes relative to the zero point are below 2^17: exact in f32.
template <class Q>
__attribute__((target("avx2"))) int64_t line_avx2(const Line& l, Mode mode, const NumberFormat& f) {
  const float* in = reinterpret_cast<const float*>(l.in);
  const __m256 qmin = _mm256_set1_ps(static_cast<float>(f.qmin)), qmax = _mm256_set1_ps(static_cast<float>(f.qmax));
  int64_t i = 0;
  for (; i + 8 <= l.count; i += 8) {
    __m256 s, zf;
    if (l.channel_step == 0) {
      s = _mm256_set1_ps(l.scale[0]);
      zf = _mm256_set1_ps(static_cast<float>(l.zero_point[0]));
    } else {
      s = _mm256_loadu_ps(l.scale + i);
      alignas(32) int32_t z[8];
      for (int k = 0; k < 8; ++k) z[k] = static_cast<int32_t>(l.zero_point[i + k]);
      zf = _mm256_cvtepi32_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(z)));
    }
    __m256 t = _mm256_div_ps(_mm256_loadu_ps(in + i), s);
    t = _mm256_and_ps(t, _mm256_cmp_ps(t, t, _CMP_ORD_Q));  // NaN -> 0
    t = _mm256_round_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    t = _mm256_max_ps(_mm256_min_ps(t, _mm256_sub_ps(qmax, zf)), _mm256_sub_ps(qmin, zf));
    const __m256i relative = _mm256_cvttps_epi32(t);
    if (mode == Mode::fake) {
      _mm256_storeu_ps(reinterpret_cast<float*>(l.out) + i, _mm256_mul_ps(_mm256_cvtepi32_ps(relative), s));
      continue;
    }
    const __m256i q = _mm256_add_epi32(relative, _mm256_cvttps_epi32(zf));
    const __m128i low = _mm256_castsi256_si128(q), high = _mm256_extracti128_si256(q, 1);
    Q* out = reinterpret_cast<Q*>(l.out) + i;
    if constexpr (sizeof(Q) == 2) {
      const __m128i packed = std::is_signed_v<Q> ? _mm_packs_epi32(low, high) : _mm_packus_epi32(low, high);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out), packed);
    } else {
      const __m128i words = _mm_packs_epi32(low, high);
      const __m128i packed = std::is_signed_v<Q> ? _mm_packs_epi16(words, words) : _mm_packus_epi16(words, words);
      _mm_storel_epi64(reinterpret_cast<__m128i*>(out), packed);
    }
  }
  return i;
}

bool has_avx2() {
  static const bool yes = __builtin_cpu_supports("avx2");
  return yes;
}

template <class Q>
void run_line(Line l, Mode mode, const NumberFormat& f) {
  if constexpr (sizeof(Q) <= 2) {
    if (mode != Mode::dequantize && l.in_step == 1 && l.out_step == 1 && l.count >= 8 && has_avx2()) {
      const int64_t done = line_avx2<Q>(l, mode, f);
      l.in += done * static_cast<int64_t>(sizeof(float));
      l.out += done * static_cast<int64_t>(mode == Mode::fake ? sizeof(float) : sizeof(Q));
      l.scale += done * l.channel_step;
      l.zero_point += done * l.channel_step;
      l.count -= done;
    }
  }
  line_scalar<Q>(l, mode, f);
}

// The axes of both views, largest stride first, those that lie behind one another joined; the channel axis stays alone.
struct Walk { int64_t size, in_step, out_step; bool channel; };

std::vector<Walk> walk_of(const TensorView& in, const TensorView& out, int axis) {
  std::vector<size_t> order(in.dims.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return in.strides[a] > in.strides[b]; });
  std::vector<Walk> walk;
  for (size_t k : order) {
    const bool channel = axis >= 0 && k == static_cast<size_t>(axis);
    if (in.dims[k] == 1) continue;
    const Walk w{in.dims[k], in.strides[k], out.strides[k], channel};
    if (!walk.empty() && !channel && !walk.back().channel && walk.back().in_step == w.in_step * w.size &&
        walk.back().out_step == w.out_step * w.size) {
      walk.back() = {walk.back().size * w.size, w.in_step, w.out_step, false};
    } else {
      walk.push_back(w);
    }
  }
  if (walk.empty()) walk.push_back({1, 1, 1, false});
  return walk;
}

template <class Q>
void run_walk(const std::vector<Walk>& walk, size_t at, Line l, Mode mode, const NumberFormat& f) {
  const int64_t in_size = mode == Mode::dequantize ? sizeof(Q) : sizeof(float);
  const int64_t out_size = mode == Mode::quantize ? sizeof(Q) : sizeof(float);
  const Walk& w = walk[at];
  if (at + 1 == walk.size()) {
    l.in_step = w.in_step;
    l.out_step = w.out_step;
    l.count = w.size;
    l.channel_step = w.channel ? 1 : 0;
    run_line<Q>(l, mode, f);
    return;
  }
  for (int64_t i = 0; i < w.size; ++i) {
    run_walk<Q>(walk, at + 1, l, mode, f);
    l.in += w.in_step * in_size;
    l.out += w.out_step * out_size;
    if (w.channel) { ++l.scale; ++l.zero_point; }
  }
}

// f(Q{}) for the C++ type of the codes.
template <class F>
void with_codes(DType codes, const F& f) {
  switch (codes) {
    case DType::u8: return f(uint8_t{});
    case DType::s8: return f(int8_t{});
    case DType::u16: return f(uint16_t{});
    case DType::s16: return f(int16_t{});
    case DType::u32: return f(uint32_t{});
    default: return f(int32_t{});
  }
}

void convert(const TensorView& in, const QuantParams& p, const TensorView& out, Mode mode) {
  const DType codes = p.format.storage();
  const DType want_in = mode == Mode::dequantize ? codes : DType::f32, want_out = mode == Mode::quantize ? codes : DType::f32;
  if (in.type != want_in || out.type != want_out)
    throw Error(ErrorCode::internal, fmt::format("a quantizer from {} to {} was given {} and {}", name_of(want_in), name_of(want_out),
                                                 name_of(in.type), name_of(out.type)));
  if (!std::equal(in.dims.begin(), in.dims.end(), out.dims.begin(), out.dims.end()))
    throw Error(ErrorCode::internal, fmt::format("a quantizer from shape {} to {}", to_string(in.dims), to_string(out.dims)));
  if (p.scale.empty() || p.scale.size() != p.zero_point.size())
    throw Error(ErrorCode::internal, "a quantizer without as many zero points as scales");
  int axis = p.axis;
  if (axis >= 0) {
    if (axis >= static_cast<int>(in.dims.size()) || in.dims[static_cast<size_t>(axis)] != static_cast<int64_t>(p.scale.size()))
      throw Error(ErrorCode::internal, fmt::format("a quantizer with {} scales on axis {} does not fit shape {}", p.scale.size(), axis,
                                                   to_string(in.dims)));
  } else if (p.scale.size() != 1) {
    throw Error(ErrorCode::internal, "a quantizer with several scales and no axis");
  }
  if (in.count() == 0) return;
  const auto walk = walk_of(in, out, axis);
  const Line l{static_cast<const char*>(in.data), static_cast<char*>(out.data), 0, 0, 0, p.scale.data(), p.zero_point.data(), 0};
  with_codes(codes, [&](auto q) { run_walk<decltype(q)>(walk, 0, l, mode, p.format); });
}

Tensor converted(const Tensor& in, const QuantParams& p, Mode mode) {
  Tensor out(mode == Mode::quantize ? p.format.storage() : DType::f32, in.dims());
  const Dims strides = row_major_strides(in.dims());
  convert({const_cast<void*>(in.data()), in.type(), in.dims(), strides}, p, {out.mutable_bytes(), out.type(), out.dims(), strides}, mode);
  return out;
}

}  // namespace

void quantize(const TensorView& in, const QuantParams& p, const TensorView& out) { convert(in, p, out, Mode::quantize); }
void dequantize(const TensorView& in, const QuantParams& p, const TensorView& out) { convert(in, p, out, Mode::dequantize); }
void fake_quantize(const TensorView& in, const QuantParams& p, const TensorView& out) { convert(in, p, out, Mode::fake); }
void quantize_row(const float* in, int64_t count, const QuantParams& p, void* out) {
  const Line l{reinterpret_cast<const char*>(in), static_cast<char*>(out), 1, 1, count, p.scale.data(), p.zero_point.data(), 0};
  with_codes(p.format.storage(), [&](auto q) { run_line<decltype(q)>(l, Mode::quantize, p.format); });
}
Tensor quantize(const Tensor& in, const QuantParams& p) { return converted(in, p, Mode::quantize); }
Tensor fake_quantize(const Tensor& in, const QuantParams& p) { return converted(in, p, Mode::fake); }

}  // namespace quern
