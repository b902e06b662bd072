// A function of one variable by itself: Sigmoid, Tanh, Exp and the like as a table with one entry per input code, contract
// "table".
#include <algorithm>
#include <cstring>

#include "plugins/common/derive.hpp"
#include "plugins/cpu/numbers.hpp"
#include "plugins/cpu/strided.hpp"

namespace quern_cpu {
namespace {

class TableKernel : public Kernel {
 public:
  TableKernel(const OpView& op, uint32_t threads) : Kernel(std::string("cpu.table:") + rows().name), threads_(threads), floats_(writes_floats(op)) {
    const OperandView input = op.input("input");
    if (input.is_constant()) throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": the input is a constant");
    if (count_of(dims_of(input)) != count_of(dims_of(op.output()))) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": input and output differ in size");
    // By the byte as it lies in memory: a signed code -128..-1 is a byte 128..255.
    const size_t turn = activation_quant(op, input).is_signed() ? 128 : 0;
    const auto put = [&](auto& to, const auto& from) {
      if (from.size() != 256) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": the table has not 256 entries");
      for (size_t i = 0; i < 256; ++i) to[(i + turn) % 256] = static_cast<std::decay_t<decltype(to[0])>>(from[i]);
    };
    if (floats_) put(floats_of_, op.table<float>("table"));
    else if (op.output().dtype() == QUERN_DTYPE_S8) put(codes_of_, op.table<int8_t>("table"));
    else put(codes_of_, op.table<uint8_t>("table"));
  }

  std::vector<uint32_t> input_layouts() const override { return {QUERN_LAYOUT_ANY}; }
  uint32_t output_layout() const override { return QUERN_LAYOUT_ANY; }

  void execute(Context&, Span<const quern_tensor> inputs, const quern_tensor& output, void*) const override {
    const Dims dims(output.dims, output.dims + output.rank), own(output.strides, output.strides + output.rank);
    const Dims from(inputs[0].strides, inputs[0].strides + inputs[0].rank);
    const auto* x = static_cast<const uint8_t*>(inputs[0].data);
    for_rows(dims, own, {from}, threads_, [&](int64_t o, const int64_t* at, int64_t n, int64_t step, const int64_t* steps) {
      row(x + at[0], steps[0], output.data, o, step, n);
    });
  }

 private:
  void row(const uint8_t* x, int64_t x_step, void* out, int64_t o, int64_t step, int64_t n) const {
    auto* codes = static_cast<uint8_t*>(out) + o;
    auto* floats = static_cast<float*>(out) + o;
    if (x_step == 1 && step == 1) {
      if (floats_) rows().look_up_floats(x, floats, n, floats_of_);
      else rows().look_up_codes(x, codes, n, codes_of_);
      return;
    }
    for (int64_t i = 0; i < n; ++i) {
      if (floats_) floats[i * step] = floats_of_[x[i * x_step]];
      else codes[i * step] = codes_of_[x[i * x_step]];
    }
  }

  uint32_t threads_;
  bool floats_;
  alignas(64) uint8_t codes_of_[256] = {};
  float floats_of_[256] = {};
};

}  // namespace

std::unique_ptr<Kernel> compile_table(const OpView& op, uint32_t threads) { return std::make_unique<TableKernel>(op, threads); }

}  // namespace quern_cpu
