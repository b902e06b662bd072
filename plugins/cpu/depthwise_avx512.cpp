// The row of depthwise.hpp on AVX-512 with VNNI. Compiled for it; called only where the profile vnni is available.
#include <immintrin.h>

#include "plugins/cpu/depthwise_row.hpp"

namespace quern_cpu {
namespace {

// Addresses in the buffer: [group of rows][plane][part j][column of the plane * units + unit], 16 bytes each.
struct Place {
  uint8_t* base;
  int64_t units, part, plane, group;  // bytes from one to the next
  uint8_t* at(int64_t g, int64_t p, int64_t j, int64_t index) const {
    return base + g * group + p * plane + j * part + index * 16;
  }
};

template <int width>  // units at once
inline void weave(const uint8_t* r0, const uint8_t* r1, const uint8_t* r2, const uint8_t* r3, uint8_t flip, uint8_t* to,
                  int64_t part) {
  if constexpr (width == 4) {
    const __m512i f = _mm512_set1_epi8(static_cast<char>(flip));
    const __m512i a = _mm512_xor_si512(_mm512_loadu_si512(r0), f), b = _mm512_xor_si512(_mm512_loadu_si512(r1), f);
    const __m512i c = _mm512_xor_si512(_mm512_loadu_si512(r2), f), d = _mm512_xor_si512(_mm512_loadu_si512(r3), f);
    const __m512i t0 = _mm512_unpacklo_epi8(a, b), t1 = _mm512_unpackhi_epi8(a, b), t2 = _mm512_unpacklo_epi8(c, d),
                  t3 = _mm512_unpackhi_epi8(c, d);
    _mm512_storeu_si512(to, _mm512_unpacklo_epi16(t0, t2));
    _mm512_storeu_si512(to + part, _mm512_unpackhi_epi16(t0, t2));
    _mm512_storeu_si512(to + 2 * part, _mm512_unpacklo_epi16(t1, t3));
    _mm512_storeu_si512(to + 3 * part, _mm512_unpackhi_epi16(t1, t3));
  } else {
    const auto load = [&](const uint8_t* p) {
      return _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)),
                           _mm_set1_epi8(static_cast<char>(flip)));
    };
    const auto store = [&](int64_t j, __m128i v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(to + j * part), v); };
    const __m128i a = load(r0), b = load(r1), c = load(r2), d = load(r3);
    const __m128i t0 = _mm_unpacklo_epi8(a, b), t1 = _mm_unpackhi_epi8(a, b), t2 = _mm_unpacklo_epi8(c, d),
                  t3 = _mm_unpackhi_epi8(c, d);
    store(0, _mm_unpacklo_epi16(t0, t2));
    store(1, _mm_unpackhi_epi16(t0, t2));
    store(2, _mm_unpacklo_epi16(t1, t3));
    store(3, _mm_unpackhi_epi16(t1, t3));
  }
}

// `units` units that lie one after the other in all four rows.
inline void weave_run(const uint8_t* const* r, int64_t from, int64_t units, uint8_t flip, uint8_t* to, int64_t part) {
  int64_t u = 0;
  for (; u + 4 <= units; u += 4)
    weave<4>(r[0] + from + u * 16, r[1] + from + u * 16, r[2] + from + u * 16, r[3] + from + u * 16, flip, to + u * 16,
             part);
  for (; u < units; ++u)
    weave<1>(r[0] + from + u * 16, r[1] + from + u * 16, r[2] + from + u * 16, r[3] + from + u * 16, flip, to + u * 16,
             part);
}

