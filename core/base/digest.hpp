// SHA-256, for provenance: which model, rules, configuration and data a result came from.
#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace quern {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256& add(std::span<const std::byte> bytes);
  Sha256& add(std::string_view text);
  std::string hex();  // 64 lower-case digits; the object is finished afterwards

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string sha256(std::string_view text);
std::string sha256(std::span<const std::byte> bytes);

}  // namespace quern
