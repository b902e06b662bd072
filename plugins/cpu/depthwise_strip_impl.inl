// Depthwise strips over a vector trait V; see dot_tile_impl.inl. Two taps of a channel are laid side by side (pair_low,
// pair_high) and multiplied and added as one (mac). Where registers are wider than 128 bits that leaves the channels in
// another order; unlace puts the sums right.

template <int pixels, int kind>
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
      low[p] = V::mac(low[p], V::pair_low(xa, xb), wl);
      high[p] = V::mac(high[p], V::pair_high(xa, xb), wh);
    }
  }
#pragma GCC unroll 4
  for (int p = 0; p < pixels; ++p) {
    typename V::Int sums[2] = {low[p], high[p]};
    V::unlace(sums[0], sums[1]);
    const uint8_t* residual = s.end->residual ? s.residual + (pixel + p) * s.residual_step + channel : nullptr;
    uint8_t* out = s.out + (pixel + p) * s.out_step + channel * (kind == 2 && s.end->floats ? 4 : 1);
    end.template put<kind, 2>(*s.end, sums, s.bias + channel, s.multiplier + channel, residual, out, n < 2 * V::width ? n : 2 * V::width);
  }
}

template <int kind>
void run_strips(const DepthwiseStrip& s) {
  const End end(*s.end);
  const uint8_t* weights = s.weights;
  for (int64_t c = 0; c < s.channels; c += 2 * V::width, weights += s.pairs * V::width * 8) {
    int64_t p = 0;
    for (; p + 4 <= s.pixels; p += 4) run_strip<4, kind>(s, end, p, c, weights, s.channels - c);
    for (; p < s.pixels; ++p) run_strip<1, kind>(s, end, p, c, weights, s.channels - c);
  }
}

void depthwise(const DepthwiseStrip& s) {
  const int kind = kind_of(*s.end);
  if (kind == 0) run_strips<0>(s);
  else if (kind == 1) run_strips<1>(s);
  else run_strips<2>(s);
}
