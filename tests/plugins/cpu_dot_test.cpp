// Conv, Gemm and MatMul of the cpu target against a plain model: sums in int64, then the float stages of the contract one
// by one. Equal bytes are asked for, over every implementation of oneDNN that these shapes lead to.
#include <algorithm>
#include <set>

#include "tests/plugins/cpu_support.hpp"

namespace cpu_test {
namespace {

struct Shape {
  const char* name;
  int64_t ic, oc, h, w, kh, kw, stride = 1, dilation = 1, group = 1;
  std::vector<int64_t> pads{0, 0, 0, 0};
  int64_t batch = 1;
};

struct Variant {
  bool signed_input = false;
  int64_t input_zero = 0;
  uint32_t output = QUERN_DTYPE_U8;
  int64_t output_zero = 0;
  bool bias = true;
  int activation = 0;              // 1 relu, 2 clip
  int residual = 0;                // 1 u8, 2 s8
  bool large = false;              // sums beyond 2^24
};

struct Model {
  Unit unit;
  std::vector<int64_t> sums;       // of the convolution, row major as the output
  std::vector<float> multiplier;
  int64_t channels = 1, inner = 1; // output[..., channel, inner]
};

std::mt19937 random_of(const std::string& name) {
  std::seed_seq seed(name.begin(), name.end());
  return std::mt19937(seed);
}
int64_t pick(std::mt19937& r, int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(r); }

int64_t out_size(int64_t in, int64_t k, int64_t stride, int64_t dilation, int64_t pads) { return (in + pads - ((k - 1) * dilation + 1)) / stride + 1; }

void sum_conv(Model& m, const Shape& s) {
  const Operand &x = *m.unit.find("input"), &w = *m.unit.find("weight");
  const int64_t oh = m.unit.output.dims[2], ow = m.unit.output.dims[3], icg = s.ic / s.group, ocg = s.oc / s.group;
  m.sums.assign(static_cast<size_t>(s.batch * s.oc * oh * ow), 0);
  size_t e = 0;
  for (int64_t n = 0; n < s.batch; ++n)
    for (int64_t o = 0; o < s.oc; ++o)
      for (int64_t y = 0; y < oh; ++y)
        for (int64_t p = 0; p < ow; ++p, ++e)
          for (int64_t c = 0; c < icg; ++c)
            for (int64_t ky = 0; ky < s.kh; ++ky)
              for (int64_t kx = 0; kx < s.kw; ++kx) {
                const int64_t iy = y * s.stride - s.pads[0] + ky * s.dilation, ix = p * s.stride - s.pads[1] + kx * s.dilation;
                if (iy < 0 || ix < 0 || iy >= s.h || ix >= s.w) continue;
                const int64_t v = x.codes[static_cast<size_t>(((n * s.ic + o / ocg * icg + c) * s.h + iy) * s.w + ix)] - x.zero();
                m.sums[e] += v * w.codes[static_cast<size_t>(((o * icg + c) * s.kh + ky) * s.kw + kx)];
              }
}

// Bias, residual and activation, whatever the operator is. `taps`: products a sum has.
void finish(Model& m, const Variant& v, int64_t taps, std::mt19937& r) {
  const Operand& x = *m.unit.find("input");
  Operand& w = m.unit.operands[1];
  Operand& y = m.unit.output;
  y.role = "output";
  y.dtype = v.output;
  const double typical = v.large ? static_cast<double>(taps) * 11000 : std::sqrt(static_cast<double>(taps)) * 8000;
  const float output_scale = 0.05f;
  if (v.output != QUERN_DTYPE_F32) y.quant = Quant{v.output == QUERN_DTYPE_S8, {output_scale}, v.output_zero, -1, false};
  w.quant->scale.clear();
  for (int64_t c = 0; c < m.channels; ++c)
    w.quant->scale.push_back(static_cast<float>(90 * output_scale / (typical * x.scale()) * static_cast<double>(pick(r, 500, 2000)) / 1000));
  m.multiplier.clear();
  for (float s : w.quant->scale) m.multiplier.push_back(static_cast<float>(static_cast<double>(x.scale()) * s / (y.quant ? output_scale : 1.f)));
  int32_t last = -1;
  const auto chain = [&](Node node) {
    node.inputs.insert(node.inputs.begin(), last);
    m.unit.nodes.push_back(node);
    --last;
  };
  if (v.bias) {
    Operand b;
    b.role = "bias";
    b.dtype = QUERN_DTYPE_S32;
    b.dims = {m.channels};
    b.constant = true;
    b.quant = Quant{true, w.quant->scale, 0, 0, false};
    const auto range = static_cast<int64_t>(typical);
    for (int64_t c = 0; c < m.channels; ++c) b.codes.push_back(pick(r, -range, range));
    m.unit.nodes[0].inputs.push_back(static_cast<int32_t>(m.unit.operands.size()));
    m.unit.operands.push_back(b);
  }
  if (v.residual) {
    Operand q = flowing("residual", y.dims, v.residual == 1 ? u8(0.0213f, 77) : s8(0.0371f));
    q.codes.resize(m.sums.size());
    for (auto& c : q.codes) c = v.residual == 1 ? pick(r, 0, 255) : pick(r, -128, 127);
    chain({"Add", {static_cast<int32_t>(m.unit.operands.size())}, {}, 14});
    m.unit.operands.push_back(q);
  }
  if (v.activation == 1) chain({"Relu", {}, {}, 14});
  if (v.activation == 2) {
    const auto first = static_cast<int32_t>(m.unit.operands.size());
    m.unit.operands.push_back(constant_f32(-1.37f));
    m.unit.operands.push_back(constant_f32(3.3f));
    chain({"Clip", {first, first + 1}, {}, 13});
  }
  m.unit.contract = y.quant ? "dot" : "dot_float";
}

float value(const Model& m, const Variant& v, size_t e) {
  const auto c = static_cast<size_t>(static_cast<int64_t>(e) / m.inner % m.channels);
  const Operand& y = m.unit.output;
  const float scale = y.quant ? y.quant->scale[0] : 1.f;
  float t = static_cast<float>(m.sums[e]);
  if (v.bias) t = t + static_cast<float>(m.unit.find("bias")->codes[c]);
  t = t * m.multiplier[c];
  if (const Operand* q = m.unit.find("residual"))
    t = std::fma(static_cast<float>(q->codes[e] - q->zero()), static_cast<float>(static_cast<double>(q->scale()) / scale), t);
  const auto clamp = [&](double low, double high) {
    t = std::min(std::max(t, static_cast<float>(low / scale)), static_cast<float>(high / scale));
  };
  if (v.activation == 1) t = std::max(t, 0.f);
  if (v.activation == 2) clamp(static_cast<double>(-1.37f), static_cast<double>(3.3f));
  return t;
}

void compare(const Model& m, const Variant& v, const Result& r, const std::string& what) {
  ASSERT_EQ(r.error, "") << what;
  size_t bad = 0, saturated = 0;
  for (size_t e = 0; e < m.sums.size(); ++e) {
    const float t = value(m, v, e);
    bool same;
    if (m.unit.output.quant) {
      const int64_t want = to_code(t, m.unit.output), low = v.output == QUERN_DTYPE_S8 ? -128 : 0;
      same = want == r.codes[e];
      saturated += want == low || want == low + 255;
    } else {
      same = std::memcmp(&t, &r.floats[e], 4) == 0;
    }
    if (!same && bad++ < 3) {
      ADD_FAILURE() << what << " [" << r.kernel << "] element " << e << ": sum " << m.sums[e] << ", want " << t << ", got "
                    << (m.unit.output.quant ? static_cast<double>(r.codes[e]) : static_cast<double>(r.floats[e]));
    }
  }
  EXPECT_EQ(bad, 0u) << what << " [" << r.kernel << "] of " << m.sums.size();
  if (m.sums.size() > 16) {
    EXPECT_LT(saturated, m.sums.size()) << what << ": everything saturated, nothing is proved";
  }
}

Model conv(const Shape& s, const Variant& v) {
  auto r = random_of(std::string(s.name) + std::to_string(v.output) + std::to_string(v.residual));
  Model m;
  m.channels = s.oc;
  m.unit.output.dims = {s.batch, s.oc, out_size(s.h, s.kh, s.stride, s.dilation, s.pads[0] + s.pads[2]),
                        out_size(s.w, s.kw, s.stride, s.dilation, s.pads[1] + s.pads[3])};
  m.inner = m.unit.output.dims[2] * m.unit.output.dims[3];
  Operand x = flowing("input", {s.batch, s.ic, s.h, s.w}, v.signed_input ? s8(0.021f) : u8(0.021f, v.input_zero));
  x.codes.resize(static_cast<size_t>(count(x.dims)));
  for (auto& c : x.codes) c = v.large ? (v.signed_input ? pick(r, 100, 127) : pick(r, 200, 255)) : (v.signed_input ? pick(r, -128, 127) : pick(r, 0, 255));
  Operand w;
  w.role = "weight";
  w.dtype = QUERN_DTYPE_S8;
  w.dims = {s.oc, s.ic / s.group, s.kh, s.kw};
  w.quant = Quant{true, {1.f}, 0, 0, true};
  w.constant = true;
  w.codes.resize(static_cast<size_t>(count(w.dims)));
  for (auto& c : w.codes) c = v.large ? pick(r, 90, 127) : pick(r, -127, 127);
  m.unit.operands = {x, w};
  m.unit.nodes = {{"Conv",
                   {0, 1},
                   {{"strides", std::vector<int64_t>{s.stride, s.stride}},
                    {"dilations", std::vector<int64_t>{s.dilation, s.dilation}},
                    {"group", s.group},
                    {"pads", s.pads},
                    {"kernel_shape", std::vector<int64_t>{s.kh, s.kw}},
                    {"auto_pad", std::string("NOTSET")}},
                   11}};
  sum_conv(m, s);
  finish(m, v, s.ic / s.group * s.kh * s.kw, r);
  return m;
}

Model matrix(const std::string& op, bool columns, const Dims& in, int64_t n, const Variant& v) {
  auto r = random_of(op + std::to_string(in.back()) + std::to_string(n) + std::to_string(v.output));
  Model m;
  m.channels = n;
  const int64_t k = in.back(), rows = count(in) / k;
  m.unit.output.dims = in;
  m.unit.output.dims.back() = n;
  Operand x = flowing("input", in, v.signed_input ? s8(0.021f) : u8(0.021f, v.input_zero));
  for (int64_t i = 0; i < rows * k; ++i) x.codes.push_back(v.signed_input ? pick(r, -128, 127) : pick(r, 0, 255));
  Operand w;
  w.role = "weight";
  w.dtype = QUERN_DTYPE_S8;
  w.dims = columns ? Dims{k, n} : Dims{n, k};
  w.quant = Quant{true, {1.f}, 0, columns ? 1 : 0, true};
  w.constant = true;
  for (int64_t i = 0; i < n * k; ++i) w.codes.push_back(pick(r, -127, 127));
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t c = 0; c < n; ++c) {
      int64_t sum = 0;
      for (int64_t i = 0; i < k; ++i)
        sum += (x.codes[static_cast<size_t>(row * k + i)] - x.zero()) * w.codes[static_cast<size_t>(columns ? i * n + c : c * k + i)];
      m.sums.push_back(sum);
    }
  m.unit.operands = {x, w};
  m.unit.nodes = {{op, {0, 1}, {}, 13}};
  if (op == "Gemm") m.unit.nodes[0].attributes = {{"transA", int64_t{0}}, {"transB", int64_t{columns ? 0 : 1}}, {"alpha", 1.f}, {"beta", 1.f}};
  finish(m, v, k, r);
  return m;
}

std::vector<Variant> variants(bool large = false) {
  std::vector<Variant> all = {
      {false, 0, QUERN_DTYPE_U8, 0, true, 1, 0},    {false, 117, QUERN_DTYPE_U8, 101, true, 0, 0}, {true, 0, QUERN_DTYPE_S8, 0, false, 0, 0},
      {false, 31, QUERN_DTYPE_S8, 0, true, 2, 1},   {true, 0, QUERN_DTYPE_U8, 44, true, 1, 2},     {false, 200, QUERN_DTYPE_U8, 3, false, 2, 1},
      {false, 117, QUERN_DTYPE_F32, 0, true, 0, 0}, {true, 0, QUERN_DTYPE_F32, 0, true, 1, 1},     {false, 5, QUERN_DTYPE_F32, 0, false, 2, 2}};
  if (large)
    for (auto& v : all) {
      v.large = true;
      v.input_zero = std::min<int64_t>(v.input_zero, 3);
    }
  return all;
}

const std::vector<Shape>& shapes() {
  static const std::vector<Shape> all = {
      {"dense_3x3", 64, 64, 9, 9, 3, 3, 1, 1, 1, {1, 1, 1, 1}},
      {"dense_batch3", 16, 24, 7, 6, 3, 3, 1, 1, 1, {1, 1, 1, 1}, 3},
      {"point", 40, 56, 6, 7, 1, 1},
      {"point_stride2", 64, 96, 9, 9, 1, 1, 2},
      {"first_layer", 3, 17, 20, 21, 3, 3, 2, 1, 1, {0, 0, 1, 1}},
      {"one_channel", 1, 8, 11, 5, 5, 3, 1, 1, 1, {2, 1, 2, 1}},
      {"primes", 17, 23, 11, 7, 3, 3, 1, 1, 1, {1, 0, 2, 1}},
      {"one_output", 13, 1, 5, 5, 3, 3, 1, 1, 1, {1, 1, 1, 1}},
      {"dilated", 32, 32, 15, 9, 3, 3, 1, 2, 1, {2, 2, 2, 2}},
      {"stride3_kernel5", 12, 20, 16, 17, 5, 5, 3, 1, 1, {2, 2, 2, 2}},
      {"wide_kernel", 8, 16, 4, 40, 1, 9, 1, 1, 1, {0, 4, 0, 4}},
      {"kernel_as_image", 24, 10, 7, 7, 7, 7},
      {"depthwise", 32, 32, 9, 10, 3, 3, 1, 1, 32, {1, 1, 1, 1}},
      {"depthwise_prime", 17, 17, 9, 9, 3, 3, 1, 1, 17, {1, 1, 1, 1}},
      {"depthwise_stride2", 48, 48, 11, 12, 3, 3, 2, 1, 48, {0, 0, 1, 1}},
      {"depthwise_5x5", 24, 24, 9, 9, 5, 5, 1, 1, 24, {2, 2, 2, 2}},
      {"depthwise_dilated", 64, 64, 11, 9, 3, 3, 1, 2, 64, {2, 2, 2, 2}},
      {"depthwise_10x4", 8, 8, 25, 5, 10, 4, 2, 1, 8, {4, 1, 5, 1}},
      {"depthwise_one_unit", 16, 16, 7, 9, 3, 3, 1, 1, 16, {1, 1, 1, 1}},
      {"depthwise_three_units", 48, 48, 7, 5, 3, 3, 1, 1, 48, {1, 1, 1, 1}, 2},
      {"depthwise_units_not_full", 70, 70, 9, 8, 3, 3, 1, 1, 70, {1, 0, 0, 1}, 2},
      {"depthwise_nine_units_stride3", 144, 144, 10, 11, 3, 3, 3, 1, 144, {1, 1, 1, 1}},
      {"depthwise_tall_kernel", 64, 64, 25, 5, 10, 4, 2, 1, 64, {4, 1, 5, 1}},
      {"depthwise_chunks", 1040, 1040, 6, 12, 3, 3, 1, 1, 1040, {1, 1, 1, 1}},
      {"depthwise_chunks_not_full", 1111, 1111, 5, 9, 3, 3, 2, 1, 1111, {1, 1, 1, 1}},
      {"depthwise_5x5_wide", 80, 80, 8, 9, 5, 5, 2, 1, 80, {2, 2, 2, 2}},
      {"depthwise_dilated_stride2", 64, 64, 11, 13, 3, 3, 2, 3, 64, {3, 3, 3, 3}},
      {"depthwise_one_row", 32, 32, 1, 20, 1, 7, 1, 1, 32, {0, 3, 0, 3}},
      {"depthwise_times2", 16, 32, 9, 8, 3, 3, 1, 1, 16, {1, 1, 1, 1}},
      {"depthwise_times3_prime", 7, 21, 6, 8, 3, 3, 1, 1, 7, {1, 1, 1, 1}, 2},
      {"groups_4", 64, 64, 8, 8, 3, 3, 1, 1, 4, {1, 1, 1, 1}},
      {"groups_small", 6, 6, 9, 9, 3, 3, 1, 1, 2, {1, 1, 1, 1}},
      {"groups_32_of_4", 128, 128, 6, 6, 3, 3, 1, 1, 32, {1, 1, 1, 1}},
      {"groups_uneven", 12, 30, 5, 5, 1, 1, 1, 1, 6},
  };
  return all;
}

TEST(CpuDot, ConvolutionsEqualTheContract) {
  REQUIRE_PROFILE("sse41");
  std::set<std::string> seen;
  for (const Shape& s : shapes())
    for (const Variant& v : variants()) {
      const Model m = conv(s, v);
      const std::string what = std::string(s.name) + " input " + (v.signed_input ? "s8" : "u8") + " output " + std::to_string(v.output) + " residual " +
                               std::to_string(v.residual) + " activation " + std::to_string(v.activation);
      const Result r = Plugin::get().run(m.unit, {1, true, 2});
      compare(m, v, r, what);
      seen.insert(r.kernel);
    }
  // What the machine's oneDNN chose; nothing slow may be left.
  for (const auto& name : seen) {
    EXPECT_EQ(name.find("ref"), std::string::npos) << name;
    EXPECT_EQ(name.find("gemm"), std::string::npos) << name;
    ::testing::Test::RecordProperty(name, 1);
  }
}

TEST(CpuDot, SumsBeyondTwentyFourBitsAreRoundedAsTheContractSays) {
  REQUIRE_PROFILE("sse41");
  const std::vector<Shape> large = {{"large", 512, 24, 5, 5, 3, 3, 1, 1, 1, {1, 1, 1, 1}},
                                    {"large_point", 4096, 24, 3, 3, 1, 1},
                                    {"large_groups", 2048, 64, 3, 4, 3, 3, 1, 1, 4, {1, 1, 1, 1}}};
  for (const Shape& s : large)
    for (const Variant& v : variants(true)) {
      const Model m = conv(s, v);
      EXPECT_GT(*std::max_element(m.sums.begin(), m.sums.end()), int64_t{1} << 24);
      compare(m, v, Plugin::get().run(m.unit), s.name);
    }
}

TEST(CpuDot, ThreadsDoNotChangeABit) {
  REQUIRE_PROFILE("sse41");
  for (const char* name : {"dense_3x3", "dense_batch3", "depthwise", "depthwise_units_not_full", "depthwise_three_units", "groups_32_of_4", "point", "depthwise_times2"})
    for (const Shape& s : shapes()) {
      if (name != std::string(s.name)) continue;
      for (const Variant& v : {variants()[1], variants()[4], variants()[7]}) {
        const Model m = conv(s, v);
        for (uint32_t threads : {1u, 2u, 3u}) compare(m, v, Plugin::get().run(m.unit, {threads, true, 3}), s.name);
      }
    }
}

TEST(CpuDot, MatrixProductsEqualTheContract) {
  REQUIRE_PROFILE("sse41");
  for (const Variant& v : variants()) {
    for (const Dims& in : {Dims{1, 64}, Dims{7, 65}, Dims{3, 1}, Dims{128, 33}, Dims{1, 1024}})
      for (int64_t n : {1, 10, 64, 129}) {
        for (bool columns : {false, true}) {
          const Model m = matrix("Gemm", columns, in, n, v);
          compare(m, v, Plugin::get().run(m.unit), "Gemm " + std::to_string(in[0]) + "x" + std::to_string(in[1]) + "x" + std::to_string(n));
        }
      }
    for (const Dims& in : {Dims{5, 17}, Dims{2, 3, 40}, Dims{2, 2, 5, 31}}) {
      const Model m = matrix("MatMul", true, in, 19, v);
      compare(m, v, Plugin::get().run(m.unit, {2, true, 1}), "MatMul");
    }
  }
}

TEST(CpuDot, OneDimensionalAndAutomaticPadding) {
  REQUIRE_PROFILE("sse41");
  const Shape s{"one_dimension", 9, 14, 1, 30, 1, 5, 2, 1, 1, {0, 1, 0, 2}};
  for (const Variant& v : variants()) {
    Model m = conv(s, v);
    for (auto& o : m.unit.operands)
      if (o.dims.size() == 4) o.dims.erase(o.dims.begin() + 2);
    m.unit.output.dims.erase(m.unit.output.dims.begin() + 2);
    auto& a = m.unit.nodes[0].attributes;
    a["strides"] = std::vector<int64_t>{2};
    a["dilations"] = std::vector<int64_t>{1};
    a["pads"] = std::vector<int64_t>{1, 2};
    a["kernel_shape"] = std::vector<int64_t>{5};
    compare(m, v, Plugin::get().run(m.unit), "one dimension");
  }
  const Shape upper{"same_upper", 5, 6, 8, 7, 4, 4, 2, 1, 1, {1, 1, 1, 2}};
  Model m = conv(upper, variants()[1]);
  m.unit.nodes[0].attributes["auto_pad"] = std::string("SAME_UPPER");
  m.unit.nodes[0].attributes.erase("pads");
  compare(m, variants()[1], Plugin::get().run(m.unit), "SAME_UPPER");
}

TEST(CpuDot, ResidualsAreBroadcast) {
  REQUIRE_PROFILE("sse41");
  const Shape s{"broadcast", 8, 12, 5, 6, 3, 3, 1, 1, 1, {1, 1, 1, 1}, 2};
  for (uint32_t output : {QUERN_DTYPE_U8, QUERN_DTYPE_F32})
    for (const Dims& dims : {Dims{2, 12, 1, 1}, Dims{12, 1, 1}, Dims{1, 1, 5, 6}, Dims{6}, Dims{1}}) {
      const Variant v{false, 9, output, output == QUERN_DTYPE_U8 ? 33 : 0, true, 1, 1};
      Model m = conv(s, v);
      for (auto& o : m.unit.operands) {
        if (o.role != "residual") continue;
        Operand narrow = o;
        narrow.dims = dims;
        narrow.codes.resize(static_cast<size_t>(count(dims)));
        const Dims& y = m.unit.output.dims;
        for (size_t e = 0; e < o.codes.size(); ++e) {  // the model keeps the full tensor
          const int64_t at[4] = {static_cast<int64_t>(e) / (y[1] * y[2] * y[3]), static_cast<int64_t>(e) / (y[2] * y[3]) % y[1],
                                 static_cast<int64_t>(e) / y[3] % y[2], static_cast<int64_t>(e) % y[3]};
          int64_t from = 0;
          for (size_t i = 0; i < dims.size(); ++i) from = from * dims[i] + (dims[i] == 1 ? 0 : at[4 - dims.size() + i]);
          o.codes[e] = narrow.codes[static_cast<size_t>(from)] = (from * 37 + 11) % 256;
        }
        Model small = m;
        for (auto& q : small.unit.operands)
          if (q.role == "residual") q = narrow;
        compare(m, v, Plugin::get().run(small.unit), "residual of rank " + std::to_string(dims.size()));
      }
    }
}

// Values on the very edge: a bias is chosen per channel so that one pixel is a half after fma, or would be one after
// separate rounding. Any other order of the stages fails here.
TEST(CpuDot, EveryRoundingIsWhereTheContractPutsIt) {
  REQUIRE_PROFILE("sse41");
  struct Kind { const char* name; int64_t ic, oc, group, k; };
  size_t separate_differs = 0, late_zero_differs = 0, total = 0;
  for (const Kind& kind : {Kind{"point", 64, 512, 1, 1}, Kind{"dense", 16, 512, 1, 3}, Kind{"depthwise", 512, 512, 512, 3}, Kind{"groups", 512, 512, 16, 3}})
    for (uint32_t output : {QUERN_DTYPE_U8, QUERN_DTYPE_S8})
      for (int residual : {1, 2}) {
        const Shape s{kind.name, kind.ic, kind.oc, kind.k, kind.k, kind.k, kind.k, 1, 1, kind.group};
        const Variant v{false, 7, output, output == QUERN_DTYPE_U8 ? 101 : 0, true, 0, residual};
        Model m = conv(s, v);
        auto r = random_of("edges");
        // Real scales become powers of two: the multiplier is 2^-23 exactly, and any 24-bit sum a chosen value.
        m.unit.operands[0].quant->scale = {0x1p-10f};
        m.unit.operands[1].quant->scale = {0x1p-13f};
        m.unit.output.quant->scale = {1.f};
        m.multiplier.assign(static_cast<size_t>(kind.oc), 0x1p-23f);
        Operand *bias = nullptr, *extra = nullptr;
        for (auto& o : m.unit.operands) {
          if (o.role == "bias") bias = &o;
          if (o.role == "residual") extra = &o;
        }
        bias->quant->scale = {0x1p-23f};
        const float scale = residual == 1 ? 0.3712345f : 0.0123457f;
        extra->quant->scale = {scale};
        for (size_t c = 0; c < static_cast<size_t>(kind.oc); ++c) {
          // A residual whose product lies in [-1.5, 1.5], so that the sum fits 24 bits.
          const auto reach = static_cast<int64_t>(1.5f / scale);
          extra->codes[c] = extra->zero() + pick(r, -std::min<int64_t>(reach, 76), std::min<int64_t>(reach, 76));
          const float product = static_cast<float>(extra->codes[c] - extra->zero()) * scale;
          const float target = static_cast<float>(pick(r, 0, 1)) - 0.5f;  // the tie that separate rounding would see
          bias->codes[c] = static_cast<int64_t>(std::lrint((static_cast<double>(target) - product) * 0x1p23)) - m.sums[c];
          const float first = (static_cast<float>(m.sums[c]) + static_cast<float>(bias->codes[c])) * 0x1p-23f;
          separate_differs += to_code(first + product, m.unit.output) != to_code(value(m, v, c), m.unit.output);
          late_zero_differs += half_even(value(m, v, c)) + v.output_zero != to_code(value(m, v, c), m.unit.output);
          ++total;
        }
        compare(m, v, Plugin::get().run(m.unit), kind.name);
      }
  EXPECT_GT(separate_differs, 50u) << "the vectors do not tell fma from multiply and add";
  EXPECT_GT(late_zero_differs, total / 20) << "the vectors do not tell where the zero point is added";
}

TEST(CpuDot, RefusesWhatItCanNotDo) {
  REQUIRE_PROFILE("sse41");
  const Shape s{"refusals", 8, 8, 5, 5, 3, 3, 1, 1, 1, {1, 1, 1, 1}};
  const auto fails = [&](const char* what, auto&& change, int32_t code) {
    Model m = conv(s, variants()[1]);
    change(m.unit);
    const Result r = Plugin::get().run(m.unit);
    EXPECT_NE(r.error, "") << what;
    EXPECT_EQ(r.code, code) << what << ": " << r.error;
  };
  fails("weights with a zero point", [](Unit& u) { u.operands[1].quant->zero_point = 3; }, QUERN_UNIMPLEMENTED);
  fails("weights per input channel", [](Unit& u) { u.operands[1].quant->axis = 1; }, QUERN_UNIMPLEMENTED);
  fails("no scale", [](Unit& u) { u.operands[0].quant->scale = {0.f}; }, QUERN_INVALID_ARGUMENT);
  fails("scale not finite", [](Unit& u) { u.operands[0].quant->scale = {INFINITY}; }, QUERN_INVALID_ARGUMENT);
  fails("a huge multiplier", [](Unit& u) { u.operands[1].quant->scale.assign(8, 1e30f); }, QUERN_OUT_OF_RANGE);
  fails("a float input", [](Unit& u) { u.operands[0].quant.reset(); }, QUERN_INVALID_ARGUMENT);
  fails("output of another size", [](Unit& u) { u.output.dims[2] = 6; }, QUERN_INVALID_ARGUMENT);
  fails("groups that do not divide", [](Unit& u) { u.nodes[0].attributes["group"] = int64_t{3}; }, QUERN_INVALID_ARGUMENT);
  fails("negative pads", [](Unit& u) { u.nodes[0].attributes["pads"] = std::vector<int64_t>{-1, 1, 3, 1}; }, QUERN_UNIMPLEMENTED);
  fails("pads of a wrong count", [](Unit& u) { u.nodes[0].attributes["pads"] = std::vector<int64_t>{1}; }, QUERN_INVALID_ARGUMENT);
  fails("stride 0", [](Unit& u) { u.nodes[0].attributes["strides"] = std::vector<int64_t>{0, 1}; }, QUERN_INVALID_ARGUMENT);
  fails("an unknown operator", [](Unit& u) { u.nodes[0].op = "Softsign"; }, QUERN_UNIMPLEMENTED);

  // A sum that may leave 32 bits is refused before anything runs.
  Shape deep{"deep", 90000, 2, 1, 1, 1, 1};
  Variant v = variants()[0];
  v.large = true;
  std::string why;
  EXPECT_FALSE(Plugin::get().supports(conv(deep, v).unit, why));
  EXPECT_NE(why.find("accumulator"), std::string::npos) << why;
  deep.ic = 60000;
  EXPECT_TRUE(Plugin::get().supports(conv(deep, v).unit, why));
}

}  // namespace
}  // namespace cpu_test
