// The row kernels over a vector trait V; included by rows_scalar.cpp, rows_avx2.cpp and rows_avx512.cpp inside of an
// anonymous namespace, so that no instance can stand in for another at link time. Nothing of the standard library here,
// for the same reason.
//
// V: width; Int, Float; load(p, flip) codes widened to Int; add, sub, mul, div, min, max (of Int: add, sub, mul); store_codes, store_floats of the
// first n lanes; gather_floats, Table; Bytes, load_bytes, max_bytes, store_bytes over byte_width codes.

struct SourceV {
  explicit SourceV(const Source& s) : flip(s.flip), zero_point(V::spread(s.zero_point)), ratio(V::spread(s.ratio)) {}
  V::Float whole(const uint8_t* p) const { return V::to_float(V::sub(V::load(p, flip), zero_point)); }
  V::Float centred(const uint8_t* p) const { return V::mul(V::to_float(V::sub(V::load(p, flip), zero_point)), ratio); }
  uint8_t flip;
  V::Int zero_point;
  V::Float ratio;
};

struct SinkV {
  explicit SinkV(const Sink& s)
      : low(V::spread(s.low)), high(V::spread(s.high)), zero_point(V::spread(s.zero_point)), qmin(V::spread(s.qmin)), qmax(V::spread(s.qmax)) {}
  // Saturating before rounding is the same as after: the limits are integers.
  void put(uint8_t* out, V::Float v, int64_t n) const {
    v = V::add(V::min(V::max(v, low), high), zero_point);
    V::store_codes(out, V::rne(V::min(V::max(v, qmin), qmax)), n);
  }
  void put(float* out, V::Float v, int64_t n) const { V::store_floats(out, V::min(V::max(v, low), high), n); }
  V::Float low, high, zero_point, qmin, qmax;
};

inline int64_t lanes(int64_t left) { return left < V::width ? left : V::width; }

template <Pair op, class T>
void pair(const uint8_t* a, const uint8_t* b, T* out, int64_t n, const Source& sa, const Source& sb, const Sink& sink) {
  const SourceV va(sa), vb(sb);
  const SinkV end(sink);
  for (int64_t i = 0; i < n; i += V::width) {
    V::Float v;
    if constexpr (op == Pair::mul) {
      // Of integers: as floats 0 times something negative would be -0.
      v = V::mul(V::to_float(V::mul(V::sub(V::load(a + i, va.flip), va.zero_point), V::sub(V::load(b + i, vb.flip), vb.zero_point))), va.ratio);
    } else if constexpr (op == Pair::div) {
      v = V::mul(V::div(va.whole(a + i), vb.whole(b + i)), va.ratio);
    } else {
      const V::Float x = va.centred(a + i), y = vb.centred(b + i);
      v = op == Pair::add ? V::add(x, y) : op == Pair::max ? V::max(x, y) : V::min(x, y);
    }
    end.put(out + i, v, lanes(n - i));
  }
}

template <class T>
void resample(const uint8_t* const* taps, const int32_t* weights, int64_t count, T* out, int64_t n, int32_t zeros, const Source& s, const Sink& sink) {
  const SinkV end(sink);
  const typename V::Int z = V::spread(zeros);
  const typename V::Float ratio = V::spread(s.ratio);
  const auto finish = [&](int64_t i, typename V::Int sum) { end.put(out + i, V::mul(V::to_float(V::sub(sum, z)), ratio), lanes(n - i)); };
  int64_t i = 0;
  if (count == 4) {  // a linear image
    const typename V::Int w0 = V::spread(weights[0]), w1 = V::spread(weights[1]), w2 = V::spread(weights[2]), w3 = V::spread(weights[3]);
    for (; i < n; i += V::width)
      finish(i, V::add(V::add(V::mul(V::load(taps[0] + i, s.flip), w0), V::mul(V::load(taps[1] + i, s.flip), w1)),
                       V::add(V::mul(V::load(taps[2] + i, s.flip), w2), V::mul(V::load(taps[3] + i, s.flip), w3))));
    return;
  }
  for (; i < n; i += V::width) {
    typename V::Int sum = V::spread(0);
    for (int64_t t = 0; t < count; ++t) sum = V::add(sum, V::mul(V::load(taps[t] + i, s.flip), V::spread(weights[t])));
    finish(i, sum);
  }
}

