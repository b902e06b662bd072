#include "plugins/gpu_opencl/device.hpp"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <mutex>

#include "plugins/gpu_opencl/cache.hpp"

namespace quern_gpu {
namespace {

std::string text_of(cl_device_id id, cl_device_info what) {
  size_t size = 0;
  check_cl(opencl().GetDeviceInfo(id, what, 0, nullptr, &size), "clGetDeviceInfo");
  std::string text(size, '\0');
  check_cl(opencl().GetDeviceInfo(id, what, size, text.data(), nullptr), "clGetDeviceInfo");
  while (!text.empty() && (text.back() == '\0' || text.back() == ' ')) text.pop_back();
  return text;
}

struct Found {
  cl_device_id id;
  std::string name;  // "platform: device"
  cl_device_type type;
};

std::vector<Found> devices() {
  const OpenCl& cl = opencl();
  cl_uint n = 0;
  const cl_int error = cl.GetPlatformIDs(0, nullptr, &n);
  if (error != CL_SUCCESS && error != -1001) check_cl(error, "clGetPlatformIDs");
  std::vector<cl_platform_id> platforms(error == CL_SUCCESS ? n : 0);
  if (!platforms.empty()) check_cl(cl.GetPlatformIDs(n, platforms.data(), nullptr), "clGetPlatformIDs");
  std::vector<Found> all;
  for (cl_platform_id p : platforms) {
    size_t size = 0;
    if (cl.GetPlatformInfo(p, CL_PLATFORM_NAME, 0, nullptr, &size) != CL_SUCCESS) continue;
    std::string platform(size, '\0');
    cl.GetPlatformInfo(p, CL_PLATFORM_NAME, size, platform.data(), nullptr);
    while (!platform.empty() && platform.back() == '\0') platform.pop_back();
    cl_uint count = 0;
    if (cl.GetDeviceIDs(p, CL_DEVICE_TYPE_ALL, 0, nullptr, &count) != CL_SUCCESS || count == 0) continue;
    std::vector<cl_device_id> ids(count);
    check_cl(cl.GetDeviceIDs(p, CL_DEVICE_TYPE_ALL, count, ids.data(), nullptr), "clGetDeviceIDs");
    for (cl_device_id id : ids) {
      cl_device_type type = 0;
      check_cl(cl.GetDeviceInfo(id, CL_DEVICE_TYPE, sizeof(type), &type, nullptr), "clGetDeviceInfo");
      all.push_back({id, platform + ": " + text_of(id, CL_DEVICE_NAME), type});
    }
  }
  return all;
}

std::string lower(std::string s) {
  for (char& c : s) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return s;
}

const Found& chosen(const std::vector<Found>& all) {
  if (all.empty()) throw Failure(QUERN_UNAVAILABLE, "there is no OpenCL device; a driver is needed (on Debian pocl-opencl-icd runs on any processor)");
  std::string list;
  for (size_t i = 0; i < all.size(); ++i) list += (i ? "; " : "") + std::to_string(i) + ": " + all[i].name;
  const char* wish = std::getenv("QUERN_OPENCL_DEVICE");
  if (!wish || !*wish) {
    const auto gpu = std::find_if(all.begin(), all.end(), [](const Found& f) { return (f.type & CL_DEVICE_TYPE_GPU) != 0; });
    return gpu == all.end() ? all.front() : *gpu;
  }
  const std::string name = lower(wish);
  if (name.find_first_not_of("0123456789") == std::string::npos) {
    const size_t index = name.size() > 6 ? all.size() : static_cast<size_t>(std::stoul(name));
    if (index < all.size()) return all[index];
  } else {
    for (const Found& f : all)
      if (lower(f.name).find(name) != std::string::npos) return f;
  }
  throw Failure(QUERN_UNAVAILABLE, std::string("QUERN_OPENCL_DEVICE is '") + wish + "', and there is no such device; the devices are: " + list);
}

}  // namespace

Device::Device(cl_device_id id, std::string name) : name_(std::move(name)), id_(id) {
  const OpenCl& cl = opencl();
  cl_device_type type = 0;
  cl_bool little = CL_FALSE, compiler = CL_FALSE;
  check_cl(cl.GetDeviceInfo(id, CL_DEVICE_TYPE, sizeof(type), &type, nullptr), "clGetDeviceInfo");
  check_cl(cl.GetDeviceInfo(id, CL_DEVICE_ENDIAN_LITTLE, sizeof(little), &little, nullptr), "clGetDeviceInfo");
  check_cl(cl.GetDeviceInfo(id, CL_DEVICE_COMPILER_AVAILABLE, sizeof(compiler), &compiler, nullptr), "clGetDeviceInfo");
  if (!little || !compiler) throw Failure(QUERN_UNAVAILABLE, name_ + ": the device is big-endian, or its driver has no compiler");
  cl_device_fp_config floats = 0;
  check_cl(cl.GetDeviceInfo(id, CL_DEVICE_SINGLE_FP_CONFIG, sizeof(floats), &floats, nullptr), "clGetDeviceInfo");
  if (!(floats & CL_FP_ROUND_TO_NEAREST)) throw Failure(QUERN_UNAVAILABLE, name_ + ": the device does not round to nearest even");
  cpu_ = (type & CL_DEVICE_TYPE_CPU) != 0;
  cl_int error = CL_SUCCESS;
  context_ = cl.CreateContext(nullptr, 1, &id_, nullptr, nullptr, &error);
  check_cl(error, "clCreateContext");
  program_ = build();
}

Program Device::build() const {
  const OpenCl& cl = opencl();
  const std::string source(kernel_source());
  const ProgramKey key{name_, text_of(id_, CL_DEVICE_VERSION), text_of(id_, CL_DRIVER_VERSION), source};
  cl_int error = CL_SUCCESS;
  const std::vector<unsigned char> binary = cached_program(key);
  if (!binary.empty()) {
    const size_t size = binary.size();
    const unsigned char* data = binary.data();
    cl_int status = CL_SUCCESS;
    Program p(cl.CreateProgramWithBinary(context_, 1, &id_, &size, &data, &status, &error));
    if (error == CL_SUCCESS && status == CL_SUCCESS && cl.BuildProgram(p.get(), 1, &id_, "", nullptr, nullptr) == CL_SUCCESS) return p;
  }
  const char* text = source.data();
  const size_t length = source.size();
  Program p(cl.CreateProgramWithSource(context_, 1, &text, &length, &error));
  check_cl(error, "clCreateProgramWithSource");
  error = cl.BuildProgram(p.get(), 1, &id_, "", nullptr, nullptr);
  if (error != CL_SUCCESS) {
    size_t size = 0;
    cl.GetProgramBuildInfo(p.get(), id_, CL_PROGRAM_BUILD_LOG, 0, nullptr, &size);
    std::string log(size, '\0');
    cl.GetProgramBuildInfo(p.get(), id_, CL_PROGRAM_BUILD_LOG, size, log.data(), nullptr);
    throw Failure(QUERN_UNAVAILABLE, name_ + ": " + error_name(error) + ": " + log.substr(0, 600));
  }
  size_t size = 0;
  if (cl.GetProgramInfo(p.get(), CL_PROGRAM_BINARY_SIZES, sizeof(size), &size, nullptr) == CL_SUCCESS && size > 0) {
    std::vector<unsigned char> made(size);
    unsigned char* data = made.data();
    if (cl.GetProgramInfo(p.get(), CL_PROGRAM_BINARIES, sizeof(data), &data, nullptr) == CL_SUCCESS) keep_program(key, made);
  }
  return p;
}

Queue Device::queue() const {
  cl_int error = CL_SUCCESS;
  Queue q(opencl().CreateCommandQueue(context_, id_, 0, &error));
  check_cl(error, "clCreateCommandQueue");
  return q;
}

Memory Device::memory(size_t bytes, const void* from) const {
  cl_int error = CL_SUCCESS;
  std::vector<unsigned char> padded;
  if (from) {
    padded.resize(bytes + 64);
    std::copy_n(static_cast<const unsigned char*>(from), bytes, padded.data());
  }
  Memory m(opencl().CreateBuffer(context_, CL_MEM_READ_WRITE | (from ? CL_MEM_COPY_HOST_PTR : 0), bytes + 64, from ? padded.data() : nullptr, &error));
  check_cl(error, "clCreateBuffer");
  return m;
}

KernelObject Device::kernel(const char* name) const {
  cl_int error = CL_SUCCESS;
  KernelObject k(opencl().CreateKernel(program_.get(), name, &error));
  check_cl(error, name);
  return k;
}

const Device& device() {
  // What is missing may come while a process runs; a device that was found stays.
  static std::mutex mutex;
  static std::unique_ptr<Device> found;
  const std::lock_guard<std::mutex> lock(mutex);
  if (!found) {
    const std::vector<Found> all = devices();
    const Found& f = chosen(all);
    found = std::make_unique<Device>(f.id, f.name);
  }
  return *found;
}

}  // namespace quern_gpu
