// The vector trait of AVX-512 (f, bw, vl, dq) without its dot(): that differs with and without VNNI.
struct V512 {
  using Int = __m512i;
  using Float = __m512;
  using Wide = __m512i;
  static constexpr int64_t width = 16;
  static constexpr int rows_of[] = {0, 12, 12, 8, 6};
  static Int spread(int32_t a) { return _mm512_set1_epi32(a); }
  static Float spread(float a) { return _mm512_set1_ps(a); }
  static Int load32(const void* p) { return _mm512_loadu_si512(p); }
  static Float load_float(const float* p) { return _mm512_loadu_ps(p); }
  static Int broadcast(const uint8_t* p) {
    int32_t a;
    __builtin_memcpy(&a, p, 4);
    return _mm512_set1_epi32(a);
  }
  static Int add(Int a, Int b) { return _mm512_add_epi32(a, b); }
  static Int sub(Int a, Int b) { return _mm512_sub_epi32(a, b); }
  static Float to_float(Int a) { return _mm512_cvtepi32_ps(a); }
  static Float add(Float a, Float b) { return _mm512_add_ps(a, b); }
  static Float mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
  static Float min(Float a, Float b) { return _mm512_min_ps(a, b); }
  static Float max(Float a, Float b) { return _mm512_max_ps(a, b); }
  static Float fma(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
  static Int rne(Float a) { return _mm512_cvt_roundps_epi32(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static Int codes(const uint8_t* p, uint8_t flip) {
    const __m128i c = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm512_cvtepu8_epi32(_mm_xor_si128(c, _mm_set1_epi8(static_cast<char>(flip))));
  }
  static Int gather(const int32_t* table, Int i) { return _mm512_i32gather_epi32(i, table, 4); }
  static Float as_float(Int a) { return _mm512_castsi512_ps(a); }
  static void store_codes(uint8_t* p, Int a, int64_t n) {
    const __m128i bytes = _mm512_cvtepi32_epi8(a);
    if (n == width) _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
    else if (n > 0) _mm_mask_storeu_epi8(p, static_cast<__mmask16>((1u << n) - 1), bytes);
  }
  static void store_floats(float* p, Float a, int64_t n) {
    if (n == width) _mm512_storeu_ps(p, a);
    else if (n > 0) _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), a);
  }
  static Wide load_wide(const uint8_t* p) { return _mm512_loadu_si512(p); }
  static Wide pair_low(Wide a, Wide b) { return _mm512_unpacklo_epi16(a, b); }
  static Wide pair_high(Wide a, Wide b) { return _mm512_unpackhi_epi16(a, b); }
  static Int madd(Wide a, Wide b) { return _mm512_madd_epi16(a, b); }
  // Quarters of low: channels 0-3, 8-11, 16-19, 24-27; of high those between.
  static void unlace(Int& low, Int& high) {
    const Int l = low;
    low = _mm512_permutex2var_epi64(l, _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), high);
    high = _mm512_permutex2var_epi64(l, _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15), high);
  }
};
