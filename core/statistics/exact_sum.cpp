#include "core/statistics/exact_sum.hpp"

#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

namespace quern {
namespace {
__extension__ typedef unsigned __int128 u128;
}

void ExactSum::add(double value) {
  if (value == 0) return;
  const uint64_t bits = std::bit_cast<uint64_t>(value);
  uint64_t mantissa = (bits & 0xfffffffffffff) | uint64_t{1} << 52;  // never subnormal: 2^-149 is a normal double
  int place = static_cast<int>(bits >> 52 & 0x7ff) - 1075 + 149;     // of the mantissa's last bit
  if (place < 0) { mantissa >>= -place; place = 0; }                 // only zeros go
  const size_t limb = static_cast<size_t>(place / 64);
  const u128 wide = static_cast<u128>(mantissa) << (place % 64);
  uint64_t part[2] = {static_cast<uint64_t>(wide), static_cast<uint64_t>(wide >> 64)};
  if (bits >> 63) {
    uint64_t borrow = 0;
    for (size_t i = limb; i < limbs_.size(); ++i) {
      const u128 take = static_cast<u128>(i - limb < 2 ? part[i - limb] : 0) + borrow;
      borrow = limbs_[i] < take;
      limbs_[i] -= static_cast<uint64_t>(take);
      if (i - limb >= 1 && !borrow) break;
    }
  } else {
    uint64_t carry = 0;
    for (size_t i = limb; i < limbs_.size(); ++i) {
      const u128 s = static_cast<u128>(limbs_[i]) + (i - limb < 2 ? part[i - limb] : 0) + carry;
      limbs_[i] = static_cast<uint64_t>(s);
      carry = static_cast<uint64_t>(s >> 64);
      if (i - limb >= 1 && !carry) break;
    }
  }
}

void ExactSum::merge(const ExactSum& other) {
  uint64_t carry = 0;
  for (size_t i = 0; i < limbs_.size(); ++i) {
    const u128 s = static_cast<u128>(limbs_[i]) + other.limbs_[i] + carry;
    limbs_[i] = static_cast<uint64_t>(s);
    carry = static_cast<uint64_t>(s >> 64);
  }
}

double ExactSum::mean(uint64_t count) const {
  if (count == 0) return 0;
  const bool negative = limbs_.back() >> 63;
  // |sum| * 2^128 / count, so that at least 66 bits of quotient remain; what is left over only matters as "not zero".
  std::array<uint64_t, 8> n{};
  uint64_t carry = 1;
  for (size_t i = 0; i < 6; ++i) {
    n[i + 2] = negative ? ~limbs_[i] + carry : limbs_[i];
    if (negative) carry = carry && n[i + 2] == 0;
  }
  u128 rest = 0;
  for (size_t i = 8; i-- > 0;) {
    rest = rest << 64 | n[i];
    n[i] = static_cast<uint64_t>(rest / count);
    rest %= count;
  }
  int top = -1;
  for (int i = 7; i >= 0 && top < 0; --i)
    if (n[static_cast<size_t>(i)]) top = i * 64 + 63 - std::countl_zero(n[static_cast<size_t>(i)]);
  if (top < 0) return 0;
  const auto bit = [&](int k) { return n[static_cast<size_t>(k / 64)] >> (k % 64) & 1; };
  const int last = top - 52;
  uint64_t mantissa = 0;
  for (int k = top; k >= last; --k) mantissa = mantissa << 1 | bit(k);
  bool below = rest != 0;
  for (int k = 0; k < last - 1 && !below; ++k) below = bit(k);
  if (bit(last - 1) && (below || (mantissa & 1))) ++mantissa;
  const double value = std::ldexp(static_cast<double>(mantissa), last - 149 - 128);
  return negative ? -value : value;
}

// Fast exact summation. With |x| < 2^e, each x is split by additions of a large constant into a multiple of 2^(e-38), a
// multiple of 2^(e-76) and a rest. Up to 2^15 such multiples are summed by doubles without rounding, in any order. The rest
// is zero unless a value has bits below 2^(e-76); then the block is added value by value.
namespace {

constexpr int64_t block = 1 << 15;

struct Split { double first, second; };

Split split_for(float bound) {
  int e = 0;
  std::frexp(bound, &e);  // |x| < 2^e
  return {std::ldexp(1.5, 52 + e - 38), std::ldexp(1.5, 52 + e - 76)};
}

void add_each(const float* x, int64_t count, ExactSum& sum) {
  for (int64_t i = 0; i < count; ++i) sum.add(x[i]);
}

struct Partial { double first = 0, second = 0; bool rest = false; };

Partial sum_scalar(const float* x, int64_t count, Split s) {
  Partial p;
  for (int64_t i = 0; i < count; ++i) {
    const double v = x[i], a = (v + s.first) - s.first, left = v - a, b = (left + s.second) - s.second;
    p.first += a;
    p.second += b;
    p.rest |= left != b;
  }
  return p;
}

__attribute__((target("avx2"))) Partial sum_avx2(const float* x, int64_t count, Split s) {
  const __m256d m1 = _mm256_set1_pd(s.first), m2 = _mm256_set1_pd(s.second);
  __m256d first[2] = {_mm256_setzero_pd(), _mm256_setzero_pd()}, second[2] = {first[0], first[0]}, rest[2] = {first[0], first[0]};
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    for (int k = 0; k < 2; ++k) {
      const __m256d v = _mm256_cvtps_pd(_mm_loadu_ps(x + i + 4 * k));
      const __m256d a = _mm256_sub_pd(_mm256_add_pd(v, m1), m1), left = _mm256_sub_pd(v, a);
      const __m256d b = _mm256_sub_pd(_mm256_add_pd(left, m2), m2);
      first[k] = _mm256_add_pd(first[k], a);
      second[k] = _mm256_add_pd(second[k], b);
      rest[k] = _mm256_or_pd(rest[k], _mm256_cmp_pd(left, b, _CMP_NEQ_UQ));
    }
  }
  Partial p = sum_scalar(x + i, count - i, s);
  alignas(32) double f[4], g[4];
  _mm256_store_pd(f, _mm256_add_pd(first[0], first[1]));
  _mm256_store_pd(g, _mm256_add_pd(second[0], second[1]));
  for (int k = 0; k < 4; ++k) { p.first += f[k]; p.second += g[k]; }
  p.rest |= _mm256_movemask_pd(_mm256_or_pd(rest[0], rest[1])) != 0;
  return p;
}

bool row_scalar(const float* x, int64_t from, int64_t to, Split s, double* first, double* second) {
  bool rest = false;
  for (int64_t c = from; c < to; ++c) {
    const double v = x[c], a = (v + s.first) - s.first, left = v - a, b = (left + s.second) - s.second;
    first[c] += a;
    second[c] += b;
    rest |= left != b;
  }
  return rest;
}

__attribute__((target("avx2"))) bool row_avx2(const float* x, int64_t count, Split s, double* first, double* second) {
  const __m256d m1 = _mm256_set1_pd(s.first), m2 = _mm256_set1_pd(s.second);
  __m256d rest = _mm256_setzero_pd();
  int64_t c = 0;
  for (; c + 4 <= count; c += 4) {
    const __m256d v = _mm256_cvtps_pd(_mm_loadu_ps(x + c));
    const __m256d a = _mm256_sub_pd(_mm256_add_pd(v, m1), m1), left = _mm256_sub_pd(v, a);
    const __m256d b = _mm256_sub_pd(_mm256_add_pd(left, m2), m2);
    _mm256_storeu_pd(first + c, _mm256_add_pd(_mm256_loadu_pd(first + c), a));
    _mm256_storeu_pd(second + c, _mm256_add_pd(_mm256_loadu_pd(second + c), b));
    rest = _mm256_or_pd(rest, _mm256_cmp_pd(left, b, _CMP_NEQ_UQ));
  }
  const bool tail = row_scalar(x, c, count, s, first, second);
  return tail | (_mm256_movemask_pd(rest) != 0);
}

bool has_avx2() {
  static const bool yes = __builtin_cpu_supports("avx2");
  return yes;
}

}  // namespace

