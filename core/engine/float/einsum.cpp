// Einsum, every form: operands from left to right, each joined with what the ones before it gave and summed over the labels
// that nobody needs any more, in double (integers wrap). Forms that are matrix products are rewritten before (pass_einsum.cpp);
// this is plain.
#include <algorithm>
#include <type_traits>
#include <vector>

#include "core/engine/float/families.hpp"
#include "core/engine/float/strided.hpp"
#include "core/graph/einsum.hpp"

namespace quern::own {
namespace {

template <class T> using SumOf = std::conditional_t<std::is_floating_point_v<T>, double, uint64_t>;

// A tensor by label: how far its elements lie apart; 0 for labels it has not, and where it is stretched.
template <class T>
struct Labelled { const T* data; Dims strides; };

// A repeated label walks the diagonal: its strides add up.
template <class T>
Labelled<T> labelled(const TensorView& view, const std::vector<int>& term, int labels) {
  Labelled<T> out{view.as<const T>(), Dims(static_cast<size_t>(labels), 0)};
  for (size_t a = 0; a < term.size(); ++a)
    if (view.dims[a] != 1) out.strides[static_cast<size_t>(term[a])] += view.strides[a];
  return out;
}

// out (row major by `kept`) = sum over `summed` of a * b.
template <class A, class B, class O>
void join(const Labelled<A>& a, const Labelled<B>& b, const Dims& size, const std::vector<int>& kept, const std::vector<int>& summed, O* out) {
  using Acc = SumOf<O>;
  const auto pick = [&](const std::vector<int>& labels, const Dims& from) {
    Dims d;
    for (int l : labels) d.push_back(from[static_cast<size_t>(l)]);
    return d;
  };
  const Dims outer = pick(kept, size), inner = pick(summed, size);
  const Dims oa = pick(kept, a.strides), ob = pick(kept, b.strides), ia = pick(summed, a.strides), ib = pick(summed, b.strides);
  if (element_count(outer) == 0) return;
  const bool nothing = element_count(inner) == 0;
  Odometer at_a(outer, oa), at_b(outer, ob);
  do {
    Acc sum{0};
    if (!nothing) {
      Odometer in_a(inner, ia), in_b(inner, ib);
      do {
        sum += static_cast<Acc>(a.data[at_a.offset + in_a.offset]) * static_cast<Acc>(b.data[at_b.offset + in_b.offset]);
        in_b.next();
      } while (in_a.next());
    }
    *out++ = static_cast<O>(sum);
    at_b.next();
  } while (at_a.next());
}

// Labels of `here` that are (or are not) needed by the result or by a later operand.
std::vector<int> choose(const Einsum& e, const std::vector<char>& here, size_t next, bool needed) {
  std::vector<char> later(static_cast<size_t>(e.labels), 0);
  for (size_t t = next; t < e.terms.size(); ++t)
    for (int l : e.terms[t]) later[static_cast<size_t>(l)] = 1;
  for (int l : e.output) later[static_cast<size_t>(l)] = 1;
  std::vector<int> out;
  for (int l = 0; l < e.labels; ++l)
    if (here[static_cast<size_t>(l)] && (later[static_cast<size_t>(l)] != 0) == needed) out.push_back(l);
  return out;
}

template <class T>
void run(const Einsum& e, const Call& c) {
  using Acc = SumOf<T>;
  Dims size(static_cast<size_t>(e.labels), 1);
  for (size_t t = 0; t < e.terms.size(); ++t)
    for (size_t a = 0; a < e.terms[t].size(); ++a)
      if (const int64_t d = c.in[t].dims[a]; d != 1) size[static_cast<size_t>(e.terms[t][a])] = d;
  const Acc one{1};
  std::vector<Acc> before;                                    // what the operands so far gave
  Labelled<Acc> left{&one, Dims(static_cast<size_t>(e.labels), 0)};
  std::vector<char> here(static_cast<size_t>(e.labels), 0);   // labels of `left`
  for (size_t t = 0; t < e.terms.size(); ++t) {
    for (int l : e.terms[t]) here[static_cast<size_t>(l)] = 1;
    const Labelled<T> right = labelled<T>(c.in[t], e.terms[t], e.labels);
    const std::vector<int> summed = choose(e, here, t + 1, false);
    if (t + 1 == e.terms.size()) {
      join<Acc, T, T>(left, right, size, e.output, summed, c.out[0].template as<T>());
      return;
    }
    const std::vector<int> kept = choose(e, here, t + 1, true);
    Dims dims;
    for (int l : kept) dims.push_back(size[static_cast<size_t>(l)]);
    std::vector<Acc> result(static_cast<size_t>(element_count(dims)));
    join<Acc, T, Acc>(left, right, size, kept, summed, result.data());
    before = std::move(result);
    left = {before.data(), Dims(static_cast<size_t>(e.labels), 0)};
    std::fill(here.begin(), here.end(), 0);
    int64_t stride = 1;
    for (size_t i = kept.size(); i-- > 0;) {
      const auto l = static_cast<size_t>(kept[i]);
      here[l] = 1;
      if (size[l] != 1) left.strides[l] = stride;
      stride *= size[l];
    }
  }
}

Made einsum(const Op& op) {
  std::vector<int64_t> ranks;
  for (size_t i = 0; i < op.slots(); ++i) ranks.push_back(op.rank(i));
  Einsum e;
  try {
    e = parse_einsum(op.node().text("equation", ""), ranks);
  } catch (const Error& error) {
    op.fail(error.message());
  }
  Made made;
  dispatch<float, double, QUERN_OWN_INTEGERS>(op.type(), [&](auto tag) {
    made = op.kernel(Layout::row_major, [e](const Call& c) { run<decltype(tag)>(e, c); });
  });
  return made;
}

constexpr Entry entries[] = {{"", "Einsum", einsum}};

}  // namespace

std::span<const Entry> einsum_ops() { return entries; }

}  // namespace quern::own
