// Kernels of Slice, Gather, Pad, Tile, Expand (plugins/common/select.hpp), DepthToSpace and SpaceToDepth.
#include "plugins/common/select.hpp"

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
    const quern_tensor& in = inputs[0];
    const size_t rank = output.rank;
    const auto* base = static_cast<const uint8_t*>(in.data);
    for (size_t a = 0; a < in.rank; ++a)
      if (selection_.dropped[a] >= 0) base += selection_.dropped[a] * in.strides[a];
    const Dims to(output.strides, output.strides + rank);
    const Dims none(rank, 0);
    std::vector<size_t> at(rank, 0);  // which run of each axis
    for (const auto& runs : selection_.axes)
      if (runs.empty()) return;
    for (;;) {
      Dims dims(rank), from(rank, 0);
      int64_t offset_in = 0, offset_out = 0;
      bool fill = false;
      for (size_t a = 0; a < rank; ++a) {
        const Run& r = selection_.axes[a][at[a]];
        dims[a] = r.count;
        offset_out += r.out * to[a];
        fill = fill || r.fill;
        if (selection_.input_axis[a] < 0) continue;
        const int64_t stride = in.strides[selection_.input_axis[a]];
        from[a] = stride * r.step;
        offset_in += stride * r.in;
      }
      const uint8_t* source = fill ? fill_ : base + offset_in;
      for_rows(dims, to, {fill ? none : from}, threads_, [&](int64_t o, const int64_t* i, int64_t n, int64_t step, const int64_t* steps) {
        writer_.row(source + i[0], steps[0], output.data, offset_out + o, step, n);
      });
      size_t a = rank;
      while (a-- > 0) {
        if (++at[a] < selection_.axes[a].size()) break;
        at[a] = 0;
      }
      if (a == static_cast<size_t>(-1)) return;
    }
  }

 private:
  uint32_t threads_;
  Writer writer_;
  Selection selection_;
  uint8_t fill_[64] = {};
};

// DepthToSpace and SpaceToDepth: the channel axis and the two of the image in parts, walked together.
class BlockKernel : public Kernel {
 public:
  BlockKernel(const OpView& op, uint32_t threads) : Kernel("cpu.blocks"), threads_(threads), writer_(op), to_space_(op.op() == "DepthToSpace") {
    const Dims in = dims_of(op.input("input")), out = dims_of(op.output());
    size_ = op.node(0).integer("blocksize", 0);
    by_columns_ = op.node(0).text("mode", "DCR") == "CRD";
    const Dims &deep = to_space_ ? in : out, &wide = to_space_ ? out : in;
    if (in.size() != 4 || out.size() != 4 || size_ < 1 || deep[0] != wide[0] || deep[1] != wide[1] * size_ * size_ || deep[2] * size_ != wide[2] || deep[3] * size_ != wide[3])
      throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": input, output and blocksize do not fit each other");
    dims_ = {deep[0], wide[1], deep[2], size_, deep[3], size_};
  }

  std::vector<uint32_t> input_layouts() const override { return {QUERN_LAYOUT_ANY}; }
  uint32_t output_layout() const override { return QUERN_LAYOUT_ANY; }

  void execute(Context&, Span<const quern_tensor> inputs, const quern_tensor& output, void*) const override {
    const quern_tensor &deep = to_space_ ? inputs[0] : output, &wide = to_space_ ? output : inputs[0];
    // Axes: sample, channel of the wide one, row, row in the block, column, column in the block.
    const int64_t c = deep.strides[1];
    const int64_t row = by_columns_ ? size_ * c : size_ * dims_[1] * c, column = by_columns_ ? c : dims_[1] * c, channel = by_columns_ ? size_ * size_ * c : c;
    const Dims d{deep.strides[0], channel, deep.strides[2], row, deep.strides[3], column};
    const Dims w{wide.strides[0], wide.strides[1], size_ * wide.strides[2], wide.strides[2], size_ * wide.strides[3], wide.strides[3]};
    const auto* from = static_cast<const uint8_t*>(inputs[0].data);
    for_rows(dims_, to_space_ ? w : d, {to_space_ ? d : w}, threads_, [&](int64_t o, const int64_t* i, int64_t n, int64_t step, const int64_t* steps) {
      writer_.row(from + i[0], steps[0], output.data, o, step, n);
    });
  }

 private:
  uint32_t threads_;
  Writer writer_;
  bool to_space_, by_columns_ = false;
  int64_t size_ = 1;
  Dims dims_;
};

}  // namespace

std::unique_ptr<Kernel> compile_select(const OpView& op, uint32_t threads) {
  if (op.op() == "DepthToSpace" || op.op() == "SpaceToDepth") return std::make_unique<BlockKernel>(op, threads);
  return std::make_unique<SelectKernel>(op, threads);
}

}  // namespace quern_cpu