void prepare(const DepthwisePlan& p, const uint8_t* const* rows, int64_t first_channel, const Place& place) {
  const __m128i padding = _mm_set1_epi8(static_cast<char>(p.pad_code ^ p.flip));
  const bool whole = p.sw == 1 && place.units * 16 == p.channels;  // the row is one run
  for (int64_t g = 0; g < p.groups_of_rows; ++g) {
    // Rows behind the kernel have the weight 0: any row will do.
    const uint8_t* r[4];
    for (int64_t k = 0; k < 4; ++k) r[k] = rows[g * 4 + k < p.kh ? g * 4 + k : 0];
    int64_t plane = 0, index = 0;  // of column x: x % sw, x / sw * units
    const auto next = [&] {
      if (++plane == p.sw) plane = 0, index += place.units;
    };
    for (int64_t x = 0; x < p.columns;) {
      const int64_t ix = x - p.pad_left;
      uint8_t* to = place.at(g, plane, 0, index);
      if (ix < 0 || ix >= p.iw) {
        for (int64_t j = 0; j < 4; ++j)
          for (int64_t u = 0; u < place.units; ++u)
            _mm_storeu_si128(reinterpret_cast<__m128i*>(to + j * place.part + u * 16), padding);
        ++x;
        next();
      } else if (whole) {
        const int64_t run = p.iw - ix < p.columns - x ? p.iw - ix : p.columns - x;
        weave_run(r, ix * p.channels, run * place.units, p.flip, to, place.part);
        x += run;
        index += run * place.units;
      } else {
        weave_run(r, ix * p.channels + first_channel, place.units, p.flip, to, place.part);
        ++x;
        next();
      }
    }
  }
}

template <int n, bool f>
struct Known {
  static constexpr int taps = n;
  static constexpr bool fixed = f;
};

// Where four units in a row lie in the output: one address and one mask of channels each.
struct Target {
  int64_t offset[4];  // in elements
  __mmask16 mask[4];
  bool dense;  // 64 channels one after the other
};

template <bool floats>
inline __m512 residual_part(const DepthwisePlan& p, const void* out, const Target& t, int j, __m512i codes) {
  if constexpr (floats) {
    (void)codes;
    __m512 v = _mm512_setzero_ps();
    const auto* f = static_cast<const float*>(out);
    const auto part = [&](int l) {
      const auto m = static_cast<__mmask8>(t.mask[l] >> (4 * j) & 15);
      return _mm_maskz_loadu_ps(m, f + t.offset[l] + 4 * j);
    };
    v = _mm512_insertf32x4(v, part(0), 0);
    v = _mm512_insertf32x4(v, part(1), 1);
    v = _mm512_insertf32x4(v, part(2), 2);
    return _mm512_insertf32x4(v, part(3), 3);
  } else {
    (void)out;
    // Bytes 4j..4j+3 of each lane to the lowest byte of its four numbers.
    const __m128i pick = _mm_setr_epi8(0, -1, -1, -1, 1, -1, -1, -1, 2, -1, -1, -1, 3, -1, -1, -1);
    const __m128i shifted =
        _mm_add_epi8(pick, _mm_and_si128(_mm_set1_epi8(static_cast<char>(4 * j)), _mm_set1_epi32(0xff)));
    const __m512i wide = _mm512_shuffle_epi8(codes, _mm512_broadcast_i32x4(shifted));
    const int32_t zero = p.residual_zp + (p.residual_signed ? 128 : 0);
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(wide, _mm512_set1_epi32(zero)));
  }
}

