// Pooling of the cpu target against a plain model: padding that counts adds the zero point, not the code 0.
#include <algorithm>

#include "tests/plugins/cpu_support.hpp"

namespace cpu_test {
namespace {

struct Case {
  const char* op;
  Dims in;
  int64_t kh, kw, stride = 1, dilation = 1;
  std::vector<int64_t> pads{0, 0, 0, 0};
  bool count_pads = false, ceil = false;
};

int64_t out_size(int64_t in, int64_t k, const Case& c, int64_t begin, int64_t end) {
  const int64_t room = in + begin + end - ((k - 1) * c.dilation + 1);
  int64_t n = room / c.stride + 1;
  // A last window that would begin behind the input and its leading padding is dropped.
  if (c.ceil && room % c.stride != 0 && n * c.stride < in + begin) ++n;
  return n;
}

struct Built { Unit unit; std::vector<float> want; };

Built build(const Case& c, const Quant& x, uint32_t dtype, float scale, int64_t zero, bool relu) {
  Built b;
  Unit& u = b.unit;
  const std::string op = c.op;
  const bool global = op.rfind("Global", 0) == 0, average = op.find("Average") != std::string::npos;
  const int64_t kh = global ? c.in[2] : c.kh, kw = global ? c.in[3] : c.kw;
  u.operands = {flowing("input", c.in, x)};
  Operand& in = u.operands[0];
  std::mt19937 r(11);
  std::uniform_int_distribution<int64_t> d(x.is_signed ? -128 : 0, x.is_signed ? 127 : 255);
  for (int64_t i = 0; i < count(c.in); ++i) in.codes.push_back(d(r));
  u.output.role = "output";
  u.output.dtype = dtype;
  u.output.dims = {c.in[0], c.in[1], global ? 1 : out_size(c.in[2], kh, c, c.pads[0], c.pads[2]), global ? 1 : out_size(c.in[3], kw, c, c.pads[1], c.pads[3])};
  if (dtype != QUERN_DTYPE_F32) u.output.quant = Quant{dtype == QUERN_DTYPE_S8, {scale}, zero, -1, false};
  u.nodes = {{op, {0}, {}, 19}};
  if (!global)
    u.nodes[0].attributes = {{"kernel_shape", std::vector<int64_t>{kh, kw}},
                             {"strides", std::vector<int64_t>{c.stride, c.stride}},
                             {"dilations", std::vector<int64_t>{c.dilation, c.dilation}},
                             {"pads", c.pads},
                             {"ceil_mode", int64_t{c.ceil}},
                             {"auto_pad", std::string("NOTSET")}};
  if (average && !global) u.nodes[0].attributes["count_include_pad"] = int64_t{c.count_pads};
  if (relu) u.nodes.push_back({"Relu", {-1}, {}, 14});
  u.contract = std::string(average ? "average" : "max") + (u.output.quant ? "" : "_float");
  const auto ratio = static_cast<float>(static_cast<double>(x.scale[0]) / (u.output.quant ? scale : 1.f));
  const Dims& y = u.output.dims;
  for (int64_t n = 0; n < y[0] * y[1]; ++n)
    for (int64_t oy = 0; oy < y[2]; ++oy)
      for (int64_t ox = 0; ox < y[3]; ++ox) {
        int64_t sum = 0, window = 0, most = INT64_MIN;
        for (int64_t ky = 0; ky < kh; ++ky)
          for (int64_t kx = 0; kx < kw; ++kx) {
            const int64_t iy = oy * c.stride - c.pads[0] + ky * c.dilation, ix = ox * c.stride - c.pads[1] + kx * c.dilation;
            const bool inside = iy >= 0 && ix >= 0 && iy < c.in[2] && ix < c.in[3];
            const bool declared = iy < c.in[2] + c.pads[2] && ix < c.in[3] + c.pads[3];
            window += inside || (c.count_pads && declared);
            if (!inside) continue;
            const int64_t v = in.codes[static_cast<size_t>((n * c.in[2] + iy) * c.in[3] + ix)] - x.zero_point;
            sum += v;
            most = std::max(most, v);
          }
        float v;
        if (average) {
          v = static_cast<float>(sum) / static_cast<float>(window);
          v = v * ratio;
        } else {
          v = static_cast<float>(most) * ratio;
        }
        b.want.push_back(relu ? std::max(v, 0.f) : v);
      }
  return b;
}

TEST(CpuPool, EqualsTheContract) {
  REQUIRE_PROFILE("sse41");
  const std::vector<Case> cases = {
      {"AveragePool", {2, 17, 9, 8}, 3, 3, 1, 1, {1, 1, 1, 1}, true, false}, {"AveragePool", {2, 17, 9, 8}, 3, 3, 1, 1, {1, 1, 1, 1}, false, false},
      {"AveragePool", {1, 64, 8, 8}, 2, 2, 2},                               {"AveragePool", {1, 3, 10, 7}, 3, 2, 2, 1, {0, 1, 1, 0}, true, true},
      {"AveragePool", {1, 3, 10, 7}, 3, 2, 2, 1, {0, 1, 1, 0}, false, true}, {"AveragePool", {1, 80, 25, 5}, 25, 5},
      {"AveragePool", {1, 5, 11, 11}, 3, 3, 2, 2, {2, 2, 2, 2}, false, false}, {"MaxPool", {2, 17, 9, 8}, 3, 3, 2, 1, {1, 1, 1, 1}},
      {"MaxPool", {1, 64, 8, 8}, 2, 2, 2},                                   {"MaxPool", {1, 70, 7, 7}, 3, 3, 2, 1, {0, 0, 1, 1}, false, true},
      {"MaxPool", {1, 5, 11, 11}, 3, 3, 1, 2, {1, 2, 2, 1}},                 {"MaxPool", {1, 600, 5, 5}, 3, 3, 1, 1, {1, 1, 1, 1}},
      {"GlobalAveragePool", {2, 1280, 7, 7}, 0, 0},                          {"GlobalAveragePool", {1, 13, 1, 1}, 0, 0},
      {"GlobalAveragePool", {1, 3, 40, 41}, 0, 0},                           {"GlobalMaxPool", {2, 33, 4, 5}, 0, 0},
      // Large enough for several threads: by rows, by channels.
      {"AveragePool", {1, 40, 28, 28}, 3, 3, 1, 1, {1, 1, 1, 1}, true, false}, {"GlobalAveragePool", {1, 5400, 7, 7}, 0, 0}};
  const std::vector<Quant> inputs = {u8(0.02f, 0), u8(0.02f, 119), s8(0.02f)};
  for (const Case& c : cases)
    for (const Quant& x : inputs)
      for (uint32_t dtype : {QUERN_DTYPE_U8, QUERN_DTYPE_S8, QUERN_DTYPE_F32})
        for (int kind = 0; kind < 3; ++kind) {
          // The same scale makes ties; a third of the cases has the numbers of the input.
          const float scale = kind == 1 ? 0.0137f : 0.02f;
          const int64_t zero = dtype == QUERN_DTYPE_S8 ? 0 : kind == 0 && !x.is_signed ? x.zero_point : 31;
          const Built b = build(c, x, dtype, scale, zero, kind == 2);
          for (uint32_t threads : {1u, 4u}) {
            const Result r = Plugin::get().run(b.unit, {threads, true, 2});
            ASSERT_EQ(r.error, "") << c.op;
            for (size_t e = 0; e < b.want.size(); ++e) {
              if (b.unit.output.quant) ASSERT_EQ(r.codes[e], to_code(b.want[e], b.unit.output)) << c.op << " [" << r.kernel << "] element " << e;
              else ASSERT_EQ(r.floats[e], b.want[e]) << c.op << " [" << r.kernel << "] element " << e;
            }
          }
        }
}

TEST(CpuPool, CopiesTheLargestCodeWhereTheNumbersAreEqual) {
  const Built b = build({"MaxPool", {1, 4, 4, 4}, 2, 2, 2}, u8(0.02f, 119), QUERN_DTYPE_U8, 0.02f, 119, false);
  std::map<std::string, Table> tables;
  EXPECT_EQ(Plugin::get().derive(b.unit, tables), "");
  EXPECT_TRUE(tables.empty());
}

TEST(CpuPool, OneDimension) {
  REQUIRE_PROFILE("sse41");
  Built b = build({"AveragePool", {2, 6, 1, 20}, 1, 4, 3, 1, {0, 1, 0, 2}, true, false}, u8(0.02f, 50), QUERN_DTYPE_U8, 0.011f, 3, false);
  for (Dims* d : {&b.unit.operands[0].dims, &b.unit.output.dims}) d->erase(d->begin() + 2);
  auto& a = b.unit.nodes[0].attributes;
  for (const char* key : {"kernel_shape", "strides", "dilations"}) {
    auto& v = std::get<std::vector<int64_t>>(a[key]);
    v.erase(v.begin());
  }
  a["pads"] = std::vector<int64_t>{1, 2};
  const Result r = Plugin::get().run(b.unit);
  ASSERT_EQ(r.error, "");
  for (size_t e = 0; e < b.want.size(); ++e) EXPECT_EQ(r.codes[e], to_code(b.want[e], b.unit.output));
}

}  // namespace
}  // namespace cpu_test
