// Algorithms in C++17: range estimators (statistic -> range), graph stages (bias correction, equalization, ...), data readers and metrics.
//
//   struct MinMax {
//     static constexpr std::string_view name = "min_max";
//     static constexpr std::string_view parameters = R"({"type":"object","additionalProperties":false})";  // JSON Schema
//     void requires_statistics(const Json& p, const QuantizerView& q, RequestSink& sink);
//     void estimate(const Json& p, const QuantizerView& q, const Statistics& statistics, Span<double> low, Span<double> high);
//   };
//   struct MyStage {
//     static constexpr std::string_view name = "my_stage", parameters = "...", reads = "weights,statistics", changes = "bias";
//     static constexpr uint32_t when = QUERN_STAGE_AFTER_RANGES;
//     void plan(const Json& p, const GraphView& graph, StatisticsPlan& statistics);
//     void run(const Json& p, GraphView& graph);
//   };
//   QUERN_SDK_ALGORITHMS(quern_sdk::Estimators<MinMax>, quern_sdk::Stages<MyStage>)
#pragma once
#include "quern/json.hpp"
#include "quern/views.hpp"

namespace quern_sdk {

inline quern_stat_request stat_request(uint32_t kind, int32_t axis = -1, double quantile = 0) {
  auto r = make<quern_stat_request>();
  r.kind = kind;
  r.axis = axis;
  r.quantile = quantile;
  return r;
}

// ---- range estimators --------------------------------------------------------------------------------------------
class QuantizerView {
 public:
  explicit QuantizerView(const quern_quantizer_view& q) : q_(&q) {}
  const quern_quantizer_view& raw() const { return *q_; }
  std::string_view value() const { return view(q_->value); }
  bool is_weight() const { return q_->is_weight != 0; }
  bool symmetric() const { return q_->symmetric != 0; }
  bool is_signed() const { return q_->is_signed != 0; }
  bool narrow() const { return q_->narrow != 0; }
  uint32_t bits() const { return q_->bits; }
  int32_t axis() const { return q_->axis; }
  bool per_channel() const { return q_->axis >= 0; }
  size_t channels() const { return static_cast<size_t>(q_->channels); }
  int64_t qmin() const { return q_->qmin; }
  int64_t qmax() const { return q_->qmax; }
  // f32 row major; weights only.
  Span<const float> weight() const {
    if (!q_->weight) throw Failure(QUERN_INVALID_ARGUMENT, std::string(value()) + ": the weight's data is missing");
    return TensorView(*q_->weight).values<const float>();
  }
  // Calls body(channel, value) for every element of the weight.
  template <class F>
  void each_weight(F&& body) const {
    const Span<const float> data = weight();
    if (q_->axis < 0) {
      for (float v : data) body(size_t{0}, v);
      return;
    }
    const TensorView t(*q_->weight);
    if (static_cast<uint32_t>(q_->axis) >= t.rank() || static_cast<uint64_t>(t.dim(static_cast<size_t>(q_->axis))) != q_->channels)
      throw Failure(QUERN_INVALID_ARGUMENT, std::string(value()) + ": the channel axis does not fit the weight");
    size_t inner = 1;
    for (size_t i = static_cast<size_t>(q_->axis) + 1; i < t.rank(); ++i) inner *= static_cast<size_t>(t.dim(i));
    for (size_t i = 0; i < data.size(); ++i) body(i / inner % channels(), data[i]);
  }

 private:
  const quern_quantizer_view* q_;
};

class RequestSink {
 public:
  explicit RequestSink(const quern_request_sink& sink) : sink_(&sink) {}
  void request(uint32_t kind, int32_t axis = -1, double quantile = 0) {
    const quern_stat_request r = stat_request(kind, axis, quantile);
    check(sink_->request(sink_->self, &r));
  }

