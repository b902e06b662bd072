// The simulated VPU: its row kernels on every instruction set against plain integer arithmetic, the multipliers it derives, weights with a
// zero point, its cost model. What the interpreter makes of every operator is in simulated_test.cpp.
#include <climits>

#include "core/numeric/rounding.hpp"
#include "plugins/vpu_sim/rows.hpp"
#include "tests/plugins/cpu_support.hpp"

namespace vpu_test {
namespace {

using namespace cpu_test;
using quern_vpu::Rows;

std::vector<const Rows*> all_rows() {
  std::vector<const Rows*> out{&quern_vpu::rows_base()};
  for (const Rows* r : {quern_vpu::rows_avx2(), quern_vpu::rows_avx512()})
    if (r) out.push_back(r);
  return out;
}

struct Random {
  std::mt19937 r{11};
  int64_t pick(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(r); }
  float real(float low, float high) { return std::uniform_real_distribution<float>(low, high)(r); }
  std::vector<uint8_t> codes(size_t n) {
    std::vector<uint8_t> v(n);
    for (auto& c : v) c = static_cast<uint8_t>(pick(0, 255));
    return v;
  }
};

// clamp(rne((acc + bias) * multiplier / 2^shift) + offset, low, high) in integers.
int64_t requantized(int64_t acc, int64_t bias, int64_t multiplier, int shift, int64_t offset, int64_t low, int64_t high) {
  return std::clamp(quern::shift_right64((acc + bias) * multiplier, shift, quern::Round::half_even) + offset, low, high);
}

TEST(VpuSim, CodesAreRoundedAsIntegers) {
  Random m;
  for (int i = 0; i < 400; ++i) {
    const auto n = static_cast<size_t>(m.pick(1, 70));
    const int shift = static_cast<int>(i % 4 == 0 ? m.pick(0, 62) : m.pick(10, 34));
    std::vector<int32_t> acc(n);
    std::vector<int64_t> bias(n), multiplier(n);
    for (size_t k = 0; k < n; ++k) {
      acc[k] = static_cast<int32_t>(k % 5 == 0 ? (m.pick(0, 1) ? INT32_MAX : INT32_MIN) : m.pick(-40000, 40000));
      bias[k] = k % 7 == 0 ? (m.pick(0, 1) ? 1 << 30 : -(1 << 30)) : m.pick(-9000, 9000);
      multiplier[k] = k % 3 == 0 ? 32768 : m.pick(32768, 65535);  // 2^15: every other odd number is a tie
    }
    const int64_t low = m.pick(-128, 0), high = m.pick(1, 255), offset = m.pick(-128, 255);
    std::vector<double> b(bias.begin(), bias.end()), factor;
    for (int64_t v : multiplier) factor.push_back(std::ldexp(static_cast<double>(v), -shift));
    std::vector<uint8_t> table(static_cast<size_t>(256));
    for (size_t k = 0; k < 256; ++k) table[k] = static_cast<uint8_t>(k * 37);
    for (const Rows* rows : all_rows()) {
      std::vector<uint8_t> out(n), by_table(n);
      rows->codes(acc.data(), b.data(), factor.data(), static_cast<int64_t>(n), {static_cast<double>(offset), static_cast<double>(low), static_cast<double>(high), nullptr}, out.data());
      rows->codes(acc.data(), b.data(), factor.data(), static_cast<int64_t>(n), {static_cast<double>(offset), 0, static_cast<double>(high), table.data()}, by_table.data());
      for (size_t k = 0; k < n; ++k) {
        ASSERT_EQ(out[k], static_cast<uint8_t>(requantized(acc[k], bias[k], multiplier[k], shift, offset, low, high))) << rows->name << " acc " << acc[k] << " bias " << bias[k] << " x " << multiplier[k] << " >> " << shift;
        ASSERT_EQ(by_table[k], table[static_cast<size_t>(requantized(acc[k], bias[k], multiplier[k], shift, offset, 0, high))]) << rows->name;
      }
    }
  }
}

TEST(VpuSim, FloatsAreRoundedToHalfOnce) {
  Random m;
  std::vector<int32_t> acc;
  std::vector<double> bias;
  std::vector<float> scale;
  for (int i = 0; i < 40000; ++i) {
    acc.push_back(static_cast<int32_t>(i % 9 == 0 ? (m.pick(0, 1) ? INT32_MAX : INT32_MIN) : m.pick(-70000, 70000)));
    bias.push_back(static_cast<double>(m.pick(-1000, 1000)));
    scale.push_back(i % 5 == 0 ? 1.f : std::ldexp(m.real(0.5f, 1.f), static_cast<int>(m.pick(-40, 2))));
  }
  for (const Rows* rows : all_rows()) {
    std::vector<float> out(acc.size());
    rows->halves(acc.data(), bias.data(), scale.data(), static_cast<int64_t>(acc.size()), {-1e9f, 1e5f}, out.data());
    for (size_t i = 0; i < acc.size(); ++i) {
      const float v = std::clamp(quern::to_float(acc[i] + static_cast<int64_t>(bias[i])) * scale[i], -1e9f, 1e5f);
      const float want = quern::from_half(quern::to_half(v));
      ASSERT_EQ(std::memcmp(&out[i], &want, 4), 0) << rows->name << " " << v << " gave " << out[i] << ", not " << want;
    }
  }
}

TEST(VpuSim, SumsAreExact) {
  Random m;
  for (int i = 0; i < 60; ++i) {
    const int64_t rows = m.pick(1, 19), columns = m.pick(1, 40), depth = 2 * m.pick(1, 60), panels = quern_vpu::panels_of(columns), width = panels * quern_vpu::panel;
    const bool extreme = i % 4 == 0;
    std::vector<int16_t> a(static_cast<size_t>(rows * depth)), w(static_cast<size_t>(columns * depth)), packed(static_cast<size_t>(width * depth), 0);
    for (auto& v : a) v = static_cast<int16_t>(extreme ? -255 : m.pick(-255, 255));
    for (auto& v : w) v = static_cast<int16_t>(extreme ? 255 : m.pick(-255, 255));
    for (int64_t c = 0; c < columns; ++c)
      for (int64_t k = 0; k < depth; ++k) packed[static_cast<size_t>(quern_vpu::packed_at(depth, c, k))] = w[static_cast<size_t>(c * depth + k)];
    for (const Rows* k : all_rows()) {
      std::vector<int32_t> out(static_cast<size_t>(rows * width));
      k->dot(a.data(), rows, packed.data(), panels, depth, out.data(), width);
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < columns; ++c) {
          int64_t sum = 0;
          for (int64_t d = 0; d < depth; ++d) sum += static_cast<int64_t>(a[static_cast<size_t>(r * depth + d)]) * w[static_cast<size_t>(c * depth + d)];
          ASSERT_EQ(out[static_cast<size_t>(r * width + c)], sum) << k->name;
        }
    }
  }
}

TEST(VpuSim, RowsReadCodesOfEitherSign) {
  Random m;
  for (int i = 0; i < 60; ++i) {
    const auto n = static_cast<size_t>(m.pick(1, 90));
    const auto in = m.codes(n + 16);
    const bool is_signed = i % 2 != 0;
    const auto zero = static_cast<int32_t>(is_signed ? m.pick(-128, 127) : m.pick(0, 255)), by = static_cast<int32_t>(m.pick(-4000000, 4000000));
    const auto taps = m.pick(1, 9);
    std::vector<std::vector<uint8_t>> sources;
    std::vector<const uint8_t*> places;
    for (int64_t t = 0; t < taps; ++t) sources.push_back(m.codes(n));
    for (const auto& s : sources) places.push_back(s.data());
    std::vector<int16_t> w(n * static_cast<size_t>(taps));
    std::vector<int32_t> start(n);
    for (auto& v : w) v = static_cast<int16_t>(m.pick(-255, 255));
    for (auto& v : start) v = static_cast<int32_t>(m.pick(-1000, 1000));
    for (const Rows* rows : all_rows()) {
      std::vector<int16_t> wide(n + 16);
      auto depthwise = start, added = start, largest = start;
      rows->widen(in.data(), is_signed, zero, static_cast<int64_t>(n), wide.data());
      rows->depthwise(places.data(), taps, is_signed, zero, w.data(), static_cast<int64_t>(n), static_cast<int64_t>(n), depthwise.data());
      rows->add(in.data(), is_signed, zero, by, static_cast<int64_t>(n), added.data());
      rows->largest(in.data(), is_signed, static_cast<int64_t>(n), largest.data());
      for (size_t k = 0; k < n; ++k) {
        const int32_t code = is_signed ? static_cast<int8_t>(in[k]) : in[k];
        ASSERT_EQ(wide[k], code - zero) << rows->name;
        int32_t sum = 0;
        for (size_t t = 0; t < sources.size(); ++t) sum += ((is_signed ? static_cast<int8_t>(sources[t][k]) : sources[t][k]) - zero) * w[t * n + k];
        ASSERT_EQ(depthwise[k], sum) << rows->name;
        ASSERT_EQ(added[k], start[k] + (code - zero) * by) << rows->name;
        ASSERT_EQ(largest[k], std::max(start[k], code)) << rows->name;
      }
    }
  }
}

// A 1x1 convolution from 3 to 2 channels over 4 pixels.
Unit small_conv(Random& m, float output_scale = 0.05f) {
  Unit u;
  u.contract = "dot";
  Operand x = flowing("input", {1, 3, 2, 2}, u8(0.03f, 7));
  for (int i = 0; i < 12; ++i) x.codes.push_back(m.pick(0, 255));
  Operand w;
  w.role = "weight";
  w.dtype = QUERN_DTYPE_S8;
  w.dims = {2, 3, 1, 1};
  w.constant = true;
  w.quant = Quant{true, {0.01f, 0.003f}, 0, 0, true};
  for (int i = 0; i < 6; ++i) w.codes.push_back(m.pick(-127, 127));
  Operand b;
  b.role = "bias";
  b.dtype = QUERN_DTYPE_S32;
  b.dims = {2};
  b.constant = true;
  b.quant = Quant{true, {0.0003f, 0.00009f}, 0, 0, false};
  b.codes = {m.pick(-5000, 5000), m.pick(-5000, 5000)};
  u.operands = {x, w, b};
  u.nodes = {{"Conv", {0, 1, 2}, {{"kernel_shape", std::vector<int64_t>{1, 1}}, {"strides", std::vector<int64_t>{1, 1}}, {"dilations", std::vector<int64_t>{1, 1}},
                                  {"pads", std::vector<int64_t>{0, 0, 0, 0}}, {"group", int64_t{1}}, {"auto_pad", std::string("NOTSET")}}, 11}};
  u.output = flowing("output", {1, 2, 2, 2}, u8(output_scale, 20));
  return u;
}

TEST(VpuSim, MultipliersHaveSixteenBits) {
  Random m;
  const Plugin& plugin = Plugin::get("vpu_sim");
  for (int i = 0; i < 200; ++i) {
    const Unit u = small_conv(m, std::ldexp(m.real(0.5f, 1.f), static_cast<int>(m.pick(-18, 12))));
    std::map<std::string, Table> tables;
    ASSERT_EQ(plugin.derive(u, tables), "");
    const auto* multiplier = reinterpret_cast<const uint16_t*>(tables.at("multiplier").bytes.data());
    const uint8_t* shift = tables.at("shift").bytes.data();
    ASSERT_EQ(tables.at("multiplier").dims, Dims{2});
    for (size_t c = 0; c < 2; ++c) {
      const double ratio = static_cast<double>(0.03f) * u.operands[1].scale(c) / u.output.scale();
      EXPECT_GE(multiplier[c], 32768);
      EXPECT_LE(shift[c], 62);
      EXPECT_NEAR(std::ldexp(multiplier[c], -shift[c]) / ratio, 1, 0x1p-16);
    }
  }
  std::map<std::string, Table> tables;
  int32_t code = 0;
  const std::string error = plugin.derive(small_conv(m, 1e-11f), tables, &code);
  EXPECT_EQ(code, QUERN_OUT_OF_RANGE);
  EXPECT_NE(error.find("scales of input, weight and output differ too much"), std::string::npos) << error;
}

TEST(VpuSim, WeightsHaveAZeroPointForAllChannels) {
  Random m;
  for (int i = 0; i < 50; ++i) {
    Unit u = small_conv(m);
    u.operands[1].quant->zero_point = m.pick(-128, 127);
    u.operands[1].quant->narrow = false;
    for (auto& c : u.operands[1].codes) c = m.pick(-128, 127);
    if (i % 2) u.nodes.push_back({"Relu", {-1}, {}, 14});
    const Result r = Plugin::get("vpu_sim").run(u);
    ASSERT_EQ(r.error, "");
    const auto* multiplier = reinterpret_cast<const uint16_t*>(r.tables.at("multiplier").bytes.data());
    const uint8_t* shift = r.tables.at("shift").bytes.data();
    for (size_t o = 0; o < 2; ++o)
      for (size_t p = 0; p < 4; ++p) {
        int64_t acc = 0;
        for (size_t c = 0; c < 3; ++c) acc += (u.operands[0].codes[c * 4 + p] - 7) * (u.operands[1].codes[o * 3 + c] - u.operands[1].zero());
        EXPECT_EQ(r.codes[o * 4 + p], requantized(acc, u.operands[2].codes[o], multiplier[o], shift[o], 20, i % 2 ? 20 : 0, 255));
      }
  }
}

TEST(VpuSim, OperandsOfASumShareTheirNumbers) {
  Unit u;
  u.contract = "add";
  u.operands = {flowing("a", {4}, u8(0.03f, 7)), flowing("b", {4}, u8(0.03f, 7))};
  u.operands[0].codes = {0, 7, 255, 100};
  u.operands[1].codes = {9, 7, 255, 3};
  u.output = flowing("output", {4}, u8(0.06f, 10));
  u.nodes = {{"Add", {0, 1}, {}, 14}};
  std::string why;
  ASSERT_TRUE(Plugin::get("vpu_sim").supports(u, why)) << why;
  // (-7 + 2) / 2 = -2.5 to even is -2; 0; 248; (93 - 4) / 2 = 44.5 to even is 44.
  EXPECT_EQ(Plugin::get("vpu_sim").run(u).codes, (std::vector<int64_t>{8, 10, 255, 54}));
  u.operands[1].quant = u8(0.04f, 7);
  EXPECT_FALSE(Plugin::get("vpu_sim").supports(u, why));
  EXPECT_NE(why.find("share scale and zero point"), std::string::npos) << why;
  EXPECT_NE(Plugin::get("vpu_sim").run(u).error, "");
}

}  // namespace
}  // namespace vpu_test
