#include "core/statistics/scan.hpp"

#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "core/numeric/rounding.hpp"

namespace quern {
namespace {

std::atomic<int> vector_bits{512};

bool has_avx2() {
  static const bool yes = __builtin_cpu_supports("avx2");
  return yes && vector_bits.load(std::memory_order_relaxed) >= 256;
}

bool has_avx512() {
  static const bool yes = __builtin_cpu_supports("avx512f");
  return yes && vector_bits.load(std::memory_order_relaxed) >= 512;
}

bool finite_bits(float x) { return (std::bit_cast<uint32_t>(x) & 0x7f800000u) != 0x7f800000u; }

Extremes extremes_scalar(const float* x, int64_t count, Extremes e) {
  for (int64_t i = 0; i < count; ++i) {
    e.finite &= finite_bits(x[i]);
    e.low = std::min(e.low, x[i]);
    e.high = std::max(e.high, x[i]);
  }
  return e;
}

__attribute__((target("avx2"))) Extremes extremes_avx2(const float* x, int64_t count) {
  __m256 low[4], high[4];
  __m256i top[4];
  for (int k = 0; k < 4; ++k) {
    low[k] = high[k] = _mm256_set1_ps(x[0]);
    top[k] = _mm256_setzero_si256();
  }
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  int64_t i = 0;
  for (; i + 32 <= count; i += 32) {
    for (int k = 0; k < 4; ++k) {
      const __m256 v = _mm256_loadu_ps(x + i + 8 * k);
      low[k] = _mm256_min_ps(low[k], v);
      high[k] = _mm256_max_ps(high[k], v);
      top[k] = _mm256_max_epi32(top[k], _mm256_and_si256(_mm256_castps_si256(v), magnitude));
    }
  }
  Extremes e{x[0], x[0], true};
  alignas(32) float l[8], h[8];
  alignas(32) int32_t t[8];
  for (int k = 0; k < 4; ++k) {
    _mm256_store_ps(l, low[k]);
    _mm256_store_ps(h, high[k]);
    _mm256_store_si256(reinterpret_cast<__m256i*>(t), top[k]);
    for (int j = 0; j < 8; ++j) {
      e.low = std::min(e.low, l[j]);
      e.high = std::max(e.high, h[j]);
      e.finite &= t[j] < 0x7f800000;
    }
  }
  return extremes_scalar(x + i, count - i, e);
}

__attribute__((target("avx512f"))) Extremes extremes_avx512(const float* x, int64_t count) {
  __m512 low[4], high[4];
  __m512i top[4];
  for (int k = 0; k < 4; ++k) {
    low[k] = high[k] = _mm512_set1_ps(x[0]);
    top[k] = _mm512_setzero_si512();
  }
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  int64_t i = 0;
  for (; i + 64 <= count; i += 64)
    for (int k = 0; k < 4; ++k) {
      const __m512 v = _mm512_loadu_ps(x + i + 16 * k);
      low[k] = _mm512_min_ps(low[k], v);
      high[k] = _mm512_max_ps(high[k], v);
      top[k] = _mm512_max_epi32(top[k], _mm512_and_si512(_mm512_castps_si512(v), magnitude));
    }
  for (int k = 1; k < 4; ++k) {
    low[0] = _mm512_min_ps(low[0], low[k]);
    high[0] = _mm512_max_ps(high[0], high[k]);
    top[0] = _mm512_max_epi32(top[0], top[k]);
  }
  Extremes e{_mm512_reduce_min_ps(low[0]), _mm512_reduce_max_ps(high[0]), _mm512_reduce_max_epi32(top[0]) < 0x7f800000};
  return extremes_scalar(x + i, count - i, e);
}

// Columns first .. end of what is returned: a block of channels stays in registers while all rows pass.
__attribute__((target("avx2"))) int64_t row_extremes_avx2(const float* x, int64_t rows, int64_t channels, float* low, float* high) {
  int64_t c = 0;
  for (; c + 32 <= channels; c += 32) {
    __m256 l[4], h[4];
    for (int k = 0; k < 4; ++k) {
      l[k] = _mm256_loadu_ps(low + c + 8 * k);
      h[k] = _mm256_loadu_ps(high + c + 8 * k);
    }
    for (int64_t r = 0; r < rows; ++r)
      for (int k = 0; k < 4; ++k) {
        const __m256 v = _mm256_loadu_ps(x + r * channels + c + 8 * k);
        l[k] = _mm256_min_ps(l[k], v);
        h[k] = _mm256_max_ps(h[k], v);
      }
    for (int k = 0; k < 4; ++k) {
      _mm256_storeu_ps(low + c + 8 * k, l[k]);
      _mm256_storeu_ps(high + c + 8 * k, h[k]);
    }
  }
  for (; c + 8 <= channels; c += 8) {
    __m256 l = _mm256_loadu_ps(low + c), h = _mm256_loadu_ps(high + c);
    for (int64_t r = 0; r < rows; ++r) {
      const __m256 v = _mm256_loadu_ps(x + r * channels + c);
      l = _mm256_min_ps(l, v);
      h = _mm256_max_ps(h, v);
    }
    _mm256_storeu_ps(low + c, l);
    _mm256_storeu_ps(high + c, h);
  }
  return c;
}

// Slots: 0..2047 negative, 2048..4095 positive, 4096 zero.
constexpr int slots = 2 * histogram_bins + 1;

int slot_of(float x, float scale) {
  if (x == 0) return 2 * histogram_bins;
  const int bin = static_cast<int>(std::fabs(x) * scale);
  return x < 0 ? bin : bin + histogram_bins;
}

__attribute__((target("avx2"))) int64_t count_avx2(const float* x, int64_t count, float scale, int32_t* a, int32_t* b) {
  const __m256 zero = _mm256_setzero_ps(), factor = _mm256_set1_ps(scale);
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  const __m256i side = _mm256_set1_epi32(histogram_bins), none = _mm256_set1_epi32(2 * histogram_bins);
  alignas(32) int32_t s[16];
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    for (int k = 0; k < 2; ++k) {
      const __m256 v = _mm256_loadu_ps(x + i + 8 * k);
      const __m256i bin = _mm256_cvttps_epi32(_mm256_mul_ps(_mm256_and_ps(v, magnitude), factor));
      const __m256i positive = _mm256_castps_si256(_mm256_cmp_ps(v, zero, _CMP_GT_OQ));
      const __m256i slot = _mm256_add_epi32(bin, _mm256_and_si256(positive, side));
      const __m256i is_zero = _mm256_castps_si256(_mm256_cmp_ps(v, zero, _CMP_EQ_OQ));
      _mm256_store_si256(reinterpret_cast<__m256i*>(s + 8 * k), _mm256_blendv_epi8(slot, none, is_zero));
    }
    // Two tables, so that runs of equal values do not wait for their own store.
    for (int k = 0; k < 16; k += 2) { ++a[s[k]]; ++b[s[k + 1]]; }
  }
  return i;
}

// The `count` largest keys of x; key = (x & keep) ^ flip. A threshold rises while the data passes, so that nearly every
// value is dropped by one comparison.
struct Key {
  uint32_t keep = 0xffffffff, flip = 0;
  float operator()(float x) const { return std::bit_cast<float>((std::bit_cast<uint32_t>(x) & keep) ^ flip); }
};

class Largest {
 public:
  Largest(size_t wanted) : wanted_(wanted), room_(2 * wanted + 1024) { found_.reserve(room_ + 8); }
  float threshold() const { return threshold_; }
  void take(float key) {
    if (!(key > threshold_)) return;
    found_.push_back(key);
    if (found_.size() >= room_) shrink();
  }
  // Descending place k (0 = the largest); k < wanted.
  float at(size_t k) {
    std::nth_element(found_.begin(), found_.begin() + static_cast<ptrdiff_t>(k), found_.end(), std::greater<>());
    return found_[k];
  }

