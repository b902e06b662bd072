// What comes behind a sum: a unit's tables as the row kernels want them.
#pragma once
#include "plugins/vpu_sim/kernel.hpp"
#include "plugins/vpu_sim/rows.hpp"

namespace quern_vpu {

class Finish {
 public:
  // `channels`: numbers along a row where tables may have one for each; 0: one for all.
  explicit Finish(const OpView& op, int64_t channels = 0);
  bool floats() const { return floats_; }
  // Whether codes are left as they are: neither a multiplier nor a scale was derived.
  bool copies() const { return copies_; }
  // n sums of a row, from channel `first`, to dense output at element `at` of `out`.
  void row(const int32_t* acc, int64_t first, int64_t n, void* out, int64_t at) const;
  // The same, to places `step` apart.
  void strided(const int32_t* acc, int64_t n, void* out, int64_t at, int64_t step) const;

 private:
  static constexpr int64_t chunk = 512;
  bool floats_ = false, copies_ = false, per_channel_ = false;
  std::vector<double> bias_, factor_;
  std::vector<float> scale_;
  std::vector<uint8_t> table_;
  Codes codes_;
  Halves halves_;
};

}  // namespace quern_vpu
