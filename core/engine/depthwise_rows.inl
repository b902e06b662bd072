// The row kernel of depthwise.hpp, written once on V (a vector of `lanes` floats) and compiled per instruction set. Includes
// nothing of the standard library: no inline function of it may stand in for one compiled for less.
//
// A tile is up to eight neighbouring outputs of one vector of channels: their sums stay in registers, and a column of the input is
// loaded once for all outputs that it meets.

struct Columns {
  const float* row;     // of the input, at the first channel
  int64_t first, step;  // column of the tile's first tap; elements from a column to the next
  int64_t width;
  const float* zeros;
};

template <bool border>
inline const float* column(const Columns& c, int64_t k) {
  if constexpr (border) {
    const int64_t at = c.first + k;
    return at >= 0 && at < c.width ? c.row + at * c.step : c.zeros;
  } else {
    return c.row + (c.first + k) * c.step;
  }
}

// One kernel row into the sums of a tile. kw 0: any width and dilation, tap by tap.
template <int tile, int kw, int sw, bool border>
inline void add_row(const Columns& c, const float* w, int64_t channel, const DepthwiseF32& d, V* sums) {
  if constexpr (kw > 0) {
    V weights[kw];
    for (int k = 0; k < kw; ++k) weights[k] = V::load(w + k * lanes);
#pragma GCC unroll 32
    for (int col = 0; col < (tile - 1) * sw + kw; ++col) {
      const V x = V::load(column<border>(c, col) + channel);
#pragma GCC unroll 8
      for (int t = 0; t < tile; ++t)
        if (const int k = col - t * sw; k >= 0 && k < kw) sums[t].add(x, weights[k]);
    }
  } else {
    for (int64_t k = 0; k < d.kw; ++k) {
      const V weight = V::load(w + k * lanes);
      for (int t = 0; t < tile; ++t) sums[t].add(V::load(column<border>(c, t * d.sw + k * d.dw) + channel), weight);
    }
  }
}

template <int tile, int kw, int sw, bool border>
inline void run_tile(const DepthwiseF32& d, const float* image, float* y, int64_t oy, int64_t ox) {
  const int64_t top = oy * d.sh - d.pad_top, row_step = d.iw * d.channels;
  const float *w = d.weights, *bias = d.bias;
  Columns c{nullptr, ox * d.sw - d.pad_left, d.channels, d.iw, d.zeros};
  for (int64_t channel = 0; channel < d.channels; channel += lanes) {
    V sums[tile];
    const V b = V::load(bias);
    for (int t = 0; t < tile; ++t) sums[t] = b;
    for (int64_t r = 0; r < d.kh; ++r, w += d.kw * lanes) {
      const int64_t iy = top + r * d.dh;
      if (iy < 0 || iy >= d.ih) continue;
      c.row = image + iy * row_step;
      add_row<tile, kw, sw, border>(c, w, channel, d, sums);
    }
    bias += lanes;
    float* out = y + channel;
    const int64_t left = d.channels - channel;
    if (left >= lanes) {
      for (int t = 0; t < tile; ++t) sums[t].clamped(d.low, d.high).store(out + t * d.channels);
    } else {
      for (int t = 0; t < tile; ++t) sums[t].clamped(d.low, d.high).store_first(out + t * d.channels, left);
    }
  }
}

template <int kw, int sw, bool border>
inline void run_tile_of(int64_t tile, const DepthwiseF32& d, const float* image, float* y, int64_t oy, int64_t ox) {
  switch (tile) {
    case 1: return run_tile<1, kw, sw, border>(d, image, y, oy, ox);
    case 2: return run_tile<2, kw, sw, border>(d, image, y, oy, ox);
    case 3: return run_tile<3, kw, sw, border>(d, image, y, oy, ox);
    case 4: return run_tile<4, kw, sw, border>(d, image, y, oy, ox);
    case 5: return run_tile<5, kw, sw, border>(d, image, y, oy, ox);
    case 6: return run_tile<6, kw, sw, border>(d, image, y, oy, ox);
    case 7: return run_tile<7, kw, sw, border>(d, image, y, oy, ox);
    default: return run_tile<8, kw, sw, border>(d, image, y, oy, ox);
  }
}

template <int kw, int sw>
inline void run_rows(const DepthwiseF32& d, const float* x, float* y, int64_t first, int64_t last) {
  const int64_t tiles = (d.ow + most - 1) / most;
  for (int64_t row = first; row < last; ++row) {
    const int64_t n = row / d.oh, oy = row % d.oh;
    const float* image = x + n * d.ih * d.iw * d.channels;
    int64_t ox = 0;
    for (int64_t i = 0; i < tiles; ++i) {
      const int64_t tile = (d.ow - ox + tiles - i - 1) / (tiles - i);  // of nearly equal widths
      const int64_t from = ox * d.sw - d.pad_left, to = from + (tile - 1) * d.sw + (d.kw - 1) * d.dw;
      float* out = y + (row * d.ow + ox) * d.channels;
      if (from < 0 || to >= d.iw) run_tile_of<kw, sw, true>(tile, d, image, out, oy, ox);
      else run_tile_of<kw, sw, false>(tile, d, image, out, oy, ox);
      ox += tile;
    }
  }
}

inline void run_any(const DepthwiseF32& d, const float* x, float* y, int64_t first, int64_t last) {
  const bool near = d.dw == 1;
  if (near && d.kw == 3 && d.sw == 1) return run_rows<3, 1>(d, x, y, first, last);
  if (near && d.kw == 3 && d.sw == 2) return run_rows<3, 2>(d, x, y, first, last);
  if (near && d.kw == 5 && d.sw == 1) return run_rows<5, 1>(d, x, y, first, last);
  if (near && d.kw == 5 && d.sw == 2) return run_rows<5, 2>(d, x, y, first, last);
  run_rows<0, 0>(d, x, y, first, last);
}
