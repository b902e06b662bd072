#include "plugins/cpu/depthwise.hpp"

#include <algorithm>

namespace quern_cpu {

// Tables of one chunk. Everything is by unit, four parts j of four channels each; three units follow the last again
// from the first, so that a vector of four units may begin at any of them.
void Depthwise::fill_chunk(const DotSpec& s, int64_t chunk) {
  const DepthwisePlan& p = plan_;
  const int32_t zero_point = s.src_zp + p.flip;
  const int64_t first = chunk * p.chunk, units = std::min(p.chunk, (p.channels + 15) / 16 - first), slots = p.chunk + 3;
  int8_t* weights = weights_.data() + chunk * p.weights_of_chunk;
  for (int64_t slot = 0; slot < slots; ++slot) {
    const int64_t unit = slot % units;
    for (int64_t j = 0; j < 4; ++j)
      for (int64_t i = 0; i < 4; ++i) {
        const int64_t c = (first + unit) * 16 + j * 4 + i, at = (j * slots + slot) * 4 + i;
        if (c >= p.channels) continue;
        int32_t sum = 0;
        for (int64_t ky = 0; ky < p.kh; ++ky)
          for (int64_t kx = 0; kx < p.kw; ++kx) {
            const int8_t w = s.weights[(c * p.kh + ky) * p.kw + kx];
            sum += w;
            weights[(((ky / 4 * p.kw + kx) * 4 + j) * slots + slot) * 16 + i * 4 + ky % 4] = w;
          }
        const auto table = static_cast<size_t>(chunk * p.tables_of_chunk + at);
        offsets_[table] = -zero_point * sum;
        bias_[table] = s.bias.empty() ? 0.f : s.bias[static_cast<size_t>(c)];
        multiplier_[table] = s.multiplier[static_cast<size_t>(c)];
      }
  }
}

std::unique_ptr<Depthwise> Depthwise::make(const DotSpec& s) {
  if (s.groups < 2 || s.groups != s.ic || s.groups != s.oc) return nullptr;
  // Units of 16 channels that are not full cost as much as full ones, and columns dealt out to planes are read once: with few
  // channels or a stride oneDNN is quicker (measured).
  if ((s.oc % 16 != 0 && s.oc < 64) || s.w.stride > 1) return nullptr;
  if (s.h.kernel > 16 || s.w.kernel > 16 || s.w.stride > 4) return nullptr;
  auto made = std::unique_ptr<Depthwise>(new Depthwise());
  DepthwisePlan& p = made->plan_;
  made->threads_ = s.threads;
  p.batch = s.batch;
  p.channels = s.oc;
  p.ih = s.h.in, p.iw = s.w.in, p.oh = s.h.out, p.ow = s.w.out;
  p.kh = s.h.kernel, p.kw = s.w.kernel, p.sh = s.h.stride, p.sw = s.w.stride, p.dh = s.h.dilation, p.dw = s.w.dilation;
  p.pad_top = s.h.pad_begin, p.pad_left = s.w.pad_begin;
  p.groups_of_rows = (p.kh + 3) / 4;
  p.columns = (p.ow - 1) * p.sw + s.w.reach();
  p.plane = (p.columns + p.sw - 1) / p.sw;
  // As many units as keep the interleaved rows in the first-level cache; four at least.
  const int64_t units = (p.channels + 15) / 16, unit_bytes = 64 * p.groups_of_rows * p.plane * p.sw;
  const int64_t most = std::max<int64_t>(4, 24576 / unit_bytes / 4 * 4);
  p.chunk = std::min(units, most);
  p.chunks = (units + p.chunk - 1) / p.chunk;
  p.flip = s.src == QUERN_DTYPE_S8 ? 0x80 : 0;
  p.pad_code = static_cast<uint8_t>(s.src_zp);
  p.dst_float = s.dst == QUERN_DTYPE_F32;
  p.dst_signed = s.dst == QUERN_DTYPE_S8;
  p.has_residual = s.residual != 0;
  p.residual_signed = s.residual == QUERN_DTYPE_S8;
  p.residual_zp = s.residual_zp;
  p.residual_scale = s.residual_scale;
  p.clamp = s.clamp;
  p.low = s.clamp ? s.low : -FLT_MAX;
  p.high = s.clamp ? s.high : FLT_MAX;
  p.dst_zp = static_cast<float>(s.dst_zp);
  p.qmin = p.dst_signed ? -128.f : 0.f;
  p.qmax = p.dst_signed ? 127.f : 255.f;
  p.weights_of_chunk = p.groups_of_rows * p.kw * 4 * (p.chunk + 3) * 16;
  p.tables_of_chunk = 4 * (p.chunk + 3) * 4;
  made->weights_.assign(static_cast<size_t>(p.chunks * p.weights_of_chunk), 0);
  for (auto* t : {&made->bias_, &made->multiplier_}) t->assign(static_cast<size_t>(p.chunks * p.tables_of_chunk), 0.f);
  made->offsets_.assign(static_cast<size_t>(p.chunks * p.tables_of_chunk), 0);
  for (int64_t c = 0; c < p.chunks; ++c) made->fill_chunk(s, c);
  p.weights = made->weights_.data();
  p.offsets = made->offsets_.data();
  p.bias = made->bias_.data();
  p.multiplier = made->multiplier_.data();
  made->pad_row_.assign(static_cast<size_t>(p.iw * p.channels + 64), p.pad_code);
  return made;
}

uint64_t Depthwise::buffer_bytes() const {
  return static_cast<uint64_t>((plan_.groups_of_rows * plan_.sw * 4 * (plan_.plane * plan_.chunk + 4) * 16 + 127) / 64 *
                               64);
}

uint64_t Depthwise::workspace_bytes() const { return buffer_bytes() * std::max<uint32_t>(1, threads_); }

void Depthwise::run(const void* src, void* dst, void* workspace) const {
  const DepthwisePlan& p = plan_;
  const int64_t rows = p.batch * p.oh, pieces = std::min<int64_t>(rows, threads_);
  const size_t element = p.dst_float ? 4 : 1;
  const auto piece = [&](int64_t index) {
    uint8_t* buffer = static_cast<uint8_t*>(workspace) + static_cast<uint64_t>(index) * buffer_bytes();
    const uint8_t* taps[16];
    for (int64_t r = rows * index / pieces; r < rows * (index + 1) / pieces; ++r) {
      const int64_t n = r / p.oh, oy = r % p.oh;
      for (int64_t k = 0; k < p.kh; ++k) {
        const int64_t y = oy * p.sh - p.pad_top + k * p.dh;
        taps[k] = y < 0 || y >= p.ih ? pad_row_.data()
                                     : static_cast<const uint8_t*>(src) + (n * p.ih + y) * p.iw * p.channels;
      }
      uint8_t* out = static_cast<uint8_t*>(dst) + static_cast<size_t>(r * p.ow * p.channels) * element;
      for (int64_t c = 0; c < p.chunks; ++c) depthwise_row(p, taps, c, out, buffer);
    }
  };
  if (pieces <= 1)
    piece(0);
  else
    quern_sdk::parallel_for(pieces, piece);
}

}  // namespace quern_cpu
