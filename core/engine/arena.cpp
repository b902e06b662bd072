#include "core/engine/arena.hpp"

#include <algorithm>
#include <limits>

namespace quern {

size_t assign_offsets(std::span<ArenaSpan> spans) {
  auto padded = [](const ArenaSpan& s) {
    return std::max<size_t>(arena_alignment, (s.bytes + arena_alignment - 1) / arena_alignment * arena_alignment);
  };
  std::vector<size_t> by_size(spans.size());
  for (size_t i = 0; i < spans.size(); ++i) by_size[i] = i;
  std::stable_sort(by_size.begin(), by_size.end(), [&](size_t a, size_t b) { return spans[a].bytes > spans[b].bytes; });

  std::vector<size_t> placed;  // by offset
  size_t end = 0;
  for (size_t i : by_size) {
    const size_t need = padded(spans[i]);
    size_t best = std::numeric_limits<size_t>::max(), best_gap = std::numeric_limits<size_t>::max(), cursor = 0;
    for (size_t p : placed) {
      if (spans[p].last < spans[i].first || spans[i].last < spans[p].first) continue;
      if (spans[p].offset >= cursor + need && spans[p].offset - cursor < best_gap) {
        best_gap = spans[p].offset - cursor;
        best = cursor;
      }
      cursor = std::max(cursor, spans[p].offset + padded(spans[p]));
    }
    spans[i].offset = best != std::numeric_limits<size_t>::max() ? best : cursor;
    end = std::max(end, spans[i].offset + need);
    auto at = std::upper_bound(placed.begin(), placed.end(), spans[i].offset,
                               [&](size_t offset, size_t p) { return offset < spans[p].offset; });
    placed.insert(at, i);
  }
  return end + arena_padding;
}

}  // namespace quern
