// Islands: small float operators as one kernel. The bytes are those of the operators' own kernels, which run where every value is
// kept or tapped; which nodes go together, and what stays outside.
#include <gmock/gmock.h>

#include "core/rules/unit.hpp"
#include "tests/engine/engine_testing.hpp"

namespace quern::testing {
namespace {

using ::testing::ElementsAre;

struct Cells : Builder {
  std::vector<ValueId> split(ValueId v, const std::vector<int64_t>& sizes, int64_t axis) {
    std::vector<ValueId> parts;
    Node n{.name = "Split" + std::to_string(g.node_slots()), .op = "Split", .since_version = 13,
           .inputs = {v, constant(Tensor::of<int64_t>({static_cast<int64_t>(sizes.size())}, sizes))}, .attributes = {{"axis", axis}}};
    for (size_t i = 0; i < sizes.size(); ++i) parts.push_back(g.add_value(n.name + "_part" + std::to_string(i)));
    n.outputs = parts;
    g.add_node(std::move(n));
    return parts;
  }
  ValueId slice(ValueId v, int64_t first, int64_t end, int64_t axis) {
    const auto one = [&](int64_t i) { return constant(Tensor::of<int64_t>({1}, {i})); };
    return op("Slice", {v, one(first), one(end), one(axis)});
  }
  ValueId quantize(ValueId v, int bits, bool is_signed) {
    auto payload = std::make_shared<QuantizePayload>();
    payload->params = {.format = make_format(bits, is_signed, false), .scale = {0.013f}, .zero_point = {is_signed ? -3 : 5}};
    const ValueId out = g.add_value("codes" + std::to_string(g.node_slots()), payload->params.format.storage());
    g.add_node({.name = "Quantize" + std::to_string(g.node_slots()), .domain = "quern", .op = "Quantize", .inputs = {v}, .outputs = {out}, .payload = payload});
    return out;
  }
};

std::vector<std::string> kernels_of(const Graph& g, const NamedTensors& in, EngineOptions options = with_own_kernels()) {
  std::vector<std::string> names;
  for (const PlanStep& s : Engine(g, std::move(options)).plan_info(in).steps) names.push_back(s.kernel);
  return names;
}

// Run as islands, with every value kept, and with every value seen.
void expect_bytes_of_single_kernels(const Graph& g, const NamedTensors& in) {
  EngineOptions kept = with_own_kernels(), tapped = with_own_kernels();
  kept.keep_all = true;
  for (size_t v = 0; v < g.value_slots(); ++v)
    if (const Value& value = g.value(static_cast<ValueId>(v)); !value.is_constant()) tapped.taps.insert(value.name);
  ASSERT_THAT(kernels_of(g, in), ::testing::Contains("quern.island"));
  ASSERT_THAT(kernels_of(g, in, kept), ::testing::Not(::testing::Contains("quern.island")));
  ASSERT_THAT(kernels_of(g, in, tapped), ::testing::Not(::testing::Contains("quern.island")));
  const auto want = Engine(g, kept).runner().run(in);
  Engine engine(g, with_own_kernels());
  auto runner = engine.runner();
  for (int again = 0; again < 2; ++again) {
    const auto got = runner.run(in);
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < got.size(); ++i) expect_same_bytes(got[i].second, want[i].second, got[i].first);
  }
  const auto seen = Engine(g, tapped).runner().run(in, [](const std::string&, const TensorView&) {});
  for (size_t i = 0; i < seen.size(); ++i) expect_same_bytes(seen[i].second, want[i].second, seen[i].first);
}

// The gates of a GRU and an LSTM for any width: sizes below, at and beyond a vector.
TEST(Island, gates_equal_their_operators) {
  for (int64_t n : {1, 3, 8, 64, 67}) {
    Cells b;
    const ValueId gates = b.input("gates", {1, 1, 2 * n}), late = b.input("late", {1, 1, n}), h = b.input("h", {1, 1, n}), c = b.input("c", {1, n});
    const auto zr = b.split(b.op("Sigmoid", {gates}), {n, n}, 2);
    const ValueId candidate = b.op("Tanh", {b.op("Add", {late, b.op("Mul", {zr[1], h})})});
    const ValueId next = b.op("Add", {candidate, b.op("Mul", {zr[0], b.op("Sub", {h, candidate})})});
    const ValueId cell = b.op("Squeeze", {next, b.constant(Tensor::of<int64_t>({1}, {0}))});
    const ValueId sum = b.op("Div", {b.op("Relu", {b.op("Sub", {cell, c})}), b.constant(Tensor::of<float>({}, {1.7f}))});
    const ValueId half = b.op("Mul", {b.constant(Tensor::of<float>({1}, {-0.5f})), b.op("Add", {sum, b.weights({n})})});
    const Graph g = b.outputs({next, half, b.quantize(next, 8, false), b.quantize(half, 8, true), b.quantize(half, 16, true)});
    SCOPED_TRACE(n);
    expect_bytes_of_single_kernels(g, {{"gates", random_tensor({1, 1, 2 * n}, 1, -6, 6)}, {"late", random_tensor({1, 1, n}, 2, -3, 3)},
                                       {"h", random_tensor({1, 1, n}, 3)}, {"c", random_tensor({1, n}, 4)}});
  }
}

TEST(Island, pieces_are_read_where_they_lie_and_copied_where_they_leave) {
  Cells b;
  const ValueId x = b.input("x", {6, 1, 10});
  const auto columns = b.split(x, {7, 3}, 2);                        // rows apart: copied
  const auto rows = b.split(columns[0], {1, 2, 3}, 0);               // behind one another: read in place
  const ValueId tail = b.slice(rows[2], -2, 3, 0), left = b.slice(x, 1, 8, -1);
  const ValueId joined = b.op("Concat", {rows[1], b.op("Tanh", {rows[0]}), tail, rows[1]}, {{"axis", int64_t{0}}});
  const ValueId beside = b.op("Concat", {columns[1], left}, {{"axis", int64_t{-1}}});
  const ValueId again = b.op("Identity", {x});
  const Graph g = b.outputs({columns[1], rows[0], joined, beside, again, b.reshape(joined, {7, 7}), b.op("Add", {left, b.weights({7})})});
  expect_bytes_of_single_kernels(g, {{"x", random_tensor({6, 1, 10}, 5)}});
}

TEST(Island, hard_numbers) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  Cells b;
  const ValueId x = b.input("x", {1, 10}), y = b.input("y", {1, 10});
  const ValueId q = b.op("Div", {x, y});
  const Graph g = b.outputs({b.op("Relu", {q}), b.op("Sigmoid", {q}), b.op("Tanh", {b.op("Mul", {q, x})}), b.quantize(q, 8, false), b.quantize(b.op("Sub", {x, y}), 8, true)});
  expect_bytes_of_single_kernels(g, {{"x", Tensor::of<float>({1, 10}, {0.f, -0.f, 1e-40f, -1e38f, inf, -inf, nan, 0.0195f, -88.f, 1e30f})},
                                     {"y", Tensor::of<float>({1, 10}, {0.f, 3.f, -2.f, 1e-3f, 2.f, 1.f, 1.f, 1.f, 0.7f, nan})}});
}

