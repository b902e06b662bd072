#include "core/engine/island.hpp"

#include <algorithm>
#include <cstring>
#include <map>

#include "core/base/error.hpp"
#include "core/engine/arena.hpp"
#include "core/engine/reorder.hpp"
#include "core/numeric/portable_math.hpp"
#include "core/numeric/quantize_row.hpp"
#include "core/rules/unit.hpp"

namespace quern {
namespace {

// Where numbers lie: bytes from a base. Bases: 0 the workspace, then the inputs, then the outputs of the kernel.
struct Place { size_t base = 0; int64_t offset = 0; };

// Rows of n elements; a step is what lies between two rows, in elements.
struct Row {
  void (*run)(const Row& row, char* const* bases) = nullptr;
  Place a = {}, b = {}, out = {};
  int64_t rows = 1, n = 0, a_step = 0, b_step = 0, out_step = 0;
  bool one_a = false, one_b = false;  // a single number for the whole row
  const QuantParams* quant = nullptr;
};

template <class T>
T* at(const Place& p, char* const* bases) { return reinterpret_cast<T*>(bases[p.base] + p.offset); }

// Operands and results never share memory.
template <class F>
void two(const Row& r, char* const* bases) {
  const float *a = at<float>(r.a, bases), *b = at<float>(r.b, bases);
  float* out = at<float>(r.out, bases);
  for (int64_t k = 0; k < r.rows; ++k, a += r.a_step, b += r.b_step, out += r.n) {
    const float a0 = *a, b0 = *b;
    if (r.one_a) {
#pragma GCC ivdep
      for (int64_t i = 0; i < r.n; ++i) out[i] = F{}(a0, b[i]);
    } else if (r.one_b) {
#pragma GCC ivdep
      for (int64_t i = 0; i < r.n; ++i) out[i] = F{}(a[i], b0);
    } else {
#pragma GCC ivdep
      for (int64_t i = 0; i < r.n; ++i) out[i] = F{}(a[i], b[i]);
    }
  }
}
struct Plus { float operator()(float a, float b) const { return a + b; } };
struct Minus { float operator()(float a, float b) const { return a - b; } };
struct Times { float operator()(float a, float b) const { return a * b; } };
struct Over { float operator()(float a, float b) const { return a / b; } };

template <void (*f)(const float*, float*, long)>
void function(const Row& r, char* const* bases) { f(at<float>(r.a, bases), at<float>(r.out, bases), r.n); }

void relu(const float* x, float* y, long n) {
#pragma GCC ivdep
  for (long i = 0; i < n; ++i) y[i] = x[i] < 0 ? 0 : x[i];
}

void move(const Row& r, char* const* bases) {
  const float* a = at<float>(r.a, bases);
  float* out = at<float>(r.out, bases);
  for (int64_t k = 0; k < r.rows; ++k) std::memcpy(out + k * r.out_step, a + k * r.a_step, static_cast<size_t>(r.n) * sizeof(float));
}

void quantize(const Row& r, char* const* bases) { quantize_row(at<float>(r.a, bases), r.n, *r.quant, at<char>(r.out, bases)); }

using RunRow = void (*)(const Row&, char* const*);

bool standard(const Node& node) { return node.domain.empty() || node.domain == "ai.onnx"; }

RunRow binary_of(const Node& node) {
  if (!standard(node) || node.since_version < 7 || node.inputs.size() != 2) return nullptr;
  return node.op == "Add" ? two<Plus> : node.op == "Sub" ? two<Minus> : node.op == "Mul" ? two<Times> : node.op == "Div" ? two<Over> : nullptr;
}

RunRow unary_of(const Node& node) {
  if (!standard(node)) return nullptr;
  return node.op == "Sigmoid" ? function<portable::sigmoid_array> : node.op == "Tanh" ? function<portable::tanh_array>
         : node.op == "Relu" ? function<relu> : nullptr;
}

bool is_view(const Node& node) {
  return standard(node) && (node.op == "Identity" || node.op == "Reshape" || node.op == "Flatten" || node.op == "Squeeze" || node.op == "Unsqueeze");
}

const QuantParams* quantizer_of(const Node& node) {
  if (node.domain != "quern" || node.op != "Quantize") return nullptr;
  const auto* payload = dynamic_cast<const QuantizePayload*>(node.payload.get());
  return payload && payload->params.scale.size() == 1 && payload->params.zero_point.size() == 1 && payload->params.format.bits <= 16 ? &payload->params : nullptr;
}

std::optional<int64_t> axis_of(const Node& node, std::optional<int64_t> fallback, size_t rank) {
  if (!node.has("axis") && !fallback) return std::nullopt;
  const int64_t n = static_cast<int64_t>(rank), axis = node.integer("axis", fallback.value_or(0));
  if (axis < -n || axis >= n) return std::nullopt;
  return axis < 0 ? axis + n : axis;
}

int64_t product(const Dims& dims, size_t from, size_t to) {
  int64_t n = 1;
  for (size_t i = from; i < to; ++i) n *= dims[i];
  return n;
}

// A Slice of one axis by constants, step 1: the axis and where it begins.
std::optional<std::pair<size_t, int64_t>> slice_of(const Node& node, const Dims& in, const SpecOf& spec_of) {
  if (node.since_version < 10 || node.inputs.size() < 4) return std::nullopt;
  const auto number = [&](size_t slot) -> std::optional<int64_t> {
    const auto spec = spec_of(node.inputs[slot]);
    if (!spec || !spec->constant || spec->constant->count() != 1) return std::nullopt;
    return spec->constant->to_ints()[0];
  };
  if (node.inputs[1] == no_value || node.inputs[3] == no_value) return std::nullopt;
  const auto start = number(1), axis = number(3);
  if (!start || !axis || (node.inputs.size() > 4 && node.inputs[4] != no_value && number(4) != 1)) return std::nullopt;
  const auto rank = static_cast<int64_t>(in.size());
  if (*axis < -rank || *axis >= rank) return std::nullopt;
  const auto a = static_cast<size_t>(*axis < 0 ? *axis + rank : *axis);
  return std::pair{a, std::clamp<int64_t>(*start < 0 ? *start + in[a] : *start, 0, in[a])};
}

// How an operand of a two-operand operator repeats over the output: whole rows of the output's last axes, or single numbers.
struct Repeat { int64_t period; };  // elements, then from the start again; all of the output: does not repeat
std::optional<Repeat> repeat_of(const Dims& operand, const Dims& out) {
  const int64_t count = element_count(operand);
  if (count == element_count(out) || count == 1) return Repeat{count};
  size_t first = 0;
  while (first < operand.size() && operand[first] == 1) ++first;
  const size_t rank = operand.size() - first;
  if (rank > out.size() || !std::equal(operand.begin() + static_cast<long>(first), operand.end(), out.end() - static_cast<long>(rank))) return std::nullopt;
  return Repeat{count};
}

// One node after the other becomes rows.
class Builder {
 public:
  explicit Builder(const SpecOf& spec_of) : spec_of_(spec_of) {}

