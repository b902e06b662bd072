// LSTM, GRU and RNN in f32 and f64; see recurrent.hpp. With sequence_lens a row stops at its length: its outputs beyond are 0,
// its last state is that of its last step, and the reverse direction begins there. Clip bounds what the gates' activations
// are given, not the cell state.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "core/engine/float/families.hpp"
#include "core/engine/float/recurrent.hpp"

namespace quern::own {
namespace {

enum Slot : size_t { slot_x, slot_w, slot_r, slot_b, slot_lens, slot_h, slot_c, slot_p };
constexpr int64_t rows_at_once = 256;  // of the input projection

// What a node says, and its constant weights in panels.
template <class T>
struct Network {
  CellKind kind = CellKind::rnn;
  int64_t directions = 1, steps = 0, batch = 0, inputs = 0, hidden = 0, gates = 1;
  bool batch_first = false, reset_after = false, couple = false;
  bool reverse_first = false;  // direction 0 runs backwards
  float clip = 0;
  std::vector<CellFunction> functions;
  std::vector<int64_t> parts;               // columns of each part of the gates
  std::vector<Panels<T>> w, r;              // by direction and part; empty where the weights are no constants
  bool reversed(int64_t d) const { return reverse_first || d == 1; }

  int64_t width() const {                    // of a row of gates
    int64_t n = 0;
    for (int64_t p : parts) n += padded(p);
    return n;
  }
  int64_t chunk() const { return std::clamp<int64_t>(rows_at_once / std::max<int64_t>(batch, 1), 1, std::max<int64_t>(steps, 1)); }
};

// The workspace of a run, carved from one piece; every part begins on 64 bytes.
template <class T>
struct Memory {
  T *gates, *h, *c, *reset_h, *late, *bias, *late_bias;
  std::vector<PanelView<T>> w, r;            // of the direction at hand
  RowPair<T>* rows;
  size_t bytes = 0;
  T *packed_w = nullptr, *packed_r = nullptr;

  Memory(const Network<T>& n, char* base) {
    const int64_t width = n.width(), last = padded(n.hidden);
    gates = take<T>(base, n.chunk() * n.batch * width);
    h = take<T>(base, n.batch * n.hidden);
    c = take<T>(base, n.kind == CellKind::lstm ? n.batch * n.hidden : 0);
    reset_h = take<T>(base, n.kind == CellKind::gru && !n.reset_after ? n.batch * n.hidden : 0);
    late = take<T>(base, n.reset_after ? n.batch * last : 0);
    bias = take<T>(base, width);
    late_bias = take<T>(base, n.reset_after ? last : 0);
    rows = take<RowPair<T>>(base, n.chunk() * n.batch);
    if (n.w.empty()) packed_w = take<T>(base, width * n.inputs);
    if (n.r.empty()) packed_r = take<T>(base, width * n.hidden);
  }

 private:
  template <class U>
  U* take(char* base, int64_t count) {
    U* at = reinterpret_cast<U*>(base + bytes);
    bytes += (static_cast<size_t>(count) * sizeof(U) + 63) / 64 * 64;
    return at;
  }
};

// The weights of one direction, part by part: those packed before, or packed now.
template <class T>
void weights_of(const Network<T>& n, const std::vector<Panels<T>>& ready, const TensorView& view, int64_t d, int64_t depth, T* packed,
                std::vector<PanelView<T>>& out) {
  out.clear();
  int64_t column = 0;
  for (size_t p = 0; p < n.parts.size(); column += n.parts[p], ++p) {
    if (!ready.empty()) {
      out.push_back(ready[static_cast<size_t>(d) * n.parts.size() + p].view());
      continue;
    }
    pack(view.as<const T>() + (d * n.gates * n.hidden + column) * depth, n.parts[p], depth, packed);
    out.push_back({packed, n.parts[p], depth});
    packed += padded(n.parts[p]) * depth;
  }
}

// [Wb, Rb] of one direction to a row of gates: their sum, but for gate h of a GRU that resets afterwards (Rb apart).
template <class T>
void bias_of(const Network<T>& n, const TensorView* b, int64_t d, Memory<T>& m) {
  std::fill_n(m.bias, n.width(), T{0});
  if (n.reset_after) std::fill_n(m.late_bias, padded(n.hidden), T{0});
  if (!b) return;
  const int64_t count = n.gates * n.hidden;
  const T *wb = b->as<const T>() + 2 * d * count, *rb = wb + count;
  int64_t from = 0, to = 0;
  for (size_t p = 0; p < n.parts.size(); ++p) {
    const bool apart = n.reset_after && p == 1;
    for (int64_t j = 0; j < n.parts[p]; ++j) m.bias[to + j] = apart ? wb[from + j] : wb[from + j] + rb[from + j];
    if (apart) std::copy_n(rb + from, n.parts[p], m.late_bias);
    from += n.parts[p];
    to += padded(n.parts[p]);
  }
}

std::vector<int64_t> lengths_of(const Call& call, int64_t steps, int64_t batch) {
  std::vector<int64_t> lengths(static_cast<size_t>(batch), steps);
  if (call.in.size() <= slot_lens || !call.in[slot_lens].data) return lengths;
  const int32_t* given = call.in[slot_lens].as<const int32_t>();
  for (size_t b = 0; b < lengths.size(); ++b) {
    lengths[b] = given[b];
    if (lengths[b] < 0 || lengths[b] > steps)
      throw Error(ErrorCode::data, fmt::format("sequence_lens[{}] is {}, but the input has {} steps", b, lengths[b], steps));
  }
  return lengths;
}

template <class T>
class Run {
 public:
  Run(const Network<T>& network, const Call& call) : n_(network), call_(call), m_(network, static_cast<char*>(call.workspace)),
                                                     lengths_(lengths_of(call, network.steps, network.batch)) {}

