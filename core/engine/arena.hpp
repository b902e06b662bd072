// Where every value of a plan lies in the arena: offline, by lifetimes.
//
//   std::vector<Span> spans = {{.bytes = 4096, .first = 0, .last = 2}, ...};
//   size_t total = assign_offsets(spans);   // spans[i].offset is set; total bytes of the arena
//
// Two spans that live at a common step never share a byte. Offsets are multiples of 64, and at least 64 readable bytes
// follow every span inside the arena. Greedy best fit, largest first: a function of the spans alone.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace quern {

struct ArenaSpan {
  size_t bytes = 0;
  int first = 0, last = 0;  // steps, both inclusive
  size_t offset = 0;
};

inline constexpr size_t arena_alignment = 64;
inline constexpr size_t arena_padding = 64;  // readable after each tensor: vector loads may run over the end

size_t assign_offsets(std::span<ArenaSpan> spans);

}  // namespace quern