 private:
  const quern_request_sink* sink_;
};

// Statistics, in the order in which they were requested.
class Statistics {
 public:
  Statistics(const quern_statistic* const* list, size_t size) : list_(list), size_(size) {}
  size_t size() const { return size_; }
  const quern_statistic& at(size_t i, uint32_t kind) const {
    if (i >= size_) throw Failure(QUERN_INVALID_ARGUMENT, "the host gave " + std::to_string(size_) + " statistics; more are needed");
    if (list_[i]->request.kind != kind) throw Failure(QUERN_INVALID_ARGUMENT, "statistics are not in the order requested");
    return *list_[i];
  }

 private:
  const quern_statistic* const* list_;
  size_t size_;
};

template <class T>
class RangeEstimator {
 public:
  static const quern_range_estimator* table() {
    static T instance;
    static const quern_range_estimator t = [] {
      auto e = make<quern_range_estimator>();
      e.self = &instance;
      e.name = str(T::name);
      e.parameters = str(T::parameters);
      e.requires_statistics = [](void* self, quern_str parameters, const quern_quantizer_view* quantizer,
                                 const quern_request_sink* sink) noexcept -> quern_status* {
        return guarded([&] {
          RequestSink requests(*sink);
          static_cast<T*>(self)->requires_statistics(Json::parse(view(parameters)), QuantizerView(*quantizer), requests);
        });
      };
      e.estimate = [](void* self, quern_str parameters, const quern_quantizer_view* quantizer, const quern_statistic* const* list,
                      uint32_t n, double* low, double* high) noexcept -> quern_status* {
        return guarded([&] {
          const QuantizerView q(*quantizer);
          static_cast<T*>(self)->estimate(Json::parse(view(parameters)), q, Statistics(list, n),
                                          Span<double>(low, q.channels()), Span<double>(high, q.channels()));
        });
      };
      return e;
    }();
    return &t;
  }
};

// ---- graph stages ------------------------------------------------------------------------------------------------
class GraphNode : public Attributes<quern_node_view> {
 public:
  using Attributes::Attributes;
  Span<const int32_t> inputs() const { return {raw().inputs, raw().n_inputs}; }
  Span<const int32_t> outputs() const { return {raw().outputs, raw().n_outputs}; }
};

class GraphView {
 public:
  explicit GraphView(const quern_graph& g) : g_(&g) {}
  const quern_graph& raw() const { return *g_; }
  uint32_t nodes() const { return g_->node_count(g_->self); }
  quern_node_view node(uint32_t index) const {
    auto out = make<quern_node_view>();
    check(g_->node(g_->self, index, &out));
    return out;
  }
  quern_value_view value(int32_t index) const {
    auto out = make<quern_value_view>();
    check(g_->value(g_->self, static_cast<uint32_t>(index), &out));
    return out;
  }
  // Slot of a role, -1 when the node has no such operand.
  int32_t slot(uint32_t node, std::string_view role) const { return g_->slot_of_role(g_->self, node, str(role)); }
  quern_tensor constant(int32_t value) const {
    auto out = make<quern_tensor>();
    check(g_->read_constant(g_->self, static_cast<uint32_t>(value), &out));
    return out;
  }
  bool quantizer(uint32_t node, int32_t slot, quern_quant* out = nullptr) const {
    auto own = make<quern_quant>();
    int32_t found = 0;
    check(g_->quantizer_of(g_->self, node, static_cast<uint32_t>(slot), out ? out : &own, &found));
    return found != 0;
  }
  quern_statistic statistic(int32_t value, const quern_stat_request& request) const {
    auto out = make<quern_statistic>();
    check(g_->statistic(g_->self, static_cast<uint32_t>(value), &request, &out));
    return out;
  }
  quern_tensor run_node(uint32_t node, Span<const quern_tensor> inputs, bool quantized_weights) const {
    auto out = make<quern_tensor>();
    check(g_->run_node(g_->self, node, inputs.data(), static_cast<uint32_t>(inputs.size()), quantized_weights ? 1 : 0, &out));
    return out;
  }
  void measure(uint32_t node, uint32_t samples, Span<double> square, Span<double> difference) const {
    check(g_->measure(g_->self, node, samples, square.data(), difference.data(), square.size()));
  }
  // Since interface 1.2.
  uint32_t samples() const {
    needs_1_2();
    return g_->sample_count(g_->self);
  }
  // What a node reads at `slot`, or what it gives where slot = -1 - output.
  quern_tensor sample(uint32_t node, int32_t slot, uint32_t samples, uint32_t sample, bool estimated) const {
    needs_1_2();
    auto out = make<quern_tensor>();
    check(g_->sample_value(g_->self, node, slot, samples, sample, estimated ? 1 : 0, &out));
    return out;
  }
  void measure_outputs(uint32_t samples, Span<double> signal, Span<double> noise) const {
    needs_1_2();
    check(g_->measure_outputs(g_->self, samples, signal.data(), noise.data(), signal.size()));
  }
  void begin() const { check(g_->begin(g_->self)); }
  void set_constant(int32_t value, const quern_tensor& f32) const { check(g_->set_constant(g_->self, static_cast<uint32_t>(value), &f32)); }
  void commit() const { check(g_->commit(g_->self)); }
  void rollback() const { check(g_->rollback(g_->self)); }
  void report(std::string_view node, std::string_view action, std::string_view reason, double before, double after) const {
    check(g_->report(g_->self, str(node), str(action), str(reason), before, after));
  }

