#include "plugins/gpu_opencl/kernel.hpp"

#include <atomic>
#include <cmath>

namespace quern_gpu {

cl_kernel Context::kernel(const char* name) {
  KernelObject& k = kernels_[name];
  if (!k) k = device().kernel(name);
  return k.get();
}

cl_mem Context::scratch(size_t slot, size_t bytes) {
  auto& [size, memory] = scratch_[slot];
  if (!memory || size < bytes) {
    memory = Memory();
    memory = device().memory(bytes);
    size = bytes;
  }
  return memory.get();
}

cl_mem Context::numbers(size_t slot, cl_command_queue queue, const std::vector<int32_t>& values) {
  Numbers& n = numbers_[slot];
  if (!n.memory || n.values != values) {
    // Commands that are under way may read the old ones.
    if (n.memory) check_cl(opencl().Finish(queue), "clFinish");
    n.memory = device().memory(values.size() * sizeof(int32_t), values.data());
    n.values = values;
  }
  return n.memory.get();
}

cl_command_queue Context::queue() {
  if (!queue_) queue_ = device().queue();
  return queue_.get();
}

Kernel::Kernel(std::string name, const OpView& op, uint32_t input_layout, uint32_t output_layout)
    : name_("gpu_opencl." + std::move(name)), layouts_(op.variable_inputs().size(), input_layout), output_layout_(output_layout) {
  for (const OperandView& o : op.variable_inputs()) small(count_of(dims_of(o)), "an input");
  small(count_of(dims_of(op.output())), "the output");
}

void Kernel::execute(Context& context, Span<const quern_tensor> inputs, const quern_tensor& output) const {
  const cl_command_queue queue = context.queue();
  std::vector<View> views;
  constexpr size_t staging = 1000;  // slots of the context that no operator uses
  for (size_t i = 0; i < inputs.size(); ++i) {
    const size_t bytes = bytes_of(inputs[i]);
    views.push_back({&inputs[i], context.scratch(staging + 1 + i, bytes)});
    upload(queue, views.back().memory, inputs[i].data, bytes, false);
  }
  const View out{&output, context.scratch(staging, bytes_of(output))};
  enqueue(context, queue, Span<const View>(views), out);
  download(queue, out.memory, output.data, bytes_of(output));
}

Source source_of(const OpView& op, const OperandView& operand, float ratio) {
  const QuantView q = activation_quant(op, operand);
  Source s;
  s.flip = q.is_signed() ? 0x80 : 0;
  s.zero = static_cast<cl_int>(q.zero_point()) + static_cast<cl_int>(s.flip);
  s.ratio = ratio;
  return s;
}

Sink sink_of(const OpView& op) {
  Sink s;
  s.floats = writes_floats(op) ? 1 : 0;
  if (op.find_table("act_low")) {
    s.low = op.table<float>("act_low")[0];
    s.high = op.table<float>("act_high")[0];
  }
  if (s.floats) return s;
  const QuantView q = activation_quant(op, op.output());
  if (op.find_table("output_zero_point")) s.zero_point = op.table<float>("output_zero_point")[0];
  s.qmin = static_cast<float>(q.qmin());
  s.qmax = static_cast<float>(q.qmax());
  return s;
}

int place_of(const OpView& op, std::string_view role) {
  int at = 0;
  for (const OperandView& o : op.variable_inputs()) {
    if (o.role() == role) return at;
    ++at;
  }
  return -1;
}

Memory constant_memory(const OperandView& operand) {
  const auto t = operand.tensor();
  return device().memory(static_cast<size_t>(t.count()) * quern_sdk::size_of(t.dtype()), t.data());
}

cl_int small(int64_t v, const char* what) {
  if (v < 0 || v > (int64_t{1} << 29)) throw Failure(QUERN_UNIMPLEMENTED, std::string(what) + " has " + std::to_string(v) + " elements; at most 2^29 fit the kernels' offsets");
  return static_cast<cl_int>(v);
}

size_t bytes_of(const quern_tensor& t) { return static_cast<size_t>(quern_sdk::TensorView(t).count()) * quern_sdk::size_of(t.dtype); }

void enqueue_kernel(cl_kernel kernel, cl_command_queue queue, const Items& items) {
  size_t global[3];
  for (size_t i = 0; i < 3; ++i) {
    if (items[i] < 1) return;
    global[i] = static_cast<size_t>(items[i]);
  }
  // On a processor every item is a work-group: items are few and long there.
  const size_t one[3] = {1, 1, 1};
  check_cl(opencl().EnqueueNDRangeKernel(queue, kernel, 3, nullptr, global, device().is_cpu() ? one : nullptr, 0, nullptr, nullptr), "clEnqueueNDRangeKernel");
}

namespace {
std::atomic<uint64_t> ups{0}, downs{0}, up_bytes{0}, down_bytes{0};
}

void upload(cl_command_queue queue, cl_mem to, const void* from, size_t bytes, bool wait) {
  if (bytes == 0) return;
  check_cl(opencl().EnqueueWriteBuffer(queue, to, wait ? CL_TRUE : CL_FALSE, 0, bytes, from, 0, nullptr, nullptr), "clEnqueueWriteBuffer");
  ++ups;
  up_bytes += bytes;
}

void download(cl_command_queue queue, cl_mem from, void* to, size_t bytes) {
  if (bytes == 0) return check_cl(opencl().Finish(queue), "clFinish");
  check_cl(opencl().EnqueueReadBuffer(queue, from, CL_TRUE, 0, bytes, to, 0, nullptr, nullptr), "clEnqueueReadBuffer");
  ++downs;
  down_bytes += bytes;
}

Transfers transfers() { return {ups, downs, up_bytes, down_bytes}; }

}  // namespace quern_gpu
