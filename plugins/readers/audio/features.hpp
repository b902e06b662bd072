// Features of sound, all of one chain: frames -> window -> power spectrum -> mel bands -> logarithm -> DCT.
//   frames     of `window` samples every `hop`, the window (Hann, 0.5 - 0.5 cos(2 pi n / window)) in the middle of `fft` samples
//   power      |FFT|^2 of fft/2 + 1 bins (magnitude: its root)
//   mel        triangles between low and high Hz, equally spaced in mel: htk 2595 log10(1 + f / 700); slaney linear below
//              1000 Hz and logarithmic above, triangles of area 1 (as librosa's default)
//   log        natural logarithm of max(value, floor), or 10 log10 of it
//   mfcc       DCT-II, orthonormal, of the log mel bands; the first `coefficients`
#pragma once
#include "../common/listing.hpp"

namespace quern_readers {

struct FeatureOptions {
  std::string kind = "raw";  // raw, magnitude, power, log_mel, mfcc
  int64_t window = 400, hop = 160, fft = 512, mels = 40, coefficients = 13;
  double low = 0, high = 0, floor = 1e-6, rate = 16000;
  bool slaney = false, decibels = false, center = false;
  explicit FeatureOptions(const Json& features, double rate);
  FeatureOptions() = default;
};

class Features {
 public:
  explicit Features(const FeatureOptions& options);
  // [frames][width()], row major. Samples that do not fill a frame are left out.
  std::vector<float> of(const std::vector<float>& sound) const;
  int64_t width() const;

 private:
  std::vector<double> spectrum(const std::vector<float>& sound, int64_t begin) const;
  FeatureOptions o_;
  std::vector<double> window_, cosine_, sine_;  // cosine and sine of 2 pi n / fft
  std::vector<std::vector<double>> bands_;      // [mels][fft / 2 + 1]
};

}  // namespace quern_readers
