// Running an OwnDot: laying out the input of a band, walking its tiles.
#include <algorithm>
#include <cstring>

#include "plugins/cpu/dot.hpp"
#include "plugins/cpu/own_dot.hpp"

namespace quern_cpu {
namespace {
constexpr uint64_t slack = 128;  // kernels read and write a vector beyond
uint64_t up(uint64_t n) { return (n + 63) / 64 * 64; }
}  // namespace

uint64_t OwnDot::prepared_bytes() const {
  if (direct_) return 0;
  // A band may touch several images, each with the rows around it.
  const int64_t images = linear_ ? 1 : (band_rows_ - 1) / rows_ + 2;
  const int64_t extra = std::max<int64_t>(0, max_y_ - min_y_ + 1 - step_y_);
  return up(static_cast<uint64_t>((band_rows_ * step_y_ + images * extra) * line_ * channels_ * element_) + slack);
}

uint64_t OwnDot::slot_bytes() const {
  const uint64_t pixels = depthwise_ ? 0 : static_cast<uint64_t>(band_rows_ * columns_);
  return prepared_bytes() + up(static_cast<uint64_t>(band_rows_) * sizeof(Row)) + 3 * up(pixels * sizeof(void*));
}
uint64_t OwnDot::workspace_bytes() const { return slot_bytes() * threads_; }

// Codes of whole pixels, one after the other.
void OwnDot::copy(const uint8_t* codes, int64_t pixels, uint8_t* to) const {
  if (multiplied_ == 1) return kernels_.prepare(codes, pixels * channels_, flip_, zero_point_, to);
  auto* out = reinterpret_cast<int16_t*>(to);
  const int64_t n = pixels * (channels_ / multiplied_);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t k = 0; k < multiplied_; ++k) *out++ = static_cast<int16_t>((codes[i] ^ flip_) - zero_point_);
}

void OwnDot::prepare_row(const uint8_t* src, int64_t n, int64_t y, uint8_t* to) const {
  const int64_t pixel = channels_ * element_, in_pixel = channels_ / multiplied_;
  const auto pad = [&](int64_t first, int64_t end) {
    if (end > first) std::memset(to + first * pixel, element_ == 1 ? zero_point_ : 0, static_cast<size_t>((end - first) * pixel));
  };
  if (y < 0 || y >= in_h_) return pad(0, line_);
  const uint8_t* row = src + (n * in_h_ + y) * in_w_ * in_pixel;
  // What is written last counts: a piece may run on into the next.
  if (gather_x_ > 1) {
    for (int64_t i = 0; i < line_; ++i) {
      const int64_t x = min_x_ + i * gather_x_;
      if (x < 0 || x >= in_w_) pad(i, i + 1);
      else copy(row + x * in_pixel, 1, to + i * pixel);
    }
    return;
  }
  const int64_t first = std::max<int64_t>(0, -min_x_), end = std::min(line_, in_w_ - min_x_);
  pad(0, std::min(first, line_));
  if (end > first) copy(row + (first + min_x_) * in_pixel, end - first, to + first * pixel);
  pad(std::max(end, first), line_);
}

void OwnDot::prepare(const uint8_t* src, const Band& band, uint8_t* to) const {
  if (direct_) return;
  if (linear_) {
    const int64_t first = band.first * columns_, end = std::min(band.end * columns_, pixels_);
    return copy(src + first * (channels_ / multiplied_), end - first, to);
  }
  for (int64_t r = band.first; r < band.end;) {
    const int64_t n = r / rows_, first = r % rows_, count = std::min(rows_ - first, band.end - r);
    for (int64_t i = 0; i < input_rows(count); ++i, to += line_ * channels_ * element_)
      prepare_row(src, n, (first * step_y_ + i) * gather_y_ + min_y_, to);
    r += count;
  }
}

