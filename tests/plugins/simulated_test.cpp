// Hardware-true, unit by unit: what the host's interpreter computes from the rules alone and what a target computes must be the
// same bytes. Random units of every operator the rules name, with every output type, on every target with contracts of these names.
#include <algorithm>
#include <climits>

#include "core/engine/engine.hpp"
#include "core/rules/rules.hpp"
#include "core/rules/unit.hpp"
#include "tests/plugins/cpu_support.hpp"

namespace cpu_test {
namespace {

Plugin* plugin = nullptr;  // the target under test

// How many random units of a kind; QUERN_TEST_ROUNDS: at most, where a tool makes every run slow.
int rounds(int n) {
  const char* most = std::getenv("QUERN_TEST_ROUNDS");
  return most ? std::min(n, std::atoi(most)) : n;
}
int compared = 0;

const quern::Rules& rules() {
  static std::map<Plugin*, quern::Rules> parsed;
  auto& r = parsed[plugin];
  if (r.contracts.empty()) {
    quern_str text{};
    const auto& t = plugin->target();
    t.describe(t.self, &text);
    r = quern::parse_rules(std::string_view(text.data, text.size), plugin->name());
  }
  return r;
}

class Simulated : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    plugin = &Plugin::get(GetParam());
    compared = 0;
    if (plugin->profiles().empty()) GTEST_SKIP() << GetParam() << " can't run here: " << plugin->reason();
  }
};
INSTANTIATE_TEST_SUITE_P(Targets, Simulated, testing::Values("cpu", "gpu_opencl", "vpu_sim"), [](const auto& info) { return std::string(info.param); });

quern::DType type_of(uint32_t t) {
  return t == QUERN_DTYPE_F32 ? quern::DType::f32 : t == QUERN_DTYPE_S8 ? quern::DType::s8 : t == QUERN_DTYPE_S32 ? quern::DType::s32
         : t == QUERN_DTYPE_S64 ? quern::DType::s64 : t == QUERN_DTYPE_U16 ? quern::DType::u16 : quern::DType::u8;
}

quern::Tensor tensor_of(const Operand& o) {
  switch (o.dtype) {
    case QUERN_DTYPE_F32: return quern::Tensor::of<float>(o.dims, o.floats);
    case QUERN_DTYPE_S64: return quern::Tensor::of<int64_t>(o.dims, o.codes);
    case QUERN_DTYPE_S32: return quern::Tensor::of<int32_t>(o.dims, std::vector<int32_t>(o.codes.begin(), o.codes.end()));
    case QUERN_DTYPE_S8: return quern::Tensor::of<int8_t>(o.dims, std::vector<int8_t>(o.codes.begin(), o.codes.end()));
    default: return quern::Tensor::of<uint8_t>(o.dims, std::vector<uint8_t>(o.codes.begin(), o.codes.end()));
  }
}

quern::UnitOperand operand_of(const Operand& o, size_t index) {
  quern::UnitOperand u;
  u.role = o.role;
  u.value = "v" + std::to_string(index);
  u.dtype = type_of(o.dtype);
  u.dims = o.dims;
  if (o.quant) {
    quern::QuantParams p;
    p.format = quern::make_format(o.dtype == QUERN_DTYPE_S32 ? 32 : 8, o.quant->is_signed, o.quant->narrow);
    p.axis = o.quant->axis;
    p.scale = o.quant->scale;
    p.zero_point.assign(p.scale.size(), o.quant->zero_point);
    u.params = p;
  }
  if (o.constant) u.constant = std::make_shared<const quern::Tensor>(tensor_of(o));
  return u;
}

// Its second operand in the numbers of the first: codes mean what they mean.
void share_numbers(Unit& unit) {
  Operand *a = &unit.operands[0], *b = &unit.operands[1];
  if (a->quant->is_signed != b->quant->is_signed)
    for (auto& code : b->codes) code += a->quant->is_signed ? -128 : 128;
  b->quant = a->quant;
  b->dtype = a->dtype;
}

