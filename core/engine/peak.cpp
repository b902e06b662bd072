#include "core/engine/peak.hpp"

#include <immintrin.h>
#include <omp.h>

#include <algorithm>
#include <chrono>

#include "core/engine/threads.hpp"

namespace quern {
namespace {

// Every loop: 16 independent chains, which hides the latency of every x86 so far. A chain's operands are opaque to the compiler, so
// that it can't compute the result beforehand. Each returns how many operations it did.
constexpr int chains = 16;

template <class V>
inline void opaque(V& v) { asm volatile("" : "+x"(v)); }

__attribute__((target("avx512f"))) double f32_avx512(int64_t rounds) {
  __m512 sum[chains], a = _mm512_set1_ps(1.0f), b = _mm512_set1_ps(0.5f);
  for (auto& s : sum) s = _mm512_setzero_ps();
  asm volatile("" : "+v"(a), "+v"(b));
  for (int64_t r = 0; r < rounds; ++r)
#pragma GCC unroll 16
    for (auto& s : sum) {
      s = _mm512_fmadd_ps(a, b, s);
      asm volatile("" : "+v"(s));
    }
  return static_cast<double>(rounds) * chains * 32;
}

__attribute__((target("avx2,fma"))) double f32_avx2(int64_t rounds) {
  // Twelve chains and two operands: all in the sixteen registers.
  __m256 sum[12], a = _mm256_set1_ps(1.0f), b = _mm256_set1_ps(0.5f);
  for (auto& s : sum) s = _mm256_setzero_ps();
  asm volatile("" : "+x"(a), "+x"(b));
  for (int64_t r = 0; r < rounds; ++r)
#pragma GCC unroll 16
    for (auto& s : sum) {
      s = _mm256_fmadd_ps(a, b, s);
      asm volatile("" : "+x"(s));
    }
  return static_cast<double>(rounds) * 12 * 16;
}

double f32_sse(int64_t rounds) {
  __m128 sum[8], a = _mm_set1_ps(1.0f), b = _mm_set1_ps(0.5f);
  for (auto& s : sum) s = _mm_setzero_ps();
  opaque(a);
  for (int64_t r = 0; r < rounds; ++r)
#pragma GCC unroll 16
    for (auto& s : sum) {
      __m128 p = a;
      opaque(p);
      s = _mm_add_ps(_mm_mul_ps(p, b), s);
      opaque(s);
    }
  return static_cast<double>(rounds) * 8 * 8;
}

__attribute__((target("avx512f,avx512vnni"))) double int8_vnni(int64_t rounds) {
  __m512i sum[chains], a = _mm512_set1_epi8(1), b = _mm512_set1_epi8(2);
  for (auto& s : sum) s = _mm512_setzero_si512();
  asm volatile("" : "+v"(a), "+v"(b));
  for (int64_t r = 0; r < rounds; ++r)
#pragma GCC unroll 16
    for (auto& s : sum) {
      s = _mm512_dpbusd_epi32(s, a, b);
      asm volatile("" : "+v"(s));
    }
  return static_cast<double>(rounds) * chains * 128;
}

// Without VNNI an exact dot product widens to 16 bits and uses pmaddwd.
__attribute__((target("avx2"))) double int8_avx2(int64_t rounds) {
  __m256i sum[12], a = _mm256_set1_epi16(1), b = _mm256_set1_epi16(2);
  for (auto& s : sum) s = _mm256_setzero_si256();
  for (int64_t r = 0; r < rounds; ++r)
#pragma GCC unroll 16
    for (auto& s : sum) {
      __m256i p = a;
      asm volatile("" : "+x"(p));
      s = _mm256_add_epi32(s, _mm256_madd_epi16(p, b));
      asm volatile("" : "+x"(s));
    }
  return static_cast<double>(rounds) * 12 * 32;
}

double int8_sse(int64_t rounds) {
  __m128i sum[8], a = _mm_set1_epi16(1), b = _mm_set1_epi16(2);
  for (auto& s : sum) s = _mm_setzero_si128();
  for (int64_t r = 0; r < rounds; ++r)
#pragma GCC unroll 16
    for (auto& s : sum) {
      __m128i p = a;
      opaque(p);
      s = _mm_add_epi32(s, _mm_madd_epi16(p, b));
      opaque(s);
    }
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
