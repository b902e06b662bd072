// Matrix products and normalizations.
#include <fmt/format.h>

#include "core/base/error.hpp"
#include "core/graph/einsum.hpp"
#include "core/graph/shape_rules.hpp"

namespace quern::shape_rules {
namespace {

Outputs gemm(const RuleScope& s) {
  s.in(0), s.in(1);
  s.need_rank(0, 2, 2);
  s.need_rank(1, 2, 2);
  const DType type = s.same_type(0, 3);
  const bool ta = s.node.integer("transA", 0) != 0, tb = s.node.integer("transB", 0) != 0;
  const Dims *a = s.dims(0), *b = s.dims(1), *c = s.dims(2);
  Dims out{a ? (*a)[ta ? 1 : 0] : -1, b ? (*b)[tb ? 0 : 1] : -1};
  const int64_t ka = a ? (*a)[ta ? 0 : 1] : -1, kb = b ? (*b)[tb ? 1 : 0] : -1;
  if (ka >= 0 && kb >= 0 && ka != kb)
    s.fail(fmt::format("inputs of shape {} and {} do not fit together", to_string(*a), to_string(*b)));
  if (c) {
    bool fits = c->size() <= 2;
    for (size_t i = 0; fits && i < c->size(); ++i) {
      const int64_t have = (*c)[c->size() - 1 - i], want = out[1 - i];
      fits = have == 1 || have < 0 || want < 0 || have == want;
    }
    if (!fits) s.fail(fmt::format("the bias of shape {} does not fit the output {}", to_string(*c), to_string(out)));
  }
  return {RuleScope::make(type, out)};
}

std::optional<Dims> product_dims(const RuleScope& s, size_t ia, size_t ib) {
  s.in(ia), s.in(ib);
  s.need_rank(ia, 1, 1000);
  s.need_rank(ib, 1, 1000);
  const Dims *pa = s.dims(ia), *pb = s.dims(ib);
  if (!pa || !pb) return {};
  Dims a = *pa, b = *pb;
  const bool row = a.size() == 1, column = b.size() == 1;
  if (row) a.insert(a.begin(), 1);
  if (column) b.push_back(1);
  const int64_t ka = a.back(), kb = b[b.size() - 2];
  if (ka >= 0 && kb >= 0 && ka != kb)
    s.fail(fmt::format("inputs of shape {} and {} do not fit together", to_string(*pa), to_string(*pb)));
  Dims out;
  try {
    out = broadcast(std::span(a).first(a.size() - 2), std::span(b).first(b.size() - 2));
  } catch (const Error&) {
    s.fail(fmt::format("inputs of shape {} and {} do not fit together", to_string(*pa), to_string(*pb)));
  }
  if (!row) out.push_back(a[a.size() - 2]);
  if (!column) out.push_back(b.back());
  return out;
}

Outputs matmul(const RuleScope& s) { return {RuleScope::make(s.same_type(0, 2), product_dims(s, 0, 1))}; }
Outputs matmul_integer(const RuleScope& s) { return {RuleScope::make(DType::s32, product_dims(s, 0, 1))}; }
Outputs qlinear_matmul(const RuleScope& s) { return {RuleScope::make(s.dtype(7), product_dims(s, 0, 3))}; }

void check_channels(const RuleScope& s, size_t first, size_t last) {
  const Dims* x = s.dims(0);
  if (!x || x->size() < 2 || (*x)[1] < 0) return;
  for (size_t i = first; i <= last; ++i)
    if (const Dims* p = s.dims(i); p && (p->size() != 1 || ((*p)[0] >= 0 && (*p)[0] != (*x)[1])))
      s.fail(fmt::format("input {} has shape {}; the {} channels of {} need [{}]", i, to_string(*p), (*x)[1], to_string(*x),
                         (*x)[1]));
}

Outputs batch_norm(const RuleScope& s) {
  for (size_t i = 0; i < 5; ++i) s.in(i);
  s.need_rank(0, 2, 1000);
  check_channels(s, 1, 4);
  Outputs out{s.like(0)};
  for (int i = 0; i < 4; ++i) out.push_back(s.like(i < 2 ? 3 + static_cast<size_t>(i) : 3));
  return out;
}

Outputs instance_norm(const RuleScope& s) {
  s.in(0), s.in(1), s.in(2);
  s.need_rank(0, 3, 1000);
  check_channels(s, 1, 2);
  return {s.like(0)};
}

Outputs group_norm(const RuleScope& s) {
  s.in(0), s.in(1), s.in(2);
  s.need_rank(0, 3, 1000);
  const int64_t groups = s.node.integer("num_groups", 0);
  if (groups < 1) s.fail("attribute 'num_groups' must be at least 1");
  if (const Dims* x = s.dims(0); x && (*x)[1] >= 0 && (*x)[1] % groups != 0)
    s.fail(fmt::format("{} channels can't be split into {} groups", (*x)[1], groups));
  return {s.like(0)};
}

Outputs layer_norm(const RuleScope& s) {
  s.in(0), s.in(1);
  KnownTensor statistics = RuleScope::make(DType::f32, std::nullopt);
  if (const Dims* x = s.dims(0)) {
    const auto rank = static_cast<int64_t>(x->size());
    Dims d = *x;
    for (auto i = static_cast<size_t>(s.axis(s.node.integer("axis", -1), rank)); i < d.size(); ++i) d[i] = 1;
    statistics.dims = d;
    for (size_t i = 1; i < 3; ++i) {
      if (!s.dims(i)) continue;
      Dims together;
      try {
        together = broadcast(*x, *s.dims(i));
      } catch (const Error& e) {
        s.fail(e.message());
      }
      if (together.size() != x->size()) s.fail(fmt::format("input {} has more dimensions than the data", i));
    }
  }
  return {s.like(0), statistics, statistics};
}

// Einsum: dimensions by label; a size of 1 stretches.
Outputs einsum(const RuleScope& s) {
  const DType type = s.same_type(0, s.count());
  Ints ranks;
  for (size_t i = 0; i < s.count(); ++i) {
    if (!s.dims(i)) return {RuleScope::make(type, std::nullopt)};
    ranks.push_back(static_cast<int64_t>(s.dims(i)->size()));
  }
  const std::string equation = s.node.text("equation", "");
  Einsum e;
  try {
    e = parse_einsum(equation, ranks);
  } catch (const Error& error) {
    s.fail(error.message());
  }
  Dims size(static_cast<size_t>(e.labels), 1);
  for (size_t i = 0; i < e.terms.size(); ++i)
    for (size_t axis = 0; axis < e.terms[i].size(); ++axis) {
      const auto label = static_cast<size_t>(e.terms[i][axis]);
      const int64_t have = (*s.dims(i))[axis];
      int64_t& v = size[label];
      if (v != 1 && have != 1 && v >= 0 && have >= 0 && v != have)
        s.fail(fmt::format("equation '{}': '{}' is {} in one input and {} in another", equation, e.names[label], v, have));
      if (v == 1 || (v < 0 && have != 1)) v = have;
    }
  Dims out;
  for (int label : e.output) out.push_back(size[static_cast<size_t>(label)]);
  return {RuleScope::make(type, out)};
}

}  // namespace

void add_linear_rules(RuleTable& t) {
  t.add("Gemm", gemm);
  t.add("MatMul", matmul);
  t.add("MatMulInteger", matmul_integer);
  t.add("QLinearMatMul", qlinear_matmul);
  t.add("BatchNormalization", batch_norm);
  t.add("InstanceNormalization", instance_norm);
  t.add("GroupNormalization", group_norm);
  t.add("LayerNormalization", layer_norm);
  t.add("Einsum", einsum);
}

}  // namespace quern::shape_rules
