#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <set>

#include "core/base/files.hpp"
#include "core/graph/passes.hpp"
#include "core/graph/shapes.hpp"
#include "tests/onnx/models.hpp"

namespace quern {
namespace {

Graph again(const std::string& bytes) {
  return import_onnx_bytes(std::as_bytes(std::span(bytes.data(), bytes.size())), "again.onnx");
}

// x -> Quantize -> Dequantize -> Conv with weights stored as integers per channel -> y: what the integer room writes.
Graph qdq_graph() {
  Graph g;
  const ValueId x = g.add_value("x", DType::f32, Dims{-1, 2, 4, 4});
  g.value(x).dim_names = {"batch", "", "", ""};
  auto f = [&](const char* name, Dims d, std::vector<float> v) { return g.add_constant(name, Tensor::of<float>(std::move(d), v)); };
  const ValueId sx = f("sx", {}, {0.1F}), zx = g.add_constant("zx", Tensor::scalar(uint8_t{128}));
  const ValueId w = g.add_constant("w", Tensor::of<int8_t>({3, 2, 1, 1}, std::vector<int8_t>{1, -2, 3, -4, 5, -128}));
  const ValueId sw = f("sw", {3}, {0.1F, 0.2F, 0.3F}), zw = g.add_constant("zw", Tensor::of<int8_t>({3}, std::vector<int8_t>{0, 0, 0}));
  const ValueId b = g.add_constant("b", Tensor::of<int32_t>({3}, std::vector<int32_t>{7, -8, 1 << 30}));
  const ValueId sb = f("sb", {3}, {0.01F, 0.02F, 0.03F}), zb = g.add_constant("zb", Tensor::of<int32_t>({3}, std::vector<int32_t>{0, 0, 0}));
  auto node = [&](const char* op, std::vector<ValueId> in, const char* out, std::map<std::string, Attribute> attributes = {}, int since = 13) {
    const ValueId y = g.add_value(out);
    Node n{.name = std::string("n_") + out, .op = op, .since_version = since, .inputs = std::move(in), .outputs = {y}};
    n.attributes = std::move(attributes);
    g.add_node(std::move(n));
    return y;
  };
  const std::map<std::string, Attribute> axis{{"axis", int64_t{0}}};
  const ValueId q = node("QuantizeLinear", {x, sx, zx}, "q"), d = node("DequantizeLinear", {q, sx, zx}, "d");
  const ValueId wf = node("DequantizeLinear", {w, sw, zw}, "wf", axis), bf = node("DequantizeLinear", {b, sb, zb}, "bf", axis);
  const ValueId y = node("Conv", {d, wf, bf}, "y", {{"pads", std::vector<int64_t>{0, 0, 0, 0}}}, 11);
  g.set_inputs({x});
  g.set_outputs({y});
  g.metadata = {{"quern.tool", "quern"}, {"a", "b"}};
  infer_shapes(g);
  return g;
}

TEST(Export, ReadAgainItIsTheSame) {
  const Graph g = qdq_graph();
  const std::string bytes = export_onnx(g);
  const Graph b = again(bytes);
  EXPECT_EQ(export_onnx(b), bytes);
  EXPECT_EQ(b.opset, 13);
  EXPECT_EQ(b.metadata, g.metadata);
  EXPECT_EQ(b.value(b.inputs()[0]).dim_names[0], "batch");
  EXPECT_EQ(*b.value(b.outputs()[0]).shape, (Dims{-1, 3, 4, 4}));
  const Node& wf = b.node(b.find_node("n_wf"));
  EXPECT_EQ(wf.integer("axis", 1), 0);
  EXPECT_EQ(b.constant_input(wf, 0)->type(), DType::s8);
  EXPECT_EQ(b.constant_input(wf, 0)->to_ints(), (std::vector<int64_t>{1, -2, 3, -4, 5, -128}));
  EXPECT_EQ(b.constant_input(b.node(b.find_node("n_bf")), 0)->to_ints()[2], 1 << 30);
}

TEST(Export, EveryKindOfAttributeSurvives) {
  auto m = test::relu_model();
  auto* n = m.mutable_graph()->mutable_node(0);
  n->set_op_type("Odd");
  n->set_domain("far.away");
  test::add_int(n, "i", -7);
  test::add_float(n, "f", 0.1F);
  test::add_ints(n, "is", {1, 2});
  auto* s = n->add_attribute();
  s->set_name("s");
  s->set_type(onnx::AttributeProto::STRING);
  s->set_s("text");
  auto* ss = n->add_attribute();
  ss->set_name("ss");
  ss->set_type(onnx::AttributeProto::STRINGS);
  ss->add_strings("a");
  auto* fl = n->add_attribute();
  fl->set_name("fs");
  fl->set_type(onnx::AttributeProto::FLOATS);
  fl->add_floats(0.3F);
  auto* t = n->add_attribute();
  t->set_name("t");
  t->set_type(onnx::AttributeProto::TENSOR);
  t->mutable_t()->set_data_type(6);
  t->mutable_t()->add_int32_data(5);
  const Graph a = test::import(m), b = again(export_onnx(a));
  const Node& node = b.node(0);
  EXPECT_EQ(node.attributes.size(), 7U);
  EXPECT_EQ(node.integer("i", 0), -7);
  EXPECT_EQ(node.real("f", 0), 0.1F);
  EXPECT_EQ(node.text("s", ""), "text");
  EXPECT_EQ(node.integers("is"), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(node.reals("fs"), (std::vector<float>{0.3F}));
  EXPECT_EQ(std::get<Tensor>(node.attributes.at("t")).to_ints(), (std::vector<int64_t>{5}));
  EXPECT_EQ(node.domain, "far.away");
}

TEST(Export, TheSmallestOpsetThatHoldsEveryNode) {
  Graph g = qdq_graph();
  auto opset = [&](const ExportOptions& o = {}) { return again(export_onnx(g, o)).opset; };
  EXPECT_EQ(opset(), 13);
  g.node(g.find_node("n_q")).since_version = 19;
  EXPECT_EQ(opset(), 19);
  EXPECT_EQ(opset({.opset = 21}), 21);
  EXPECT_THROW(export_onnx(g, {.opset = 18}), Error);
  Node old{.name = "old", .op = "ReduceMean", .since_version = 13, .inputs = {g.outputs()[0]}, .outputs = {g.add_value("o")}};
  g.add_node(old);
  EXPECT_THROW(export_onnx(g), Error) << "one node needs 19, the other ends with 17";
}

// Operators that the opset does not have are written out, with names that follow from the node's, and recognised again.
TEST(Export, NewerOperatorsAreWrittenOut) {
  const auto network = [] {
    Graph g;
    const ValueId x = g.add_value("x", DType::f32, Dims{-1, 4, 6, 5});
    g.set_inputs({x});
    ValueId v = x;
    const auto node = [&](const char* op, int since, std::map<std::string, Attribute> attributes = {}, std::vector<ValueId> more = {}) {
      const ValueId y = g.add_value(std::string(op) + std::to_string(g.node_slots()) + "_out");
      Node n{.name = std::string("n") + std::to_string(g.node_slots()), .op = op, .since_version = since, .inputs = {v}, .outputs = {y}};
      n.inputs.insert(n.inputs.end(), more.begin(), more.end());
      n.attributes = std::move(attributes);
      g.add_node(std::move(n));
      v = y;
    };
    const ValueId scale = g.add_constant("scale", Tensor::of<float>({5}, std::vector<float>{1, 2, 3, 4, 5}));
    const ValueId bias = g.add_constant("bias", Tensor::of<float>({5}, std::vector<float>{5, 4, 3, 2, 1}));
    node("Swish", 24, {{"alpha", 1.0F}});
    node("Swish", 24, {{"alpha", 1.702F}});
    node("Gelu", 20, {{"approximate", std::string("none")}});
    node("Gelu", 20, {{"approximate", std::string("tanh")}});
    node("HardSwish", 14);
    node("Mish", 18);
    node("LayerNormalization", 17, {{"axis", int64_t{-1}}, {"epsilon", 1e-3F}}, {scale, bias});
    node("LayerNormalization", 17, {{"axis", int64_t{3}}}, {scale});
    node("LayerNormalization", 17, {{"axis", int64_t{1}}}, {g.add_constant("all", Tensor::of<float>({4, 6, 5}, std::vector<float>(120, 1.5F)))});
    g.set_outputs({v});
    infer_shapes(g);
    return g;
  };
  const auto ops = [](const Graph& g) {
    std::string s;
    for (NodeId id : g.order()) s += g.node(id).op + " ";
    return s;
  };
  Graph g = network();
  const Graph b = again(export_onnx(g));
  EXPECT_EQ(b.opset, 13);
  for (const char* name : {"n0.Sigmoid", "n0", "n1.scaled", "n2.Erf", "n3.Tanh", "n4.HardSigmoid", "n5.Softplus", "n6.centred", "n6"})
    EXPECT_NE(b.find_node(name), no_node) << name;
  EXPECT_EQ(b.value(b.outputs()[0]).name, g.value(g.outputs()[0]).name);
  EXPECT_EQ(export_onnx(b), export_onnx(again(export_onnx(b))));
  Graph c = b;
  canonicalize(c, {});
  EXPECT_EQ(ops(c), ops(g)) << "read again, they are what they were";
  for (NodeId id : g.order()) {
    const Node &was = g.node(id), &is = c.node(c.find_node(was.name));
    EXPECT_EQ(is.op, was.op);
    EXPECT_NEAR(is.real("alpha", 1), was.real("alpha", 1), 1e-7);
    EXPECT_NEAR(is.real("epsilon", 1e-5F), was.real("epsilon", 1e-5F), 1e-9);
    EXPECT_EQ(is.text("approximate", ""), was.text("approximate", ""));
  }
  const auto has = [&](int64_t opset) {
    std::set<std::string> kept;
    const Graph there = again(export_onnx(g, {.opset = opset}));
    EXPECT_EQ(there.opset, opset);
    for (NodeId id : there.order()) kept.insert(there.node(id).op);
    return kept;
  };
  EXPECT_EQ(has(13).count("HardSwish"), 0U);
  EXPECT_EQ(has(14).count("HardSwish"), 1U);
  EXPECT_EQ(has(16).count("LayerNormalization"), 0U);
  EXPECT_EQ(has(17).count("LayerNormalization"), 1U);
  EXPECT_EQ(has(18).count("Mish"), 1U);
  EXPECT_EQ(has(20).count("Gelu"), 1U);
  EXPECT_EQ(has(23).count("Swish"), 0U);
  EXPECT_EQ(has(24).count("Swish"), 1U);
  // Outputs beside the first have no other spelling.
  Node& n = g.node(g.find_node("n6"));
  const ValueId mean = g.add_value("mean");
  n.outputs.push_back(mean);
  g.value(mean).producer = g.find_node("n6");
  g.set_outputs({g.outputs()[0], mean});
  infer_shapes(g);
  EXPECT_THROW(export_onnx(g, {.opset = 13}), Error);
}

TEST(Export, GroupNormalizationIsWrittenOutAsInstances) {
  Graph g;
  const ValueId x = g.add_value("x", DType::f32, Dims{-1, 4, 3});
  g.set_inputs({x});
  const ValueId scale = g.add_constant("scale", Tensor::of<float>({2}, std::vector<float>{1, 2})), bias = g.add_constant("bias", Tensor::of<float>({2}, std::vector<float>{3, 4}));
  const ValueId y = g.add_value("y");
  Node n{.name = "norm", .op = "GroupNormalization", .since_version = 18, .inputs = {x, scale, bias}, .outputs = {y}};
  n.attributes["num_groups"] = int64_t{2};
  g.add_node(std::move(n));
  g.set_outputs({y});
  infer_shapes(g);
  const Graph b = again(export_onnx(g));
  EXPECT_EQ(b.opset, 13);
  EXPECT_EQ(b.node(b.find_node("norm")).op, "Add");
  EXPECT_EQ(b.constant_input(b.node(b.find_node("norm.scaled")), 1)->to_floats(), (std::vector<float>{1, 1, 2, 2})) << "per channel";
  EXPECT_EQ(*b.value(b.outputs()[0]).shape, (Dims{-1, 4, 3}));
}

TEST(Export, OurOwnDomainStaysInside) {
  Graph g = qdq_graph();
  g.node(0).domain = "quern";
  try {
    export_onnx(g);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::internal);
  }
}

std::string python() {
  const char* p = std::getenv("QUERN_PYTHON");
  return p ? p : "";
}
fs::path source_dir() {
  const char* p = std::getenv("QUERN_SOURCE_DIR");
  return p ? p : ".";
}
int run(const std::string& arguments) {
  const std::string command = python() + " '" + (source_dir() / "tests/onnx/check_with_onnx.py").string() + "' " + arguments;
  return std::system(command.c_str());
}
std::string quoted(const fs::path& p) { return " '" + p.string() + "'"; }

struct TempFile {
  fs::path path;
  explicit TempFile(const std::string& name)
      : path(fs::path(::testing::TempDir()) / ("quern_export_" + std::to_string(::getpid()) + "_" + name)) {}
  ~TempFile() { fs::remove(path); }
};

TEST(Export, PassesTheOfficialChecker) {
  if (python().empty()) GTEST_SKIP() << "QUERN_PYTHON is not set";
  TempFile file("qdq.onnx");
  write_file(file.path, std::string_view(export_onnx(qdq_graph())));
  EXPECT_EQ(run("check" + quoted(file.path)), 0);
}

// x + w, with weights large enough to be written apart.
Graph large_graph(int64_t count) {
  Graph g;
  const ValueId x = g.add_value("x", DType::f32, Dims{-1, count});
  Tensor w(DType::f32, {count}), v(DType::f32, {count});
  for (int64_t i = 0; i < count; ++i) w.mutable_values<float>()[static_cast<size_t>(i)] = static_cast<float>(i);
  const ValueId mid = g.add_value("mid"), y = g.add_value("y");
  g.add_node({.name = "add", .domain = "", .op = "Add", .since_version = 14, .inputs = {x, g.add_constant("w", w)}, .outputs = {mid}});
  g.add_node({.name = "mul", .domain = "", .op = "Mul", .since_version = 14, .inputs = {mid, g.add_constant("v", v)}, .outputs = {y}});
  g.set_inputs({x});
  g.set_outputs({y});
  infer_shapes(g);
  return g;
}

TEST(Export, AFileWrittenInPartsIsTheSameModel) {
  for (const int64_t count : {int64_t{5}, int64_t{40000}}) {
    const Graph g = large_graph(count);
    TempFile file("parts.onnx");
    write_onnx(g, file.path);
    EXPECT_EQ(export_onnx(import_onnx(file.path)), export_onnx(again(export_onnx(g))));
    EXPECT_FALSE(fs::exists(file.path.string() + ".data"));
    if (!python().empty()) { EXPECT_EQ(run("check" + quoted(file.path)), 0); }
  }
}

TEST(Export, BeyondTheLimitWeightsLieBesideTheModel) {
  const Graph g = large_graph(40000);
  TempFile file("large.onnx"), data("large.onnx.data");
  ExportOptions options;
  options.external_above = 300000;  // the two have 320,000
  EXPECT_THROW(export_onnx(g, options), Error);
  write_onnx(g, file.path, options);
  EXPECT_LT(fs::file_size(file.path), 2000u);
  EXPECT_GE(fs::file_size(data.path), 320000u);
  const Graph back = import_onnx(file.path);
  EXPECT_EQ(export_onnx(back), export_onnx(again(export_onnx(g))));
  // Mapped, not copied: every tensor begins on a page of the file.
  for (const char* name : {"v", "w"}) EXPECT_EQ(reinterpret_cast<uintptr_t>(back.value(back.find_value(name)).constant->data()) % 4096, 0u);
  if (!python().empty()) { EXPECT_EQ(run("check" + quoted(file.path)), 0); }
  fs::resize_file(data.path, 200000);
  try {
    import_onnx(file.path);
    FAIL() << "read a model whose data is cut off";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("large.onnx.data"), std::string::npos) << e.what();
  }
}

struct Network {
  const char* path;
  Dims output;  // of the first output, as declared or inferred
};
void PrintTo(const Network& n, std::ostream* out) { *out << n.path; }
const Network networks[]{
    {"ae_mnist100/model.onnx", {-1, 100}},         {"dtln_denoise/model_1.onnx", {1, 1, 257}},
    {"dtln_denoise/model_2.onnx", {1, 1, 512}},    {"fastestdet_coco/model.onnx", {1, 85, 22, 22}},
    {"gru_spoken_digits/model.onnx", {1, 10}},     {"kws_dscnn/model.onnx", {-1, 12}},
    {"mnv2_signs/model.onnx", {-1, 10}},           {"mnv2_signs/model_stretched.onnx", {-1, 10}},
    {"tinyvit_mnist/model.onnx", {1, 10}},         {"unet_nuclei/model.onnx", {-1, 1, 128, 128}},
    {"vww_mobilenetv1/model.onnx", {-1, 2}},
};

class Networks : public ::testing::TestWithParam<Network> {
 protected:
  void SetUp() override {
    model = source_dir() / ".." / "shared" / "models" / GetParam().path;
    if (!fs::exists(model)) GTEST_SKIP() << "the shared models are not here";
  }
  fs::path model;
};

// Every value has a type and a shape, and they are those that onnx infers.
TEST_P(Networks, ShapesAreInferred) {
  const Graph g = import_onnx(model);
  EXPECT_EQ(*g.value(g.outputs()[0]).shape, GetParam().output);
  std::string table;
  for (size_t i = 0; i < g.value_slots(); ++i) {
    const Value& v = g.value(static_cast<ValueId>(i));
    ASSERT_TRUE(v.shape) << v.name;
    ASSERT_NE(v.dtype, DType::undefined) << v.name;
    if (v.is_constant()) continue;
    EXPECT_LE(std::count(v.shape->begin(), v.shape->end(), -1), 1) << v.name;
    table += v.name + "\t" + std::to_string(static_cast<int>(v.dtype)) + "\t";
    for (int64_t d : *v.shape) table += std::to_string(d) + ",";
    table += "\n";
  }
  // Known batch: nothing is left open.
  std::map<std::string, Dims> given;
  for (ValueId id : g.inputs()) {
    Dims d = *g.value(id).shape;
    for (int64_t& n : d) n = n < 0 ? 3 : n;
    given[g.value(id).name] = d;
  }
  const ShapeTable known = shapes_for(g, given);
  for (NodeId id : g.order())
    for (ValueId v : g.node(id).outputs) EXPECT_NO_THROW(element_count(*known.dims[static_cast<size_t>(v)])) << g.value(v).name;
  if (python().empty()) GTEST_SKIP() << "QUERN_PYTHON is not set: not compared with onnx";
  TempFile file("shapes.txt");
  write_file(file.path, std::string_view(table));
  EXPECT_EQ(run("shapes" + quoted(model) + quoted(file.path) + " > /dev/null"), 0);
}

// Written and read again; rewritten; checked and run by others.
TEST_P(Networks, SurviveRewritingAndWriting) {
  Graph g = import_onnx(model);
  const std::string first = export_onnx(g);
  EXPECT_EQ(export_onnx(again(first)), first);
  canonicalize(g, {});
  g.check();
  for (NodeId id : g.order()) EXPECT_NE(g.node(id).op, std::string("Identity"));
  const std::string second = export_onnx(g);
  if (python().empty()) GTEST_SKIP() << "QUERN_PYTHON is not set: not run elsewhere";
  TempFile file("rewritten.onnx");
  write_file(file.path, std::string_view(second));
  EXPECT_EQ(run("same" + quoted(model) + quoted(file.path)), 0);
}

INSTANTIATE_TEST_SUITE_P(All, Networks, ::testing::ValuesIn(networks), [](const auto& info) {
  std::string name = info.param.path;
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
});

}  // namespace
}  // namespace quern
