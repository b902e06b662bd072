// Data in: samples by name, labels, preprocessing, and what is checked before anything is run; metrics out.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/files.hpp"
#include "core/base/json.hpp"
#include "core/base/tensor.hpp"

namespace quern {

struct NamedTensor { std::string name; Tensor tensor; };
using Sample = std::vector<NamedTensor>;  // one tensor per model input

// What the model wants for one of its inputs (dims with -1 for the batch).
struct InputSpec { std::string name; DType dtype = DType::f32; Dims dims; };

// Random access, thread-safe: item(i) may be called from several threads at once.
class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual int64_t size() const = 0;
  // One sample with its batch axis (1 unless the row of the file has the input's whole rank), preprocessed, f32 (or the
  // input's type). Error(data) naming file, array and sample.
  virtual Sample item(int64_t index) const = 0;
  virtual std::optional<Tensor> label(int64_t index) const = 0;   // none: no labels given
  virtual std::string digest() const = 0;                          // of the content in use and of the preprocessing
};

// The `data.calibration` / `data.evaluation` section of the configuration, already validated against the schema:
//   reader: npz   path, inputs: {input: array name}, labels: array name
//   reader: npy   inputs: {input: file}, labels: file           (or path: file, with a single input)
//   reader: raw   inputs: {input: {path, dtype, shape}}          shape is of one sample; the file holds whole samples
//   skip: N, samples: N (which of the samples: the first `skip` are passed over; all when absent or fewer), preprocess: {mean, scale, range} per input or for all: (x - mean) * scale in
//   f32; a number, or a list with one per channel (axis 1, else the last axis)
// Without `inputs` a single input takes the file's only array, and npz arrays are found by input name. An input or labels may
// always be a raw file {path, dtype, shape}. A list of labels gives their rows one after the other, as one flat f32 row.
// Axis 0 of an array is the sample; a row that lacks only the input's batch axis gets one; a row of the input's rank is fed
// as it is. Paths are relative to `folder`.
// Any other reader is a plugin's, found in `plugins`; samples and preprocess are as above, what else stands there are its parameters.
class PluginRegistry;
std::unique_ptr<Dataset> open_dataset(const json::object& section, const fs::path& folder, const std::vector<InputSpec>& inputs,
                                      PluginRegistry* plugins = nullptr);
const std::vector<std::string>& own_readers();  // npz, npy, raw

// What an input holds over all samples, after preprocessing. whole: whole numbers only.
struct InputRange { std::string input; double low = 0, high = 0; bool whole = true, picture = false; };
// NaN, infinity (sample and input named: Error(data)), empty data (Error(data)); warned of: constant samples, duplicates, pictures that
// are nearly black or mostly over-exposed, samples whose range or shape is unlike the others', classes that no label names.
// Advice is no warning: how many samples are usual.
struct DataCheck {
  int64_t samples = 0;
  std::vector<std::string> warnings, advice;
  std::vector<InputRange> ranges;
};
DataCheck check_calibration_data(const Dataset& data, int threads);
// `section`'s preprocessing against what came out of it. `begins_with`: by input, the node that normalises it inside the network
// ("Sub 'name'"), where there is one. Done twice, missing, or outside of the `range` that is declared.
std::vector<std::string> check_preprocessing(const json::object& section, const DataCheck& check, const std::map<std::string, std::string>& begins_with);

// A metric over the evaluation set. `update` is called in order of the samples. Where the size of an output follows from the data
// (boxes that are kept), it may differ from the float model's: nothing agrees then (agreement and cosine count 0), or nothing can
// be said (mse and sqnr leave the sample out).
class Metric {
 public:
  virtual ~Metric() = default;
  virtual std::string name() const = 0;
  virtual bool higher_is_better() const = 0;
  virtual bool needs_labels() const { return false; }
  virtual bool needs_reference() const { return false; }  // outputs of the float model
  virtual void update(const Sample& outputs, const std::optional<Tensor>& label, const Sample* reference) = 0;
  virtual double value() const = 0;
  virtual std::string remark() const { return {}; }  // what has to be known beside the value
};
// "top1", "top5", "topk" {k}, "mse" {against: float | labels}, "sqnr", "cosine", "agreement" (with the float model's choice);
// options as {"type": "topk", "k": 3}. Error(config) with the list otherwise. Classes are looked for in the first output, on the
// axis that leaves one position per label; sqnr is over all samples together, averaged over outputs. Any other name is a plugin's.
std::unique_ptr<Metric> make_metric(const json::value& description, PluginRegistry* plugins = nullptr);
std::vector<std::string> metric_names();

// Of two equal-shaped f32 arrays: 10 log10(sum a^2 / sum (a-b)^2), +inf when equal; cosine similarity.
double sqnr_db(std::span<const float> reference, std::span<const float> other);
double cosine(std::span<const float> a, std::span<const float> b);

}  // namespace quern
