#include "core/graph/shapes.hpp"

#include <gtest/gtest.h>

#include <functional>

#include "core/base/error.hpp"

namespace quern {
namespace {

struct In {
  DType type = DType::f32;
  std::optional<Dims> dims;
  std::optional<Tensor> data;
};
In f(Dims d) { return {DType::f32, std::move(d), {}}; }
In c(std::vector<int64_t> v) { return {DType::s64, Dims{static_cast<int64_t>(v.size())}, Tensor::of<int64_t>({static_cast<int64_t>(v.size())}, v)}; }
In fc(std::vector<float> v) { return {DType::f32, Dims{static_cast<int64_t>(v.size())}, Tensor::of<float>({static_cast<int64_t>(v.size())}, v)}; }
In none() { return {DType::undefined, {}, {}}; }

using Attributes = std::map<std::string, Attribute>;
using L = std::vector<int64_t>;

// Shapes of the outputs of one node.
std::vector<KnownTensor> infer(const std::string& op, const std::vector<In>& inputs, Attributes attributes = {}, size_t outputs = 1,
                               int since = 13) {
  Graph g;
  Node n{.name = "it", .op = op, .since_version = since};
  n.attributes = std::move(attributes);
  std::vector<KnownTensor> known;
  std::vector<ValueId> ids;
  for (const In& in : inputs) {
    const bool absent = in.type == DType::undefined;
    n.inputs.push_back(absent ? no_value : g.add_value(""));
    known.push_back({in.type, in.dims, in.data ? &*in.data : nullptr, nullptr});
  }
  for (size_t i = 0; i < outputs; ++i) n.outputs.push_back(g.add_value(""));
  const ShapeRule* rule = find_shape_rule("", op);
  if (!rule) throw std::runtime_error("no rule for " + op);
  return (*rule)(n, known);
}
Dims shape(const std::string& op, const std::vector<In>& inputs, Attributes a = {}, int since = 13) {
  auto out = infer(op, inputs, std::move(a), 1, since);
  return out.at(0).dims ? *out[0].dims : Dims{-99};
}

TEST(Shapes, Convolution) {
  const Attributes pads{{"pads", L{1, 1, 1, 1}}, {"strides", L{2, 2}}};
  EXPECT_EQ(shape("Conv", {f({-1, 3, 32, 32}), f({8, 3, 3, 3})}, pads), (Dims{-1, 8, 16, 16}));
  EXPECT_EQ(shape("Conv", {f({1, 3, -1, 32}), f({8, 3, 3, 3}), f({8})}, pads), (Dims{1, 8, -1, 16}));
  EXPECT_EQ(shape("Conv", {f({1, 4, 10}), f({6, 2, 3})}, {{"group", int64_t{2}}, {"dilations", L{2}}}), (Dims{1, 6, 6}));
  EXPECT_EQ(shape("Conv", {f({1, 1, 5, 5}), f({1, 1, 2, 2})}, {{"auto_pad", std::string("SAME_UPPER")}, {"strides", L{2, 2}}}), (Dims{1, 1, 3, 3}));
  EXPECT_EQ(shape("Conv", {f({1, 2, 4, 5, 6}), f({3, 2, 1, 2, 3})}), (Dims{1, 3, 4, 4, 4}));
  EXPECT_THROW(shape("Conv", {f({1, 4, 8, 8}), f({8, 3, 3, 3})}), Error);                       // channels
  EXPECT_THROW(shape("Conv", {f({1, 3, 2, 2}), f({8, 3, 3, 3})}), Error);                       // window too large
  EXPECT_THROW(shape("Conv", {f({1, 3, 8, 8}), f({8, 3, 3, 3}), f({7})}), Error);               // bias
  EXPECT_THROW(shape("Conv", {f({1, 3, 8, 8}), f({8, 3, 3, 3})}, {{"strides", L{0, 1}}}), Error);
  EXPECT_THROW(shape("Conv", {f({1, 3, 8, 8}), f({8, 3, 3, 3})}, {{"pads", L{1, 1}}}), Error);
  EXPECT_THROW(shape("Conv", {f({1, 3, 8, 8}), f({8, 3, 3, 3})}, {{"auto_pad", std::string("ALL")}}), Error);
  EXPECT_THROW(shape("Conv", {f({1, 3, 8, 8})}), Error);
  EXPECT_EQ(shape("ConvTranspose", {f({1, 4, 8, 8}), f({4, 2, 2, 2})}, {{"strides", L{2, 2}}}), (Dims{1, 2, 16, 16}));
  EXPECT_EQ(shape("ConvTranspose", {f({1, 4, 3, 3}), f({4, 1, 3, 3})},
                  {{"strides", L{3, 2}}, {"pads", L{0, 1, 0, 1}}, {"output_padding", L{1, 1}}, {"group", int64_t{2}}}), (Dims{1, 2, 10, 6}));
  EXPECT_EQ(shape("ConvTranspose", {f({1, 1, 3, 3}), f({1, 2, 3, 3})}, {{"strides", L{3, 2}}, {"output_shape", L{10, 8}}}), (Dims{1, 2, 10, 8}));
}

TEST(Shapes, SamePaddingPutsTheOddOneWhereTheModeSays) {
  Node n{.name = "p", .op = "MaxPool"};
  n.attributes = {{"kernel_shape", L{2, 2}}, {"auto_pad", std::string("SAME_LOWER")}};
  const Window w = pool_window(n, Dims{1, 1, 4, 4});
  EXPECT_EQ(w.pad_begin, (L{1, 1}));
  EXPECT_EQ(w.pad_end, (L{0, 0}));
  n.attributes["auto_pad"] = std::string("SAME_UPPER");
  EXPECT_EQ(pool_window(n, Dims{1, 1, 4, 4}).pad_end, (L{1, 1}));
}

TEST(Shapes, Pooling) {
  EXPECT_EQ(shape("MaxPool", {f({2, 3, 7, 7})}, {{"kernel_shape", L{3, 3}}, {"strides", L{2, 2}}}), (Dims{2, 3, 3, 3}));
  const Attributes ceil{{"kernel_shape", L{3, 3}}, {"strides", L{2, 2}}, {"ceil_mode", int64_t{1}}};
  EXPECT_EQ(shape("AveragePool", {f({2, 3, 8, 8})}, ceil), (Dims{2, 3, 4, 4}));
  // The last window would start in the padding: it does not count.
  EXPECT_EQ(shape("MaxPool", {f({1, 1, 2, 2})}, {{"kernel_shape", L{1, 1}}, {"strides", L{2, 2}}, {"ceil_mode", int64_t{1}}, {"pads", L{0, 0, 1, 1}}}), (Dims{1, 1, 1, 1}));
  EXPECT_EQ(shape("GlobalAveragePool", {f({-1, 3, 8, 9})}), (Dims{-1, 3, 1, 1}));
  EXPECT_EQ(infer("MaxPool", {f({2, 3, 7, 7})}, {{"kernel_shape", L{3, 3}}}, 2)[1].dtype, DType::s64);
  EXPECT_THROW(shape("MaxPool", {f({2, 3, 7, 7})}), Error);
}

TEST(Shapes, MatrixProducts) {
  EXPECT_EQ(shape("Gemm", {f({-1, 4}), f({5, 4}), f({5})}, {{"transB", int64_t{1}}}), (Dims{-1, 5}));
  EXPECT_THROW(shape("Gemm", {f({3, 4}), f({5, 4})}), Error);
  EXPECT_THROW(shape("Gemm", {f({3, 4}), f({4, 5}), f({4})}), Error);
  EXPECT_EQ(shape("MatMul", {f({7, 1, 2, 3}), f({5, 3, 4})}), (Dims{7, 5, 2, 4}));
  EXPECT_EQ(shape("MatMul", {f({3}), f({5, 3, 4})}), (Dims{5, 4}));
  EXPECT_EQ(shape("MatMul", {f({2, 3}), f({3})}), (Dims{2}));
  EXPECT_EQ(shape("MatMul", {f({3}), f({3})}), Dims{});
  EXPECT_THROW(shape("MatMul", {f({2, 3}), f({4, 2})}), Error);
  EXPECT_EQ(shape("Einsum", {f({2, 3, 4}), f({2, 4, 5})}, {{"equation", std::string("bij, bjk -> bik")}}), (Dims{2, 3, 5}));
  EXPECT_EQ(shape("Einsum", {f({7, 2, 3}), f({3, 4})}, {{"equation", std::string("...ij,jk")}}), (Dims{7, 2, 4}));
  EXPECT_EQ(shape("LayerNormalization", {f({2, 3, 4}), f({4}), f({4})}), (Dims{2, 3, 4}));
}

TEST(Shapes, Broadcasting) {
  EXPECT_EQ(broadcast(Dims{-1, 3, 1}, Dims{4}), (Dims{-1, 3, 4}));
  EXPECT_EQ(broadcast(Dims{-1}, Dims{1}), (Dims{-1}));
  EXPECT_EQ(broadcast(Dims{-1}, Dims{5}), (Dims{5}));
  EXPECT_EQ(broadcast(Dims{0}, Dims{1}), (Dims{0}));
  EXPECT_THROW(broadcast(Dims{2}, Dims{3}), Error);
  EXPECT_EQ(shape("Add", {f({2, 1}), f({3})}), (Dims{2, 3}));
  EXPECT_EQ(infer("Greater", {f({2, 1}), f({3})})[0].dtype, DType::boolean);
  EXPECT_THROW(shape("Add", {f({2}), c({1, 2})}), Error);  // f32 and s64
  EXPECT_EQ(shape("Max", {f({2, 1}), f({1, 3}), f({1})}), (Dims{2, 3}));
}

TEST(Shapes, Reductions) {
  EXPECT_EQ(shape("ReduceMean", {f({2, 3, 4})}, {{"axes", L{-1, 0}}}), (Dims{1, 3, 1}));
  EXPECT_EQ(shape("ReduceSum", {f({2, 3, 4}), c({1})}, {{"keepdims", int64_t{0}}}), (Dims{2, 4}));
  EXPECT_EQ(shape("ReduceMax", {f({2, 3, 4})}, {{"keepdims", int64_t{0}}}), Dims{});
  EXPECT_EQ(shape("ReduceSum", {f({2, 3}), c({})}, {{"noop_with_empty_axes", int64_t{1}}}), (Dims{2, 3}));
  EXPECT_THROW(shape("ReduceMean", {f({2, 3, 4})}, {{"axes", L{3}}}), Error);
  EXPECT_EQ(shape("ArgMax", {f({2, 3, 4})}, {{"axis", int64_t{-1}}, {"keepdims", int64_t{0}}}), (Dims{2, 3}));
}

TEST(Shapes, Reshape) {
  EXPECT_EQ(shape("Reshape", {f({2, 3, 4}), c({0, -1})}), (Dims{2, 12}));
  EXPECT_EQ(shape("Reshape", {f({-1, 64, 7, 7}), c({0, -1})}), (Dims{-1, 3136}));
  EXPECT_EQ(shape("Reshape", {f({-1, 49, 10, 1}), c({-1, 1, 49, 10})}), (Dims{-1, 1, 49, 10}));
  EXPECT_EQ(shape("Reshape", {f({0, 3}), c({3, 0})}, {{"allowzero", int64_t{1}}}), (Dims{3, 0}));
  EXPECT_THROW(shape("Reshape", {f({2, 3}), c({4, -1})}), Error);
  EXPECT_THROW(shape("Reshape", {f({2, 3}), c({7})}), Error);
  EXPECT_THROW(shape("Reshape", {f({2, 3}), c({-1, -1})}), Error);
  EXPECT_THROW(shape("Reshape", {f({2, 3}), c({6, -2})}), Error);
  EXPECT_EQ(shape("Flatten", {f({2, 3, 4})}, {{"axis", int64_t{-1}}}), (Dims{6, 4}));
  EXPECT_EQ(shape("Flatten", {f({-1, 3, 4})}), (Dims{-1, 12}));
  EXPECT_EQ(shape("Flatten", {f({2, 3})}, {{"axis", int64_t{0}}}), (Dims{1, 6}));
}

TEST(Shapes, Moves) {
  EXPECT_EQ(shape("Transpose", {f({2, 3, 4})}), (Dims{4, 3, 2}));
  EXPECT_EQ(shape("Transpose", {f({2, 3, 4})}, {{"perm", L{0, 2, 1}}}), (Dims{2, 4, 3}));
  EXPECT_THROW(shape("Transpose", {f({2, 3})}, {{"perm", L{0, 0}}}), Error);
  EXPECT_EQ(shape("Squeeze", {f({1, 3, 1}), c({-1})}), (Dims{1, 3}));
  EXPECT_EQ(shape("Squeeze", {f({1, 3, 1})}), (Dims{3}));
  EXPECT_THROW(shape("Squeeze", {f({1, 3, 1}), c({1})}), Error);
  EXPECT_EQ(shape("Unsqueeze", {f({3}), c({0, -1})}), (Dims{1, 3, 1}));
  EXPECT_EQ(shape("Concat", {f({-1, 2, 3}), f({4, 5, 3})}, {{"axis", int64_t{1}}}), (Dims{4, 7, 3}));
  EXPECT_THROW(shape("Concat", {f({1, 2}), f({2, 2})}, {{"axis", int64_t{1}}}), Error);
  EXPECT_EQ(infer("Split", {f({2, 7}), c({3, 4})}, {{"axis", int64_t{1}}}, 2)[1].dims, (Dims{2, 4}));
  EXPECT_EQ(infer("Split", {f({7})}, {{"num_outputs", int64_t{3}}}, 3, 18)[2].dims, (Dims{1}));
  EXPECT_THROW(infer("Split", {f({7})}, {}, 2), Error);
  EXPECT_EQ(shape("Expand", {f({3, 1}), c({2, 1, 4})}), (Dims{2, 3, 4}));
  EXPECT_EQ(shape("Tile", {f({2, 3}), c({2, 0})}), (Dims{4, 0}));
  EXPECT_EQ(shape("Pad", {f({2, 3}), c({0, 1, 0, -2})}), (Dims{2, 2}));
  EXPECT_EQ(shape("Pad", {f({2, 3}), c({1, 1}), none(), c({-1})}), (Dims{2, 5}));
  EXPECT_EQ(shape("DepthToSpace", {f({1, 8, 2, 3})}, {{"blocksize", int64_t{2}}}), (Dims{1, 2, 4, 6}));
  EXPECT_EQ(shape("SpaceToDepth", {f({1, 2, 4, 6})}, {{"blocksize", int64_t{2}}}), (Dims{1, 8, 2, 3}));
}

TEST(Shapes, Slices) {
  EXPECT_EQ(shape("Slice", {f({10, 5}), c({1}), c({-1})}), (Dims{8, 5}));
  EXPECT_EQ(shape("Slice", {f({10, 5}), c({-1}), c({INT64_MIN}), c({0}), c({-2})}), (Dims{5, 5}));
  EXPECT_EQ(shape("Slice", {f({10}), c({8}), c({2})}), (Dims{0}));
  EXPECT_EQ(shape("Slice", {f({10}), c({0}), c({INT64_MAX}), c({-1}), c({3})}), (Dims{4}));
  EXPECT_EQ(shape("Slice", {f({-1, 5}), c({0}), c({INT64_MAX}), c({0})}), (Dims{-1, 5}));
  EXPECT_THROW(shape("Slice", {f({10}), c({0}), c({1}), c({1})}), Error);
  EXPECT_THROW(shape("Slice", {f({10}), c({0}), c({1}), c({0}), c({0})}), Error);
  EXPECT_EQ(shape("Gather", {f({4, 5}), c({0, 1, 2})}, {{"axis", int64_t{1}}}), (Dims{4, 3}));
  EXPECT_THROW(shape("Gather", {f({4, 5}), c({5})}, {{"axis", int64_t{1}}}), Error);
  EXPECT_EQ(shape("TopK", {f({4, 5}), c({2})}), (Dims{4, 2}));
  EXPECT_EQ(shape("OneHot", {f({4}), c({3}), f({2})}), (Dims{4, 3}));
  EXPECT_EQ(shape("NonMaxSuppression", {f({1, 9, 4}), f({1, 2, 9})}), (Dims{-1, 3}));
}

TEST(Shapes, ResizeAndFriends) {
  EXPECT_EQ(shape("Resize", {f({1, 3, 5, 6}), none(), fc({1, 1, 2, 0.5F})}), (Dims{1, 3, 10, 3}));
  EXPECT_EQ(shape("Resize", {f({1, 3, 5, 6}), none(), none(), c({1, 3, 9, 9})}), (Dims{1, 3, 9, 9}));
  EXPECT_EQ(shape("Resize", {f({1, 3, 5, 6}), none(), none(), c({9, 9})}, {{"axes", L{2, 3}}}, 18), (Dims{1, 3, 9, 9}));
  EXPECT_EQ(shape("Resize", {f({1, 3, 4, 8}), none(), none(), c({8, 8})},
                  {{"axes", L{2, 3}}, {"keep_aspect_ratio_policy", std::string("not_larger")}}, 18), (Dims{1, 3, 4, 8}));
  EXPECT_THROW(shape("Resize", {f({1, 3, 5, 6}), none(), fc({1, 1, 2})}), Error);
  EXPECT_THROW(shape("Resize", {f({1, 3, 5, 6}), none(), fc({1, 1, 2, -1})}), Error);
  EXPECT_EQ(shape("ConstantOfShape", {c({2, 3})}), (Dims{2, 3}));
  EXPECT_EQ(shape("Range", {c({1}), c({10}), c({4})}), (Dims{3}));
}

TEST(Shapes, Recurrent) {
  const auto out = infer("LSTM", {f({7, 2, 5}), f({2, 12, 5}), f({2, 12, 3})}, {{"hidden_size", int64_t{3}}, {"direction", std::string("bidirectional")}}, 3, 14);
  EXPECT_EQ(out[0].dims, (Dims{7, 2, 2, 3}));
  EXPECT_EQ(out[2].dims, (Dims{2, 2, 3}));
  EXPECT_THROW(infer("GRU", {f({7, 2, 5}), f({1, 12, 5}), f({1, 12, 3})}, {{"hidden_size", int64_t{3}}}, 1, 14), Error);
}

TEST(Shapes, TypesOfQuantizers) {
  EXPECT_EQ(infer("QuantizeLinear", {f({2}), f({}), {DType::s8, Dims{}, {}}})[0].dtype, DType::s8);
  EXPECT_EQ(infer("QuantizeLinear", {f({2}), f({})})[0].dtype, DType::u8);
  EXPECT_EQ(infer("DequantizeLinear", {{DType::u8, Dims{2}, {}}, f({})})[0].dtype, DType::f32);
  EXPECT_EQ(infer("Cast", {f({2})}, {{"to", int64_t{11}}})[0].dtype, DType::f64);
  EXPECT_THROW(infer("Cast", {f({2})}, {{"to", int64_t{99}}}), Error);
}

// Shape -> Gather -> Mul -> Concat -> Reshape, the way exporters write view(x.size(0), -1).
Graph shape_chain() {
  Graph g;
  const ValueId x = g.add_value("x", DType::f32, Dims{-1, 4, 6});
  const ValueId zero = g.add_constant("zero", Tensor::of<int64_t>({1}, L{0})), rest = g.add_constant("rest", Tensor::of<int64_t>({1}, L{-1}));
  const ValueId s = g.add_value("s"), b = g.add_value("b"), t = g.add_value("t"), y = g.add_value("y");
  g.add_node({.name = "shape", .op = "Shape", .since_version = 13, .inputs = {x}, .outputs = {s}});
  g.add_node({.name = "gather", .op = "Gather", .since_version = 13, .inputs = {s, zero}, .outputs = {b}});
  Node concat{.name = "concat", .op = "Concat", .since_version = 13, .inputs = {b, rest}, .outputs = {t}};
  concat.attributes["axis"] = int64_t{0};
  g.add_node(concat);
  g.add_node({.name = "reshape", .op = "Reshape", .since_version = 13, .inputs = {x, t}, .outputs = {y}});
  g.set_inputs({x});
  g.set_outputs({y});
  return g;
}

TEST(Shapes, ChainsOfShapeArithmetic) {
  Graph g = shape_chain();
  infer_shapes(g);
  EXPECT_EQ(*g.value(g.find_value("y")).shape, (Dims{-1, -1}));
  EXPECT_EQ(g.value(g.find_value("t")).dtype, DType::s64);
  const ShapeTable table = shapes_for(g, {{"x", {5, 4, 6}}});
  EXPECT_EQ(*table.dims[static_cast<size_t>(g.find_value("y"))], (Dims{5, 24}));
  ASSERT_TRUE(table.data[static_cast<size_t>(g.find_value("t"))]);
  EXPECT_EQ(table.data[static_cast<size_t>(g.find_value("t"))]->to_ints(), (L{5, -1}));
  // Nothing half-known leaves the room.
  EXPECT_FALSE(shapes_for(g, {}).data[static_cast<size_t>(g.find_value("s"))]);
  EXPECT_EQ(*g.value(g.find_value("x")).shape, (Dims{-1, 4, 6})) << "shapes_for must not touch the graph";
}

TEST(Shapes, GivenInputShapesMustFitTheDeclaration) {
  Graph g = shape_chain();
  auto code = [&](const std::map<std::string, Dims>& given) {
    try {
      shapes_for(g, given);
    } catch (const Error& e) {
      return e.code();
    }
    return ErrorCode::internal;
  };
  EXPECT_EQ(code({{"x", {5, 5, 6}}}), ErrorCode::data);
  EXPECT_EQ(code({{"x", {5, 4}}}), ErrorCode::data);
  EXPECT_EQ(code({{"z", {5, 4, 6}}}), ErrorCode::data);
}

TEST(Shapes, RulesOfOtherDomainsAndUnknownOperators) {
  EXPECT_EQ(find_shape_rule("", "NoSuchOperator"), nullptr);
  EXPECT_EQ(find_shape_rule("elsewhere", "Relu"), nullptr);
  EXPECT_NE(find_shape_rule("ai.onnx", "Relu"), nullptr);
  const ShapeRule* before = find_shape_rule("", "Relu");
  register_shape_rule("", "Relu", {});
  EXPECT_EQ(find_shape_rule("", "Relu"), before);
  EXPECT_TRUE(*before) << "the first registration stays";
  register_shape_rule("test.shapes", "Twice", [](const Node&, std::span<const KnownTensor> in) {
    return std::vector<KnownTensor>{in[0], in[0]};
  });
  EXPECT_NE(find_shape_rule("test.shapes", "Twice"), nullptr);
  Graph g;
  const ValueId x = g.add_value("x", DType::f32, Dims{2}), y = g.add_value("y", DType::f32, Dims{7});
  g.add_node({.name = "n", .domain = "far", .op = "Away", .since_version = 0, .inputs = {x}, .outputs = {y}});
  g.set_inputs({x});
  g.set_outputs({y});
  infer_shapes(g);
  EXPECT_EQ(*g.value(y).shape, (Dims{7})) << "what the file says stays where no rule knows better";
}

TEST(Shapes, ErrorsNameTheNode) {
  try {
    shape("MatMul", {f({2, 3}), f({4, 2})});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::model);
    EXPECT_EQ(e.node(), "it");
    EXPECT_NE(e.message().find("[2,3] and [4,2]"), std::string::npos);
  }
}

}  // namespace
}  // namespace quern
