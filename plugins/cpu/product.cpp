#include "plugins/cpu/product.hpp"

#include <emmintrin.h>

#include <algorithm>
#include <cstring>

namespace quern_cpu {
namespace {

constexpr int64_t band_bytes = 64 * 1024;  // of the first tensor's rows
uint64_t up(uint64_t n) { return (n + 63) / 64 * 64; }

uint32_t sum_of(const uint8_t* p, int64_t n) {
  __m128i sum = _mm_setzero_si128();
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) sum = _mm_add_epi64(sum, _mm_sad_epu8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + i)), _mm_setzero_si128()));
  auto total = static_cast<uint32_t>(_mm_cvtsi128_si32(sum) + _mm_cvtsi128_si32(_mm_unpackhi_epi64(sum, sum)));
  for (; i < n; ++i) total += p[i];
  return total;
}

}  // namespace

Product::Product(ProductSpec spec) : spec_(std::move(spec)), kernels_(dot_kernels(spec_.isa)) {
  const size_t rank = spec_.out.size();
  m_ = spec_.out[rank - 2];
  n_ = spec_.out[rank - 1];
  k_ = spec_.a.back();
  for (size_t i = 0; i + 2 < rank; ++i) batch_ *= spec_.out[i];
  const int64_t lanes = kernels_.bytes ? 4 : 2, w = kernels_.width;
  steps_ = (k_ + lanes - 1) / lanes;
  int64_t most = 1;
  for (int64_t v = 1; v <= most_vectors; ++v)
    if (kernels_.rows_of[v] > 0) most = v;
  const int64_t vectors = (n_ + w - 1) / w, count = (vectors + most - 1) / most;
  for (int64_t b = 0; b < count; ++b) {
    const int64_t first = vectors * b / count, end = vectors * (b + 1) / count;
    blocks_.push_back({first * w, std::min(end * w, n_) - first * w, end - first});
  }
  padded_ = vectors * w;
  bias_.assign(static_cast<size_t>(padded_), 0.f);
  multiplier_.assign(static_cast<size_t>(padded_), 0.f);
  for (size_t i = 0; i < static_cast<size_t>(n_); ++i) {
    if (!spec_.bias.empty()) bias_[i] = spec_.bias[spec_.bias.size() == 1 ? 0 : i];
    multiplier_[i] = spec_.multiplier[spec_.multiplier.size() == 1 ? 0 : i];
  }
  a_flip_ = spec_.a_signed ? 0x80 : 0;
  a_zero_ = spec_.a_zp + a_flip_;
  // VNNI wants the second factor signed, the others take it as unsigned less its zero point.
  b_flip_ = spec_.b_signed != kernels_.bytes ? 0x80 : 0;
  b_zero_ = kernels_.bytes ? spec_.b_zp - (spec_.b_signed ? 0 : 128) : spec_.b_zp + (spec_.b_signed ? 128 : 0);
  if (!spec_.table.empty()) spec_.end.table = spec_.table.data();
  const double products = static_cast<double>(batch_) * static_cast<double>(m_ * n_) * static_cast<double>(k_);
  threads_ = products >= 4e6 ? std::max<uint32_t>(1, spec_.threads) : 1;
  band_ = std::clamp<int64_t>(band_bytes / (k_ * (kernels_.bytes ? 1 : 2)), 12, std::max<int64_t>(12, m_));
}

uint64_t Product::packed_bytes() const { return up(static_cast<uint64_t>(steps_ * padded_ * 4) + 256); }
uint64_t Product::slot_bytes() const {
  return packed_bytes() + up(static_cast<uint64_t>(padded_) * 4 + 64) + up(static_cast<uint64_t>(band_ * k_ * 2) + 256) + up(static_cast<uint64_t>(band_) * 4);
}

// The matrix of `dims` that the output's matrix `batch` needs; axes of size 1 broadcast.
int64_t Product::matrix_of(const Dims& dims, int64_t batch) const {
  const size_t skip = spec_.out.size() - dims.size();
  int64_t index = 0, stride = 1;
  for (size_t i = spec_.out.size() - 2; i-- > 0;) {
    const int64_t at = batch % spec_.out[i];
    batch /= spec_.out[i];
    if (i < skip) continue;
    index += (dims[i - skip] == 1 ? 0 : at) * stride;
    stride *= dims[i - skip];
  }
  return index;
}

