#include "plugins/cpu/own_dot.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "plugins/cpu/dot.hpp"

namespace quern_cpu {
namespace {

constexpr int64_t most_pixels = 2048;          // of a band
constexpr int64_t linear_columns = 24;         // places of a row where places have no rows of their own
constexpr int64_t band_bytes = 128 * 1024;     // of prepared input: it shares the second-level cache with the weights

// The weights of one output channel: of channel c of its own group, tap t.
struct OneChannel {
  OneChannel(const DotSpec& s, int64_t oc) : taps(s.h.kernel * s.w.kernel) {
    const int64_t icg = s.ic / s.groups, ocg = s.oc / s.groups, group = oc / ocg;
    by_channel = s.columns ? s.oc : s.transposed ? ocg * taps : taps;
    first = s.weights + (s.columns ? oc : s.transposed ? (group * icg * ocg + oc % ocg) * taps : oc * icg * taps);
  }
  int8_t at(int64_t c, int64_t tap) const { return first[c * by_channel + tap]; }
  int64_t taps, by_channel;
  const int8_t* first;
};

// Whether any two products of a channel, with codes up to 255, stay within 16 bits, whichever lie side by side.
bool pairs_fit(const DotSpec& s) {
  const int64_t per_channel = s.ic / s.groups * s.h.kernel * s.w.kernel;
  for (int64_t oc = 0; oc < s.oc; ++oc) {
    const OneChannel channel(s, oc);
    int most[2] = {0, 0}, least[2] = {0, 0};
    for (int64_t i = 0; i < per_channel; ++i) {
      const int w = channel.at(i / channel.taps, i % channel.taps);
      if (w > most[1]) most[1] = w;
      if (most[1] > most[0]) std::swap(most[0], most[1]);
      if (w < least[1]) least[1] = w;
      if (least[1] < least[0]) std::swap(least[0], least[1]);
    }
    if (255 * (most[0] + most[1]) > INT16_MAX || 255 * (least[0] + least[1]) < INT16_MIN) return false;
  }
  return true;
}

// Waking another thread costs as much as some microseconds of sums: what takes less than 30 is done by one.
bool worth_threads(double products, Isa isa) {
  static constexpr double per_us[] = {500, 15e3, 40e3, 60e3, 150e3};
  return products / per_us[static_cast<int>(isa)] >= 30;
}

}  // namespace

OwnDot::OwnDot(const DotSpec& s, Isa isa)
    : kernels_(s.groups > 1 && s.groups == s.ic ? wide_kernels(isa) : dot_kernels(isa, pairs_fit(s))) {
  set_geometry(s);
  set_phases(s);
  set_blocks(s);
  set_end(s);
  for (Phase& p : phases_) depthwise_ ? pack_depthwise(s, p) : pack(s, p);
  // Bands: as many rows as fit; fewer where there would be too few pieces for the threads, then blocks are cut too.
  const double places = static_cast<double>(s.batch) * static_cast<double>(s.transposed ? s.h.in * s.w.in : s.h.out * s.w.out);
  const double products = places * static_cast<double>(s.oc) * static_cast<double>(s.ic / s.groups * s.h.kernel * s.w.kernel);
  threads_ = worth_threads(products, isa) ? std::max<uint32_t>(1, s.threads) : 1;
  const int64_t total = batch_ * rows_, line_bytes = line_ * channels_ * element_;
  band_rows_ = (band_bytes / line_bytes - (max_y_ - min_y_ + 1 - step_y_)) / step_y_;
  if (!depthwise_) band_rows_ = std::min(band_rows_, most_pixels / columns_);
  band_rows_ = std::clamp<int64_t>(band_rows_, 1, total);
  if (threads_ > 1) {
    band_rows_ = std::min(band_rows_, std::max<int64_t>((total + threads_ - 1) / threads_, 1));
    const int64_t bands = (total + band_rows_ - 1) / band_rows_;
    if (bands < threads_) splits_ = std::min<int64_t>((threads_ + bands - 1) / bands, static_cast<int64_t>(blocks_.size()));
  }
}

std::string OwnDot::name() const { return std::string(depthwise_ ? "depthwise:" : "exact:") + kernels_.name; }

void OwnDot::set_geometry(const DotSpec& s) {
  batch_ = s.batch;
  in_h_ = s.h.in, in_w_ = s.w.in, out_h_ = s.h.out, out_w_ = s.w.out;
  groups_ = s.groups;
  group_in_ = s.ic / s.groups;
  group_out_ = s.oc / s.groups;
  out_channels_ = s.oc;
  channels_ = s.ic;
  depthwise_ = s.groups > 1 && group_in_ == 1;
  if (depthwise_) {
    multiplied_ = group_out_;
    channels_ = s.oc;
  } else if (s.groups > 1 && group_out_ < kernels_.width) {
    // The most groups whose channels of output fill no more than a vector: as many steps, fewer tiles.
    int64_t merge = 1;
    for (int64_t m = 2; m * group_out_ <= kernels_.width; ++m)
      if (s.groups % m == 0) merge = m;
    groups_ /= merge;
    group_in_ *= merge;
    group_out_ *= merge;
  }
  element_ = kernels_.bytes ? 1 : 2;
  out_size_ = s.dst == QUERN_DTYPE_F32 ? 4 : 1;
  flip_ = s.src == QUERN_DTYPE_S8 ? 0x80 : 0;
  zero_point_ = s.src_zp + flip_;
  has_residual_ = s.residual != 0;
}

// The convolutions of stride 1 that the output falls into; one for a plain convolution.
void OwnDot::set_phases(const DotSpec& s) {
  const int64_t py = s.transposed ? s.h.stride : 1, px = s.transposed ? s.w.stride : 1;
  step_y_ = s.transposed ? 1 : s.h.stride;
  step_x_ = s.transposed ? 1 : s.w.stride;
  out_step_ = py;
  out_step_x_ = px;
  min_y_ = min_x_ = INT64_MAX;
  max_y_ = max_x_ = INT64_MIN;
  for (int64_t oy = 0; oy < std::min(py, out_h_); ++oy)
    for (int64_t ox = 0; ox < std::min(px, out_w_); ++ox) {
      Phase p;
      p.out_y = oy;
      p.out_x = ox;
      p.rows = (out_h_ - oy + py - 1) / py;
      p.columns = (out_w_ - ox + px - 1) / px;
      for (int64_t ky = 0; ky < s.h.kernel; ++ky)
        for (int64_t kx = 0; kx < s.w.kernel; ++kx) {
          Tap t{ky * s.h.dilation - s.h.pad_begin, kx * s.w.dilation - s.w.pad_begin, ky * s.w.kernel + kx};
          if (s.transposed) {
            t.y = oy + s.h.pad_begin - ky * s.h.dilation;
            t.x = ox + s.w.pad_begin - kx * s.w.dilation;
            if (t.y % py != 0 || t.x % px != 0) continue;
            t.y /= py;
            t.x /= px;
          }
          p.taps.push_back(t);
        }
      std::sort(p.taps.begin(), p.taps.end(), [](const Tap& a, const Tap& b) { return a.y != b.y ? a.y < b.y : a.x < b.x; });
      for (const Tap& t : p.taps) {
        min_y_ = std::min(min_y_, t.y), max_y_ = std::max(max_y_, t.y);
        min_x_ = std::min(min_x_, t.x), max_x_ = std::max(max_x_, t.x);
      }
      phases_.push_back(std::move(p));
    }
  if (max_y_ < min_y_) min_y_ = max_y_ = min_x_ = max_x_ = 0;  // no tap reaches any output
  rows_ = phases_[0].rows;
  columns_ = phases_[0].columns;
  const bool inside = min_y_ >= 0 && min_x_ >= 0 && (rows_ - 1) * step_y_ + max_y_ < in_h_ && (columns_ - 1) * step_x_ + max_x_ < in_w_;
  const bool single = s.h.kernel * s.w.kernel == 1 && !s.transposed;
  direct_ = element_ == 1 && flip_ == 0 && inside && !depthwise_;
  if (single && inside && step_y_ == 1 && step_x_ == 1 && min_y_ == 0 && min_x_ == 0 && rows_ == in_h_ && columns_ == in_w_) {
    // Places in a line, whatever they belong to.
    linear_ = true;
    pixels_ = batch_ * rows_ * columns_;
    batch_ = 1;
    columns_ = std::min(pixels_, linear_columns);
    rows_ = (pixels_ + columns_ - 1) / columns_;
    phases_[0].rows = rows_;
    phases_[0].columns = columns_;
  } else if (single && !direct_) {
    gather_y_ = step_y_, gather_x_ = step_x_;
    step_y_ = step_x_ = 1;
  }
  if (depthwise_ && step_x_ == 1 && out_step_x_ == 1) {
    const int64_t fold = 2 * kernels_.width / std::gcd(2 * kernels_.width, out_channels_);
    if (fold <= 16 && fold <= columns_) fold_ = fold;
  }
  line_ = direct_ && !linear_ ? in_w_ : (columns_ - 1) * step_x_ + max_x_ - min_x_ + 1;
  for (Phase& p : phases_) {
    // Taps that lie side by side in memory make one run, where all of the phase do so alike.
    if (groups_ == 1) {
      int64_t length = 1;
      while (length < static_cast<int64_t>(p.taps.size()) && p.taps[static_cast<size_t>(length)].y == p.taps[0].y &&
             p.taps[static_cast<size_t>(length)].x == p.taps[0].x + length)
        ++length;
      bool even = static_cast<int64_t>(p.taps.size()) % length == 0;
      for (size_t i = 0; even && i < p.taps.size(); ++i) {
        const size_t first = i / static_cast<size_t>(length) * static_cast<size_t>(length);
        even = p.taps[i].y == p.taps[first].y && p.taps[i].x == p.taps[first].x + static_cast<int64_t>(i - first);
      }
      if (even && !depthwise_) p.run_taps = length;
    }
    const int64_t y0 = direct_ ? 0 : min_y_, x0 = direct_ ? 0 : min_x_;
    for (size_t i = 0; i < p.taps.size(); i += static_cast<size_t>(p.run_taps))
      p.runs.push_back(((p.taps[i].y - y0) * line_ + p.taps[i].x - x0) * channels_ * element_);
    const int64_t in_step = 4 / element_;
    p.steps = (p.run_taps * group_in_ + in_step - 1) / in_step;
  }
}

void OwnDot::set_blocks(const DotSpec& s) {
  const int64_t w = kernels_.width;
  int64_t before = 0;
  const auto add = [&](int64_t group, int64_t first, int64_t channels, int64_t vectors) {
    blocks_.push_back({group, first, channels, vectors, before});
    before += vectors;
  };
  if (depthwise_) {
    // Two vectors go together; blocks only cut the work.
    const int64_t all = out_channels_ * fold_;
    for (int64_t c = 0; c < all; c += 2 * w) add(0, c, std::min(2 * w, all - c), 2);
  } else {
    int64_t most = 1;
    for (int64_t v = 1; v <= most_vectors; ++v)
      if (kernels_.rows_of[v] > 0) most = v;
    const int64_t vectors = (group_out_ + w - 1) / w, count = (vectors + most - 1) / most;
    for (int64_t g = 0; g < groups_; ++g)
      for (int64_t b = 0; b < count; ++b) {
        const int64_t first = vectors * b / count, end = vectors * (b + 1) / count;
        add(g, g * group_out_ + first * w, std::min(end * w, group_out_) - first * w, end - first);
      }
  }
  bias_.assign(static_cast<size_t>(before * w), 0.f);
  multiplier_.assign(static_cast<size_t>(before * w), 0.f);
  for (const Block& b : blocks_)
    for (int64_t c = 0; c < b.channels; ++c) {
      const auto to = static_cast<size_t>(b.vectors_before * w + c), from = static_cast<size_t>((b.first + c) % out_channels_);
      if (!s.bias.empty()) bias_[to] = s.bias[from];
      multiplier_[to] = s.multiplier[from];
    }
}

void OwnDot::pack(const DotSpec& s, Phase& p) const {
  const int64_t w = kernels_.width, lanes = 4 / element_, length = p.run_taps * group_in_, icg = s.ic / s.groups, ocg = s.oc / s.groups;
  const auto run_count = static_cast<int64_t>(p.runs.size());
  std::vector<uint8_t> weights(static_cast<size_t>(static_cast<int64_t>(bias_.size()) * run_count * p.steps * 4 + 64), 0);
  p.offsets.assign(bias_.size(), 0);
  for (const Block& b : blocks_) {
    uint8_t* to = weights.data() + b.vectors_before * w * run_count * p.steps * 4;
    std::vector<OneChannel> channels;
    for (int64_t oc = 0; oc < b.channels; ++oc) channels.emplace_back(s, b.first + oc);
    std::vector<int64_t> sum(channels.size(), 0);
    for (int64_t r = 0; r < run_count; ++r)
      for (int64_t i = 0; i < length; ++i) {
        const int64_t tap = p.taps[static_cast<size_t>(r * p.run_taps + i / group_in_)].index;
        uint8_t* place = to + (r * p.steps + i / lanes) * b.vectors * w * 4 + i % lanes * element_;
        for (int64_t oc = 0; oc < b.channels; ++oc, place += 4) {
          // A channel of a group that was put together with this one has the weight 0.
          const int64_t c = i % group_in_ - (b.first + oc) / ocg % (s.groups / groups_) * icg;
          if (c < 0 || c >= icg) continue;
          const int16_t v = channels[static_cast<size_t>(oc)].at(c, tap);
          sum[static_cast<size_t>(oc)] += v;
          if (element_ == 1) *place = static_cast<uint8_t>(v);
          else std::memcpy(place, &v, 2);
        }
      }
    if (element_ != 1) continue;
    for (int64_t oc = 0; oc < b.channels; ++oc)
      p.offsets[static_cast<size_t>(b.vectors_before * w + oc)] = static_cast<int32_t>(-sum[static_cast<size_t>(oc)] * zero_point_);
  }
  p.weights = share_bytes(std::move(weights));
}

void OwnDot::pack_depthwise(const DotSpec& s, Phase& p) const {
  if (p.runs.size() % 2 != 0) p.runs.push_back(p.runs.back());
  const int64_t w = kernels_.width, pairs = static_cast<int64_t>(p.runs.size()) / 2;
  std::vector<uint8_t> weights(static_cast<size_t>(static_cast<int64_t>(blocks_.size()) * pairs * w * 8 + 64), 0);
  // Channels of the low and of the high half, as pair_low and pair_high leave them.
  for (int64_t i = 0; i < out_channels_ * fold_; ++i) {
    const OneChannel channel(s, i % out_channels_);
    const int64_t c = i % (2 * w), lane = c / 4 / 2 * 4 + c % 4;
    const bool high = c / 4 % 2 == 1;
    for (size_t k = 0; k < p.taps.size(); ++k) {
      const int16_t v = channel.at(0, p.taps[k].index);
      std::memcpy(weights.data() + ((i / (2 * w) * pairs + static_cast<int64_t>(k / 2)) * 2 + high) * w * 4 + lane * 4 + static_cast<int64_t>(k % 2) * 2, &v, 2);
    }
  }
  p.weights = share_bytes(std::move(weights));
}

void OwnDot::set_end(const DotSpec& s) {
  end_.residual = has_residual_;
  end_.floats = s.dst == QUERN_DTYPE_F32;
  end_.is_signed = s.dst == QUERN_DTYPE_S8;
  if (has_residual_) {
    end_.residual_flip = s.residual == QUERN_DTYPE_S8 ? 0x80 : 0;
    end_.residual_zero = s.residual_zp + end_.residual_flip;
    end_.residual_scale = s.residual_scale;
  }
  if (s.clamp) end_.low = s.low, end_.high = s.high;
  end_.zero_point = static_cast<float>(s.dst_zp);
  end_.qmin = end_.is_signed ? -128.f : 0.f;
  end_.qmax = end_.is_signed ? 127.f : 255.f;
  if (s.table.empty()) return;
  table_ = s.table;
  end_.table = table_.data();
  end_.table_offset = s.table_offset;
  end_.table_last = static_cast<float>(table_.size() - 1);
}

}  // namespace quern_cpu
