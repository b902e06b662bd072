// Tiles and strips in plain C++, four lanes: the model of the others.
#include <cmath>
#include <cstring>

#include "plugins/cpu/dot_tile.hpp"

namespace quern_cpu {
namespace {

struct V {
  static constexpr int64_t width = 4;
  static constexpr int rows_of[] = {0, 4, 4, 0, 0};
  struct Int { int32_t v[4]; };
  struct Float { float v[4]; };
  struct Wide { int16_t v[8]; };
  template <class F> static Int ints(F&& f) { return {{f(0), f(1), f(2), f(3)}}; }
  template <class F> static Float floats(F&& f) { return {{f(0), f(1), f(2), f(3)}}; }
  static Int spread(int32_t a) { return {{a, a, a, a}}; }
  static Float spread(float a) { return {{a, a, a, a}}; }
  static Int load32(const void* p) { Int a; std::memcpy(&a, p, 16); return a; }
  static Float load_float(const float* p) { return floats([&](int i) { return p[i]; }); }
  static Int broadcast(const uint8_t* p) { int32_t a; std::memcpy(&a, p, 4); return spread(a); }
  static Int dot(Int acc, Int x, Int w) {
    int16_t a[8], b[8];
    std::memcpy(a, &x, 16);
    std::memcpy(b, &w, 16);
    return ints([&](int i) { return acc.v[i] + a[2 * i] * b[2 * i] + a[2 * i + 1] * b[2 * i + 1]; });
  }
  static Int add(Int a, Int b) { return ints([&](int i) { return static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) + static_cast<uint32_t>(b.v[i])); }); }
  static Int sub(Int a, Int b) { return ints([&](int i) { return a.v[i] - b.v[i]; }); }
  static Float to_float(Int a) { return floats([&](int i) { return static_cast<float>(a.v[i]); }); }
  static Float add(Float a, Float b) { return floats([&](int i) { return a.v[i] + b.v[i]; }); }
  static Float mul(Float a, Float b) { return floats([&](int i) { return a.v[i] * b.v[i]; }); }
  static Float min(Float a, Float b) { return floats([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; }); }
  static Float max(Float a, Float b) { return floats([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; }); }
  static Float fma(Float a, Float b, Float c) { return floats([&](int i) { return std::fma(a.v[i], b.v[i], c.v[i]); }); }
  static Int rne(Float a) {
    return ints([&](int i) {
      const float down = std::floor(a.v[i]), rest = a.v[i] - down;
      const auto n = static_cast<int32_t>(down);
      return rest > 0.5f || (rest == 0.5f && (n & 1)) ? n + 1 : n;
    });
  }
  static Int codes(const uint8_t* p, uint8_t flip) { return ints([&](int i) { return static_cast<int32_t>(p[i] ^ flip); }); }
  static Int gather(const int32_t* table, Int index) { return ints([&](int i) { return table[index.v[i]]; }); }
  static Float as_float(Int a) { Float f; std::memcpy(&f, &a, 16); return f; }
  template <int vectors>
  static void store_codes(uint8_t* p, const Int* a, int64_t n, bool) {
    for (int64_t i = 0; i < n && i < 4 * vectors; ++i) p[i] = static_cast<uint8_t>(a[i / 4].v[i % 4]);
  }
  static void store_floats(float* p, Float a, int64_t n) { for (int64_t i = 0; i < n; ++i) p[i] = a.v[i]; }
  static Wide load_wide(const uint8_t* p) { Wide a; std::memcpy(&a, p, 16); return a; }
  static Wide pair_low(Wide a, Wide b) { return {{a.v[0], b.v[0], a.v[1], b.v[1], a.v[2], b.v[2], a.v[3], b.v[3]}}; }
  static Wide pair_high(Wide a, Wide b) { return {{a.v[4], b.v[4], a.v[5], b.v[5], a.v[6], b.v[6], a.v[7], b.v[7]}}; }
  static Int mac(Int acc, Wide a, Wide b) { return ints([&](int i) { return acc.v[i] + a.v[2 * i] * b.v[2 * i] + a.v[2 * i + 1] * b.v[2 * i + 1]; }); }
  static void unlace(Int&, Int&) {}
};

#include "plugins/cpu/dot_tile_impl.inl"
#include "plugins/cpu/depthwise_strip_impl.inl"

void prepare(const uint8_t* codes, int64_t n, uint8_t flip, int32_t zero_point, void* to) {
  auto* out = static_cast<int16_t*>(to);
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<int16_t>((codes[i] ^ flip) - zero_point);
}

}  // namespace

const DotKernels& scalar_dot() {
  static constexpr DotKernels kernels = {"scalar", false, 4, {0, 4, 4, 0, 0}, tile, depthwise, prepare};
  return kernels;
}

}  // namespace quern_cpu
