#include "plugins/gna_sim/fit.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

namespace quern_gna {
namespace {

constexpr double smallest_tolerance = 0.125;
constexpr double lowest = -2147483648.0, highest = 2147483647.0;

struct Line {
  int32_t slope = 0;
  int code = 0;          // of the shift: 8 * (code + 1) bits
  double step = 0;       // slope / 2^shift
};

// The slope with the largest shift that 16 bits allow.
Line line_of(double step) {
  Line l;
  for (int code = 3; code >= 0; --code) {
    const double scaled = std::ldexp(step, 8 * (code + 1));
    const double rounded = std::floor(scaled + 0.5);
    if (std::fabs(rounded) > 32767 && code > 0) continue;
    l.code = code;
    l.slope = static_cast<int32_t>(std::min(32767.0, std::max(-32767.0, rounded)));
    l.step = std::ldexp(static_cast<double>(l.slope), -8 * (code + 1));
    break;
  }
  return l;
}

class Fitter {
 public:
  Fitter(const Target& t, size_t most) : t_(t), most_(most) {
    find_ends();
    for (double k : t.kinks) {
      const double x = k / t.x_scale;
      if (x > begin_ && x < end_) stops_.push_back(x);
    }
    stops_.push_back(end_);
    std::sort(stops_.begin(), stops_.end());
  }

  Fit run() {
    // Tolerances in codes, beyond the half that rounding costs. A coarse one says how many segments there would be with a finer one: of a curve,
    // as many times more as the root of the tolerance is smaller.
    double tolerance = 4;
    while (!cover(tolerance)) {
      if ((tolerance *= 4) > 70000) return {};  // every length was allowed: there are more kinks than segments
    }
    const double share = static_cast<double>(pieces_.size()) / static_cast<double>(most_ - 2);
    tolerance = std::max(smallest_tolerance, tolerance * share * share);
    while (!cover(tolerance)) tolerance *= 1.125;
    emit();
    return {rows_};
  }

  double measured(const std::vector<Segment>& rows) const {
    const Segments s(rows);
    double worst = 0;
    const auto look = [&](double x) {
      if (x < lowest || x > highest) return;
      const double y = std::min(t_.high, std::max(t_.low, static_cast<double>(s(static_cast<int32_t>(x)))));
      worst = std::max(worst, std::fabs(y - code(std::floor(x))));
    };
    for (size_t i = 0; i < rows.size(); ++i) {
      const double from = rows[i].x_base & ~3, to = i + 1 < rows.size() ? rows[i + 1].x_base & ~3 : highest;
      for (int k = 0; k <= 32; ++k) look(std::floor(from + (to - 1 - from) * k / 32));
    }
    return worst;
  }

 private:
  struct Piece { double x, at; Line line; };  // from x on: at + line.step * (v - x)

  double code(double x) const {
    const double y = t_.f(x * t_.x_scale) / t_.y_scale;
    return y != y ? 0 : y < t_.low ? t_.low : y > t_.high ? t_.high : y;
  }

  // Outside of begin_..end_ there is one code. Bisection on both sides of the turn, as far as 32 bits go.
  void find_ends() {
    const double turn = std::min(highest, std::max(lowest, t_.turn / t_.x_scale));
    const auto leaves = [&](double start, double from, double to) -> std::optional<double> {
      const double same = code(start);
      if (std::fabs(code(to) - same) <= 0.125) return {};
      for (int i = 0; i < 80 && std::fabs(to - from) > 0.5; ++i) {
        const double middle = from + (to - from) / 2;
        (std::fabs(code(middle) - same) <= 0.125 ? from : to) = middle;
      }
      return from;
    };
    const double places[] = {lowest, turn, highest};
    std::optional<double> first, last;
    for (int i = 0; i < 2 && !first; ++i) first = leaves(lowest, places[i], places[i + 1]);
    for (int i = 2; i > 0 && !last; --i) last = leaves(highest, places[i], places[i - 1]);
    begin_ = first ? std::floor(*first) : 0;
    end_ = last ? std::ceil(*last) : begin_;
    if (end_ < begin_) end_ = begin_;
  }