// The unit in the interpreter: a graph of one node.
quern::Tensor simulate(const Unit& unit, const std::map<std::string, Table>& tables) {
  auto integer = std::make_shared<quern::IntegerUnit>();
  integer->name = "unit";
  integer->contract = rules().contracts.at(unit.contract);
  for (const auto& n : unit.nodes) {
    quern::UnitMember m;
    m.name = n.op;
    m.op = n.op;
    m.since_version = n.since;
    for (const auto& [key, value] : n.attributes) std::visit([&, k = key](const auto& v) { m.attributes[k] = v; }, value);
    for (int32_t index : n.inputs) m.inputs.push_back(index == QUERN_ABSENT_INPUT ? quern::absent_input : index);
    integer->members.push_back(m);
  }
  quern::Graph g;
  quern::Node node;
  node.name = "unit";
  node.domain = "quern";
  node.op = "Unit";
  quern::NamedTensors feed;
  std::vector<quern::ValueId> inputs;
  for (size_t i = 0; i < unit.operands.size(); ++i) {
    const Operand& o = unit.operands[i];
    integer->operands.push_back(operand_of(o, i));
    if (o.constant) continue;
    const std::string name = "v" + std::to_string(i);
    inputs.push_back(g.add_value(name, type_of(o.dtype), o.dims));
    feed.emplace_back(name, tensor_of(o));
  }
  integer->output = operand_of(unit.output, 99);
  for (const auto& [name, t] : tables) {
    quern::Tensor made(type_of(t.dtype), t.dims);
    if (!t.bytes.empty()) std::memcpy(made.mutable_bytes(), t.bytes.data(), t.bytes.size());
    integer->tables[name] = made;
  }
  node.payload = integer;
  node.inputs = inputs;
  node.outputs = {g.add_value("y", type_of(unit.output.dtype), unit.output.dims)};
  g.set_inputs(inputs);
  const auto out = node.outputs;
  g.add_node(node);
  g.set_outputs(out);
  quern::Engine engine(g, {.providers = {quern::interpreter_provider(), quern::own_float_provider()}});
  auto runner = engine.runner();
  return runner.run(feed).at(0).second;
}

// Units are drawn with the names of cpu's contracts; another target may have one contract for several of them, or none.
std::string contract_here(const Unit& unit) {
  const auto& known = rules().contracts;
  if (known.count(unit.contract)) return unit.contract == "add" && unit.nodes[0].op == "Sub" && known.count("sub") ? "sub" : unit.contract;
  const std::string base = unit.contract.substr(0, unit.contract.find("_float"));
  const std::string other = base == "product" ? "dot" : base == "mul" ? "times" : base == "add" && unit.nodes[0].op == "Sub" ? "sub" : base;
  return known.count(other) ? other : "";
}

bool names(const std::vector<std::string>& list, const std::string& what) { return std::find(list.begin(), list.end(), what) != list.end(); }

// Whether the rules have a place for it: a config that writes its output, and a pattern that fuses its members.
bool has_config(const Unit& unit, const std::string& contract) {
  const auto writes = [&](const std::vector<std::string>& types) { return unit.output.quant || names(types, "f32"); };
  bool config = false;
  for (const auto& rule : rules().ops)
    for (const auto& c : rule.configs) config = config || (rule.match.op == unit.nodes[0].op && c.contract == contract && writes(c.output));
  if (unit.nodes.size() == 1) return config;
  for (const auto& pattern : rules().fuse) {
    size_t n = 0;
    for (const auto& step : pattern.steps) {
      const bool joins = n < unit.nodes.size() && names(step.ops, unit.nodes[n].op) && step.other != "bias";  // a bias is an operand here
      if (joins) ++n;
      else if (!step.optional) n = unit.nodes.size() + 1;
    }
    if (n == unit.nodes.size() && (pattern.output.empty() || writes(pattern.output))) return config;
  }
  return false;
}

void both(Unit unit, const std::string& what) {
  unit.contract = contract_here(unit);
  if (unit.contract.empty() || !has_config(unit, unit.contract)) return;  // not every target has every operator
  for (const auto& tie : rules().tie)
    if (tie.op == unit.nodes[0].op && unit.find("a")) share_numbers(unit);
  std::string why;
  if (!plugin->supports(unit, why) && why.find("windows") != std::string::npos) return;  // of different sizes
  ++compared;
  const Result r = plugin->run(unit);
  ASSERT_EQ(r.error, "") << what;
  const quern::Tensor simulated = simulate(unit, r.tables);
  ASSERT_EQ(simulated.dims(), unit.output.dims) << what;
  if (unit.output.quant) {
    EXPECT_EQ(simulated.to_ints(), r.codes) << what << " on " << r.kernel;
  } else {
    const auto f = simulated.values<float>();
    ASSERT_EQ(f.size(), r.floats.size());
    EXPECT_EQ(std::memcmp(f.data(), r.floats.data(), f.size_bytes()), 0) << what << " on " << r.kernel;
  }
}

