#include "sdk/conformance/trial.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/base/error.hpp"
#include "core/engine/engine.hpp"
#include "core/integer/build_unit.hpp"
#include "core/numeric/rounding.hpp"

namespace quern::conform {
namespace {

Tensor run_graph(Graph graph, const NamedTensors& feed, std::shared_ptr<const Provider> provider) {
  Engine engine(std::move(graph), {.providers = {std::move(provider)}});
  return engine.runner().run(feed).at(0).second;
}

template <class T>
void fill_codes(Tensor& t, const NumberFormat& f, const Source& s, uint64_t stream) {
  auto v = t.mutable_values<T>();
  const auto levels = static_cast<uint64_t>(f.levels());
  for (size_t i = 0; i < v.size(); ++i) {
    const uint64_t n = s.noise(stream, i);
    // One in eight at an end of the range: sums far out, and saturation.
    v[i] = static_cast<T>((n & 7) == 7 ? ((n & 8) ? f.qmax : f.qmin) : f.qmin + static_cast<int64_t>((n >> 8) % levels));
  }
}

template <class T>
void ramp(Tensor& t, const NumberFormat& f, bool rows) {
  auto v = t.mutable_values<T>();
  const auto n = static_cast<int64_t>(v.size()), width = t.rank() > 0 ? t.dims().back() : 1, levels = f.levels();
  const bool by_row = rows && n > width;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t at = by_row ? i / width * levels / (n / width) : n <= levels ? i * levels / n : i;
    v[static_cast<size_t>(i)] = static_cast<T>(f.qmin + at % levels);
  }
}

void with_type(Tensor& t, auto&& f) {
  switch (t.type()) {
    case DType::u8: return f(uint8_t{});
    case DType::s8: return f(int8_t{});
    case DType::u16: return f(uint16_t{});
    case DType::s16: return f(int16_t{});
    case DType::s32: return f(int32_t{});
    case DType::u32: return f(uint32_t{});
    default: throw Error(ErrorCode::internal, "codes of a type that holds none");
  }
}

// Everything drawn and decided about one operand or the output.
struct Number {
  std::string role;
  ValueId value = no_value;
  const TypeRule* type = nullptr;  // null: float
  std::optional<QuantParams> params;
  Tensor codes;                    // or floats
};

class Maker {
 public:
  Maker(const Rules& rules, const Variant& variant, const TypeChoice& types, Style style, Source& source, Drawing drawing)
      : rules_(rules), variant_(variant), types_(types), style_(style), edges_(style == Style::arithmetic), exact_(edges_ && source.pick(0, 2) < 2), wide_(edges_ && source.one_in(4)), s_(source), d_(std::move(drawing)), main_(d_.graph.node(d_.members.front())) {}

  std::optional<Trial> run(std::string* why) {
    for (const auto& o : d_.operands) {
      if (o.role == "bias") continue;
      Number n{o.role, o.value, type_of(o.role), {}, {}};
      if (!known_) return *why = "an operand of 16-bit floats", std::nullopt;
      fill(n, numbers_.size());
      numbers_.push_back(std::move(n));
    }
    if (!std::any_of(numbers_.begin(), numbers_.end(), [&](const Number& n) { return !d_.graph.value(n.value).is_constant(); }))
      return *why = "nothing flows into it", std::nullopt;
    draw_bias();
    if (!draw_output(why)) return std::nullopt;
    return build();
  }

 private:
  const TypeRule* type_of(const std::string& role) {
    const std::string* name = types_.find(role);
    known_ = name && *name != "f16";
    return !name || *name == "f32" || *name == "f16" ? nullptr : &rules_.type(*name);
  }

  bool tied(const std::string& what) const {
    for (const TieRule& t : rules_.tie)
      if (t.op == main_.op && t.inputs && (what == "inputs" || t.output)) return true;
    return false;
  }

