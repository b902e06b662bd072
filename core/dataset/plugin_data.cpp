#include "core/dataset/plugin_data.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <mutex>

#include "core/base/digest.hpp"
#include "core/base/error.hpp"
#include "core/dataset/feed.hpp"
#include "core/plugin/library.hpp"
#include "core/plugin/sinks.hpp"

namespace quern {
namespace {

// Named tensors as plugins see them; they look into what they are made of.
class Tables {
 public:
  void add(const std::string& name, DType type, const Dims& dims, const void* data, size_t bytes) {
    auto t = abi_struct<quern_table>();
    t.name = str_of(name);
    t.tensor = tensor(type, dims, data, bytes);
    tables_.push_back(t);
    list_.push_back(&tables_.back());
  }
  quern_tensor tensor(DType type, const Dims& dims, const void* data, size_t bytes) {
    auto t = abi_struct<quern_tensor>();
    t.data = const_cast<void*>(data);
    t.bytes = bytes;
    t.dtype = static_cast<uint32_t>(type);
    t.rank = static_cast<uint32_t>(dims.size());
    t.dims = dims.data();
    const bool complete = std::all_of(dims.begin(), dims.end(), [](int64_t d) { return d >= 0; });
    t.strides = strides_.emplace_back(complete ? row_major_strides(dims) : Dims(dims.size(), 0)).data();
    t.layout = QUERN_LAYOUT_ROW_MAJOR;
    return t;
  }
  const quern_table* const* list() const { return list_.data(); }
  uint32_t size() const { return static_cast<uint32_t>(list_.size()); }

 private:
  std::deque<quern_table> tables_;
  std::deque<Dims> strides_;
  std::vector<const quern_table*> list_;
};

// What a plugin says about its data is an error of the data.
template <class F> auto as_data_error(F&& f) {
  try {
    return f();
  } catch (const Error& e) {
    if (e.code() != ErrorCode::plugin) throw;
    throw Error(ErrorCode::data, e.message());
  }
}

class PluginDataset : public Dataset {
 public:
  PluginDataset(const ReaderHandle& reader, json::object section, const fs::path& folder, std::vector<InputSpec> inputs)
      : plugin_(reader.plugin), name_(reader.name), table_(*reader.table), section_(std::move(section)), inputs_(std::move(inputs)) {
    Tables specs;
    for (const InputSpec& s : inputs_) specs.add(s.name, s.dtype, s.dims, nullptr, 0);
    const std::string parameters = to_text(reader_parameters(section_), false), where = folder.string();
    as_data_error([&] {
      quern_reader* opened = nullptr;
      call_plugin(plugin_, "opening data", [&] { return table_.open(table_.self, str_of(parameters), str_of(where), specs.list(), specs.size(), &opened); });
      if (!opened) throw Error(ErrorCode::plugin, fmt::format("plugin {}: the reader '{}' opened nothing", plugin_, name_));
      reader_ = {opened, Close{&table_}};
      int64_t there = -1;
      call_plugin(plugin_, "counting samples", [&] { return table_.size(table_.self, reader_.get(), &there); });
      if (there < 0) throw Error(ErrorCode::plugin, fmt::format("plugin {}: the reader '{}' has {} samples", plugin_, name_, there));
      const Part part = part_of(section_, there, fmt::format("the reader '{}'", name_));
      first_ = part.first;
      size_ = part.count;
    });
    refuse_unknown_preprocessing(section_, inputs_);
    if (size_ > 0) item(0);  // what can't be fed shows before any work
  }
  int64_t size() const override { return size_; }

  Sample item(int64_t index) const override {
    auto tensors = read(index, table_.sample);
    Sample out;
    for (const InputSpec& spec : inputs_) {
      const auto at = tensors.find(spec.name);
      if (at == tensors.end())
        throw Error(ErrorCode::data, fmt::format("the reader '{}' gives no '{}' for sample {}; the model needs it", name_, spec.name, index));
      const Tensor& t = at->second;
      const Feed feed(section_, spec, {fmt::format("sample {} of the reader '{}'", index, name_), ""}, t.dims(), t.type());
      out.push_back({spec.name, feed.convert(t.reshaped(feed.dims), index)});
    }
    for (const auto& [name, t] : tensors) {
      const auto known = std::find_if(inputs_.begin(), inputs_.end(), [&, &name = name](const InputSpec& s) { return s.name == name; });
      if (known == inputs_.end()) throw Error(ErrorCode::data, fmt::format("the reader '{}' gives '{}', which is no input of the model", name_, name));
    }
    return out;
  }

  std::optional<Tensor> label(int64_t index) const override {
    if (!table_.label) return {};
    const auto tensors = read(index, table_.label);
    if (tensors.size() > 1) throw Error(ErrorCode::data, fmt::format("the reader '{}' gives {} labels for sample {}", name_, tensors.size(), index));
    if (tensors.empty()) return {};
    return tensors.begin()->second;
  }

