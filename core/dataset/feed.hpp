// How a row of data becomes what an input of the model wants: its batch axis, its type, its preprocessing.
#pragma once
#include <string>
#include <vector>

#include "core/dataset/dataset.hpp"

namespace quern {

// (x - mean) * scale in f32, one number for all or one per channel.
struct Affine {
  std::vector<float> mean{0}, scale{1};
  bool active = false;
};

// Where rows come from, for messages; `rows`: how many an array has, -1 where rows come one by one.
struct Origin { std::string name, file; int64_t rows = -1; };

struct Feed {
  InputSpec spec;
  Origin origin;
  Dims dims;              // of one sample, with its batch axis
  Affine affine;
  int channel_axis = -1;  // of dims, when the affine numbers are per channel

  // Error(data) or Error(config) when rows of this shape and type can't feed the input.
  Feed() = default;
  Feed(const json::object& section, InputSpec spec, Origin origin, const Dims& row, DType type);
  // A row, its shape already `dims`, in the input's type. Error(data) naming the sample where a value does not fit.
  Tensor convert(const Tensor& row, int64_t index) const;
};

// `named` may only name inputs of the model.
void refuse_unknown_inputs(const json::object& named, const std::vector<InputSpec>& inputs, const char* where);
void refuse_unknown_preprocessing(const json::object& section, const std::vector<InputSpec>& inputs);
// The `skip` and `samples` of a section: which of the samples that are there. Error(config).
struct Part { int64_t first = 0, count = 0; };
Part part_of(const json::object& section, int64_t there, const std::string& file);

}  // namespace quern
