#include "tests/engine/engine_testing.hpp"

#include "core/engine/reorder.hpp"

namespace quern::testing {
namespace {

int64_t offset(const Dims& dims, const Dims& index) {
  int64_t at = 0;
  for (size_t i = 0; i < dims.size(); ++i) at = at * dims[i] + index[i];
  return at;
}

template <class F>
void each_index(const Dims& dims, F f) {
  if (element_count(dims) == 0) return;
  Dims index(dims.size(), 0);
  for (;;) {
    f(index);
    size_t i = dims.size();
    while (i > 0 && ++index[i - 1] == dims[i - 1]) index[--i] = 0;
    if (i == 0) return;
  }
}

// Reads with numpy's broadcasting.
double at(const Array& a, const Dims& index) {
  Dims own(a.dims.size());
  for (size_t i = 0; i < own.size(); ++i) own[i] = a.dims[i] == 1 ? 0 : index[index.size() - own.size() + i];
  return a.v[static_cast<size_t>(offset(a.dims, own))];
}

Array conv(const Node& n, const Array& x, const Array& w, const Array* bias, bool transposed) {
  const size_t spatial = x.dims.size() - 2;
  const auto stride = n.integers("strides", std::vector<int64_t>(spatial, 1)), dilation = n.integers("dilations", std::vector<int64_t>(spatial, 1));
  const auto pads = n.integers("pads", std::vector<int64_t>(2 * spatial, 0)), extra = n.integers("output_padding", std::vector<int64_t>(spatial, 0));
  const int64_t group = n.integer("group", 1), in_channels = x.dims[1];
  const int64_t out_channels = transposed ? w.dims[1] * group : w.dims[0];
  Array y{{x.dims[0], out_channels}, {}};
  for (size_t i = 0; i < spatial; ++i) {
    const int64_t span = (w.dims[i + 2] - 1) * dilation[i] + 1;
    y.dims.push_back(transposed ? (x.dims[i + 2] - 1) * stride[i] + span + extra[i] - pads[i] - pads[i + spatial]
                                : (x.dims[i + 2] + pads[i] + pads[i + spatial] - span) / stride[i] + 1);
  }
  y.v.assign(static_cast<size_t>(element_count(y.dims)), 0.0);
  const Dims kernel(w.dims.begin() + 2, w.dims.end());
  const int64_t in_group = in_channels / group, out_group = out_channels / group;
  each_index(transposed ? x.dims : y.dims, [&](const Dims& p) {
    const int64_t g = transposed ? p[1] / in_group : p[1] / out_group;
    for (int64_t c = 0; c < (transposed ? out_group : in_group); ++c)
      each_index(kernel, [&](const Dims& k) {
        Dims q{p[0], g * (transposed ? out_group : in_group) + c};
        for (size_t i = 0; i < spatial; ++i)
          q.push_back(p[i + 2] * stride[i] - pads[i] + k[i] * dilation[i]);
        const Dims& limit = transposed ? y.dims : x.dims;
        for (size_t i = 2; i < q.size(); ++i)
          if (q[i] < 0 || q[i] >= limit[i]) return;
        Dims wi{p[1], c};
        wi.insert(wi.end(), k.begin(), k.end());
        const double tap = w.v[static_cast<size_t>(offset(w.dims, wi))];
        if (transposed) y.v[static_cast<size_t>(offset(y.dims, q))] += tap * x.v[static_cast<size_t>(offset(x.dims, p))];
        else y.v[static_cast<size_t>(offset(y.dims, p))] += tap * x.v[static_cast<size_t>(offset(x.dims, q))];
      });
  });
  if (bias) each_index(y.dims, [&](const Dims& p) { y.v[static_cast<size_t>(offset(y.dims, p))] += bias->v[static_cast<size_t>(p[1])]; });
  return y;
}

Array matmul(Array a, Array b) {
  const bool row = a.dims.size() == 1, column = b.dims.size() == 1;
  if (row) a.dims.insert(a.dims.begin(), 1);
  if (column) b.dims.push_back(1);
  const int64_t m = a.dims[a.dims.size() - 2], k = a.dims.back(), n = b.dims.back();
  Dims out = broadcast(std::span(a.dims).first(a.dims.size() - 2), std::span(b.dims).first(b.dims.size() - 2));
  out.insert(out.end(), {m, n});
  Array y{out, std::vector<double>(static_cast<size_t>(element_count(out)))};
  each_index(out, [&](const Dims& p) {
    double sum = 0;
    for (int64_t i = 0; i < k; ++i) {
      Dims pa = p, pb = p;
      pa.back() = i;
      pb[pb.size() - 2] = i;
      sum += at(a, pa) * at(b, pb);
    }
    y.v[static_cast<size_t>(offset(out, p))] = sum;
  });
  if (column) y.dims.pop_back();
  if (row) y.dims.erase(y.dims.end() - (column ? 1 : 2));
  return y;
}

Array transposed(const Array& a) {
  Array t{{a.dims[1], a.dims[0]}, std::vector<double>(a.v.size())};
  each_index(a.dims, [&](const Dims& p) { t.v[static_cast<size_t>(offset(t.dims, {p[1], p[0]}))] = at(a, p); });
  return t;
}

template <class F>
Array binary(const Array& a, const Array& b, F f) {
  Array y{broadcast(a.dims, b.dims), {}};
  each_index(y.dims, [&](const Dims& p) { y.v.push_back(f(at(a, p), at(b, p))); });
  return y;
}

template <class F>
Array unary(Array a, F f) {
  for (double& v : a.v) v = f(v);
  return a;
}

Array compute(const Graph& g, const Node& n, const std::vector<const Array*>& in) {
  const double infinity = std::numeric_limits<double>::infinity();
  if (n.op == "Conv" || n.op == "ConvTranspose") return conv(n, *in[0], *in[1], in.size() > 2 ? in[2] : nullptr, n.op != "Conv");
  if (n.op == "MatMul") return matmul(*in[0], *in[1]);
  if (n.op == "Gemm") {
    Array y = matmul(n.integer("transA", 0) ? transposed(*in[0]) : *in[0], n.integer("transB", 0) ? transposed(*in[1]) : *in[1]);
    const double alpha = n.real("alpha", 1), beta = n.real("beta", 1);
    y = unary(y, [&](double v) { return alpha * v; });
    return in.size() > 2 ? binary(y, *in[2], [&](double a, double c) { return a + beta * c; }) : y;
  }
  if (n.op == "Add") return binary(*in[0], *in[1], [](double a, double b) { return a + b; });
  if (n.op == "Mul") return binary(*in[0], *in[1], [](double a, double b) { return a * b; });
  if (n.op == "Relu") return unary(*in[0], [](double v) { return std::max(v, 0.0); });
  if (n.op == "Neg") return unary(*in[0], [](double v) { return -v; });
  if (n.op == "LeakyRelu") return unary(*in[0], [&](double v) { return v < 0 ? v * static_cast<double>(n.real("alpha", 0.01f)) : v; });
  if (n.op == "Elu") return unary(*in[0], [&](double v) { return v < 0 ? n.real("alpha", 1) * std::expm1(v) : v; });
  if (n.op == "Sigmoid") return unary(*in[0], [](double v) { return 1 / (1 + std::exp(-v)); });
  if (n.op == "Tanh") return unary(*in[0], [](double v) { return std::tanh(v); });
  if (n.op == "Swish") return unary(*in[0], [a = static_cast<double>(n.real("alpha", 1))](double v) { return v / (1 + std::exp(-a * v)); });
  if (n.op == "Mish") return unary(*in[0], [](double v) { return v * std::tanh(std::log1p(std::exp(v))); });
  if (n.op == "Gelu" && n.text("approximate", "none") == "none") return unary(*in[0], [](double v) { return v * std::erfc(-v / std::sqrt(2.0)) / 2; });
  if (n.op == "Gelu") return unary(*in[0], [](double v) { return v * (1 + std::tanh(std::sqrt(2 / std::acos(-1.0)) * (v + 0.044715 * v * v * v))) / 2; });
  if (n.op == "HardSwish") return unary(*in[0], [](double v) { return v * std::clamp(v / 6 + 0.5, 0.0, 1.0); });
  if (n.op == "Clip") {
    double low = n.has("min") ? n.real("min", 0) : -infinity, high = n.has("max") ? n.real("max", 0) : infinity;
    if (in.size() > 1 && in[1]) low = in[1]->v[0];
    if (in.size() > 2 && in[2]) high = in[2]->v[0];
    return unary(*in[0], [&](double v) { return std::min(std::max(v, low), high); });
  }
  if (n.op == "Reshape") {
    Array y = *in[0];
    y.dims.clear();
    for (double d : in[1]->v) y.dims.push_back(static_cast<int64_t>(d));
    for (auto& d : y.dims)
      if (d == -1) { d = 1; d = static_cast<int64_t>(y.v.size()) / element_count(y.dims); }
    return y;
  }
  if (n.op == "Concat") {
    const auto axis = static_cast<size_t>(n.integer("axis", 1));
    Array y = *in[0];
    y.dims[axis] = 0;
    for (const Array* a : in) y.dims[axis] += a->dims[axis];
    y.v.assign(static_cast<size_t>(element_count(y.dims)), 0);
    int64_t start = 0;
    for (const Array* a : in) {
      each_index(a->dims, [&](const Dims& p) {
        Dims q = p;
        q[axis] += start;
        y.v[static_cast<size_t>(offset(y.dims, q))] = at(*a, p);
      });
      start += a->dims[axis];
    }
    return y;
  }
  throw std::runtime_error("the tests' evaluator does not know " + n.op + " of node " + n.name + g.name);
}

}  // namespace

Array array_of(const Tensor& t) {
  Array a{t.dims(), {}};
  if (t.type() == DType::f32) for (float v : t.to_floats()) a.v.push_back(v);
  else for (int64_t v : t.to_ints()) a.v.push_back(static_cast<double>(v));
  return a;
}

std::map<ValueId, Array> evaluate(const Graph& graph, const NamedTensors& inputs) {
  std::map<ValueId, Array> values;
  for (const auto& [name, tensor] : inputs) values[graph.find_value(name)] = array_of(tensor);
  for (size_t v = 0; v < graph.value_slots(); ++v)
    if (const auto& c = graph.value(static_cast<ValueId>(v)).constant) values[static_cast<ValueId>(v)] = array_of(*c);
  for (NodeId id : graph.order()) {
    const Node& n = graph.node(id);
    std::vector<const Array*> in;
    for (ValueId v : n.inputs) in.push_back(v == no_value ? nullptr : &values.at(v));
    values[n.outputs[0]] = compute(graph, n, in);
  }
  return values;
}

void expect_close(const Tensor& got, const Array& want, double tolerance, const std::string& what) {
  ASSERT_EQ(got.type(), DType::f32) << what;
  ASSERT_EQ(got.dims(), want.dims) << what;
  double largest = 0, difference = 0;
  const auto values = got.values<float>();
  for (size_t i = 0; i < want.v.size(); ++i) {
    largest = std::max(largest, std::fabs(want.v[i]));
    const double d = std::fabs(values[i] - want.v[i]);
    difference = std::max(difference, std::isnan(d) ? std::numeric_limits<double>::infinity() : d);
  }
  EXPECT_LE(difference, tolerance * largest) << what << ", largest value " << largest;
}

void expect_same_bytes(const Tensor& a, const Tensor& b, const std::string& what) {
  ASSERT_EQ(a.type(), b.type()) << what;
  ASSERT_EQ(a.dims(), b.dims()) << what;
  EXPECT_EQ(std::memcmp(a.data(), b.data(), a.bytes()), 0) << what;
}

void check_against_reference(const Graph& graph, const NamedTensors& inputs, EngineOptions options, double tolerance) {
  const auto want = evaluate(graph, inputs);
  Engine engine(graph, std::move(options));
  const NamedTensors got = engine.runner().run(inputs);
  ASSERT_EQ(got.size(), graph.outputs().size());
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].first, graph.value(graph.outputs()[i]).name);
    expect_close(got[i].second, want.at(graph.outputs()[i]), tolerance, got[i].first);
  }
}

