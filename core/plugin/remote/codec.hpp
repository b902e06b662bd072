// What crosses between the host and the process of a plugin: plain bytes, written and read in one order. Both ends are the same
// build of Quern, so there are no versions; but the plugin shares the other end's memory, so nothing read is trusted.
#pragma once
#include <map>
#include <string>
#include <string_view>

#include "core/rules/unit.hpp"

namespace quern::remote {

class Writer {
 public:
  template <class T> Writer& number(T value) {
    static_assert(std::is_arithmetic_v<T>);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Writer& text(std::string_view s) { number<uint64_t>(s.size()); bytes_.append(s); return *this; }
  template <class T> Writer& numbers(std::span<const T> values) {
    number<uint64_t>(values.size());
    bytes_.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
    return *this;
  }
  Writer& dims(const Dims& d) { return numbers<int64_t>(d); }
  Writer& tensor(const Tensor& t);
  Writer& unit(const IntegerUnit& unit);
  Writer& tables(const std::map<std::string, Tensor>& tables);
  const std::string& bytes() const { return bytes_; }

 private:
  void attribute(const Attribute& a);
  void operand(const UnitOperand& o);
  std::string bytes_;
};

// Every read is checked; what does not fit is Error(plugin).
class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}
  template <class T> T number() {
    T value;
    std::memcpy(&value, take(sizeof value), sizeof value);
    return value;
  }
  std::string text();
  template <class T> std::vector<T> numbers() {
    const uint64_t n = count(sizeof(T));
    std::vector<T> out(n);
    if (n > 0) std::memcpy(out.data(), take(n * sizeof(T)), n * sizeof(T));
    return out;
  }
  Dims dims() { return numbers<int64_t>(); }
  Tensor tensor();
  IntegerUnit unit();
  std::map<std::string, Tensor> tables();

 private:
  const char* take(size_t bytes);
  uint64_t count(size_t each);  // of elements that follow
  Attribute attribute();
  UnitOperand operand();
  std::string_view rest_;
};

}  // namespace quern::remote
