// LSTM, GRU and RNN by ONNX's equations, one number after another in double: what kernels and rewrites are compared with.
#pragma once
#include <cmath>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/base/tensor.hpp"

namespace quern::test {

struct RecurrentModel {
  std::string op = "LSTM", direction = "forward";
  int64_t steps = 3, batch = 2, inputs = 3, hidden = 4;
  bool layout = false, reset_after = false, couple = false;
  double clip = 0;
  std::vector<std::function<double(double)>> functions;  // per direction
  std::vector<double> x, w, r, b, h0, c0, p;             // b, h0, c0, p may be empty
  std::vector<int64_t> lengths;                          // may be empty

  int64_t directions() const { return direction == "bidirectional" ? 2 : 1; }
  int64_t gates() const { return op == "LSTM" ? 4 : op == "GRU" ? 3 : 1; }
  struct Result { std::vector<double> y, h, c; };

  int64_t x_at(int64_t t, int64_t n, int64_t i) const { return ((layout ? n * steps + t : t * batch + n) * inputs) + i; }
  int64_t y_at(int64_t t, int64_t d, int64_t n, int64_t j) const {
    return (layout ? (n * steps + t) * directions() + d : (t * directions() + d) * batch + n) * hidden + j;
  }
  int64_t s_at(int64_t d, int64_t n, int64_t j) const { return (layout ? n * directions() + d : d * batch + n) * hidden + j; }

  Result run() const {
    Result out;
    const size_t states = static_cast<size_t>(directions() * batch * hidden);
    out.y.assign(states * static_cast<size_t>(steps), 0);
    out.h.assign(states, 0);
    out.c.assign(states, 0);
    for (int64_t d = 0; d < directions(); ++d)
      for (int64_t n = 0; n < batch; ++n) {
        std::vector<double> h, c;
        for (int64_t j = 0; j < hidden; ++j) {
          h.push_back(h0.empty() ? 0 : h0[static_cast<size_t>(s_at(d, n, j))]);
          c.push_back(c0.empty() ? 0 : c0[static_cast<size_t>(s_at(d, n, j))]);
        }
        const int64_t length = lengths.empty() ? steps : lengths[static_cast<size_t>(n)];
        for (int64_t i = 0; i < length; ++i) {
          const int64_t t = direction == "reverse" || d == 1 ? length - 1 - i : i;
          step(d, t, n, h, c);
          for (int64_t j = 0; j < hidden; ++j) out.y[static_cast<size_t>(y_at(t, d, n, j))] = h[static_cast<size_t>(j)];
        }
        for (int64_t j = 0; j < hidden; ++j) {
          out.h[static_cast<size_t>(s_at(d, n, j))] = h[static_cast<size_t>(j)];
          out.c[static_cast<size_t>(s_at(d, n, j))] = c[static_cast<size_t>(j)];
        }
      }
    return out;
  }

 private:
  double f(int64_t d, size_t k, double v, bool clipped = true) const {
    if (clipped && clip > 0) v = v < -clip ? -clip : v > clip ? clip : v;
    return functions[static_cast<size_t>(d) * functions.size() / static_cast<size_t>(directions()) + k](v);
  }
  double from_x(int64_t d, int64_t gate, int64_t t, int64_t n, int64_t j) const {
    double s = 0;
    for (int64_t i = 0; i < inputs; ++i)
      s += w[static_cast<size_t>(((d * gates() + gate) * hidden + j) * inputs + i)] * x[static_cast<size_t>(x_at(t, n, i))];
    return s + bias(d, gate, j);
  }
  double from_h(int64_t d, int64_t gate, int64_t j, const std::vector<double>& h) const {
    double s = 0;
    for (int64_t i = 0; i < hidden; ++i) s += r[static_cast<size_t>(((d * gates() + gate) * hidden + j) * hidden + i)] * h[static_cast<size_t>(i)];
    return s + bias(d, gates() + gate, j);
  }
  double bias(int64_t d, int64_t gate, int64_t j) const { return b.empty() ? 0 : b[static_cast<size_t>((d * 2 * gates() + gate) * hidden + j)]; }
  double peep(int64_t d, int64_t which, int64_t j) const { return p.empty() ? 0 : p[static_cast<size_t>((d * 3 + which) * hidden + j)]; }

  void step(int64_t d, int64_t t, int64_t n, std::vector<double>& h, std::vector<double>& c) const {
    const auto size = static_cast<size_t>(hidden);
    std::vector<double> next(size), cell(size), reset(size);
    if (op == "GRU")
      for (size_t j = 0; j < size; ++j) reset[j] = f(d, 0, from_x(d, 1, t, n, int64_t(j)) + from_h(d, 1, int64_t(j), h));
    for (size_t k = 0; k < size; ++k) {
      const auto j = static_cast<int64_t>(k);
      const auto sum = [&](int64_t gate) { return from_x(d, gate, t, n, j) + from_h(d, gate, j, h); };
      if (op == "RNN") {
        next[k] = f(d, 0, sum(0));
      } else if (op == "LSTM") {
        const double i = f(d, 0, sum(0) + peep(d, 0, j) * c[k]);
        const double forget = couple ? 1 - i : f(d, 0, sum(2) + peep(d, 2, j) * c[k]);
        cell[k] = forget * c[k] + i * f(d, 1, sum(3));
        next[k] = f(d, 0, sum(1) + peep(d, 1, j) * cell[k]) * f(d, 2, cell[k], false);
      } else {
        double late = 0;
        if (reset_after) {
          late = reset[k] * from_h(d, 2, j, h);
        } else {
          std::vector<double> rh(size);
          for (size_t q = 0; q < size; ++q) rh[q] = reset[q] * h[q];
          late = from_h(d, 2, j, rh);
        }
        const double z = f(d, 0, sum(0)), candidate = f(d, 1, from_x(d, 2, t, n, j) + late);
        next[k] = (1 - z) * candidate + z * h[k];
      }
    }
    h = next;
    if (op == "LSTM") c = cell;
  }
};

}  // namespace quern::test
