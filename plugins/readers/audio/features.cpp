#include "features.hpp"

#include <algorithm>
#include <complex>
#include <quern/portable_math.hpp>

namespace quern_readers {
namespace {

constexpr double pi = 3.14159265358979323846;

double log10_of(double v) { return portable::log(v) / portable::log(10.0); }

// Slaney's scale: 200/3 Hz a mel up to 1000 Hz, then 27 mels for a factor of 6.4.
double to_mel(double f, bool slaney) {
  if (!slaney) return 2595 * log10_of(1 + f / 700);
  return f < 1000 ? f * 3 / 200 : 15 + portable::log(f / 1000) * 27 / portable::log(6.4);
}
double to_hertz(double m, bool slaney) {
  if (!slaney) return 700 * (portable::exp(m / 2595 * portable::log(10.0)) - 1);
  return m < 15 ? m * 200 / 3 : 1000 * portable::exp((m - 15) * portable::log(6.4) / 27);
}

// Cosine by its series after reduction to [0, pi/4], so that features do not depend on the machine's libm.
double cosine_of_turn(int64_t n, int64_t of) {
  n %= of;
  if (2 * n > of) n = of - n;                      // cos is even
  const bool negative = 4 * n > of;                // beyond a quarter turn: the distance to half a turn counts
  n = negative ? of - 2 * n : 2 * n;
  const double x = pi * static_cast<double>(n) / static_cast<double>(of), y = x * x;  // 0..pi/2
  double term = 1, sum = 1;
  for (int k = 1; k < 16; ++k) sum += term *= -y / ((2 * k - 1) * (2 * k));
  return negative ? -sum : sum;
}

// In place, of a power of two; other sizes by the definition.
void transform(std::vector<std::complex<double>>& v, const std::vector<double>& cosine, const std::vector<double>& sine) {
  const size_t n = v.size();
  if (n & (n - 1)) {
    std::vector<std::complex<double>> out(n);
    for (size_t k = 0; k < n; ++k)
      for (size_t i = 0; i < n; ++i) out[k] += v[i] * std::complex<double>(cosine[i * k % n], -sine[i * k % n]);
    v = std::move(out);
    return;
  }
  for (size_t i = 1, j = 0; i < n; ++i) {
    size_t bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) std::swap(v[i], v[j]);
  }
  for (size_t length = 2; length <= n; length <<= 1)
    for (size_t i = 0; i < n; i += length)
      for (size_t k = 0; k < length / 2; ++k) {
        const size_t turn = k * (n / length);
        const std::complex<double> a = v[i + k], b = v[i + k + length / 2] * std::complex<double>(cosine[turn], -sine[turn]);
        v[i + k] = a + b;
        v[i + k + length / 2] = a - b;
      }
}

}  // namespace

FeatureOptions::FeatureOptions(const Json& f, double sample_rate) : rate(sample_rate) {
  kind = f.text("type", "raw");
  window = f.integer("window", 400);
  hop = f.integer("hop", 160);
  fft = f.integer("fft", std::max<int64_t>(window, 512));
  mels = f.integer("mels", 40);
  coefficients = f.integer("coefficients", 13);
  low = f.number("low", 0);
  high = f.number("high", rate / 2);
  floor = f.number("floor", 1e-6);
  slaney = f.text("scale", "htk") == "slaney";
  decibels = f.text("log", "natural") == "decibels";
  center = f.flag("center", false);
  if (fft < window) refuse("features: fft has to be window (" + std::to_string(window) + ") at least");
  if (!(low < high) || high > rate / 2) refuse("features: low has to be below high, and high at most half the rate");
  if (coefficients > mels) refuse("features: there are " + std::to_string(mels) + " mel bands, less than coefficients");
}