 private:
  void shrink() {
    const auto last = found_.begin() + static_cast<ptrdiff_t>(wanted_) - 1;
    std::nth_element(found_.begin(), last, found_.end(), std::greater<>());
    threshold_ = *last;
    found_.resize(wanted_);
  }
  size_t wanted_, room_;
  float threshold_ = -std::numeric_limits<float>::infinity();
  std::vector<float> found_;
};

__attribute__((target("avx512f"))) int64_t collect_avx512(const float* x, int64_t count, Key key, Largest& largest) {
  const __m512i keep = _mm512_set1_epi32(static_cast<int32_t>(key.keep)), flip = _mm512_set1_epi32(static_cast<int32_t>(key.flip));
  const auto load = [&](const float* p) __attribute__((target("avx512f"), always_inline)) {
    return _mm512_castsi512_ps(_mm512_xor_si512(_mm512_and_si512(_mm512_loadu_si512(p), keep), flip));
  };
  int64_t i = 0;
  for (; i + 32 <= count; i += 32) {
    const __m512 t = _mm512_set1_ps(largest.threshold());
    uint32_t above = static_cast<uint32_t>(_mm512_cmp_ps_mask(load(x + i), t, _CMP_GT_OQ)) |
                     static_cast<uint32_t>(_mm512_cmp_ps_mask(load(x + i + 16), t, _CMP_GT_OQ)) << 16;
    for (; above; above &= above - 1) largest.take(key(x[i + std::countr_zero(above)]));
  }
  return i;
}

__attribute__((target("avx2"))) int64_t collect_avx2(const float* x, int64_t count, Key key, Largest& largest) {
  const __m256 keep = _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int32_t>(key.keep)));
  const __m256 flip = _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int32_t>(key.flip)));
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const __m256 a = _mm256_xor_ps(_mm256_and_ps(_mm256_loadu_ps(x + i), keep), flip);
    const __m256 b = _mm256_xor_ps(_mm256_and_ps(_mm256_loadu_ps(x + i + 8), keep), flip);
    const __m256 t = _mm256_set1_ps(largest.threshold());
    uint32_t above = static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a, t, _CMP_GT_OQ))) |
                     static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(b, t, _CMP_GT_OQ))) << 8;
    for (; above; above &= above - 1) largest.take(key(x[i + std::countr_zero(above)]));
  }
  return i;
}

}  // namespace