  // Of what the reader gives: every sample is read for it.
  std::string digest() const override {
    std::call_once(once_, [&] {
      Sha256 sha;
      const auto* p = section_.if_contains("preprocess");
      sha.add(fmt::format("quern data of a plugin 1\n{}\n{}\n", size_, p ? to_text(*p, false) : ""));
      const auto add = [&](const std::string& name, const Tensor& t) {
        sha.add(fmt::format("{}\n{} {}\n", name, name_of(t.type()), to_string(t.dims())));
        sha.add(std::span(static_cast<const std::byte*>(t.data()), t.bytes()));
      };
      for (int64_t i = 0; i < size_; ++i) {
        for (const auto& [name, t] : read(i, table_.sample)) add(name, t);
        if (const auto l = label(i)) add("label", *l);
      }
      digest_ = sha.hex();
    });
    return digest_;
  }

 private:
  std::map<std::string, Tensor> read(int64_t index, quern_status* (*function)(void*, quern_reader*, int64_t, const quern_table_sink*)) const {
    if (index < 0 || index >= size_) throw Error(ErrorCode::internal, fmt::format("sample {} of {}", index, size_));
    std::map<std::string, Tensor> tensors;
    const auto sink = tensor_sink(tensors);
    as_data_error([&] { call_plugin(plugin_, fmt::format("sample {}", index), [&] { return function(table_.self, reader_.get(), first_ + index, &sink); }); });
    return tensors;
  }

  struct Close {
    const quern_data_reader* table;
    void operator()(quern_reader* reader) const { table->close(table->self, reader); }
  };

  std::string plugin_, name_;
  const quern_data_reader& table_;
  json::object section_;
  std::vector<InputSpec> inputs_;
  std::unique_ptr<quern_reader, Close> reader_{nullptr, Close{nullptr}};
  int64_t first_ = 0, size_ = 0;
  mutable std::once_flag once_;
  mutable std::string digest_;
};

class PluginMetric : public Metric {
 public:
  PluginMetric(const MetricHandle& metric, const json::object& parameters) : plugin_(metric.plugin), name_(metric.name), table_(*metric.table) {
    const std::string text = to_text(parameters, false);
    call_plugin(plugin_, name_, [&] { return table_.create(table_.self, str_of(text), &meter_); });
    if (!meter_) throw Error(ErrorCode::plugin, fmt::format("plugin {}: the metric '{}' was not created", plugin_, name_));
  }
  ~PluginMetric() override {
    if (meter_) table_.destroy(table_.self, meter_);
  }
  std::string name() const override { return name_; }
  bool higher_is_better() const override { return table_.higher_is_better != 0; }
  bool needs_labels() const override { return (table_.needs & QUERN_METRIC_NEEDS_LABELS) != 0; }
  bool needs_reference() const override { return (table_.needs & QUERN_METRIC_NEEDS_FLOAT) != 0; }

  void update(const Sample& outputs, const std::optional<Tensor>& label, const Sample* reference) override {
    Tables given, floats;
    for (const NamedTensor& o : outputs) given.add(o.name, o.tensor.type(), o.tensor.dims(), o.tensor.data(), o.tensor.bytes());
    if (needs_reference() && reference && reference->size() != outputs.size())
      throw Error(ErrorCode::internal, fmt::format("{} outputs beside {} of the float network", outputs.size(), reference->size()));
    if (needs_reference() && reference)
      for (const NamedTensor& o : *reference) floats.add(o.name, o.tensor.type(), o.tensor.dims(), o.tensor.data(), o.tensor.bytes());
    quern_tensor mark{};
    if (needs_labels()) {
      if (!label) throw Error(ErrorCode::data, fmt::format("sample {} has no label; the metric '{}' needs one", samples_, name_));
      mark = given.tensor(label->type(), label->dims(), label->data(), label->bytes());
    }
    as_data_error([&] {
      call_plugin(plugin_, fmt::format("{}, sample {}", name_, samples_), [&] {
        return table_.update(table_.self, meter_, samples_, given.list(), given.size(), needs_labels() ? &mark : nullptr,
                             floats.size() > 0 ? floats.list() : nullptr);
      });
    });
    ++samples_;
  }
  double value() const override {
    if (samples_ == 0) throw Error(ErrorCode::data, fmt::format("the metric {} was given no samples; the evaluation data is empty", name_));
    double out = 0;
    as_data_error([&] { call_plugin(plugin_, name_, [&] { return table_.result(table_.self, meter_, &out); }); });
    if (std::isnan(out)) throw Error(ErrorCode::data, fmt::format("plugin {}: the metric '{}' is not a number", plugin_, name_));
    return out;
  }

 private:
  std::string plugin_, name_;
  const quern_metric& table_;
  quern_meter* meter_ = nullptr;
  int64_t samples_ = 0;
};

}  // namespace

bool is_common_data_key(std::string_view key) { return key == "reader" || key == "samples" || key == "skip" || key == "preprocess" || key == "state" || key == "steps"; }

json::object reader_parameters(const json::object& section) {
  json::object out;
  for (const auto& [key, value] : section)
    if (!is_common_data_key(key)) out[key] = value;
  return out;
}

std::unique_ptr<Dataset> open_plugin_data(const ReaderHandle& reader, const json::object& section, const fs::path& folder, const std::vector<InputSpec>& inputs) {
  return std::make_unique<PluginDataset>(reader, section, folder, inputs);
}

std::unique_ptr<Metric> make_plugin_metric(const MetricHandle& metric, const json::object& parameters) {
  return std::make_unique<PluginMetric>(metric, parameters);
}

}  // namespace quern