TEST(Island, what_goes_together) {
  Cells b;
  const ValueId x = b.input("x", {1, 16});
  const ValueId a = b.op("Tanh", {b.op("Add", {x, b.weights({16})})});
  const ValueId m = b.op("MatMul", {a, b.weights({16, 16})});
  const ValueId s = b.op("Sigmoid", {b.op("Mul", {m, a})});
  const Graph g = b.outputs({b.op("Softmax", {b.op("Neg", {s})}, {{"axis", int64_t{1}}}), b.op("Tanh", {s})});
  const NamedTensors in{{"x", random_tensor({1, 16}, 1)}};
  const auto names = kernels_of(g, in);
  ASSERT_EQ(names.size(), 6u);  // Neg and Softmax are none of theirs; a Tanh alone would gain nothing
  EXPECT_THAT(std::vector<std::string>(names.begin(), names.begin() + 1), ElementsAre("quern.island"));
  EXPECT_THAT(std::vector<std::string>(names.begin() + 2, names.end()), ElementsAre("quern.island", "quern.neg", "quern.softmax", "quern.tanh"));
  // A value that is looked at ends an island; its bytes are the same.
  EngineOptions seen = with_own_kernels();
  seen.taps = {g.value(s).name, g.value(a).name};
  EXPECT_THAT(kernels_of(g, in, seen)[0], "quern.island");
  expect_same_bytes(Engine(g, seen).runner().run(in, [](const std::string&, const TensorView&) {})[0].second, Engine(g, with_own_kernels()).runner().run(in)[0].second);
  // Images lie in another order after a convolution, and large tensors gain nothing.
  Cells c;
  const ValueId image = c.input("x", {1, 4, 3, 3}), wide = c.input("w", {1, 9000});
  const Graph others = c.outputs({c.op("Tanh", {c.op("Relu", {image})}), c.op("Tanh", {c.op("Relu", {wide})})});
  for (const std::string& name : kernels_of(others, {{"x", random_tensor({1, 4, 3, 3}, 1)}, {"w", random_tensor({1, 9000}, 2)}})) EXPECT_NE(name, "quern.island");
}

TEST(Island, follows_new_constants) {
  Cells b;
  const ValueId x = b.input("x", {1, 16}), w = b.weights({16});
  const Graph g = b.outputs({b.op("Tanh", {b.op("Add", {x, w})})});
  const NamedTensors in{{"x", random_tensor({1, 16}, 1)}};
  Engine engine(g, with_own_kernels());
  auto runner = engine.runner();
  const Tensor before = runner.run(in)[0].second;
  const Tensor other = random_tensor({16}, 77);
  engine.set_constant(w, other);
  const Tensor after = runner.run(in)[0].second;
  Graph changed = g;
  changed.set_constant(w, other);
  expect_same_bytes(after, Engine(changed, with_own_kernels()).runner().run(in)[0].second);
  EXPECT_NE(std::memcmp(before.data(), after.data(), before.bytes()), 0);
}

}  // namespace
}  // namespace quern::testing
