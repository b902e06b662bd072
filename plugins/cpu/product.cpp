#include "plugins/cpu/product.hpp"

#include <emmintrin.h>

#include <algorithm>
#include <cstring>

namespace quern_cpu {
namespace {

constexpr int64_t band_bytes = 64 * 1024;  // of the first tensor's rows
uint64_t up(uint64_t n) { return (n + 63) / 64 * 64; }

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
  return packed_bytes() + up(static_cast<uint64_t>(padded_) * 4) + up(static_cast<uint64_t>(band_ * k_ * 2) + 256);
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

// Four rows byte by byte: b[k][n], b[k + 1][n], ... of each column n. What lies beyond a row is some other number: its
// columns are never written.
void Product::pack_bytes(const uint8_t* b, const Block& block, uint8_t* to) const {
  const int64_t columns = block.vectors * kernels_.width;
  const __m128i flip = _mm_set1_epi8(static_cast<char>(b_flip_));
  for (int64_t s = 0; s < steps_; ++s, to += columns * 4)
    for (int64_t c = 0; c < columns && c < block.channels; c += 16) {
      const auto load = [&](int64_t k) {
        if (k >= k_) return _mm_setzero_si128();
        return _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(b + k * n_ + block.first + c)), flip);
      };
      const __m128i r0 = load(4 * s), r1 = load(4 * s + 1), r2 = load(4 * s + 2), r3 = load(4 * s + 3);
      const __m128i t0 = _mm_unpacklo_epi8(r0, r1), t1 = _mm_unpackhi_epi8(r0, r1), t2 = _mm_unpacklo_epi8(r2, r3), t3 = _mm_unpackhi_epi8(r2, r3);
      auto* out = reinterpret_cast<__m128i*>(to + c * 4);
      _mm_storeu_si128(out, _mm_unpacklo_epi16(t0, t2));
      _mm_storeu_si128(out + 1, _mm_unpackhi_epi16(t0, t2));
      _mm_storeu_si128(out + 2, _mm_unpacklo_epi16(t1, t3));
      _mm_storeu_si128(out + 3, _mm_unpackhi_epi16(t1, t3));
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
  for (const Block& block : blocks_) {
    uint8_t* at = to + block.first * steps_ * 4;
    kernels_.bytes ? pack_bytes(b, block, at) : pack_wide(b, block, at);
  }
  std::fill_n(offsets, padded_, 0);
  if (!kernels_.bytes) return;
  for (int64_t k = 0; k < k_; ++k)
    for (int64_t n = 0; n < n_; ++n) offsets[n] += static_cast<int8_t>(b[k * n_ + n] ^ b_flip_);
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
  const int64_t run = 0;
  Tile t{};
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
    const int64_t most = kernels_.rows_of[block.vectors], tiles = (count + most - 1) / most;
    for (int64_t i = 0; i < tiles; ++i) {
      const int64_t first = count * i / tiles, n = count * (i + 1) / tiles - first;
      for (int64_t r = 0; r < n; ++r) {
        const int64_t row = first + r;
        t.x[r] = x + row * k_ * element;
        t.out[r] = out + (row * n_ + block.first) * size;
        t.residual[r] = residual ? residual + row * n_ + block.first : nullptr;
        t.add[r] = 0;
        if (kernels_.bytes && b_zero_ != 0) {
          uint32_t sum = 0;
          for (int64_t k = 0; k < k_; ++k) sum += t.x[r][k];
          t.add[r] = static_cast<int32_t>(0u - static_cast<uint32_t>(b_zero_) * sum);
        }
      }
      kernels_.tile(t, n, block.vectors);
    }
  }
}

void Product::run(const uint8_t* a, const uint8_t* b, const uint8_t* residual, void* out, void* workspace) const {
  const int64_t bands = (m_ + band_ - 1) / band_, tasks = batch_ * bands, pieces = std::min<int64_t>(tasks, threads_), size = spec_.end.floats ? 4 : 1;
  const auto piece = [&](int64_t index) {
    uint8_t* packed = static_cast<uint8_t*>(workspace) + static_cast<uint64_t>(index) * slot_bytes();
    auto* offsets = reinterpret_cast<int32_t*>(packed + packed_bytes());
    uint8_t* scratch = packed + packed_bytes() + up(static_cast<uint64_t>(padded_) * 4);
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
