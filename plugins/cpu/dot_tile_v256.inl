// The vector trait of AVX2 and FMA without its dot(): it differs for bytes and for numbers of 16 bits.
struct V256 {
  using Int = __m256i;
  using Float = __m256;
  using Wide = __m256i;
  static constexpr int64_t width = 8;
  static constexpr int rows_of[] = {0, 8, 6, 0, 0};
  static Int spread(int32_t a) { return _mm256_set1_epi32(a); }
  static Float spread(float a) { return _mm256_set1_ps(a); }
  static Int load32(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  static Float load_float(const float* p) { return _mm256_loadu_ps(p); }
  static Int broadcast(const uint8_t* p) {
    int32_t a;
    __builtin_memcpy(&a, p, 4);
    return _mm256_set1_epi32(a);
  }
  static Int add(Int a, Int b) { return _mm256_add_epi32(a, b); }
  static Int sub(Int a, Int b) { return _mm256_sub_epi32(a, b); }
  static Float to_float(Int a) { return _mm256_cvtepi32_ps(a); }
  static Float add(Float a, Float b) { return _mm256_add_ps(a, b); }
  static Float mul(Float a, Float b) { return _mm256_mul_ps(a, b); }
  static Float min(Float a, Float b) { return _mm256_min_ps(a, b); }
  static Float max(Float a, Float b) { return _mm256_max_ps(a, b); }
  static Float fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
  static Int rne(Float a) { return _mm256_cvtps_epi32(_mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)); }
  static Int codes(const uint8_t* p, uint8_t flip) {
    const __m128i c = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    return _mm256_cvtepu8_epi32(_mm_xor_si128(c, _mm_set1_epi8(static_cast<char>(flip))));
  }
  static Int gather(const int32_t* table, Int i) { return _mm256_i32gather_epi32(table, i, 4); }
  static Float as_float(Int a) { return _mm256_castsi256_ps(a); }
  template <int vectors>
  static void store_codes(uint8_t* p, const Int* a, int64_t n, bool is_signed) {
    // Each half: four codes of the first vector, four of the last.
    const __m256i wide = _mm256_packs_epi32(a[0], a[vectors - 1]);
    const __m256i bytes = is_signed ? _mm256_packs_epi16(wide, wide) : _mm256_packus_epi16(wide, wide);
    const __m128i all = _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 0, 0, 0, 0)));
    if (n >= 8 * vectors) {
      if (vectors == 2) _mm_storeu_si128(reinterpret_cast<__m128i*>(p), all);
      else _mm_storel_epi64(reinterpret_cast<__m128i*>(p), all);
    } else {
      uint8_t part[16];
      _mm_storeu_si128(reinterpret_cast<__m128i*>(part), all);
      for (int64_t i = 0; i < n; ++i) p[i] = part[i];
    }
  }
  static void store_floats(float* p, Float a, int64_t n) {
    if (n == width) {
      _mm256_storeu_ps(p, a);
    } else {
      alignas(32) float all[8];
      _mm256_store_ps(all, a);
      for (int64_t i = 0; i < n; ++i) p[i] = all[i];
    }
  }
  static Wide load_wide(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static Wide pair_low(Wide a, Wide b) { return _mm256_unpacklo_epi16(a, b); }
  static Wide pair_high(Wide a, Wide b) { return _mm256_unpackhi_epi16(a, b); }
  static Int mac(Int acc, Wide a, Wide b) { return _mm256_add_epi32(acc, _mm256_madd_epi16(a, b)); }
  // low: channels 0-3, 8-11; high: 4-7, 12-15.
  static void unlace(Int& low, Int& high) {
    const Int l = low;
    low = _mm256_permute2x128_si256(l, high, 0x20);
    high = _mm256_permute2x128_si256(l, high, 0x31);
  }
};