// taps: kernel columns times groups of rows where that is known when this is compiled, else 0. fixed: the vectors of
// four units can be visited so that many in a row have the same channels; their weights then stay in registers.
template <bool floats, bool residual, int taps, bool fixed>
void compute(const DepthwisePlan& p, int64_t chunk, const Place& place, void* out) {
  const int64_t first = chunk * p.chunk, slots = p.chunk + 3, units = place.units;
  const int8_t* weights = p.weights + chunk * p.weights_of_chunk;
  const int32_t* offsets = p.offsets + chunk * p.tables_of_chunk;
  const float* bias = p.bias + chunk * p.tables_of_chunk;
  const float* multiplier = p.multiplier + chunk * p.tables_of_chunk;
  const __m512 low = _mm512_set1_ps(p.low), high = _mm512_set1_ps(p.high), zero = _mm512_set1_ps(p.dst_zp);
  const __m512 scale = _mm512_set1_ps(p.residual_scale);
  // Adding the zero point keeps the order of floats, so one clamp after it does for both: that of the activation, moved
  // by the zero point, and that of the codes.
  const __m512 qmin = _mm512_max_ps(_mm512_set1_ps(p.qmin), _mm512_add_ps(low, zero));
  const __m512 qmax = _mm512_max_ps(qmin, _mm512_min_ps(_mm512_set1_ps(p.qmax), _mm512_add_ps(high, zero)));
  const int64_t total = p.ow * units;
  const bool even = units * 16 == p.channels;  // units of the whole row lie one after the other in the output
  // Where the taps lie, seen from the first of the four units.
  const int64_t count = taps ? taps : p.groups_of_rows * p.kw;
  const uint8_t* sources[64];
  for (int64_t k = 0; k < count; ++k) {
    const int64_t shift = k % p.kw * p.dw;
    sources[k] = place.at(k / p.kw, shift % p.sw, 0, shift / p.sw * units);
  }
  // fixed: block after block of four units, each along the whole row (one block where a vector holds whole columns).
  const int64_t blocks = fixed && units > 4 ? units / 4 : 1, advance = fixed && units > 4 ? units : 4;
  for (int64_t block = 0; block < blocks; ++block) {
    __m512i kept[fixed ? taps * 4 : 1];
    if constexpr (fixed)
      for (int k = 0; k < taps * 4; ++k) kept[k] = _mm512_loadu_si512(weights + (k * slots + block * 4) * 16);
    int64_t column = 0, unit = block * 4;  // of the first of the four
    for (int64_t u = block * 4; u < total; u += advance) {
      const int64_t slot = unit;
      __m512i acc[4];
      for (int j = 0; j < 4; ++j) acc[j] = _mm512_loadu_si512(offsets + (j * slots + slot) * 4);
      const int8_t* w = weights + slot * 16;
      const auto step = [&](int64_t k) {
        const uint8_t* x = sources[k] + u * 16;
        for (int j = 0; j < 4; ++j)
          acc[j] = _mm512_dpbusd_epi32(
              acc[j], _mm512_loadu_si512(x + j * place.part),
              fixed ? kept[fixed ? k * 4 + j : 0] : _mm512_loadu_si512(w + (k * 4 + j) * slots * 16));
      };
      if constexpr (taps) {
#pragma GCC unroll 8
        for (int k = 0; k < taps; ++k) step(k);
      } else {
        for (int64_t k = 0; k < count; ++k) step(k);
      }
      Target t;
      t.dense = even && u + 4 <= total;
      if (t.dense) {
        for (int l = 0; l < 4; ++l) {
          t.offset[l] = (u + l) * 16;
          t.mask[l] = 0xffff;
        }
        if (!fixed)
          for (unit += 4; unit >= units;) unit -= units;
      } else {
        if (even || fixed) column = u / units;
        for (int l = 0; l < 4; ++l) {
          const int64_t channel = (first + unit) * 16, left = p.channels - channel;
          t.offset[l] = u + l < total ? column * p.channels + channel : 0;
          t.mask[l] = static_cast<__mmask16>(u + l >= total ? 0 : left >= 16 ? 0xffff : (1u << left) - 1);
          if (++unit == units) unit = 0, ++column;
        }
        if (fixed) unit = slot;
      }
      __m512i codes = _mm512_setzero_si512();
      if constexpr (residual && !floats) {
        const auto* bytes = static_cast<const uint8_t*>(out);
        if (t.dense) {
          codes = _mm512_loadu_si512(bytes + t.offset[0]);
        } else {
          codes = _mm512_inserti32x4(codes, _mm_maskz_loadu_epi8(t.mask[0], bytes + t.offset[0]), 0);
          codes = _mm512_inserti32x4(codes, _mm_maskz_loadu_epi8(t.mask[1], bytes + t.offset[1]), 1);
          codes = _mm512_inserti32x4(codes, _mm_maskz_loadu_epi8(t.mask[2], bytes + t.offset[2]), 2);
          codes = _mm512_inserti32x4(codes, _mm_maskz_loadu_epi8(t.mask[3], bytes + t.offset[3]), 3);
        }
        if (p.residual_signed) codes = _mm512_xor_si512(codes, _mm512_set1_epi8(static_cast<char>(0x80)));
      }
      __m512 v[4];
      for (int j = 0; j < 4; ++j) {
        const int64_t at = (j * slots + slot) * 4;
        v[j] = _mm512_mul_ps(_mm512_add_ps(_mm512_cvtepi32_ps(acc[j]), _mm512_loadu_ps(bias + at)),
                             _mm512_loadu_ps(multiplier + at));
        if constexpr (residual) v[j] = _mm512_fmadd_ps(residual_part<floats>(p, out, t, j, codes), scale, v[j]);
      }
      if constexpr (floats) {
        for (int j = 0; j < 4; ++j) v[j] = _mm512_min_ps(_mm512_max_ps(v[j], low), high);
        auto* f = static_cast<float*>(out);
        for (int j = 0; j < 4; ++j) {
          const auto put = [&](int l, __m128 part) {
            _mm_mask_storeu_ps(f + t.offset[l] + 4 * j, static_cast<__mmask8>(t.mask[l] >> (4 * j) & 15), part);
          };
          put(0, _mm512_extractf32x4_ps(v[j], 0));
          put(1, _mm512_extractf32x4_ps(v[j], 1));
          put(2, _mm512_extractf32x4_ps(v[j], 2));
          put(3, _mm512_extractf32x4_ps(v[j], 3));
        }
      } else {
        __m512i q[4];
        for (int j = 0; j < 4; ++j)
          q[j] = _mm512_cvt_roundps_epi32(_mm512_min_ps(_mm512_max_ps(_mm512_add_ps(v[j], zero), qmin), qmax),
                                          _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        const __m512i a = _mm512_packs_epi32(q[0], q[1]), b = _mm512_packs_epi32(q[2], q[3]);
        const __m512i y = p.dst_signed ? _mm512_packs_epi16(a, b) : _mm512_packus_epi16(a, b);
        auto* bytes = static_cast<uint8_t*>(out);
        if (t.dense) {
          _mm512_storeu_si512(bytes + t.offset[0], y);
        } else {
          _mm_mask_storeu_epi8(bytes + t.offset[0], t.mask[0], _mm512_extracti32x4_epi32(y, 0));
          _mm_mask_storeu_epi8(bytes + t.offset[1], t.mask[1], _mm512_extracti32x4_epi32(y, 1));
          _mm_mask_storeu_epi8(bytes + t.offset[2], t.mask[2], _mm512_extracti32x4_epi32(y, 2));
          _mm_mask_storeu_epi8(bytes + t.offset[3], t.mask[3], _mm512_extracti32x4_epi32(y, 3));
        }
      }
    }
  }
}

}  // namespace

