#include "plugins/vpu_sim/dot.hpp"

#include <cstring>

namespace quern_vpu {
namespace {

constexpr int64_t block_bytes = 196608;  // of the taps of one block: they are read again for every panel of output channels

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
  for (int64_t t = 0; t < taps; ++t) {
    const Tap& tap = p.taps[static_cast<size_t>(t)];
    const Tap* before = t > 0 ? &tap - 1 : nullptr;
    if (before && s_.groups == 1 && before->dy == tap.dy && before->dx + 1 == tap.dx) ++p.runs.back();
    else p.runs.push_back(1);
  }
  if (depthwise_) {
    for (int64_t t = 0; t < taps; ++t)
      for (int64_t c = 0; c < s_.oc; ++c) p.weights.push_back(weight(c, 0, t));
    p.block = 64;
  } else {
    const int64_t each = s_.oc / s_.groups;
    p.depth = even(std::max<int64_t>(1, taps * channels));
    const int64_t group = panels_of(each) * panel * p.depth;
    p.weights.assign(static_cast<size_t>(s_.groups * group), 0);
    for (int64_t o = 0; o < s_.oc; ++o)
      for (int64_t t = 0; t < taps; ++t)
        for (int64_t c = 0; c < channels; ++c) p.weights[static_cast<size_t>(o / each * group + packed_at(p.depth, o % each, t * channels + c))] = weight(o, c, t);
    p.block = std::min<int64_t>(128, std::max<int64_t>(8, block_bytes / 2 / p.depth / 8 * 8));
    p.dense = s_.groups == 1 && taps == 1 && p.taps[0].dy == 0 && p.taps[0].dx == 0 && p.stride_h == 1 && p.stride_w == 1 && p.rows == s_.h.in && p.columns == s_.w.in && p.depth == channels;
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
  const int64_t channels = s_.ic / s_.groups;
  const auto from = [&](int64_t y, int64_t x) { return image + (y * s_.w.in + x) * s_.ic + group * channels; };
  if (p.dense) return rows().widen(from(0, first), s_.is_signed, s_.zero, pixels * channels, to);
  for (int64_t i = first; i < first + pixels; ++i, to += p.depth) {
    const int64_t y = i / p.columns * p.stride_h, x = i % p.columns * p.stride_w;
    int16_t* at = to;
    const Tap* t = p.taps.data();
    for (const int64_t run : p.runs) {
      const int64_t iy = y + t->dy, ix = x + t->dx;
      if (iy >= 0 && iy < s_.h.in && ix >= 0 && ix + run <= s_.w.in) {
        rows().widen(from(iy, ix), s_.is_signed, s_.zero, run * channels, at);
      } else {
        for (int64_t k = 0; k < run; ++k) {
          int16_t* one = at + k * channels;
          if (iy < 0 || iy >= s_.h.in || ix + k < 0 || ix + k >= s_.w.in) std::memset(one, 0, static_cast<size_t>(channels) * 2);
          else rows().widen(from(iy, ix + k), s_.is_signed, s_.zero, channels, one);
        }
      }
      at += run * channels;
      t += run;
    }
  }
}

void Dot::block_of(const Phase& p, const uint8_t* image, int64_t first, int64_t pixels, void* out, int64_t at) const {
  const int64_t each = s_.oc / s_.groups, width = panels_of(each) * panel;
  // What widen writes beyond a pixel's taps, the next pixel's take its place; and an odd number meets a weight of 0.
  std::vector<int16_t> taps(static_cast<size_t>(pixels * p.depth + 16));
  std::vector<int32_t> sums(static_cast<size_t>(pixels * width));
  for (int64_t g = 0; g < s_.groups; ++g) {
    fill(p, image, first, pixels, g, taps.data());
    rows().dot(taps.data(), pixels, p.weights.data() + g * width * p.depth, width / panel, p.depth, sums.data(), width);
    for (int64_t i = 0; i < pixels; ++i) finish_.row(sums.data() + i * width, g * each, each, out, at + place(p, first + i) * s_.oc + g * each);
  }
}

void Dot::depthwise_of(const Phase& p, const uint8_t* image, int64_t first, int64_t pixels, void* out, int64_t at) const {
  const std::vector<uint8_t> padding(static_cast<size_t>(s_.oc), static_cast<uint8_t>(s_.zero));
  std::vector<const uint8_t*> taps(p.taps.size());
  std::vector<int32_t> sums(static_cast<size_t>(s_.oc));
  for (int64_t i = first; i < first + pixels; ++i) {
    const int64_t y = i / p.columns * p.stride_h, x = i % p.columns * p.stride_w;
    for (size_t t = 0; t < taps.size(); ++t) {
      const int64_t iy = y + p.taps[t].dy, ix = x + p.taps[t].dx;
      taps[t] = iy >= 0 && iy < s_.h.in && ix >= 0 && ix < s_.w.in ? image + (iy * s_.w.in + ix) * s_.ic : padding.data();
    }
    rows().depthwise(taps.data(), static_cast<int64_t>(taps.size()), s_.is_signed, s_.zero, p.weights.data(), s_.oc, s_.oc, sums.data());
    finish_.row(sums.data(), 0, s_.oc, out, at + place(p, i) * s_.oc);
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
