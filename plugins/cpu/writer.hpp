// How codes get from one row into another, of any steps: copied, mapped to codes or to floats.
#pragma once
#include <cstring>

#include "plugins/cpu/numbers.hpp"

namespace quern_cpu {

struct Writer {
  bool mapped = false, floats = false;
  Source source;
  Sink sink;

  Writer() = default;
  // The contracts "move" and "move_float" of a unit.
  explicit Writer(const OpView& op) : floats(writes_floats(op)), sink(sink_of(op)) {
    mapped = floats || op.find_table("ratio");
    source = source_of(op, op.input("input"), mapped ? op.table<float>("ratio")[0] : 1.f);
  }

  void row(const uint8_t* in, int64_t in_step, void* out, int64_t offset, int64_t out_step, int64_t n) const {
    constexpr int64_t chunk = 512;
    auto* codes = static_cast<uint8_t*>(out) + offset;
    if (!mapped) {
      if (in_step == 1 && out_step == 1) std::memcpy(codes, in, static_cast<size_t>(n));
      else if (in_step == 0 && out_step == 1) std::memset(codes, *in, static_cast<size_t>(n));
      else for (int64_t i = 0; i < n; ++i) codes[i * out_step] = in[i * in_step];
      return;
    }
    auto* floats_out = static_cast<float*>(out) + offset;
    alignas(64) uint8_t dense[chunk + 64];
    alignas(64) float result[chunk];
    for (int64_t i = 0; i < n; i += chunk) {
      const int64_t m = std::min(chunk, n - i);
      const uint8_t* from = in + i * in_step;
      if (in_step != 1) {
        for (int64_t k = 0; k < m; ++k) dense[k] = from[k * in_step];
        from = dense;
      }
      if (floats) {
        rows().map_floats(from, out_step == 1 ? floats_out + i : result, m, source, sink);
        if (out_step != 1) for (int64_t k = 0; k < m; ++k) floats_out[(i + k) * out_step] = result[k];
      } else {
        auto* bytes = reinterpret_cast<uint8_t*>(result);
        rows().map_codes(from, out_step == 1 ? codes + i : bytes, m, source, sink);
        if (out_step != 1) for (int64_t k = 0; k < m; ++k) codes[(i + k) * out_step] = bytes[k];
      }
    }
  }
};

}  // namespace quern_cpu
