// The executor: groups, layouts, memory, taps, re-runs, the cache of plans, and what it says about bad input.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/engine/engine_testing.hpp"

namespace quern::testing {
namespace {

using ::testing::HasSubstr;

// Two convolutions with a residual, a 1x1 on the way around, concat, a view and a dense layer.
struct Network {
  Graph g;
  ValueId input, first, sum, joined, logits;
};
Network network(int64_t batch = 1) {
  Builder b;
  Network n;
  n.input = b.input("x", {batch, 3, 10, 10});
  n.first = b.op("Relu", {b.conv(n.input, {16, 3, 3, 3})}, {}, 14, "relu1");
  const ValueId c2 = b.op("Relu", {b.conv(n.first, {16, 16, 3, 3})}, {}, 14, "relu2");
  n.sum = b.op("Add", {b.conv(c2, {16, 16, 3, 3}), n.first}, {}, 14, "add1");
  const ValueId r = b.op("Relu", {n.sum}, {}, 14, "relu3");
  const ValueId dw = b.conv(r, {16, 1, 3, 3}, true, {{"group", int64_t{16}}});
  n.joined = b.op("Concat", {dw, b.op("Neg", {r}, {}, 13, "neg")}, {{"axis", int64_t{1}}}, 13, "concat");
  const ValueId flat = b.reshape(b.conv(n.joined, {4, 32, 1, 1}), {batch < 0 ? -1 : batch, 400});
  n.logits = b.op("Gemm", {flat, b.weights({400, 5}), b.weights({5})}, {}, 13, "dense");
  n.g = b.outputs({n.logits});
  return n;
}

TEST(Engine, a_network_equals_naive_loops) {
  for (int64_t batch : {1, 3}) check_against_reference(network(batch).g, {{"x", random_tensor({batch, 3, 10, 10}, 2)}}, usual());
}

TEST(Engine, fuses_and_stays_channels_last) {
  const NamedTensors in{{"x", random_tensor({1, 3, 10, 10}, 2)}};
  Engine engine(network().g, usual());
  const PlanInfo info = engine.plan_info(in);
  std::vector<std::string> ops;
  for (const PlanStep& s : info.steps) ops.push_back(s.op);
  EXPECT_THAT(ops, ::testing::ElementsAre("Conv+Relu", "Conv+Relu", "Conv+Add+Relu", "Conv", "Neg", "Concat", "Conv", "Reshape", "Gemm"));
  EXPECT_EQ(info.reorders, 2);  // the input to channels last, and back for the Reshape
  std::vector<int64_t> macs;
  std::vector<std::string> turned;
  for (const PlanStep& s : info.steps) {
    macs.push_back(s.macs);
    for (const PlanCopy& c : s.copies)
      if (c.turns) turned.push_back(s.op + " " + std::to_string(c.bytes));
  }
  EXPECT_THAT(macs, ::testing::ElementsAre(43200, 230400, 230400, 14400, 0, 0, 12800, 0, 2000));
  EXPECT_THAT(turned, ::testing::ElementsAre("Conv+Relu 1200", "Reshape 1600"));
  EXPECT_GT(info.arena_bytes, 0u);
}

TEST(Engine, taps_see_every_value_and_change_nothing_where_nothing_was_fused) {
  const Network n = network();
  const NamedTensors in{{"x", random_tensor({1, 3, 10, 10}, 4)}};
  const auto want = evaluate(n.g, in);
  EngineOptions all = usual();
  for (size_t v = 0; v < n.g.value_slots(); ++v)
    if (!n.g.value(static_cast<ValueId>(v)).is_constant()) all.taps.insert(n.g.value(static_cast<ValueId>(v)).name);
  Engine engine(n.g, all);
  std::map<std::string, Tensor> seen;
  auto runner = engine.runner();
  const auto tapped = runner.run(in, [&](const std::string& name, const TensorView& view) {
    EXPECT_TRUE(seen.emplace(name, dense(view)).second) << name << " twice";
  });
  EXPECT_EQ(seen.size(), all.taps.size());
  for (const auto& [name, tensor] : seen) expect_close(tensor, want.at(n.g.find_value(name)), 1e-5, name);
  for (const PlanStep& s : engine.plan_info(in).steps) EXPECT_EQ(s.members.size(), 1u);
  // One tap that breaks no group: the same bytes.
  EngineOptions one = usual();
  one.taps = {"neg_out", "x"};
  expect_same_bytes(Engine(n.g, one).runner().run(in, [](const std::string&, const TensorView&) {})[0].second,
                    Engine(n.g, usual()).runner().run(in)[0].second);
}

TEST(Engine, a_tapped_value_is_not_fused_away) {
  const Network n = network();
  EngineOptions options = usual();
  options.taps = {"add1_out"};
  Engine engine(n.g, options);
  const NamedTensors in{{"x", random_tensor({1, 3, 10, 10}, 4)}};
  int calls = 0;
  engine.runner().run(in, [&](const std::string& name, const TensorView& view) {
    ++calls;
    EXPECT_EQ(name, "add1_out");
    expect_close(dense(view), evaluate(n.g, in).at(n.sum));
  });
  EXPECT_EQ(calls, 1);
}

TEST(Engine, unknown_tap_is_an_error) {
  EngineOptions options = usual();
  options.taps = {"nowhere"};
  try {
    Engine engine(network().g, options);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::usage);
    EXPECT_THAT(e.what(), HasSubstr("'nowhere'"));
  }
}

TEST(Engine, residual_is_kept_for_its_other_consumers) {
  // y = conv(x) + r; r is an output too and read again after the sum.
  Builder b;
  const ValueId x = b.input("x", {1, 8, 6, 6});
  const ValueId r = b.op("Neg", {x});
  const ValueId y = b.op("Add", {r, b.conv(x, {8, 8, 3, 3})});
  const ValueId z = b.op("Mul", {y, r});
  check_against_reference(b.outputs({z, r, y}), {{"x", random_tensor({1, 8, 6, 6}, 2)}}, usual());
}

TEST(Engine, residual_that_is_the_convolutions_input) {
  Builder b;
  const ValueId x = b.op("Relu", {b.input("x", {1, 8, 6, 6})});
  const ValueId y = b.op("Relu", {b.op("Add", {x, b.conv(x, {8, 8, 3, 3})})});
  check_against_reference(b.outputs({y}), {{"x", random_tensor({1, 8, 6, 6}, 2)}}, usual());
}

TEST(Engine, sum_of_two_convolutions_and_of_broadcast_tensors) {
  Builder b;
  const ValueId x = b.input("x", {2, 8, 6, 6});
  const ValueId both = b.op("Add", {b.conv(x, {8, 8, 3, 3}), b.conv(x, {8, 8, 1, 1})});
  const ValueId pooled = b.conv(both, {8, 8, 6, 6}, true, {{"pads", std::vector<int64_t>{0, 0, 0, 0}}});
  const ValueId gated = b.op("Mul", {both, pooled});                       // [2,8,1,1] against [2,8,6,6]
  const ValueId shifted = b.op("Add", {gated, b.weights({8, 1, 1})});      // a constant of rank 3
  const ValueId twice = b.op("Add", {shifted, shifted});
  check_against_reference(b.outputs({twice}), {{"x", random_tensor({2, 8, 6, 6}, 2)}}, usual());
}

TEST(Engine, mixed_layouts_meet) {
  // One side channels last (from a convolution), the other row major (from a Reshape).
  Builder b;
  const ValueId x = b.input("x", {1, 8, 4, 6}), flat = b.input("flat", {192});
  const ValueId y = b.op("Add", {b.reshape(flat, {1, 8, 4, 6}), b.op("Neg", {b.conv(x, {8, 8, 3, 3})})});
  const ValueId z = b.reshape(b.op("Relu", {y}), {8, 24});
  check_against_reference(b.outputs({z, y}), {{"flat", random_tensor({192}, 5)}, {"x", random_tensor({1, 8, 4, 6}, 2)}}, usual());
}

TEST(Engine, in_place_chains_share_one_place) {
  Builder b;
  ValueId v = b.input("x", {1, 64, 32});
  for (int i = 0; i < 10; ++i) v = b.op(i % 2 ? "Relu" : "Neg", {v});
  const Graph g = b.outputs({v});
  const NamedTensors in{{"x", random_tensor({1, 64, 32}, 2)}};
  check_against_reference(g, in, usual(), 0);
  Engine engine(g, usual());
  EXPECT_LT(engine.plan_info(in).arena_bytes, 2u * 64 * 32 * 4);
  EngineOptions keep = usual();
  keep.keep_all = true;
  EXPECT_GT(Engine(g, keep).plan_info(in).arena_bytes, 10u * 64 * 32 * 4);
}

TEST(Engine, the_callers_input_is_never_written) {
  Builder b;
  const ValueId x = b.input("x", {1, 64});
  const ValueId y = b.op("Neg", {x});
  Engine engine(b.outputs({y}), usual());
  const Tensor t = random_tensor({1, 64}, 9), same = random_tensor({1, 64}, 9);
  engine.runner().run({{"x", t}});
  expect_same_bytes(t, same);
}

TEST(Engine, views_take_no_copy_and_outlive_their_source) {
  Builder b;
  const ValueId x = b.input("x", {2, 3, 4});
  const ValueId a = b.op("Neg", {x});
  const ValueId v = b.reshape(b.reshape(a, {6, 4}), {-1});
  const ValueId r = b.op("Relu", {v}), s = b.op("Mul", {v, r});
  check_against_reference(b.outputs({s, v, a}), {{"x", random_tensor({2, 3, 4}, 2)}}, usual(), 1e-7);
}

TEST(Engine, outputs_that_are_inputs_constants_or_named_twice) {
  Builder b;
  const ValueId x = b.input("x", {2, 3}), c = b.weights({4});
  const ValueId y = b.op("Neg", {x});
  check_against_reference(b.outputs({x, c, y, y}), {{"x", random_tensor({2, 3}, 2)}}, usual(), 0);
}

TEST(Engine, nodes_that_reach_no_output_are_not_run) {
  Builder b;
  const ValueId x = b.input("x", {2, 3});
  b.op("Relu", {x}, {}, 14, "dead");
  const ValueId y = b.op("Neg", {x});
  EngineOptions options = usual();
  options.providers = {plain_provider("dead")};
  Engine engine(b.outputs({y}), options);
  EXPECT_NO_THROW(engine.runner().run({{"x", random_tensor({2, 3}, 1)}}));
}

TEST(Engine, rerun_equals_a_fresh_run) {
  const Network n = network();
  const NamedTensors in{{"x", random_tensor({1, 3, 10, 10}, 4)}};
  EngineOptions keep = usual();
  keep.keep_all = true;
  keep.taps = {"relu1_out", "concat_out"};
  Engine engine(n.g, keep);
  auto runner = engine.runner();
  runner.run(in);
  Graph fresh = n.g;
  for (uint32_t round = 0; round < 3; ++round)
    for (NodeId id : n.g.order()) {
      const Node& node = n.g.node(id);
      if (node.op != "Conv" && node.op != "Gemm") continue;
      const size_t slot = round % 2 ? 2 : 1;
      const Tensor changed = random_tensor(n.g.value(node.inputs[slot]).constant->dims(), 77 + round + static_cast<uint32_t>(id));
      engine.set_constant(node.inputs[slot], changed);
      fresh.set_constant(node.inputs[slot], changed);
      std::vector<std::string> taps;
      const auto again = runner.rerun({id}, [&](const std::string& name, const TensorView&) { taps.push_back(name); });
      EngineOptions same = keep;
      expect_same_bytes(again[0].second, Engine(fresh, same).runner().run(in)[0].second, node.name);
      if (node.op == "Gemm") {
        EXPECT_TRUE(taps.empty());  // nothing before it was run again
      } else if (node.name == "Conv0") {
        EXPECT_THAT(taps, ::testing::ElementsAre("relu1_out", "concat_out"));
      }
    }
  // And without re-running: a new run takes the new constants too.
  expect_same_bytes(runner.run(in)[0].second, Engine(fresh, keep).runner().run(in)[0].second);
}

TEST(Engine, set_constant_reaches_every_plan_and_runner) {
  const Network n = network(-1);
  Engine engine(n.g, usual());
  auto a = engine.runner(), c = engine.runner();
  const NamedTensors one{{"x", random_tensor({1, 3, 10, 10}, 4)}}, two{{"x", random_tensor({2, 3, 10, 10}, 4)}};
  a.run(one), c.run(two), a.run(two);
  Graph fresh = n.g;
  const ValueId w = n.g.node(n.g.find_node("dense")).inputs[1];
  const Tensor changed = random_tensor({400, 5}, 99);
  engine.set_constant(w, changed);
  fresh.set_constant(w, changed);
  Engine other(fresh, usual());
  expect_same_bytes(a.run(one)[0].second, other.runner().run(one)[0].second);
  expect_same_bytes(c.run(two)[0].second, other.runner().run(two)[0].second);
  expect_same_bytes(a.run(two)[0].second, other.runner().run(two)[0].second);
}

TEST(Engine, a_constant_that_changes_shapes_makes_a_new_plan) {
  Builder b;
  const ValueId x = b.input("x", {2, 6});
  const ValueId shape = b.constant(Tensor::of<int64_t>({2}, std::vector<int64_t>{3, 4}));
  const ValueId y = b.op("Neg", {b.op("Reshape", {x, shape})});
  EngineOptions keep = usual();
  keep.keep_all = true;
  Engine engine(b.outputs({y}), keep);
  auto runner = engine.runner();
  const NamedTensors in{{"x", random_tensor({2, 6}, 3)}};
  EXPECT_EQ(runner.run(in)[0].second.dims(), (Dims{3, 4}));
  engine.set_constant(shape, Tensor::of<int64_t>({2}, std::vector<int64_t>{12, 1}));
  EXPECT_EQ(runner.rerun({1})[0].second.dims(), (Dims{12, 1}));
  EXPECT_EQ(runner.run(in)[0].second.dims(), (Dims{12, 1}));
}

TEST(Engine, rerun_needs_keep_all_and_a_run) {
  Engine plain(network().g, usual());
  auto runner = plain.runner();
  EXPECT_THROW(runner.rerun({0}), Error);
  EngineOptions keep = usual();
  keep.keep_all = true;
  Engine kept(network().g, keep);
  auto never = kept.runner();
  EXPECT_THROW(never.rerun({0}), Error);
}

TEST(Engine, plans_are_cached_per_shape_and_the_cache_is_bounded) {
  EngineOptions options = usual();
  options.plan_cache = 2;
  const Network n = network(-1);
  Engine engine(n.g, options);
  auto runner = engine.runner();
  std::map<int64_t, Tensor> first;
  for (int64_t batch : {1, 2, 1, 3, 1, 2, 4, 1, 2}) {
    const NamedTensors in{{"x", random_tensor({batch, 3, 10, 10}, 4)}};
    const Tensor out = runner.run(in)[0].second;
    EXPECT_EQ(out.dims(), (Dims{batch, 5}));
    if (auto [at, added] = first.emplace(batch, out); !added) expect_same_bytes(out, at->second);
  }
}

TEST(Engine, profile_times_every_step) {
  Engine engine(network().g, usual());
  auto runner = engine.runner();
  runner.profile(true);
  const NamedTensors in{{"x", random_tensor({1, 3, 10, 10}, 4)}};
  runner.run(in);
  const auto info = engine.plan_info(in);
  const RunProfile& p = runner.last_profile();
  ASSERT_EQ(p.kernels.size(), info.steps.size());
  ASSERT_EQ(p.copies.size(), info.steps.size());
  double sum = p.outputs;
  for (size_t i = 0; i < info.steps.size(); ++i) {
    EXPECT_TRUE(p.kernels[i] > 0 || info.steps[i].op == "Reshape") << info.steps[i].node;
    EXPECT_EQ(p.copies[i] > 0, !info.steps[i].copies.empty()) << info.steps[i].node;
    sum += p.kernels[i] + p.copies[i];
  }
  EXPECT_LE(sum, p.total);
  EXPECT_GT(p.outputs, 0);
}

void expect_refused(const NamedTensors& inputs, ErrorCode code, const std::vector<std::string>& words) {
  Engine engine(network(-1).g, usual());
  auto runner = engine.runner();
  try {
    runner.run(inputs);
    FAIL() << words[0];
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    for (const auto& word : words) EXPECT_THAT(e.what(), HasSubstr(word));
  }
}

TEST(Engine, wrong_inputs_are_named) {
  const Tensor good = random_tensor({1, 3, 10, 10}, 1);
  expect_refused({}, ErrorCode::data, {"'x' is missing"});
  expect_refused({{"y", good}}, ErrorCode::data, {"no input 'y'", "'x' (f32[?,3,10,10])"});
  expect_refused({{"x", good}, {"x", good}}, ErrorCode::data, {"'x' is given twice"});
  expect_refused({{"x", Tensor(DType::u8, {1, 3, 10, 10})}}, ErrorCode::data, {"'x'", "expected f32[?,3,10,10]", "found u8[1,3,10,10]"});
  expect_refused({{"x", random_tensor({3, 10, 10}, 1)}}, ErrorCode::data, {"'x'", "found f32[3,10,10]"});
  expect_refused({{"x", random_tensor({1, 4, 10, 10}, 1)}}, ErrorCode::data, {"'x'", "found f32[1,4,10,10]"});
}

TEST(Engine, unknown_operators_are_listed_all_at_once) {
  Builder b;
  const ValueId x = b.input("x", {2, 3});
  const ValueId y = b.op("Frobnicate", {b.op("Neg", {b.op("Wobble", {x}, {}, 3, "w1")})}, {}, 9, "f1");
  const Graph g = b.outputs({y});
  EXPECT_EQ(Engine::unknown_nodes(g, usual()).size(), 2u);
  try {
    Engine engine(g, usual());
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::model);
    for (const char* word : {"2 nodes", "'w1' (Wobble, since version 3)", "'f1' (Frobnicate", "export the model"}) EXPECT_THAT(e.what(), HasSubstr(word));
  }
}

TEST(Engine, a_node_without_a_kernel_for_its_types_is_named) {
  Builder b;
  const ValueId x = b.input("x", {2, 3}, DType::f64);
  const ValueId y = b.op("Neg", {x}, {}, 13, "negate");
  Engine engine(b.outputs({y}), usual());
  try {
    engine.runner().run({{"x", Tensor(DType::f64, {2, 3})}});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::model);
    EXPECT_EQ(e.node(), "negate");
    EXPECT_THAT(e.what(), HasSubstr("x f64[2,3]"));
  }
}

TEST(Engine, a_kernels_error_carries_its_node) {
  Builder b;
  const ValueId x = b.input("x", {2, 3});
  const ValueId y = b.op("Neg", {b.op("Relu", {x}, {}, 14, "breaks")});
  EngineOptions options;
  options.providers = {plain_provider("breaks")};
  Engine engine(b.outputs({y}), options);
  auto runner = engine.runner();
  for (int again = 0; again < 2; ++again) {
    try {
      runner.run({{"x", random_tensor({2, 3}, 1)}});
      FAIL();
    } catch (const Error& e) {
      EXPECT_EQ(e.node(), "breaks");
    }
  }
}

}  // namespace
}  // namespace quern::testing
