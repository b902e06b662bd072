// For the tests of targets: a built plugin through its C table, units put together from plain data, and running
// them on row-major arrays whatever layout the kernel wants. Nothing of the host's pipeline. Without a name, the cpu target.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <variant>
#include <vector>

#include "quern/abi.h"

namespace cpu_test {

using Dims = std::vector<int64_t>;

struct Quant {
  bool is_signed = false;
  std::vector<float> scale{1.f};
  int64_t zero_point = 0;
  int axis = -1;
  bool narrow = false;
};

struct Operand {
  std::string role;
  uint32_t dtype = QUERN_DTYPE_U8;
  Dims dims;
  std::optional<Quant> quant;
  std::vector<int64_t> codes;    // row major; of constants, or of what flows in
  std::vector<float> floats;     // where dtype is f32
  bool constant = false;
  int64_t zero() const { return quant ? quant->zero_point : 0; }
  float scale(size_t c = 0) const { return quant ? quant->scale[quant->scale.size() == 1 ? 0 : c] : 1.f; }
};

using Attribute = std::variant<int64_t, float, std::string, std::vector<int64_t>>;

struct Node {
  std::string op;
  std::vector<int32_t> inputs;
  std::map<std::string, Attribute> attributes;
  int32_t since = 13;
};

struct Unit {
  std::string contract;
  std::vector<Node> nodes;
  std::vector<Operand> operands;
  Operand output;                // codes and floats empty
  const Operand* find(const std::string& role) const {
    for (const auto& o : operands)
      if (o.role == role) return &o;
    return nullptr;
  }
};

struct Table {
  uint32_t dtype = QUERN_DTYPE_F32;
  std::vector<float> floats;    // where it is f32
  std::vector<uint8_t> bytes;   // as the plugin gave them
  Dims dims;
};

struct Result {
  std::string error;             // "" when it ran
  int32_t code = 0;
  std::string kernel;
  std::map<std::string, Table> tables;
  std::vector<int64_t> codes;    // row major
  std::vector<float> floats;
};

struct RunOptions {
  uint32_t threads = 1;
  bool any_is_channels_last = true;  // what a kernel that takes any layout gets
  int repeat = 1;                    // runs in one context; all must agree
};

class Plugin {
 public:
  static Plugin& get(const std::string& name = "cpu");
  const std::string& name() const { return name_; }
  const quern_target& target() const { return *target_; }
  bool available(std::string& reason, const std::string& profile = "vnni") const;
  const std::string& reason() const { return reason_; }  // why there are no profiles
  const std::vector<std::string>& profiles() const;  // that can run here, the best first
  std::string derive(const Unit& unit, std::map<std::string, Table>& tables, int32_t* code = nullptr) const;
  // "": on all profiles that are available, which must agree.
  Result run(const Unit& unit, const RunOptions& options = {}, const std::string& profile = "") const;
  bool supports(const Unit& unit, std::string& reason) const;

 private:
  explicit Plugin(const std::string& name);
  Result run_profile(const Unit& unit, const RunOptions& options, const std::string& profile) const;
  std::string name_, any_profile_, reason_;  // any_profile_: for what is the same on all
  std::vector<std::string> profiles_;
  const quern_target* target_ = nullptr;
};

int64_t count(const Dims& dims);
Quant u8(float scale, int64_t zero_point);
Quant s8(float scale);
Operand flowing(const std::string& role, const Dims& dims, const Quant& quant);
Operand constant_f32(float value);
Operand constant_s64(const std::vector<int64_t>& values);

// Skips a test on a machine (or under a mask) without a profile, with the plugin's own words.
#define REQUIRE_PROFILE(name)                                                                                        \
  do {                                                                                                               \
    std::string why;                                                                                                 \
    if (!cpu_test::Plugin::get().available(why, name)) GTEST_SKIP() << "profile " << name << " is not available: " << why; \
  } while (0)

// ---- the model's own arithmetic -----------------------------------------------------------------------------------
int64_t half_even(float v);
int64_t to_code(float v, const Operand& output);   // v before the zero point is added

}  // namespace cpu_test
