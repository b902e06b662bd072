#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/base/error.hpp"
#include "core/dataset/dataset.hpp"
#include "core/dataset/plugin_data.hpp"
#include "core/numeric/portable_math.hpp"

namespace quern {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

// log10 of fixed evaluation, so that the reported number is the same on every machine.
double decibels(double ratio) { return 10 * portable::log(ratio) / portable::log(10.0); }

double sqnr_of(double signal, double noise) {
  if (noise == 0) return infinity;
  return signal == 0 ? -infinity : decibels(signal / noise);
}

std::vector<float> floats_of(const NamedTensor& t) {
  if (t.tensor.type() != DType::f32 && t.tensor.type() != DType::f64 && is_float(t.tensor.type()))
    throw Error(ErrorCode::data, fmt::format("output '{}' is {}; metrics need f32", t.name, name_of(t.tensor.type())));
  return t.tensor.to_floats();
}

// Scores as [positions][classes]: of [1,C], [P,C], [1,C,H,W] (classes on axis 1) or [1,T,C] (on the last axis).
struct Scores {
  std::vector<float> values;
  int64_t positions = 1, classes = 1, inner = 1;
  float at(int64_t position, int64_t c) const {
    return values[static_cast<size_t>((position / inner * classes + c) * inner + position % inner)];
  }
  int64_t best(int64_t position) const {  // the first of the largest; NaN never wins
    int64_t k = -1;
    for (int64_t c = 0; c < classes; ++c)
      if (!std::isnan(at(position, c)) && (k < 0 || at(position, c) > at(position, k))) k = c;
    return k;
  }
};

Scores scores_along(const NamedTensor& out, size_t axis) {
  Scores s;
  s.values = floats_of(out);
  const Dims& d = out.tensor.dims();
  s.classes = d[axis];
  for (size_t i = axis + 1; i < d.size(); ++i) s.inner *= d[i];
  s.positions = s.classes ? out.tensor.count() / s.classes : 0;
  return s;
}

// With `positions` labels, the class axis is the one that leaves as many positions; axis 1 before the last one.
Scores scores_of(const NamedTensor& out, int64_t positions) {
  const Dims& d = out.tensor.dims();
  if (d.size() == 1 && positions == 1) return scores_along(out, 0);
  for (size_t axis : {size_t{1}, d.size() - 1})
    if (d.size() >= 2 && d[axis] > 0 && out.tensor.count() / d[axis] == positions) return scores_along(out, axis);
  throw Error(ErrorCode::data, fmt::format("output '{}' of shape {} does not fit {} label(s) a sample", out.name, to_string(d), positions));
}

const NamedTensor& first_of(const Sample& outputs) {
  if (outputs.empty()) throw Error(ErrorCode::data, "the model has no outputs to measure");
  return outputs.front();
}

std::vector<int64_t> labels_of(const Tensor& label) {
  if (!is_float(label.type())) return label.to_ints();
  std::vector<int64_t> out;
  for (float f : label.to_floats()) {
    if (f != std::trunc(f) || std::fabs(f) > 1e9f) throw Error(ErrorCode::data, fmt::format("the label {} is not a class number", f));
    out.push_back(static_cast<int64_t>(f));
  }
  return out;
}

void same_count(const NamedTensor& a, const NamedTensor& b) {
  if (a.tensor.count() != b.tensor.count())
    throw Error(ErrorCode::data, fmt::format("output '{}' has the shape {}, the float model's has {}", a.name, to_string(a.tensor.dims()), to_string(b.tensor.dims())));
}

// Outputs whose shape differs from the float model's.
class Shapes {
 public:
  bool equal(const NamedTensor& a, const NamedTensor& b) {
    ++all_;
    if (a.tensor.dims() == b.tensor.dims()) return true;
    if (first_.empty()) first_ = fmt::format("'{}' {} instead of {}", a.name, to_string(a.tensor.dims()), to_string(b.tensor.dims()));
    ++differing_;
    return false;
  }
  std::string remark(const char* consequence) const {
    if (differing_ == 0) return {};
    return fmt::format("{} of {} outputs have another shape than the float model's (first: {}); they {}", differing_, all_, first_, consequence);
  }

