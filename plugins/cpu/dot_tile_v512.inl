// The vector trait of AVX-512 (f, bw, vl, dq) without its dot() and mac(): they differ with and without VNNI.
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
  template <int vectors>
  static void store_codes(uint8_t* p, const Int* a, int64_t n, bool is_signed) {
    if (vectors == 4 && n >= 64) {
      // Each quarter: four codes of each vector.
      const Int first = _mm512_packs_epi32(a[0], a[vectors > 1 ? 1 : 0]), second = _mm512_packs_epi32(a[vectors > 2 ? 2 : 0], a[vectors > 3 ? 3 : 0]);
      const Int bytes = is_signed ? _mm512_packs_epi16(first, second) : _mm512_packus_epi16(first, second);
      const Int order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
      _mm512_storeu_si512(p, _mm512_permutexvar_epi32(order, bytes));
      return;
    }
#pragma GCC unroll 4
    for (int i = 0; i < vectors; ++i) {
      const __m128i bytes = _mm512_cvtepi32_epi8(a[i]);
      const int64_t left = n - 16 * i;
      if (left >= 16) _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 16 * i), bytes);
      else if (left > 0) _mm_mask_storeu_epi8(p + 16 * i, static_cast<__mmask16>((1u << left) - 1), bytes);
    }
  }
  static void store_floats(float* p, Float a, int64_t n) {
    if (n == width) _mm512_storeu_ps(p, a);
    else if (n > 0) _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), a);
  }
  static Wide load_wide(const uint8_t* p) { return _mm512_loadu_si512(p); }
  static Wide pair_low(Wide a, Wide b) { return _mm512_unpacklo_epi16(a, b); }
  static Wide pair_high(Wide a, Wide b) { return _mm512_unpackhi_epi16(a, b); }
  // Quarters of low: channels 0-3, 8-11, 16-19, 24-27; of high those between.
  static void unlace(Int& low, Int& high) {
    const Int l = low;
    low = _mm512_permutex2var_epi64(l, _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), high);
    high = _mm512_permutex2var_epi64(l, _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15), high);
  }
};

// Codes as numbers of 16 bits.
inline void prepare_wide(const uint8_t* codes, int64_t n, uint8_t flip, int32_t zero_point, void* to) {
  auto* out = static_cast<uint8_t*>(to);
  const __m256i f = _mm256_set1_epi8(static_cast<char>(flip));
  const __m512i zero = _mm512_set1_epi16(static_cast<int16_t>(zero_point));
  for (int64_t i = 0; i < n; i += 32) {
    const __m256i c = _mm256_xor_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + i)), f);
    _mm512_storeu_si512(out + 2 * i, _mm512_sub_epi16(_mm512_cvtepu8_epi16(c), zero));
  }
}