// Four rows byte by byte: b[k][n], b[k + 1][n], ... of each column n; and each column's sum. What lies beyond a row is some
// other number: its columns are never written.
void Product::pack_bytes(const uint8_t* b, const Block& block, uint8_t* to, int32_t* sums) const {
  const int64_t columns = block.vectors * kernels_.width;
  // Codes as unsigned ones are summed, as signed ones stored.
  const __m128i to_unsigned = _mm_set1_epi8(static_cast<char>(b_flip_ ^ 0x80)), sign = _mm_set1_epi8(static_cast<char>(0x80)), none = _mm_setzero_si128();
  for (int64_t c = 0; c < columns && c < block.channels; c += 16) {
    __m128i low = none, high = none;  // sums of 16 bits, emptied every 64 steps
    uint32_t total[16] = {};
    const auto empty = [&] {
      uint16_t part[16];
      _mm_storeu_si128(reinterpret_cast<__m128i*>(part), low);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(part + 8), high);
      for (int i = 0; i < 16; ++i) total[i] += part[i];
      low = high = none;
    };
    for (int64_t s = 0; s < steps_; ++s) {
      __m128i r[4];
      for (int64_t i = 0; i < 4; ++i) {
        r[i] = none;
        const int64_t k = 4 * s + i;
        if (k >= k_) continue;
        const __m128i codes = _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(b + k * n_ + block.first + c)), to_unsigned);
        low = _mm_add_epi16(low, _mm_unpacklo_epi8(codes, none));
        high = _mm_add_epi16(high, _mm_unpackhi_epi8(codes, none));
        r[i] = _mm_xor_si128(codes, sign);
      }
      const __m128i t0 = _mm_unpacklo_epi8(r[0], r[1]), t1 = _mm_unpackhi_epi8(r[0], r[1]);
      const __m128i t2 = _mm_unpacklo_epi8(r[2], r[3]), t3 = _mm_unpackhi_epi8(r[2], r[3]);
      auto* out = reinterpret_cast<__m128i*>(to + (s * columns + c) * 4);
      _mm_storeu_si128(out, _mm_unpacklo_epi16(t0, t2));
      _mm_storeu_si128(out + 1, _mm_unpackhi_epi16(t0, t2));
      _mm_storeu_si128(out + 2, _mm_unpacklo_epi16(t1, t3));
      _mm_storeu_si128(out + 3, _mm_unpackhi_epi16(t1, t3));
      if (s % 64 == 63) empty();
    }
    empty();
    for (int64_t i = 0; i < 16; ++i) sums[block.first + c + i] = static_cast<int32_t>(total[i] - 128 * static_cast<uint32_t>(k_));
  }
}

void Product::pack_wide(const uint8_t* b, const Block& block, uint8_t* to) const {
  const int64_t columns = block.vectors * kernels_.width;
  const __m128i flip = _mm_set1_epi8(static_cast<char>(b_flip_)), zero = _mm_set1_epi16(static_cast<int16_t>(b_zero_)), none = _mm_setzero_si128();
  for (int64_t s = 0; s < steps_; ++s, to += columns * 4)
    for (int64_t c = 0; c < columns && c < block.channels; c += 8) {
      const auto load = [&](int64_t k) {
        if (k >= k_) return none;
        const __m128i codes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(b + k * n_ + block.first + c));
        return _mm_sub_epi16(_mm_unpacklo_epi8(_mm_xor_si128(codes, flip), none), zero);
      };
      const __m128i r0 = load(2 * s), r1 = load(2 * s + 1);
      auto* out = reinterpret_cast<__m128i*>(to + c * 4);
      _mm_storeu_si128(out, _mm_unpacklo_epi16(r0, r1));
      _mm_storeu_si128(out + 1, _mm_unpackhi_epi16(r0, r1));
    }
}

