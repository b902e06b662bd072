// Statistics files. The digest at the end and the lengths at the beginning are put right, so that changes get past them.
#include <cstring>

#include "core/base/digest.hpp"
#include "core/statistics/statistics.hpp"
#include "tests/fuzz/fuzzing.hpp"

namespace quern::fuzz {
namespace {

constexpr size_t head = 8 + 4, length = 8, digest = 64;  // magic and version, length of the content; at the end the digest

}  // namespace

std::vector<Seed> seeds() {
  std::vector<Seed> out;
  for (int which = 0; which <= 8; ++which) {
    StatisticsSet set;
    for (int k = 0; k < 8; ++k)
      if (which == 8 || which == k)
        for (int axis : {-1, 1}) {
          const auto kind = static_cast<StatisticKind>(k);
          if (axis < 0 || kind != StatisticKind::histogram) set.request({"x", kind, axis, 0.99});
        }
    std::vector<float> values(2 * 3 * 4);
    for (int sample : {0, 1, 5}) {
      for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(sample) - static_cast<float>(i) * 0.25f;
      const Dims dims{2, 3, 4}, strides = row_major_strides(dims);
      set.observe("x", sample, TensorView{values.data(), DType::f32, dims, strides});
    }
    set.provenance["model"] = "00ff";
    const std::string file = set.serialize();
    out.push_back({"kind" + std::to_string(which), file.substr(head + length, file.size() - head - length - digest)});
  }
  return out;
}

}  // namespace quern::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace quern;
  static const std::string empty = StatisticsSet().serialize();
  const std::string_view content = fuzz::text_of(data, size);
  std::string file = empty.substr(0, fuzz::head);
  const uint64_t n = content.size();
  file.append(reinterpret_cast<const char*>(&n), sizeof n).append(content);
  file += sha256(std::string_view(file));
  fuzz::tolerate([&] { StatisticsSet::deserialize(content, "fuzz"); });
  fuzz::tolerate([&] {
    const StatisticsSet set = StatisticsSet::deserialize(file, "fuzz");
    const std::string written = set.serialize();
    fuzz::expect(StatisticsSet::deserialize(written, "again").serialize() == written, "a written file reads as the same");
    for (const auto& request : set.requests())
      if (set.samples(request.value) > 0) {
        try {
          set.result(request);
        } catch (const Error&) {  // of a statistic that saw nothing: internal by its definition
        }
      }
    StatisticsSet total = set.empty_copy();
    total.merge(set);
    fuzz::tolerate([&] { total.merge(set); });
  });
  return 0;
}
