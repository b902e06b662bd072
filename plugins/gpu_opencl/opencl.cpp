#include "plugins/gpu_opencl/opencl.hpp"

#include <dlfcn.h>

namespace quern_gpu {

const OpenCl& opencl() {
  // A failure is not kept: the library may be installed while a process runs.
  static const OpenCl table = [] {
    void* library = dlopen("libOpenCL.so.1", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!library) {
      const char* why = dlerror();
      throw Failure(QUERN_UNAVAILABLE, std::string("OpenCL is not installed (") + (why ? why : "libOpenCL.so.1") +
                                           "); on Debian: ocl-icd-libopencl1 and a driver, such as pocl-opencl-icd");
    }
    OpenCl cl;
#define QUERN_GPU_LOAD(name)                                                        \
  cl.name = reinterpret_cast<decltype(cl.name)>(dlsym(library, "cl" #name)); \
  if (!cl.name) throw Failure(QUERN_UNAVAILABLE, "libOpenCL.so.1 has no cl" #name ": OpenCL 1.2 is needed");
    QUERN_GPU_CL(QUERN_GPU_LOAD)
#undef QUERN_GPU_LOAD
    return cl;
  }();
  return table;
}

std::string error_name(cl_int error) {
  switch (error) {
    case CL_DEVICE_NOT_FOUND: return "no device";
    case CL_DEVICE_NOT_AVAILABLE: return "the device is not available";
    case CL_COMPILER_NOT_AVAILABLE: return "the driver has no compiler";
    case CL_MEM_OBJECT_ALLOCATION_FAILURE: return "out of device memory";
    case CL_OUT_OF_RESOURCES: return "out of resources of the device";
    case CL_OUT_OF_HOST_MEMORY: return "out of host memory";
    case CL_BUILD_PROGRAM_FAILURE: return "the kernels do not compile";
    case CL_INVALID_BUFFER_SIZE: return "a buffer is too large for the device";
    case CL_INVALID_WORK_GROUP_SIZE: return "the work-group size does not fit the device";
    case -1001: return "no OpenCL platform is installed";  // CL_PLATFORM_NOT_FOUND_KHR of the loader
    default: return "OpenCL error " + std::to_string(error);
  }
}

void check_cl(cl_int error, const char* doing) {
  if (error == CL_SUCCESS) return;
  const bool memory = error == CL_MEM_OBJECT_ALLOCATION_FAILURE || error == CL_OUT_OF_RESOURCES || error == CL_OUT_OF_HOST_MEMORY || error == CL_INVALID_BUFFER_SIZE;
  throw Failure(memory ? QUERN_RESOURCE_EXHAUSTED : QUERN_UNAVAILABLE, std::string(doing) + ": " + error_name(error));
}

}  // namespace quern_gpu
