// What compile() gives: a prepared kernel, shared by threads and never changed, and what one thread needs beside it.
//
// Operators' files (dot, rows, windows) say in enqueue() which commands compute a unit from tensors on the device. From it come both ways to
// run: on the host's memory (execute: copies in, commands, copy out) and on the device's (device_extension.hpp: commands alone).
#pragma once
#include <array>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "plugins/common/walk.hpp"
#include "plugins/gpu_opencl/device.hpp"

namespace quern_gpu {

using namespace quern_common;

// A tensor on the device: dims and strides as in `tensor`, elements in `memory` (tensor.data means nothing here).
struct View {
  const quern_tensor* tensor = nullptr;
  cl_mem memory = nullptr;
  Dims dims() const { return {tensor->dims, tensor->dims + tensor->rank}; }
  Dims strides() const { return {tensor->strides, tensor->strides + tensor->rank}; }
};

// Of one thread: kernels with their arguments, and memory that is kept from run to run.
class Context {
 public:
  virtual ~Context() = default;
  cl_kernel kernel(const char* name);
  cl_mem scratch(size_t slot, size_t bytes);                 // contents are not kept when it grows
  // Numbers for a kernel, copied to the device when they change. The queue's commands before it still see the old ones.
  cl_mem numbers(size_t slot, cl_command_queue queue, const std::vector<int32_t>& values);
  cl_command_queue queue();                                  // of runs on the host's memory

 private:
  struct Numbers { std::vector<int32_t> values; Memory memory; };
  std::map<std::string, KernelObject> kernels_;
  std::map<size_t, std::pair<size_t, Memory>> scratch_;
  std::map<size_t, Numbers> numbers_;
  Queue queue_;
};

class Kernel {
 public:
  virtual ~Kernel() = default;
  const std::string& name() const { return name_; }
  const std::vector<uint32_t>& input_layouts() const { return layouts_; }  // one QUERN_LAYOUT_* per operand that flows
  uint32_t output_layout() const { return output_layout_; }
  // Puts the commands into the queue and returns.
  virtual void enqueue(Context& context, cl_command_queue queue, Span<const View> inputs, const View& output) const = 0;
  void execute(Context& context, Span<const quern_tensor> inputs, const quern_tensor& output) const;

 protected:
  Kernel(std::string name, const OpView& op, uint32_t input_layout, uint32_t output_layout);
  std::string name_;

 private:
  std::vector<uint32_t> layouts_;
  uint32_t output_layout_;
};

// ---- numbers of a unit, as kernels take them ------------------------------------------------------------------------------
struct Source {
  cl_uint flip = 0;      // 0x80 for signed codes
  cl_int zero = 0;       // of the flipped code
  cl_float ratio = 1;
};
Source source_of(const OpView& op, const OperandView& operand, float ratio = 1);

struct Sink {
  cl_float low = -HUGE_VALF, high = HUGE_VALF, zero_point = 0, qmin = 0, qmax = 0;
  cl_int floats = 0;
};
Sink sink_of(const OpView& op);

// Which of the operands that flow has this role; -1: none, or a constant.
int place_of(const OpView& op, std::string_view role);
// A constant operand as it lies, on the device.
Memory constant_memory(const OperandView& operand);

// Sizes and offsets are 32 bits on the device.
cl_int small(int64_t v, const char* what);
size_t bytes_of(const quern_tensor& t);

// ---- commands --------------------------------------------------------------------------------------------------------------
// Arguments by type, in order: launch(context, queue, "pair", {rows, parts, 1}, a, b, out, cl_int{3}, ...). Nothing where there are no items.
using Items = std::array<int64_t, 3>;
void enqueue_kernel(cl_kernel kernel, cl_command_queue queue, const Items& items);
inline void set_argument(cl_kernel kernel, cl_uint& at, const Sink& s) {
  for (const cl_float* f : {&s.low, &s.high, &s.zero_point, &s.qmin, &s.qmax}) check_cl(opencl().SetKernelArg(kernel, at++, sizeof(cl_float), f), "clSetKernelArg");
  check_cl(opencl().SetKernelArg(kernel, at++, sizeof(cl_int), &s.floats), "clSetKernelArg");
}
template <class T> void set_argument(cl_kernel kernel, cl_uint& at, const T& value) {
  check_cl(opencl().SetKernelArg(kernel, at++, sizeof(T), &value), "clSetKernelArg");
}
template <class... A> void launch(Context& context, cl_command_queue queue, const char* name, const Items& items, const A&... arguments) {
  const cl_kernel kernel = context.kernel(name);
  cl_uint at = 0;
  (set_argument(kernel, at, arguments), ...);
  enqueue_kernel(kernel, queue, items);
}
// How many places along a row one item takes: many on a processor, where an item costs a call, one on a device of many lanes.
inline int64_t strip_of(int64_t places) { return device().is_cpu() ? places : 1; }

// Copies between host and device, all of them: counted.
void upload(cl_command_queue queue, cl_mem to, const void* from, size_t bytes, bool wait);
void download(cl_command_queue queue, cl_mem from, void* to, size_t bytes);  // waits for everything before it
struct Transfers { uint64_t up, down, up_bytes, down_bytes; };
Transfers transfers();

std::unique_ptr<Kernel> compile_dot(const OpView& op);       // Conv, ConvTranspose, Gemm, MatMul by a constant
std::unique_ptr<Kernel> compile_product(const OpView& op);   // MatMul of two tensors that flow
std::unique_ptr<Kernel> compile_pair(const OpView& op);      // Add, Sub, Mul, Max, Min
std::unique_ptr<Kernel> compile_move(const OpView& op);      // layout operators, Relu, Clip, functions by a table
std::unique_ptr<Kernel> compile_concat(const OpView& op);
std::unique_ptr<Kernel> compile_select(const OpView& op);    // Slice, Gather, Pad, Tile, Expand, DepthToSpace, SpaceToDepth
std::unique_ptr<Kernel> compile_pool(const OpView& op);
std::unique_ptr<Kernel> compile_resample(const OpView& op);

// Elements of `from` to the same places of `to`, both on the device, 1 or 4 bytes each.
void copy_elements(Context& context, cl_command_queue queue, const View& from, const View& to);

}  // namespace quern_gpu
