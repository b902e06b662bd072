// The whole job through the library: quantize, verify, evaluate, on the tiny network.
#include "core/pipeline/pipeline.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "core/pipeline/graph_view.hpp"
#include "core/pipeline/prepare.hpp"
#include "core/pipeline/sample_runner.hpp"
#include "core/pipeline/target_provider.hpp"
#include "core/report/report.hpp"
#include "tests/pipeline/tiny.hpp"

namespace quern {
namespace {

using namespace testing_tiny;

std::unique_ptr<Dataset> tiny_data(const fs::path& folder, const std::string& array) {
  return open_dataset(json::object{{"reader", "npz"}, {"path", "data.npz"}, {"inputs", {{"x", array}}}}, folder, input_specs(tiny_graph()));
}

TEST(Prepare, EveryNodeGetsItsOwnBias) {
  Graph g = tiny_graph();
  const NodeId second = g.find_node("Conv_node_1") != no_node ? g.find_node("Conv_node_1") : g.value(g.node(g.find_node("Add_node")).inputs[1]).producer;
  ASSERT_NE(second, no_node);
  EXPECT_EQ(g.node(second).inputs.size(), 2u);
  EXPECT_EQ(give_every_node_its_bias(g), 1);
  ASSERT_EQ(g.node(second).inputs.size(), 3u);
  const Tensor* bias = g.constant_input(g.node(second), 2);
  ASSERT_NE(bias, nullptr);
  EXPECT_EQ(bias->dims(), Dims{8});
  EXPECT_EQ(give_every_node_its_bias(g), 0);
}

TEST(Prepare, ASharedBiasIsCopied) {
  Graph g = tiny_graph();
  const NodeId first = g.find_node("Conv_node");
  const NodeId second = g.value(g.node(g.find_node("Add_node")).inputs[1]).producer;
  g.node(second).inputs.push_back(g.node(first).inputs[2]);
  EXPECT_EQ(give_every_node_its_bias(g), 1);
  EXPECT_NE(g.node(first).inputs[2], g.node(second).inputs[2]);
}

TEST(Prepare, AWrongRewriteIsCaught) {
  Folder f;
  write_tiny(f.path);
  const auto data = tiny_data(f.path, "x_calib");
  const Graph original = tiny_graph();
  Graph rewritten = original;
  canonicalize(rewritten, evaluate_constant_node);
  const auto checks = check_rewrite(original, rewritten, *data, 4, 2);
  ASSERT_EQ(checks.size(), 1u);
  EXPECT_LE(checks[0].max_difference, 1e-4 * checks[0].max_value);
  // A last bias off by a thousandth of the largest output.
  const ValueId bias = rewritten.find_value("b3");
  Tensor changed = Tensor::of<float>({4}, rewritten.value(bias).constant->to_floats());
  changed.mutable_values<float>()[2] += static_cast<float>(checks[0].max_value * 1e-3);
  rewritten.set_constant(bias, changed);
  EXPECT_THROW(check_rewrite(original, rewritten, *data, 4, 2), Error);
}

TEST(SampleRunner, PartsGiveWhatTheWholeGives) {
  Folder f;
  write_tiny(f.path);
  const auto data = tiny_data(f.path, "x_calib");
  const Graph graph = tiny_graph();
  const ValueId out = graph.outputs()[0], middle = graph.find_value("Add_node_out");
  for (const size_t budget : {size_t{0}, size_t{1} << 30}) {
    SampleRunner whole(graph, *data, {0, 3, 5}, 1, 0), parts(graph, *data, {0, 3, 5}, 2, budget);
    std::vector<std::vector<float>> a(3), b(3);
    whole.compute(out, [&](size_t s, const Tensor& t) { a[s] = t.to_floats(); });
    parts.keep({graph.find_value("Relu_node_out"), middle});
    parts.compute(out, [&](size_t s, const Tensor& t) { b[s] = t.to_floats(); });
    for (size_t s = 0; s < 3; ++s)
      for (size_t i = 0; i < a[s].size(); ++i) EXPECT_NEAR(a[s][i], b[s][i], 1e-5);
    // A changed constant forgets what depends on it.
    Tensor zero(DType::f32, graph.value(graph.find_value("w1")).constant->dims());
    parts.set_constant(graph.find_value("w1"), zero);
    bool different = false;
    parts.compute(out, [&](size_t s, const Tensor& t) { if (s == 0) different = t.to_floats() != b[0]; });
    EXPECT_TRUE(different);
  }
}

TEST(SampleRunner, ValuesInTheTemporaryFileAreTheSame) {
  Folder f;
  write_tiny(f.path);
  const auto data = tiny_data(f.path, "x_calib");
  const Graph graph = tiny_graph();
  const ValueId out = graph.outputs()[0], early = graph.find_value("Relu_node_out"), middle = graph.find_value("Add_node_out");
  constexpr size_t all = size_t{1} << 30;
  for (const size_t memory : {size_t{0}, size_t{3000}}) {
    SampleRunner whole(graph, *data, {0, 3, 5, 1}, 2, all), spilled(graph, *data, {0, 3, 5, 1}, 2, all, memory);
    for (int round = 0; round < 2; ++round) {
      for (SampleRunner* r : {&whole, &spilled}) r->keep({early, middle, out});
      for (const ValueId v : {early, middle, out})
        for (size_t s = 0; s < 4; ++s) EXPECT_EQ(whole.value(v, s).to_floats(), spilled.value(v, s).to_floats());
      for (SampleRunner* r : {&whole, &spilled}) r->forget_before(graph.value(middle).producer);  // places in the file are used again
    }
  }
}

TEST(SampleRunner, ForgetsOnlyWhatNoLaterNodeNeeds) {
  Folder f;
  write_tiny(f.path);
  const auto data = tiny_data(f.path, "x_calib");
  const Graph graph = tiny_graph();
  const NodeId add = graph.find_node("Add_node");
  const ValueId relu = graph.node(add).inputs[0], second = graph.node(add).inputs[1];
  const ValueId first = graph.node(graph.value(relu).producer).inputs[0], sum = graph.node(add).outputs[0];
  SampleRunner whole(graph, *data, {0, 3}, 1, 0), runner(graph, *data, {0, 3}, 1, size_t{1} << 30);
  runner.keep({first, second});
  runner.forget_before(graph.value(second).producer);
  EXPECT_NO_THROW(runner.value(first, 0));  // the sum reads the Relu behind it
  runner.keep({relu});
  runner.forget_before(graph.value(second).producer);
  EXPECT_THROW(runner.value(first, 0), std::out_of_range);
  EXPECT_NO_THROW(runner.value(relu, 0));
  runner.keep({sum});
  runner.forget_before(add);
  EXPECT_THROW(runner.value(relu, 0), std::out_of_range);
  EXPECT_THROW(runner.value(second, 0), std::out_of_range);
  EXPECT_NO_THROW(runner.value(sum, 0));
  // What is gone is computed again.
  std::vector<float> a, b;
  whole.compute(second, [&](size_t s, const Tensor& t) { if (s == 1) a = t.to_floats(); });
  runner.compute(second, [&](size_t s, const Tensor& t) { if (s == 1) b = t.to_floats(); });
  EXPECT_FALSE(a.empty());
  EXPECT_EQ(a, b);
}

TEST(SampleStore, MemoryIsBounded) {
  SampleStore store(8, 1000);
  for (size_t s = 0; s < 8; ++s)
    for (ValueId v = 0; v < 3; ++v) store.put(v, v, s, Tensor::of<float>({50}, std::vector<float>(50, static_cast<float>(10 * s) + static_cast<float>(v))));
  EXPECT_LE(store.in_memory(), 1000u);
  EXPECT_EQ(store.bytes(1), 8u * 200u);
  store.erase(0);
  EXPECT_FALSE(store.has(0));
  for (size_t s = 0; s < 8; ++s) store.put(3, 3, s, Tensor::scalar(static_cast<float>(s)));
  for (size_t s = 0; s < 8; ++s) {
    EXPECT_EQ(store.get(2, s).to_floats()[49], static_cast<float>(10 * s + 2));
    EXPECT_EQ(store.get(3, s).to_floats()[0], static_cast<float>(s));
  }
  EXPECT_EQ(store.values(), (std::vector<ValueId>{1, 2, 3}));
}

class Whole : public ::testing::Test {
 protected:
  void SetUp() override {
    SKIP_WITHOUT_BUILD();
    write_tiny(folder.path);
  }
  Folder folder;
  fs::path quantize_to(const std::string& name, int threads, const ConfigOverrides& overrides = {}) {
    Config config = load_config(folder.path / "c.yaml", overrides);
    PluginRegistry registry(built_plugins());
    OutputFolder out(folder.path / name);
    const RunResult r = quantize(config, registry, {.threads = threads});
    write_output(config, r, out);
    return folder.path / name;
  }
  static std::string report_without_timing(const fs::path& path) {
    json::value v = parse_json(read_text(path), "report.json");
    EXPECT_TRUE(v.as_object().contains("timing"));
    v.as_object().erase("timing");
    return to_text(v);
  }
};

TEST_F(Whole, SameBytesForAnyThreadsAndFromTheEffectiveConfiguration) {
  const fs::path one = quantize_to("one", 1), two = quantize_to("two", 2);
  std::vector<std::string> files{"model.onnx", "package/index.json", "package/data.bin", "effective.yaml"};
  for (const auto& file : files) EXPECT_EQ(read_text(one / file), read_text(two / file)) << file;
  EXPECT_EQ(report_without_timing(one / "report.json"), report_without_timing(two / "report.json"));
  // The effective configuration gives its own folder again.
  std::map<std::string, std::string> before;
  for (const auto& file : files) before[file] = read_text(one / file);
  Config again = load_config(one / "effective.yaml");
  EXPECT_EQ(again.output, one);
  PluginRegistry registry(built_plugins());
  OutputFolder out(again.output);
  const RunResult r = quantize(again, registry, {.threads = 2});
  write_output(again, r, out);
  for (const auto& file : files) EXPECT_EQ(read_text(one / file), before[file]) << file;
}

TEST_F(Whole, SimulatedAndIntegerAgreeAndAreJudged) {
  const fs::path out = quantize_to("out", 2);
  PluginRegistry registry(built_plugins());
  std::string reason;
  if (!registry.target("cpu")->available("", &reason)) GTEST_SKIP() << "this machine can't run the cpu target: " << reason;
  const Verification v = verify(out, registry, {.threads = 2});
  EXPECT_EQ(v.mismatches, 0);
  EXPECT_GT(v.elements, 0);
  EXPECT_EQ(v.samples, 6);
  EXPECT_EQ(v.coverage_macs, 1.0);
  EXPECT_FALSE(v.first);
  EXPECT_EQ(verdict(v, 0.95), "");
  const Config config = load_config(folder.path / "c.yaml");
  const Evaluation a = evaluate(config, out, RunAs::simulated, registry, {}), b = evaluate(config, out, RunAs::integer, registry, {.threads = 2});
  EXPECT_EQ(a.value, b.value);
  EXPECT_EQ(a.samples, 6);
  // Through ONNX's QDQ as float: nearly the same network.
  EXPECT_EQ(evaluate(config, out / "model.onnx", RunAs::as_float, registry, {}).samples, 6);
}

// A target whose kernels are off by one in one element of one unit: the comparison has to find exactly that.
class WrongTarget : public Target {
 public:
  explicit WrongTarget(std::shared_ptr<const Target> right) : right_(std::move(right)) {}
  std::string name() const override { return right_->name(); }
  std::string id() const override { return right_->id(); }
  std::string version() const override { return right_->version(); }
  fs::path path() const override { return right_->path(); }
  std::string rules_text() const override { return right_->rules_text(); }
  Rules rules(const std::string& p) const override { return right_->rules(p); }
  bool available(const std::string& p, std::string* r) const override { return right_->available(p, r); }
  bool supports(const std::string& p, const IntegerUnit& u, std::string* r) const override { return right_->supports(p, u, r); }
  std::map<std::string, Tensor> derive(const std::string& p, const IntegerUnit& u) const override { return right_->derive(p, u); }
  bool cost(const std::string& p, const IntegerUnit& u, double* c, double* b) const override { return right_->cost(p, u, c, b); }
  std::unique_ptr<TargetKernel> compile(const std::string& p, const IntegerUnit& u, const std::vector<Dims>& in, const Dims& out, int threads) const override {
    return std::make_unique<Kernel>(right_->compile(p, u, in, out, threads), u.members.at(0).op == "GlobalAveragePool");
  }

