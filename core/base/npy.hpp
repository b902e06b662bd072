// numpy's array files. Reads .npy (format 1.0..3.0, C or Fortran order, little endian; numeric and bool types) and
// .npz (zip of .npy, stored or deflated, zip64). Declared sizes are checked against the file before memory is taken.
// Errors: Error(data) naming the file and what is wrong.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "core/base/files.hpp"
#include "core/base/tensor.hpp"

namespace quern {

// An array as it lies in memory or in a mapped file (then it may lie at any address: copy rows out of it).
struct StoredArray {
  DType type = DType::undefined;
  Dims dims;
  std::shared_ptr<const void> owner;
  const std::byte* data = nullptr;
  std::shared_ptr<const MappedFile> file;  // null: in memory
};
StoredArray stored_npy(const fs::path& path);

Tensor read_npy(const fs::path& path);  // stored C order: looks into the mapped file, no copy
std::string npy_bytes(const Tensor& tensor);

class Npz {
 public:
  explicit Npz(const fs::path& path);
  const std::vector<std::string>& names() const { return names_; }  // without ".npy", in the order of the file
  bool has(const std::string& name) const;
  Tensor read(const std::string& name) const;
  StoredArray stored(const std::string& name) const;  // its check sum is checked

 private:
  struct Entry { uint64_t offset, packed, size; int method; uint32_t crc; };
  std::shared_ptr<const MappedFile> file_;
  std::string path_;
  std::vector<std::string> names_;
  std::map<std::string, Entry> entries_;
};

// Stored entries, fixed dates: the same arrays give the same bytes.
void write_npz(const fs::path& path, const std::vector<std::pair<std::string, Tensor>>& arrays);

}  // namespace quern
