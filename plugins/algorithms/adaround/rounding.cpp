#include "rounding.hpp"

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <utility>

namespace adaround {
namespace {

constexpr int largest_sweeps = 30;

// Eigen cuts products into blocks by the machine's caches, and sums in that order. With fixed sizes the bytes are the same everywhere.
void fix_blocks() { Eigen::setCpuCacheSizes(32 << 10, 256 << 10, 2 << 20); }

double value(const Grid& g, int64_t code) { return static_cast<double>(static_cast<float>(static_cast<double>(code - g.zero) * g.scale)); }
int64_t nearest(const Grid& g, double w) {
  const double code = std::nearbyint(w / g.scale) + static_cast<double>(g.zero);
  return static_cast<int64_t>(std::clamp(code, static_cast<double>(g.qmin), static_cast<double>(g.qmax)));
}

}  // namespace

struct Moments::Sums {
  Eigen::MatrixXf xx, xy;
  Eigen::VectorXd x, y;
};

Moments::Moments(int64_t inputs, int64_t outputs) : sums_(new Sums), inputs_(inputs), outputs_(outputs) {
  fix_blocks();
  sums_->xx.setZero(inputs, inputs);
  sums_->xy.setZero(inputs, outputs);
  sums_->x.setZero(inputs);
  sums_->y.setZero(outputs);
}
Moments::~Moments() { delete sums_; }
Moments::Moments(Moments&& o) noexcept : sums_(std::exchange(o.sums_, nullptr)), inputs_(o.inputs_), outputs_(o.outputs_), positions_(o.positions_) {}

void Moments::add(const float* x, const float* y, int64_t positions) {
  if (positions == 0) return;
  const Eigen::Map<const Eigen::MatrixXf> a(x, inputs_, positions), b(y, outputs_, positions);
  sums_->xx.selfadjointView<Eigen::Lower>().rankUpdate(a);
  sums_->xy.noalias() += a * b.transpose();
  sums_->x += a.cast<double>().rowwise().sum();
  sums_->y += b.cast<double>().rowwise().sum();
  positions_ += positions;
}

struct Rounder::Solved {
  Eigen::MatrixXf h, factor;  // H with its damping, both halves; L
  Eigen::MatrixXf xy;
  Eigen::VectorXd x, y;       // means
  Eigen::LLT<Eigen::MatrixXf> llt;
  float damping = 0;
};

Rounder::Rounder(Moments m, double damping, bool centred) : solved_(new Solved) {
  const double n = static_cast<double>(std::max<int64_t>(1, m.positions_));
  Solved& s = *solved_;
  s.x = m.sums_->x * (centred ? 1 / n : 0);
  s.y = m.sums_->y * (centred ? 1 / n : 0);
  s.h = m.sums_->xx.selfadjointView<Eigen::Lower>();
  s.h /= static_cast<float>(n);
  s.h -= (s.x * s.x.transpose()).cast<float>();
  s.xy = m.sums_->xy / static_cast<float>(n);
  s.xy -= (s.x * s.y.transpose()).cast<float>();
  const double mean = s.h.diagonal().cast<double>().mean();
  for (double d = damping;; d *= 10) {
    const auto add = static_cast<float>(mean > 0 ? mean * d : 1.0);
    Eigen::MatrixXf damped = s.h;
    damped.diagonal().array() += add;
    s.llt.compute(damped);
    if (s.llt.info() != Eigen::Success && d < 1e3) continue;
    s.damping = add;
    s.h = std::move(damped);
    break;
  }
  s.factor = s.llt.matrixL();
}
Rounder::~Rounder() { delete solved_; }

std::vector<int64_t> Rounder::round(int64_t output, const float* w, const Grid& grid) const {
  const Solved& s = *solved_;
  const auto k = static_cast<Eigen::Index>(s.h.rows());
  const Eigen::Map<const Eigen::VectorXf> weights(w, k);
  // Damping pulls to the weights as they are: H w has it, the cross term has it too.
  const Eigen::VectorXf pull = s.xy.col(output) + s.damping * weights - s.h * weights;
  const Eigen::VectorXd wanted = weights.cast<double>() + s.llt.solve(pull).cast<double>();

  const auto improve = [&](std::vector<int64_t>& code) {
    Eigen::VectorXd off(k);
    for (Eigen::Index i = 0; i < k; ++i) off[i] = value(grid, code[static_cast<size_t>(i)]) - wanted[i];
    Eigen::VectorXd gradient = s.h.cast<double>() * off;
    for (int sweep = 0; sweep < largest_sweeps; ++sweep) {
      bool moved = false;
      for (Eigen::Index i = 0; i < k; ++i) {
        const auto at = static_cast<size_t>(i);
        const double curve = s.h(i, i);
        const double now = value(grid, code[at]);
        const int64_t other = nearest(grid, now - gradient[i] / curve);
        if (other == code[at]) continue;
        const double step = value(grid, other) - now, change = 2 * gradient[i] * step + curve * step * step;
        if (!(change < -1e-9 * curve * grid.scale * grid.scale)) continue;
        code[at] = other;
        off[i] += step;
        gradient += step * s.h.col(i).cast<double>();
        moved = true;
      }
      if (!moved) break;
    }
    return off.dot(gradient);
  };

  std::vector<int64_t> plain(static_cast<size_t>(k)), passed(static_cast<size_t>(k));
  for (Eigen::Index i = 0; i < k; ++i) plain[static_cast<size_t>(i)] = nearest(grid, w[i]);
  // (q - w*)' L L' (q - w*): row i of L' has the columns from i on, so the last weight is fixed first.
  Eigen::VectorXd left = Eigen::VectorXd::Zero(k);
  for (Eigen::Index i = k; i-- > 0;) {
    const double carried = s.factor.col(i).tail(k - i - 1).cast<double>().dot(left.tail(k - i - 1)) / static_cast<double>(s.factor(i, i));
    const int64_t code = nearest(grid, wanted[i] - carried);
    passed[static_cast<size_t>(i)] = code;
    left[i] = value(grid, code) - wanted[i];
  }
  const double a = improve(plain), b = improve(passed);
  return b < a ? passed : plain;
}

double Rounder::bias(int64_t output, const std::vector<float>& rounded) const {
  const Eigen::Map<const Eigen::VectorXf> q(rounded.data(), solved_->h.rows());
  return solved_->y[output] - q.cast<double>().dot(solved_->x);
}

double Rounder::error(int64_t output, const std::vector<float>& rounded) const {
  const Eigen::VectorXd q = Eigen::Map<const Eigen::VectorXf>(rounded.data(), solved_->h.rows()).cast<double>();
  const double damped = q.dot(solved_->h.cast<double>() * q) - solved_->damping * q.squaredNorm();
  return damped - 2 * q.dot(solved_->xy.col(output).cast<double>());
}

}  // namespace adaround