Features::Features(const FeatureOptions& options) : o_(options) {
  if (o_.kind == "raw") return;
  for (int64_t n = 0; n < o_.fft; ++n) {
    cosine_.push_back(cosine_of_turn(n, o_.fft));
    sine_.push_back(cosine_of_turn(4 * n + 3 * o_.fft, 4 * o_.fft));  // sin x = cos(x - a quarter turn)
  }
  window_.assign(static_cast<size_t>(o_.fft), 0);
  for (int64_t n = 0; n < o_.window; ++n) window_[static_cast<size_t>((o_.fft - o_.window) / 2 + n)] = 0.5 - 0.5 * cosine_of_turn(n, o_.window);
  if (o_.kind != "log_mel" && o_.kind != "mfcc") return;
  std::vector<double> edges;
  const double from = to_mel(o_.low, o_.slaney), to = to_mel(o_.high, o_.slaney);
  for (int64_t i = 0; i < o_.mels + 2; ++i) edges.push_back(to_hertz(from + (to - from) * static_cast<double>(i) / static_cast<double>(o_.mels + 1), o_.slaney));
  for (size_t m = 0; m < static_cast<size_t>(o_.mels); ++m) {
    std::vector<double> band(static_cast<size_t>(o_.fft / 2 + 1));
    for (size_t k = 0; k < band.size(); ++k) {
      const double f = static_cast<double>(k) * o_.rate / static_cast<double>(o_.fft);
      band[k] = std::max(0.0, std::min((f - edges[m]) / (edges[m + 1] - edges[m]), (edges[m + 2] - f) / (edges[m + 2] - edges[m + 1])));
      if (o_.slaney) band[k] *= 2 / (edges[m + 2] - edges[m]);
    }
    bands_.push_back(std::move(band));
  }
}

int64_t Features::width() const {
  if (o_.kind == "raw") return 1;
  return o_.kind == "mfcc" ? o_.coefficients : o_.kind == "log_mel" ? o_.mels : o_.fft / 2 + 1;
}

std::vector<double> Features::spectrum(const std::vector<float>& sound, int64_t begin) const {
  const auto n = static_cast<int64_t>(sound.size());
  std::vector<std::complex<double>> v(static_cast<size_t>(o_.fft));
  for (int64_t i = 0; i < o_.fft; ++i) {
    int64_t at = begin + i;
    if (n > 1) {  // mirrored at both ends, where frames are centred
      const int64_t period = 2 * (n - 1);
      at = ((at % period) + period) % period;
      if (at >= n) at = period - at;
    } else {
      at = 0;
    }
    v[static_cast<size_t>(i)] = window_[static_cast<size_t>(i)] * static_cast<double>(sound[static_cast<size_t>(at)]);
  }
  transform(v, cosine_, sine_);
  std::vector<double> power(static_cast<size_t>(o_.fft / 2 + 1));
  for (size_t k = 0; k < power.size(); ++k) power[k] = v[k].real() * v[k].real() + v[k].imag() * v[k].imag();
  return power;
}

std::vector<float> Features::of(const std::vector<float>& sound) const {
  if (o_.kind == "raw") return sound;
  std::vector<float> out;
  const auto n = static_cast<int64_t>(sound.size());
  const int64_t pad = o_.center ? o_.fft / 2 : 0;
  for (int64_t begin = -pad; begin + o_.fft <= n + pad; begin += o_.hop) {
    std::vector<double> v = spectrum(sound, begin);
    if (o_.kind == "magnitude") for (double& x : v) x = std::sqrt(x);
    if (!bands_.empty()) {
      std::vector<double> mel(bands_.size());
      for (size_t m = 0; m < mel.size(); ++m) {
        for (size_t k = 0; k < v.size(); ++k) mel[m] += bands_[m][k] * v[k];
        mel[m] = o_.decibels ? 10 * log10_of(std::max(mel[m], o_.floor)) : portable::log(std::max(mel[m], o_.floor));
      }
      v = std::move(mel);
    }
    if (o_.kind == "mfcc") {
      std::vector<double> c(static_cast<size_t>(o_.coefficients));
      const auto m = static_cast<int64_t>(v.size());
      for (size_t k = 0; k < c.size(); ++k) {
        for (int64_t i = 0; i < m; ++i) c[k] += v[static_cast<size_t>(i)] * cosine_of_turn((2 * i + 1) * static_cast<int64_t>(k), 4 * m);
        c[k] *= std::sqrt((k == 0 ? 1.0 : 2.0) / static_cast<double>(m));
      }
      v = std::move(c);
    }
    for (double x : v) out.push_back(static_cast<float>(x));
  }
  return out;
}

}  // namespace quern_readers
