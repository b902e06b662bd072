// LSTM, GRU and RNN against ONNX's equations written out, over directions, layouts, options and lengths; their products
// against a plain loop, with every width of vector; bad inputs.
#include <gmock/gmock.h>

#include "core/engine/float/panels.hpp"
#include "tests/engine/float_harness.hpp"
#include "tests/engine/recurrent_model.hpp"

namespace quern::test {
namespace {

struct Known { const char* name; bool alpha, beta; std::function<double(double, double, double)> f; };
const std::vector<Known> known{
    {"Sigmoid", false, false, [](double x, double, double) { return 1 / (1 + std::exp(-x)); }},
    {"Tanh", false, false, [](double x, double, double) { return std::tanh(x); }},
    {"Relu", false, false, [](double x, double, double) { return std::max(x, 0.0); }},
    {"Affine", true, true, [](double x, double a, double b) { return a * x + b; }},
    {"LeakyRelu", true, false, [](double x, double a, double) { return x < 0 ? a * x : x; }},
    {"ThresholdedRelu", true, false, [](double x, double a, double) { return x > a ? x : 0; }},
    {"ScaledTanh", true, true, [](double x, double a, double b) { return a * std::tanh(b * x); }},
    {"HardSigmoid", true, true, [](double x, double a, double b) { return std::min(std::max(a * x + b, 0.0), 1.0); }},
    {"Elu", true, false, [](double x, double a, double) { return x < 0 ? a * (std::exp(x) - 1) : x; }},
    {"Softsign", false, false, [](double x, double, double) { return x / (1 + std::fabs(x)); }},
    {"Softplus", false, false, [](double x, double, double) { return std::log1p(std::exp(x)); }}};

template <class T>
Tensor tensor_of(Dims dims, const std::vector<double>& v) {
  std::vector<T> values(v.begin(), v.end());
  return Tensor::of<T>(std::move(dims), values);
}

// A random network with all of its options, as a model and as a node.
template <class T>
struct Network {
  RecurrentModel m;
  std::map<std::string, Attribute> attributes;
  bool constant_weights = true, steady = true;

  explicit Network(Random& random) {
    const char* ops[] = {"LSTM", "GRU", "RNN"};
    const char* ways[] = {"forward", "reverse", "bidirectional"};
    m.op = ops[random.integer(0, 2)];
    m.direction = ways[random.integer(0, 2)];
    m.steps = random.integer(1, 9);
    m.batch = random.integer(1, 6);
    m.inputs = random.integer(1, 40);
    m.hidden = random.integer(1, 40);
    m.layout = random.integer(0, 1) != 0;
    attributes["hidden_size"] = m.hidden;
    attributes["layout"] = int64_t{m.layout};
    attributes["direction"] = m.direction;
    if (m.op == "GRU" && random.integer(0, 1)) { m.reset_after = true; attributes["linear_before_reset"] = int64_t{1}; }
    if (m.op == "LSTM" && random.integer(0, 3) == 0) { m.couple = true; attributes["input_forget"] = int64_t{1}; }
    if (random.integer(0, 3) == 0) { m.clip = 0.75; attributes["clip"] = 0.75f; }
    functions(random);
    const auto fill = [&](std::vector<double>& v, int64_t n, double size) {
      for (int64_t i = 0; i < n; ++i) v.push_back(static_cast<double>(static_cast<T>(random.real(-size, size))));
    };
    const int64_t d = m.directions(), rows = m.gates() * m.hidden;
    fill(m.x, m.steps * m.batch * m.inputs, 1);
    fill(m.w, d * rows * m.inputs, 0.4);
    fill(m.r, d * rows * m.hidden, 0.3);
    if (random.integer(0, 1)) fill(m.b, d * 2 * rows, 0.5);
    if (random.integer(0, 1)) fill(m.h0, d * m.batch * m.hidden, 1);
    if (m.op == "LSTM" && random.integer(0, 1)) fill(m.c0, d * m.batch * m.hidden, 1);
    if (m.op == "LSTM" && random.integer(0, 1)) fill(m.p, d * 3 * m.hidden, 0.5);
    if (random.integer(0, 1))
      for (int64_t n = 0; n < m.batch; ++n) m.lengths.push_back(random.integer(0, m.steps));
    constant_weights = random.integer(0, 1) != 0;
  }