 private:
  int64_t all_ = 0, differing_ = 0;
  std::string first_;
};

// A mean over samples.
class MeanMetric : public Metric {
 public:
  double value() const override {
    if (samples_ == 0) throw Error(ErrorCode::data, fmt::format("the metric {} was given no samples; the evaluation data is empty", name()));
    return sum_ / static_cast<double>(samples_);
  }

 protected:
  void add(double v) { sum_ += v; ++samples_; }
  int64_t samples() const { return samples_; }

 private:
  double sum_ = 0;
  int64_t samples_ = 0;
};

class TopK : public MeanMetric {
 public:
  TopK(std::string name, int64_t k) : name_(std::move(name)), k_(k) {}
  std::string name() const override { return name_; }
  bool higher_is_better() const override { return true; }
  bool needs_labels() const override { return true; }
  void update(const Sample& outputs, const std::optional<Tensor>& label, const Sample*) override {
    if (!label) throw Error(ErrorCode::data, fmt::format("the metric {} needs labels; name them in data.evaluation.labels", name_));
    const auto labels = labels_of(*label);
    const Scores s = scores_of(first_of(outputs), static_cast<int64_t>(labels.size()));
    if (s.classes < 2) throw Error(ErrorCode::data, fmt::format("the metric {} needs at least two classes; output '{}' has {}", name_, outputs.front().name, s.classes));
    int64_t right = 0;
    for (size_t p = 0; p < labels.size(); ++p) {
      const int64_t wanted = labels[p];
      if (wanted < 0 || wanted >= s.classes)
        throw Error(ErrorCode::data, fmt::format("the label {} is not one of the {} classes of output '{}'", wanted, s.classes, outputs.front().name));
      right += place(s, static_cast<int64_t>(p), wanted) < k_;
    }
    add(static_cast<double>(right) / static_cast<double>(labels.size()));
  }

 private:
  // How many classes stand before `wanted`: larger scores, and equal ones with a smaller number. NaN stands last.
  static int64_t place(const Scores& s, int64_t position, int64_t wanted) {
    const float mine = s.at(position, wanted);
    if (std::isnan(mine)) return s.classes;
    int64_t before = 0;
    for (int64_t c = 0; c < s.classes; ++c) before += s.at(position, c) > mine || (s.at(position, c) == mine && c < wanted);
    return before;
  }
  std::string name_;
  int64_t k_;
};

// Share of positions whose best class is that of the float model.
class Agreement : public MeanMetric {
 public:
  std::string name() const override { return "agreement"; }
  bool higher_is_better() const override { return true; }
  bool needs_reference() const override { return true; }
  void update(const Sample& outputs, const std::optional<Tensor>&, const Sample* reference) override {
    if (!reference) throw Error(ErrorCode::internal, "the metric agreement needs the float model's outputs");
    const NamedTensor &a = first_of(outputs), &b = first_of(*reference);
    if (!shapes_.equal(a, b)) { add(0); return; }
    const size_t rank = a.tensor.dims().size();
    if (rank == 0) throw Error(ErrorCode::data, fmt::format("the metric agreement needs classes; output '{}' is a single number", a.name));
    const size_t axis = rank >= 4 ? 1 : rank - 1;
    const Scores x = scores_along(a, axis), y = scores_along(b, axis);
    int64_t equal = 0;
    for (int64_t p = 0; p < x.positions; ++p) equal += x.best(p) == y.best(p);
    add(x.positions ? static_cast<double>(equal) / static_cast<double>(x.positions) : 1);
  }
  std::string remark() const override { return shapes_.remark("count as no agreement"); }