struct Maker {
  std::mt19937 r{17};
  int64_t pick(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(r); }
  float real(float low, float high) { return std::uniform_real_distribution<float>(low, high)(r); }
  Quant any_quant() { return pick(0, 2) ? u8(real(0.01f, 0.05f), pick(0, 255)) : s8(real(0.01f, 0.05f)); }
  Operand input(const std::string& role, const Dims& dims) { return input(role, dims, any_quant()); }
  Operand input(const std::string& role, const Dims& dims, const Quant& q) {
    Operand o = flowing(role, dims, q);
    for (int64_t i = 0; i < count(dims); ++i) o.codes.push_back(q.is_signed ? pick(-128, 127) : pick(0, 255));
    return o;
  }
  Operand output(const Dims& dims, int kind) {
    Operand o;
    o.role = "output";
    o.dims = dims;
    o.dtype = kind == 0 ? QUERN_DTYPE_U8 : kind == 1 ? QUERN_DTYPE_S8 : QUERN_DTYPE_F32;
    if (kind == 0) o.quant = u8(real(0.02f, 0.06f), pick(0, 200));
    if (kind == 1) o.quant = s8(real(0.02f, 0.06f));
    return o;
  }
  // `tables`: of any kind, else Relu and Clip alone.
  void activation(Unit& u, bool tables = false) {
    const auto last = -static_cast<int32_t>(u.nodes.size());
    const int64_t which = pick(0, 3);
    if (which == 3 && tables) {
      static const char* const bounded[] = {"Sigmoid", "Tanh", "Erf"};
      static const char* const others[] = {"HardSigmoid", "HardSwish", "Swish", "Gelu", "Mish", "LeakyRelu", "PRelu", "Elu", "Celu", "Selu", "Softplus", "Sigmoid"};
      Node n{u.output.quant ? others[pick(0, 11)] : bounded[pick(0, 2)], {last}, {}, 20};
      if (n.op == "Gelu" && pick(0, 1)) n.attributes["approximate"] = std::string("tanh");
      if (n.op == "LeakyRelu") n.attributes["alpha"] = real(0.01f, 0.3f);
      if (n.op == "PRelu") {
        n.inputs.push_back(static_cast<int32_t>(u.operands.size()));
        u.operands.push_back(constant_f32(real(-0.2f, 0.3f)));
      }
      u.nodes.push_back(n);
      return;
    }
    if (which == 1) u.nodes.push_back({"Relu", {last}, {}, 14});
    if (which != 2) return;
    const auto first = static_cast<int32_t>(u.operands.size());
    u.operands.push_back(constant_f32(real(-2.f, 0.f)));
    u.operands.push_back(constant_f32(real(0.5f, 4.f)));
    u.nodes.push_back({"Clip", {last, first, first + 1}, {}, 13});
  }
  void weights(Unit& u, const Dims& dims, int axis, int64_t taps, bool bias) {
    Operand w;
    w.role = "weight";
    w.dtype = QUERN_DTYPE_S8;
    w.dims = dims;
    w.constant = true;
    w.quant = Quant{true, {}, 0, axis, true};
    const int64_t channels = dims[static_cast<size_t>(axis)];
    for (int64_t c = 0; c < channels; ++c) w.quant->scale.push_back(real(0.5f, 2.f) / (std::sqrt(static_cast<float>(taps)) * 75));
    for (int64_t i = 0; i < count(dims); ++i) w.codes.push_back(pick(-127, 127));
    u.operands.push_back(w);
    u.nodes[0].inputs = {0, 1};
    if (!bias) return;
    Operand b;
    b.role = "bias";
    b.dtype = QUERN_DTYPE_S32;
    b.dims = {channels};
    b.constant = true;
    b.quant = Quant{true, w.quant->scale, 0, 0, false};
    for (int64_t c = 0; c < channels; ++c) b.codes.push_back(pick(-20000, 20000));
    u.nodes[0].inputs.push_back(2);
    u.operands.push_back(b);
  }
  void residual(Unit& u) {
    if (pick(0, 1)) return;
    const auto last = -static_cast<int32_t>(u.nodes.size());
    u.nodes.push_back({"Add", {last, static_cast<int32_t>(u.operands.size())}, {}, 14});
    u.operands.push_back(input("residual", u.output.dims));
  }
};

std::string with(const std::string& contract, const Unit& u) { return u.output.quant ? contract : contract + "_float"; }

