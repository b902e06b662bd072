// The data file of a package: tensors end to end, each aligned to 64 bytes, little endian, row major; equal bytes once.
#pragma once
#include <unordered_map>

#include "core/base/digest.hpp"
#include "core/base/files.hpp"
#include "core/base/json.hpp"
#include "core/base/tensor.hpp"

namespace quern {

class BlobWriter {
 public:
  explicit BlobWriter(const fs::path& path) : file_(path) {}
  // {"dtype": "s8", "dims": [..], "offset": n}. Written at once; equal data is written once.
  json::object add(const Tensor& tensor);
  uint64_t bytes() const { return file_.size(); }
  std::string finish();  // the SHA-256 of the whole

 private:
  struct Piece { uint64_t offset; Tensor tensor; };  // shares the memory of what was written
  FileWriter file_;
  Sha256 sha_;
  std::unordered_multimap<size_t, Piece> pieces_;  // by hash of the data
};

class BlobReader {
 public:
  BlobReader(std::shared_ptr<const MappedFile> file, std::string name) : file_(std::move(file)), name_(std::move(name)) {}
  // Looks into the mapped file. Error(model) when the reference does not lie inside it.
  Tensor get(const json::object& reference) const;

 private:
  std::shared_ptr<const MappedFile> file_;
  std::string name_;
};

// Fields of a JSON object read from a file somebody may have changed: Error(model) naming the file and the key.
class Fields {
 public:
  Fields(const json::value& value, std::string where);  // looks into `value`
  Fields(json::value&&, std::string) = delete;
  Fields(const json::object& object, std::string where) : object_(&object), where_(std::move(where)) {}
  Fields at(const std::string& key) const;
  bool has(const std::string& key) const { return object_->if_contains(key) != nullptr; }
  const json::value& value(const std::string& key) const;
  const json::array& array(const std::string& key) const;
  const json::object& object() const { return *object_; }
  std::string text(const std::string& key) const;
  int64_t integer(const std::string& key) const;
  double real(const std::string& key) const;  // also "inf", "-inf", "nan"
  bool boolean(const std::string& key) const;
  std::vector<int64_t> integers(const std::string& key) const;
  std::vector<std::string> texts(const std::string& key) const;
  const std::string& where() const { return where_; }
  [[noreturn]] void fail(const std::string& what) const;

 private:
  const json::object* object_;
  std::string where_;
};

json::value real_to_json(float value);  // finite numbers as such, else "inf", "-inf", "nan"
float real_from_json(const json::value& value, const std::string& where);

}  // namespace quern