  IslandRole role(const Node& node) const {
    for (ValueId v : node.outputs) {
      if (v == no_value) return IslandRole::none;
      const auto spec = spec_of_(v);
      if (!spec || element_count(spec->dims) < 1 || element_count(spec->dims) > island_elements || !layouts_coincide(spec->dims)) return IslandRole::none;
      if (spec->dtype != DType::f32 && !quantizer_of(node)) return IslandRole::none;
    }
    if (node.outputs.empty() || node.inputs.empty()) return IslandRole::none;
    const bool binary = binary_of(node), join = standard(node) && node.op == "Concat";
    for (size_t i = 0; i < (binary || join ? node.inputs.size() : 1); ++i)
      if (!number(node.inputs[i])) return IslandRole::none;
    const Dims in = spec_of_(node.inputs[0])->dims, out = spec_of_(node.outputs[0])->dims;
    if (binary) {
      const auto a = repeat_of(in, out), b = repeat_of(spec_of_(node.inputs[1])->dims, out);
      const bool whole = a && b && std::max(a->period, b->period) == element_count(out);
      return whole ? IslandRole::work : IslandRole::none;
    }
    if (unary_of(node) || quantizer_of(node)) return IslandRole::work;
    if (is_view(node)) return IslandRole::view;
    if (join) return axis_of(node, std::nullopt, out.size()) ? IslandRole::work : IslandRole::none;
    if (standard(node) && node.op == "Split") return axis_of(node, 0, in.size()) ? IslandRole::work : IslandRole::none;
    if (standard(node) && node.op == "Slice") return slice_of(node, in, spec_of_) ? IslandRole::work : IslandRole::none;
    return IslandRole::none;
  }

