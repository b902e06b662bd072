// The device that everything runs on, chosen once: by QUERN_OPENCL_DEVICE (an index of the list in the error message, or a part of a
// platform's or device's name), else the first GPU, else the first device. With it the compiled kernels.
//
//   const Device& d = device();                  // Failure(unavailable) says what is missing
//   Memory m = d.memory(bytes, weights.data());
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "plugins/gpu_opencl/opencl.hpp"

namespace quern_gpu {

class Device {
 public:
  explicit Device(cl_device_id id, std::string name);
  const std::string& name() const { return name_; }
  bool is_cpu() const { return cpu_; }  // items are as many as threads want, not as many as lanes
  Queue queue() const;
  // With 64 bytes behind, which kernels may read. `from`: what it holds at first.
  Memory memory(size_t bytes, const void* from = nullptr) const;
  KernelObject kernel(const char* name) const;

 private:
  Program build() const;
  std::string name_;
  cl_device_id id_;
  cl_context context_ = nullptr;  // for the life of the process, as plugins are never unloaded
  bool cpu_ = false;
  Program program_;
};

const Device& device();
std::string_view kernel_source();  // kernels/*.cl

}  // namespace quern_gpu
