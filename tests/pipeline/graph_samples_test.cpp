// Values and output errors that a stage sees of samples, against runs of the network itself.
#include <gmock/gmock.h>

#include <cmath>

#include "core/dataset/dataset.hpp"
#include "core/engine/engine.hpp"
#include "core/pipeline/graph_view.hpp"
#include "core/plugin/host.hpp"
#include "tests/pipeline/tiny.hpp"

namespace quern {
namespace {
using namespace testing_tiny;

class ListData : public Dataset {
 public:
  std::vector<Tensor> list;
  int64_t size() const override { return static_cast<int64_t>(list.size()); }
  Sample item(int64_t i) const override { return {{"x", list.at(static_cast<size_t>(i))}}; }
  std::optional<Tensor> label(int64_t) const override { return std::nullopt; }
  std::string digest() const override { return "list"; }
};

// A stage that does what the test says.
struct Stage {
  std::function<void(const quern_graph&)> body;
  static quern_status* run(void* self, quern_str, const quern_graph* g) {
    return guarded([&] { static_cast<Stage*>(self)->body(*g); });
  }
  void go(Graph& graph, Placement& placement, const Dataset& data) {
    GraphView view(graph, placement, data, 2);
    quern_graph_stage table{};
    table.self = this;
    table.run = run;
    std::vector<StageLine> lines;
    view.run({"probe", "org.example.probe", json::value{}, &table}, {}, StatisticsSet{}, lines);
  }
};

std::vector<float> floats(const quern_tensor& t) {
  const auto* p = static_cast<const float*>(t.data);
  return {p, p + t.bytes / 4};
}
bool refused(quern_status* status) {
  const std::unique_ptr<quern_status> own(status);
  return own != nullptr;
}

struct Samples : ::testing::Test {
  ListData data;
  Graph graph = tiny_graph();
  Placement placement;  // nothing is quantized
  Samples() {
    Noise noise{11};
    for (int i = 0; i < 7; ++i) data.list.push_back(noise.tensor({1, 3, 8, 8}));
  }
};

TEST_F(Samples, AreSpreadOverTheData) {
  EXPECT_EQ(spread_samples(3, 7), (std::vector<int64_t>{0, 2, 4}));
  EXPECT_EQ(spread_samples(9, 2), (std::vector<int64_t>{0, 1}));
}

TEST_F(Samples, ValuesAreThoseOfTheNetwork) {
  Graph whole = graph;
  Engine engine(std::move(whole), {.providers = {onednn_provider(), own_float_provider()}});
  const std::vector<float> expected = engine.runner().run({{"x", data.list[4]}}).at(0).second.to_floats();
  Stage stage;
  stage.body = [&](const quern_graph& g) {
    EXPECT_EQ(g.sample_count(g.self), 7u);
    const uint32_t last = g.node_count(g.self) - 1;
    auto t = abi_struct<quern_tensor>();
    for (uint32_t estimated : {0u, 1u}) {
      ASSERT_EQ(g.sample_value(g.self, last, -1, 3, 2, estimated, &t), nullptr);
      EXPECT_EQ(floats(t), expected);
      ASSERT_EQ(g.sample_value(g.self, 0, 0, 3, 1, estimated, &t), nullptr);
      EXPECT_EQ(floats(t), data.list[2].to_floats());
    }
    EXPECT_TRUE(refused(g.sample_value(g.self, last, 9, 3, 2, 0, &t)));
    EXPECT_TRUE(refused(g.sample_value(g.self, last, -2, 3, 2, 0, &t)));
    EXPECT_TRUE(refused(g.sample_value(g.self, last, -1, 3, 3, 0, &t)));
    EXPECT_TRUE(refused(g.sample_value(g.self, last + 1, -1, 3, 0, 0, &t)));
  };
  stage.go(graph, placement, data);
}

TEST_F(Samples, OutputErrorsFollowAChange) {
  Stage stage;
  stage.body = [&](const quern_graph& g) {
    double signal = 0, noise = -1;
    ASSERT_EQ(g.measure_outputs(g.self, 7, &signal, &noise, 1), nullptr);
    EXPECT_GT(signal, 0);
    EXPECT_EQ(noise, 0);
    EXPECT_TRUE(refused(g.measure_outputs(g.self, 7, &signal, &noise, 2)));
    auto t = abi_struct<quern_tensor>();
    const auto bias = static_cast<uint32_t>(graph.find_value("b3"));
    ASSERT_EQ(g.read_constant(g.self, bias, &t), nullptr);
    std::vector<float> moved = floats(t);
    for (float& v : moved) v += 0.5f;
    t.data = moved.data();
    ASSERT_EQ(g.begin(g.self), nullptr);
    ASSERT_EQ(g.set_constant(g.self, bias, &t), nullptr);
    ASSERT_EQ(g.measure_outputs(g.self, 7, &signal, &noise, 1), nullptr);
    EXPECT_NEAR(noise, 0.25, 1e-5);
    ASSERT_EQ(g.rollback(g.self), nullptr);
    ASSERT_EQ(g.measure_outputs(g.self, 7, &signal, &noise, 1), nullptr);
    EXPECT_EQ(noise, 0);
  };
  stage.go(graph, placement, data);
}

}  // namespace
}  // namespace quern
