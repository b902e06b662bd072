// The vector trait of SSE4.1 without its dot(): it differs for bytes and for numbers of 16 bits.
struct V128 {
  using Int = __m128i;
  using Float = __m128;
  using Wide = __m128i;
  static constexpr int64_t width = 4;
  static constexpr int rows_of[] = {0, 8, 6, 0, 0};
  static Int spread(int32_t a) { return _mm_set1_epi32(a); }
  static Float spread(float a) { return _mm_set1_ps(a); }
  static Int load32(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
  static Float load_float(const float* p) { return _mm_loadu_ps(p); }
  static Int broadcast(const uint8_t* p) {
    int32_t a;
    __builtin_memcpy(&a, p, 4);
    return _mm_set1_epi32(a);
  }
  static Int add(Int a, Int b) { return _mm_add_epi32(a, b); }
  static Int sub(Int a, Int b) { return _mm_sub_epi32(a, b); }
  static Float to_float(Int a) { return _mm_cvtepi32_ps(a); }
  static Float add(Float a, Float b) { return _mm_add_ps(a, b); }
  static Float mul(Float a, Float b) { return _mm_mul_ps(a, b); }
  static Float min(Float a, Float b) { return _mm_min_ps(a, b); }
  static Float max(Float a, Float b) { return _mm_max_ps(a, b); }
  // a * b + c, rounded once, of an integer a of at most 9 bits: the product is exact in double. The sum is brought to the
  // double with an odd last bit where it is not exact (from the error of the addition); that rounds to the right float.
  static __m128d odd_sum(__m128d p, __m128d c) {
    const __m128d s = _mm_add_pd(p, c), q = _mm_sub_pd(s, p);
    const __m128d error = _mm_add_pd(_mm_sub_pd(p, _mm_sub_pd(s, q)), _mm_sub_pd(c, q));
    const __m128i bits = _mm_castpd_si128(s), one = _mm_set1_epi64x(1);
    const __m128i inexact = _mm_castpd_si128(_mm_cmpneq_pd(error, _mm_setzero_pd()));
    const __m128i even = _mm_cmpeq_epi64(_mm_and_si128(bits, one), _mm_setzero_si128());
    // Away from zero where error and sum have one sign, towards it otherwise: +1 or -1 on the bits.
    const __m128i apart = _mm_srli_epi64(_mm_xor_si128(bits, _mm_castpd_si128(error)), 63);
    const __m128i step = _mm_sub_epi64(one, _mm_slli_epi64(apart, 1));
    return _mm_castsi128_pd(_mm_add_epi64(bits, _mm_and_si128(_mm_and_si128(inexact, even), step)));
  }
  static Float fma(Float a, Float b, Float c) {
    const __m128 a2 = _mm_movehl_ps(a, a), b2 = _mm_movehl_ps(b, b), c2 = _mm_movehl_ps(c, c);
    const __m128d low = odd_sum(_mm_mul_pd(_mm_cvtps_pd(a), _mm_cvtps_pd(b)), _mm_cvtps_pd(c));
    const __m128d high = odd_sum(_mm_mul_pd(_mm_cvtps_pd(a2), _mm_cvtps_pd(b2)), _mm_cvtps_pd(c2));
    return _mm_movelh_ps(_mm_cvtpd_ps(low), _mm_cvtpd_ps(high));
  }
  static Int rne(Float a) { return _mm_cvtps_epi32(_mm_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)); }
  static Int codes(const uint8_t* p, uint8_t flip) {
    int32_t a;
    __builtin_memcpy(&a, p, 4);
    return _mm_cvtepu8_epi32(_mm_xor_si128(_mm_cvtsi32_si128(a), _mm_set1_epi8(static_cast<char>(flip))));
  }
  static Int gather(const int32_t* table, Int i) {
    return _mm_setr_epi32(table[_mm_extract_epi32(i, 0)], table[_mm_extract_epi32(i, 1)], table[_mm_extract_epi32(i, 2)], table[_mm_extract_epi32(i, 3)]);
  }
  static Float as_float(Int a) { return _mm_castsi128_ps(a); }
  template <int vectors>
  static void store_codes(uint8_t* p, const Int* a, int64_t n, bool is_signed) {
    const __m128i wide = _mm_packs_epi32(a[0], a[vectors - 1]);
    const __m128i all = is_signed ? _mm_packs_epi16(wide, wide) : _mm_packus_epi16(wide, wide);
    if (n >= 4 * vectors) {
      if (vectors == 2) _mm_storel_epi64(reinterpret_cast<__m128i*>(p), all);
      else __builtin_memcpy(p, &all, 4);
    } else {
      uint8_t bytes[16];
      _mm_storeu_si128(reinterpret_cast<__m128i*>(bytes), all);
      for (int64_t i = 0; i < n; ++i) p[i] = bytes[i];
    }
  }
  static void store_floats(float* p, Float a, int64_t n) {
    if (n == width) {
      _mm_storeu_ps(p, a);
    } else {
      alignas(16) float all[4];
      _mm_store_ps(all, a);
      for (int64_t i = 0; i < n; ++i) p[i] = all[i];
    }
  }
  static Wide load_wide(const uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
  static Wide pair_low(Wide a, Wide b) { return _mm_unpacklo_epi16(a, b); }
  static Wide pair_high(Wide a, Wide b) { return _mm_unpackhi_epi16(a, b); }
  static Int mac(Int acc, Wide a, Wide b) { return _mm_add_epi32(acc, _mm_madd_epi16(a, b)); }
  static void unlace(Int&, Int&) {}
};