 private:
  void needs_1_2() const {
    if (!QUERN_HAS(g_, measure_outputs)) throw Failure(QUERN_UNIMPLEMENTED, "this needs a host with plugin interface 1.2");
  }
  const quern_graph* g_;
};

// Begins on construction; rolls back unless commit() was called.
class Transaction {
 public:
  explicit Transaction(const GraphView& graph) : graph_(graph) { graph_.begin(); }
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  ~Transaction() {
    if (open_)
      if (quern_status* failed = graph_.raw().rollback(graph_.raw().self)) HostFailure{failed};
  }
  void commit() { open_ = false; graph_.commit(); }
  void rollback() { open_ = false; graph_.rollback(); }

 private:
  const GraphView& graph_;
  bool open_ = true;
};

class StatisticsPlan {
 public:
  explicit StatisticsPlan(const quern_stat_plan& plan) : plan_(&plan) {}
  void request(int32_t value, const quern_stat_request& r) { check(plan_->request(plan_->self, static_cast<uint32_t>(value), &r)); }

 private:
  const quern_stat_plan* plan_;
};

template <class T>
class GraphStage {
 public:
  static const quern_graph_stage* table() {
    static T instance;
    static const quern_graph_stage t = [] {
      auto s = make<quern_graph_stage>();
      s.self = &instance;
      s.name = str(T::name);
      s.parameters = str(T::parameters);
      s.when = T::when;
      s.reads = str(T::reads);
      s.changes = str(T::changes);
      s.plan = [](void* self, quern_str parameters, const quern_graph* graph, const quern_stat_plan* plan) noexcept -> quern_status* {
        return guarded([&] {
          StatisticsPlan statistics(*plan);
          static_cast<T*>(self)->plan(Json::parse(view(parameters)), GraphView(*graph), statistics);
        });
      };
      s.run = [](void* self, quern_str parameters, const quern_graph* graph) noexcept -> quern_status* {
        return guarded([&] {
          GraphView g(*graph);
          static_cast<T*>(self)->run(Json::parse(view(parameters)), g);
        });
      };
      return s;
    }();
    return &t;
  }
};

// ---- data readers -------------------------------------------------------------------------------------------------
// An input of the model: its name, type and dims (-1: any).
struct InputView {
  std::string_view name;
  uint32_t dtype;
  Span<const int64_t> dims;
};

//   struct MyReader {
//     static constexpr std::string_view name = "my_reader", parameters = R"({"type": "object", ...})";
//     struct Data { ... };                                                       // opened
//     std::unique_ptr<Data> open(const Json& p, std::string_view folder, const std::vector<InputView>& inputs);
//     int64_t size(const Data& d);
//     void sample(const Data& d, int64_t index, TableSink& tensors);             // tensors.emit(input name, values, dims)
//     void label(const Data& d, int64_t index, TableSink& label);                // optional
//   };
// sample and label are called from several threads at once.
template <class T>
class DataReader {
 public:
  static const quern_data_reader* table() {
    static T instance;
    static const quern_data_reader t = [] {
      auto r = make<quern_data_reader>();
      r.self = &instance;
      r.name = str(T::name);
      r.parameters = str(T::parameters);
      r.open = [](void* self, quern_str parameters, quern_str folder, const quern_table* const* inputs, uint32_t n, quern_reader** out) noexcept -> quern_status* {
        return guarded([&] {
          std::vector<InputView> list;
          for (uint32_t i = 0; i < n; ++i) list.push_back({view(inputs[i]->name), inputs[i]->tensor.dtype, {inputs[i]->tensor.dims, inputs[i]->tensor.rank}});
          auto data = of(self).open(Json::parse(view(parameters)), view(folder), list);
          if (!data) throw Failure(QUERN_INTERNAL, "open gave nothing");
          *out = reinterpret_cast<quern_reader*>(data.release());
        });
      };
      r.size = [](void* self, quern_reader* reader, int64_t* samples) noexcept -> quern_status* {
        return guarded([&] { *samples = of(self).size(data(reader)); });
      };
      r.sample = [](void* self, quern_reader* reader, int64_t index, const quern_table_sink* sink) noexcept -> quern_status* {
        return guarded([&] {
          TableSink tensors(*sink);
          of(self).sample(data(reader), index, tensors);
        });
      };
      if constexpr (has_label<T>::value)
        r.label = [](void* self, quern_reader* reader, int64_t index, const quern_table_sink* sink) noexcept -> quern_status* {
          return guarded([&] {
            TableSink label(*sink);
            of(self).label(data(reader), index, label);
          });
        };
      r.close = [](void*, quern_reader* reader) noexcept { delete reinterpret_cast<typename T::Data*>(reader); };
      return r;
    }();
    return &t;
  }

