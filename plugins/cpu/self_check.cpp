#include "plugins/cpu/self_check.hpp"

#include <cmath>
#include <cstring>
#include <new>

#include "plugins/cpu/dot.hpp"

namespace quern_cpu {
namespace {

struct Random {
  uint64_t state = 0x9e3779b97f4a7c15u;
  uint64_t next() {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state >> 11;
  }
  int64_t in(int64_t low, int64_t high) { return low + static_cast<int64_t>(next() % static_cast<uint64_t>(high - low + 1)); }
};

float expected(const DotSpec& s, int64_t acc, int64_t oc, int32_t residual) {
  float t = static_cast<float>(acc);
  if (!s.bias.empty()) t = t + s.bias[static_cast<size_t>(oc)];
  t = t * s.multiplier[static_cast<size_t>(oc)];
  if (s.residual) t = std::fma(static_cast<float>(residual - s.residual_zp), s.residual_scale, t);
  if (s.clamp) t = std::fmin(std::fmax(t, s.low), s.high);
  return t;
}

// Extreme codes, so that 16-bit pairs would saturate and sums pass 2^24 where there are many taps.
bool agrees(DotSpec s, Random& random) {
  const auto axis = [](Axis& a, int64_t in, int64_t kernel) {
    a.in = in;
    a.kernel = kernel;
    a.pad_begin = a.pad_end = kernel / 2;
    a.out = in + 2 * a.pad_begin - a.reach() + 1;
  };
  const int64_t size = s.h.in, kernel = s.h.kernel;
  axis(s.h, size, kernel);
  axis(s.w, size, kernel);
  const int64_t icg = s.ic / s.groups, ocg = s.oc / s.groups, out = s.h.out;
  std::vector<int8_t> w(static_cast<size_t>(s.oc * icg * kernel * kernel));
  for (auto& v : w) v = static_cast<int8_t>(random.in(0, 3) ? random.in(100, 127) : random.in(-127, 127));
  s.weights = w.data();
  const double taps = static_cast<double>(icg * kernel * kernel);
  for (int64_t c = 0; c < s.oc; ++c) {
    s.multiplier.push_back(static_cast<float>((0.5 + static_cast<double>(random.in(0, 1000)) / 1000.0) * 128 / (taps * 150 * 90)));
    if (c == 0 || !s.bias.empty()) s.bias.push_back(static_cast<float>(random.in(-(1 << 22), 1 << 22)));
  }
  const bool wide = s.dst == QUERN_DTYPE_F32;
  std::vector<uint8_t> x(static_cast<size_t>(size * size * s.ic + 64)), y(static_cast<size_t>(out * out * s.oc) * (wide ? 4 : 1) + 64);
  for (auto& v : x) v = static_cast<uint8_t>(s.src == QUERN_DTYPE_U8 ? random.in(140, 255) : random.in(0, 3) ? random.in(90, 127) : random.in(-128, 127));
  std::vector<int32_t> residual(static_cast<size_t>(out * out * s.oc));
  std::vector<uint8_t> codes(residual.size() + 64);
  for (size_t i = 0; i < residual.size(); ++i) {
    residual[i] = static_cast<int32_t>(s.residual == QUERN_DTYPE_S8 ? random.in(-128, 127) : random.in(0, 255));
    const auto real = static_cast<float>(residual[i] - s.residual_zp);
    codes[i] = static_cast<uint8_t>(residual[i]);
    if (wide) std::memcpy(y.data() + 4 * i, &real, 4);
    else y[i] = codes[i];
  }
  const Dot dot(s);
  std::vector<uint8_t> workspace(dot.workspace_bytes() + 64);
  Dot::Run run(dot);
  run(x.data(), codes.data(), y.data(), workspace.data() + (64 - reinterpret_cast<uintptr_t>(workspace.data()) % 64) % 64);
  const auto code = [&](size_t i) -> int64_t { return s.src == QUERN_DTYPE_U8 ? x[i] : static_cast<int8_t>(x[i]); };
  for (int64_t oy = 0; oy < out; ++oy)
    for (int64_t ox = 0; ox < out; ++ox)
      for (int64_t oc = 0; oc < s.oc; ++oc) {
        int64_t acc = 0;
        for (int64_t ky = 0; ky < kernel; ++ky)
          for (int64_t kx = 0; kx < kernel; ++kx) {
            const int64_t iy = oy + ky - s.h.pad_begin, ix = ox + kx - s.w.pad_begin;
            if (iy < 0 || ix < 0 || iy >= size || ix >= size) continue;
            for (int64_t c = 0; c < icg; ++c)
              acc += (code(static_cast<size_t>((iy * size + ix) * s.ic + oc / ocg * icg + c)) - s.src_zp) *
                     w[static_cast<size_t>(((oc * icg + c) * kernel + ky) * kernel + kx)];
          }
        const auto at = static_cast<size_t>((oy * out + ox) * s.oc + oc);
        const float t = expected(s, acc, oc, residual[at]);
        if (wide) {
          if (std::memcmp(&t, y.data() + 4 * at, 4) != 0) return false;
          continue;
        }
        const float low = s.dst == QUERN_DTYPE_U8 ? 0.f : -128.f;
        const float q = std::nearbyint(std::fmin(std::fmax(t + static_cast<float>(s.dst_zp), low), low + 255.f));
        if (static_cast<uint8_t>(static_cast<int32_t>(q)) != y[at]) return false;
      }
  return true;
}

struct Case { const char* what; int64_t ic, oc, groups, size, kernel; };

bool self_check(Isa isa, std::string& reason) {
  static constexpr Case cases[] = {
      {"a 3x3 convolution", 19, 33, 1, 5, 3},
      {"a 1x1 convolution", 640, 32, 1, 3, 1},
      {"a depthwise convolution", 32, 32, 32, 6, 3},
      {"a grouped convolution", 64, 32, 2, 4, 3},
      {"a matrix product", 1300, 17, 1, 1, 1},
  };
  Random random;
  const ThreadScope one(1);
  for (const Case& c : cases)
    for (int variant = 0; variant < 3; ++variant) {
      DotSpec s;
      s.isa = isa;
      s.ic = c.ic;
      s.oc = c.oc;
      s.groups = c.groups;
      s.h.in = c.size;
      s.h.kernel = c.kernel;
      s.src = variant == 1 ? QUERN_DTYPE_S8 : QUERN_DTYPE_U8;
      s.src_zp = variant == 0 ? 9 : 0;
      s.dst = variant == 0 ? QUERN_DTYPE_U8 : variant == 1 ? QUERN_DTYPE_S8 : QUERN_DTYPE_F32;
      s.dst_zp = variant == 0 ? 101 : 0;
      if (variant > 0) {
        s.residual = variant == 1 ? QUERN_DTYPE_U8 : QUERN_DTYPE_S8;
        s.residual_zp = variant == 1 ? 77 : 0;
        s.residual_scale = 0.3712345f;
        s.clamp = true;
        s.low = variant == 1 ? -90.7f : 0;
        s.high = variant == 1 ? 99.3f : FLT_MAX;
      }
      try {
        if (agrees(s, random)) continue;
        reason = std::string(c.what) + " gave another result";
      } catch (const std::bad_alloc&) {  // says nothing about the kernels
        throw;
      } catch (const std::exception& e) {
        reason = std::string(c.what) + ": " + e.what();
      }
      return false;
    }
  return true;
}

const char* words(Isa isa) {
  switch (isa) {
    case Isa::vnni: return "AVX-512 with VNNI";
    case Isa::avx512: return "AVX-512 (F, BW, VL, DQ)";
    case Isa::avx2: return "AVX2 and FMA";
    case Isa::sse41: return "SSE4.1";
    default: return "plain x86-64";
  }
}

bool decide(Isa isa, std::string& reason) {
  const std::string profile = std::string("the profile ") + name_of(isa);
  if (isa > best_isa()) {
    reason = profile + " needs " + words(isa) + "; this machine has " + words(best_isa()) +
             " (ONEDNN_MAX_CPU_ISA counts). Other profiles give the same bytes; quantizing works on any machine";
    return false;
  }
  if (!self_check(isa, reason)) {
    reason = profile + " does not compute what its contract says on this machine: " + reason;
    return false;
  }
  return true;
}

}  // namespace

bool isa_available(Isa isa, std::string& reason) {
  struct Answer {
    std::string why;
    bool yes;
  };
  static const auto answer = [](Isa i) {
    Answer a;
    a.yes = decide(i, a.why);
    return a;
  };
  const auto get = [](Isa i) -> const Answer& {
    switch (i) {
      case Isa::vnni: { static const Answer a = answer(Isa::vnni); return a; }
      case Isa::avx512: { static const Answer a = answer(Isa::avx512); return a; }
      case Isa::avx2: { static const Answer a = answer(Isa::avx2); return a; }
      case Isa::sse41: { static const Answer a = answer(Isa::sse41); return a; }
      default: { static const Answer a = answer(Isa::scalar); return a; }
    }
  };
  const Answer& a = get(isa);
  reason = a.why;
  return a.yes;
}

}  // namespace quern_cpu
