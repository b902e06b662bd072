// The arena, and random graphs: a value that is overwritten too early shows in the result.
#include <gtest/gtest.h>

#include "core/engine/arena.hpp"
#include "core/engine/engine_state.hpp"
#include "core/engine/reorder.hpp"
#include "tests/engine/engine_testing.hpp"

namespace quern::testing {
namespace {

TEST(Arena, values_that_live_together_never_share_a_byte) {
  std::mt19937 random(5);
  for (int round = 0; round < 200; ++round) {
    std::vector<ArenaSpan> spans(1 + random() % 40);
    size_t sum = 0, most = 0;
    for (ArenaSpan& s : spans) {
      s.bytes = random() % 5 ? random() % 5000 : 0;
      s.first = static_cast<int>(random() % 20);
      s.last = s.first + static_cast<int>(random() % 6);
      sum += s.bytes / 64 * 64 + 64;
    }
    const size_t total = assign_offsets(spans);
    EXPECT_LE(total, sum + spans.size() * 64 + arena_padding);
    for (int step = 0; step < 30; ++step) {
      size_t live = 0;
      for (const ArenaSpan& s : spans)
        if (s.first <= step && step <= s.last) live += s.bytes;
      most = std::max(most, live);
    }
    EXPECT_GE(total, most);
    for (size_t i = 0; i < spans.size(); ++i) {
      EXPECT_EQ(spans[i].offset % 64, 0u);
      EXPECT_LE(spans[i].offset + spans[i].bytes + 64, total);
      for (size_t j = 0; j < i; ++j) {
        if (spans[i].last < spans[j].first || spans[j].last < spans[i].first) continue;
        EXPECT_TRUE(spans[i].offset + spans[i].bytes <= spans[j].offset || spans[j].offset + spans[j].bytes <= spans[i].offset);
      }
    }
  }
}

Graph random_graph(uint32_t seed) {
  std::mt19937 random(seed);
  Builder b;
  std::vector<ValueId> fours{b.input("x", {1, 8, 5, 5})}, flats;
  auto pick = [&](const std::vector<ValueId>& from) { return from[from.size() - 1 - random() % std::min<size_t>(from.size(), 5)]; };
  const int nodes = 5 + static_cast<int>(random() % 25);
  for (int i = 0; i < nodes; ++i) {
    switch (random() % 9) {
      case 0: fours.push_back(b.conv(pick(fours), {8, 8, 3, 3})); break;
      case 1: fours.push_back(b.conv(pick(fours), {8, 1, 3, 3}, true, {{"group", int64_t{8}}})); break;
      case 2: fours.push_back(b.op("Relu", {pick(fours)}, {}, 14)); break;
      case 3: fours.push_back(b.op("Neg", {pick(fours)})); break;
      case 4: case 5: fours.push_back(b.op("Add", {pick(fours), pick(fours)}, {}, 14)); break;
      case 6: fours.push_back(b.op("Mul", {pick(fours), b.weights({8, 1, 1})}, {}, 14)); break;
      case 7: flats.push_back(b.reshape(pick(fours), {8, 25})); break;
      case 8:
        if (flats.empty()) break;
        flats.push_back(b.op("Relu", {pick(flats)}, {}, 14));
        fours.push_back(b.reshape(pick(flats), {1, 8, 5, 5}));
        break;
    }
  }
  std::vector<ValueId> outputs{fours.back()};
  for (int i = 0; i < 2; ++i)
    if (const ValueId v = pick(fours); std::find(outputs.begin(), outputs.end(), v) == outputs.end()) outputs.push_back(v);
  if (!flats.empty()) outputs.push_back(flats.back());
  return b.outputs(outputs);
}

TEST(Arena, random_graphs_compute_what_naive_loops_compute) {
  for (uint32_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    const Graph g = random_graph(seed);
    const NamedTensors in{{"x", random_tensor({1, 8, 5, 5}, seed)}};
    check_against_reference(g, in, usual(), 3e-5);
    EngineOptions keep = usual();
    keep.keep_all = true;
    check_against_reference(g, in, keep, 3e-5);
  }
}

TEST(Arena, storages_of_live_buffers_do_not_overlap_in_random_plans) {
  for (uint32_t seed = 100; seed < 160; ++seed) {
    const Graph g = random_graph(seed);
    EngineOptions options = usual();
    const Plan plan(g, graph_facts(g, options), options, 1, {{1, 8, 5, 5}});
    for (size_t i = 0; i < plan.storages.size(); ++i)
      for (size_t j = 0; j < i; ++j) {
        const auto &a = plan.storages[i], &c = plan.storages[j];
        if (a.last < c.first || c.last < a.first) continue;
        EXPECT_TRUE(a.offset + a.bytes <= c.offset || c.offset + c.bytes <= a.offset) << seed;
      }
    for (const Buffer& b : plan.buffers) {
      if (b.storage < 0) continue;
      EXPECT_LE(b.last, plan.storages[static_cast<size_t>(b.storage)].last);
    }
  }
}

template <class T>
void check_reorder(const Dims& dims) {
  const Dims rows = row_major_strides(dims), last = channels_last_strides(dims);
  const auto n = static_cast<size_t>(element_count(dims));
  std::vector<T> from(n), fast(n, T(0)), plain(n, T(0));
  std::mt19937 random(1);
  for (T& v : from) v = static_cast<T>(random());
  const DType type = sizeof(T) == 1 ? DType::u8 : sizeof(T) == 2 ? DType::u16 : sizeof(T) == 4 ? DType::u32 : DType::u64;
  for (int way = 0; way < 2; ++way) {
    const TensorView in{from.data(), type, dims, way ? last : rows};
    reorder(in, {fast.data(), type, dims, way ? rows : last});
    copy(in, {plain.data(), type, dims, way ? rows : last});
    EXPECT_EQ(fast, plain) << to_string(dims) << " " << sizeof(T);
  }
}

TEST(Reorder, equals_the_plain_copy) {
  for (const Dims& dims : {Dims{1, 3, 7, 9}, Dims{2, 16, 8, 8}, Dims{1, 33, 5, 7}, Dims{3, 5, 11}, Dims{1, 8, 3, 4, 5}, Dims{2, 1, 4, 4}, Dims{2, 9, 1, 1},
                           Dims{1, 64, 17, 19}, Dims{4, 4}, Dims{0, 3, 4, 4}, Dims{}}) {
    check_reorder<uint8_t>(dims);
    check_reorder<uint16_t>(dims);
    check_reorder<uint32_t>(dims);
    check_reorder<uint64_t>(dims);
  }
}

}  // namespace
}  // namespace quern::testing