template <class T>
void map(const uint8_t* x, T* out, int64_t n, const Source& s, const Sink& sink) {
  const SourceV vx(s);
  const SinkV end(sink);
  for (int64_t i = 0; i < n; i += V::width) end.put(out + i, vx.centred(x + i), lanes(n - i));
}

template <class T>
void average(const uint8_t* const* taps, int64_t count, T* out, int64_t n, float window, const Source& s, const Sink& sink) {
  const SinkV end(sink);
  // Codes are summed as they are; the zero points come off at the end.
  const typename V::Int zeros = V::spread(static_cast<int32_t>(count) * s.zero_point);
  const typename V::Float w = V::spread(window), ratio = V::spread(s.ratio);
  const auto finish = [&](int64_t i, typename V::Int sum) {
    if (i < n) end.put(out + i, V::mul(V::div(V::to_float(V::sub(sum, zeros)), w), ratio), lanes(n - i));
  };
  int64_t i = 0;
  for (; i + 3 * V::width < n; i += 4 * V::width) {
    typename V::Int s0 = V::spread(0), s1 = s0, s2 = s0, s3 = s0;
    for (int64_t t = 0; t < count; ++t) {
      const uint8_t* p = taps[t] + i;
      s0 = V::add(s0, V::load(p, s.flip));
      s1 = V::add(s1, V::load(p + V::width, s.flip));
      s2 = V::add(s2, V::load(p + 2 * V::width, s.flip));
      s3 = V::add(s3, V::load(p + 3 * V::width, s.flip));
    }
    finish(i, s0);
    finish(i + V::width, s1);
    finish(i + 2 * V::width, s2);
    finish(i + 3 * V::width, s3);
  }
  for (; i < n; i += V::width) {
    typename V::Int sum = V::spread(0);
    for (int64_t t = 0; t < count; ++t) sum = V::add(sum, V::load(taps[t] + i, s.flip));
    finish(i, sum);
  }
}

void largest(const uint8_t* const* taps, int64_t count, uint8_t* out, int64_t n, uint8_t flip) {
  for (int64_t i = 0; i < n; i += V::byte_width) {
    typename V::Bytes best = V::load_bytes(taps[0] + i, flip);
    for (int64_t t = 1; t < count; ++t) best = V::max_bytes(best, V::load_bytes(taps[t] + i, flip));
    V::store_bytes(out + i, best, flip, n - i < V::byte_width ? n - i : V::byte_width);
  }
}

void look_up_codes(const uint8_t* x, uint8_t* out, int64_t n, const uint8_t* table) {
  const typename V::Table t(table);
  for (int64_t i = 0; i < n; i += V::byte_width) V::store_bytes(out + i, t(V::load_bytes(x + i, 0)), 0, n - i < V::byte_width ? n - i : V::byte_width);
}

void look_up_floats(const uint8_t* x, float* out, int64_t n, const float* table) {
  for (int64_t i = 0; i < n; i += V::width) V::store_floats(out + i, V::gather_floats(table, V::load(x + i, 0)), lanes(n - i));
}

constexpr Rows make_rows(const char* name) {
  return {name,
          {pair<Pair::add, uint8_t>, pair<Pair::mul, uint8_t>, pair<Pair::div, uint8_t>, pair<Pair::max, uint8_t>, pair<Pair::min, uint8_t>},
          {pair<Pair::add, float>, pair<Pair::mul, float>, pair<Pair::div, float>, pair<Pair::max, float>, pair<Pair::min, float>},
          map<uint8_t>, map<float>, average<uint8_t>, average<float>,
          look_up_codes, look_up_floats, resample<uint8_t>, resample<float>, largest};
}
