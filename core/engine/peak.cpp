#include "core/engine/peak.hpp"

#include <immintrin.h>
#include <omp.h>

#include <algorithm>
#include <chrono>

#include "core/engine/threads.hpp"

namespace quern {
namespace {

// Every loop: independent sums in variables of their own (an array would end up in memory), enough to hide the latency of every x86 so far.
// Sums and operands are opaque to the compiler, so that it can't compute the result beforehand. Each returns how many operations it did.
#define QUERN_EIGHT(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7)
#define QUERN_TWELVE(M) QUERN_EIGHT(M) M(8) M(9) M(10) M(11)

__attribute__((target("avx512f"))) double f32_avx512(int64_t rounds) {
  __m512 a = _mm512_set1_ps(1.0f), b = _mm512_set1_ps(0.5f);
  asm volatile("" : "+v"(a), "+v"(b));
#define QUERN_SUM(i) __m512 s##i = _mm512_setzero_ps();
#define QUERN_STEP(i) s##i = _mm512_fmadd_ps(a, b, s##i); asm volatile("" : "+v"(s##i));
  QUERN_TWELVE(QUERN_SUM)
  for (int64_t r = 0; r < rounds; ++r) { QUERN_TWELVE(QUERN_STEP) }
#undef QUERN_SUM
#undef QUERN_STEP
  return static_cast<double>(rounds) * 12 * 32;
}

__attribute__((target("avx2,fma"))) double f32_avx2(int64_t rounds) {
  __m256 a = _mm256_set1_ps(1.0f), b = _mm256_set1_ps(0.5f);
  asm volatile("" : "+x"(a), "+x"(b));
#define QUERN_SUM(i) __m256 s##i = _mm256_setzero_ps();
#define QUERN_STEP(i) s##i = _mm256_fmadd_ps(a, b, s##i); asm volatile("" : "+x"(s##i));
  QUERN_TWELVE(QUERN_SUM)
  for (int64_t r = 0; r < rounds; ++r) { QUERN_TWELVE(QUERN_STEP) }
#undef QUERN_SUM
#undef QUERN_STEP
  return static_cast<double>(rounds) * 12 * 16;
}

double f32_sse(int64_t rounds) {
  __m128 a = _mm_set1_ps(1.0f), b = _mm_set1_ps(0.5f);
#define QUERN_SUM(i) __m128 s##i = _mm_setzero_ps();
#define QUERN_STEP(i) asm volatile("" : "+x"(a)); s##i = _mm_add_ps(_mm_mul_ps(a, b), s##i); asm volatile("" : "+x"(s##i));
  QUERN_EIGHT(QUERN_SUM)
  for (int64_t r = 0; r < rounds; ++r) { QUERN_EIGHT(QUERN_STEP) }
#undef QUERN_SUM
#undef QUERN_STEP
  return static_cast<double>(rounds) * 8 * 8;
}

__attribute__((target("avx512f,avx512vnni"))) double int8_vnni(int64_t rounds) {
  __m512i a = _mm512_set1_epi8(1), b = _mm512_set1_epi8(2);
  asm volatile("" : "+v"(a), "+v"(b));
#define QUERN_SUM(i) __m512i s##i = _mm512_setzero_si512();
#define QUERN_STEP(i) s##i = _mm512_dpbusd_epi32(s##i, a, b); asm volatile("" : "+v"(s##i));
  QUERN_TWELVE(QUERN_SUM)
  for (int64_t r = 0; r < rounds; ++r) { QUERN_TWELVE(QUERN_STEP) }
#undef QUERN_SUM
#undef QUERN_STEP
  return static_cast<double>(rounds) * 12 * 128;
}

// Without VNNI an exact dot product widens to 16 bits and uses pmaddwd.
__attribute__((target("avx2"))) double int8_avx2(int64_t rounds) {
  __m256i a = _mm256_set1_epi16(1), b = _mm256_set1_epi16(2);
#define QUERN_SUM(i) __m256i s##i = _mm256_setzero_si256();
#define QUERN_STEP(i) asm volatile("" : "+x"(a)); s##i = _mm256_add_epi32(s##i, _mm256_madd_epi16(a, b)); asm volatile("" : "+x"(s##i));
  QUERN_EIGHT(QUERN_SUM)
  for (int64_t r = 0; r < rounds; ++r) { QUERN_EIGHT(QUERN_STEP) }
#undef QUERN_SUM
#undef QUERN_STEP
  return static_cast<double>(rounds) * 8 * 32;
}

double int8_sse(int64_t rounds) {
  __m128i a = _mm_set1_epi16(1), b = _mm_set1_epi16(2);
#define QUERN_SUM(i) __m128i s##i = _mm_setzero_si128();
#define QUERN_STEP(i) asm volatile("" : "+x"(a)); s##i = _mm_add_epi32(s##i, _mm_madd_epi16(a, b)); asm volatile("" : "+x"(s##i));
  QUERN_EIGHT(QUERN_SUM)
  for (int64_t r = 0; r < rounds; ++r) { QUERN_EIGHT(QUERN_STEP) }
#undef QUERN_SUM
#undef QUERN_STEP
  return static_cast<double>(rounds) * 8 * 16;
}

// The best of several tries, all threads at once: the machine may be busy.
double best(double (*loop)(int64_t), int threads) {
  using Clock = std::chrono::steady_clock;
  constexpr int64_t rounds = 20'000;
  double most = 0;
  for (int attempt = 0; attempt < 12; ++attempt) {
    double operations = 0;
    const auto begin = Clock::now();
#pragma omp parallel num_threads(threads) reduction(+ : operations)
    operations += loop(rounds);
    most = std::max(most, operations / std::chrono::duration<double>(Clock::now() - begin).count());
  }
  return most * 1e-9;
}

}  // namespace

MachinePeak measure_peak(int threads) {
  const OperatorThreads scope(threads);
  const bool avx512 = __builtin_cpu_supports("avx512f"), avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  MachinePeak p;
  p.f32 = best(avx512 ? f32_avx512 : avx2 ? f32_avx2 : f32_sse, threads);
  p.f32_by = avx512 ? "fma avx512" : avx2 ? "fma avx2" : "mul and add sse";
  const bool vnni = __builtin_cpu_supports("avx512vnni");
  p.int8 = best(vnni ? int8_vnni : avx2 ? int8_avx2 : int8_sse, threads);
  p.int8_by = vnni ? "vpdpbusd avx512" : avx2 ? "pmaddwd avx2" : "pmaddwd sse";
  return p;
}

}  // namespace quern