  // The best line over [from, to], and how far the function is from it; more than `enough` is not looked into.
  double deviation(double from, double to, double enough, Piece& piece) const {
    constexpr int places = 12;
    const double y0 = code(from), y1 = code(to);
    piece.x = from;
    piece.line = line_of(to > from ? (y1 - y0) / (to - from) : 0);
    double low = 0, high = 0;  // of function - line through (from, y0)
    for (int i = 1; i <= places; ++i) {
      const double x = from + (to - from) * i / places;
      const double d = (i == places ? y1 : code(x)) - (y0 + piece.line.step * (x - from));
      low = std::min(low, d);
      high = std::max(high, d);
      if ((high - low) / 2 > enough) break;
    }
    piece.at = y0 + (low + high) / 2;
    return (high - low) / 2;
  }

  bool cover(double tolerance) {
    pieces_.clear();
    double from = begin_;
    double length = std::max(4.0, (end_ - begin_) / 256);
    for (double stop : stops_) {
      while (from < stop) {
        if (pieces_.size() + 3 > most_) return false;
        // Doubled or halved from the last length until the end is known to lie between `good` and `bad`.
        Piece piece{}, trial{};
        double good = 0, bad = std::numeric_limits<double>::infinity();
        const auto fits = [&](double n, double enough) { return deviation(from, std::min(from + n, stop), enough, trial) <= tolerance; };
        while (good == 0) {
          // The shortest is taken whatever it costs.
          const bool shortest = length <= 4;
          if (fits(length, shortest ? std::numeric_limits<double>::infinity() : tolerance) || shortest) {
            good = length;
            piece = trial;
          } else {
            bad = length;
            length = std::max(4.0, length / 2);
          }
        }
        while (from + good < stop && bad == std::numeric_limits<double>::infinity()) {
          if (fits(2 * good, tolerance)) { good *= 2; piece = trial; }
          else bad = 2 * good;
        }
        for (int i = 0; i < 8 && from + good < stop && bad - good > 4; ++i) {
          const double middle = good + (bad - good) / 2;
          if (fits(middle, tolerance)) { good = middle; piece = trial; }
          else bad = middle;
        }
        pieces_.push_back(piece);
        length = good;
        from = std::min(from + good, stop);
      }
    }
    return true;
  }

  void emit() {
    rows_.clear();
    const auto rounded = [&](double x) { return static_cast<int32_t>(std::floor(code(x) + 0.5)); };
    rows_.push_back({std::numeric_limits<int32_t>::min(), 0, rounded(lowest)});
    for (const Piece& p : pieces_) {
      const double y = p.at + 0.5;
      double whole = std::floor(y), x = p.x;
      if (p.line.step < 0) whole = std::ceil(y);
      // The fraction of a code, as a base so much further left.
      if (p.line.step != 0 && std::fabs((y - whole) / p.line.step) < 0x1p30) x -= (y - whole) / p.line.step;
      else whole = std::floor(y);
      add(x, p.line, static_cast<int32_t>(whole));
    }
    if (end_ < highest && end_ > begin_) add(end_, {}, rounded(highest));
    if (rows_.size() == 1) rows_.push_back({0, 0, rounded(0)});
  }

  // At the nearest legal base beyond the last one; where that is not where it was meant, y follows the line.
  void add(double x, const Line& line, int32_t y) {
    const double last = static_cast<double>(rows_.back().x_base & ~3);
    double base = 4 * std::floor(x / 4 + 0.5);
    if (base <= last) {
      base = last + 4;
      y += static_cast<int32_t>(std::floor(line.step * (base - x)));
    }
    if (base > highest - 3) return;
    rows_.push_back({static_cast<int32_t>(base) | line.code, line.slope, y});
  }

  const Target& t_;
  size_t most_;
  double begin_ = 0, end_ = 0;
  std::vector<double> stops_;
  std::vector<Piece> pieces_;
  std::vector<Segment> rows_;
};

}  // namespace

Fit fit_segments(const Target& target, int most) { return Fitter(target, static_cast<size_t>(most)).run(); }
double fit_error(const Target& target, const Fit& fit) { return Fitter(target, fit.rows.size() + 2).measured(fit.rows); }

}  // namespace quern_gna