 private:
  template <class U, class = void> struct has_label : std::false_type {};
  template <class U> struct has_label<U, std::void_t<decltype(&U::label)>> : std::true_type {};
  static T& of(void* self) { return *static_cast<T*>(self); }
  static const typename T::Data& data(quern_reader* r) { return *reinterpret_cast<const typename T::Data*>(r); }
};

// ---- metrics ------------------------------------------------------------------------------------------------------
// Outputs by name, in the order of the model.
class OutputsView {
 public:
  OutputsView(const quern_table* const* list, uint32_t n) : list_(list), n_(list ? n : 0) {}
  size_t size() const { return n_; }
  std::string_view name(size_t i) const { return view(list_[i]->name); }
  TensorView operator[](size_t i) const { return TensorView(list_[i]->tensor); }

 private:
  const quern_table* const* list_;
  uint32_t n_;
};

//   struct MyMetric {
//     static constexpr std::string_view name = "my_metric", parameters = R"({"type": "object", ...})";
//     static constexpr bool higher_is_better = true;
//     static constexpr uint32_t needs = QUERN_METRIC_NEEDS_LABELS;
//     struct Meter { double sum = 0; int64_t samples = 0; };
//     std::unique_ptr<Meter> create(const Json& p);
//     void update(Meter& m, int64_t sample, const OutputsView& outputs, const quern_tensor* label, const OutputsView& float_outputs);
//     double result(const Meter& m);
//     double sample_value(const Meter& m);                                      // optional: of the last sample
//   };
template <class T>
class MetricPlugin {
 public:
  static const quern_metric* table() {
    static T instance;
    static const quern_metric t = [] {
      auto m = make<quern_metric>();
      m.self = &instance;
      m.name = str(T::name);
      m.parameters = str(T::parameters);
      m.higher_is_better = T::higher_is_better ? 1 : 0;
      m.needs = T::needs;
      m.create = [](void* self, quern_str parameters, quern_meter** out) noexcept -> quern_status* {
        return guarded([&] {
          auto meter = of(self).create(Json::parse(view(parameters)));
          if (!meter) throw Failure(QUERN_INTERNAL, "create gave nothing");
          *out = reinterpret_cast<quern_meter*>(meter.release());
        });
      };
      m.update = [](void* self, quern_meter* meter, int64_t sample, const quern_table* const* outputs, uint32_t n, const quern_tensor* label,
                    const quern_table* const* float_outputs) noexcept -> quern_status* {
        return guarded([&] { of(self).update(of(meter), sample, OutputsView(outputs, n), label, OutputsView(float_outputs, n)); });
      };
      m.result = [](void* self, quern_meter* meter, double* value) noexcept -> quern_status* {
        return guarded([&] { *value = of(self).result(of(meter)); });
      };
      m.destroy = [](void*, quern_meter* meter) noexcept { delete reinterpret_cast<typename T::Meter*>(meter); };
      if constexpr (has_sample_value<T>::value)
        m.sample_value = [](void* self, quern_meter* meter, double* value) noexcept -> quern_status* {
          return guarded([&] { *value = of(self).sample_value(of(meter)); });
        };
      return m;
    }();
    return &t;
  }