TEST_P(Simulated, ConvolutionsAndProducts) {
  Maker m;
  for (int i = 0; i < rounds(90); ++i) {
    Unit u;
    const int64_t group = m.pick(0, 2) ? 1 : m.pick(2, 6), icg = m.pick(1, 9), ocg = m.pick(1, 9), k = m.pick(1, 3), stride = m.pick(1, 2),
                  dilation = m.pick(1, 2), h = m.pick(6, 11), w = m.pick(6, 11), batch = m.pick(1, 2);
    const bool depthwise = group > 1 && m.pick(0, 1);
    const int64_t in = depthwise ? 1 : icg, out = depthwise ? m.pick(1, 2) : ocg;
    const std::vector<int64_t> pads{m.pick(0, 1), m.pick(0, 1), m.pick(0, 1), m.pick(0, 1)};
    const auto size = [&](int64_t n, int64_t begin, int64_t end) { return (n + begin + end - ((k - 1) * dilation + 1)) / stride + 1; };
    u.operands = {m.input("input", {batch, group * in, h, w})};
    u.output = m.output({batch, group * out, size(h, pads[0], pads[2]), size(w, pads[1], pads[3])}, i % 3);
    u.nodes = {{"Conv", {}, {{"strides", std::vector<int64_t>{stride, stride}}, {"dilations", std::vector<int64_t>{dilation, dilation}},
                             {"group", group}, {"pads", pads}, {"kernel_shape", std::vector<int64_t>{k, k}}, {"auto_pad", std::string("NOTSET")}}, 11}};
    m.weights(u, {group * out, in, k, k}, 0, in * k * k, m.pick(0, 3) != 0);
    m.residual(u);
    m.activation(u, true);
    u.contract = with("dot", u);
    both(u, "Conv " + std::to_string(i));
  }
  for (int i = 0; i < rounds(45); ++i) {
    Unit u;
    const int64_t rows = m.pick(1, 9), k = m.pick(1, 70), n = m.pick(1, 40);
    const bool gemm = m.pick(0, 1), columns = !gemm || m.pick(0, 1);
    const Dims in = gemm ? Dims{rows, k} : Dims{2, rows, k};
    u.operands = {m.input("input", in)};
    Dims out = in;
    out.back() = n;
    u.output = m.output(out, i % 3);
    u.nodes = {{gemm ? "Gemm" : "MatMul", {}, {}, 13}};
    if (gemm) u.nodes[0].attributes = {{"transA", int64_t{0}}, {"transB", int64_t{columns ? 0 : 1}}, {"alpha", 1.f}, {"beta", 1.f}};
    m.weights(u, columns ? Dims{k, n} : Dims{n, k}, columns ? 1 : 0, k, gemm && m.pick(0, 1));
    m.activation(u, true);
    u.contract = with("dot", u);
    both(u, u.nodes[0].op + std::to_string(i));
  }
}

TEST_P(Simulated, TransposedConvolutions) {
  Maker m;
  for (int i = 0; i < rounds(90); ++i) {
    Unit u;
    const bool flat = i % 5 == 0;
    const int64_t group = m.pick(0, 2) ? 1 : m.pick(2, 4), icg = m.pick(1, 20), ocg = m.pick(1, 20), batch = m.pick(1, 2);
    Dims in{batch, group * icg}, out{batch, group * ocg}, w{group * icg, ocg};
    std::vector<int64_t> strides, dilations, kernel, begin, end, extra;
    for (int a = 0; a < (flat ? 1 : 2); ++a) {
      const int64_t k = m.pick(1, 4), stride = m.pick(1, 3), dilation = m.pick(1, 2), size = m.pick(1, 7), more = m.pick(0, stride - 1);
      const int64_t full = stride * (size - 1) + more + (k - 1) * dilation + 1;
      const int64_t p0 = std::min<int64_t>(m.pick(0, 2), (full - 1) / 2), p1 = std::min<int64_t>(m.pick(0, 2), (full - 1) / 2);
      in.push_back(size);
      out.push_back(full - p0 - p1);
      w.push_back(k);
      for (auto [list, v] : {std::pair{&strides, stride}, {&dilations, dilation}, {&kernel, k}, {&begin, p0}, {&end, p1}, {&extra, more}}) list->push_back(v);
    }
    std::vector<int64_t> pads = begin;
    pads.insert(pads.end(), end.begin(), end.end());
    u.operands = {m.input("input", in)};
    u.output = m.output(out, i % 3);
    u.nodes = {{"ConvTranspose", {}, {{"strides", strides}, {"dilations", dilations}, {"group", group}, {"pads", pads}, {"kernel_shape", kernel},
                                      {"output_padding", extra}, {"auto_pad", std::string("NOTSET")}}, 11}};
    m.weights(u, w, 1, icg * kernel[0], group == 1 && m.pick(0, 3) != 0);
    if (group > 1) u.operands[1].quant->scale.resize(1), u.operands[1].quant->axis = -1;
    m.residual(u);
    m.activation(u, true);
    u.contract = with("dot", u);
    both(u, "ConvTranspose " + std::to_string(i));
  }
}

