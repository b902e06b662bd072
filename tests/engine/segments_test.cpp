// Shapes that depend on data: a run in segments, each planned with what the one before has found.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/engine/engine_testing.hpp"

namespace quern::testing {
namespace {

using ::testing::HasSubstr;

Tensor ints(const Dims& dims, const std::vector<int64_t>& v) { return Tensor::of<int64_t>(dims, v); }
Tensor floats(const Dims& dims, const std::vector<float>& v) { return Tensor::of<float>(dims, v); }
std::vector<float> values(const Tensor& t) { return {t.values<float>().begin(), t.values<float>().end()}; }
std::vector<int64_t> whole(const Tensor& t) { return {t.values<int64_t>().begin(), t.values<int64_t>().end()}; }

std::string error_of(const std::function<void()>& run, ErrorCode code) {
  try {
    run();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

// The elements of x that are not zero, times a weight, and their sum: sized by the data alone.
struct Picking { Graph g; ValueId weight; NodeId scale; };
Picking picking(const Dims& dims = {6}) {
  Builder b;
  Picking p;
  const ValueId x = b.op("Relu", {b.input("x", dims)}, {}, 14, "relu");
  const ValueId places = b.op("Transpose", {b.op("NonZero", {x}, {}, 13, "where")}, {{"perm", std::vector<int64_t>{1, 0}}}, 13, "rows");
  p.weight = b.constant(floats({1}, {2}));
  const ValueId scaled = b.op("Mul", {x, p.weight}, {}, 14, "scale");
  p.scale = b.g.find_node("scale");
  const ValueId picked = b.op("GatherND", {scaled, places}, {}, 13, "pick");
  const ValueId zero = b.constant(ints({1}, {0}));
  const ValueId sum = b.op("ReduceSum", {picked, zero}, {{"keepdims", int64_t{0}}}, 13, "sum");
  p.g = b.outputs({picked, sum, places});
  return p;
}

TEST(Segments, a_size_only_the_data_say) {
  Engine engine(picking().g, with_own_kernels());
  auto runner = engine.runner();
  for (const std::vector<float>& x : {std::vector<float>{1, -1, 2, 0, 3, -4}, {0, 0, 0, 0, 0, 0}, {1, 1, 1, 1, 1, 1}, {1, -1, 2, 0, 3, -4}}) {
    std::vector<float> want;
    std::vector<int64_t> at;
    float sum = 0;
    for (size_t i = 0; i < x.size(); ++i)
      if (x[i] > 0) {
        want.push_back(2 * x[i]);
        at.push_back(static_cast<int64_t>(i));
        sum += 2 * x[i];
      }
    const auto y = runner.run({{"x", floats({6}, x)}});
    EXPECT_EQ(values(y[0].second), want);
    EXPECT_EQ(values(y[1].second), std::vector<float>{sum});
    EXPECT_EQ(whole(y[2].second), at);
    EXPECT_EQ(y[2].second.dims(), (Dims{static_cast<int64_t>(at.size()), 1}));
  }
}

TEST(Segments, taps_profile_and_plan_info_go_over_all_of_them) {
  EngineOptions options = with_own_kernels();
  options.taps = {"x", "where_out", "scale_out", "pick_out", "sum_out"};
  Engine engine(picking().g, options);
  auto runner = engine.runner();
  runner.profile(true);
  const NamedTensors in{{"x", floats({6}, {1, -1, 2, 0, 3, -4})}};
  std::map<std::string, Tensor> seen;
  const auto y = runner.run(in, [&](const std::string& name, const TensorView& v) { EXPECT_TRUE(seen.emplace(name, dense(v)).second) << name; });
  EXPECT_EQ(seen.size(), 5u);
  EXPECT_EQ(whole(seen.at("where_out")), (std::vector<int64_t>{0, 2, 4}));
  expect_same_bytes(seen.at("pick_out"), y[0].second);
  expect_same_bytes(seen.at("sum_out"), y[1].second);
  const PlanInfo info = runner.plan_info(), again = engine.plan_info(in);
  EXPECT_EQ(info.segments, 2);
  EXPECT_EQ(runner.last_profile().kernels.size(), info.steps.size());
  EXPECT_EQ(runner.last_profile().copies.size(), info.steps.size());
  ASSERT_EQ(info.steps.size(), again.steps.size());
  std::map<std::string, int> segment;
  for (const PlanStep& s : info.steps)
    for (const std::string& node : s.members) segment[node] = s.segment;
  EXPECT_EQ(segment.at("relu"), 0);
  EXPECT_EQ(segment.at("scale"), 0);  // does not wait for the cut
  EXPECT_EQ(segment.at("where"), 0);
  EXPECT_EQ(segment.at("pick"), 1);
}

TEST(Segments, a_network_without_such_nodes_has_one) {
  Builder b;
  const ValueId x = b.input("x", {1, 3, 8, 8});
  const Graph g = b.outputs({b.reshape(b.conv(x, {4, 3, 3, 3}), {0, -1})});
  Engine engine(g, with_own_kernels());
  const NamedTensors in{{"x", random_tensor({1, 3, 8, 8}, 1)}};
  EXPECT_EQ(engine.plan_info(in).segments, 1);
  auto runner = engine.runner();
  EXPECT_EQ(runner.plan_info().steps.size(), 0u);
  runner.run(in);
  EXPECT_EQ(runner.plan_info().segments, 1);
}

// k = number of positive elements; the k best; reshaped to [k, 1] by a computed shape.
Graph best_of(int64_t n) {
  Builder b;
  const ValueId x = b.input("x", {n});
  const ValueId positive = b.op("Cast", {b.op("Greater", {x, b.constant(floats({}, {0}))})}, {{"to", int64_t{7}}}, 13, "positive");
  const ValueId axis = b.constant(ints({1}, {0}));
  const ValueId k = b.op("ReduceSum", {positive, axis}, {{"keepdims", int64_t{1}}}, 13, "count");
  const ValueId best = b.op("TopK", {x, k}, {}, 11, "best");
  const ValueId shape = b.op("Concat", {k, b.constant(ints({1}, {1}))}, {{"axis", int64_t{0}}}, 13, "shape");
  const ValueId y = b.op("Reshape", {best, shape}, {}, 13, "column");
  return b.outputs({y});
}

TEST(Segments, k_of_top_k_and_a_shape_are_computed) {
  Engine engine(best_of(5), with_own_kernels());
  auto runner = engine.runner();
  auto run = [&](const std::vector<float>& x) { return runner.run({{"x", floats({5}, x)}})[0].second; };
  Tensor y = run({3, -1, 5, -2, 4});
  EXPECT_EQ(y.dims(), (Dims{3, 1}));
  EXPECT_EQ(values(y), (std::vector<float>{5, 4, 3}));
  EXPECT_EQ(run({-1, -1, -1, -1, -1}).dims(), (Dims{0, 1}));
  EXPECT_EQ(values(run({1, 2, 3, 4, 5})), (std::vector<float>{5, 4, 3, 2, 1}));
}

TEST(Segments, inputs_of_the_model_may_be_shapes) {
  Builder b;
  const ValueId x = b.input("x", {2, 6}), shape = b.input("shape", {2}, DType::s64), starts = b.input("starts", {1}, DType::s64);
  const ValueId r = b.op("Reshape", {x, shape}, {}, 13, "reshape");
  const ValueId ends = b.constant(ints({1}, {1000})), zero = b.constant(ints({1}, {0}));
  const ValueId y = b.op("Slice", {r, starts, ends, zero}, {}, 13, "slice");
  Engine engine(b.outputs({y, x, shape}), with_own_kernels());
  const Tensor data = floats({2, 6}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
  auto run = [&](std::vector<int64_t> dims, int64_t from) {
    return engine.runner().run({{"x", data}, {"shape", ints({2}, dims)}, {"starts", ints({1}, {from})}});
  };
  auto y1 = run({4, 3}, 2);
  EXPECT_EQ(y1[0].second.dims(), (Dims{2, 3}));
  EXPECT_EQ(values(y1[0].second), (std::vector<float>{6, 7, 8, 9, 10, 11}));
  expect_same_bytes(y1[1].second, data);
  EXPECT_EQ(run({-1, 1}, 11)[0].second.dims(), (Dims{1, 1}));
  EXPECT_THAT(error_of([&] { run({5, 5}, 0); }, ErrorCode::model), HasSubstr("reshape"));
  run({6, 2}, 0);  // and goes on afterwards
}

TEST(Segments, an_image_crosses_the_cut_in_its_layout) {
  Builder b;
  const ValueId x = b.input("x", {1, 8, 6, 6});
  const ValueId c = b.conv(x, {16, 8, 3, 3});
  const ValueId n = b.op("Size", {b.op("NonZero", {b.input("mask", {4})}, {}, 13)}, {}, 13);  // the number of ones
  const ValueId shape = b.op("Concat", {b.op("Unsqueeze", {n, b.constant(ints({1}, {0}))}), b.constant(ints({3}, {1, 1, 1}))}, {{"axis", int64_t{0}}});
  const ValueId many = b.op("Expand", {c, shape}, {}, 13);
  const ValueId y = b.conv(many, {4, 16, 3, 3});
  Engine engine(b.outputs({y, c}), with_own_kernels());
  const Tensor image = random_tensor({1, 8, 6, 6}, 3);
  auto runner = engine.runner();
  const auto one = runner.run({{"x", image}, {"mask", floats({4}, {0, 1, 0, 0})}});
  const auto three = runner.run({{"x", image}, {"mask", floats({4}, {0, 1, 1, 1})}});
  ASSERT_EQ(three[0].second.dims(), (Dims{3, 4, 6, 6}));
  for (size_t i = 0; i < 3; ++i)
    for (size_t k = 0; k < 144; ++k) EXPECT_EQ(three[0].second.values<float>()[i * 144 + k], one[0].second.values<float>()[k]);
  expect_same_bytes(one[1].second, three[1].second);
}

TEST(Segments, replaced_constants_reach_every_segment) {
  Picking p = picking();
  Engine engine(p.g, with_own_kernels());
  auto runner = engine.runner();
  const NamedTensors in{{"x", floats({6}, {1, -1, 2, 0, 3, -4})}};
  EXPECT_EQ(values(runner.run(in)[0].second), (std::vector<float>{2, 4, 6}));
  engine.set_constant(p.weight, floats({1}, {5}));
  EXPECT_EQ(values(runner.run(in)[0].second), (std::vector<float>{5, 10, 15}));
  EXPECT_EQ(values(engine.runner().run(in)[1].second), std::vector<float>{30});
}

// y = x + bias in the first segment; k positive elements of y; the k best of w * y in the later ones.
struct Chain { Graph g; ValueId bias, weight; NodeId add, mul; };
Chain chain() {
  Builder b;
  Chain c;
  const ValueId x = b.input("x", {5});
  c.bias = b.constant(floats({1}, {0}));
  const ValueId y = b.op("Add", {x, c.bias}, {}, 14, "add");
  const ValueId places = b.op("NonZero", {b.op("Relu", {y}, {}, 14, "relu")}, {}, 13, "where");
  const ValueId row = b.op("Squeeze", {places, b.constant(ints({1}, {0}))}, {}, 13, "row");
  const ValueId picked = b.op("Gather", {y, row}, {}, 13, "pick");
  c.weight = b.constant(floats({1}, {1}));
  const ValueId z = b.op("Mul", {picked, c.weight}, {}, 14, "mul");
  c.add = b.g.find_node("add");
  c.mul = b.g.find_node("mul");
  c.g = b.outputs({z});
  return c;
}

TEST(Segments, a_rerun_crosses_cuts) {
  const Chain c = chain();
  EngineOptions keep = with_own_kernels();
  keep.keep_all = true;
  keep.taps = {"add_out", "mul_out"};
  Engine engine(c.g, keep);
  auto runner = engine.runner();
  const NamedTensors in{{"x", floats({5}, {3, -1, 5, -2, 4})}};
  EXPECT_EQ(values(runner.run(in)[0].second), (std::vector<float>{3, 5, 4}));
  std::vector<std::string> again;
  const TapFunction tap = [&](const std::string& name, const TensorView&) { again.push_back(name); };
  // Behind the cut only.
  engine.set_constant(c.weight, floats({1}, {2}));
  EXPECT_EQ(values(runner.rerun({c.mul}, tap)[0].second), (std::vector<float>{6, 10, 8}));
  EXPECT_EQ(again, std::vector<std::string>{"mul_out"});
  // Before the cut, where the size stays.
  engine.set_constant(c.bias, floats({1}, {0.5F}));
  EXPECT_EQ(values(runner.rerun({c.add}, tap)[0].second), (std::vector<float>{7, 11, 9}));
  // Before the cut, where another size comes out.
  engine.set_constant(c.bias, floats({1}, {-3.5F}));
  EXPECT_EQ(values(runner.rerun({c.add}, tap)[0].second), (std::vector<float>{3, 1}));
  engine.set_constant(c.bias, floats({1}, {0}));
  engine.set_constant(c.weight, floats({1}, {1}));
  EXPECT_EQ(values(runner.rerun({c.add, c.mul})[0].second), (std::vector<float>{3, 5, 4}));
}

TEST(Segments, a_rerun_after_a_failed_run_is_refused) {
  EngineOptions keep = with_own_kernels();
  keep.keep_all = true;
  Builder b;
  const ValueId x = b.input("x", {4}), k = b.input("k", {1}, DType::s64);
  Engine engine(b.outputs({b.op("TopK", {x, k}, {}, 11, "best")}), keep);
  auto runner = engine.runner();
  const Tensor data = floats({4}, {4, 1, 3, 2});
  EXPECT_EQ(values(runner.run({{"x", data}, {"k", ints({1}, {2})}})[0].second), (std::vector<float>{4, 3}));
  EXPECT_THAT(error_of([&] { runner.run({{"x", data}, {"k", ints({1}, {9})}}); }, ErrorCode::model), HasSubstr("best"));
  EXPECT_THAT(error_of([&] { runner.rerun({}); }, ErrorCode::internal), HasSubstr("complete run"));
}

TEST(Segments, samples_of_many_sizes_in_parallel) {
  Engine engine(picking({100}).g, with_own_kernels());
  auto input = [](int64_t i) {
    Tensor x(DType::f32, {100});
    for (size_t k = 0; k < 100; ++k) x.mutable_values<float>()[k] = (k * 7 + static_cast<size_t>(i)) % 100 < static_cast<size_t>(i) ? static_cast<float>(k + 1) : -1;
    return NamedTensors{{"x", x}};
  };
  int64_t next = 0;
  run_samples(engine, 100, 2, input, {}, [&](int64_t i, NamedTensors y) {
    EXPECT_EQ(i, next++);
    const auto x = input(i)[0].second;
    std::vector<float> want;
    for (float v : x.values<float>())
      if (v > 0) want.push_back(2 * v);
    EXPECT_EQ(values(y[0].second), want) << i;
  });
  EXPECT_EQ(next, 100);
}

TEST(Segments, a_huge_computed_shape_is_an_error) {
  Builder b;
  const ValueId shape = b.input("shape", {2}, DType::s64);
  const ValueId big = b.op("ConstantOfShape", {shape}, {}, 9, "big");
  const Graph g = b.outputs({b.op("Relu", {big}, {}, 14, "relu")});
  Engine engine(g, with_own_kernels());
  EXPECT_THAT(error_of([&] { engine.runner().run({{"shape", ints({2}, {1 << 21, 1 << 22})}}); }, ErrorCode::memory), HasSubstr("big"));
  EXPECT_THAT(error_of([&] { engine.runner().run({{"shape", ints({2}, {INT64_MAX, INT64_MAX})}}); }, ErrorCode::model), HasSubstr("elements"));
  error_of([&] { engine.runner().run({{"shape", ints({2}, {-5, 2})}}); }, ErrorCode::model);
  EXPECT_EQ(engine.runner().run({{"shape", ints({2}, {2, 2})}})[0].second.count(), 4);
  EngineOptions small = with_own_kernels();
  small.memory_limit = 1 << 20;
  Engine bounded(g, small);
  EXPECT_THAT(error_of([&] { bounded.runner().run({{"shape", ints({2}, {1000, 1000})}}); }, ErrorCode::memory), HasSubstr("the limit is 0.00105 GB"));
  EXPECT_EQ(bounded.runner().run({{"shape", ints({2}, {100, 100})}})[0].second.count(), 10000);
}

// A kernel of the tests' own: doubles what is positive. Its operator has no shape rule.
class Positive final : public Provider {
 public:
  explicit Positive(bool sized) : sized_(sized) {}
  std::string name() const override { return "tests"; }
  bool knows(const Graph&, const Node& node) const override { return node.domain == "tests"; }
  std::optional<PreparedKernel> prepare(const KernelRequest&) const override {
    struct Making final : DataSizedKernel {
      std::vector<Tensor> make(std::span<const TensorView> in, void*, KernelState*) const override {
        std::vector<float> found;
        for (int64_t i = 0; i < in[0].count(); ++i)
          if (in[0].as<const float>()[i] > 0) found.push_back(2 * in[0].as<const float>()[i]);
        return {Tensor::of<float>({static_cast<int64_t>(found.size())}, found)};
      }
    };
    struct Plain final : Kernel {
      void run(std::span<const TensorView>, std::span<const TensorView>, void*, KernelState*) const override {}
    };
    PreparedKernel made;
    if (sized_) made.kernel = std::make_unique<Making>();
    else made.kernel = std::make_unique<Plain>();
    made.name = "tests.positive";
    made.input_layouts = made.output_layouts = {Layout::row_major};
    return made;
  }

 private:
  bool sized_;
};

Graph of_unknown_rank() {
  Builder b;
  const ValueId x = b.input("x", {4}), found = b.g.add_value("found", DType::f32);
  b.g.add_node({.name = "positive", .domain = "tests", .op = "Positive", .inputs = {x}, .outputs = {found}});
  return b.outputs({found, b.op("Neg", {found}, {}, 13, "neg")});
}

TEST(Segments, not_even_the_rank_need_be_known_before) {
  EngineOptions options = with_own_kernels();
  options.providers.push_back(std::make_shared<Positive>(true));
  Engine engine(of_unknown_rank(), options);
  const auto y = engine.runner().run({{"x", floats({4}, {1, -2, 3, 0})}});
  EXPECT_EQ(values(y[0].second), (std::vector<float>{2, 6}));
  EXPECT_EQ(values(y[1].second), (std::vector<float>{-2, -6}));
}

TEST(Segments, a_shape_that_nothing_tells_is_an_error) {
  EngineOptions options = with_own_kernels();
  options.providers.push_back(std::make_shared<Positive>(false));
  Engine engine(of_unknown_rank(), options);
  const std::string e = error_of([&] { engine.runner().run({{"x", floats({4}, {1, -2, 3, 0})}}); }, ErrorCode::model);
  EXPECT_THAT(e, HasSubstr("positive"));
  EXPECT_THAT(e, HasSubstr("can't be found out"));
}

TEST(Segments, an_if_whose_condition_is_computed_is_named) {
  Builder b;
  const ValueId c = b.input("c", {}, DType::boolean);
  const Graph g = b.outputs({b.op("If", {c}, {}, 16, "choice")});
  const std::string e = error_of([&] { Engine engine(g, with_own_kernels()); }, ErrorCode::model);
  EXPECT_THAT(e, HasSubstr("choice"));
  EXPECT_THAT(e, HasSubstr("condition"));
}

}  // namespace
}  // namespace quern::testing