  void enter(ValueId v, size_t base, bool by_caller) {
    if (by_caller) places_[v] = {{base, 0}, -1};
    else results_[v] = base;
  }

  void add(const Node& node) {
    ++step_;
    const Dims in = spec_of_(node.inputs[0])->dims;
    const auto out_dims = [&](size_t o) { return spec_of_(node.outputs[o])->dims; };
    if (const RunRow run = binary_of(node)) {
      Row r{.run = run, .a = read(node.inputs[0]), .b = read(node.inputs[1])};
      const int64_t count = element_count(out_dims(0));
      const int64_t a = repeat_of(in, out_dims(0))->period, b = repeat_of(spec_of_(node.inputs[1])->dims, out_dims(0))->period;
      r.one_a = a == 1 && count > 1;
      r.one_b = b == 1 && count > 1;
      r.n = r.one_a || r.one_b ? count : std::min(a, b);
      r.rows = count / r.n;
      r.a_step = a == count ? r.n : 0;
      r.b_step = b == count ? r.n : 0;
      r.out = made(node.outputs[0]);
      rows_.push_back(r);
    } else if (const RunRow f = unary_of(node)) {
      rows_.push_back({.run = f, .a = read(node.inputs[0]), .out = made(node.outputs[0]), .n = element_count(in)});
    } else if (const QuantParams* q = quantizer_of(node)) {
      owners_.push_back(node.payload);
      rows_.push_back({.run = quantize, .a = read(node.inputs[0]), .out = made(node.outputs[0]), .n = element_count(in), .quant = q});
    } else if (node.op == "Concat") {
      const Dims out = out_dims(0);
      const auto axis = static_cast<size_t>(*axis_of(node, std::nullopt, out.size()));
      const int64_t outer = product(out, 0, axis), whole = product(out, axis, out.size());
      Place to = made(node.outputs[0]);
      for (ValueId v : node.inputs) {
        const Dims part = spec_of_(v)->dims;
        const int64_t n = product(part, axis, part.size());
        if (n == 0) continue;
        rows_.push_back({.run = move, .a = read(v), .out = to, .rows = outer, .n = n, .a_step = n, .out_step = whole});
        to.offset += n * 4;
      }
    } else if (is_view(node)) {
      part(node.outputs[0], node.inputs[0], 1, element_count(in), element_count(in), 0);
    } else {
      const bool slice = node.op == "Slice";
      const auto cut = slice ? slice_of(node, in, spec_of_) : std::nullopt;
      const size_t axis = slice ? cut->first : static_cast<size_t>(*axis_of(node, 0, in.size()));
      const int64_t outer = product(in, 0, axis), inner = product(in, axis + 1, in.size());
      int64_t first = slice ? cut->second : 0;
      for (size_t o = 0; o < node.outputs.size(); ++o) {
        const int64_t n = out_dims(o)[axis];
        part(node.outputs[o], node.inputs[0], outer, n * inner, in[axis] * inner, first * inner);
        first += n;
      }
    }
  }

  // Rows that are left, and the workspace they want.
  size_t finish() { return assign_offsets(spans_); }
  std::vector<Row> rows() const {
    std::vector<Row> all = rows_;
    for (Row& r : all)
      for (Place* p : {&r.a, &r.b, &r.out})
        if (p->base >= own) *p = {0, p->offset + static_cast<int64_t>(spans_[p->base - own].offset)};
    return all;
  }
  std::vector<std::shared_ptr<const NodePayload>> owners() const { return owners_; }

 private:
  static constexpr size_t own = size_t{1} << 32;  // bases from here on: spans of the workspace
  struct Known { Place place; int span; };        // span -1: not of the workspace

  bool number(ValueId v) const {
    if (v == no_value) return false;
    const auto spec = spec_of_(v);
    return spec && spec->dtype == DType::f32 && element_count(spec->dims) >= 1 && element_count(spec->dims) <= island_elements && layouts_coincide(spec->dims);
  }

