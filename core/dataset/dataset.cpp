#include "core/dataset/dataset.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>
#include <utility>

#include "core/base/digest.hpp"
#include "core/base/error.hpp"
#include "core/dataset/feed.hpp"
#include "core/dataset/plugin_data.hpp"
#include "core/dataset/source.hpp"

namespace quern {
namespace {

struct Input {
  Feed feed;
  Source source;
};

class ArrayDataset : public Dataset {
 public:
  ArrayDataset(std::vector<Input> inputs, std::vector<Source> labels, Part part, std::string preprocessing)
      : inputs_(std::move(inputs)), labels_(std::move(labels)), first_(part.first), size_(part.count), preprocessing_(std::move(preprocessing)) {}

  int64_t size() const override { return size_; }

  Sample item(int64_t index) const override {
    check_index(index);
    Sample sample;
    for (const Input& in : inputs_) {
      sample.push_back({in.feed.spec.name, in.feed.convert(in.source.row(first_ + index, in.feed.dims), first_ + index)});
    }
    return sample;
  }

  std::optional<Tensor> label(int64_t index) const override {
    check_index(index);
    if (labels_.empty()) return {};
    const auto row = [&](const Source& s) { return s.row(first_ + index, s.row_dims()); };
    if (labels_.size() == 1) return row(labels_.front());
    std::vector<float> all;  // of a list of arrays: one after the other
    for (const Source& s : labels_) {
      const auto values = row(s).to_floats();
      all.insert(all.end(), values.begin(), values.end());
    }
    Tensor out(DType::f32, {static_cast<int64_t>(all.size())});
    std::copy(all.begin(), all.end(), out.mutable_values<float>().begin());
    return out;
  }

  std::string digest() const override {
    std::call_once(once_, [&] {
      Sha256 sha;
      sha.add(fmt::format("quern data 1\n{}\n{}\n", size_, preprocessing_));
      const auto add = [&](const std::string& name, const Source& s) {
        sha.add(fmt::format("{}\n{} {}\n", name, name_of(s.array.type), to_string(s.row_dims())));
        for (int64_t i = 0; i < size_; ++i) {
          const std::byte* row = s.array.data + static_cast<size_t>(first_ + i) * s.row_bytes();
          sha.add(std::span(row, s.row_bytes()));
          if (s.array.file) s.array.file->release(s.array.file->bytes().data(), s.array.file->bytes().size());
        }
      };
      for (const Input& in : inputs_) add(in.feed.spec.name, in.source);
      for (const Source& s : labels_) add("labels", s);
      digest_ = sha.hex();
    });
    return digest_;
  }

 private:
  void check_index(int64_t index) const {
    if (index < 0 || index >= size_) throw Error(ErrorCode::internal, fmt::format("sample {} of {}", index, size_));
  }
  std::vector<Input> inputs_;
  std::vector<Source> labels_;
  int64_t first_, size_;
  std::string preprocessing_;
  mutable std::once_flag once_;
  mutable std::string digest_;
};

}  // namespace

const std::vector<std::string>& own_readers() {
  static const std::vector<std::string> names{"npz", "npy", "raw"};
  return names;
}

std::unique_ptr<Dataset> open_dataset(const json::object& section, const fs::path& folder, const std::vector<InputSpec>& inputs, PluginRegistry* plugins) {
  const auto* reader = section.if_contains("reader");
  const std::string name = reader && reader->is_string() ? std::string(reader->get_string()) : "";
  if (!name.empty() && std::find(own_readers().begin(), own_readers().end(), name) == own_readers().end()) {
    std::vector<std::string> there = own_readers(), others = plugins ? plugins->reader_names() : std::vector<std::string>();
    if (std::find(others.begin(), others.end(), name) != others.end()) return open_plugin_data(plugins->reader(name), section, folder, inputs);
    there.insert(there.end(), others.begin(), others.end());
    throw Error(ErrorCode::config, fmt::format("there is no data reader '{}'{}; there are {}", name, did_you_mean(name, there), list_of(there)));
  }
  SourceOpener opener(section, folder);
  const json::object* named = nullptr;
  if (const auto* v = section.if_contains("inputs"); v && !v->is_null()) {
    named = v->if_object();
    if (!named) throw Error(ErrorCode::config, "inputs has to be a mapping from the model's inputs to arrays");
    refuse_unknown_inputs(*named, inputs, "inputs");
  }
  refuse_unknown_preprocessing(section, inputs);
  std::vector<Input> opened;
  for (const InputSpec& spec : inputs) {
    const json::value* entry = named ? named->if_contains(spec.name) : nullptr;
    if (named && !entry)
      throw Error(ErrorCode::config, fmt::format("inputs: the data of input '{}' of the model is missing", spec.name));
    Input in;
    in.source = entry ? opener.open(*entry, fmt::format("input '{}'", spec.name)) : opener.open_default(spec.name, inputs.size() == 1);
    in.feed = Feed(section, spec, {in.source.name, in.source.file, in.source.samples()}, in.source.row_dims(), in.source.array.type);
    opened.push_back(std::move(in));
  }
  if (opened.empty()) throw Error(ErrorCode::data, "the model has no inputs, so there is nothing to feed");
  std::vector<Source> labels;
  if (const auto* l = section.if_contains("labels"); l && l->is_array())
    for (const auto& entry : l->get_array()) labels.push_back(opener.open(entry, "labels"));
  else if (l && !l->is_null()) labels.push_back(opener.open(*l, "labels"));
  const int64_t there = opened.front().source.samples();
  const auto same = [&](const Source& s, const std::string& what) {
    if (s.samples() != there)
      throw Error(ErrorCode::data, fmt::format("{} has {} samples ({}), but {} of {} has {}", s.name, s.samples(), what, opened.front().source.name, opened.front().source.file, there)).at_file(s.file);
  };
  for (const Input& in : opened) same(in.source, fmt::format("input '{}'", in.feed.spec.name));
  for (const Source& s : labels) same(s, "labels");
  const Part part = part_of(section, there, opened.front().source.file);
  const auto* p = section.if_contains("preprocess");
  return std::make_unique<ArrayDataset>(std::move(opened), std::move(labels), part, p ? to_text(*p, false) : "");
}

}  // namespace quern
