#include "plugins/common/moves.hpp"

namespace quern_common {
namespace {

[[noreturn]] void unfit(const OpView& op, const char* what) { throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": " + what); }

}  // namespace

std::vector<Piece> pieces_of(const Selection& selection, const quern_tensor& in, const quern_tensor& out) {
  const size_t rank = out.rank;
  int64_t base = 0;
  for (size_t a = 0; a < in.rank; ++a)
    if (selection.dropped[a] >= 0) base += selection.dropped[a] * in.strides[a];
  std::vector<Piece> pieces;
  for (const auto& runs : selection.axes)
    if (runs.empty()) return pieces;
  std::vector<size_t> at(rank, 0);  // which run of each axis
  for (;;) {
    Piece p{Dims(rank), Dims(out.strides, out.strides + rank), Dims(rank, 0), 0, base, false};
    for (size_t a = 0; a < rank; ++a) {
      const Run& r = selection.axes[a][at[a]];
      p.dims[a] = r.count;
      p.out_offset += r.out * out.strides[a];
      p.fill = p.fill || r.fill;
      if (selection.input_axis[a] < 0) continue;
      const int64_t stride = in.strides[selection.input_axis[a]];
      p.in[a] = stride * r.step;
      p.in_offset += stride * r.in;
    }
    if (p.fill) p.in.assign(rank, 0);
    pieces.push_back(std::move(p));
    size_t a = rank;
    while (a-- > 0) {
      if (++at[a] < selection.axes[a].size()) break;
      at[a] = 0;
    }
    if (a == static_cast<size_t>(-1)) return pieces;
  }
}

bool is_blocks(std::string_view op) { return op == "DepthToSpace" || op == "SpaceToDepth"; }

Blocks blocks_of(const OpView& op) {
  Blocks b;
  b.to_space = op.op() == "DepthToSpace";
  b.size = op.node(0).integer("blocksize", 0);
  b.by_columns = op.node(0).text("mode", "DCR") == "CRD";
  const Dims in = dims_of(op.input("input")), out = dims_of(op.output());
  const Dims &deep = b.to_space ? in : out, &wide = b.to_space ? out : in;
  if (in.size() != 4 || out.size() != 4 || b.size < 1 || deep[0] != wide[0] || deep[1] != wide[1] * b.size * b.size || deep[2] * b.size != wide[2] || deep[3] * b.size != wide[3])
    unfit(op, "input, output and blocksize do not fit each other");
  b.dims = {deep[0], wide[1], deep[2], b.size, deep[3], b.size};
  return b;
}

Piece piece_of(const Blocks& b, const quern_tensor& in, const quern_tensor& out) {
  const quern_tensor &deep = b.to_space ? in : out, &wide = b.to_space ? out : in;
  const int64_t c = deep.strides[1], size = b.size;
  const int64_t row = b.by_columns ? size * c : size * b.dims[1] * c, column = b.by_columns ? c : b.dims[1] * c, channel = b.by_columns ? size * size * c : c;
  const Dims d{deep.strides[0], channel, deep.strides[2], row, deep.strides[3], column};
  const Dims w{wide.strides[0], wide.strides[1], size * wide.strides[2], wide.strides[2], size * wide.strides[3], wide.strides[3]};
  return {b.dims, b.to_space ? w : d, b.to_space ? d : w, 0, 0, false};
}

Join join_of(const OpView& op) {
  const Dims out = dims_of(op.output());
  const auto rank = static_cast<int64_t>(out.size());
  int64_t axis = op.node(0).integer("axis", 0);
  if (axis < 0) axis += rank;
  if (axis < 0 || axis >= rank) unfit(op, "axis is outside of the rank");
  Join join;
  join.axis = static_cast<size_t>(axis);
  int64_t begin = 0;
  for (int32_t index : op.node(0).inputs()) {
    if (index < 0 || static_cast<size_t>(index) >= op.inputs()) unfit(op, "an input is missing");
    const OperandView o = op.input_at(static_cast<size_t>(index));
    Part p;
    p.dims = dims_of(o);
    p.begin = begin;
    for (size_t i = 0; i < p.dims.size(); ++i)
      if (p.dims.size() != out.size() || (i != join.axis && p.dims[i] != out[i])) unfit(op, "an input does not fit the output");
    begin += p.dims[join.axis];
    if (o.is_constant()) {
      p.constant = codes_of(o);
    } else {
      p.input = 0;
      for (int32_t k = 0; k < index; ++k) p.input += op.input_at(static_cast<size_t>(k)).is_constant() ? 0 : 1;
    }
    join.parts.push_back(std::move(p));
  }
  if (begin != out[join.axis]) unfit(op, "the inputs do not fill the output");
  return join;
}

Dims order_of(const OpView& op) {
  const Dims in = dims_of(op.input("input")), out = dims_of(op.output());
  const size_t rank = in.size();
  Dims order(rank);
  for (size_t i = 0; i < rank; ++i) order[i] = static_cast<int64_t>(rank - 1 - i);
  order = op.node(0).integers("perm", order);
  std::vector<bool> seen(rank, false);
  if (order.size() != rank || out.size() != rank) unfit(op, "perm does not fit the rank");
  for (size_t i = 0; i < rank; ++i) {
    const int64_t a = order[i];
    if (a < 0 || a >= static_cast<int64_t>(rank) || seen[static_cast<size_t>(a)] || in[static_cast<size_t>(a)] != out[i])
      unfit(op, "perm is not a permutation that gives the output's shape");
    seen[static_cast<size_t>(a)] = true;
  }
  return order;
}

std::vector<uint8_t> codes_of(const OperandView& operand) {
  const auto t = operand.tensor();
  const auto* p = static_cast<const uint8_t*>(t.data());
  std::vector<uint8_t> v(p, p + t.count());
  v.resize(v.size() + 64);
  return v;
}

}  // namespace quern_common
