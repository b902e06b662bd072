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
  ArrayDataset(std::vector<Input> inputs, std::optional<Source> labels, int64_t size, std::string preprocessing)
      : inputs_(std::move(inputs)), labels_(std::move(labels)), size_(size), preprocessing_(std::move(preprocessing)) {}

  int64_t size() const override { return size_; }

  Sample item(int64_t index) const override {
    check_index(index);
    Sample sample;
    for (const Input& in : inputs_) {
      sample.push_back({in.feed.spec.name, in.feed.convert(in.source.row(index, in.feed.dims), index)});
    }
    return sample;
  }

  std::optional<Tensor> label(int64_t index) const override {
    if (!labels_) return {};
    check_index(index);
    return labels_->row(index, labels_->row_dims());
  }

  std::string digest() const override {
    std::call_once(once_, [&] {
      Sha256 sha;
      sha.add(fmt::format("quern data 1\n{}\n{}\n", size_, preprocessing_));
      const auto add = [&](const std::string& name, const Source& s) {
        sha.add(fmt::format("{}\n{} {}\n", name, name_of(s.array.type), to_string(s.row_dims())));
        for (int64_t i = 0; i < size_; ++i) {
          const std::byte* row = s.array.data + static_cast<size_t>(i) * s.row_bytes();
          sha.add(std::span(row, s.row_bytes()));
          if (s.array.file) s.array.file->release(s.array.file->bytes().data(), s.array.file->bytes().size());
        }
      };
      for (const Input& in : inputs_) add(in.feed.spec.name, in.source);
      if (labels_) add("labels", *labels_);
      digest_ = sha.hex();
    });
    return digest_;
  }

 private:
  void check_index(int64_t index) const {
    if (index < 0 || index >= size_) throw Error(ErrorCode::internal, fmt::format("sample {} of {}", index, size_));
  }
  std::vector<Input> inputs_;
  std::optional<Source> labels_;
  int64_t size_;
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
  std::optional<Source> labels;
  if (const auto* l = section.if_contains("labels"); l && !l->is_null()) labels = opener.open(*l, "labels");
  const int64_t there = opened.front().source.samples();
  const auto same = [&](const Source& s, const std::string& what) {
    if (s.samples() != there)
      throw Error(ErrorCode::data, fmt::format("{} has {} samples ({}), but {} of {} has {}", s.name, s.samples(), what, opened.front().source.name, opened.front().source.file, there)).at_file(s.file);
  };
  for (const Input& in : opened) same(in.source, fmt::format("input '{}'", in.feed.spec.name));
  if (labels) same(*labels, "labels");
  const int64_t size = limited_samples(section, there, opened.front().source.file);
  const auto* p = section.if_contains("preprocess");
  return std::make_unique<ArrayDataset>(std::move(opened), std::move(labels), size, p ? to_text(*p, false) : "");
}

}  // namespace quern