Tensor dense(const TensorView& view) {
  Tensor t(view.type, Dims(view.dims.begin(), view.dims.end()));
  const Dims strides = row_major_strides(view.dims);
  copy(view, {t.mutable_bytes(), view.type, t.dims(), strides});
  return t;
}

namespace {

using RunFunction = std::function<void(std::span<const TensorView>, const TensorView&)>;

struct PlainKernel final : Kernel {
  explicit PlainKernel(RunFunction f) : function(std::move(f)) {}
  void run(std::span<const TensorView> in, std::span<const TensorView> out, void*, KernelState*) const override { function(in, out[0]); }
  RunFunction function;
};

float* element(const TensorView& v, const Dims& index) {  // with broadcasting
  int64_t at = 0;
  const size_t lead = index.size() - v.dims.size();
  for (size_t i = 0; i < v.dims.size(); ++i) at += v.dims[i] == 1 ? 0 : index[lead + i] * v.strides[i];
  return v.as<float>() + at;
}

class PlainProvider final : public Provider {
 public:
  explicit PlainProvider(std::string fail_on) : fail_on_(std::move(fail_on)) {}
  std::string name() const override { return "plain"; }
  bool knows(const Graph&, const Node& n) const override {
    for (const char* op : {"Relu", "Neg", "Add", "Mul", "Concat", "Reshape"})
      if (n.op == op && n.domain.empty()) return true;
    return false;
  }
  std::optional<PreparedKernel> prepare(const KernelRequest& r) const override {
    const Node& n = r.graph.node(r.members[0]);
    PreparedKernel made;
    made.name = "plain." + n.op;
    made.input_layouts.assign(r.inputs.size(), Layout::any);
    made.output_layouts = {Layout::any};
    if (n.op == "Reshape") {
      made.view = true;
      made.input_layouts.assign(r.inputs.size(), Layout::row_major);
      made.output_layouts = {Layout::row_major};
      return made;
    }
    for (const TensorSpec& s : r.inputs)
      if (s.dtype != DType::f32) return std::nullopt;
    made.may_alias = n.op != "Concat";
    // Add(x, x) enters once.
    auto slot = [&](size_t i) {
      for (size_t s = 0; s < r.input_values.size(); ++s)
        if (r.input_values[s] == n.inputs[i]) return s;
      return size_t{0};
    };
    const std::string op = n.op;
    const bool fails = n.name == fail_on_;
    std::vector<size_t> slots;
    for (size_t i = 0; i < n.inputs.size(); ++i) slots.push_back(slot(i));
    const auto axis = static_cast<size_t>(op == "Concat" ? n.integer("axis", 1) : 0);
    made.kernel = std::make_unique<PlainKernel>([=](std::span<const TensorView> in, const TensorView& out) {
      if (fails) throw Error(ErrorCode::data, "the kernel was told to fail");
      const Dims dims(out.dims.begin(), out.dims.end());
      if (op == "Concat") {
        int64_t start = 0;
        for (size_t s : slots) {
          each_index(Dims(in[s].dims.begin(), in[s].dims.end()), [&](const Dims& p) {
            Dims q = p;
            q[axis] += start;
            *element(out, q) = *element(in[s], p);
          });
          start += in[s].dims[axis];
        }
        return;
      }
      each_index(dims, [&](const Dims& p) {
        const float a = *element(in[slots[0]], p), b = slots.size() > 1 ? *element(in[slots[1]], p) : 0;
        *element(out, p) = op == "Relu" ? std::max(a, 0.0f) : op == "Neg" ? -a : op == "Add" ? a + b : a * b;
      });
    });
    return made;
  }

 private:
  std::string fail_on_;
};

}  // namespace

std::shared_ptr<const Provider> plain_provider(std::string fail_on) { return std::make_shared<PlainProvider>(std::move(fail_on)); }

EngineOptions usual() {
  EngineOptions options;
  options.providers = {onednn_provider(), plain_provider()};
  return options;
}

EngineOptions with_own_kernels() {
  EngineOptions options;
  options.providers = {onednn_provider(), own_float_provider()};
  return options;
}

}  // namespace quern::testing
