// Tiles and strips over a vector trait V; included by dot_tile_*.cpp inside of an anonymous namespace.
//
// V: width; Int, Float; load32, load_float, spread; broadcast(p): four bytes of p in every lane; dot(acc, x, w); to_float,
// add, mul, min, max, fma, rne; codes(p, flip): width codes widened; gather(table, index); store_codes, store_floats of the
// first n lanes. With 16-bit numbers also Wide, load_wide (2 * width of them), pair_low, pair_high, madd, unlace.

struct End {
  explicit End(const DotEnd& e)
      : low(V::spread(e.low)), high(V::spread(e.high)), zero(V::spread(e.table ? e.table_offset : e.zero_point)),
        qmin(V::spread(e.table ? 0.f : e.qmin)), qmax(V::spread(e.table ? e.table_last : e.qmax)), scale(V::spread(e.residual_scale)),
        residual_zero(V::spread(e.residual_zero)) {}

  // The stages from the exact sum to the output, in the contract's order. n: lanes that are written.
  void put(const DotEnd& e, typename V::Int sum, const float* bias, const float* multiplier, const uint8_t* residual, uint8_t* out, int64_t index,
           int64_t n) const {
    typename V::Float v = V::mul(V::add(V::to_float(sum), V::load_float(bias)), V::load_float(multiplier));
    if (e.residual) v = V::fma(V::to_float(V::sub(V::codes(residual + index, e.residual_flip), residual_zero)), scale, v);
    v = V::min(V::max(v, low), high);
    if (e.table) {
      const typename V::Int y = V::gather(e.table, V::rne(V::min(V::max(V::add(v, zero), qmin), qmax)));
      if (e.floats) V::store_floats(reinterpret_cast<float*>(out) + index, V::as_float(y), n);
      else V::store_codes(out + index, y, n);
    } else if (e.floats) {
      V::store_floats(reinterpret_cast<float*>(out) + index, v, n);
    } else {
      // Saturating before rounding is the same as after: the limits are integers.
      V::store_codes(out + index, V::rne(V::min(V::max(V::add(v, zero), qmin), qmax)), n);
    }
  }

  typename V::Float low, high, zero, qmin, qmax, scale;
  typename V::Int residual_zero;
};

template <int rows, int vectors>
void run_tile(const Tile& t) {
  typename V::Int acc[rows][vectors];
#pragma GCC unroll 4
  for (int v = 0; v < vectors; ++v) {
    const typename V::Int first = V::load32(t.offsets + v * V::width);
#pragma GCC unroll 12
    for (int r = 0; r < rows; ++r) acc[r][v] = V::add(first, V::spread(t.add[r]));
  }
  const uint8_t* w = t.weights;
  for (int64_t run = 0; run < t.run_count; ++run) {
    const uint8_t* x[rows];
#pragma GCC unroll 12
    for (int r = 0; r < rows; ++r) x[r] = t.x[r] + t.runs[run];
    for (int64_t s = 0; s < t.steps; ++s) {
      typename V::Int weight[vectors];
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) weight[v] = V::load32(w + v * V::width * 4);
#pragma GCC unroll 12
      for (int r = 0; r < rows; ++r) {
        const typename V::Int value = V::broadcast(x[r] + s * 4);
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) acc[r][v] = V::dot(acc[r][v], value, weight[v]);
      }
      w += vectors * V::width * 4;
    }
  }
  const DotEnd& e = *t.end;
  const End end(e);
#pragma GCC unroll 12
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      const int64_t index = v * V::width, left = t.channels - index;
      end.put(e, acc[r][v], t.bias + index, t.multiplier + index, t.residual[r], t.out[r], index, left < V::width ? left : V::width);
    }
}

template <int vectors, int rows>
void tile_of(const Tile& t, int64_t wanted) {
  if constexpr (rows > 1) {
    if (wanted < rows) return tile_of<vectors, rows - 1>(t, wanted);
  }
  if constexpr (rows > 0) run_tile<rows, vectors>(t);
}

void tile(const Tile& t, int64_t rows, int64_t vectors) {
  if (vectors == 4) return tile_of<4, V::rows_of[4]>(t, rows);
  if (vectors == 3) return tile_of<3, V::rows_of[3]>(t, rows);
  if (vectors == 2) return tile_of<2, V::rows_of[2]>(t, rows);
  tile_of<1, V::rows_of[1]>(t, rows);
}
