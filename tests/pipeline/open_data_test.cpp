// States that a network carries from one time step to the next, while its data is read.
#include "core/pipeline/open_data.hpp"

#include <gmock/gmock.h>

#include "core/base/error.hpp"
#include "core/pipeline/pipeline.hpp"
#include "tests/pipeline/tiny.hpp"

namespace quern {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class OpenData : public ::testing::Test {
 protected:
  // sum = x + before; twice = sum + sum, of another shape than `before` when `wide`.
  void SetUp() override {
    Graph g;
    g.opset = 13;
    const ValueId x = g.add_value("x", DType::f32, Dims{1, 2}), before = g.add_value("before", DType::f32, Dims{1, 2});
    g.set_inputs({x, before});
    const auto node = [&](const char* op, int version, std::vector<ValueId> inputs, const char* output, std::map<std::string, Attribute> attributes = {}) {
      Node n;
      n.name = std::string(output) + "_node";
      n.op = op;
      n.since_version = version;
      n.inputs = std::move(inputs);
      n.outputs = {g.add_value(output, DType::f32)};
      n.attributes = std::move(attributes);
      g.add_node(n);
      return n.outputs[0];
    };
    const ValueId sum = node("Add", 13, {x, before}, "sum");
    g.set_outputs({sum, node("Concat", 13, {sum, sum}, "wide", {{"axis", int64_t{1}}})});
    infer_shapes(g);
    write_file(folder.path / "model.onnx", export_onnx(g));
    Tensor rows(DType::f32, {5, 2});
    auto v = rows.mutable_values<float>();
    for (size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>(i + 1);
    write_npz(folder.path / "d.npz", {{"x", rows}});
  }
  std::unique_ptr<Dataset> open(const std::string& more) {
    const Config c = load_config_text("quern: 1\nmodel: model.onnx\nthreads: 2\ndata: {calibration: {reader: npz, path: d.npz, " + more + "}}\n", "c.yaml", folder.path);
    return open_data(c, *c.calibration, {{"x", DType::f32, {1, 2}}, {"before", DType::f32, {1, 2}}}, registry);
  }
  std::string refuse(const std::string& more) {
    try {
      open(more);
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  }
  static std::vector<float> state(const Dataset& d, int64_t i) { return d.item(i).at(1).tensor.to_floats(); }
  testing_tiny::Folder folder;
  PluginRegistry registry{PluginOptions{.environment = false, .standard_folders = false}};
};

TEST_F(OpenData, StatesAreSumsOfTheStepsBefore) {
  const auto d = open("state: {before: sum}");
  ASSERT_EQ(d->size(), 5);
  EXPECT_EQ(d->item(3).at(0).name, "x");
  EXPECT_THAT(d->item(3).at(0).tensor.to_floats(), ElementsAre(7, 8));
  EXPECT_THAT(state(*d, 0), ElementsAre(0, 0));
  EXPECT_THAT(state(*d, 1), ElementsAre(1, 2));
  EXPECT_THAT(state(*d, 4), ElementsAre(1 + 3 + 5 + 7, 2 + 4 + 6 + 8));
  const auto restarted = open("state: {before: sum}, steps: 2");
  EXPECT_THAT(state(*restarted, 1), ElementsAre(1, 2));
  EXPECT_THAT(state(*restarted, 2), ElementsAre(0, 0));
  EXPECT_THAT(state(*restarted, 3), ElementsAre(5, 6));
  EXPECT_NE(d->digest(), restarted->digest());
  EXPECT_EQ(open("state: {before: sum}, skip: 1")->item(1).at(1).tensor.to_floats(), (std::vector<float>{3, 4}));
}

TEST_F(OpenData, StatesThatDoNotFit) {
  EXPECT_THAT(refuse("state: {befor: sum}"), HasSubstr("no input 'befor'"));
  EXPECT_THAT(refuse("state: {before: som}"), HasSubstr("no output 'som'"));
  EXPECT_THAT(refuse("state: {before: wide}"), HasSubstr("output 'wide' is f32 [1,4]"));
  EXPECT_THAT(refuse("state: {before: sum, x: sum}"), HasSubstr("nothing to feed"));
  EXPECT_THAT(refuse("samples: 2"), HasSubstr("'before'"));
}

}  // namespace
}  // namespace quern
