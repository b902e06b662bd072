#include "core/integer/blob.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>

#include "core/base/error.hpp"

namespace quern {

json::object BlobWriter::add(const Tensor& tensor) {
  const auto text = [](const Tensor& t) { return std::string_view(static_cast<const char*>(t.data()), t.bytes()); };
  const std::string_view data = text(tensor);
  const size_t hash = std::hash<std::string_view>()(data);
  const auto [first, last] = pieces_.equal_range(hash);
  const auto same = std::find_if(first, last, [&](const auto& p) { return text(p.second.tensor) == data; });
  uint64_t offset = (file_.size() + 63) / 64 * 64;
  if (same != last) {
    offset = same->second.offset;
  } else {
    const std::string padding(static_cast<size_t>(offset - file_.size()), '\0');
    for (const std::string_view part : {std::string_view(padding), data}) {
      file_.add(part);
      sha_.add(part);
    }
    pieces_.emplace(hash, Piece{offset, tensor});
  }
  return {{"dtype", name_of(tensor.type())}, {"dims", json::array(tensor.dims().begin(), tensor.dims().end())}, {"offset", offset}};
}

std::string BlobWriter::finish() {
  file_.finish();
  return sha_.hex();
}

Tensor BlobReader::get(const json::object& reference) const {
  const Fields fields(reference, name_);
  const DType type = dtype_from_name(fields.text("dtype"));
  if (size_of(type) == 0) fields.fail("a tensor of unknown type '" + fields.text("dtype") + "'");
  const Dims dims = fields.integers("dims");
  for (int64_t d : dims)
    if (d < 0) fields.fail("a tensor with a negative dimension");
  const int64_t count = element_count(dims), offset = fields.integer("offset");
  const auto bytes = file_->bytes();
  if (offset < 0 || offset % 64 != 0 || static_cast<uint64_t>(offset) > bytes.size() ||
      static_cast<uint64_t>(count) > (bytes.size() - static_cast<uint64_t>(offset)) / size_of(type))
    fields.fail(fmt::format("a tensor of shape {} at offset {} lies outside of the file of {} bytes", to_string(dims), offset, bytes.size()));
  return Tensor(type, dims, file_, bytes.data() + offset);
}

Fields::Fields(const json::value& value, std::string where) : object_(value.if_object()), where_(std::move(where)) {
  if (!object_) fail("is not an object");
}
void Fields::fail(const std::string& what) const { throw Error(ErrorCode::model, what + "; the package is damaged or was changed").at_file(where_); }
const json::value& Fields::value(const std::string& key) const {
  const json::value* v = object_->if_contains(key);
  if (!v) fail("lacks '" + key + "'");
  return *v;
}
Fields Fields::at(const std::string& key) const { return Fields(value(key), where_); }
const json::array& Fields::array(const std::string& key) const {
  const auto* a = value(key).if_array();
  if (!a) fail("'" + key + "' is not a list");
  return *a;
}
std::string Fields::text(const std::string& key) const {
  const auto* s = value(key).if_string();
  if (!s) fail("'" + key + "' is not a text");
  return std::string(*s);
}
namespace {
bool whole(const json::value& v, int64_t& out) {
  if (v.is_int64()) { out = v.get_int64(); return true; }
  if (v.is_uint64() && v.get_uint64() <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    out = static_cast<int64_t>(v.get_uint64());
    return true;
  }
  return false;
}
}  // namespace
int64_t Fields::integer(const std::string& key) const {
  int64_t i = 0;
  if (!whole(value(key), i)) fail("'" + key + "' is not a whole number");
  return i;
}
double Fields::real(const std::string& key) const { return real_from_json(value(key), where_); }
bool Fields::boolean(const std::string& key) const {
  if (!value(key).is_bool()) fail("'" + key + "' is not true or false");
  return value(key).get_bool();
}
std::vector<int64_t> Fields::integers(const std::string& key) const {
  std::vector<int64_t> out;
  for (const auto& v : array(key)) {
    int64_t i = 0;
    if (!whole(v, i)) fail("'" + key + "' holds something that is not a whole number");
    out.push_back(i);
  }
  return out;
}
std::vector<std::string> Fields::texts(const std::string& key) const {
  std::vector<std::string> out;
  for (const auto& v : array(key)) {
    if (!v.is_string()) fail("'" + key + "' holds something that is not a text");
    out.emplace_back(v.get_string());
  }
  return out;
}

json::value real_to_json(float value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return json_number(value);
}

float real_from_json(const json::value& v, const std::string& where) {
  if (v.is_double()) return static_cast<float>(v.get_double());
  if (v.is_int64()) return static_cast<float>(v.get_int64());
  if (v.is_uint64()) return static_cast<float>(v.get_uint64());
  if (v.is_string()) {
    const std::string s(v.get_string());
    if (s == "inf") return std::numeric_limits<float>::infinity();
    if (s == "-inf") return -std::numeric_limits<float>::infinity();
    if (s == "nan") return std::numeric_limits<float>::quiet_NaN();
  }
  throw Error(ErrorCode::model, "holds something that is not a number; the package is damaged or was changed").at_file(where);
}

}  // namespace quern
