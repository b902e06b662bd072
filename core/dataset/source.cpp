#include "core/dataset/source.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/error.hpp"

namespace quern {
namespace {

Error bad_section(const std::string& what) { return Error(ErrorCode::config, what); }

std::string text_of(const json::value& v, const std::string& what) {
  if (!v.is_string() || v.get_string().empty()) throw bad_section(what + " has to be a text");
  return std::string(v.get_string());
}

Source checked(Source s) {
  if (s.array.dims.empty())
    throw Error(ErrorCode::data, s.name + " is a single number; axis 0 has to be the samples").at_file(s.file);
  return s;
}

}  // namespace

size_t Source::row_bytes() const {
  size_t n = size_of(array.type);
  for (size_t i = 1; i < array.dims.size(); ++i) n *= static_cast<size_t>(array.dims[i]);
  return n;
}

Tensor Source::row(int64_t index, const Dims& dims) const {
  const std::byte* from = array.data + static_cast<size_t>(index) * row_bytes();
  if (!array.file && reinterpret_cast<uintptr_t>(from) % size_of(array.type) == 0) return Tensor(array.type, dims, array.owner, from);
  Tensor out(array.type, dims);
  if (out.bytes() > 0) std::memcpy(out.mutable_bytes(), from, out.bytes());
  if (array.file) array.file->release(array.file->bytes().data(), array.file->bytes().size());  // all of it: pages around come along
  return out;
}

SourceOpener::SourceOpener(const json::object& section, fs::path folder) : folder_(std::move(folder)) {
  const auto* reader = section.if_contains("reader");
  if (!reader) throw bad_section("a data section needs a reader: npz, npy or raw");
  reader_ = text_of(*reader, "the reader");
  if (reader_ != "npz" && reader_ != "npy" && reader_ != "raw")
    throw bad_section(fmt::format("there is no reader '{}'{}; there are npz, npy and raw", reader_, did_you_mean(reader_, {"npz", "npy", "raw"})));
  if (const auto* path = section.if_contains("path")) path_ = text_of(*path, "the path of the data");
  if (reader_ == "npz" && path_.empty()) throw bad_section("the reader npz needs a path");
}

const Npz& SourceOpener::archive() {
  if (!npz_) npz_ = std::make_unique<Npz>(folder_ / path_);
  return *npz_;
}

Source SourceOpener::open(const json::value& entry, const std::string& what) {
  if (const auto* o = entry.if_object()) return open_raw(*o, what);
  const std::string text = text_of(entry, what);
  if (reader_ == "raw") throw bad_section(fmt::format("{}: the reader raw needs {{path, dtype, shape}}", what));
  return reader_ == "npz" ? open_array(text) : open_npy(text);
}

Source SourceOpener::open_default(const std::string& input, bool only_input) {
  if (reader_ == "npz") {
    const auto& names = archive().names();
    if (archive().has(input)) return open_array(input);
    if (only_input && names.size() == 1) return open_array(names.front());
    throw bad_section(fmt::format("which array of {} is input '{}' of the model? Say it under inputs; there is: {}", path_, input, list_of(names)));
  }
  if (reader_ == "npy" && only_input && !path_.empty()) return open_npy(path_);
  throw bad_section(fmt::format("the data of input '{}' is missing; name it under inputs", input));
}

Source SourceOpener::open_array(const std::string& name) {
  const std::string file = (folder_ / path_).string();
  return checked({fmt::format("array '{}'", name), file, archive().stored(name)});
}

Source SourceOpener::open_npy(const std::string& path) const {
  const fs::path file = folder_ / path;
  return checked({"the array", file.string(), stored_npy(file)});
}

Source SourceOpener::open_raw(const json::object& entry, const std::string& what) const {
  std::string path, dtype;
  Dims dims{0};
  for (const auto& [key, value] : entry) {
    if (key == "path") path = text_of(value, "the path of " + what);
    else if (key == "dtype") dtype = text_of(value, "the dtype of " + what);
    else if (key == "shape") {
      if (!value.is_array()) throw bad_section(fmt::format("the shape of {} has to be a list", what));
      for (const auto& d : value.get_array()) {
        if (!d.is_int64() || d.get_int64() < 1) throw bad_section(fmt::format("the shape of {} has to be a list of whole numbers above 0", what));
        dims.push_back(d.get_int64());
      }
    } else {
      throw bad_section(fmt::format("{}: unknown key '{}'{}", what, std::string_view(key), did_you_mean(key, {"path", "dtype", "shape"})));
    }
  }
  if (path.empty() || dtype.empty() || !entry.if_contains("shape")) throw bad_section(fmt::format("{}: path, dtype and shape are needed", what));
  const DType type = dtype_from_name(dtype);
  if (size_of(type) == 0) throw bad_section(fmt::format("{}: there is no dtype '{}'", what, dtype));
  const fs::path file = folder_ / path;
  auto mapped = MappedFile::open(file);
  const auto bytes = mapped->bytes();
  const int64_t row = element_count(std::span(dims).subspan(1)) * static_cast<int64_t>(size_of(type));
  if (static_cast<int64_t>(bytes.size()) % row != 0)
    throw Error(ErrorCode::data, fmt::format("holds {} bytes, which is no whole number of samples of {} bytes ({} {})", bytes.size(), row,
                                             name_of(type), to_string(std::span(dims).subspan(1))))
        .at_file(file.string());
  dims[0] = static_cast<int64_t>(bytes.size()) / row;
  return {"the array", file.string(), StoredArray{type, dims, mapped, bytes.data(), mapped}};
}

}  // namespace quern
