// Add, Relu, Clip and the operators that move codes, against plain models, in both layouts.
#include <algorithm>
#include <functional>
#include <numeric>

#include "tests/plugins/cpu_support.hpp"

namespace cpu_test {
namespace {

std::vector<int64_t> random_codes(const Operand& o, uint32_t seed) {
  std::mt19937 r(seed);
  std::uniform_int_distribution<int64_t> d(o.dtype == QUERN_DTYPE_S8 ? -128 : 0, o.dtype == QUERN_DTYPE_S8 ? 127 : 255);
  std::vector<int64_t> v(static_cast<size_t>(count(o.dims)));
  for (auto& c : v) c = d(r);
  return v;
}

Operand output(const Dims& dims, uint32_t dtype, float scale, int64_t zero) {
  Operand o;
  o.role = "output";
  o.dtype = dtype;
  o.dims = dims;
  if (dtype != QUERN_DTYPE_F32) o.quant = Quant{dtype == QUERN_DTYPE_S8, {scale}, zero, -1, false};
  return o;
}

// Index of an element of `dims` in an operand broadcast to it.
int64_t from(int64_t e, const Dims& dims, const Dims& own) {
  Dims at(dims.size());
  for (size_t i = dims.size(); i-- > 0;) {
    at[i] = e % dims[i];
    e /= dims[i];
  }
  int64_t o = 0;
  for (size_t i = 0; i < own.size(); ++i) o = o * own[i] + (own[i] == 1 ? 0 : at[dims.size() - own.size() + i]);
  return o;
}

void expect_equal(const Unit& u, const std::vector<float>& want, const std::string& what) {
  for (bool last : {true, false})
    for (uint32_t threads : {1u, 3u}) {
      const Result r = Plugin::get().run(u, {threads, last, 2});
      ASSERT_EQ(r.error, "") << what;
      for (size_t e = 0; e < want.size(); ++e) {
        if (u.output.quant) ASSERT_EQ(r.codes[e], to_code(want[e], u.output)) << what << " [" << r.kernel << "] element " << e;
        else ASSERT_EQ(std::memcmp(&r.floats[e], &want[e], 4), 0) << what << " [" << r.kernel << "] element " << e << ": " << r.floats[e] << " for " << want[e];
      }
    }
}

float ratio(const Operand& x, const Operand& y) { return static_cast<float>(static_cast<double>(x.scale()) / (y.quant ? y.scale() : 1.f)); }
float centred(const Operand& x, int64_t at) { return static_cast<float>(x.codes[static_cast<size_t>(at)] - x.zero()); }

TEST(CpuAdd, EqualsTheContract) {
  REQUIRE_PROFILE("sse41");
  struct Case { Dims y, a, b; };
  const std::vector<Case> cases = {
      {{2, 17, 5, 6}, {2, 17, 5, 6}, {2, 17, 5, 6}}, {{1, 64, 8, 8}, {1, 64, 8, 8}, {1, 64, 1, 1}}, {{2, 3, 4, 5}, {2, 3, 4, 5}, {3, 1, 1}},
      {{2, 3, 4, 5}, {5}, {2, 3, 4, 5}},             {{3, 7}, {3, 7}, {1, 7}},                     {{3, 7}, {3, 1}, {1, 7}},
      {{2, 5, 3}, {2, 5, 3}, {2, 5, 3}},             {{1, 1, 1, 1}, {1, 1, 1, 1}, {1}},            {{1, 40, 70, 71}, {1, 40, 70, 71}, {1, 40, 70, 71}},
      {{2, 3, 4, 5}, {1, 3, 1, 5}, {2, 1, 4, 1}},    {{4, 600}, {4, 600}, {4, 1}}};
  for (const Case& c : cases)
    for (uint32_t dtype : {QUERN_DTYPE_U8, QUERN_DTYPE_S8, QUERN_DTYPE_F32})
      for (int kind = 0; kind < 3; ++kind) {
        Unit u;
        u.contract = dtype == QUERN_DTYPE_F32 ? "add_float" : "add";
        u.operands = {flowing("a", c.a, kind == 1 ? s8(0.5f) : u8(0.0213f, 119)), flowing("b", c.b, kind == 2 ? s8(0.037f) : u8(kind == 1 ? 0.25f : 0.031f, 7))};
        u.operands[0].codes = random_codes(u.operands[0], 1);
        u.operands[1].codes = random_codes(u.operands[1], 2);
        u.output = output(c.y, dtype, kind == 1 ? 1.f : 0.04f, dtype == QUERN_DTYPE_U8 ? 101 : 0);
        u.nodes = {{"Add", {0, 1}, {}, 14}};
        if (kind == 0) u.nodes.push_back({"Relu", {-1}, {}, 14});
        std::vector<float> want;
        for (int64_t e = 0; e < count(c.y); ++e) {
          const Operand &a = u.operands[0], &b = u.operands[1];
          const float pa = centred(a, from(e, c.y, c.a)) * ratio(a, u.output), pb = centred(b, from(e, c.y, c.b)) * ratio(b, u.output);
          const float v = pa + pb;
          want.push_back(kind == 0 ? std::max(v, 0.f) : v);
        }
        expect_equal(u, want, "Add");
        // The same with a constant on the right.
        u.operands[1].constant = true;
        expect_equal(u, want, "Add of a constant");
      }
}

TEST(CpuAdd, RefusesShapesThatDoNotFit) {
  REQUIRE_PROFILE("sse41");
  Unit u;
  u.operands = {flowing("a", {2, 3}, u8(1, 0)), flowing("b", {2, 4}, u8(1, 0))};
  for (auto& o : u.operands) o.codes = random_codes(o, 3);
  u.output = output({2, 3}, QUERN_DTYPE_U8, 1, 0);
  u.nodes = {{"Add", {0, 1}, {}, 14}};
  const Result r = Plugin::get().run(u);
  EXPECT_NE(r.error, "");
}

TEST(CpuActivation, ReluAndClipByThemselves) {
  REQUIRE_PROFILE("sse41");
  for (uint32_t dtype : {QUERN_DTYPE_U8, QUERN_DTYPE_S8, QUERN_DTYPE_F32})
    for (int kind = 0; kind < 4; ++kind) {
      Unit u;
      u.operands = {flowing("input", {2, 19, 3, 5}, kind % 2 ? s8(0.05f) : u8(0.05f, 113))};
      u.operands[0].codes = random_codes(u.operands[0], 4);
      u.output = output({2, 19, 3, 5}, dtype, 0.05f, dtype == QUERN_DTYPE_U8 ? 13 : 0);
      float low = 0, high = FLT_MAX;
      if (kind < 2) {
        u.nodes = {{"Relu", {0}, {}, 14}};
      } else {
        u.nodes = {{"Clip", {0, QUERN_ABSENT_INPUT, 1}, {}, 13}};
        u.operands.push_back(constant_f32(2.17f));
        low = -FLT_MAX;
        high = static_cast<float>(static_cast<double>(2.17f) / (u.output.quant ? u.output.scale() : 1.f));
      }
      std::vector<float> want;
      for (int64_t e = 0; e < count(u.output.dims); ++e)
        want.push_back(std::min(std::max(centred(u.operands[0], e) * ratio(u.operands[0], u.output), low), high));
      expect_equal(u, want, u.nodes[0].op);
    }
  // Bounds as attributes, before opset 11.
  Unit u;
  u.operands = {flowing("input", {6}, s8(0.5f))};
  u.operands[0].codes = {-128, -3, 0, 5, 13, 127};
  u.output = output({6}, QUERN_DTYPE_S8, 0.5f, 0);
  u.nodes = {{"Clip", {0}, {{"min", 0.f}, {"max", 6.f}}, 6}};
  const Result r = Plugin::get().run(u);
  EXPECT_EQ(r.codes, (std::vector<int64_t>{0, 0, 0, 5, 12, 12})) << r.error;
}

Operand index_constant() {
  Operand o;
  o.dtype = QUERN_DTYPE_S64;
  o.dims = {1};
  o.codes = {0};
  o.constant = true;
  return o;
}

TEST(CpuMove, CodesArriveWhereTheOperatorSays) {
  REQUIRE_PROFILE("sse41");
  struct Case { const char* op; Dims in, out; std::vector<int64_t> perm; };
  const std::vector<Case> cases = {
      {"Reshape", {2, 12, 4, 5}, {2, 240}, {}},       {"Reshape", {2, 240}, {2, 12, 4, 5}, {}},     {"Reshape", {2, 12, 4, 5}, {2, 4, 15, 4}, {}},
      {"Reshape", {1, 40}, {1, 1, 8, 5}, {}},         {"Flatten", {3, 17, 1, 1}, {3, 17}, {}},      {"Flatten", {2, 3, 4, 5}, {6, 20}, {}},
      {"Squeeze", {2, 9, 1, 1}, {2, 9}, {}},          {"Squeeze", {2, 9, 1, 4}, {2, 9, 4}, {}},     {"Unsqueeze", {2, 9}, {2, 9, 1, 1}, {}},
      {"Unsqueeze", {2, 9, 4}, {2, 1, 9, 4}, {}},     {"Identity", {2, 3, 4, 5}, {2, 3, 4, 5}, {}}, {"Transpose", {2, 3, 4, 5}, {2, 4, 5, 3}, {0, 2, 3, 1}},
      {"Transpose", {2, 4, 5, 3}, {2, 3, 4, 5}, {0, 3, 1, 2}}, {"Transpose", {2, 3, 4, 5}, {5, 4, 3, 2}, {}},        {"Transpose", {7, 9}, {9, 7}, {1, 0}},
      {"Transpose", {2, 3, 4}, {2, 4, 3}, {0, 2, 1}}, {"Transpose", {1, 2, 3, 4, 5}, {1, 3, 2, 5, 4}, {0, 2, 1, 4, 3}}};
  for (const Case& c : cases)
    for (int kind = 0; kind < 3; ++kind) {  // the same numbers; others; other sign
      Unit u;
      u.contract = "move";
      u.operands = {flowing("input", c.in, u8(0.05f, 100))};
      u.operands[0].codes = random_codes(u.operands[0], 5);
      u.output = output(c.out, kind == 2 ? QUERN_DTYPE_S8 : QUERN_DTYPE_U8, kind == 0 ? 0.05f : 0.031f, kind == 0 ? 100 : kind == 1 ? 5 : 0);
      u.nodes = {{c.op, {0}, {}, 13}};
      if (!c.perm.empty()) u.nodes[0].attributes["perm"] = c.perm;
      if (std::string(c.op) == "Reshape") {
        u.operands.push_back(index_constant());
        u.nodes[0].inputs.push_back(1);
      }
      std::vector<int64_t> source(static_cast<size_t>(count(c.in)));
      std::iota(source.begin(), source.end(), 0);
      if (std::string(c.op) == "Transpose") {
        std::vector<int64_t> perm = c.perm;
        if (perm.empty()) for (size_t i = c.in.size(); i-- > 0;) perm.push_back(static_cast<int64_t>(i));
        for (size_t e = 0; e < source.size(); ++e) {
          Dims at(c.in.size());
          auto rest = static_cast<int64_t>(e);
          for (size_t i = c.out.size(); i-- > 0;) {
            at[static_cast<size_t>(perm[i])] = rest % c.out[i];
            rest /= c.out[i];
          }
          int64_t o = 0;
          for (size_t i = 0; i < c.in.size(); ++i) o = o * c.in[i] + at[i];
          source[e] = o;
        }
      }
      std::vector<float> want;
      for (int64_t s : source) want.push_back(centred(u.operands[0], s) * ratio(u.operands[0], u.output));
      expect_equal(u, want, std::string(c.op) + " " + std::to_string(kind));
      std::map<std::string, Table> tables;
      EXPECT_EQ(Plugin::get().derive(u, tables), "");
      EXPECT_EQ(tables.count("ratio"), kind == 0 ? 0u : 1u) << "codes are copied where the numbers are equal";
    }
}

TEST(CpuConcat, PutsTheInputsSideBySide) {
  REQUIRE_PROFILE("sse41");
  for (int64_t axis : {0, 1, 2, 3, -3})
    for (bool constant : {false, true}) {
      Unit u;
      u.contract = "concat";
      const auto a = static_cast<size_t>(axis < 0 ? axis + 4 : axis);
      Dims out{2, 5, 3, 4};
      out[a] = 0;
      for (int i = 0; i < 3; ++i) {
        Dims d{2, 5, 3, 4};
        d[a] = 1 + i * 2;
        out[a] += d[a];
        u.operands.push_back(flowing("in" + std::to_string(i), d, u8(0.1f, 9)));
        u.operands.back().codes = random_codes(u.operands.back(), static_cast<uint32_t>(7 + i));
      }
      u.operands[1].constant = constant;
      u.nodes = {{"Concat", {0, 1, 2}, {{"axis", axis}}, 13}};
      u.output = output(out, QUERN_DTYPE_U8, 0.1f, 9);
      std::vector<float> want;
      for (int64_t e = 0; e < count(out); ++e) {
        Dims at(4);
        int64_t rest = e;
        for (size_t i = 4; i-- > 0;) {
          at[i] = rest % out[i];
          rest /= out[i];
        }
        size_t k = 0;
        while (at[a] >= u.operands[k].dims[a]) at[a] -= u.operands[k++].dims[a];
        int64_t o = 0;
        for (size_t i = 0; i < 4; ++i) o = o * u.operands[k].dims[i] + at[i];
        want.push_back(static_cast<float>(u.operands[k].codes[static_cast<size_t>(o)] - 9));
      }
      expect_equal(u, want, "Concat");
      // The same operand twice, and numbers that differ.
      u.operands[2].quant->zero_point = 8;
      std::string why;
      EXPECT_FALSE(Plugin::get().supports(u, why));
      EXPECT_NE(why, "");
      EXPECT_NE(Plugin::get().run(u).error, "");
    }
}

}  // namespace
}  // namespace cpu_test
