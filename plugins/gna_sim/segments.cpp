#include "plugins/gna_sim/segments.hpp"

#include <algorithm>

namespace quern_gna {

Segments::Segments(std::vector<Segment> rows) {
  for (const Segment& s : rows) {
    base_.push_back(s.x_base & ~3);
    shift_.push_back(8 * ((s.x_base & 3) + 1));
    slope_.push_back(s.slope);
    y_.push_back(s.y_base);
  }
  if (base_.size() < 2) return;
  // Between the second base and the last one segments change; a part is as narrow as 1024 of them allow.
  first_ = base_[1];
  const int64_t span = base_.back() - first_ + 1;
  while ((int64_t{1024} << part_shift_) < span) ++part_shift_;
  for (int64_t i = 0; i <= span >> part_shift_; ++i)
    part_.push_back(static_cast<uint16_t>(find(static_cast<int32_t>(std::min<int64_t>(first_ + (i << part_shift_), base_.back())))));
}

size_t Segments::find(int32_t x) const {
  const auto it = std::upper_bound(base_.begin() + 1, base_.end(), x);
  return static_cast<size_t>(it - base_.begin()) - 1;
}

int64_t Segments::operator()(int32_t x) const {
  if (x < base_[0]) return y_[0];
  const size_t i = find(x);
  return y_[i] + ((static_cast<int64_t>(x) - base_[i]) * slope_[i] >> shift_[i]);
}

void Segments::plain(const int32_t* x, int64_t n, int32_t low, int32_t high, int16_t* out) const {
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<int16_t>(std::clamp<int64_t>((*this)(x[i]), low, high));
}

void Segments::run(const int32_t* x, int64_t n, int32_t low, int32_t high, int16_t* out) const {
  const size_t last = base_.size() - 1;
  for (int64_t i = 0; i < n; ++i) {
    size_t s = 0;
    if (x[i] >= base_[last]) {
      s = last;
    } else if (last > 0 && x[i] >= first_) {
      s = part_[static_cast<size_t>((x[i] - first_) >> part_shift_)];
      while (x[i] >= base_[s + 1]) ++s;  // few bases lie within one part
    } else if (x[i] < base_[0]) {
      out[i] = static_cast<int16_t>(std::clamp<int64_t>(y_[0], low, high));
      continue;
    }
    const int64_t y = y_[s] + ((static_cast<int64_t>(x[i]) - base_[s]) * slope_[s] >> shift_[s]);
    out[i] = static_cast<int16_t>(y < low ? low : y > high ? high : y);
  }
}

}  // namespace quern_gna
