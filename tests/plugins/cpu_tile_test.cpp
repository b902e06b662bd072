// The tiles and strips of the exact kernels (dot_tile.hpp), each instruction set against plain C++: all sizes of a tile,
// channels that fill no vector, residuals, tables, floats, sums at their extremes.
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "plugins/cpu/dot_tile.hpp"

namespace cpu_test {
namespace {

using namespace quern_cpu;

std::vector<const DotKernels*> kernels_here() {
  std::vector<const DotKernels*> all;
  for (Isa isa : {Isa::scalar, Isa::sse41, Isa::avx2, Isa::avx512, Isa::vnni})
    if (isa <= best_isa()) all.push_back(&dot_kernels(isa));
  if (Isa::vnni <= best_isa()) all.push_back(&vnni_wide_dot());
  return all;
}

struct Case {
  int64_t rows, channels, depth, runs;     // depth: products of a run
  bool residual, floats, is_signed, table, extreme;
  bool fit = false;                        // weights as the kernels on bytes want them
};

struct Data {
  std::mt19937 r;
  explicit Data(uint32_t seed) : r(seed) {}
  int64_t pick(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(r); }
};

// The same numbers for every kernel, laid out for this one.
std::vector<uint8_t> run_tile(const DotKernels& k, const Case& c) {
  Data d(static_cast<uint32_t>(c.rows * 131 + c.channels * 17 + c.depth));
  const int64_t vectors = (c.channels + k.width - 1) / k.width, lanes = k.bytes ? 4 : 2, steps = (c.depth + lanes - 1) / lanes, padded = vectors * k.width;
  std::vector<uint8_t> codes(static_cast<size_t>(c.rows * c.runs * c.depth));
  for (auto& v : codes) v = static_cast<uint8_t>(c.extreme ? 255 : d.pick(0, 255));
  std::vector<int8_t> w(static_cast<size_t>(c.channels * c.runs * c.depth));
  // In pairs that fit: 128 at most, of either sign.
  for (auto& v : w) v = static_cast<int8_t>(c.fit ? (c.extreme ? 64 : d.pick(-64, 64)) : c.extreme ? 127 : d.pick(-128, 127));
  const auto zero = static_cast<int32_t>(c.extreme ? 0 : d.pick(0, 255));

  const int64_t element = k.bytes ? 1 : 2, run_bytes = steps * 4, row_bytes = c.runs * run_bytes;
  std::vector<uint8_t> x(static_cast<size_t>(c.rows * row_bytes + 256), 0x77);
  for (int64_t r = 0; r < c.rows; ++r)
    for (int64_t run = 0; run < c.runs; ++run) {
      std::vector<uint8_t> from(static_cast<size_t>(c.depth + 64)), to(static_cast<size_t>(2 * c.depth + 256));
      std::copy_n(codes.begin() + (r * c.runs + run) * c.depth, c.depth, from.begin());
      k.prepare(from.data(), c.depth, 0, zero, to.data());
      std::memcpy(x.data() + r * row_bytes + run * run_bytes, to.data(), static_cast<size_t>(c.depth * element));
    }
  std::vector<uint8_t> weights(static_cast<size_t>(c.runs * steps * padded * 4), 0);
  std::vector<int32_t> offsets(static_cast<size_t>(padded), 0);
  std::vector<float> bias(static_cast<size_t>(padded)), multiplier(static_cast<size_t>(padded));
  for (int64_t o = 0; o < c.channels; ++o)
    for (int64_t i = 0; i < c.runs * c.depth; ++i) {
      const auto v = static_cast<int16_t>(w[static_cast<size_t>(o * c.runs * c.depth + i)]);
      const int64_t run = i / c.depth, e = i % c.depth;
      std::memcpy(weights.data() + ((run * steps + e / lanes) * padded + o) * 4 + e % lanes * element, &v, static_cast<size_t>(element));
      if (k.bytes) offsets[static_cast<size_t>(o)] -= v * zero;
    }
  for (int64_t o = 0; o < c.channels; ++o) {
    bias[static_cast<size_t>(o)] = static_cast<float>(d.pick(-100000, 100000));
    multiplier[static_cast<size_t>(o)] = static_cast<float>(d.pick(1, 1000)) * (c.extreme ? 1e-9f : 1e-7f);
  }
  DotEnd end;
  end.residual = c.residual;
  end.floats = c.floats;
  end.is_signed = c.is_signed;
  end.residual_flip = 0x80;
  end.residual_zero = 131;
  end.residual_scale = 0.37123f;
  end.low = -90.3f;
  end.high = 201.7f;
  end.zero_point = c.is_signed ? 0 : 17;
  end.qmin = c.is_signed ? -128 : 0;
  end.qmax = c.is_signed ? 127 : 255;
  std::vector<int32_t> table(300);
  for (auto& v : table) v = c.floats ? 0x3f800000 + static_cast<int32_t>(d.pick(0, 1 << 20)) : static_cast<int32_t>(d.pick(0, 127));
  if (c.table) {
    end.table = table.data();
    end.table_offset = 95.5f;
    end.table_last = 299;
  }
  const int64_t size = c.floats ? 4 : 1;
  std::vector<uint8_t> residual(static_cast<size_t>(c.rows * c.channels + 64)), out(static_cast<size_t>(c.rows * c.channels * size + 64), 0xee);
  for (auto& v : residual) v = static_cast<uint8_t>(d.pick(0, 255));
  std::vector<int64_t> runs;
  for (int64_t i = 0; i < c.runs; ++i) runs.push_back(i * run_bytes);

  // In tiles as large as the kernel has them.
  int64_t most = 1;
  for (int64_t v = 1; v <= most_vectors; ++v)
    if (k.rows_of[v]) most = v;
  for (int64_t v0 = 0; v0 < vectors; v0 += most) {
    const int64_t v = std::min(most, vectors - v0), first = v0 * k.width;
    std::vector<uint8_t> part(static_cast<size_t>(c.runs * steps * v * k.width * 4));
    for (int64_t s = 0; s < c.runs * steps; ++s)
      std::memcpy(part.data() + s * v * k.width * 4, weights.data() + (s * padded + first) * 4, static_cast<size_t>(v * k.width * 4));
    for (int64_t r0 = 0; r0 < c.rows; r0 += k.rows_of[v]) {
      const int64_t n = std::min(k.rows_of[v], c.rows - r0);
      Tile t{};
      const uint8_t *from[most_rows], *extra[most_rows];
      uint8_t* to[most_rows];
      int32_t add[most_rows];
      for (int64_t r = 0; r < n; ++r) {
        from[r] = x.data() + (r0 + r) * row_bytes;
        to[r] = out.data() + (r0 + r) * c.channels * size;
        extra[r] = residual.data() + (r0 + r) * c.channels;
        add[r] = static_cast<int32_t>(r0 + r) * 1000;
      }
      t.x = from;
      t.out = to;
      t.residual = extra;
      t.add = add;
      t.channel = first;
      t.runs = runs.data();
      t.run_count = c.runs;
      t.steps = steps;
      t.weights = part.data();
      t.offsets = offsets.data() + first;
      t.bias = bias.data() + first;
      t.multiplier = multiplier.data() + first;
      t.channels = std::min(v * k.width, c.channels - first);
      t.end = &end;
      k.tile(t, n, v);
    }
  }
  for (int i = 0; i < 64; ++i) EXPECT_EQ(out[static_cast<size_t>(c.rows * c.channels * size + i)], 0xee) << k.name << " wrote behind its output";
  return out;
}

TEST(CpuTile, PairsThatFitAreExactOnBytes) {
  for (Isa isa : {Isa::sse41, Isa::avx2, Isa::avx512}) {
    if (isa > best_isa()) continue;
    const DotKernels& k = dot_kernels(isa, true);
    ASSERT_TRUE(k.bytes) << k.name;
    for (int64_t rows : {1, 3, 8, 13})
      for (int64_t channels : {1, 5, 16, 31, 64, 70})
        for (int variant = 0; variant < 12; ++variant) {
          const Case c{rows, channels, (rows * 5 + channels) % 11 + 1, variant % 3 + 1, variant % 2 == 1, variant % 6 == 2, variant % 6 == 3, variant % 6 >= 4, variant >= 6, true};
          ASSERT_EQ(run_tile(k, c), run_tile(scalar_dot(), c)) << k.name << " rows " << rows << " channels " << channels << " variant " << variant;
        }
  }
}

TEST(CpuTile, EveryInstructionSetGivesTheBytesOfPlainCode) {
  for (int64_t rows : {1, 2, 5, 6, 7, 8, 11, 12, 13})
    for (int64_t channels : {1, 4, 15, 16, 17, 33, 48, 64, 65, 100})
      for (int variant = 0; variant < 6; ++variant) {
        const Case c{rows, channels, (rows * 7 + channels) % 9 + 1, variant % 3 + 1, variant % 2 == 1, variant == 2 || variant == 5, variant == 3, variant >= 4, false};
        const auto want = run_tile(scalar_dot(), c);
        for (const DotKernels* k : kernels_here()) ASSERT_EQ(run_tile(*k, c), want) << k->name << " rows " << rows << " channels " << channels << " variant " << variant;
      }
}

// 64 products of 255 and 127: what 16-bit pairs would saturate.
TEST(CpuTile, ExtremesAreExact) {
  const Case c{6, 64, 64, 1, false, true, false, false, true};
  for (const DotKernels* k : kernels_here()) EXPECT_EQ(run_tile(*k, c), run_tile(scalar_dot(), c)) << k->name;
}

std::vector<uint8_t> run_strip(const DotKernels& k, int64_t channels, int64_t pixels, int64_t taps, const Case& c) {
  Data d(static_cast<uint32_t>(channels * 31 + pixels));
  const int64_t pairs = (taps + 1) / 2, blocks = (channels + 2 * k.width - 1) / (2 * k.width);
  std::vector<int16_t> x(static_cast<size_t>((pixels + taps) * channels + 256));
  for (auto& v : x) v = static_cast<int16_t>(d.pick(-255, 255));
  std::vector<int16_t> weights(static_cast<size_t>(blocks * pairs * k.width * 4), 0);
  std::vector<float> bias(static_cast<size_t>(blocks * 2 * k.width)), multiplier(bias.size());
  for (int64_t o = 0; o < channels; ++o) {
    bias[static_cast<size_t>(o)] = static_cast<float>(d.pick(-10000, 10000));
    multiplier[static_cast<size_t>(o)] = static_cast<float>(d.pick(1, 1000)) * 1e-6f;
    for (int64_t t = 0; t < taps; ++t) {
      const int64_t in = o % (2 * k.width), lane = in / 8 * 4 + in % 4, high = in / 4 % 2;
      weights[static_cast<size_t>((((o / (2 * k.width)) * pairs + t / 2) * 2 + high) * k.width * 2 + lane * 2 + t % 2)] = static_cast<int16_t>(d.pick(-128, 127));
    }
  }
  DotEnd end;
  end.residual = c.residual;
  end.floats = c.floats;
  end.residual_zero = 77;
  end.residual_scale = 0.1234567f;
  end.zero_point = 99;
  const int64_t size = c.floats ? 4 : 1;
  std::vector<uint8_t> residual(static_cast<size_t>(pixels * channels + 64)), out(static_cast<size_t>(pixels * channels * size + 64), 0xee);
  for (auto& v : residual) v = static_cast<uint8_t>(d.pick(0, 255));
  std::vector<int64_t> offsets;
  for (int64_t t = 0; t < taps; ++t) offsets.push_back(t * channels * 2);
  if (taps % 2) offsets.push_back(offsets.back());
  DepthwiseStrip s{};
  s.x = reinterpret_cast<const uint8_t*>(x.data());
  s.x_step = channels * 2;
  s.residual_step = channels;
  s.out_step = channels * size;
  s.pixels = pixels;
  s.channels = channels;
  s.taps = offsets.data();
  s.pairs = pairs;
  s.weights = reinterpret_cast<const uint8_t*>(weights.data());
  s.bias = bias.data();
  s.multiplier = multiplier.data();
  s.out = out.data();
  s.residual = c.residual ? residual.data() : nullptr;
  s.end = &end;
  k.depthwise(s);
  for (int i = 0; i < 64; ++i) EXPECT_EQ(out[static_cast<size_t>(pixels * channels * size + i)], 0xee) << k.name << " wrote behind its output";
  return out;
}

TEST(CpuTile, DepthwiseStripsGiveTheBytesOfPlainCode) {
  for (int64_t channels : {1, 7, 8, 16, 17, 31, 32, 33, 48, 72})
    for (int64_t pixels : {1, 3, 4, 9})
      for (int variant = 0; variant < 4; ++variant) {
        Case c{};
        c.residual = variant % 2 == 1;
        c.floats = variant >= 2;
        const auto want = run_strip(scalar_dot(), channels, pixels, 9, c);
        for (const DotKernels* k : kernels_here()) {
          if (!k->depthwise) continue;
          ASSERT_EQ(run_strip(*k, channels, pixels, 9, c), want) << k->name << " channels " << channels << " pixels " << pixels;
        }
      }
}

}  // namespace
}  // namespace cpu_test
