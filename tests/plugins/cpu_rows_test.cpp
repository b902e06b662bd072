// The row kernels of the cpu target: every instruction set against the scalar one and against plain formulas, to the byte.
#include <algorithm>

#include "plugins/cpu/rows.hpp"
#include "tests/plugins/cpu_support.hpp"

namespace cpu_test {
namespace {

using quern_cpu::Rows;
using quern_cpu::Sink;
using quern_cpu::Source;

std::vector<const Rows*> all_rows() {
  std::vector<const Rows*> v{&quern_cpu::scalar_rows()};
  __builtin_cpu_init();
  if (__builtin_cpu_supports("sse4.1")) v.push_back(&quern_cpu::sse41_rows());
  if (__builtin_cpu_supports("avx2")) v.push_back(&quern_cpu::avx2_rows());
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) v.push_back(&quern_cpu::avx512_rows());
  return v;
}

int64_t centred(uint8_t code, const Source& s) { return (s.flip ? static_cast<int64_t>(static_cast<int8_t>(code)) : code) - (s.zero_point - s.flip); }

uint8_t finish(float v, const Sink& k) {
  v = std::min(std::max(v, k.low), k.high) + k.zero_point;
  if (v < k.qmin) v = k.qmin;
  if (v > k.qmax) v = k.qmax;
  return static_cast<uint8_t>(half_even(v));
}
float clamped(float v, const Sink& k) { return std::min(std::max(v, k.low), k.high); }

struct Rig {
  Source a, b;
  Sink sink;
  std::vector<uint8_t> x, y;
};

// Ratios of powers of two make ties; the others do not.
Rig rig(std::mt19937& r, int kind) {
  const auto pick = [&](int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(r); };
  Rig s;
  s.a.flip = kind & 1 ? 0x80 : 0;
  s.b.flip = kind & 2 ? 0x80 : 0;
  s.a.zero_point = s.a.flip ? 128 : static_cast<int32_t>(pick(0, 255));
  s.b.zero_point = s.b.flip ? 128 : static_cast<int32_t>(pick(0, 255));
  const bool ties = kind & 4;
  s.a.ratio = ties ? 0.5f : std::uniform_real_distribution<float>(0.1f, 2.f)(r);
  s.b.ratio = ties ? 0.25f : std::uniform_real_distribution<float>(0.01f, 3.f)(r);
  if (kind & 8) {
    s.sink.low = 0;
    s.sink.high = 57.3f;
  }
  if (kind & 16) {
    s.sink.qmin = -128;
    s.sink.qmax = 127;
  } else {
    s.sink.zero_point = static_cast<float>(pick(0, 255));
  }
  s.x.resize(1200);
  s.y.resize(1200);
  for (auto& v : s.x) v = static_cast<uint8_t>(pick(0, 255));
  for (auto& v : s.y) v = static_cast<uint8_t>(pick(0, 255));
  return s;
}

const std::vector<int64_t> lengths{1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 257, 1000};

TEST(CpuRows, EveryInstructionSetGivesTheSameBytes) {
  std::mt19937 r(5);
  for (const Rows* rows : all_rows())
    for (int kind = 0; kind < 32; ++kind)
      for (int64_t n : lengths) {
        const Rig s = rig(r, kind);
        std::vector<uint8_t> codes(static_cast<size_t>(n) + 64, 0xa5);
        std::vector<float> floats(static_cast<size_t>(n) + 16, -7.f);
        rows->add_codes(s.x.data(), s.y.data(), codes.data(), n, s.a, s.b, s.sink);
        rows->add_floats(s.x.data(), s.y.data(), floats.data(), n, s.a, s.b, s.sink);
        for (int64_t i = 0; i < n; ++i) {
          const float pa = static_cast<float>(centred(s.x[static_cast<size_t>(i)], s.a)) * s.a.ratio;
          const float pb = static_cast<float>(centred(s.y[static_cast<size_t>(i)], s.b)) * s.b.ratio;
          const float v = pa + pb;
          ASSERT_EQ(codes[static_cast<size_t>(i)], finish(v, s.sink)) << rows->name << " add " << kind << " " << n << " " << i;
          ASSERT_EQ(floats[static_cast<size_t>(i)], clamped(v, s.sink)) << rows->name << " add " << kind << " " << n << " " << i;
        }
        ASSERT_EQ(codes[static_cast<size_t>(n)], 0xa5) << rows->name << ": wrote behind the row";
        ASSERT_EQ(floats[static_cast<size_t>(n)], -7.f) << rows->name << ": wrote behind the row";

        rows->map_codes(s.x.data(), codes.data(), n, s.a, s.sink);
        rows->map_floats(s.x.data(), floats.data(), n, s.a, s.sink);
        for (int64_t i = 0; i < n; ++i) {
          const float v = static_cast<float>(centred(s.x[static_cast<size_t>(i)], s.a)) * s.a.ratio;
          ASSERT_EQ(codes[static_cast<size_t>(i)], finish(v, s.sink)) << rows->name << " map " << kind << " " << n << " " << i;
          ASSERT_EQ(floats[static_cast<size_t>(i)], clamped(v, s.sink)) << rows->name << " map " << kind << " " << n << " " << i;
        }
        ASSERT_EQ(codes[static_cast<size_t>(n)], 0xa5) << rows->name << ": wrote behind the row";
      }
}

TEST(CpuRows, WindowsGiveTheSameBytes) {
  std::mt19937 r(6);
  for (const Rows* rows : all_rows())
    for (int kind = 0; kind < 32; ++kind)
      for (int64_t n : {1, 3, 16, 17, 64, 70, 200}) {
        const Rig s = rig(r, kind);
        const int64_t count = 1 + kind % 10;
        std::vector<const uint8_t*> taps;
        for (int64_t t = 0; t < count; ++t) taps.push_back(s.x.data() + 97 * t);
        std::vector<uint8_t> codes(static_cast<size_t>(n) + 64, 0xa5), best(codes);
        std::vector<float> floats(static_cast<size_t>(n) + 16, -7.f);
        const auto window = static_cast<float>(count + kind % 3);
        rows->average_codes(taps.data(), count, codes.data(), n, window, s.a, s.sink);
        rows->average_floats(taps.data(), count, floats.data(), n, window, s.a, s.sink);
        rows->largest(taps.data(), count, best.data(), n, s.a.flip);
        for (int64_t i = 0; i < n; ++i) {
          int64_t sum = 0, most = INT64_MIN;
          for (const uint8_t* t : taps) {
            sum += centred(t[i], s.a);
            most = std::max(most, centred(t[i], s.a));
          }
          float v = static_cast<float>(sum) / window;
          v = v * s.a.ratio;
          ASSERT_EQ(codes[static_cast<size_t>(i)], finish(v, s.sink)) << rows->name << " average " << kind << " " << n << " " << i;
          ASSERT_EQ(floats[static_cast<size_t>(i)], clamped(v, s.sink)) << rows->name << " average " << kind << " " << n << " " << i;
          ASSERT_EQ(centred(best[static_cast<size_t>(i)], s.a), most) << rows->name << " largest " << kind << " " << n << " " << i;
        }
        ASSERT_EQ(codes[static_cast<size_t>(n)], 0xa5) << rows->name << ": wrote behind the row";
        ASSERT_EQ(best[static_cast<size_t>(n)], 0xa5) << rows->name << ": wrote behind the row";
      }
}

TEST(CpuRows, TheBestOfTheMachineIsTaken) { EXPECT_STREQ(quern_cpu::rows().name, all_rows().back()->name); }

}  // namespace
}  // namespace cpu_test
