// Private to the onnx room: TensorProto to Tensor and back, and the files that external data lies in.
#pragma once
#include <onnx/onnx_pb.h>

#include <map>

#include "core/base/files.hpp"
#include "core/base/tensor.hpp"

namespace quern {

// Files of external data, mapped once each, confined to one folder.
class ExternalData {
 public:
  explicit ExternalData(fs::path folder) : folder_(std::move(folder)) {}
  // Bytes [offset, offset + length) of `location`; Error(model) when that is not inside the folder or the file.
  std::shared_ptr<const MappedFile> file(const std::string& location, const std::string& tensor);
  // SHA-256 of the model's bytes and of every file opened so far.
  std::string digest_with(std::span<const std::byte> model) const;

 private:
  fs::path folder_;  // empty: the model came from memory and may have no external data
  std::map<std::string, std::shared_ptr<const MappedFile>> files_;
};

// Takes the data out of `proto` (its memory is let go). Sizes are checked before memory is taken. Error(model) naming the
// tensor; `what` says whose it is ("initializer 'w'").
Tensor take_tensor(onnx::TensorProto& proto, ExternalData& external, const std::string& what);

// Quern's type, or Error(model) naming a type that is not supported.
DType dtype_of_proto(int type, const std::string& what);

void put_tensor(const Tensor& tensor, const std::string& name, onnx::TensorProto* proto);

}  // namespace quern
