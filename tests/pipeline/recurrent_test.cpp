// Golden placements of an LSTM and a GRU on a target that has MatMul but no recurrent operator, and when it does not come to that.
#include "core/pipeline/recurrent.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "core/graph/shapes.hpp"
#include "tests/rules/sample_rules.hpp"

namespace quern {
namespace {

using ::testing::HasSubstr;

// x -> node -> Y, all of its steps.
Graph recurrent(const std::string& op, int64_t steps, std::map<std::string, Attribute> more = {}) {
  Graph g;
  const int64_t rows = (op == "LSTM" ? 4 : op == "GRU" ? 3 : 1) * 5;
  const ValueId x = g.add_value("x", DType::f32, Dims{steps, 1, 3}), h0 = g.add_value("h0", DType::f32, Dims{1, 1, 5});
  g.set_inputs({x, h0});
  const ValueId y = g.add_value("y");
  more["hidden_size"] = int64_t{5};
  g.add_node({.name = "rec", .op = op, .since_version = 14,
              .inputs = {x, g.add_constant("W", Tensor(DType::f32, {1, rows, 3})), g.add_constant("R", Tensor(DType::f32, {1, rows, 5})),
                         g.add_constant("B", Tensor(DType::f32, {1, 2 * rows})), no_value, h0},
              .outputs = {y}, .attributes = std::move(more)});
  g.set_outputs({y});
  infer_shapes(g);
  return g;
}

std::string text_of(const Graph& g, const Placement& p) {
  std::string out;
  for (const auto& q : p.quantizers)
    if (q.kind == QuantizerKind::activation) out += fmt::format("q{} {}: {}\n", q.id, g.value(q.value).name, fmt::join(q.types, "|"));
  for (const auto& u : p.units) {
    for (size_t i = 0; i < u.members.size(); ++i) out += (i ? "+" : "unit ") + g.node(u.members[i]).name;
    for (const auto& o : u.operands) {
      if (o.role == "weight") out += fmt::format(" {}", g.value(o.value).name);
      else if (o.quantizer >= 0) out += fmt::format(" {}=q{}", o.role, o.quantizer);
    }
    out += u.output_quantizer >= 0 ? fmt::format(" -> q{}\n", u.output_quantizer) : " -> f32\n";
  }
  for (const auto& f : p.floats) out += fmt::format("float {}\n", g.node(f.node).name);
  return out;
}

std::string placed(Graph g, const Rules& rules = test::sample_rules(), const PlacementOptions& options = {}) {
  const Unrolling u = unroll_for_target(g, rules, options);
  const Placement p = place_unrolled(g, rules, options, u);
  for (const FloatNode& f : p.floats) {
    if (!u.cells.count(g.node(f.node).name)) continue;
    EXPECT_THAT(f.reason, HasSubstr("part of the recurrent cell 'rec': gates and states stay float"));
  }
  return text_of(g, p);
}

// Rules whose kernel of a product takes in a bias as well.
Rules with_bias() {
  std::string text = test::sample_rules_text;
  const std::string step = R"([{"op": ["Conv", "Gemm", "MatMul"]},)";
  text.replace(text.find(step), step.size(), step + R"( {"op": ["Add"], "other": "bias", "optional": true},)");
  return parse_rules(text, "npu.json");
}

// The products are integers and write floats; each reads one quantized tensor. Everything between is float.
TEST(RecurrentPlacement, Lstm) {
  EXPECT_EQ(placed(recurrent("LSTM", 2), with_bias()), R"(q0 x: u8|s8
q2 h0: u8|s8
q4 rec.Mul_output_1: u8|s8
unit rec.MatMul+rec.Add input=q0 rec.W -> f32
unit rec.MatMul_1 input=q2 rec.R -> f32
unit rec.MatMul_2 input=q4 rec.R -> f32
float rec.Split
float rec.Add_1
float rec.Split_1
float rec.Sigmoid
float rec.Split_2
float rec.Tanh
float rec.Mul
float rec.Tanh_1
float rec.Mul_1
float rec.Add_2
float rec.Split_3
float rec.Sigmoid_1
float rec.Split_4
float rec.Tanh_2
float rec.Mul_2
float rec.Mul_3
float rec.Add_3
float rec.Tanh_3
float rec.Mul_4
float rec.Concat
float rec.Unsqueeze
float rec.Identity
)");
}

TEST(RecurrentPlacement, Gru) {
  EXPECT_EQ(placed(recurrent("GRU", 2, {{"linear_before_reset", int64_t{1}}}), with_bias()), R"(q0 x: u8|s8
q2 h0: u8|s8
q4 rec.Add_output_4: u8|s8
unit rec.MatMul+rec.Add input=q0 rec.W -> f32
unit rec.MatMul_1+rec.Add_1 input=q2 rec.R -> f32
unit rec.MatMul_2+rec.Add_5 input=q4 rec.R -> f32
float rec.Split
float rec.Split_1
float rec.Split_2
float rec.Split_3
float rec.Add_2
float rec.Sigmoid
float rec.Split_4
float rec.Mul
float rec.Add_3
float rec.Tanh
float rec.Sub
float rec.Mul_1
float rec.Add_4
float rec.Split_5
float rec.Add_6
float rec.Sigmoid_1
float rec.Split_6
float rec.Mul_2
float rec.Add_7
float rec.Tanh_1
float rec.Sub_1
float rec.Mul_3
float rec.Add_8
float rec.Concat
float rec.Unsqueeze
float rec.Identity
)");
}

TEST(RecurrentPlacement, ABiasThatNoKernelTakesInIsAddedInFloat) {
  EXPECT_EQ(placed(recurrent("RNN", 2)), R"(q0 x: u8|s8
q2 h0: u8|s8
q4 rec.Tanh_output: u8|s8
unit rec.MatMul input=q0 rec.W -> f32
unit rec.MatMul_1 input=q2 rec.R -> f32
unit rec.MatMul_2 input=q4 rec.R -> f32
float rec.Add
float rec.Split
float rec.Add_1
float rec.Tanh
float rec.Add_2
float rec.Tanh_1
float rec.Concat
float rec.Unsqueeze
float rec.Identity
)");
}

TEST(RecurrentPlacement, LongOnesStayAndSayWhy) {
  Graph g = recurrent("LSTM", 65);
  const Rules rules = test::sample_rules();
  const Unrolling u = unroll_for_target(g, rules, {});
  const Placement p = place_unrolled(g, rules, {}, u);
  ASSERT_EQ(p.floats.size(), 1u);
  EXPECT_EQ(p.floats[0].reason, "LSTM is not unrolled: 65 steps are more than the 64 that are unrolled");
}

TEST(RecurrentPlacement, WhatTheUserIgnoresStays) {
  PlacementOptions by_op, by_name;
  by_op.ignored_ops = {"GRU"};
  by_name.ignored_nodes = {"re*"};
  EXPECT_EQ(placed(recurrent("GRU", 2), test::sample_rules(), by_op), "float rec\n");
  EXPECT_EQ(placed(recurrent("GRU", 2), test::sample_rules(), by_name), "float rec\n");
}

TEST(RecurrentPlacement, ATargetWithTheOperatorOrWithoutMatMulGetsItWhole) {
  const std::string text = test::sample_rules_text;
  std::string has = text, lacks = text;
  const std::string add = R"({"match": {"op": ["Add", "Mul"]},)";
  has.replace(has.find(add), add.size(), R"({"match": {"op": "GRU"}, "configs": [{"id": "gru", "inputs": {"input": ["u8"]}, "output": ["u8", "f32"], "contract": "move"}]}, )" + add);
  const std::string dense = R"(["Gemm", "MatMul"], "constant")";
  lacks.replace(lacks.find(dense), dense.size(), R"(["Gemm"], "constant")");
  for (const std::string& rules : {has, lacks}) {
    Graph g = recurrent("GRU", 2);
    EXPECT_EQ(unroll_for_target(g, parse_rules(rules, "npu.json"), {}).unrolled, 0);
    EXPECT_EQ(g.order().size(), 1u);
  }
  Graph g = recurrent("GRU", 2);
  EXPECT_EQ(unroll_for_target(g, test::sample_rules(), {}).unrolled, 1);
}

}  // namespace
}  // namespace quern
