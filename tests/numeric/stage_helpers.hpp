// Short spellings for stage lists in tests.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "core/numeric/contract.hpp"

namespace quern::test {

struct Tables : StageOperands {
  std::map<std::string, Tensor> all;
  const Tensor* table(const std::string& name) const override {
    const auto it = all.find(name);
    return it == all.end() ? nullptr : &it->second;
  }
  bool present(const std::string& name) const override { return all.count(name) != 0; }
  Tables& ints(const std::string& name, std::vector<int64_t> v) {
    all[name] = Tensor::of<int64_t>({static_cast<int64_t>(v.size())}, v);
    return *this;
  }
  Tables& floats(const std::string& name, std::vector<float> v) {
    all[name] = Tensor::of<float>({static_cast<int64_t>(v.size())}, v);
    return *this;
  }
};

inline StageOperand named(const std::string& name) { StageOperand o; o.kind = StageOperand::Kind::table; o.name = name; return o; }
inline StageOperand minus(const std::string& name) { StageOperand o = named(name); o.negate = true; return o; }
inline StageOperand tensor(const std::string& name) { StageOperand o = named(name); o.kind = StageOperand::Kind::tensor; return o; }
inline StageOperand window() { StageOperand o; o.kind = StageOperand::Kind::window_count; return o; }
inline StageOperand whole(int64_t i) { StageOperand o; o.kind = StageOperand::Kind::integer; o.integer = i; return o; }
inline StageOperand real(float f) { StageOperand o; o.kind = StageOperand::Kind::real; o.real = f; return o; }
inline Stage stage(StageKind kind, StageOperand a = {}, StageOperand b = {}, Round round = Round::half_even, int width = 64) {
  Stage s;
  s.kind = kind;
  s.a = a;
  s.b = b;
  s.round = round;
  s.width = width;
  return s;
}
inline Stage shr(StageOperand by, Round round) { return stage(StageKind::shr, by, {}, round); }
inline StageValue integer(int64_t i) { return {false, i, 0}; }
inline StageValue value(float f) { return {true, 0, f}; }

}  // namespace quern::test
