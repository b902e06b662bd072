// Where the kit's choices come from. Every size, attribute and number of a case is picked here, so that a seed gives the same
// case everywhere, and a failing case can be made smaller by repeating it with smaller choices.
//
//   Source s(seed_of("L3/v1/op0.Conv/conv/-/4", 1));
//   int64_t channels = s.pick(1, 33);           // the low end is the simple one: what shrinking goes towards
#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

namespace quern::conform {

// splitmix64's finalizer: a number per input, without state.
constexpr uint64_t mixed(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}
constexpr uint64_t seed_of(std::string_view text, uint64_t seed) {
  uint64_t hash = 0xCBF29CE484222325u ^ mixed(seed + 1);
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  return mixed(hash);
}

class Source {
 public:
  struct Choice { int64_t low, high, value; };

  explicit Source(uint64_t seed) : seed_(seed) {}
  // Repeats choices made before, each brought within its bounds; beyond the list the low end is taken.
  Source(uint64_t seed, std::vector<int64_t> script) : seed_(seed), scripted_(true), script_(std::move(script)) {}

  int64_t pick(int64_t low, int64_t high) {
    int64_t value = low;
    const size_t at = taken_.size();
    if (high <= low) value = low;
    else if (!scripted_) value = low + static_cast<int64_t>(mixed(seed_ + 0x9E3779B97F4A7C15u * (at + 1)) % static_cast<uint64_t>(high - low + 1));
    else if (at < script_.size()) value = script_[at] < low ? low : script_[at] > high ? high : script_[at];
    taken_.push_back({low, high, value});
    return value;
  }
  bool one_in(int64_t n) { return pick(0, n - 1) == n - 1; }
  template <class List>
  auto one_of(const List& list) { return *(std::begin(list) + pick(0, static_cast<int64_t>(std::size(list)) - 1)); }
  // Numbers of tensors: many, and not worth shrinking. Stream of its own, by what was asked for.
  uint64_t noise(uint64_t stream, uint64_t index) const { return mixed(seed_ ^ mixed(stream + 77) ^ (0x9E3779B97F4A7C15u * (index + 1))); }
  const std::vector<Choice>& taken() const { return taken_; }
  uint64_t seed() const { return seed_; }

 private:
  uint64_t seed_;
  bool scripted_ = false;
  std::vector<int64_t> script_;
  std::vector<Choice> taken_;
};

}  // namespace quern::conform
