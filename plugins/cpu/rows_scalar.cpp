// The row kernels in plain C++: the model of the others, and what runs on a machine without AVX2.
#include <cmath>

#include "plugins/cpu/rows.hpp"

namespace quern_cpu {
namespace {

struct V {
  using Int = int32_t;
  using Float = float;
  using Bytes = uint8_t;
  static constexpr int64_t width = 1, byte_width = 1;
  static Int spread(int32_t v) { return v; }
  static Float spread(float v) { return v; }
  static Int load(const uint8_t* p, uint8_t flip) { return *p ^ flip; }
  static Int add(Int a, Int b) { return a + b; }
  static Int sub(Int a, Int b) { return a - b; }
  static Int mul(Int a, Int b) { return a * b; }
  static Float to_float(Int a) { return static_cast<float>(a); }
  static Float add(Float a, Float b) { return a + b; }
  static Float mul(Float a, Float b) { return a * b; }
  static Float div(Float a, Float b) { return a / b; }
  static Float min(Float a, Float b) { return a < b ? a : b; }
  static Float max(Float a, Float b) { return a > b ? a : b; }
  // Round half even by itself, whatever the rounding mode: |a| is small here.
  static Int rne(Float a) {
    const float down = std::floor(a), rest = a - down;
    const auto i = static_cast<int32_t>(down);
    return rest > 0.5f || (rest == 0.5f && (i & 1)) ? i + 1 : i;
  }
  static void store_codes(uint8_t* p, Int v, int64_t) { *p = static_cast<uint8_t>(v); }
  static void store_floats(float* p, Float v, int64_t) { *p = v; }
  static Float gather_floats(const float* t, Int at) { return t[at]; }
  struct Table {
    explicit Table(const uint8_t* t) : table(t) {}
    Bytes operator()(Bytes x) const { return table[x]; }
    const uint8_t* table;
  };
  static Bytes load_bytes(const uint8_t* p, uint8_t flip) { return static_cast<uint8_t>(*p ^ flip); }
  static Bytes max_bytes(Bytes a, Bytes b) { return a > b ? a : b; }
  static void store_bytes(uint8_t* p, Bytes v, uint8_t flip, int64_t) { *p = static_cast<uint8_t>(v ^ flip); }
};

#include "plugins/cpu/rows_impl.inl"

}  // namespace

const Rows& scalar_rows() {
  static constexpr Rows table = make_rows("scalar");
  return table;
}

}  // namespace quern_cpu
