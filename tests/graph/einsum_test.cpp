// Einsum: the kernel against sums written out, the rewrite against the kernel, the forms that have to become matrix products,
// and equations that can't be.
#include "core/graph/einsum.hpp"

#include <gmock/gmock.h>

#include <cmath>
#include <random>

#include "core/base/error.hpp"
#include "tests/graph/net.hpp"

namespace quern {
namespace {

using net::ops;

struct Case { std::string equation; std::vector<Dims> dims; std::string ops; };  // ops: after the rewrite, "Einsum" where it stays

const std::vector<Case> cases{
    {"ij->ji", {{3, 4}}, "Transpose"},
    {"ij->", {{3, 4}}, "ReduceSum"},
    {"ij->j", {{3, 4}}, "ReduceSum"},
    {"abc->ca", {{2, 3, 4}}, "ReduceSum Transpose"},
    {"ii->i", {{4, 4}}, "Einsum"},
    {"ii", {{4, 4}}, "Einsum"},
    {"...ii->...i", {{2, 3, 4, 4}}, "Einsum"},
    {"i,i", {{5}, {5}}, "MatMul"},
    {"i,j->ij", {{3}, {4}}, "Unsqueeze Unsqueeze Mul"},
    {"bi,bi->bi", {{2, 3}, {2, 3}}, "Mul"},
    {"ij,jk->ik", {{3, 4}, {4, 5}}, "MatMul"},
    {"ij,jk", {{3, 4}, {4, 5}}, "MatMul"},
    {"ij,kj->ik", {{3, 4}, {5, 4}}, "Transpose MatMul"},
    {"ij,j->i", {{3, 4}, {4}}, "MatMul"},
    {"j,ij->i", {{4}, {3, 4}}, "Transpose MatMul"},
    {"bij,bjk->bik", {{2, 3, 4}, {2, 4, 5}}, "MatMul"},
    {"...ij,...jk->...ik", {{2, 1, 3, 4}, {6, 4, 5}}, "MatMul"},
    {"bhid,bhjd->bhij", {{2, 3, 4, 5}, {2, 3, 6, 5}}, "Transpose MatMul"},
    {"bhij,bhjd->bihd", {{2, 3, 4, 5}, {2, 3, 5, 6}}, "MatMul Transpose"},
    {"bij,jk->bik", {{2, 3, 4}, {4, 5}}, "MatMul"},
    {"bid,dhk->bihk", {{2, 3, 4}, {4, 5, 6}}, "Reshape MatMul Reshape"},
    {"bihk,hkd->bid", {{2, 3, 4, 5}, {4, 5, 6}}, "Reshape Reshape MatMul"},
    {"bhwc,hkc->bhwk", {{2, 3, 4, 5}, {3, 6, 5}}, "Transpose MatMul"},
    {"bi,bj->bij", {{2, 3}, {2, 4}}, "Unsqueeze Unsqueeze Mul"},
    {"bik,bk->bi", {{2, 3, 4}, {2, 4}}, "Reshape MatMul Reshape"},
    {"ab,bc,cd->ad", {{2, 3}, {3, 4}, {4, 5}}, "MatMul MatMul"},
    {"ab,cd->ac", {{2, 3}, {4, 5}}, "ReduceSum ReduceSum Unsqueeze Unsqueeze Mul"},
    {"b...,b...->b", {{2, 3, 4}, {2, 3, 4}}, "Reshape Reshape MatMul Reshape"},
    {"ij,ij->ij", {{1, 4}, {3, 4}}, "Mul"},
    {"ij,jk->ik", {{3, 1}, {4, 5}}, "Einsum"},  // a sum over what one operand stretches
    {"ii,ij->j", {{3, 3}, {3, 4}}, "Einsum"},
    {"iji,jk->ik", {{3, 4, 3}, {4, 5}}, "Einsum"},
};

Graph graph_of(const Case& c, DType type, const std::vector<char>& constant = {}) {
  Graph g;
  std::vector<ValueId> inputs, fed;
  std::mt19937 random(7);
  for (size_t i = 0; i < c.dims.size(); ++i) {
    if (i < constant.size() && constant[i]) {
      Tensor t(DType::f32, c.dims[i]);
      for (float& v : t.mutable_values<float>()) v = static_cast<float>(random() % 17) / 8 - 1;
      inputs.push_back(g.add_constant("c" + std::to_string(i), t));
      continue;
    }
    inputs.push_back(g.add_value("x" + std::to_string(i), type, c.dims[i]));
    fed.push_back(inputs.back());
  }
  g.set_inputs(fed);
  const ValueId y = g.add_value("y");
  g.add_node({.name = "e", .op = "Einsum", .since_version = 12, .inputs = inputs, .outputs = {y}, .attributes = {{"equation", c.equation}}});
  g.set_outputs({y});
  infer_shapes(g);
  return g;
}

template <class T>
NamedTensors feed_of(const Graph& g, unsigned seed) {
  NamedTensors feed;
  std::mt19937 random(seed);
  for (ValueId v : g.inputs()) {
    Tensor t(dtype_of<T>::value, *g.value(v).shape);
    for (T& x : t.mutable_values<T>()) x = static_cast<T>(static_cast<int>(random() % 33) - 16) / (std::is_integral_v<T> ? T{1} : T{8});
    feed.emplace_back(g.value(v).name, t);
  }
  return feed;
}

// All labels counted through, the product of what they pick added to where the result's labels point.
template <class T>
std::vector<double> written_out(const Case& c, const NamedTensors& feed) {
  std::vector<int64_t> ranks;
  for (const Dims& d : c.dims) ranks.push_back(static_cast<int64_t>(d.size()));
  const Einsum e = parse_einsum(c.equation, ranks);
  Dims size(static_cast<size_t>(e.labels), 1);
  for (size_t t = 0; t < e.terms.size(); ++t)
    for (size_t a = 0; a < e.terms[t].size(); ++a) size[size_t(e.terms[t][a])] = std::max(size[size_t(e.terms[t][a])], c.dims[t][a]);
  int64_t total = 1;
  for (int64_t s : size) total *= s;
  int64_t results = 1;
  for (int l : e.output) results *= size[size_t(l)];
  std::vector<double> out(static_cast<size_t>(results), 0);
  for (int64_t n = 0; n < total; ++n) {
    Dims at(size.size());
    int64_t rest = n;
    for (size_t l = size.size(); l-- > 0;) { at[l] = rest % size[l]; rest /= size[l]; }
    double product = 1;
    for (size_t t = 0; t < e.terms.size(); ++t) {
      int64_t i = 0;
      for (size_t a = 0; a < e.terms[t].size(); ++a) i = i * c.dims[t][a] + (c.dims[t][a] == 1 ? 0 : at[size_t(e.terms[t][a])]);
      product *= static_cast<double>(feed[t].second.template values<T>()[size_t(i)]);
    }
    int64_t o = 0;
    for (int l : e.output) o = o * size[size_t(l)] + at[size_t(l)];
    out[size_t(o)] += product;
  }
  return out;
}

template <class T>
void check(DType type) {
  for (const Case& c : cases) {
    const Graph g = graph_of(c, type);
    const NamedTensors feed = feed_of<T>(g, 3);
    const auto want = written_out<T>(c, feed);
    const Tensor y = Engine(g, {.providers = {own_float_provider()}}).runner().run(feed)[0].second;
    ASSERT_EQ(y.values<T>().size(), want.size()) << c.equation;
    for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(static_cast<double>(y.values<T>()[i]), want[i], 1e-5) << c.equation << " at " << i;
  }
}

TEST(Einsum, TheKernelSumsWhatTheEquationSays) {
  check<float>(DType::f32);
  check<double>(DType::f64);
  check<int32_t>(DType::s32);
}

TEST(Einsum, RewrittenAndEqual) {
  for (const Case& c : cases) {
    const Graph g = graph_of(c, DType::f32);
    Graph rewritten = g;
    canonicalize(rewritten, evaluate_constant_node);
    EXPECT_EQ(ops(rewritten), c.ops) << c.equation;
    rewritten.check();
    const NamedTensors feed = feed_of<float>(g, 5);
    const Tensor a = Engine(g, {.providers = {own_float_provider()}}).runner().run(feed)[0].second;
    const Tensor b = Engine(rewritten, {.providers = {own_float_provider()}}).runner().run(feed)[0].second;
    ASSERT_EQ(a.dims(), b.dims()) << c.equation;
    for (size_t i = 0; i < a.values<float>().size(); ++i) ASSERT_NEAR(a.values<float>()[i], b.values<float>()[i], 1e-5) << c.equation;
  }
}

TEST(Einsum, OpenDimensions) {
  Case c{"bid,dhk->bihk", {{-1, -1, 4}, {4, 5, 6}}, ""};
  Graph g = graph_of(c, DType::f32, {0, 1});
  canonicalize(g, evaluate_constant_node);
  EXPECT_EQ(ops(g), "MatMul Reshape");  // the weight's own Reshape is folded
  Engine engine(g, {.providers = {own_float_provider()}});
  for (const Dims& d : {Dims{2, 3, 4}, Dims{1, 7, 4}})
    EXPECT_EQ(engine.runner().run({{"x0", Tensor(DType::f32, d)}})[0].second.dims(), (Dims{d[0], d[1], 5, 6}));
  // Two sizes that only a run knows can't be taken out of one: it stays.
  Graph h = graph_of({"bijd,bjkd->bik", {{-1, -1, -1, 4}, {-1, -1, 5, 4}}, ""}, DType::f32);
  canonicalize(h, evaluate_constant_node);
  EXPECT_EQ(ops(h), "Reshape Transpose Reshape MatMul");
  Graph k = graph_of({"bijd,bkld->bijkl", {{-1, -1, -1, 4}, {-1, -1, -1, 4}}, ""}, DType::f32);
  canonicalize(k, evaluate_constant_node);
  EXPECT_EQ(ops(k), "Einsum");
  k.check();
}

TEST(Einsum, AConstantBecomesTheSecondOperand) {
  Graph g = graph_of({"oi,bti->bto", {{6, 4}, {2, 3, 4}}, ""}, DType::f32, {1, 0});
  canonicalize(g, evaluate_constant_node);
  EXPECT_EQ(ops(g), "MatMul");
  const Node& n = g.node(g.order()[0]);
  EXPECT_EQ(g.value(n.inputs[1]).shape, (Dims{4, 6}));
  EXPECT_TRUE(g.value(n.inputs[1]).is_constant());
}

TEST(Einsum, AnInputThatIsLeftOut) {
  Graph g = graph_of({"ij,jk->ik", {{3, 4}, {4, 5}}, ""}, DType::f32);
  g.node(g.order()[0]).inputs[0] = no_value;
  EXPECT_EQ(expand_einsums(g), 0);
}

TEST(Einsum, EquationsThatCanNotBe) {
  const auto error = [](const std::string& equation, std::vector<Dims> dims) {
    try {
      graph_of({equation, std::move(dims), ""}, DType::f32);
    } catch (const Error& e) {
      EXPECT_EQ(e.node(), "e");
      return e.message();
    }
    return std::string("no error");
  };
  using ::testing::HasSubstr;
  EXPECT_THAT(error("ij,jk->ik", {{3, 4}}), HasSubstr("is for 2 inputs, not 1"));
  EXPECT_THAT(error("ij->ik", {{3, 4}}), HasSubstr("'k' is in no input"));
  EXPECT_THAT(error("ij->iij", {{3, 4}}), HasSubstr("'i' is twice in the result"));
  EXPECT_THAT(error("ijk->i", {{3, 4}}), HasSubstr("does not fit input 1 of rank 2"));
  EXPECT_THAT(error("...ijk->i", {{3, 4}}), HasSubstr("does not fit input 1 of rank 2"));
  EXPECT_THAT(error("i1->i", {{3, 4}}), HasSubstr("'1' is no letter"));
  EXPECT_THAT(error("ij,jk->ik", {{3, 4}, {5, 6}}), HasSubstr("'j' is 4 in one input and 5 in another"));
}

}  // namespace
}  // namespace quern
