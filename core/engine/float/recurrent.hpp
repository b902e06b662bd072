// What the recurrent kernels (LSTM, GRU, RNN) are made of; private to the float kernels.
//
// A run goes direction by direction. The input projection of many steps is one product (panels.hpp); then, step by step, the
// recurrent product is added to it and the cell turns the sums of its gates into the next state, in place:
//
//   gates[step][batch] = Wb (+ Rb) + X W;   per step: gates += H R;   cell.step(gates, ...): H (and C) of the next step
//
// Gates lie in parts, each padded to whole panels: LSTM i o f c in one part, GRU z r | h in two, RNN in one.
#pragma once
#include <string>
#include <vector>

#include "core/engine/float/op.hpp"
#include "core/engine/float/panels.hpp"

namespace quern::own {

// An activation of ONNX's recurrent operators with its constants.
struct CellFunction {
  enum class Kind { sigmoid, tanh, relu, affine, leaky_relu, thresholded_relu, scaled_tanh, hard_sigmoid, elu, softsign, softplus };
  Kind kind = Kind::tanh;
  float alpha = 0, beta = 0;
  void apply(float* x, int64_t count) const;   // in place
  void apply(double* x, int64_t count) const;
};
// `activations`, `activation_alpha` and `activation_beta` of the node: per direction, as many as the operator has. Constants
// are handed out in order to the functions that take them. Error(model) for unknown names and wrong counts.
std::vector<CellFunction> cell_functions(const Op& op, int64_t directions);

enum class CellKind { lstm, gru, rnn };

// Of one direction.
template <class T>
struct Cell {
  CellKind kind = CellKind::rnn;
  int64_t hidden = 0;
  std::span<const CellFunction> functions = {};
  T clip = 0;                       // 0: none
  bool couple = false;              // LSTM: f = 1 - i
  bool reset_after = false;         // GRU: linear_before_reset
  const T* peephole = nullptr;      // LSTM: i o f
  // Sums of the gates of one row -> the state, in place. `late`: GRU with reset_after, H R + Rb of gate h.
  void lstm(T* gates, T* c, T* h) const;
  void gru_reset(T* gates, const T* h, T* reset_h) const;  // z and r; without reset_after also r * h
  void gru(const T* gates, T* candidate, const T* late, T* h) const;
  void rnn(T* gates, T* h) const;

 private:
  void bound(T* x, int64_t count) const;
};

}  // namespace quern::own