  Place read(ValueId v) {
    const Known& k = places_.at(v);
    if (k.span >= 0) spans_[static_cast<size_t>(k.span)].last = step_;
    return k.place;
  }
  // Room for a result: where the caller wants it, or in the workspace.
  Place made(ValueId v) {
    Known k;
    if (const auto it = results_.find(v); it != results_.end()) {
      k = {{it->second, 0}, -1};
    } else {
      const auto spec = *spec_of_(v);
      spans_.push_back({.bytes = static_cast<size_t>(element_count(spec.dims)) * size_of(spec.dtype), .first = step_, .last = step_});
      k = {{own + spans_.size() - 1, 0}, static_cast<int>(spans_.size()) - 1};
    }
    places_[v] = k;
    return k.place;
  }
  // `rows` pieces of n elements that lie `step` apart in `from`: read where they lie if they can be, else copied.
  void part(ValueId to, ValueId from, int64_t rows, int64_t n, int64_t step, int64_t first) {
    const Place source = read(from);
    const Place piece{source.base, source.offset + first * 4};
    if ((rows == 1 || n == step) && !results_.count(to)) {
      places_[to] = {piece, places_.at(from).span};
      return;
    }
    rows_.push_back({.run = move, .a = piece, .out = made(to), .rows = rows, .n = n, .a_step = step, .out_step = n});
  }

  const SpecOf& spec_of_;
  std::map<ValueId, Known> places_;
  std::map<ValueId, size_t> results_;
  std::vector<ArenaSpan> spans_;
  std::vector<Row> rows_;
  std::vector<std::shared_ptr<const NodePayload>> owners_;  // of quantizers
  int step_ = 0;
};

class IslandKernel final : public Kernel {
 public:
  IslandKernel(std::vector<Row> rows, size_t workspace, size_t bases, std::vector<std::shared_ptr<const NodePayload>> owners)
      : rows_(std::move(rows)), workspace_(workspace), bases_(bases), owners_(std::move(owners)) {}
  size_t workspace_bytes() const override { return workspace_; }

  struct Bases : KernelState { std::vector<char*> at; };
  std::unique_ptr<KernelState> make_state() const override {
    auto state = std::make_unique<Bases>();
    state->at.resize(bases_);
    return state;
  }
  void run(std::span<const TensorView> inputs, std::span<const TensorView> outputs, void* workspace, KernelState* state) const override {
    auto& bases = static_cast<Bases*>(state)->at;
    bases[0] = static_cast<char*>(workspace);
    size_t next = 1;
    for (const TensorView& v : inputs) bases[next++] = static_cast<char*>(v.data);
    for (const TensorView& v : outputs) bases[next++] = static_cast<char*>(v.data);
    for (const Row& r : rows_) r.run(r, bases.data());
  }

 private:
  std::vector<Row> rows_;
  size_t workspace_, bases_;
  std::vector<std::shared_ptr<const NodePayload>> owners_;
};

class IslandProvider final : public Provider {
 public:
  std::string name() const override { return "quern"; }
  bool knows(const Graph&, const Node&) const override { return false; }
  std::optional<PreparedKernel> prepare(const KernelRequest&) const override { return std::nullopt; }
};

}  // namespace

IslandRole island_role(const Node& node, const SpecOf& spec_of) { return Builder(spec_of).role(node); }

std::optional<PreparedKernel> prepare_island(const KernelRequest& request, const SpecOf& spec_of) {
  if (request.members.size() < 2) return std::nullopt;
  Builder builder(spec_of);
  size_t base = 1;
  for (ValueId v : request.input_values) builder.enter(v, base++, true);
  for (ValueId v : request.output_values) builder.enter(v, base++, false);
  for (NodeId id : request.members) {
    const Node& node = request.graph.node(id);
    if (builder.role(node) == IslandRole::none) return std::nullopt;
    builder.add(node);
  }
  PreparedKernel made;
  const size_t workspace = builder.finish();
  made.kernel = std::make_unique<IslandKernel>(builder.rows(), workspace, base, builder.owners());
  made.name = "quern.island";
  made.input_layouts.assign(request.inputs.size(), Layout::row_major);
  made.output_layouts.assign(request.outputs.size(), Layout::row_major);
  return made;
}

std::shared_ptr<const Provider> island_provider() {
  static const auto provider = std::make_shared<const IslandProvider>();
  return provider;
}

}  // namespace quern