TEST_P(Simulated, ProductsOfTwoTensors) {
  Maker m;
  for (int i = 0; i < rounds(120); ++i) {
    Unit u;
    const int64_t rows = m.pick(1, 40), depth = m.pick(1, 90), columns = m.pick(1, 140);
    Dims a, b, y;
    for (int64_t axis = m.pick(0, 3); axis > 0; --axis) {
      const int64_t size = m.pick(1, 3), which = m.pick(0, 3);
      y.push_back(size);
      if (which != 3 || !a.empty()) a.push_back(which == 1 ? 1 : size);
      if (which != 2 || !b.empty()) b.push_back(which == 0 ? 1 : size);
      if (a.empty() && b.empty()) a.push_back(size);
      // An axis of the output comes from one of them at least.
      if (!a.empty() && !b.empty() && a.back() == 1 && b.back() == 1) y.back() = 1;
      if (a.empty()) y.back() = b.back();
      if (b.empty()) y.back() = a.back();
      if (!a.empty() && !b.empty()) y.back() = std::max(a.back(), b.back());
    }
    a.insert(a.end(), {rows, depth});
    b.insert(b.end(), {depth, columns});
    y.insert(y.end(), {rows, columns});
    u.operands = {m.input("input", a), m.input("weight", b)};
    u.output = m.output(y, i % 3);
    if (u.output.quant) u.output.quant->scale[0] *= std::sqrt(static_cast<float>(depth)) / 2;
    u.nodes = {{"MatMul", {0, 1}, {}, 13}};
    m.residual(u);
    m.activation(u, true);
    u.contract = with("product", u);
    both(u, "MatMul " + std::to_string(i));
  }
  // The largest codes against zero points at the other end; a longer sum is refused.
  for (int64_t zero : {int64_t{0}, int64_t{255}}) {
    Unit u;
    u.operands = {flowing("input", {1, 33000}, u8(0.01f, zero)), flowing("weight", {33000, 3}, u8(0.01f, 255 - zero))};
    u.operands[0].codes.assign(33000, 255 - zero);
    u.operands[1].codes.assign(99000, zero);
    u.output = m.output({1, 3}, 2);
    u.nodes = {{"MatMul", {0, 1}, {}, 13}};
    u.contract = "product_float";
    both(u, "extremes");
    u.operands[0].dims[1] = u.operands[1].dims[0] = 33026;
    std::string why;
    EXPECT_FALSE(plugin->supports(u, why));
    EXPECT_NE(why.find("accumulator"), std::string::npos) << why;
  }
}

TEST_P(Simulated, Tables) {
  Maker m;
  for (int i = 0; i < rounds(9); ++i)
    for (const char* op : {"Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Swish", "Gelu", "Mish", "LeakyRelu", "PRelu", "Elu", "Celu", "Selu", "Softplus",
                           "Softsign", "ThresholdedRelu", "Exp", "Log", "Sqrt", "Reciprocal", "Abs", "Neg", "Erf", "Sign", "Floor", "Ceil", "Round"}) {
      Unit u;
      const Dims dims = i % 2 ? Dims{2, m.pick(1, 40), 3, m.pick(1, 70)} : Dims{m.pick(1, 5), m.pick(1, 200)};
      u.operands = {m.input("input", dims)};
      u.output = m.output(dims, i % 3);
      u.nodes = {{op, {0}, {}, 20}};
      if (u.nodes[0].op == "PRelu") {
        u.nodes[0].inputs.push_back(1);
        u.operands.push_back(constant_f32(0.17f));
      }
      u.contract = "table";
      both(u, std::string(op) + " " + std::to_string(i));
    }
}

// The same numbers in and out now and then: codes are copied then.
void same_numbers(Unit& u, Maker& m) {
  if (m.pick(0, 1) && u.output.quant && u.operands[0].quant->is_signed == u.output.quant->is_signed) u.output.quant = u.operands[0].quant;
}