 private:
  std::shared_ptr<const Target> right_;
  struct Kernel : TargetKernel {
    Kernel(std::unique_ptr<TargetKernel> r, bool w) : right(std::move(r)), wrong(w) {}
    std::unique_ptr<TargetKernel> right;
    bool wrong;
    uint64_t workspace_bytes() const override { return right->workspace_bytes(); }
    std::string name() const override { return right->name(); }
    std::vector<uint32_t> input_layouts() const override { return right->input_layouts(); }
    uint32_t output_layout() const override { return right->output_layout(); }
    std::unique_ptr<Context> make_context() const override { return right->make_context(); }
    void execute(Context& c, std::span<const TensorView> in, std::span<const TensorView> out, void* w) const override {
      right->execute(c, in, out, w);
      if (wrong) static_cast<uint8_t*>(out[0].data)[3 * out[0].strides[1]] ^= 1;
    }
    uint64_t saturations(Context& c) const override { return right->saturations(c); }
  };
};

TEST_F(Whole, AWrongKernelIsFound) {
  const fs::path out = quantize_to("out", 1);
  PluginRegistry registry(built_plugins());
  auto target = registry.target("cpu");
  std::string reason;
  if (!target->available("", &reason)) GTEST_SKIP() << "this machine can't run the cpu target: " << reason;
  LoadedModel simulated = load_model(out, RunAs::simulated, registry), integer = load_model(out, RunAs::integer, registry);
  integer.providers[0] = target_provider(std::make_shared<WrongTarget>(target), integer.integer->profile);
  const auto data = tiny_data(folder.path, "x_eval");
  const Verification v = compare_runs(std::move(simulated), std::move(integer), *data, {.threads = 2});
  EXPECT_GE(v.mismatches, 6);  // one a sample, and what follows from it
  ASSERT_TRUE(v.first);
  EXPECT_EQ(v.first->sample, 0);
  EXPECT_EQ(v.first->index, 3);
  EXPECT_NE(v.first->node.find("GlobalAveragePool"), std::string::npos) << v.first->node;
  EXPECT_NE(verdict(v, 0.0), "");
}

TEST(Verdict, NothingComparedAndTooLittleAreFailures) {
  Verification v;
  EXPECT_EQ(verdict(v, 0.0), "nothing was compared");
  v.elements = 10;
  v.coverage_macs = 0.9;
  EXPECT_NE(verdict(v, 0.95), "");
  EXPECT_EQ(verdict(v, 0.9), "");
  v.mismatches = 1;
  EXPECT_NE(verdict(v, 0.0), "");
}

TEST_F(Whole, IgnoredNodesStayFloatAndUnmatchedOnesAreErrors) {
  const fs::path out = quantize_to("out", 1, {.set = {"pipeline=[quantize]", "pipeline.quantize.ignored={nodes: [Gemm_node]}"}});
  const json::value report = parse_json(read_text(out / "report.json"), "report.json");
  EXPECT_LT(report.at("coverage").at("macs").to_number<double>(), 1.0);
  ASSERT_FALSE(report.at("float_nodes").as_array().empty());
  try {
    quantize_to("none", 1, {.set = {"pipeline=[quantize]", "pipeline.quantize.ignored={nodes: [Gem_node]}"}});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::config);
    EXPECT_NE(std::string(e.what()).find("Gem_node"), std::string::npos) << e.what();
  }
  EXPECT_FALSE(fs::exists(folder.path / "none"));
}

TEST_F(Whole, BiasCorrectionWorksOnTheGraphView) {
  Config config = load_config(folder.path / "c.yaml");
  PluginRegistry registry(built_plugins());
  const RunResult r = quantize(config, registry, {});
  size_t corrections = 0;
  for (const auto& line : r.stage_lines) {
    corrections += line.stage == "bias_correction";
    EXPECT_TRUE(std::isfinite(line.before) && std::isfinite(line.after));
  }
  EXPECT_GT(corrections, 0u);
  EXPECT_GT(r.sqnr.at(0).db, 20);
}

// A stage that does what it must not: the host refuses, and undoes what was left open.
struct Probe {
  static inline std::vector<std::string> seen;
  static quern_status* plan(void*, quern_str, const quern_graph*, const quern_stat_plan*) { return nullptr; }
  static quern_status* run(void*, quern_str, const quern_graph* g) {
    const auto note = [&](const char* what, quern_status* s) { seen.push_back(std::string(what) + (s ? ": refused" : ": done")); };
    uint32_t bias = 0;
    quern_tensor t{};
    for (uint32_t v = 0;; ++v) {
      quern_value_view view{};
      if (g->value(g->self, v, &view)) break;
      if (std::string_view(view.name.data, view.name.size) == "b3") bias = v;
    }
    note("read", g->read_constant(g->self, bias, &t));
    std::vector<float> zeros(4, 0.0f);
    quern_tensor changed = t;
    changed.data = zeros.data();
    note("outside", g->set_constant(g->self, bias, &changed));
    note("begin", g->begin(g->self));
    note("twice", g->begin(g->self));
    note("set", g->set_constant(g->self, bias, &changed));
    note("node 99", g->measure(g->self, 99, 1, nullptr, nullptr, 1));
    zeros[1] = NAN;
    note("nan", g->set_constant(g->self, bias, &changed));
    return nullptr;  // leaves the transaction open
  }
};

TEST(GraphViewTest, TransactionsAreKept) {
  Folder f;
  write_tiny(f.path);
  const auto data = tiny_data(f.path, "x_calib");
  Graph graph = tiny_graph();
  Placement placement;
  GraphView view(graph, placement, *data, 1);
  quern_graph_stage table{};
  table.plan = Probe::plan;
  table.run = Probe::run;
  StageHandle stage{"probe", "org.example.probe", json::value{}, &table};
  StatisticsSet statistics;
  std::vector<StageLine> lines;
  const std::vector<float> before = graph.value(graph.find_value("b3")).constant->to_floats();
  Probe::seen.clear();
  view.run(stage, {}, statistics, lines);
  EXPECT_EQ(Probe::seen, (std::vector<std::string>{"read: done", "outside: refused", "begin: done", "twice: refused", "set: done", "node 99: refused", "nan: refused"}));
  EXPECT_EQ(graph.value(graph.find_value("b3")).constant->to_floats(), before);
}

TEST(OutputFolder, LeavesNothingBehind) {
  Folder f;
  {
    OutputFolder out(f.path / "a" / "b" / "c");
    write_file(out.path() / "x", std::string_view("y"));
  }
  EXPECT_TRUE(fs::is_empty(f.path));
  write_file(f.path / "file", std::string_view("x"));
  EXPECT_THROW(OutputFolder(f.path / "file" / "out"), Error);
  EXPECT_THROW(OutputFolder(f.path / "file"), Error);
  EXPECT_EQ(std::distance(fs::directory_iterator(f.path), fs::directory_iterator()), 1);
}

}  // namespace
}  // namespace quern
