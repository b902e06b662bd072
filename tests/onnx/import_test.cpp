#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <random>

#include "core/base/digest.hpp"
#include "core/base/files.hpp"
#include "tests/onnx/models.hpp"

namespace quern {
namespace {

using test::refusal;

#define EXPECT_REFUSED(model, words)                                            \
  do {                                                                          \
    const std::string text = refusal(model);                                    \
    EXPECT_NE(text.find(words), std::string::npos) << "got: " << text;          \
  } while (false)

std::string bytes_refusal(const std::string& bytes) {
  return refusal([&] { import_onnx_bytes(std::as_bytes(std::span(bytes.data(), bytes.size())), "test.onnx"); });
}

struct Folder {
  fs::path path = fs::path(::testing::TempDir()) / ("quern_import_" + std::to_string(::getpid()) + "_" +
                                                    ::testing::UnitTest::GetInstance()->current_test_info()->name());
  Folder() { fs::remove_all(path), fs::create_directories(path); }
  ~Folder() { fs::remove_all(path); }
};

TEST(Import, AGraphWithNamesShapesAndMetadata) {
  auto m = test::relu_model();
  auto* p = m.add_metadata_props();
  p->set_key("who");
  p->set_value("me");
  const Graph g = test::import(m);
  EXPECT_EQ(g.name, "g");
  EXPECT_EQ(g.opset, 13);
  EXPECT_EQ(g.metadata.at("who"), "me");
  EXPECT_EQ(g.value(g.inputs()[0]).dim_names, (std::vector<std::string>{"N", ""}));
  EXPECT_EQ(*g.value(g.outputs()[0]).shape, (Dims{-1, 2}));
  EXPECT_EQ(g.value(g.outputs()[0]).dtype, DType::f32);
  EXPECT_EQ(g.node(0).origin, (std::vector<std::string>{"relu"}));
}

TEST(Import, NodesWithoutOrWithEqualNames) {
  auto m = test::empty_model();
  test::describe(m.mutable_graph()->add_input(), "x", {2});
  test::describe(m.mutable_graph()->add_output(), "c", {2});
  test::add_node(m, "Relu", {"x"}, {"a"});
  test::add_node(m, "Relu", {"a"}, {"b"}, "same");
  test::add_node(m, "Relu", {"b"}, {"c"}, "same");
  const Graph g = test::import(m);
  EXPECT_EQ(g.node(0).name, "a") << "named after what it makes";
  EXPECT_EQ(g.node(1).name, "same");
  EXPECT_EQ(g.node(2).name, "same_1");
}

TEST(Import, InitializersThatAreAlsoInputsAreConstants) {
  auto m = test::relu_model();
  test::describe(m.mutable_graph()->add_input(), "w", {2});
  test::add_floats(m, "w", {2}, {1, 2});
  const Graph g = test::import(m);
  EXPECT_EQ(g.inputs().size(), 1U);
  EXPECT_TRUE(g.value(g.find_value("w")).is_constant());
}

TEST(Import, EveryTypedField) {
  auto m = test::relu_model();
  auto add = [&](const char* name, int type) {
    auto* t = m.mutable_graph()->add_initializer();
    t->set_name(name);
    t->set_data_type(type);
    t->add_dims(2);
    return t;
  };
  auto* f = add("f", onnx::TensorProto::FLOAT); f->add_float_data(1.5F); f->add_float_data(-2);
  auto* d = add("d", onnx::TensorProto::DOUBLE); d->add_double_data(0.1); d->add_double_data(2);
  auto* i = add("i", onnx::TensorProto::INT64); i->add_int64_data(INT64_MIN); i->add_int64_data(7);
  auto* u = add("u", onnx::TensorProto::UINT64); u->add_uint64_data(UINT64_MAX); u->add_uint64_data(7);
  auto* u32 = add("u32", onnx::TensorProto::UINT32); u32->add_uint64_data(UINT32_MAX); u32->add_uint64_data(7);
  for (auto [name, type] : std::initializer_list<std::pair<const char*, int>>{{"s8", 3}, {"u8", 2}, {"s16", 5}, {"u16", 4}, {"s32", 6}, {"b", 9}, {"h", 10}, {"bf", 16}}) {
    auto* t = add(name, type);
    t->add_int32_data(type == 3 || type == 5 || type == 6 ? -5 : 5);
    t->add_int32_data(1);
  }
  auto* raw = add("raw", onnx::TensorProto::BOOL); raw->set_raw_data(std::string("\x00\x07", 2));
  const Graph g = test::import(m);
  auto constant = [&](const char* name) -> const Tensor& { return *g.value(g.find_value(name)).constant; };
  EXPECT_EQ(constant("f").to_floats(), (std::vector<float>{1.5F, -2}));
  EXPECT_EQ(constant("d").values<double>()[0], 0.1);
  EXPECT_EQ(constant("i").to_ints(), (std::vector<int64_t>{INT64_MIN, 7}));
  EXPECT_EQ(constant("u").values<uint64_t>()[0], UINT64_MAX);
  EXPECT_EQ(constant("u32").values<uint32_t>()[0], UINT32_MAX);
  for (const char* name : {"s8", "s16", "s32"}) EXPECT_EQ(constant(name).to_ints()[0], -5) << name;
  for (const char* name : {"u8", "u16"}) EXPECT_EQ(constant(name).to_ints()[0], 5) << name;
  EXPECT_EQ(constant("b").to_ints(), (std::vector<int64_t>{1, 1})) << "a truth value is 0 or 1";
  EXPECT_EQ(constant("raw").to_ints(), (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(constant("h").values<uint16_t>()[0], 5);
  EXPECT_EQ(constant("bf").type(), DType::bf16);
}

TEST(Import, ConstantNodesBecomeConstants) {
  auto m = test::relu_model();
  // Behind its user, which ONNX forbids and files have.
  auto* n = test::add_node(m, "Constant", {}, {"k"}, "const");
  test::add_ints(n, "value_ints", {1, 2});
  test::add_node(m, "Relu", {"k"}, {"z"}, "on_constant");
  const Graph g = test::import(m);
  EXPECT_EQ(g.find_node("const"), no_node);
  EXPECT_EQ(g.value(g.find_value("k")).constant->to_ints(), (std::vector<int64_t>{1, 2}));
}

TEST(Import, NanInWeightsIsReportedNotRefused) {
  auto m = test::relu_model();
  test::add_floats(m, "w", {2}, {NAN, 1});
  EXPECT_EQ(non_finite_constants(test::import(m)), (std::vector<std::string>{"w"}));
}

TEST(Import, NotAModel) {
  EXPECT_NE(bytes_refusal("").find("is empty"), std::string::npos);
  EXPECT_NE(bytes_refusal("This is a text file about networks.\n").find("not an ONNX model"), std::string::npos);
  EXPECT_NE(bytes_refusal(std::string(100, '\0')).find("not an ONNX model"), std::string::npos);
  onnx::ModelProto only_version;
  only_version.set_ir_version(8);
  EXPECT_REFUSED(only_version, "holds no graph");
  auto no_output = test::relu_model();
  no_output.mutable_graph()->clear_output();
  EXPECT_REFUSED(no_output, "no outputs");
  try {
    import_onnx("/nonexistent/model.onnx");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::io);
  }
}

TEST(Import, EveryTruncationIsOneClearError) {
  auto m = test::relu_model();
  test::add_floats(m, "w", {4}, {1, 2, 3, 4});
  const std::string whole = m.SerializeAsString();
  int accepted = 0;
  for (size_t n = 0; n < whole.size(); ++n) {
    const std::string text = bytes_refusal(whole.substr(0, n));
    accepted += text == "accepted";
    EXPECT_EQ(text.find("not an Error"), std::string::npos) << n << ": " << text;
    EXPECT_EQ(text.find("another kind"), std::string::npos) << n << ": " << text;
  }
  // Cut behind the graph, only the opset is missing or nothing is.
  EXPECT_LE(accepted, 1);
}

TEST(Import, RandomAndFlippedBytesNeverCrash) {
  std::mt19937 random(7);
  auto m = test::relu_model();
  test::add_floats(m, "w", {4}, {1, 2, 3, 4});
  auto* conv = test::add_node(m, "Conv", {"x", "w"}, {"z"}, "conv");
  test::add_ints(conv, "pads", {0, 0, 1, 1});
  const std::string whole = m.SerializeAsString();
  for (int round = 0; round < 3000; ++round) {
    std::string bytes = whole;
    if (round % 3 == 0) {
      bytes.resize(random() % 200);
      for (char& c : bytes) c = static_cast<char>(random());
    } else {
      for (int k = 0; k < 1 + round % 5; ++k) bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    const std::string text = bytes_refusal(bytes);
    EXPECT_EQ(text.find("not an Error"), std::string::npos) << text;
    EXPECT_EQ(text.find("another kind"), std::string::npos) << text;
  }
}

TEST(Import, HugeAndNegativeDimensions) {
  for (std::vector<int64_t> dims : {std::vector<int64_t>{int64_t{1} << 40, int64_t{1} << 40}, {INT64_MAX}, {int64_t{1} << 33}}) {
    auto m = test::relu_model();
    auto* t = test::add_floats(m, "w", {1}, {1});
    t->clear_dims();
    for (int64_t d : dims) t->add_dims(d);
    const std::string text = refusal(m);
    EXPECT_NE(text.find("initializer 'w'"), std::string::npos) << text;
  }
  auto negative = test::relu_model();
  test::add_floats(negative, "w", {1}, {1})->set_dims(0, -1);
  EXPECT_REFUSED(negative, "negative dimension");
  auto input = test::relu_model();
  input.mutable_graph()->mutable_input(0)->mutable_type()->mutable_tensor_type()->mutable_shape()->mutable_dim(1)->set_dim_value(INT64_MAX);
  EXPECT_REFUSED(input, "graph input 'x'");
}

TEST(Import, DataThatDoesNotFitItsShape) {
  auto m = test::relu_model();
  test::add_floats(m, "w", {3}, {1, 2});
  EXPECT_REFUSED(m, "needs 12 bytes, but it holds 8");
  auto typed = test::relu_model();
  auto* t = typed.mutable_graph()->add_initializer();
  t->set_name("w");
  t->set_data_type(1);
  t->add_dims(2);
  t->add_float_data(1);
  EXPECT_REFUSED(typed, "float_data holds 1");
  auto none = test::relu_model();
  none.mutable_graph()->add_initializer()->CopyFrom(*t);
  none.mutable_graph()->mutable_initializer(0)->clear_float_data();
  EXPECT_REFUSED(none, "float_data holds 0");
  auto range = test::relu_model();
  auto* r = range.mutable_graph()->add_initializer();
  r->set_name("w");
  r->set_data_type(onnx::TensorProto::INT8);
  r->add_dims(1);
  r->add_int32_data(200);
  EXPECT_REFUSED(range, "200");
}

TEST(Import, TypesThatAreNotSupported) {
  for (auto [type, word] : std::initializer_list<std::pair<int, const char*>>{
           {17, "FLOAT8E4M3FN"}, {22, "INT4"}, {8, "STRING"}, {14, "COMPLEX64"}, {77, "number 77"}, {0, "UNDEFINED"}, {-1, "number -1"}}) {
    auto m = test::relu_model();
    test::add_floats(m, "w", {1}, {1})->set_data_type(type);
    EXPECT_REFUSED(m, word);
    if (type <= 0) continue;
    auto input = test::relu_model();
    input.mutable_graph()->mutable_input(0)->mutable_type()->mutable_tensor_type()->set_elem_type(type);
    EXPECT_REFUSED(input, word);
  }
  auto sequence = test::relu_model();
  sequence.mutable_graph()->mutable_input(0)->mutable_type()->mutable_sequence_type();
  EXPECT_REFUSED(sequence, "only tensors");
}

TEST(Import, NamesTwice) {
  auto twice = test::relu_model();
  test::add_node(twice, "Relu", {"x"}, {"y"}, "second");
  EXPECT_REFUSED(twice, "node 'second': value 'y' is made twice");
  auto over_input = test::relu_model();
  test::add_node(over_input, "Relu", {"y"}, {"x"}, "second");
  EXPECT_REFUSED(over_input, "'x' is made twice");
  auto initializers = test::relu_model();
  test::add_floats(initializers, "w", {1}, {1});
  test::add_floats(initializers, "w", {1}, {1});
  EXPECT_REFUSED(initializers, "two initializers are called 'w'");
  auto inputs = test::relu_model();
  test::describe(inputs.mutable_graph()->add_input(), "x", {2});
  EXPECT_REFUSED(inputs, "two graph inputs are called 'x'");
  auto attributes = test::relu_model();
  test::add_int(attributes.mutable_graph()->mutable_node(0), "a", 1);
  test::add_int(attributes.mutable_graph()->mutable_node(0), "a", 2);
  EXPECT_REFUSED(attributes, "attribute 'a' is given twice");
}

TEST(Import, DanglingAndCyclic) {
  auto dangling = test::relu_model();
  dangling.mutable_graph()->mutable_node(0)->set_input(0, "nobody");
  EXPECT_REFUSED(dangling, "node 'relu': value 'nobody'");
  auto output = test::relu_model();
  output.mutable_graph()->mutable_output(0)->set_name("nobody");
  EXPECT_REFUSED(output, "'nobody'");
  auto cycle = test::relu_model();
  cycle.mutable_graph()->mutable_node(0)->set_input(0, "z");
  test::add_node(cycle, "Relu", {"y"}, {"z"}, "back");
  EXPECT_REFUSED(cycle, "cycle");
  auto self = test::relu_model();
  self.mutable_graph()->mutable_node(0)->set_input(0, "y");
  EXPECT_REFUSED(self, "node 'relu': the graph has a cycle");
}

TEST(Import, ShapesThatDoNotFitNameTheNode) {
  auto m = test::relu_model();
  auto* n = m.mutable_graph()->mutable_node(0);
  n->set_op_type("MatMul");
  n->add_input("w");
  test::add_floats(m, "w", {3, 1}, {1, 2, 3});
  EXPECT_REFUSED(m, "node 'relu': MatMul: inputs of shape [?,2] and [3,1] do not fit together");
}

TEST(Import, FunctionsAndOddAttributes) {
  auto function = test::relu_model();
  function.mutable_graph()->mutable_node(0)->set_domain("local");
  auto* f = function.add_functions();
  f->set_domain("local");
  f->set_name("Relu");
  EXPECT_REFUSED(function, "function of the model file");
  auto sparse = test::relu_model();
  sparse.mutable_graph()->add_sparse_initializer();
  EXPECT_REFUSED(sparse, "sparse");
  auto graphs = test::relu_model();
  auto* a = graphs.mutable_graph()->mutable_node(0)->add_attribute();
  a->set_name("many");
  a->set_type(onnx::AttributeProto::GRAPHS);
  EXPECT_REFUSED(graphs, "attribute 'many'");
  auto nothing = test::relu_model();
  test::add_node(nothing, "Softmax", {"x"}, {}, "useless");
  EXPECT_REFUSED(nothing, "node 'useless': Softmax: has no outputs");
  auto reference = test::relu_model();
  reference.mutable_graph()->mutable_node(0)->add_attribute()->set_ref_attr_name("outer");
  EXPECT_REFUSED(reference, "refers to an attribute of a function");
  // An operator we don't know only has to be listed: its graphs do not matter.
  auto loop = test::relu_model();
  loop.mutable_graph()->mutable_node(0)->set_op_type("Loop");
  auto* body = loop.mutable_graph()->mutable_node(0)->add_attribute();
  body->set_name("body");
  body->set_type(onnx::AttributeProto::GRAPH);
  EXPECT_EQ(test::import(loop).node(0).since_version, 0);
}

TEST(Import, BranchesOfAnIfTakeWhatIsAroundThem) {
  auto m = test::empty_model();
  auto* g = m.mutable_graph();
  test::describe(g->add_input(), "x", {2});
  test::describe(g->add_input(), "c", {}, 9);
  test::describe(g->add_output(), "y", {2});
  auto* n = test::add_node(m, "If", {"c"}, {"y"}, "if");
  for (const char* key : {"then_branch", "else_branch"}) {
    auto* a = n->add_attribute();
    a->set_name(key);
    a->set_type(onnx::AttributeProto::GRAPH);
    auto* node = a->mutable_g()->add_node();
    node->set_op_type(key[0] == 't' ? "Relu" : "Neg");
    node->add_input("x");
    node->add_output("inner");
    test::describe(a->mutable_g()->add_output(), "inner", {2});
  }
  const Graph graph = test::import(m);
  const Node& node = graph.node(0);
  ASSERT_EQ(node.inputs.size(), 2U);
  EXPECT_EQ(graph.value(node.inputs[1]).name, "x");
  const auto& branch = *std::get<std::shared_ptr<const Graph>>(node.attributes.at("then_branch"));
  EXPECT_EQ(branch.value(branch.inputs()[0]).name, "x");
  // Written again, the branches reach out as before.
  const Graph again = [&] {
    const std::string bytes = export_onnx(graph);
    return import_onnx_bytes(std::as_bytes(std::span(bytes.data(), bytes.size())), "again");
  }();
  EXPECT_EQ(again.node(0).inputs.size(), 2U);
  n->mutable_attribute(0)->mutable_g()->mutable_node(0)->set_input(0, "nobody");
  EXPECT_REFUSED(m, "'nobody'");
}

onnx::ModelProto external_model(const std::string& location, std::vector<int64_t> dims = {4}) {
  auto m = test::relu_model();
  auto* t = m.mutable_graph()->add_initializer();
  t->set_name("w");
  t->set_data_type(1);
  for (int64_t d : dims) t->add_dims(d);
  t->set_data_location(onnx::TensorProto::EXTERNAL);
  auto* e = t->add_external_data();
  e->set_key("location");
  e->set_value(location);
  return m;
}
void entry(onnx::ModelProto& m, const std::string& key, const std::string& value) {
  auto* e = m.mutable_graph()->mutable_initializer(0)->add_external_data();
  e->set_key(key);
  e->set_value(value);
}

TEST(Import, ExternalDataIsMapped) {
  Folder folder;
  std::vector<float> data(40000);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<float>(i);
  fs::create_directory(folder.path / "sub");
  write_file(folder.path / "sub" / "w.bin", std::as_bytes(std::span(data)));
  auto m = external_model("sub/w.bin", {30000});
  entry(m, "offset", "4096");
  entry(m, "length", "120000");
  {
    const Graph g = test::import(m, folder.path);
    const Tensor& w = *g.value(g.find_value("w")).constant;
    EXPECT_EQ(w.values<float>()[0], 1024.0F);
    EXPECT_EQ(w.values<float>()[29999], 31023.0F);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(w.data()) % 4096, 0U) << "looked at in the mapped file, not copied";
  }
  // An offset that no float can lie at: copied instead.
  auto odd = external_model("sub/w.bin", {30000});
  entry(odd, "offset", "4097");
  const Graph copied = test::import(odd, folder.path);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(copied.value(copied.find_value("w")).constant->data()) % 4, 0U);
  // Through the file itself.
  write_file(folder.path / "model.onnx", std::string_view(m.SerializeAsString()));
  EXPECT_EQ(import_onnx(folder.path / "model.onnx").find_value("w") != no_value, true);
}

// The same network with other weights is another model, wherever its weights lie.
TEST(Import, TheDigestCoversExternalData) {
  Folder folder;
  std::vector<float> data(40000, 0.5F);
  const auto digest = [&](const onnx::ModelProto& m) {
    write_file(folder.path / "model.onnx", std::string_view(m.SerializeAsString()));
    write_file(folder.path / "w.bin", std::as_bytes(std::span(data)));
    std::string out;
    import_onnx(folder.path / "model.onnx", {.refuse_unknown = false, .digest = &out});
    return out;
  };
  const auto inside = test::relu_model();
  EXPECT_EQ(digest(inside), sha256(std::string_view(inside.SerializeAsString()))) << "without external data: that of the file";
  const auto outside = external_model("w.bin", {30000});
  const std::string first = digest(outside);
  EXPECT_EQ(first.size(), 64U);
  EXPECT_NE(first, sha256(std::string_view(outside.SerializeAsString())));
  EXPECT_EQ(digest(outside), first);
  write_file(folder.path / "other.bin", std::string_view("not used"));
  EXPECT_EQ(digest(outside), first);
  data[29999] = 0.25F;
  EXPECT_NE(digest(outside), first);
}

TEST(Import, ExternalDataBeyondFourGigabytes) {
  // A file with a hole: no disk is used.
  Folder folder;
  constexpr uint64_t offset = uint64_t{5} << 30;
  const std::vector<float> tail(30000, 2.5F);
  {
    std::ofstream out(folder.path / "w.bin", std::ios::binary);
    out.seekp(static_cast<std::streamoff>(offset));
    out.write(reinterpret_cast<const char*>(tail.data()), static_cast<std::streamsize>(tail.size() * sizeof(float)));
    if (!out) GTEST_SKIP() << "this file system takes no file of 5 GB with a hole";
  }
  auto m = external_model("w.bin", {30000});
  entry(m, "offset", std::to_string(offset));
  const Graph g = test::import(m, folder.path);
  EXPECT_EQ(g.value(g.find_value("w")).constant->values<float>()[29999], 2.5F);
  auto beyond = external_model("w.bin", {30000});
  entry(beyond, "offset", std::to_string(offset + 4));
  EXPECT_NE(refusal(beyond, folder.path).find("'w.bin'"), std::string::npos);
  auto wrapped = external_model("w.bin", {30000});
  entry(wrapped, "offset", "18446744073709551612");
  EXPECT_FALSE(refusal(wrapped, folder.path).empty());
}

TEST(Import, ExternalDataStaysInItsFolder) {
  Folder folder;
  write_file(folder.path / "w.bin", std::string_view("0123456789abcdef"));
  fs::create_directory(folder.path / "model");
  write_file(folder.path / "model" / "inside.bin", std::string_view("0123456789abcdef"));
  fs::create_symlink(folder.path / "w.bin", folder.path / "model" / "leaves.bin");
  fs::create_symlink("inside.bin", folder.path / "model" / "stays.bin");
  fs::create_directory_symlink(folder.path, folder.path / "model" / "up");
  const fs::path home = folder.path / "model";
  auto text = [&](const std::string& location) { return refusal(external_model(location), home); };
  EXPECT_EQ(text("inside.bin"), "accepted");
  EXPECT_EQ(text("stays.bin"), "accepted");
  EXPECT_NE(text("../w.bin").find("leads out of the model's folder"), std::string::npos);
  EXPECT_NE(text("sub/../../w.bin").find("leads out of the model's folder"), std::string::npos);
  EXPECT_NE(text((folder.path / "w.bin").string()).find("absolute path"), std::string::npos);
  EXPECT_NE(text("leaves.bin").find("leads out of the model's folder"), std::string::npos);
  EXPECT_NE(text("up/w.bin").find("leads out of the model's folder"), std::string::npos);
  EXPECT_NE(text("missing.bin").find("no file 'missing.bin'"), std::string::npos);
  EXPECT_NE(text("").find("not the name of a file"), std::string::npos);
  EXPECT_NE(text(".").find("not a regular file"), std::string::npos);
  EXPECT_NE(text(std::string("inside.bin\0x", 12)).find("not the name of a file"), std::string::npos);
  EXPECT_NE(refusal(external_model("inside.bin")).find("not read from a folder"), std::string::npos);
}

TEST(Import, ExternalDataSizesAreChecked) {
  Folder folder;
  write_file(folder.path / "w.bin", std::string_view("0123456789abcdef"));
  auto text = [&](std::vector<std::pair<std::string, std::string>> entries, std::vector<int64_t> dims = {4}) {
    auto m = external_model("w.bin", dims);
    for (auto& [k, v] : entries) entry(m, k, v);
    return refusal(m, folder.path);
  };
  EXPECT_EQ(text({}), "accepted");
  EXPECT_NE(text({}, {5}).find("outside the file of 16 bytes"), std::string::npos);
  EXPECT_NE(text({}, {int64_t{1} << 40}).find("outside the file"), std::string::npos) << "before memory is taken";
  EXPECT_NE(text({{"offset", "4"}}).find("outside the file"), std::string::npos);
  EXPECT_NE(text({{"offset", "9223372036854775807"}}).find("outside the file"), std::string::npos);
  EXPECT_NE(text({{"offset", "-4"}}).find("not a number"), std::string::npos);
  EXPECT_NE(text({{"offset", "99999999999999999999999"}}).find("not a number"), std::string::npos);
  EXPECT_NE(text({{"length", "12"}}).find("said to have 12"), std::string::npos);
}

TEST(Import, SingleTensors) {
  Folder folder;
  onnx::TensorProto t;
  t.set_name("input_0");
  t.set_data_type(1);
  t.add_dims(2);
  t.add_float_data(1);
  t.add_float_data(2);
  write_file(folder.path / "t.pb", std::string_view(t.SerializeAsString()));
  std::string name;
  EXPECT_EQ(read_onnx_tensor(folder.path / "t.pb", &name).to_floats(), (std::vector<float>{1, 2}));
  EXPECT_EQ(name, "input_0");
  write_file(folder.path / "bad.pb", std::string_view("\xff\xff\xff"));
  EXPECT_NE(refusal([&] { read_onnx_tensor(folder.path / "bad.pb"); }).find("not an ONNX tensor"), std::string::npos);
}

TEST(Import, AFileOverTwoGigabytesIsToldWhatToDo) {
  Folder folder;
  const fs::path big = folder.path / "big.onnx";
  write_file(big, std::string_view("\x08\x08"));
  fs::resize_file(big, (uint64_t{2} << 30) + 4096);  // sparse: takes no room
  const std::string text = refusal([&] { import_onnx(big); });
  EXPECT_NE(text.find("2 GB"), std::string::npos) << text;
  EXPECT_NE(text.find("external data"), std::string::npos) << text;
}

}  // namespace
}  // namespace quern
