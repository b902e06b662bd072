// Tiles and strips over a vector trait V; included by dot_tile_*.cpp inside of an anonymous namespace.
//
// V: width; Int, Float; load32, load_float, spread; broadcast(p): four bytes of p in every lane; dot(acc, x, w); to_float,
// add, mul, min, max, fma, rne; codes(p, flip): width codes widened; gather(table, index); store_floats of the first n lanes;
// store_codes of the first n of several vectors. With 16-bit numbers also Wide, load_wide (2 * width of them), pair_low,
// pair_high, mac, unlace.

struct End {
  explicit End(const DotEnd& e)
      : low(V::spread(e.low)), high(V::spread(e.high)), zero(V::spread(e.table ? e.table_offset : e.zero_point)), scale(V::spread(e.residual_scale)),
        residual_zero(V::spread(e.residual_zero)) {
    // Adding a number keeps the order of floats, so the activation's clamp, moved by it, and that of the codes are one. Saturating
    // before rounding is the same as after: the limits are integers.
    const float qmin = e.table ? 0.f : e.qmin, qmax = e.table ? e.table_last : e.qmax, add = e.table ? e.table_offset : e.zero_point;
    const auto limit = [&](float v) { return v < qmin ? qmin : v > qmax ? qmax : v; };
    code_low = V::spread(limit(e.low + add));
    code_high = V::spread(limit(e.high + add));
  }

  // The stages from the exact sums of some vectors of channels to the output, in the contract's order. n: channels that are
  // written. kind: 0 codes, 1 codes with a residual, 2 anything.
  template <int kind, int vectors>
  void put(const DotEnd& e, const typename V::Int* sums, const float* bias, const float* multiplier, const uint8_t* residual, uint8_t* out,
           int64_t n) const {
    const auto value = [&](int i) {
      const int64_t at = i * V::width;
      const typename V::Float v = V::mul(V::add(V::to_float(sums[i]), V::load_float(bias + at)), V::load_float(multiplier + at));
      if (kind == 0 || !e.residual) return v;
      return V::fma(V::to_float(V::sub(V::codes(residual + at, e.residual_flip), residual_zero)), scale, v);
    };
    const auto code = [&](typename V::Float v) { return V::rne(V::min(V::max(V::add(v, zero), code_low), code_high)); };
    if (kind == 2 && e.floats) {
      for (int i = 0; i < vectors; ++i) {
        const int64_t at = i * V::width, left = n - at < V::width ? n - at : V::width;
        if (left <= 0) break;
        const typename V::Float v = value(i);
        V::store_floats(reinterpret_cast<float*>(out) + at, e.table ? V::as_float(V::gather(e.table, code(v))) : V::min(V::max(v, low), high), left);
      }
      return;
    }
    typename V::Int codes[vectors];
#pragma GCC unroll 4
    for (int i = 0; i < vectors; ++i) codes[i] = kind == 2 && e.table ? V::gather(e.table, code(value(i))) : code(value(i));
    V::template store_codes<vectors>(out, codes, n, e.is_signed);
  }

  typename V::Float low, high, zero, scale, code_low, code_high;
  typename V::Int residual_zero;
};

template <int n>
struct Kind { static constexpr int value = n; };
inline int kind_of(const DotEnd& e) { return e.floats || e.table ? 2 : e.residual ? 1 : 0; }

// Floats and tables: rarer, and once for all sizes of tiles.
__attribute__((noinline)) void finish_any(const Tile& t, const typename V::Int* sums, int rows, int vectors) {
  const DotEnd& e = *t.end;
  const End end(e);
  for (int r = 0; r < rows; ++r)
    for (int v = 0; v < vectors; ++v) {
      const int64_t at = v * V::width, channel = t.channel + at;
      if (at >= t.channels) break;
      end.template put<2, 1>(e, sums + r * vectors + v, t.bias + at, t.multiplier + at, e.residual ? t.residual[r] + channel : nullptr,
                             t.out[r] + channel * (e.floats ? 4 : 1), t.channels - at);
    }
}

template <int rows, int vectors>
void run_tile(const Tile& t) {
  typename V::Int acc[rows][vectors];
#pragma GCC unroll 4
  for (int v = 0; v < vectors; ++v) {
    const typename V::Int first = V::load32(t.offsets + v * V::width);
#pragma GCC unroll 12
    for (int r = 0; r < rows; ++r) acc[r][v] = first;
  }
  if (t.add) {
#pragma GCC unroll 12
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) acc[r][v] = V::add(acc[r][v], V::spread(t.add[r]));
  }
  const uint8_t* w = t.weights;
  for (int64_t run = 0; run < t.run_count; ++run) {
    const int64_t offset = t.runs[run] + t.x_offset;
    const uint8_t* x[rows];
#pragma GCC unroll 12
    for (int r = 0; r < rows; ++r) x[r] = t.x[r] + offset;
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
  const int kind = kind_of(e);
  if (kind == 2) {
    typename V::Int sums[rows * vectors];
#pragma GCC unroll 12
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) sums[r * vectors + v] = acc[r][v];
    return finish_any(t, sums, rows, vectors);
  }
  const End end(e);
  const auto finish = [&](auto with_residual) {
    constexpr int k = decltype(with_residual)::value;
#pragma GCC unroll 12
    for (int r = 0; r < rows; ++r)
      end.template put<k, vectors>(e, acc[r], t.bias, t.multiplier, k ? t.residual[r] + t.channel : nullptr, t.out[r] + t.channel, t.channels);
  };
  if (kind == 1) finish(Kind<1>());
  else finish(Kind<0>());
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