void add_run(const float* x, int64_t count, float bound, ExactSum& sum) {
  if (count < 4) return add_each(x, count, sum);
  const Split s = split_for(bound);
  for (int64_t at = 0; at < count; at += block) {
    const int64_t n = std::min(block, count - at);
    const Partial p = has_avx2() ? sum_avx2(x + at, n, s) : sum_scalar(x + at, n, s);
    if (p.rest) {
      add_each(x + at, n, sum);
    } else {
      sum.add(p.first);
      sum.add(p.second);
    }
  }
}

void add_rows(const float* x, int64_t rows, int64_t channels, float bound, ExactSum* sums) {
  const size_t c = static_cast<size_t>(channels);
  const Split s = split_for(bound);
  std::vector<double> first(c), second(c);
  for (int64_t at = 0; at < rows; at += block) {
    const int64_t n = std::min(block, rows - at);
    std::fill(first.begin(), first.end(), 0.0);
    std::fill(second.begin(), second.end(), 0.0);
    bool rest = false;
    for (int64_t r = 0; r < n; ++r) {
      const float* row = x + (at + r) * channels;
      rest |= has_avx2() ? row_avx2(row, channels, s, first.data(), second.data())
                         : row_scalar(row, 0, channels, s, first.data(), second.data());
    }
    for (size_t k = 0; k < c; ++k) {
      if (rest) {
        for (int64_t r = 0; r < n; ++r) sums[k].add(x[(at + r) * channels + static_cast<int64_t>(k)]);
      } else {
        sums[k].add(first[k]);
        sums[k].add(second[k]);
      }
    }
  }
}

}  // namespace quern