TEST_P(Simulated, Pairs) {
  Maker m;
  for (int i = 0; i < rounds(60); ++i)
    for (const char* op : {"Add", "Sub", "Mul", "Div", "Max", "Min"}) {
      const int64_t n = m.pick(1, 2), c = m.pick(1, 70), h = m.pick(1, 6), w = m.pick(1, 9);
      const Dims dims = i % 5 == 4 ? Dims{n, c} : Dims{n, c, h, w};
      Dims other = dims;
      switch (i % 4) {
        case 1: other = i % 5 == 4 ? Dims{1} : Dims{n, c, 1, 1}; break;  // squeeze and excite
        case 2: other = {}; break;
        case 3: other = {dims.back()}; break;
        default: break;
      }
      Unit u;
      u.operands = {m.input("a", dims), m.input("b", other)};
      if (i % 3 == 2 && u.nodes.empty() && std::string(op) != "Div") std::swap(u.operands[0].dims, u.operands[1].dims), std::swap(u.operands[0].codes, u.operands[1].codes),
          std::swap(u.operands[0].quant, u.operands[1].quant), std::swap(u.operands[0].dtype, u.operands[1].dtype);
      if (std::string(op) == "Div" || m.pick(0, 3) == 0) u.operands[1].constant = true;
      if (std::string(op) == "Div")
        for (auto& code : u.operands[1].codes) code += code == u.operands[1].zero() ? (code > 0 ? -1 : 1) : 0;
      u.output = m.output(dims, (i + 1) % 3);
      if (u.output.quant && std::string(op) == "Div") u.output.quant->scale = {0.3f};
      u.nodes = {{op, {0, 1}, {}, 14}};
      const std::string kind = op;
      if (kind == "Mul" || kind == "Add" || kind == "Sub") m.activation(u);
      u.contract = kind == "Add" || kind == "Sub" ? with("add", u) : kind == "Mul" ? "mul" : kind == "Div" ? "div" : kind == "Max" ? "larger" : "smaller";
      both(u, kind + " " + std::to_string(i));
    }
}

TEST_P(Simulated, Selections) {
  Maker m;
  const auto check = [&](Unit u, const std::string& what, int i) {
    same_numbers(u, m);
    u.contract = with("move", u);
    both(u, what + " " + std::to_string(i));
  };
  for (int i = 0; i < rounds(60); ++i) {
    const Dims dims{m.pick(1, 3), m.pick(1, 40), m.pick(2, 9), m.pick(2, 9)};
    const size_t axis = static_cast<size_t>(m.pick(0, 3));
    const int64_t size = dims[axis], a = static_cast<int64_t>(axis) - (m.pick(0, 1) ? 4 : 0);
    Unit u;
    u.operands = {m.input("input", dims)};
    Dims out = dims;

    const int64_t begin = m.pick(0, size - 1), step = m.pick(1, 3);
    out[axis] = (size - begin + step - 1) / step;
    Unit slice = u;
    slice.operands.insert(slice.operands.end(), {constant_s64({begin}), constant_s64({INT64_MAX}), constant_s64({a}), constant_s64({step})});
    slice.nodes = {{"Slice", {0, 1, 2, 3, 4}, {}, 13}};
    slice.output = m.output(out, i % 3);
    check(slice, "Slice", i);
    slice.operands[1] = constant_s64({-1});
    slice.operands[2] = constant_s64({INT64_MIN});
    slice.operands[4] = constant_s64({-1});
    slice.output = m.output(dims, i % 3);
    check(slice, "Slice backwards", i);

    Unit gather = u;
    std::vector<int64_t> index;
    for (int64_t k = m.pick(1, 12); k > 0; --k) index.push_back(m.pick(-size, size - 1));
    gather.operands.push_back(constant_s64(index));
    gather.nodes = {{"Gather", {0, 1}, {{"axis", a}}, 13}};
    out[axis] = static_cast<int64_t>(index.size());
    gather.output = m.output(out, i % 3);
    check(gather, "Gather", i);
    gather.operands[1] = constant_s64({index[0]});
    gather.operands[1].dims = {};
    out.erase(out.begin() + static_cast<std::ptrdiff_t>(axis));
    gather.output = m.output(out, i % 3);
    check(gather, "Gather of one", i);

    Unit pad = u;
    const std::string mode = i % 4 == 0 ? "edge" : i % 4 == 1 ? "reflect" : "constant";
    std::vector<int64_t> pads(8, 0);
    out = dims;
    for (size_t k = 0; k < 4; ++k) {
      const int64_t most = mode == "constant" ? 3 : std::min<int64_t>(2, dims[k] - 1);
      pads[k] = m.pick(0, most);
      pads[k + 4] = m.pick(0, most);
      out[k] += pads[k] + pads[k + 4];
    }
    pad.operands.push_back(constant_s64(pads));
    pad.nodes = {{"Pad", {0, 1}, {{"mode", mode}}, 13}};
    if (i % 4 == 3) {
      const Operand& x = pad.operands[0];
      const int64_t top = x.quant->is_signed ? 127 : 255;
      pad.operands.push_back(constant_f32(static_cast<float>(top - x.zero()) * x.scale() * 0.37f));
      pad.nodes[0].inputs.push_back(2);
    }
    pad.output = m.output(out, i % 3);
    check(pad, "Pad " + mode, i);

    Unit tile = u;
    std::vector<int64_t> repeats;
    for (size_t k = 0; k < 4; ++k) {
      repeats.push_back(m.pick(1, 3));
      out[k] = dims[k] * repeats[k];
    }
    tile.operands.push_back(constant_s64(repeats));
    tile.nodes = {{"Tile", {0, 1}, {}, 13}};
    tile.output = m.output(out, i % 3);
    check(tile, "Tile", i);

    Unit expand;
    expand.operands = {m.input("input", {dims[1], 1, dims[3]})};
    expand.operands.push_back(constant_s64({3, dims[1], 5, 1}));
    expand.nodes = {{"Expand", {0, 1}, {}, 13}};
    expand.output = m.output({3, dims[1], 5, dims[3]}, i % 3);
    check(expand, "Expand", i);

    const int64_t block = m.pick(1, 3), c = m.pick(1, 20);
    Unit blocks;
    blocks.operands = {m.input("input", {dims[0], c * block * block, dims[2], dims[3]})};
    blocks.nodes = {{"DepthToSpace", {0}, {{"blocksize", block}, {"mode", std::string(i % 2 ? "CRD" : "DCR")}}, 13}};
    blocks.output = m.output({dims[0], c, dims[2] * block, dims[3] * block}, i % 3);
    check(blocks, "DepthToSpace", i);
    blocks.operands = {m.input("input", {dims[0], c, dims[2] * block, dims[3] * block})};
    blocks.nodes = {{"SpaceToDepth", {0}, {{"blocksize", block}}, 13}};
    blocks.output = m.output({dims[0], c * block * block, dims[2], dims[3]}, i % 3);
    check(blocks, "SpaceToDepth", i);
  }
}

