// The target @NAME@. What it can hold and compute stands in rules.json; here are the integers that the rules' contracts name
// (derive), and the kernels (compile, execute). docs/add-a-target.md of Quern goes on from here.
#include <quern/plugin.hpp>

#include <algorithm>
#include <cmath>

#include "quern_rules.h"

namespace {

using namespace quern_sdk;

// Scales are powers of two: their exponent.
int exponent(const OperandView& o) {
  int e = 0;
  if (std::frexp(o.quant().scale(), &e) != 0.5f) throw Failure(QUERN_INVALID_ARGUMENT, "a scale is no power of two");
  return e - 1;
}

// By how much a sum in steps of 2^from is shifted to the right to be in steps of the output.
int32_t shift_to_output(int from, const OpView& op) { return exponent(op.output()) - from; }

// The smallest code of the output: 0 behind a Relu.
int32_t lowest(const OpView& op) {
  for (size_t i = 0; i < op.nodes(); ++i)
    if (op.node(i).op() == "Relu") return 0;
  return static_cast<int32_t>(op.output().quant().qmin());
}

// v / 2^shift, halves up; a negative shift goes to the left. Then the output's codes. As the contracts in rules.json say.
int8_t finish(int64_t v, int32_t shift, int32_t low) {
  v = shift > 0 ? (v + (int64_t{1} << (shift - 1))) >> shift : v * (int64_t{1} << -shift);
  return static_cast<int8_t>(std::min<int64_t>(std::max<int64_t>(v, low), 127));
}

struct Kernel {
  int32_t shift = 0, low = -128;
  std::string name;
  virtual ~Kernel() = default;
  virtual void run(Span<const quern_tensor> inputs, const quern_tensor& output) const = 0;
};

// Relu, Reshape, Flatten: every element where it is.
struct Move : Kernel {
  void run(Span<const quern_tensor> inputs, const quern_tensor& output) const override {
    const Span<const int8_t> from = TensorView(inputs[0]).values<const int8_t>();
    const Span<int8_t> to = TensorView(output).values<int8_t>();
    for (size_t i = 0; i < to.size(); ++i) to[i] = finish(from[i], shift, low);
  }
};

// One kernel a contract.
std::unique_ptr<Kernel> make_kernel(const OpView& op) {
  if (op.contract() == "move") return std::make_unique<Move>();
  throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": there is no kernel for the contract " + std::string(op.contract()));
}

struct Target {
  using Kernel = ::Kernel;
  struct Context {};

  std::string_view describe() { return {quern_rules, quern_rules_length}; }
  bool available(std::string_view profile, std::string&) { return profile.empty(); }  // rules without profiles have one, without a name

  void derive(std::string_view, const OpView& op, TableSink& tables) {
    int from = exponent(op.input("input"));
    if (op.has("weight")) from += exponent(op.input("weight"));  // a product's step
    tables.emit("shift", shift_to_output(from, op));
    tables.emit("low", lowest(op));
  }

  std::unique_ptr<Kernel> compile(std::string_view profile, const OpView& op, uint32_t) {
    if (!profile.empty()) throw Failure(QUERN_NOT_FOUND, "there is no profile '" + std::string(profile) + "'");
    std::unique_ptr<Kernel> kernel = make_kernel(op);
    kernel->shift = op.table<int32_t>("shift")[0];
    kernel->low = op.table<int32_t>("low")[0];
    kernel->name = std::string(op.op());
    return kernel;
  }

  void info(const Kernel& kernel, quern_kernel_info& out) {
    for (uint32_t& layout : out.input_layouts) layout = QUERN_LAYOUT_ROW_MAJOR;
    out.output_layout = QUERN_LAYOUT_ROW_MAJOR;
    out.kernel_name = str(kernel.name);
  }
  std::unique_ptr<Context> create_context(const Kernel&) { return std::make_unique<Context>(); }
  void execute(const Kernel& kernel, Context&, Span<const quern_tensor> inputs, Span<const quern_tensor> outputs, void*) {
    kernel.run(inputs, outputs[0]);
  }
};

}  // namespace

QUERN_SDK_TARGET(Target)
