// Depthwise strips over a vector trait V; see dot_tile_impl.inl. Two taps of a channel are laid side by side (pair_low,
// pair_high) and multiplied and added as one (madd). Where registers are wider than 128 bits that leaves the channels in
// another order; unlace puts the sums right.

template <int pixels>
void run_strip(const DepthwiseStrip& s, const End& end, int64_t pixel, int64_t channel, const uint8_t* weights, int64_t n) {
  typename V::Int low[pixels], high[pixels];
#pragma GCC unroll 4
  for (int p = 0; p < pixels; ++p) low[p] = high[p] = V::spread(int32_t{0});
  const uint8_t* x = s.x + pixel * s.x_step + channel * 2;
  for (int64_t k = 0; k < s.pairs; ++k) {
    const typename V::Wide wl = V::load_wide(weights + k * V::width * 8), wh = V::load_wide(weights + k * V::width * 8 + V::width * 4);
    const uint8_t *a = x + s.taps[2 * k], *b = x + s.taps[2 * k + 1];
#pragma GCC unroll 4
    for (int p = 0; p < pixels; ++p) {
      const typename V::Wide xa = V::load_wide(a + p * s.x_step), xb = V::load_wide(b + p * s.x_step);
      low[p] = V::add(low[p], V::madd(V::pair_low(xa, xb), wl));
      high[p] = V::add(high[p], V::madd(V::pair_high(xa, xb), wh));
    }
  }
#pragma GCC unroll 4
  for (int p = 0; p < pixels; ++p) {
    V::unlace(low[p], high[p]);
    const uint8_t* residual = s.residual ? s.residual + (pixel + p) * s.residual_step : nullptr;
    uint8_t* out = s.out + (pixel + p) * s.out_step;
    end.put(*s.end, low[p], s.bias + channel, s.multiplier + channel, residual, out, channel, n < V::width ? n : V::width);
    if (n <= V::width) continue;
    const int64_t next = channel + V::width, left = n - V::width;
    end.put(*s.end, high[p], s.bias + next, s.multiplier + next, residual, out, next, left < V::width ? left : V::width);
  }
}

void depthwise(const DepthwiseStrip& s) {
  const End end(*s.end);
  const uint8_t* weights = s.weights;
  for (int64_t c = 0; c < s.channels; c += 2 * V::width, weights += s.pairs * V::width * 8) {
    int64_t p = 0;
    for (; p + 4 <= s.pixels; p += 4) run_strip<4>(s, end, p, c, weights, s.channels - c);
    for (; p < s.pixels; ++p) run_strip<1>(s, end, p, c, weights, s.channels - c);
  }
}
