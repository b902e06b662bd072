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
        rows->pair_codes[0](s.x.data(), s.y.data(), codes.data(), n, s.a, s.b, s.sink);
        rows->pair_floats[0](s.x.data(), s.y.data(), floats.data(), n, s.a, s.b, s.sink);
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

TEST(CpuRows, PairsGiveTheSameBytes) {
  std::mt19937 r(8);
  for (const Rows* rows : all_rows())
    for (int kind = 0; kind < 32; ++kind)
      for (int64_t n : lengths)
        for (size_t op = 1; op < 5; ++op) {
          const Rig s = rig(r, kind);
          std::vector<uint8_t> codes(static_cast<size_t>(n) + 64, 0xa5), y = s.y;
          std::vector<float> floats(static_cast<size_t>(n) + 16, -7.f);
          for (auto& v : y)
            while (op == 2 && centred(v, s.b) == 0) ++v;
          rows->pair_codes[op](s.x.data(), y.data(), codes.data(), n, s.a, s.b, s.sink);
          rows->pair_floats[op](s.x.data(), y.data(), floats.data(), n, s.a, s.b, s.sink);
          for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
            const auto a = static_cast<float>(centred(s.x[i], s.a)), b = static_cast<float>(centred(y[i], s.b));
            const float pa = a * s.a.ratio, pb = b * s.b.ratio;
            const auto product = static_cast<float>(centred(s.x[i], s.a) * centred(y[i], s.b));
            float v = op == 1 ? product : op == 2 ? a / b : op == 3 ? std::max(pa, pb) : std::min(pa, pb);
            if (op < 3) v = v * s.a.ratio;
            ASSERT_EQ(codes[i], finish(v, s.sink)) << rows->name << " " << op << " " << kind << " " << n << " " << i;
            if (op == 1) {
              ASSERT_EQ(std::signbit(floats[i]), std::signbit(clamped(v, s.sink)));
            }
            ASSERT_EQ(floats[i], clamped(v, s.sink)) << rows->name << " " << op << " " << kind << " " << n << " " << i;
          }
          ASSERT_EQ(codes[static_cast<size_t>(n)], 0xa5) << rows->name << ": wrote behind the row";
          ASSERT_EQ(floats[static_cast<size_t>(n)], -7.f) << rows->name << ": wrote behind the row";
        }
}

TEST(CpuRows, WeightedSumsGiveTheSameBytes) {
  std::mt19937 r(10);
  for (const Rows* rows : all_rows())
    for (int kind = 0; kind < 32; ++kind)
      for (int64_t n : {1, 3, 16, 17, 64, 70, 200})
        for (int64_t count : {1, 2, 3, 4}) {
          Rig s = rig(r, kind);
          s.a.ratio *= 0x1p-22f;
          std::vector<const uint8_t*> taps;
          std::vector<int32_t> weights;
          int32_t left = 1 << 22;
          for (int64_t t = 0; t < count; ++t) {
            taps.push_back(s.x.data() + 97 * t);
            weights.push_back(t + 1 == count ? left : static_cast<int32_t>(r() % static_cast<uint32_t>(left)));
            left -= weights.back();
          }
          std::vector<uint8_t> codes(static_cast<size_t>(n) + 64, 0xa5);
          std::vector<float> floats(static_cast<size_t>(n) + 16, -7.f);
          const int32_t zeros = (1 << 22) * s.a.zero_point;
          rows->resample_codes(taps.data(), weights.data(), count, codes.data(), n, zeros, s.a, s.sink);
          rows->resample_floats(taps.data(), weights.data(), count, floats.data(), n, zeros, s.a, s.sink);
          for (int64_t i = 0; i < n; ++i) {
            int64_t sum = 0;
            for (size_t t = 0; t < taps.size(); ++t) sum += weights[t] * centred(taps[t][i], s.a);
            const float v = static_cast<float>(sum) * s.a.ratio;
            ASSERT_EQ(codes[static_cast<size_t>(i)], finish(v, s.sink)) << rows->name << " " << kind << " " << n << " " << i;
            ASSERT_EQ(floats[static_cast<size_t>(i)], clamped(v, s.sink)) << rows->name << " " << kind << " " << n << " " << i;
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

TEST(CpuRows, TablesGiveTheSameBytes) {
  std::mt19937 r(7);
  std::vector<uint8_t> codes_table(256), x(1200);
  std::vector<float> floats_table(256);
  for (auto& c : codes_table) c = static_cast<uint8_t>(r());
  for (auto& f : floats_table) f = std::uniform_real_distribution<float>(-3.f, 3.f)(r);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<uint8_t>(i * 37 + i / 256);
  for (const Rows* rows : all_rows())
    for (int64_t n : lengths) {
      std::vector<uint8_t> codes(static_cast<size_t>(n) + 64, 0xa5);
      std::vector<float> floats(static_cast<size_t>(n) + 16, -7.f);
      rows->look_up_codes(x.data(), codes.data(), n, codes_table.data());
      rows->look_up_floats(x.data(), floats.data(), n, floats_table.data());
      for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
        ASSERT_EQ(codes[i], codes_table[x[i]]) << rows->name << " " << n << " " << i;
        ASSERT_EQ(floats[i], floats_table[x[i]]) << rows->name << " " << n << " " << i;
      }
      ASSERT_EQ(codes[static_cast<size_t>(n)], 0xa5) << rows->name << ": wrote behind the row";
      ASSERT_EQ(floats[static_cast<size_t>(n)], -7.f) << rows->name << ": wrote behind the row";
    }
}

TEST(CpuRows, TheBestOfTheMachineIsTaken) { EXPECT_STREQ(quern_cpu::rows().name, all_rows().back()->name); }

}  // namespace
}  // namespace cpu_test
