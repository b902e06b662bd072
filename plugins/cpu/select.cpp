// Kernels of Slice, Gather, Pad, Tile, Expand, DepthToSpace and SpaceToDepth; plugins/common/moves.hpp says what goes where.
#include "plugins/common/moves.hpp"

#include <algorithm>

#include "plugins/cpu/strided.hpp"
#include "plugins/cpu/writer.hpp"

namespace quern_cpu {
namespace {

class SelectKernel : public Kernel {
 public:
  SelectKernel(const OpView& op, uint32_t threads) : Kernel("cpu.select"), threads_(threads), writer_(op) {
    if (writer_.mapped) name_ = std::string("cpu.select:") + rows().name;
    std::string reason;
    if (op.input("input").is_constant()) reason = "the input is a constant";
    if (!reason.empty() || !can_select(op, reason)) throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": " + reason);
    selection_ = selection_of(op, dims_of(op.input("input")), dims_of(op.output()));
    if (op.op() == "Pad") std::fill(std::begin(fill_), std::end(fill_), pad_code(op));
  }

  std::vector<uint32_t> input_layouts() const override { return {QUERN_LAYOUT_ANY}; }
  uint32_t output_layout() const override { return QUERN_LAYOUT_ANY; }

  void execute(Context&, Span<const quern_tensor> inputs, const quern_tensor& output, void*) const override {
    const auto* base = static_cast<const uint8_t*>(inputs[0].data);
    for (const Piece& p : pieces_of(selection_, inputs[0], output)) {
      const uint8_t* source = p.fill ? fill_ : base + p.in_offset;
      for_rows(p.dims, p.out, {p.in}, threads_, [&](int64_t o, const int64_t* i, int64_t n, int64_t step, const int64_t* steps) {
        writer_.row(source + i[0], steps[0], output.data, p.out_offset + o, step, n);
      });
    }
  }

 private:
  uint32_t threads_;
  Writer writer_;
  Selection selection_;
  uint8_t fill_[64] = {};
};

class BlockKernel : public Kernel {
 public:
  BlockKernel(const OpView& op, uint32_t threads) : Kernel("cpu.blocks"), threads_(threads), writer_(op), blocks_(blocks_of(op)) {}

  std::vector<uint32_t> input_layouts() const override { return {QUERN_LAYOUT_ANY}; }
  uint32_t output_layout() const override { return QUERN_LAYOUT_ANY; }

  void execute(Context&, Span<const quern_tensor> inputs, const quern_tensor& output, void*) const override {
    const Piece p = piece_of(blocks_, inputs[0], output);
    const auto* from = static_cast<const uint8_t*>(inputs[0].data);
    for_rows(p.dims, p.out, {p.in}, threads_, [&](int64_t o, const int64_t* i, int64_t n, int64_t step, const int64_t* steps) {
      writer_.row(from + i[0], steps[0], output.data, o, step, n);
    });
  }

 private:
  uint32_t threads_;
  Writer writer_;
  Blocks blocks_;
};

}  // namespace

std::unique_ptr<Kernel> compile_select(const OpView& op, uint32_t threads) {
  if (is_blocks(op.op())) return std::make_unique<BlockKernel>(op, threads);
  return std::make_unique<SelectKernel>(op, threads);
}

}  // namespace quern_cpu