// The rows of a phase within a band: where their pixels lie in the input and in the output.
int64_t OwnDot::list_rows(const Phase& p, const Band& band, const uint8_t* base, const uint8_t* residual, uint8_t* dst, Row* rows) const {
  int64_t count = 0;
  const int64_t line = line_ * channels_ * element_;
  const auto add = [&](const uint8_t* x, int64_t place, int64_t columns) {
    const int64_t at = place * out_channels_;
    rows[count++] = {x, dst + at * out_size_, residual ? residual + at : nullptr, columns};
  };
  if (linear_) {
    for (int64_t r = band.first; r < band.end; ++r)
      add(base + (direct_ ? r : r - band.first) * line, r * columns_, std::min(columns_, pixels_ - r * columns_));
    return count;
  }
  for (int64_t r = band.first; r < band.end;) {
    const int64_t n = r / rows_, first = r % rows_, many = std::min(rows_ - first, band.end - r);
    for (int64_t i = 0; i < many; ++i) {
      const int64_t row = first + i;
      if (row >= p.rows) continue;
      const uint8_t* x = direct_ ? base + (n * in_h_ + row * step_y_) * line : base + i * step_y_ * line;
      add(x, (n * out_h_ + p.out_y + row * out_step_) * out_w_ + p.out_x, p.columns);
    }
    if (!direct_) base += input_rows(many) * line;
    r += many;
  }
  return count;
}

int64_t OwnDot::list_pixels(const Row* rows, int64_t count, const Pixels& pixels) const {
  const int64_t x_step = step_x_ * channels_ * element_, place = out_step_x_ * out_channels_;
  int64_t n = 0;
  for (int64_t i = 0; i < count; ++i) {
    const Row& r = rows[i];
    for (int64_t c = 0; c < r.columns; ++c) pixels.x[n + c] = r.x + c * x_step;
    for (int64_t c = 0; c < r.columns; ++c) pixels.out[n + c] = r.out + c * place * out_size_;
    if (r.residual)
      for (int64_t c = 0; c < r.columns; ++c) pixels.residual[n + c] = r.residual + c * place;
    n += r.columns;
  }
  return n;
}

void OwnDot::run_blocks(const Phase& p, const Pixels& pixels, int64_t count, int64_t first_block, int64_t end_block) const {
  const int64_t w = kernels_.width;
  Tile t{};
  t.runs = p.runs.data();
  t.run_count = static_cast<int64_t>(p.runs.size());
  t.steps = p.steps;
  t.end = &end_;
  for (int64_t b = first_block; b < end_block; ++b) {
    const Block& block = blocks_[static_cast<size_t>(b)];
    const int64_t at = block.vectors_before * w;
    t.weights = p.weights->data() + at * t.run_count * p.steps * 4;
    t.offsets = p.offsets.data() + at;
    t.bias = bias_.data() + at;
    t.multiplier = multiplier_.data() + at;
    t.channels = block.channels;
    t.channel = block.first;
    t.x_offset = block.group * group_in_ * element_;
    const int64_t most = kernels_.rows_of[block.vectors], tiles = (count + most - 1) / most;
    int64_t done = 0;
    for (int64_t i = 0; i < tiles; ++i) {
      const int64_t end = count * (i + 1) / tiles;
      t.x = pixels.x + done;
      t.out = pixels.out + done;
      t.residual = pixels.residual + done;
      kernels_.tile(t, end - done, block.vectors);
      done = end;
    }
  }
}

