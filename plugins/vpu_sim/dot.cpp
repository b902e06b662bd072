#include "plugins/vpu_sim/dot.hpp"

#include <cstring>

namespace quern_vpu {
namespace {

constexpr int64_t lanes = 32;           // rows of 16-bit numbers are a multiple of it
constexpr int64_t block_bytes = 196608; // of the taps of one block: they are read again for every pair of output channels

int64_t up(int64_t n) { return (n + lanes - 1) / lanes * lanes; }

}  // namespace

Dot::Dot(const DotSpec& spec, Finish finish) : s_(spec), finish_(std::move(finish)) {
  depthwise_ = !s_.transposed && s_.groups > 1 && s_.groups == s_.ic && s_.ic == s_.oc;
  const int64_t phases_h = s_.transposed ? s_.h.stride : 1, phases_w = s_.transposed ? s_.w.stride : 1;
  for (int64_t ph = 0; ph < std::min(phases_h, s_.h.out); ++ph)
    for (int64_t pw = 0; pw < std::min(phases_w, s_.w.out); ++pw) add_phase(ph, pw);
  s_.weights = nullptr;
}

void Dot::add_phase(int64_t ph, int64_t pw) {
  Phase p;
  p.first_h = ph;
  p.first_w = pw;
  if (s_.transposed) {
    p.step_h = s_.h.stride;
    p.step_w = s_.w.stride;
  } else {
    p.stride_h = s_.h.stride;
    p.stride_w = s_.w.stride;
  }
  p.rows = (s_.h.out - ph + p.step_h - 1) / p.step_h;
  p.columns = (s_.w.out - pw + p.step_w - 1) / p.step_w;
  // The tap's way from the input's row of an output: none where a transposed convolution has no input there.
  const auto way = [&](const Axis& a, int64_t phase, int64_t k, int64_t& d) {
    if (!s_.transposed) {
      d = k * a.dilation - a.pad_begin;
      return true;
    }
    const int64_t at = phase + a.pad_begin - k * a.dilation;
    d = at / a.stride;
    return at % a.stride == 0;
  };
  kernel_taps_.clear();
  for (int64_t y = 0; y < s_.h.kernel; ++y)
    for (int64_t x = 0; x < s_.w.kernel; ++x) {
      Tap t{};
      if (!way(s_.h, ph, y, t.dy) || !way(s_.w, pw, x, t.dx)) continue;
      p.taps.push_back(t);
      kernel_taps_.push_back(y * s_.w.kernel + x);
    }
  const int64_t channels = s_.ic / s_.groups, taps = static_cast<int64_t>(p.taps.size());
  const auto weight = [&](int64_t oc, int64_t c, int64_t t) {
    return static_cast<int16_t>(s_.weights[weight_place(oc, c, kernel_taps_[static_cast<size_t>(t)])] - s_.weight_zero);
  };
  if (depthwise_) {
    for (int64_t t = 0; t < taps; ++t)
      for (int64_t c = 0; c < s_.oc; ++c) p.weights.push_back(weight(c, 0, t));
    p.block = 64;
  } else {
    p.depth = up(std::max<int64_t>(1, taps * channels));
    p.weights.assign(static_cast<size_t>(s_.oc * p.depth), 0);
    for (int64_t o = 0; o < s_.oc; ++o)
      for (int64_t t = 0; t < taps; ++t)
        for (int64_t c = 0; c < channels; ++c) p.weights[static_cast<size_t>(o * p.depth + t * channels + c)] = weight(o, c, t);
    p.block = std::min<int64_t>(128, std::max<int64_t>(8, block_bytes / 2 / p.depth / 4 * 4));
  }
  p.blocks = (p.rows * p.columns + p.block - 1) / p.block;
  phases_.push_back(std::move(p));
}

int64_t Dot::weight_place(int64_t oc, int64_t c, int64_t tap) const {
  const int64_t taps = s_.h.kernel * s_.w.kernel, channels = s_.ic / s_.groups, each = s_.oc / s_.groups;
  if (s_.columns) return c * s_.oc + oc;
  if (s_.transposed) return ((oc / each * channels + c) * each + oc % each) * taps + tap;  // [ic][oc / group][kernel]
  return (oc * channels + c) * taps + tap;
}

int64_t Dot::place(const Phase& p, int64_t pixel) const {
  return (p.first_h + pixel / p.columns * p.step_h) * s_.w.out + p.first_w + pixel % p.columns * p.step_w;
}

void Dot::fill(const Phase& p, const uint8_t* image, int64_t first, int64_t pixels, int64_t group, int16_t* to) const {
  const int64_t channels = s_.ic / s_.groups, used = static_cast<int64_t>(p.taps.size()) * channels;
  for (int64_t i = first; i < first + pixels; ++i, to += p.depth) {
    const int64_t y = i / p.columns * p.stride_h, x = i % p.columns * p.stride_w;
    int16_t* at = to;
    for (const Tap& t : p.taps) {
      const int64_t iy = y + t.dy, ix = x + t.dx;
      if (iy < 0 || iy >= s_.h.in || ix < 0 || ix >= s_.w.in) std::memset(at, 0, static_cast<size_t>(channels) * 2);
      else rows().widen(image + (iy * s_.w.in + ix) * s_.ic + group * channels, s_.is_signed, s_.zero, channels, at);
      at += channels;
    }
    std::memset(to + used, 0, static_cast<size_t>(p.depth - used) * 2);
  }
}

void Dot::block_of(const Phase& p, const uint8_t* image, int64_t first, int64_t pixels, void* out, int64_t at) const {
  std::vector<int16_t> taps(static_cast<size_t>(pixels * p.depth));
  std::vector<int32_t> sums(static_cast<size_t>(pixels * s_.oc));
  const int64_t each = s_.oc / s_.groups;
  for (int64_t g = 0; g < s_.groups; ++g) {
    fill(p, image, first, pixels, g, taps.data());
    rows().dot(taps.data(), pixels, p.weights.data() + g * each * p.depth, each, p.depth, sums.data() + g * each, s_.oc);
  }
  for (int64_t i = 0; i < pixels; ++i) finish_.row(sums.data() + i * s_.oc, 0, s_.oc, out, at + place(p, first + i) * s_.oc);
}

void Dot::depthwise_of(const Phase& p, const uint8_t* image, int64_t first, int64_t pixels, void* out, int64_t at) const {
  constexpr int64_t part = 64;
  int32_t sums[part];
  for (int64_t i = first; i < first + pixels; ++i) {
    const int64_t y = i / p.columns * p.stride_h, x = i % p.columns * p.stride_w, to = at + place(p, i) * s_.oc;
    for (int64_t c = 0; c < s_.oc; c += part) {
      const int64_t n = std::min(part, s_.oc - c);
      std::memset(sums, 0, sizeof sums);
      const int16_t* w = p.weights.data() + c;
      for (const Tap& t : p.taps) {
        const int64_t iy = y + t.dy, ix = x + t.dx;
        if (iy >= 0 && iy < s_.h.in && ix >= 0 && ix < s_.w.in)
          rows().depthwise(image + (iy * s_.w.in + ix) * s_.ic + c, s_.is_signed, s_.zero, w, n, sums);
        w += s_.oc;
      }
      finish_.row(sums, c, n, out, to + c);
    }
  }
}

void Dot::run(const void* source, void* out) const {
  int64_t blocks = 0;
  for (const Phase& p : phases_) blocks += p.blocks;
  const int64_t image = s_.h.in * s_.w.in * s_.ic, result = s_.h.out * s_.w.out * s_.oc;
  for_pieces(s_.batch * blocks, s_.threads, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t n = task / blocks;
      int64_t at = task % blocks;
      const Phase* p = phases_.data();
      for (; at >= p->blocks; ++p) at -= p->blocks;
      const int64_t first = at * p->block, pixels = std::min(p->block, p->rows * p->columns - first);
      const auto* from = static_cast<const uint8_t*>(source) + n * image;
      if (depthwise_) depthwise_of(*p, from, first, pixels, out, n * result);
      else block_of(*p, from, first, pixels, out, n * result);
    }
  });
}

}  // namespace quern_vpu