void limit_scan_vectors(int bits) { vector_bits.store(bits, std::memory_order_relaxed); }

Extremes extremes_of(const float* x, int64_t count) {
  Extremes e = has_avx512() ? extremes_avx512(x, count) : has_avx2() ? extremes_avx2(x, count) : extremes_scalar(x, count, {x[0], x[0], true});
  e.low += 0.0f;  // -0 becomes 0
  e.high += 0.0f;
  return e;
}

void merge_row_extremes(const float* x, int64_t rows, int64_t channels, float* low, float* high) {
  const int64_t done = has_avx2() ? row_extremes_avx2(x, rows, channels, low, high) : 0;
  for (int64_t r = 0; r < rows && done < channels; ++r)
    for (int64_t c = done; c < channels; ++c) {
      low[c] = std::min(low[c], x[r * channels + c]);
      high[c] = std::max(high[c], x[r * channels + c]);
    }
  for (int64_t c = 0; c < channels; ++c) { low[c] += 0.0f; high[c] += 0.0f; }
}

int histogram_exponent(float largest) {
  if (largest == 0) return histogram_lowest_exponent;
  int e = 0;
  std::frexp(largest, &e);  // largest = f * 2^e, f in [0.5, 1)
  return std::max(e, histogram_lowest_exponent);
}

void count_bins(const float* x, int64_t count, int exponent, int64_t* negative, int64_t* positive, int64_t& zeros) {
  const float scale = std::ldexp(1.0f, 11 - exponent);
  std::vector<int32_t> tables(2 * slots);
  constexpr int64_t chunk = int64_t{1} << 30;  // no counter of 32 bits can overflow
  for (int64_t at = 0; at < count; at += chunk) {
    const int64_t n = std::min(chunk, count - at);
    std::fill(tables.begin(), tables.end(), 0);
    int32_t *a = tables.data(), *b = a + slots;
    for (int64_t i = has_avx2() ? count_avx2(x + at, n, scale, a, b) : 0; i < n; ++i) ++a[slot_of(x[at + i], scale)];
    for (int k = 0; k < histogram_bins; ++k) {
      negative[k] += int64_t{a[k]} + b[k];
      positive[k] += int64_t{a[k + histogram_bins]} + b[k + histogram_bins];
    }
    zeros += int64_t{a[slots - 1]} + b[slots - 1];
  }
}

float quantile_of(const float* x, int64_t count, double q, bool absolute) {
  const double h = static_cast<double>(count - 1) * q;
  const int64_t place = std::clamp<int64_t>(to_integer(h, Round::floor), 0, count - 1);  // ascending, from 0
  const int64_t next = std::min(place + 1, count - 1);
  const double part = h - static_cast<double>(place);
  Key key{absolute ? 0x7fffffffu : 0xffffffffu, 0};
  double a = 0, b = 0;
  const bool upper = count - place <= count / 8 + 2, lower = !upper && next + 1 <= count / 8 + 2;
  if (upper || lower) {
    if (lower) key.flip = 0x80000000u;
    Largest largest(static_cast<size_t>(upper ? count - place : next + 1));
    for (int64_t i = has_avx512() ? collect_avx512(x, count, key, largest) : has_avx2() ? collect_avx2(x, count, key, largest) : 0; i < count; ++i) largest.take(key(x[i]));
    a = largest.at(static_cast<size_t>(upper ? count - 1 - place : place));
    b = largest.at(static_cast<size_t>(upper ? count - 1 - next : next));
    if (lower) { a = -a; b = -b; }
  } else {
    std::vector<float> all(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) all[static_cast<size_t>(i)] = key(x[i]);
    const auto at = all.begin() + static_cast<ptrdiff_t>(place);
    std::nth_element(all.begin(), at, all.end());
    a = *at;
    b = next > place ? *std::min_element(at + 1, all.end()) : a;
  }
  return static_cast<float>(a + part * (b - a)) + 0.0f;
}

}  // namespace quern