  void fill(Number& n, size_t index) {
    const Value& value = d_.graph.value(n.value);
    const Dims dims = value.constant ? value.constant->dims() : *value.shape;
    if (!n.type) {
      n.codes = Tensor(DType::f32, dims);
      auto v = n.codes.mutable_values<float>();
      for (size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>(static_cast<int64_t>(s_.noise(index, i) % 2049) - 1024) / 256.f;
    } else {
      const bool follows = index > 0 && variant_.steps.empty() && tied("inputs");
      const int axis = value.constant || n.role == "weight" ? channel_axis_of(d_.graph, main_, n.role, *n.type) : -1;
      const bool channels = n.type->granularity == GranularityRule::channel && axis >= 0 && axis < static_cast<int>(dims.size());
      if (follows) {
        n.type = numbers_.front().type;
        n.params = numbers_.front().params;
      } else {
        const double a = spread(), b = spread();
        const int64_t kind = s_.pick(0, 3);
        n.params = legal_params(*n.type, kind == 1 ? 0 : -a, kind == 2 ? 0 : b, channels ? dims[static_cast<size_t>(axis)] : 1, channels ? axis : -1, edges_, exact_, s_);
      }
      n.codes = Tensor(n.params->format.storage(), dims);
      const bool exhaustive = style_ == Style::arithmetic && !value.constant;
      with_type(n.codes, [&](auto zero) {
        using T = decltype(zero);
        if (exhaustive) ramp<T>(n.codes, n.params->format, index % 2 == 1);
        else fill_codes<T>(n.codes, n.params->format, s_, index);
        if (main_.op == "Div" && n.role == "b")  // what is divided by is not 0
          for (T& c : n.codes.template mutable_values<T>())
            if (static_cast<int64_t>(c) == n.params->zero_point[0]) c = static_cast<T>(c == static_cast<T>(n.params->format.qmax) ? c - 1 : c + 1);
      });
      if (exhaustive) spread_sums(n);
    }
    if (value.constant) d_.graph.set_constant(n.value, float_values(n.codes, n.params));
  }

  double spread() { return std::ldexp(1 + static_cast<double>(s_.pick(0, 63)) / 64, static_cast<int>(s_.pick(-2, 2))); }

  // Pools and means over four elements: sums from the least to the largest, one after the other, so that no tie is missed.
  void spread_sums(Number& n) {
    const bool image = main_.op == "AveragePool";
    const bool flat = main_.op == "GlobalAveragePool" || main_.op.rfind("Reduce", 0) == 0;
    const Dims& dims = n.codes.dims();
    if ((!image && !flat) || (image && dims.size() != 4)) return;
    const NumberFormat& f = n.params->format;
    const int64_t groups = n.codes.count() / 4, width = dims.back();
    const auto place = [&](int64_t group, int64_t k) {
      if (!image) return group * 4 + k;
      const int64_t columns = width / 2;
      return (group / columns * 2 + k / 2) * width + group % columns * 2 + k % 2;
    };
    with_type(n.codes, [&](auto zero) {
      using T = decltype(zero);
      auto v = n.codes.mutable_values<T>();
      for (int64_t g = 0; g < groups; ++g) {
        int64_t rest = 4 * (f.levels() - 1) * g / std::max<int64_t>(1, groups - 1);
        for (int64_t k = 0; k < 4; ++k) {
          const int64_t part = std::min(f.levels() - 1, k == 3 ? rest : (rest + 3 - k) / (4 - k));
          v[static_cast<size_t>(place(g, k))] = static_cast<T>(f.qmin + part);
          rest -= part;
        }
      }
    });
  }

  Number* number(const std::string& role) {
    for (auto& n : numbers_) if (n.role == role) return &n;
    return nullptr;
  }

  void draw_bias() {
    for (const auto& o : d_.operands) {
      if (o.role != "bias") continue;
      const Number *x = number("input"), *w = number("weight");
      const Tensor& old = *d_.graph.value(o.value).constant;
      std::vector<float> b(static_cast<size_t>(old.count()));
      const auto reach = static_cast<int64_t>(1) << s_.pick(0, 14);
      for (size_t c = 0; c < b.size(); ++c) {
        const double scale = x && w && x->params && w->params ? static_cast<double>(x->params->scale[0]) * w->params->scale[w->params->scale.size() == 1 ? 0 : c % w->params->scale.size()] : 1;
        b[c] = static_cast<float>(scale * static_cast<double>(static_cast<int64_t>(s_.noise(99, c) % static_cast<uint64_t>(2 * reach + 1)) - reach));
      }
      d_.graph.set_constant(o.value, Tensor::of<float>(old.dims(), b));
    }
  }

  // The output's numbers follow from what the float operator gives here; now and then they are too narrow or too wide.
  bool draw_output(std::string* why) {
    output_ = {"output", d_.output, type_of("output"), {}, {}};
    if (!known_) return *why = "an output of 16-bit floats", false;
    const bool alone = variant_.steps.empty();
    const bool passes = alone && std::find(rules_.passthrough.begin(), rules_.passthrough.end(), main_.op) != rules_.passthrough.end();
    if ((alone && tied("output")) || (passes && !s_.one_in(5))) {
      const TypeRule* same = numbers_.front().type;
      const auto& legal = variant_.config->output;
      if (!same || std::find(legal.begin(), legal.end(), same->name) == legal.end()) return *why = "its output can't have the type of its input", false;
      output_.type = same;
      output_.params = numbers_.front().params;
      return true;
    }
    if (!output_.type) return true;
    NamedTensors feed;
    for (const auto& n : numbers_)
      if (!d_.graph.value(n.value).is_constant()) feed.emplace_back(d_.graph.value(n.value).name, float_values(n.codes, n.params));
    double low = 0, high = 0;
    try {
      const Tensor y = run_graph(d_.graph, feed, own_float_provider());
      for (const float v : y.to_floats())
        if (std::isfinite(v)) low = std::min<double>(low, v), high = std::max<double>(high, v);
    } catch (const Error& e) {
      return *why = e.what(), false;
    }
    if (high - low < 1e-3) high = low + 1e-3;
    if (const Number *x = number("input"), *w = number("weight"); wide_ && x && w && x->params && w->params) {
      // An output so coarse that accumulators of nearly 30 bits stay inside of it.
      high = std::ldexp(static_cast<double>(x->params->scale[0]) * *std::max_element(w->params->scale.begin(), w->params->scale.end()), 28);
      low = -high;
    }
    const int64_t kind = s_.pick(0, 7);
    const double factor = kind == 6 ? 0.3 : kind == 7 ? 2.5 : 1;
    output_.params = legal_params(*output_.type, low * factor, high * factor, 1, -1, edges_, exact_, s_);
    return true;
  }

  std::optional<Trial> build() {
    Placement placement;
    PlacedUnit placed;
    placed.members = d_.members;
    placed.config = variant_.config->id;
    placed.contract = variant_.config->contract;
    if (variant_.pattern) placed.pattern = variant_.pattern->name;
    placed.output = d_.output;
    const auto quantizer = [&](const Number& n) {
      Quantizer q;
      q.id = static_cast<int>(placement.quantizers.size());
      q.value = n.value;
      q.params = *n.params;
      placement.quantizers.push_back(q);
      return q.id;
    };
    for (const auto& o : d_.operands) {
      const Number* n = number(o.role);
      placed.operands.push_back({o.role, o.value, n && n->params ? quantizer(*n) : -1});
    }
    if (output_.params) placed.output_quantizer = quantizer(output_);
    QuantizedConstants constants;
    std::vector<LoweringNote> notes;
    Trial t;
    t.unit = build_unit(d_.graph, placement, placed, rules_, constants, notes);
    for (const auto& o : t.unit->operands)
      if (!o.constant)
        for (const auto& n : numbers_)
          if (n.role == o.role) t.inputs.push_back(n.codes);
    return t;
  }

  const Rules& rules_;
  const Variant& variant_;
  const TypeChoice& types_;
  Style style_;
  bool edges_, exact_, wide_;
  Source& s_;
  Drawing d_;
  const Node main_;
  std::vector<Number> numbers_;
  Number output_;
  bool known_ = true;
};

std::string params_text(const std::optional<QuantParams>& p, DType type) {
  if (!p) return std::string(name_of(type));
  std::string out = fmt::format("{}{}", p->format.is_signed ? "s" : "u", p->format.bits);
  const size_t n = p->scale.size();
  out += n == 1 ? fmt::format(" scale {} zero {}", p->scale[0], p->zero_point[0]) : fmt::format(" {} scales from {} zero {}", n, p->scale[0], p->zero_point[0]);
  return out;
}

}  // namespace

QuantParams legal_params(const TypeRule& type, double low, double high, int64_t channels, int axis, bool edges, bool exact, Source& s) {
  QuantParams p;
  p.format = type.format;
  p.axis = channels > 1 || axis >= 0 ? axis : -1;
  const double levels = static_cast<double>(type.format.levels() - 1);
  const double top = static_cast<double>(std::max<int64_t>(1, type.format.qmax));
  const double wanted = type.symmetric() ? std::max(std::abs(low), std::abs(high)) / top : (high - low) / levels;
  int64_t zero = 0;
  const auto pick_zero = [&](int64_t from, int64_t to) {
    if (edges || s.one_in(3)) {
      const int64_t ends[] = {from, to, (from + to) / 2, s.pick(from, to)};
      return s.one_of(ends);
    }
    return std::clamp(to_integer(static_cast<double>(type.format.qmin) - low / std::max(wanted, 1e-30), Round::half_even), from, to);
  };
  switch (type.zero_point) {
    case ZeroPointRule::zero: break;
    case ZeroPointRule::free:
    case ZeroPointRule::unified: zero = pick_zero(type.format.qmin, type.format.qmax); break;
    case ZeroPointRule::range: zero = pick_zero(type.zero_points.at(0), type.zero_points.at(1)); break;
    case ZeroPointRule::list: zero = s.one_of(type.zero_points); break;
  }
  const int64_t n = std::max<int64_t>(1, channels);
  const int64_t most = std::max<int64_t>(1, type.scale_max), least = std::clamp<int64_t>(type.scale_min, 1, most);
  for (int64_t c = 0; c < n; ++c) {
    double scale = std::max(wanted, 1e-12);
    if (n > 1) scale *= std::ldexp(1 + static_cast<double>(s.noise(7, static_cast<uint64_t>(c)) % 64) / 64, -static_cast<int>(s.noise(8, static_cast<uint64_t>(c)) % 3));
    if (exact) scale = std::ldexp(1, static_cast<int>(std::ceil(std::log2(scale))));
    if (type.scale == ScaleRule::pow2)
      scale = std::ldexp(1, static_cast<int>(std::clamp<double>(std::ceil(std::log2(scale)), type.scale_min, type.scale_max)));
    if (type.scale == ScaleRule::fixed) scale = type.scale_value;
    if (type.scale == ScaleRule::tensor_scale_times_integer) {
      // The first channel has the largest integer: the tensor's scale can be found again.
      const auto base = static_cast<double>(static_cast<float>(wanted / static_cast<double>(most)));
      const int64_t factor = c == 0 ? most : c == 1 ? least : least + static_cast<int64_t>(s.noise(9, static_cast<uint64_t>(c)) % static_cast<uint64_t>(most - least + 1));
      scale = base * static_cast<double>(factor);
    }
    p.scale.push_back(static_cast<float>(scale));
    p.zero_point.push_back(type.zero_point == ZeroPointRule::free && n > 1 ? std::clamp(zero + c % 3, type.format.qmin, type.format.qmax) : zero);
  }
  return p;
}

Tensor float_values(const Tensor& codes, const std::optional<QuantParams>& params) {
  if (!params) return codes;
  Tensor out(DType::f32, codes.dims());
  const Dims strides = row_major_strides(codes.dims());
  dequantize(TensorView{const_cast<void*>(codes.data()), codes.type(), codes.dims(), strides}, *params, TensorView{out.mutable_bytes(), DType::f32, out.dims(), strides});
  return out;
}

UnitOperand* Trial::operand(const std::string& role) {
  for (auto& o : unit->operands) if (o.role == role) return &o;
  return nullptr;
}
const UnitOperand& Trial::flowing(size_t input) const {
  for (const auto& o : unit->operands)
    if (!o.constant && input-- == 0) return o;
  throw Error(ErrorCode::internal, "an input that the unit does not have");
}
std::vector<Dims> Trial::input_dims() const {
  std::vector<Dims> out;
  for (const Tensor& t : inputs) out.push_back(t.dims());
  return out;
}

std::string Trial::text() const {
  std::string out;
  for (const auto& m : unit->members) {
    out += (out.empty() ? "" : " + ") + m.op;
    for (const auto& [name, value] : m.attributes) {
      if (const auto* i = std::get_if<int64_t>(&value)) out += fmt::format(" {}={}", name, *i);
      else if (const auto* f = std::get_if<float>(&value)) out += fmt::format(" {}={}", name, *f);
      else if (const auto* s = std::get_if<std::string>(&value)) out += fmt::format(" {}={}", name, *s);
      else if (const auto* list = std::get_if<std::vector<int64_t>>(&value)) out += fmt::format(" {}=[{}]", name, fmt::join(*list, ","));
    }
  }
  std::string separator = ": ";
  for (const auto& o : unit->operands) {
    out += fmt::format("{}{} {} {}{}", separator, o.role.empty() ? "argument" : o.role, to_string(o.constant ? o.constant->dims() : o.dims),
                       params_text(o.params, o.dtype), o.constant && !o.role.empty() ? " constant" : "");
    separator = ", ";
  }
  return out + fmt::format(" -> {} {}", to_string(unit->output.dims), params_text(unit->output.params, unit->output.dtype));
}

std::optional<Trial> make_trial(const Rules& rules, const Variant& variant, const TypeChoice& types, const Frame& frame, Source& source, std::string* why) {
  auto drawing = draw(rules, variant, frame, source, why);
  if (!drawing) return std::nullopt;
  return Maker(rules, variant, types, frame.style, source, std::move(*drawing)).run(why);
}

std::optional<Trial> find_trial(const Rules& rules, const Variant& variant, const TypeChoice& types, const Frame& frame, Source& source, std::string* why) {
  const uint64_t seed = source.seed();
  for (uint64_t attempt = 0; attempt < 24; ++attempt) {
    source = Source(attempt == 0 ? seed : mixed(seed + attempt));
    if (auto t = make_trial(rules, variant, types, frame, source, why)) return t;
    if (*why == "the kit has no generator for this operator") break;
  }
  return std::nullopt;
}

Tensor interpret(const Trial& trial) {
  Graph g;
  Node node;
  node.name = trial.unit->name;
  node.domain = "quern";
  node.op = "Unit";
  NamedTensors feed;
  for (size_t i = 0; i < trial.inputs.size(); ++i) {
    const std::string name = fmt::format("input{}", i);
    node.inputs.push_back(g.add_value(name, trial.inputs[i].type(), trial.inputs[i].dims()));
    feed.emplace_back(name, trial.inputs[i]);
  }
  node.payload = trial.unit;
  node.outputs = {g.add_value("result", trial.unit->output.dtype, trial.unit->output.dims)};
  g.set_inputs(node.inputs);
  const auto outputs = node.outputs;
  g.add_node(std::move(node));
  g.set_outputs(outputs);
  return run_graph(std::move(g), feed, interpreter_provider());
}

}  // namespace quern::conform
