// The element-wise part of the recurrent operators: activations and the cells of one row.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/engine/float/functions.hpp"
#include "core/engine/float/recurrent.hpp"

namespace quern::own {
namespace {

using Kind = CellFunction::Kind;

// Defaults as the operators of the same names have them; where ONNX states none, the neutral constant.
struct Known { const char* name; Kind kind; bool alpha, beta; float alpha_default, beta_default; };
constexpr Known known[] = {
    {"Sigmoid", Kind::sigmoid, false, false, 0, 0},        {"Tanh", Kind::tanh, false, false, 0, 0},
    {"Relu", Kind::relu, false, false, 0, 0},              {"Affine", Kind::affine, true, true, 1, 0},
    {"LeakyRelu", Kind::leaky_relu, true, false, 0.01f, 0}, {"ThresholdedRelu", Kind::thresholded_relu, true, false, 1, 0},
    {"ScaledTanh", Kind::scaled_tanh, true, true, 1, 1},   {"HardSigmoid", Kind::hard_sigmoid, true, true, 0.2f, 0.5f},
    {"Elu", Kind::elu, true, false, 1, 0},                 {"Softsign", Kind::softsign, false, false, 0, 0},
    {"Softplus", Kind::softplus, false, false, 0, 0},
};

std::string lower(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return text;
}

template <class T, class F>
void each(T* x, int64_t n, const F& f) {
  for (int64_t i = 0; i < n; ++i) x[i] = f(x[i]);
}

// Functions of double, rounded once.
template <class T, class F>
void in_double(T* x, int64_t n, const F& f) {
  each(x, n, [&](T v) { return static_cast<T>(f(static_cast<double>(v))); });
}

void sigmoid(float* x, int64_t n) { portable::sigmoid_array(x, x, n); }
void sigmoid(double* x, int64_t n) { each(x, n, [](double v) { return portable::sigmoid(v); }); }
void tanh(float* x, int64_t n) { portable::tanh_array(x, x, n); }
void tanh(double* x, int64_t n) { each(x, n, [](double v) { return portable::tanh(v); }); }

template <class T>
void apply_to(const CellFunction& f, T* x, int64_t n) {
  const T a = static_cast<T>(f.alpha), b = static_cast<T>(f.beta);
  switch (f.kind) {
    case Kind::sigmoid: sigmoid(x, n); return;
    case Kind::tanh: tanh(x, n); return;
    case Kind::relu: each(x, n, [](T v) { return v < 0 ? T{0} : v; }); return;
    case Kind::affine: each(x, n, [=](T v) { return a * v + b; }); return;
    case Kind::leaky_relu: each(x, n, [=](T v) { return v < 0 ? a * v : v; }); return;
    case Kind::thresholded_relu: each(x, n, [=](T v) { return v > a ? v : T{0}; }); return;
    case Kind::scaled_tanh:
      each(x, n, [=](T v) { return b * v; });
      tanh(x, n);
      each(x, n, [=](T v) { return a * v; });
      return;
    case Kind::hard_sigmoid: each(x, n, [=](T v) { const T y = a * v + b; return y < 0 ? T{0} : y > 1 ? T{1} : y; }); return;
    case Kind::elu: in_double(x, n, [&](double v) { return v < 0 ? static_cast<double>(f.alpha) * expm1(v) : v; }); return;
    case Kind::softsign: each(x, n, [](T v) { return v / (1 + std::fabs(v)); }); return;
    case Kind::softplus: in_double(x, n, [](double v) { return softplus(v); }); return;
  }
}

}  // namespace

void CellFunction::apply(float* x, int64_t count) const { apply_to(*this, x, count); }
void CellFunction::apply(double* x, int64_t count) const { apply_to(*this, x, count); }

std::vector<CellFunction> cell_functions(const Op& op, int64_t directions) {
  const Node& node = op.node();
  const size_t each_direction = node.op == "LSTM" ? 3 : node.op == "GRU" ? 2 : 1;
  std::vector<std::string> names;
  if (const auto it = node.attributes.find("activations"); it != node.attributes.end()) {
    const auto* list = std::get_if<std::vector<std::string>>(&it->second);
    if (!list) op.fail("'activations' is no list of names");
    names = *list;
  }
  if (names.empty())
    for (int64_t d = 0; d < directions; ++d)
      for (size_t i = 0; i < each_direction; ++i) names.push_back(i == 0 && each_direction > 1 ? "Sigmoid" : "Tanh");
  if (names.size() != each_direction * static_cast<size_t>(directions))
    op.fail(fmt::format("{} has {} activations where {} direction(s) need {} each", node.op, names.size(), directions, each_direction));
  const auto alpha = node.reals("activation_alpha"), beta = node.reals("activation_beta");
  size_t next_alpha = 0, next_beta = 0;
  std::vector<CellFunction> functions;
  for (const auto& name : names) {
    const auto* found = std::find_if(std::begin(known), std::end(known), [&](const Known& k) { return lower(k.name) == lower(name); });
    if (found == std::end(known)) {
      std::string all;
      for (const Known& k : known) all += (all.empty() ? "" : ", ") + std::string(k.name);
      throw Error(ErrorCode::model, fmt::format("{} has an unknown activation '{}'", node.op, name)).at_node(node.name).hint("ONNX has " + all);
    }
    CellFunction f{found->kind, found->alpha_default, found->beta_default};
    if (found->alpha && next_alpha < alpha.size()) f.alpha = alpha[next_alpha++];
    if (found->beta && next_beta < beta.size()) f.beta = beta[next_beta++];
    functions.push_back(f);
  }
  return functions;
}

template <class T>
void Cell<T>::bound(T* x, int64_t count) const {
  if (clip > 0) each(x, count, [limit = clip](T v) { return v < -limit ? -limit : v > limit ? limit : v; });
}

template <class T>
void Cell<T>::lstm(T* gates, T* c, T* h) const {
  const int64_t n = hidden;
  T *i = gates, *o = gates + n, *f = gates + 2 * n, *g = gates + 3 * n;
  const T *pi = peephole, *po = peephole + n, *pf = peephole + 2 * n;
  if (peephole)
    for (int64_t j = 0; j < n; ++j) i[j] += pi[j] * c[j];
  bound(i, n);
  functions[0].apply(i, n);
  if (couple) {
    for (int64_t j = 0; j < n; ++j) f[j] = 1 - i[j];
  } else {
    if (peephole)
      for (int64_t j = 0; j < n; ++j) f[j] += pf[j] * c[j];
    bound(f, n);
    functions[0].apply(f, n);
  }
  bound(g, n);
  functions[1].apply(g, n);
  for (int64_t j = 0; j < n; ++j) c[j] = f[j] * c[j] + i[j] * g[j];
  if (peephole)
    for (int64_t j = 0; j < n; ++j) o[j] += po[j] * c[j];
  bound(o, n);
  functions[0].apply(o, n);
  std::copy_n(c, n, h);
  functions[2].apply(h, n);
  for (int64_t j = 0; j < n; ++j) h[j] = o[j] * h[j];
}

template <class T>
void Cell<T>::gru_reset(T* gates, const T* h, T* reset_h) const {
  bound(gates, 2 * hidden);
  functions[0].apply(gates, 2 * hidden);
  if (reset_after) return;
  const T* r = gates + hidden;
  for (int64_t j = 0; j < hidden; ++j) reset_h[j] = r[j] * h[j];
}

template <class T>
void Cell<T>::gru(const T* gates, T* candidate, const T* late, T* h) const {
  const T *z = gates, *r = gates + hidden;
  if (reset_after)
    for (int64_t j = 0; j < hidden; ++j) candidate[j] += r[j] * late[j];
  bound(candidate, hidden);
  functions[1].apply(candidate, hidden);
  for (int64_t j = 0; j < hidden; ++j) h[j] = (1 - z[j]) * candidate[j] + z[j] * h[j];
}

template <class T>
void Cell<T>::rnn(T* gates, T* h) const {
  bound(gates, hidden);
  functions[0].apply(gates, hidden);
  std::copy_n(gates, hidden, h);
}

template struct Cell<float>;
template struct Cell<double>;

}  // namespace quern::own
