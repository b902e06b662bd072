// OpenCL without linking to it: the loader (libOpenCL.so.1) is opened when a device is first asked for, so that rules and derived integers
// need neither a device nor the library.
//
//   const OpenCl& cl = opencl();                        // Failure(unavailable) where the library is missing
//   check_cl(cl.Finish(queue), "clFinish");             // Failure with OpenCL's name of the error
#pragma once
#define CL_TARGET_OPENCL_VERSION 120
#define CL_USE_DEPRECATED_OPENCL_1_2_APIS
#include <CL/cl.h>

#include <string>
#include <utility>

#include "quern/plugin.hpp"

namespace quern_gpu {

using quern_sdk::Failure;

struct OpenCl {
#define QUERN_GPU_CL(DO)                                                                                                                     \
  DO(GetPlatformIDs) DO(GetPlatformInfo) DO(GetDeviceIDs) DO(GetDeviceInfo) DO(CreateContext) DO(CreateCommandQueue) DO(ReleaseCommandQueue) \
  DO(CreateBuffer) DO(ReleaseMemObject) DO(CreateProgramWithSource) DO(CreateProgramWithBinary) DO(BuildProgram) DO(GetProgramInfo)          \
  DO(GetProgramBuildInfo) DO(ReleaseProgram) DO(CreateKernel) DO(ReleaseKernel) DO(SetKernelArg) DO(EnqueueNDRangeKernel)                    \
  DO(EnqueueReadBuffer) DO(EnqueueWriteBuffer) DO(Finish) DO(Flush)
#define QUERN_GPU_MEMBER(name) decltype(&::cl##name) name = nullptr;
  QUERN_GPU_CL(QUERN_GPU_MEMBER)
#undef QUERN_GPU_MEMBER
};
const OpenCl& opencl();

std::string error_name(cl_int error);
void check_cl(cl_int error, const char* doing);

// An object of OpenCL, released with its owner.
template <class T, cl_int (*OpenCl::*Release)(T)>
class Owned {
 public:
  Owned() = default;
  explicit Owned(T object) : object_(object) {}
  Owned(Owned&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Owned& operator=(Owned&& other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Owned() {
    if (object_) (opencl().*Release)(object_);
  }
  T get() const { return object_; }
  explicit operator bool() const { return object_ != nullptr; }

 private:
  T object_ = nullptr;
};
using Memory = Owned<cl_mem, &OpenCl::ReleaseMemObject>;
using Queue = Owned<cl_command_queue, &OpenCl::ReleaseCommandQueue>;
using KernelObject = Owned<cl_kernel, &OpenCl::ReleaseKernel>;
using Program = Owned<cl_program, &OpenCl::ReleaseProgram>;

}  // namespace quern_gpu