TEST_P(Simulated, Means) {
  Maker m;
  const std::vector<std::vector<int64_t>> all_axes{{2, 3}, {-1}, {1}, {1, 3}, {0, 2}, {0, 1, 2, 3}, {-2, -1}, {2}};
  for (int i = 0; i < rounds(64); ++i) {
    const Dims dims{m.pick(1, 3), m.pick(1, 70), m.pick(1, 7), m.pick(1, 30)};
    const auto axes = all_axes[static_cast<size_t>(i) % all_axes.size()];
    const bool keep = i % 3 != 0, stated = i % 2;
    Dims out;
    for (int64_t a = 0; a < 4; ++a) {
      const bool reduced = std::find(axes.begin(), axes.end(), a) != axes.end() || std::find(axes.begin(), axes.end(), a - 4) != axes.end();
      if (!reduced) out.push_back(dims[static_cast<size_t>(a)]);
      else if (keep) out.push_back(1);
    }
    Unit u;
    u.operands = {m.input("input", dims)};
    u.nodes = {{"ReduceMean", {0}, {{"keepdims", int64_t{keep}}}, stated ? 18 : 13}};
    if (stated) {
      u.operands.push_back(constant_s64(axes));
      u.nodes[0].inputs.push_back(1);
    } else {
      u.nodes[0].attributes["axes"] = axes;
    }
    u.output = m.output(out, i % 4 % 3);
    u.contract = "mean";
    both(u, "ReduceMean " + std::to_string(i));
  }
  if (compared == 0) GTEST_SKIP() << GetParam() << " has no ReduceMean";
}