  void functions(Random& random) {
    const int64_t each = m.op == "LSTM" ? 3 : m.op == "GRU" ? 2 : 1;
    const bool stated = random.integer(0, 1) != 0;
    std::vector<std::string> names;
    std::vector<float> alpha, beta;
    for (int64_t i = 0; i < each * m.directions(); ++i) {
      const Known& k = known[stated ? static_cast<size_t>(random.integer(0, static_cast<int64_t>(known.size()) - 1)) : i % each == 0 && each > 1 ? 0 : 1];
      const float a = static_cast<float>(random.real(0.1, 0.6)), b = static_cast<float>(random.real(0.1, 0.6));
      if (k.alpha) alpha.push_back(a);
      if (k.beta) beta.push_back(b);
      names.emplace_back(k.name);
      m.functions.push_back([f = k.f, a, b](double x) { return f(x, static_cast<double>(a), static_cast<double>(b)); });
      steady = steady && std::string(k.name) != "ThresholdedRelu";  // jumps: no bound on the difference
    }
    if (!stated) return;
    attributes["activations"] = names;
    if (!alpha.empty()) attributes["activation_alpha"] = alpha;
    if (!beta.empty()) attributes["activation_beta"] = beta;
  }

  FloatOp node() const {
    FloatOp op(m.op, 14);
    const int64_t d = m.directions(), rows = m.gates() * m.hidden;
    const auto add = [&](const std::vector<double>& v, Dims dims, bool constant) {
      if (v.empty()) op.absent();
      else if (constant) op.constant(tensor_of<T>(std::move(dims), v));
      else op.in(tensor_of<T>(std::move(dims), v));
    };
    const Dims state = m.layout ? Dims{m.batch, d, m.hidden} : Dims{d, m.batch, m.hidden};
    add(m.x, m.layout ? Dims{m.batch, m.steps, m.inputs} : Dims{m.steps, m.batch, m.inputs}, false);
    add(m.w, {d, rows, m.inputs}, constant_weights);
    add(m.r, {d, rows, m.hidden}, constant_weights);
    add(m.b, {d, 2 * rows}, constant_weights);
    if (m.lengths.empty()) op.absent();
    else op.in(Tensor::of<int32_t>({m.batch}, std::vector<int32_t>(m.lengths.begin(), m.lengths.end())));
    add(m.h0, state, false);
    if (m.op == "LSTM") {
      add(m.c0, state, false);
      add(m.p, {d, 3 * m.hidden}, constant_weights);
    }
    for (const auto& [key, value] : attributes) op.with(key, value);
    op.outputs(m.op == "LSTM" ? 3 : 2);
    return op;
  }
};

template <class T>
void compare(const Tensor& got, const std::vector<double>& want, double tolerance, const std::string& what) {
  const auto v = got.values<T>();
  ASSERT_EQ(v.size(), want.size()) << what;
  for (size_t i = 0; i < v.size(); ++i) ASSERT_NEAR(static_cast<double>(v[i]), want[i], tolerance * (1 + std::fabs(want[i]))) << what << " at " << i;
}

template <class T>
void check_networks(unsigned seed, int rounds, double tolerance) {
  Random random(seed);
  int compared = 0;
  for (int round = 0; round < rounds; ++round) {
    const Network<T> n(random);
    if (!n.steady) continue;
    const auto want = n.m.run();
    // Functions without a bound may run away; then rounding has no bound either.
    if (!std::all_of(want.y.begin(), want.y.end(), [](double v) { return std::fabs(v) < 50; })) continue;
    FloatOp node = n.node();
    const auto got = node.run();
    const std::string what = n.m.op + " " + n.m.direction + " round " + std::to_string(round);
    const Dims state = n.m.layout ? Dims{n.m.batch, n.m.directions(), n.m.hidden} : Dims{n.m.directions(), n.m.batch, n.m.hidden};
    EXPECT_EQ(got[1].dims(), state);
    compare<T>(got[0], want.y, tolerance, what + " Y");
    compare<T>(got[1], want.h, tolerance, what + " Y_h");
    if (n.m.op == "LSTM") compare<T>(got[2], want.c, tolerance, what + " Y_c");
    ++compared;
  }
  EXPECT_GT(compared, rounds / 2);
}

TEST(FloatRecurrent, EveryOptionInF32) { check_networks<float>(3, 300, 2e-5); }
TEST(FloatRecurrent, EveryOptionInF64) { check_networks<double>(5, 150, 1e-12); }

TEST(FloatRecurrent, ConstantWeightsAndFlowingOnesGiveTheSameBytes) {
  Random random(9);
  for (int round = 0; round < 40; ++round) {
    Network<float> n(random);
    n.constant_weights = true;
    const auto a = n.node().run();
    n.constant_weights = false;
    const auto b = n.node().run();
    for (size_t i = 0; i < a.size(); ++i) ASSERT_TRUE(same_bytes(a[i], b[i])) << n.m.op << i;
  }
}

TEST(FloatRecurrent, ARowDoesNotDependOnTheOthersOfItsBatch) {
  Random random(10);
  for (int round = 0; round < 30; ++round) {
    Network<float> n(random);
    n.m.layout = true;
    n.attributes["layout"] = int64_t{1};
    n.m.lengths.clear();
    const auto all = n.node().run();
    Network<float> one = n;
    const int64_t b = n.m.batch - 1, d = n.m.directions();
    const auto part = [&](const std::vector<double>& v, int64_t row) { return v.empty() ? v : std::vector<double>(v.end() - row, v.end()); };
    one.m.batch = 1;
    one.m.x = part(n.m.x, n.m.steps * n.m.inputs);
    one.m.h0 = part(n.m.h0, d * n.m.hidden);
    one.m.c0 = part(n.m.c0, d * n.m.hidden);
    const auto alone = one.node().run();
    const auto y = alone[0].values<float>(), whole = all[0].values<float>();
    ASSERT_EQ(std::memcmp(y.data(), whole.data() + b * n.m.steps * d * n.m.hidden, y.size() * 4), 0) << n.m.op;
  }
}

TEST(FloatRecurrent, LongSequencesGoInPieces) {  // more rows than are projected at once
  Random random(12);
  Network<float> n(random);
  n.m = RecurrentModel();
  n.m.op = "GRU";
  n.m.steps = 700, n.m.batch = 1, n.m.inputs = 2, n.m.hidden = 3;
  n.attributes = {{"hidden_size", int64_t{3}}};
  n.m.functions = {[](double x) { return 1 / (1 + std::exp(-x)); }, [](double x) { return std::tanh(x); }};
  for (int i = 0; i < 1400; ++i) n.m.x.push_back(static_cast<float>(random.real(-1, 1)));
  for (int i = 0; i < 18; ++i) n.m.w.push_back(static_cast<float>(random.real(-1, 1)));
  for (int i = 0; i < 27; ++i) n.m.r.push_back(static_cast<float>(random.real(-0.5, 0.5)));
  compare<float>(n.node().run()[0], n.m.run().y, 2e-5, "Y");
}

TEST(FloatRecurrent, UnwantedOutputsAndNoSteps) {
  Random random(13);
  FloatOp op("LSTM", 14);
  const auto y = op.in(random.tensor({0, 2, 3})).constant(random.tensor({1, 16, 3})).constant(random.tensor({1, 16, 4})).absent().absent()
                     .in(Tensor::of<float>({1, 2, 4}, std::vector<float>(8, 0.5f))).outputs(3).with("hidden_size", int64_t{4}).run();
  EXPECT_EQ(y[0].dims(), (Dims{0, 1, 2, 4}));
  for (float v : y[1].values<float>()) EXPECT_EQ(v, 0.5f);  // the first state is the last
  for (float v : y[2].values<float>()) EXPECT_EQ(v, 0.0f);
}

// ---- the product -------------------------------------------------------------------------------------------------------------

TEST(Panels, EveryWidthGivesTheBytesOfAPlainLoop) {
  Random random(21);
  std::vector<own::Lanes> widths{own::Lanes::four};
  if (__builtin_cpu_supports("avx2")) widths.push_back(own::Lanes::eight);
  if (__builtin_cpu_supports("avx512f")) widths.push_back(own::Lanes::sixteen);
  for (int round = 0; round < 120; ++round) {
    const int64_t rows = random.integer(0, 11), depth = random.integer(0, 70), columns = random.integer(1, 300), wide = own::padded(columns);
    const Tensor x = random.tensor({rows, depth}), w = random.tensor({columns, depth}), start = random.tensor({rows, wide});
    own::Panels<float> p(columns, depth);
    own::pack(w.values<float>().data(), columns, depth, p.data.data());
    std::vector<float> want(start.values<float>().begin(), start.values<float>().end());
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j)
        for (int64_t k = 0; k < depth; ++k)
          want[size_t(i * wide + j)] += w.values<float>()[size_t(j * depth + k)] * x.values<float>()[size_t(i * depth + k)];
    for (own::Lanes lanes : widths) {
      std::vector<float> y(start.values<float>().begin(), start.values<float>().end());
      std::vector<own::RowPair<float>> pairs;
      for (int64_t i = 0; i < rows; ++i) pairs.push_back({x.values<float>().data() + i * depth, y.data() + i * wide});
      own::multiply(p.view(), pairs.data(), rows, lanes);
      for (int64_t i = 0; i < rows; ++i)
        ASSERT_EQ(std::memcmp(y.data() + i * wide, want.data() + i * wide, size_t(columns) * 4), 0)
            << rows << " x " << depth << " x " << columns << ", " << int(lanes) << " lanes, row " << i;
    }
  }
}

// ---- what can't be ------------------------------------------------------------------------------------------------------------

FloatOp good(const std::function<void(FloatOp&)>& attributes, Dims w, Dims r, Dims b, std::optional<std::vector<int32_t>> lengths, Dims h0, Dims p) {
  Random random(1);
  FloatOp op("LSTM", 14);
  op.in(random.tensor({5, 2, 3})).constant(random.tensor(w)).constant(random.tensor(r)).constant(random.tensor(b));
  if (lengths) op.in(Tensor::of<int32_t>({int64_t(lengths->size())}, *lengths));
  else op.absent();
  op.in(random.tensor(h0)).absent().constant(random.tensor(p)).outputs(3).with("hidden_size", int64_t{4});
  attributes(op);
  return op;
}

void expect_error(FloatOp op, const char* says, ErrorCode code = ErrorCode::model) {
  try {
    op.run();
    ADD_FAILURE() << "no error: " << says;
  } catch (const Error& e) {
    EXPECT_THAT(e.message(), ::testing::HasSubstr(says));
    EXPECT_EQ(e.code(), code) << e.what();
  }
}

TEST(FloatRecurrent, BadInputsAreNamed) {
  const auto none = [](FloatOp&) {};
  const Dims w{1, 16, 3}, r{1, 16, 4}, b{1, 32}, h{1, 2, 4}, p{1, 12};
  EXPECT_NO_THROW(good(none, w, r, b, {{5, 2}}, h, p).run());
  expect_error(good(none, {1, 16, 2}, r, b, {}, h, p), "W has the shape [1,16,2], but [1,16,3] is needed");
  expect_error(good(none, {2, 16, 3}, r, b, {}, h, p), "W has the shape");
  expect_error(good(none, w, {1, 16, 3}, b, {}, h, p), "R has the shape");
  expect_error(good(none, w, r, {1, 16}, {}, h, p), "B has the shape");
  expect_error(good(none, w, r, b, {{5, 2, 1}}, h, p), "sequence_lens has the shape");
  expect_error(good(none, w, r, b, {}, {2, 1, 4}, p), "initial_h has the shape");
  expect_error(good(none, w, r, b, {}, h, {1, 8}), "P has the shape");
  expect_error(good([](FloatOp& o) { o.with("direction", std::string("sideways")); }, w, r, b, {}, h, p), "direction 'sideways'");
  expect_error(good([](FloatOp& o) { o.with("activations", std::vector<std::string>{"Sigmoid", "Tanh", "Swish"}); }, w, r, b, {}, h, p), "unknown activation 'Swish'");
  expect_error(good([](FloatOp& o) { o.with("activations", std::vector<std::string>{"Sigmoid"}); }, w, r, b, {}, h, p), "LSTM has 1 activations");
  expect_error(good(none, w, r, b, {{5, 6}}, h, p), "sequence_lens[1] is 6, but the input has 5 steps", ErrorCode::data);
  expect_error(good(none, w, r, b, {{-1, 2}}, h, p), "sequence_lens[0] is -1", ErrorCode::data);
}

}  // namespace
}  // namespace quern::test