void depthwise_row(const DepthwisePlan& p, const uint8_t* const* rows, int64_t chunk, void* out, uint8_t* buffer) {
  const int64_t all = (p.channels + 15) / 16, left = all - chunk * p.chunk;
  Place place;
  place.base = buffer;
  place.units = left < p.chunk ? left : p.chunk;
  place.part = (p.plane * p.chunk + 4) * 16;
  place.plane = 4 * place.part;
  place.group = p.sw * place.plane;
  prepare(p, rows, chunk * p.chunk * 16, place);
  const auto run = [&](auto known) {
    constexpr int taps = decltype(known)::taps;
    constexpr bool fixed = decltype(known)::fixed;
    if (p.dst_float)
      p.has_residual ? compute<true, true, taps, fixed>(p, chunk, place, out)
                     : compute<true, false, taps, fixed>(p, chunk, place, out);
    else
      p.has_residual ? compute<false, true, taps, fixed>(p, chunk, place, out)
                     : compute<false, false, taps, fixed>(p, chunk, place, out);
  };
  const bool fixed = place.units % 4 == 0 || place.units <= 2;
  if (p.groups_of_rows * p.kw == 3)
    fixed ? run(Known<3, true>()) : run(Known<3, false>());
  else
    run(Known<0, false>());
}

}  // namespace quern_cpu
