#include "core/rules/attribute_defaults.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace quern {
namespace {

// The default, where it is of this type.
template <class T>
std::optional<T> value_of(const char* op, int version, const char* name) {
  const auto v = attribute_default(op, version, name);
  const T* t = v ? std::get_if<T>(&*v) : nullptr;
  return t ? std::optional<T>(*t) : std::nullopt;
}

TEST(AttributeDefaults, ByVersion) {
  EXPECT_EQ(value_of<int64_t>("Softmax", 11, "axis"), 1);
  EXPECT_EQ(value_of<int64_t>("Softmax", 13, "axis"), -1);
  EXPECT_EQ(value_of<std::string>("Resize", 10, "nearest_mode"), "floor");
  EXPECT_EQ(value_of<std::string>("Resize", 18, "nearest_mode"), "round_prefer_floor");
  EXPECT_TRUE(value_of<float>("Clip", 10, "min"));
  EXPECT_FALSE(attribute_default("Clip", 11, "min")) << "an input since then";
}

TEST(AttributeDefaults, WhatOlderDefinitionsLackMeansTheSame) {
  EXPECT_EQ(value_of<int64_t>("AveragePool", 1, "count_include_pad"), 0);
  EXPECT_EQ(value_of<int64_t>("ReduceMean", 11, "noop_with_empty_axes"), 0);
  EXPECT_EQ(value_of<std::vector<int64_t>>("MaxPool", 8, "dilations"), std::vector<int64_t>{1});
}

TEST(AttributeDefaults, NoneIsNone) {
  EXPECT_FALSE(attribute_default("Conv", 11, "kernel_shape"));
  EXPECT_FALSE(attribute_default("Relu", 14, "alpha"));
  EXPECT_FALSE(attribute_default("Teleport", 1, "axis"));
  EXPECT_TRUE(attribute_defaults("Relu", 14).empty());
}

// All of an operator's, each once, the same as asked one by one.
TEST(AttributeDefaults, AllOfAnOperator) {
  for (const char* op : {"Conv", "ConvTranspose", "Gemm", "Softmax", "Resize", "ReduceSum", "TopK"})
    for (const int version : {1, 7, 10, 11, 13, 18}) {
      std::vector<std::string> seen;
      for (const auto& [name, value] : attribute_defaults(op, version)) {
        EXPECT_EQ(std::count(seen.begin(), seen.end(), name), 0) << op << " " << name;
        const auto one = attribute_default(op, version, name);
        ASSERT_TRUE(one) << op << " " << name;
        EXPECT_EQ(one->index(), value.index()) << op << " " << name;
        seen.push_back(name);
      }
      EXPECT_FALSE(seen.empty()) << op;
    }
  EXPECT_EQ(attribute_defaults("Conv", 11).size(), 5U);
  ASSERT_EQ(attribute_defaults("Softmax", 11).size(), 1U);
  EXPECT_EQ(std::get<int64_t>(attribute_defaults("Softmax", 11).front().value), 1);
}

}  // namespace
}  // namespace quern
