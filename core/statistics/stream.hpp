// Little-endian bytes out and in, for the statistics file. The reader checks every length before it is believed.
#pragma once
#include <bit>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.hpp"

namespace quern {

class Writer {
 public:
  template <class T>
  void put(T value) { bytes_.append(reinterpret_cast<const char*>(&value), sizeof value); }
  void text(std::string_view s) { put<uint64_t>(s.size()); bytes_ += s; }
  template <class T>
  void array(const std::vector<T>& v) {
    put<uint64_t>(v.size());
    if (!v.empty()) bytes_.append(reinterpret_cast<const char*>(v.data()), v.size() * sizeof(T));
  }
  const std::string& bytes() const { return bytes_; }

 private:
  static_assert(std::endian::native == std::endian::little);
  std::string bytes_;
};

class Reader {
 public:
  Reader(std::string_view bytes, std::string file) : bytes_(bytes), file_(std::move(file)) {}
  template <class T>
  T get() {
    T v;
    std::memcpy(&v, take(sizeof v).data(), sizeof v);
    return v;
  }
  std::string text() { return std::string(take(length(1))); }
  template <class T>
  std::vector<T> array() {
    const uint64_t n = length(sizeof(T));
    std::vector<T> v(n);
    if (n) std::memcpy(v.data(), take(n * sizeof(T)).data(), n * sizeof(T));
    return v;
  }
  // A count of things of at least `size` bytes each.
  uint64_t length(uint64_t size) {
    const uint64_t n = get<uint64_t>();
    if (n > bytes_.size() / size) fail("declares more than it holds");
    return n;
  }
  bool done() const { return bytes_.empty(); }
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorCode::data, "is not a usable statistics file: it " + what).at_file(file_);
  }

 private:
  std::string_view take(uint64_t n) {
    if (n > bytes_.size()) fail("is cut off");
    const std::string_view s = bytes_.substr(0, n);
    bytes_.remove_prefix(n);
    return s;
  }
  std::string_view bytes_;
  std::string file_;
};

}  // namespace quern