void OwnDot::run_depthwise(const Phase& p, const Row* rows, int64_t count, int64_t first_block, int64_t end_block) const {
  const int64_t first = blocks_[static_cast<size_t>(first_block)].first, w = kernels_.width;
  const Block& last = blocks_[static_cast<size_t>(end_block - 1)];
  DepthwiseStrip s{};
  s.x_step = step_x_ * channels_ * 2 * fold_;
  s.residual_step = out_step_x_ * out_channels_ * fold_;
  s.out_step = s.residual_step * out_size_;
  s.taps = p.runs.data();
  s.pairs = static_cast<int64_t>(p.runs.size()) / 2;
  s.weights = p.weights->data() + first_block * s.pairs * w * 8;
  s.bias = bias_.data() + first;
  s.multiplier = multiplier_.data() + first;
  s.end = &end_;
  for (int64_t i = 0; i < count; ++i) {
    s.x = rows[i].x + first * 2;
    s.out = rows[i].out + first * out_size_;
    s.residual = rows[i].residual ? rows[i].residual + first : nullptr;
    s.pixels = rows[i].columns / fold_;
    s.channels = last.first + last.channels - first;
    if (s.pixels > 0) kernels_.depthwise(s);
    // The pixels that are left over: the first channels of one more.
    s.channels = std::min(rows[i].columns % fold_ * out_channels_ - first, s.channels);
    if (s.channels <= 0) continue;
    s.x += s.pixels * s.x_step;
    s.out += s.pixels * s.out_step;
    if (s.residual) s.residual += s.pixels * s.residual_step;
    s.pixels = 1;
    kernels_.depthwise(s);
  }
}

// A single row of a matrix: nothing to list, nothing to cut.
void OwnDot::run_one(const uint8_t* src, const uint8_t* residual, uint8_t* dst, uint8_t* workspace) const {
  if (!direct_) copy(src, 1, workspace);
  const uint8_t* x = direct_ ? src : workspace;
  run_blocks(phases_[0], {&x, &dst, &residual}, 1, 0, static_cast<int64_t>(blocks_.size()));
}

void OwnDot::run(const void* src, const uint8_t* residual, void* dst, void* workspace) const {
  if (linear_ && !depthwise_ && pixels_ == 1 && threads_ == 1)
    return run_one(static_cast<const uint8_t*>(src), residual, static_cast<uint8_t*>(dst), static_cast<uint8_t*>(workspace));
  const int64_t total = batch_ * rows_, bands = (total + band_rows_ - 1) / band_rows_, tasks = bands * splits_;
  const auto blocks = static_cast<int64_t>(blocks_.size()), pieces = std::min<int64_t>(tasks, threads_);
  const auto piece = [&](int64_t index) {
    uint8_t* prepared = static_cast<uint8_t*>(workspace) + static_cast<uint64_t>(index) * slot_bytes();
    auto* rows = reinterpret_cast<Row*>(prepared + prepared_bytes());
    uint8_t* lists = prepared + prepared_bytes() + up(static_cast<uint64_t>(band_rows_) * sizeof(Row));
    const uint64_t list = depthwise_ ? 0 : up(static_cast<uint64_t>(band_rows_ * columns_) * sizeof(void*));
    const Pixels pixels{reinterpret_cast<const uint8_t**>(lists), reinterpret_cast<uint8_t**>(lists + list),
                        reinterpret_cast<const uint8_t**>(lists + 2 * list)};
    int64_t ready = -1;
    for (int64_t task = tasks * index / pieces; task < tasks * (index + 1) / pieces; ++task) {
      const int64_t b = task / splits_, split = task % splits_;
      const Band band{total * b / bands, total * (b + 1) / bands};
      if (ready != b) prepare(static_cast<const uint8_t*>(src), band, prepared);
      ready = b;
      const int64_t first = blocks * split / splits_, end = blocks * (split + 1) / splits_;
      for (const Phase& p : phases_) {
        const int64_t count = list_rows(p, band, direct_ ? static_cast<const uint8_t*>(src) : prepared, residual, static_cast<uint8_t*>(dst), rows);
        if (count == 0) continue;
        if (depthwise_) run_depthwise(p, rows, count, first, end);
        else run_blocks(p, pixels, list_pixels(rows, count, pixels), first, end);
      }
    }
  };
  if (pieces <= 1) piece(0);
  else quern_sdk::parallel_for(pieces, piece);
}

}  // namespace quern_cpu