 private:
  Shapes shapes_;
};

class MeanSquaredError : public MeanMetric {
 public:
  explicit MeanSquaredError(bool labels) : labels_(labels) {}
  std::string name() const override { return "mse"; }
  bool higher_is_better() const override { return false; }
  bool needs_labels() const override { return labels_; }
  bool needs_reference() const override { return !labels_; }
  void update(const Sample& outputs, const std::optional<Tensor>& label, const Sample* reference) override {
    double sum = 0;
    int64_t count = 0;
    const auto compare = [&](const NamedTensor& a, const NamedTensor& b) {
      same_count(a, b);
      const auto x = floats_of(a), y = floats_of(b);
      for (size_t i = 0; i < x.size(); ++i) {
        const double d = static_cast<double>(x[i]) - y[i];
        sum += d * d;
      }
      count += static_cast<int64_t>(x.size());
    };
    if (labels_) {
      if (!label) throw Error(ErrorCode::data, "the metric mse against labels needs labels; name them in data.evaluation.labels");
      compare(first_of(outputs), {"labels", *label});
    } else {
      if (!reference || reference->size() != outputs.size()) throw Error(ErrorCode::internal, "the metric mse needs the float model's outputs");
      bool any = outputs.empty();
      for (size_t i = 0; i < outputs.size(); ++i) {
        if (!shapes_.equal(outputs[i], (*reference)[i])) continue;
        compare(outputs[i], (*reference)[i]);
        any = true;
      }
      if (!any) { ++left_out_; return; }
    }
    add(count ? sum / static_cast<double>(count) : 0);
  }

  double value() const override { return samples() == 0 && left_out_ > 0 ? infinity : MeanMetric::value(); }
  std::string remark() const override { return shapes_.remark("are left out"); }

 private:
  bool labels_;
  int64_t left_out_ = 0;
  Shapes shapes_;
};

// Signal over noise of all samples together, per output; then the mean of the outputs in decibels.
class Sqnr : public Metric {
 public:
  std::string name() const override { return "sqnr"; }
  bool higher_is_better() const override { return true; }
  bool needs_reference() const override { return true; }
  void update(const Sample& outputs, const std::optional<Tensor>&, const Sample* reference) override {
    if (!reference || reference->size() != outputs.size()) throw Error(ErrorCode::internal, "the metric sqnr needs the float model's outputs");
    signal_.resize(outputs.size());
    noise_.resize(outputs.size());
    compared_.resize(outputs.size());
    for (size_t k = 0; k < outputs.size(); ++k) {
      if (!shapes_.equal(outputs[k], (*reference)[k])) continue;
      compared_[k] = 1;
      const auto x = floats_of((*reference)[k]), y = floats_of(outputs[k]);
      for (size_t i = 0; i < x.size(); ++i) {
        const double d = static_cast<double>(x[i]) - y[i];
        signal_[k] += static_cast<double>(x[i]) * x[i];
        noise_[k] += d * d;
      }
    }
  }
  double value() const override {
    if (signal_.empty()) throw Error(ErrorCode::data, "the metric sqnr was given no samples; the evaluation data is empty");
    double sum = 0;
    for (size_t k = 0; k < signal_.size(); ++k) sum += compared_[k] ? sqnr_of(signal_[k], noise_[k]) : -infinity;
    return sum / static_cast<double>(signal_.size());
  }
  std::string remark() const override { return shapes_.remark("are left out"); }

 private:
  std::vector<double> signal_, noise_;
  std::vector<char> compared_;  // by output: some sample could be compared
  Shapes shapes_;
};

class Cosine : public MeanMetric {
 public:
  std::string name() const override { return "cosine"; }
  bool higher_is_better() const override { return true; }
  bool needs_reference() const override { return true; }
  void update(const Sample& outputs, const std::optional<Tensor>&, const Sample* reference) override {
    if (!reference || reference->size() != outputs.size() || outputs.empty())
      throw Error(ErrorCode::internal, "the metric cosine needs the float model's outputs");
    double sum = 0;
    for (size_t k = 0; k < outputs.size(); ++k) {
      if (shapes_.equal(outputs[k], (*reference)[k])) sum += cosine(floats_of((*reference)[k]), floats_of(outputs[k]));
    }
    add(sum / static_cast<double>(outputs.size()));
  }
  std::string remark() const override { return shapes_.remark("count 0"); }

 private:
  Shapes shapes_;
};

}  // namespace