void Product::pack(const uint8_t* b, uint8_t* to, int32_t* offsets) const {
  std::fill_n(offsets, padded_, 0);
  for (const Block& block : blocks_) {
    uint8_t* at = to + block.first * steps_ * 4;
    kernels_.bytes ? pack_bytes(b, block, at, offsets) : pack_wide(b, block, at);
  }
  if (!kernels_.bytes) return;
  // Modulo 2^32 on the way; the sum as a whole fits.
  const auto all = static_cast<uint32_t>(k_) * static_cast<uint32_t>(a_zero_) * static_cast<uint32_t>(b_zero_);
  for (int64_t n = 0; n < n_; ++n) offsets[n] = static_cast<int32_t>(all - static_cast<uint32_t>(a_zero_) * static_cast<uint32_t>(offsets[n]));
}

void Product::rows(const uint8_t* a, int64_t count, const uint8_t* packed, const int32_t* offsets, uint8_t* scratch, const uint8_t* residual,
                   uint8_t* out) const {
  const int64_t element = kernels_.bytes ? 1 : 2, size = spec_.end.floats ? 4 : 1;
  const uint8_t* x = a;
  if (!kernels_.bytes || a_flip_ != 0) {
    kernels_.prepare(a, count * k_, a_flip_, a_zero_, scratch);
    x = scratch;
  }
  // What the second tensor's zero point takes off a row.
  const bool adds = kernels_.bytes && b_zero_ != 0;
  auto* add = reinterpret_cast<int32_t*>(scratch + up(static_cast<uint64_t>(band_ * k_ * 2) + 256));
  for (int64_t row = 0; adds && row < count; ++row) add[row] = static_cast<int32_t>(0u - static_cast<uint32_t>(b_zero_) * sum_of(x + row * k_, k_));
  const int64_t run = 0;
  const uint8_t *from[most_rows], *extra[most_rows];
  uint8_t* to[most_rows];
  Tile t{};
  t.x = from;
  t.out = to;
  t.residual = extra;
  t.runs = &run;
  t.run_count = 1;
  t.steps = steps_;
  t.end = &spec_.end;
  for (const Block& block : blocks_) {
    t.weights = packed + block.first * steps_ * 4;
    t.offsets = offsets + block.first;
    t.bias = bias_.data() + block.first;
    t.multiplier = multiplier_.data() + block.first;
    t.channels = block.channels;
    t.channel = block.first;
    const int64_t most = kernels_.rows_of[block.vectors], tiles = (count + most - 1) / most;
    for (int64_t i = 0; i < tiles; ++i) {
      const int64_t first = count * i / tiles, n = count * (i + 1) / tiles - first;
      for (int64_t r = 0; r < n; ++r) {
        const int64_t row = first + r;
        from[r] = x + row * k_ * element;
        to[r] = out + row * n_ * size;
        extra[r] = residual ? residual + row * n_ : nullptr;
      }
      t.add = adds ? add + first : nullptr;
      kernels_.tile(t, n, block.vectors);
    }
  }
}

void Product::run(const uint8_t* a, const uint8_t* b, const uint8_t* residual, void* out, void* workspace) const {
  const int64_t bands = (m_ + band_ - 1) / band_, tasks = batch_ * bands, pieces = std::min<int64_t>(tasks, threads_), size = spec_.end.floats ? 4 : 1;
  const auto piece = [&](int64_t index) {
    uint8_t* packed = static_cast<uint8_t*>(workspace) + static_cast<uint64_t>(index) * slot_bytes();
    auto* offsets = reinterpret_cast<int32_t*>(packed + packed_bytes());
    uint8_t* scratch = packed + packed_bytes() + up(static_cast<uint64_t>(padded_) * 4 + 64);
    int64_t ready = -1;
    for (int64_t task = tasks * index / pieces; task < tasks * (index + 1) / pieces; ++task) {
      const int64_t batch = task / bands, band = task % bands, first = m_ * band / bands, count = m_ * (band + 1) / bands - first;
      const int64_t matrix = matrix_of(spec_.b, batch);
      if (matrix != ready) pack(b + matrix * k_ * n_, packed, offsets);
      ready = matrix;
      const int64_t place = (batch * m_ + first) * n_;
      rows(a + (matrix_of(spec_.a, batch) * m_ + first) * k_, count, packed, offsets, scratch, residual ? residual + place : nullptr,
           static_cast<uint8_t*>(out) + place * size);
    }
  };
  if (pieces <= 1) piece(0);
  else quern_sdk::parallel_for(pieces, piece);
}

}  // namespace quern_cpu