  void direction(int64_t d) {
    weights_of(n_, n_.w, call_.in[slot_w], d, n_.inputs, m_.packed_w, m_.w);
    weights_of(n_, n_.r, call_.in[slot_r], d, n_.hidden, m_.packed_r, m_.r);
    bias_of(n_, given(slot_b), d, m_);
    const Cell<T> cell{.kind = n_.kind, .hidden = n_.hidden, .functions = functions(d), .clip = static_cast<T>(n_.clip), .couple = n_.couple,
                       .reset_after = n_.reset_after, .peephole = given(slot_p) ? given(slot_p)->template as<const T>() + d * 3 * n_.hidden : nullptr};
    initial(slot_h, d, m_.h);
    if (n_.kind == CellKind::lstm) initial(slot_c, d, m_.c);
    const int64_t chunk = n_.chunk(), longest = lengths_.empty() ? 0 : *std::max_element(lengths_.begin(), lengths_.end());
    for (int64_t first = 0; first < longest; first += chunk) {
      const int64_t count = std::min(chunk, longest - first);
      project(d, first, count);
      for (int64_t t = first; t < first + count; ++t) step(cell, d, t, m_.gates + (t - first) * n_.batch * n_.width());
    }
    if (T* y = out(0))
      for (int64_t b = 0; b < n_.batch; ++b)
        for (int64_t time = lengths_[static_cast<size_t>(b)]; time < n_.steps; ++time) std::fill_n(y + place(d, time, b), n_.hidden, T{0});
    final(1, d, m_.h);
    if (n_.kind == CellKind::lstm) final(2, d, m_.c);
  }

 private:
  const TensorView* given(size_t slot) const { return slot < call_.in.size() && call_.in[slot].data ? &call_.in[slot] : nullptr; }
  T* out(size_t i) const { return i < call_.out.size() && call_.out[i].data ? call_.out[i].template as<T>() : nullptr; }
  std::span<const CellFunction> functions(int64_t d) const {
    const size_t each = n_.functions.size() / static_cast<size_t>(n_.directions);
    return std::span(n_.functions).subspan(static_cast<size_t>(d) * each, each);
  }
  int64_t place(int64_t d, int64_t time, int64_t b) const {  // in Y
    return (n_.batch_first ? (b * n_.steps + time) * n_.directions + d : (time * n_.directions + d) * n_.batch + b) * n_.hidden;
  }
  int64_t state_place(int64_t d, int64_t b) const { return (n_.batch_first ? b * n_.directions + d : d * n_.batch + b) * n_.hidden; }
  int64_t time_of(int64_t d, int64_t t, int64_t b) const { return n_.reversed(d) ? lengths_[static_cast<size_t>(b)] - 1 - t : t; }

  void initial(size_t slot, int64_t d, T* state) {
    const TensorView* from = given(slot);
    for (int64_t b = 0; b < n_.batch; ++b) {
      if (from) std::copy_n(from->template as<const T>() + state_place(d, b), n_.hidden, state + b * n_.hidden);
      else std::fill_n(state + b * n_.hidden, n_.hidden, T{0});
    }
  }
  void final(size_t output, int64_t d, const T* state) {
    if (T* y = out(output))
      for (int64_t b = 0; b < n_.batch; ++b) std::copy_n(state + b * n_.hidden, n_.hidden, y + state_place(d, b));
  }

  // The products of all parts; `row.out` of rows_ is a row of gates.
  void products(const std::vector<PanelView<T>>& panels, int64_t count) {
    for (size_t p = 0; p < panels.size(); ++p) {
      multiply(panels[p], m_.rows, count);
      for (int64_t i = 0; i < count; ++i) m_.rows[i].out += padded(n_.parts[p]);
    }
  }

  void project(int64_t d, int64_t first, int64_t count) {
    const T* x = call_.in[slot_x].template as<const T>();
    int64_t rows = 0;
    for (int64_t t = first; t < first + count; ++t)
      for (int64_t b = 0; b < n_.batch; ++b) {
        if (t >= lengths_[static_cast<size_t>(b)]) continue;
        const int64_t time = time_of(d, t, b), row = n_.batch_first ? b * n_.steps + time : time * n_.batch + b;
        T* gates = m_.gates + ((t - first) * n_.batch + b) * n_.width();
        std::copy_n(m_.bias, n_.width(), gates);
        m_.rows[rows++] = {x + row * n_.inputs, gates};
      }
    products(m_.w, rows);
  }