 private:
  template <class U, class = void> struct has_sample_value : std::false_type {};
  template <class U> struct has_sample_value<U, std::void_t<decltype(&U::sample_value)>> : std::true_type {};
  static T& of(void* self) { return *static_cast<T*>(self); }
  static typename T::Meter& of(quern_meter* m) { return *reinterpret_cast<typename T::Meter*>(m); }
};

// ---- what an algorithm plugin offers -------------------------------------------------------------------------------
template <class... T>
struct Estimators {
  static void fill(quern_plugin& p) {
    if constexpr (sizeof...(T) > 0) {
      static const quern_range_estimator* const list[] = {RangeEstimator<T>::table()...};
      p.range_estimators = list;
      p.n_range_estimators = sizeof...(T);
    }
  }
};
template <class... T>
struct Stages {
  static void fill(quern_plugin& p) {
    if constexpr (sizeof...(T) > 0) {
      static const quern_graph_stage* const list[] = {GraphStage<T>::table()...};
      p.graph_stages = list;
      p.n_graph_stages = sizeof...(T);
    }
  }
};

template <class... T>
struct Readers {
  static void fill(quern_plugin& p) {
    if constexpr (sizeof...(T) > 0) {
      static const quern_data_reader* const list[] = {DataReader<T>::table()...};
      p.data_readers = list;
      p.n_data_readers = sizeof...(T);
    }
  }
};
template <class... T>
struct Metrics {
  static void fill(quern_plugin& p) {
    if constexpr (sizeof...(T) > 0) {
      static const quern_metric* const list[] = {MetricPlugin<T>::table()...};
      p.metrics = list;
      p.n_metrics = sizeof...(T);
    }
  }
};

template <class... Lists>
void fill_all(quern_plugin& p) { (Lists::fill(p), ...); }

}  // namespace quern_sdk

// For example QUERN_SDK_ALGORITHMS(quern_sdk::Estimators<A, B>, quern_sdk::Stages<C>, quern_sdk::Readers<D>, quern_sdk::Metrics<E>).
// Readers and metrics need "abi": {"major": 1, "minor": 1} in the manifest.
#define QUERN_SDK_ALGORITHMS(...)                                                                          \
  extern "C" QUERN_EXPORT quern_status* quern_plugin_entry_v1(const quern_host* host, quern_plugin* out) { \
    return quern_sdk::enter(host, out, [](quern_plugin& p) {                                               \
      p.kind = QUERN_KIND_ALGORITHM;                                                                       \
      quern_sdk::fill_all<__VA_ARGS__>(p);                                                                 \
    });                                                                                                    \
  }