std::vector<std::string> metric_names() { return {"top1", "top5", "topk", "mse", "sqnr", "cosine", "agreement"}; }

// "top1"; {"type": "topk", "k": 3}; {"topk": {"k": 3}}.
std::unique_ptr<Metric> make_metric(const json::value& description, PluginRegistry* plugins) {
  std::string name;
  json::object options;
  if (description.is_string()) {
    name = std::string(description.get_string());
  } else if (const auto* o = description.if_object()) {
    const auto* type = o->if_contains("type");
    const json::value* n = type ? type : o->if_contains("name");
    if (n && n->is_string()) {
      name = std::string(n->get_string());
      for (const auto& [key, value] : *o)
        if (&value != n) options[key] = value;
    } else if (o->size() == 1) {
      name = std::string(o->begin()->key());
      const json::value& inside = o->begin()->value();
      if (inside.is_object()) options = inside.get_object();
      else if (!inside.is_null()) throw Error(ErrorCode::config, fmt::format("the options of the metric '{}' have to be a mapping", name));
    }
  }
  auto names = metric_names();
  if (plugins) {
    const auto others = plugins->metric_names();
    if (std::find(names.begin(), names.end(), name) == names.end() && std::find(others.begin(), others.end(), name) != others.end())
      return make_plugin_metric(plugins->metric(name), options);
    names.insert(names.end(), others.begin(), others.end());
  }
  if (name.empty()) throw Error(ErrorCode::config, fmt::format("a metric is a name, or a mapping with the name as type; there are {}", list_of(names)));
  if (std::find(names.begin(), names.end(), name) == names.end())
    throw Error(ErrorCode::config, fmt::format("there is no metric '{}'{}; there are {}", name, did_you_mean(name, names), list_of(names)));
  const std::string allowed = name == "topk" ? "k" : name == "mse" ? "against" : "";
  for (const auto& [key, value] : options)
    if (std::string_view(key) != allowed)
      throw Error(ErrorCode::config, fmt::format("the metric '{}' has no option '{}'{}", name, std::string_view(key), allowed.empty() ? "" : "; it has " + allowed));
  if (name == "top1") return std::make_unique<TopK>(name, 1);
  if (name == "top5") return std::make_unique<TopK>(name, 5);
  if (name == "topk") {
    const auto* k = options.if_contains("k");
    const int64_t number = k && k->is_int64() ? k->get_int64() : k && k->is_uint64() ? static_cast<int64_t>(k->get_uint64()) : 0;
    if (number < 1) throw Error(ErrorCode::config, "the metric 'topk' needs k, a whole number above 0");
    return std::make_unique<TopK>(fmt::format("top{}", number), number);
  }
  if (name == "mse") {
    bool labels = false;
    if (const auto* against = options.if_contains("against")) {
      if (!against->is_string() || (against->get_string() != "labels" && against->get_string() != "float"))
        throw Error(ErrorCode::config, "the metric 'mse' is against 'float' or 'labels'");
      labels = against->get_string() == "labels";
    }
    return std::make_unique<MeanSquaredError>(labels);
  }
  if (name == "sqnr") return std::make_unique<Sqnr>();
  if (name == "cosine") return std::make_unique<Cosine>();
  return std::make_unique<Agreement>();
}

double sqnr_db(std::span<const float> reference, std::span<const float> other) {
  double signal = 0, noise = 0;
  for (size_t i = 0; i < reference.size(); ++i) {
    const double d = static_cast<double>(reference[i]) - other[i];
    signal += static_cast<double>(reference[i]) * reference[i];
    noise += d * d;
  }
  return sqnr_of(signal, noise);
}

double cosine(std::span<const float> a, std::span<const float> b) {
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    ab += static_cast<double>(a[i]) * b[i];
    aa += static_cast<double>(a[i]) * a[i];
    bb += static_cast<double>(b[i]) * b[i];
  }
  if (aa == 0 || bb == 0) return aa == bb ? 1 : 0;
  return ab / (std::sqrt(aa) * std::sqrt(bb));
}

}  // namespace quern
