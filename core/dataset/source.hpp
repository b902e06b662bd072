// An array of samples: where it comes from (for messages), its memory, and single rows of it as f32 or integers.
#pragma once
#include <memory>
#include <string>

#include "core/base/npy.hpp"
#include "core/dataset/dataset.hpp"

namespace quern {

struct Source {
  std::string name;                      // "array 'x' of data.npz", "x.npy"
  std::string file;
  StoredArray array;                     // axis 0: samples
  int64_t samples() const { return array.dims.front(); }
  Dims row_dims() const { return {array.dims.begin() + 1, array.dims.end()}; }
  size_t row_bytes() const;
  // One row without axis 0, as it is in the file. A copy where the array lies in a file, whose memory is let go of at once: what
  // a run takes does not grow with the samples it reads.
  Tensor row(int64_t index, const Dims& dims) const;
};

// Opens the arrays of one section; an npz archive is opened once.
class SourceOpener {
 public:
  SourceOpener(const json::object& section, fs::path folder);
  // `entry`: array name (npz), file (npy), {path, dtype, shape} (raw). `what`: "input 'x'", "labels", for messages.
  Source open(const json::value& entry, const std::string& what);
  // Without `inputs`: a file that holds the only input, or the archive's array of that name (or its only array).
  Source open_default(const std::string& input, bool only_input);
  const std::string& reader() const { return reader_; }

 private:
  Source open_raw(const json::object& entry, const std::string& what) const;
  Source open_npy(const std::string& path) const;
  Source open_array(const std::string& name);
  const Npz& archive();
  std::string reader_, path_;
  fs::path folder_;
  std::unique_ptr<Npz> npz_;
};

}  // namespace quern
