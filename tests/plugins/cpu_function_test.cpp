// The functions behind the cpu target's tables, and the domains of fused tables: against libm, at limits, and in the tables
// that the plugin derives.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/plugins/cpu_support.hpp"

namespace cpu_test {
namespace {

double normal(double x) { return 0.5 * std::erfc(-x * std::sqrt(0.5)); }
double softplus(double x) { return std::log1p(std::exp(-std::fabs(x))) + std::max(x, 0.0); }

struct Case { const char* op; double (*f)(double); };
const Case cases[] = {
    {"Sigmoid", [](double x) { return 1 / (1 + std::exp(-x)); }},
    {"Tanh", [](double x) { return std::tanh(x); }},
    {"HardSigmoid", [](double x) { return std::min(std::max(static_cast<double>(0.2f) * x + 0.5, 0.0), 1.0); }},
    {"HardSwish", [](double x) { return x * std::min(std::max(x / 6 + 0.5, 0.0), 1.0); }},
    {"Swish", [](double x) { return x / (1 + std::exp(-x)); }},
    {"Gelu", [](double x) { return x * normal(x); }},
    {"Mish", [](double x) { return x * std::tanh(softplus(x)); }},
    {"LeakyRelu", [](double x) { return x < 0 ? static_cast<double>(0.01f) * x : x; }},
    {"Elu", [](double x) { return x < 0 ? std::expm1(x) : x; }},
    {"Selu", [](double x) { return 1.05070102214813232421875 * (x < 0 ? 1.67326319217681884765625 * std::expm1(x) : x); }},
    {"Softplus", softplus},
    {"Softsign", [](double x) { return x / (1 + std::fabs(x)); }},
    {"Exp", [](double x) { return std::exp(x); }},
    {"Sqrt", [](double x) { return std::sqrt(x); }},
    {"Log", [](double x) { return std::log(x); }},
    {"Reciprocal", [](double x) { return 1 / x; }},
    {"Erf", [](double x) { return std::erf(x); }},
    {"Abs", [](double x) { return std::fabs(x); }},
    {"Neg", [](double x) { return -x; }},
    {"Floor", [](double x) { return std::floor(x); }},
    {"Ceil", [](double x) { return std::ceil(x); }},
    {"Round", [](double x) { return std::nearbyint(x); }},
};

Unit alone(const char* op, bool is_signed, uint32_t output) {
  Unit u;
  u.contract = "table";
  u.operands = {flowing("input", {1, 256}, is_signed ? s8(0.03f) : u8(0.03f, 117))};
  u.output = flowing("output", {1, 256}, output == QUERN_DTYPE_S8 ? s8(0.02f) : u8(0.02f, 40));
  if (output == QUERN_DTYPE_F32) u.output.quant.reset();
  u.output.dtype = output;
  u.nodes = {{op, {0}, {}, 20}};
  return u;
}

TEST(CpuFunctions, TablesHoldTheFunction) {
  for (const Case& c : cases)
    for (const bool is_signed : {false, true})
      for (const uint32_t output : {QUERN_DTYPE_U8, QUERN_DTYPE_S8, QUERN_DTYPE_F32}) {
        const Unit u = alone(c.op, is_signed, output);
        std::map<std::string, Table> tables;
        ASSERT_EQ(Plugin::get().derive(u, tables), "") << c.op;
        const Table& t = tables.at("table");
        ASSERT_EQ(t.dims, Dims{256});
        const int first = is_signed ? -128 : 0;
        for (int i = 0; i < 256; ++i) {
          const double want = c.f(static_cast<double>(first + i - u.operands[0].zero()) * static_cast<double>(0.03f));
          const auto at = static_cast<size_t>(i);
          if (output == QUERN_DTYPE_F32) {
            if (std::isnan(want)) EXPECT_TRUE(std::isnan(t.floats[at])) << c.op;
            else EXPECT_FLOAT_EQ(t.floats[at], static_cast<float>(want)) << c.op << " " << i;
            continue;
          }
          const double code = std::isnan(want) ? static_cast<double>(u.output.zero()) : want / static_cast<double>(0.02f) + static_cast<double>(u.output.zero());
          const double low = output == QUERN_DTYPE_S8 ? -128 : 0, got = output == QUERN_DTYPE_S8 ? static_cast<int8_t>(t.bytes[at]) : t.bytes[at];
          EXPECT_LE(std::fabs(got - std::min(std::max(code, low), low + 255)), 0.500001) << c.op << " " << i;
        }
      }
}

Unit fused(const char* op, uint32_t output, float scale, int64_t zero) {
  Unit u;
  u.operands = {flowing("input", {1, 4}, u8(0.03f, 117))};
  Operand w;
  w.role = "weight";
  w.dtype = QUERN_DTYPE_S8;
  w.dims = {4, 3};
  w.constant = true;
  w.quant = Quant{true, {0.01f, 0.02f, 0.03f}, 0, 1, true};
  w.codes.assign(12, 5);
  u.operands.push_back(w);
  u.output = flowing("output", {1, 3}, u8(scale, zero));
  if (output == QUERN_DTYPE_F32) u.output.quant.reset();
  u.output.dtype = output;
  u.nodes = {{"MatMul", {0, 1}, {}, 13}, {op, {-1}, {}, 20}};
  u.contract = output == QUERN_DTYPE_F32 ? "dot_float" : "dot";
  return u;
}

// The ends of a fused table are what the function gives for everything beyond, and its steps are fine enough.
TEST(CpuFunctions, DomainsEndWhereTheCodeNoLongerChanges) {
  for (const Case& c : cases) {
    const std::string op = c.op;
    if (op == "Softsign" || op == "Exp" || op == "Sqrt" || op == "Log" || op == "Reciprocal" || op == "Erf" || op == "Abs" || op == "Neg" || op == "Floor" || op == "Ceil" || op == "Round") continue;
    const float scale = op == "Sigmoid" || op == "HardSigmoid" ? 1.f / 255 : op == "Tanh" ? 2.f / 255 : 0.021f;
    const int64_t zero = op == "Sigmoid" || op == "HardSigmoid" ? 0 : op == "Tanh" ? 127 : 40;
    const Unit u = fused(c.op, QUERN_DTYPE_U8, scale, zero);
    std::map<std::string, Table> tables;
    ASSERT_EQ(Plugin::get().derive(u, tables), "") << op;
    const auto& table = tables.at("act_table").bytes;
    ASSERT_EQ(table.size(), 4096u) << op;
    EXPECT_EQ(tables.count("output_zero_point"), 0u) << op;
    // multiplier = s_x s_w / step
    const double step = static_cast<double>(0.03f) * static_cast<double>(0.01f) / tables.at("multiplier").floats[0];
    const double low = -tables.at("act_offset").floats[0] * step;
    const auto code = [&](double x) { return std::min(std::max(c.f(x) / scale + static_cast<double>(zero), 0.0), 255.0); };
    for (double beyond : {0.0, 0.01, 1.0, 1e3, 1e6}) {
      EXPECT_LE(std::fabs(code(low - beyond) - table.front()), 0.51) << op << " " << beyond;
      EXPECT_LE(std::fabs(code(low + 4095 * step + beyond) - table.back()), 0.51) << op << " " << beyond;
    }
    int changes = 0;
    for (int i = 0; i < 4096; ++i) {
      EXPECT_LE(std::fabs(code(low + i * step) - table[static_cast<size_t>(i)]), 0.51) << op << " " << i;
      changes += i > 0 && table[static_cast<size_t>(i)] != table[static_cast<size_t>(i) - 1];
    }
    EXPECT_GE(changes, 200) << op << ": the domain is far wider than what the codes tell apart";
    EXPECT_NE(table[0], table[2]) << op << ": the domain begins too early";
  }
}

TEST(CpuFunctions, FloatsNeedAFunctionWithLimits) {
  std::map<std::string, Table> tables;
  ASSERT_EQ(Plugin::get().derive(fused("Sigmoid", QUERN_DTYPE_F32, 1, 0), tables), "");
  const auto& t = tables.at("act_table").floats;
  ASSERT_EQ(t.size(), 4096u);
  EXPECT_LT(t.front(), 0x1p-13f);
  EXPECT_GT(t.back(), 1 - 0x1p-13f);
  EXPECT_NE(Plugin::get().derive(fused("Swish", QUERN_DTYPE_F32, 1, 0), tables).find("no limit"), std::string::npos);
}

TEST(CpuFunctions, ASlopePerChannelIsRefused) {
  Unit u = alone("PRelu", false, QUERN_DTYPE_U8);
  Operand slope = constant_f32(0.1f);
  slope.dims = {2};
  slope.floats = {0.1f, 0.2f};
  u.operands.push_back(slope);
  u.nodes[0].inputs.push_back(1);
  std::string reason;
  EXPECT_FALSE(Plugin::get().supports(u, reason));
  EXPECT_NE(reason.find("slope"), std::string::npos) << reason;
  Unit behind = fused("PRelu", QUERN_DTYPE_U8, 0.02f, 40);
  behind.nodes[1].inputs.push_back(2);
  behind.operands.push_back(slope);
  reason.clear();
  EXPECT_FALSE(Plugin::get().supports(behind, reason));
  EXPECT_NE(reason.find("slope"), std::string::npos) << reason;
}

}  // namespace
}  // namespace cpu_test