  void step(const Cell<T>& cell, int64_t d, int64_t t, T* gates) {
    const int64_t width = n_.width(), h = n_.hidden, early = padded(n_.parts[0]);
    const auto for_rows = [&](auto&& f) {
      int64_t row = 0;
      for (int64_t b = 0; b < n_.batch; ++b)
        if (t < lengths_[static_cast<size_t>(b)]) f(row++, b, gates + b * width);
      return row;
    };
    if (n_.kind == CellKind::gru) {
      int64_t rows = for_rows([&](int64_t row, int64_t b, T* g) { m_.rows[row] = {m_.h + b * h, g}; });
      multiply(m_.r[0], m_.rows, rows);
      rows = for_rows([&](int64_t row, int64_t b, T* g) {
        cell.gru_reset(g, m_.h + b * h, m_.reset_h + b * h);
        T* late = m_.late + b * padded(h);
        if (n_.reset_after) std::copy_n(m_.late_bias, padded(h), late);
        m_.rows[row] = n_.reset_after ? RowPair<T>{m_.h + b * h, late} : RowPair<T>{m_.reset_h + b * h, g + early};
      });
      multiply(m_.r[1], m_.rows, rows);
      for_rows([&](int64_t, int64_t b, T* g) { cell.gru(g, g + early, m_.late + b * padded(h), m_.h + b * h); });
    } else {
      const int64_t rows = for_rows([&](int64_t row, int64_t b, T* g) { m_.rows[row] = {m_.h + b * h, g}; });
      multiply(m_.r[0], m_.rows, rows);
      for_rows([&](int64_t, int64_t b, T* g) {
        if (n_.kind == CellKind::lstm) cell.lstm(g, m_.c + b * h, m_.h + b * h);
        else cell.rnn(g, m_.h + b * h);
      });
    }
    if (T* y = out(0)) for_rows([&](int64_t, int64_t b, T*) { std::copy_n(m_.h + b * h, h, y + place(d, time_of(d, t, b), b)); });
  }

  const Network<T>& n_;
  const Call& call_;
  Memory<T> m_;
  std::vector<int64_t> lengths_;
};

template <class T>
std::vector<Panels<T>> packed(const Network<T>& n, const Tensor* weights, int64_t depth) {
  std::vector<Panels<T>> out;
  if (!weights) return out;
  const T* at = weights->values<T>().data();
  for (int64_t d = 0; d < n.directions; ++d)
    for (int64_t columns : n.parts) {
      Panels<T>& panels = out.emplace_back(columns, depth);
      pack(at, columns, depth, panels.data.data());
      at += columns * depth;
    }
  return out;
}

template <class T>
PreparedKernel prepared(const Op& op, CellKind kind) {
  const Node& node = op.node();
  auto network = std::make_shared<Network<T>>();
  Network<T>& n = *network;
  n.kind = kind;
  n.gates = kind == CellKind::lstm ? 4 : kind == CellKind::gru ? 3 : 1;
  n.batch_first = node.integer("layout", 0) != 0;
  n.reverse_first = node.text("direction", "forward") == "reverse";
  n.directions = op.in(slot_r).dims[0];
  n.hidden = op.in(slot_r).dims[2];
  const Dims& x = op.in(slot_x).dims;
  n.steps = x[n.batch_first ? 1 : 0];
  n.batch = x[n.batch_first ? 0 : 1];
  n.inputs = x[2];
  n.clip = node.real("clip", 0);
  n.couple = kind == CellKind::lstm && node.integer("input_forget", 0) != 0;
  n.reset_after = kind == CellKind::gru && node.integer("linear_before_reset", 0) != 0;
  n.functions = cell_functions(op, n.directions);
  if (kind == CellKind::gru) n.parts = {2 * n.hidden, n.hidden};
  else n.parts = {n.gates * n.hidden};
  n.w = packed(n, op.constant(slot_w), n.inputs);
  n.r = packed(n, op.constant(slot_r), n.hidden);
  const size_t bytes = Memory<T>(n, nullptr).bytes;
  return op.kernel(Layout::row_major, [network](const Call& call) {
    Run<T> run(*network, call);
    for (int64_t d = 0; d < network->directions; ++d) run.direction(d);
  }, bytes);
}

template <CellKind kind>
Made recurrent(const Op& op) {
  for (size_t i = 1; i < op.slots(); ++i)
    if (i != slot_lens && op.has(i) && op.type(i) != op.type(0)) op.fail("the inputs of " + op.node().op + " have different types");
  if (op.type() == DType::f32) return prepared<float>(op, kind);
  if (op.type() == DType::f64) return prepared<double>(op, kind);
  return {};
}

constexpr Entry entries[] = {
    {"", "LSTM", recurrent<CellKind::lstm>}, {"", "GRU", recurrent<CellKind::gru>}, {"", "RNN", recurrent<CellKind::rnn>},
};

}  // namespace

std::span<const Entry> recurrent_ops() { return entries; }

}  // namespace quern::own