TEST_P(Simulated, Resize) {
  Maker m;
  const char* const modes[] = {"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"};
  const char* const roundings[] = {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"};
  for (int i = 0; i < rounds(120); ++i) {
    const bool image = i % 5 != 0, nearest = i % 2, by_sizes = m.pick(0, 1);
    Dims dims{m.pick(1, 2), m.pick(1, 70), m.pick(1, 9), m.pick(1, 9)};
    if (!image) dims.pop_back();
    Dims out = dims;
    Operand scales;
    scales.dtype = QUERN_DTYPE_F32;
    scales.constant = true;
    scales.dims = {static_cast<int64_t>(dims.size())};
    scales.floats.assign(dims.size(), 1.f);
    for (size_t a = 2; a < dims.size(); ++a) {
      scales.floats[a] = m.pick(0, 1) ? 2.f : m.real(0.4f, 3.f);
      out[a] = static_cast<int64_t>(std::floor(static_cast<float>(dims[a]) * scales.floats[a]));
      if (out[a] < 1) out[a] = 1, scales.floats[a] = 1.f / static_cast<float>(dims[a]);
    }
    Unit u;
    u.operands = {m.input("input", dims), by_sizes ? constant_s64(out) : scales};
    u.nodes = {{"Resize", {0, QUERN_ABSENT_INPUT, 1}, {{"mode", std::string(nearest ? "nearest" : "linear")},
                {"coordinate_transformation_mode", std::string(modes[i % 4 == 3 ? 0 : m.pick(0, 4)])}, {"nearest_mode", std::string(roundings[m.pick(0, 3)])}}, 19}};
    if (by_sizes) u.nodes[0].inputs = {0, QUERN_ABSENT_INPUT, QUERN_ABSENT_INPUT, 1};
    u.output = m.output(out, i % 3 == 2 && i % 2 ? 2 : i % 2);
    same_numbers(u, m);
    u.contract = "resample";
    both(u, "Resize " + std::to_string(i));
  }
}

TEST_P(Simulated, EverythingElse) {
  Maker m;
  for (int i = 0; i < rounds(60); ++i) {
    const int64_t n = m.pick(1, 2), c = m.pick(1, 40), h = m.pick(4, 9), w = m.pick(4, 9);
    const Dims dims{n, c, h, w};
    Unit add;
    add.operands = {m.input("a", dims), m.input("b", m.pick(0, 2) ? dims : m.pick(0, 1) ? Dims{n, c, 1, 1} : Dims{1, w})};
    add.output = m.output(dims, i % 3);
    add.nodes = {{"Add", {0, 1}, {}, 14}};
    m.activation(add);
    add.contract = with("add", add);
    both(add, "Add " + std::to_string(i));

    for (const char* op : {"AveragePool", "MaxPool", "GlobalAveragePool", "GlobalMaxPool"}) {
      Unit pool;
      const std::string name = op;
      const bool global = name[0] == 'G', average = name.find("Average") != std::string::npos;
      const int64_t k = m.pick(1, 3), s = m.pick(1, 2);
      const std::vector<int64_t> pads = k == 1 ? std::vector<int64_t>{0, 0, 0, 0} : std::vector<int64_t>{m.pick(0, 1), m.pick(0, 1), m.pick(0, 1), m.pick(0, 1)};
      const bool ceil = m.pick(0, 1);
      const auto size = [&](int64_t in, int64_t begin, int64_t end) {
        const int64_t room = in + begin + end - k;
        int64_t out = room / s + 1;
        if (ceil && room % s && out * s < in + begin) ++out;
        return out;
      };
      pool.operands = {m.input("input", dims)};
      pool.output = m.output(global ? Dims{n, c, 1, 1} : Dims{n, c, size(h, pads[0], pads[2]), size(w, pads[1], pads[3])}, i % 3);
      if (m.pick(0, 2) == 0 && pool.output.quant && pool.operands[0].quant->is_signed == pool.output.quant->is_signed) pool.output.quant = pool.operands[0].quant;
      pool.nodes = {{op, {0}, {}, global ? 1 : average ? 19 : 12}};
      if (!global) {
        pool.nodes[0].attributes = {{"kernel_shape", std::vector<int64_t>{k, k}}, {"strides", std::vector<int64_t>{s, s}}, {"pads", pads},
                                    {"ceil_mode", int64_t{ceil}}, {"auto_pad", std::string("NOTSET")}};
        if (average) pool.nodes[0].attributes["count_include_pad"] = m.pick(0, 1);
      }
      m.activation(pool);
      pool.contract = with(average ? "average" : "max", pool);
      both(pool, name + " " + std::to_string(i));
    }

    Unit move;
    move.operands = {m.input("input", dims)};
    move.nodes = {{"Transpose", {0}, {{"perm", std::vector<int64_t>{0, 2, 3, 1}}}, 13}};
    move.output = m.output({n, h, w, c}, i % 2);
    if (m.pick(0, 1) && move.operands[0].quant->is_signed == move.output.quant->is_signed) move.output.quant = move.operands[0].quant;
    move.contract = "move";
    both(move, "Transpose " + std::to_string(i));
    Unit flat = move;
    flat.nodes = {{"Flatten", {0}, {{"axis", int64_t{1}}}, 13}};
    flat.output.dims = {n, c * h * w};
    both(flat, "Flatten " + std::to_string(i));
    Unit relu = move;
    relu.nodes = {{"Relu", {0}, {}, 14}};
    relu.output = m.output(dims, i % 3);
    relu.contract = with("move", relu);
    both(relu, "Relu " + std::to_string(i));

    Unit concat;
    const Quant q = m.any_quant();
    concat.operands = {m.input("in0", dims, q), m.input("in1", {n, 3, h, w}, q)};
    concat.output = flowing("output", {n, c + 3, h, w}, q);
    concat.nodes = {{"Concat", {0, 1}, {{"axis", int64_t{1}}}, 13}};
    concat.contract = "concat";
    both(concat, "Concat " + std::to_string(i));
  }
}

}  // namespace
}  // namespace cpu_test
