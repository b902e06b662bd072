#include "core/engine/arena.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>

namespace quern {

size_t assign_offsets(std::span<ArenaSpan> spans) {
  auto padded = [](const ArenaSpan& s) {
    return std::max<size_t>(arena_alignment, (s.bytes + arena_alignment - 1) / arena_alignment * arena_alignment);
  };
  std::vector<size_t> by_size(spans.size());
  for (size_t i = 0; i < spans.size(); ++i) by_size[i] = i;
  std::stable_sort(by_size.begin(), by_size.end(), [&](size_t a, size_t b) { return spans[a].bytes > spans[b].bytes; });

  // Spans that were placed, by blocks of steps they live in: most live in few.
  constexpr int block = 64;
  int steps = 0;
  for (const ArenaSpan& s : spans) steps = std::max(steps, s.last + 1);
  std::vector<std::vector<size_t>> placed(static_cast<size_t>(steps / block + 1));
  std::vector<size_t> seen(spans.size(), SIZE_MAX), near;
  size_t end = 0;
  for (size_t i : by_size) {
    const size_t need = padded(spans[i]);
    near.clear();
    for (int b = spans[i].first / block; b <= spans[i].last / block; ++b)
      for (size_t p : placed[static_cast<size_t>(b)]) {
        if (seen[p] == i || spans[p].last < spans[i].first || spans[i].last < spans[p].first) continue;
        seen[p] = i;
        near.push_back(p);
      }
    std::sort(near.begin(), near.end(), [&](size_t a, size_t b) { return spans[a].offset < spans[b].offset; });
    size_t best = std::numeric_limits<size_t>::max(), best_gap = std::numeric_limits<size_t>::max(), cursor = 0;
    for (size_t p : near) {
      if (spans[p].offset >= cursor + need && spans[p].offset - cursor < best_gap) {
        best_gap = spans[p].offset - cursor;
        best = cursor;
      }
      cursor = std::max(cursor, spans[p].offset + padded(spans[p]));
    }
    spans[i].offset = best != std::numeric_limits<size_t>::max() ? best : cursor;
    end = std::max(end, spans[i].offset + need);
    for (int b = spans[i].first / block; b <= spans[i].last / block; ++b) placed[static_cast<size_t>(b)].push_back(i);
  }
  return end + arena_padding;
}

}  // namespace quern
