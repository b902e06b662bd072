// A target that stands before another one ($QUERN_TEST_INNER, a plugin file) and goes wild where $QUERN_TEST_FAULT says so:
// "FUNCTION:FAULT" or "FUNCTION:FAULT:NODE", for example "execute:crash:conv1". Without it, it is that other target.
#include <dlfcn.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>

#include "quern/abi.h"

namespace {

const quern_host* host = nullptr;
quern_target inner, table;
std::mutex mutex;
std::map<const void*, std::string> names;  // of kernels and contexts

std::string text(quern_str s) { return {s.data, s.size}; }

std::string fault_at(const char* function, const std::string& node) {
  const char* wanted = std::getenv("QUERN_TEST_FAULT");
  if (!wanted) return "";
  std::string all = wanted, parts[3];
  for (int i = 0; i < 3; ++i) {
    const size_t end = i < 2 ? all.find(':') : std::string::npos;
    parts[i] = all.substr(0, end);
    if (end == std::string::npos) break;
    all.erase(0, end + 1);
  }
  return parts[0] == function && (parts[2].empty() || parts[2] == node) ? parts[1] : "";
}

// The faults that any function can have.
quern_status* misbehave(const std::string& fault) {
  if (fault == "crash") std::raise(SIGSEGV);
  if (fault == "exit") std::exit(3);
  if (fault == "abort") std::abort();
  if (fault == "throw") throw std::runtime_error("wild");
  while (fault == "hang") ::usleep(10000);
  if (fault == "status") return host->make_status(host->self, QUERN_INTERNAL, {"the device has gone", 19});
  return nullptr;
}
quern_status* maybe(const char* function, const std::string& node = "") { return misbehave(fault_at(function, node)); }

quern_status* describe(void* self, quern_str* out) {
  if (auto* s = maybe("describe")) return s;
  return inner.describe(self, out);
}
quern_status* available(void* self, quern_str profile, int32_t* yes, const quern_text_sink* reason) {
  if (auto* s = maybe("available")) return s;
  return inner.available(self, profile, yes, reason);
}
quern_status* supports(void* self, quern_str profile, const quern_op* op, int32_t* yes, const quern_text_sink* reason) {
  if (auto* s = maybe("supports", text(op->name))) return s;
  if (inner.supports) return inner.supports(self, profile, op, yes, reason);
  *yes = 1;
  return nullptr;
}
quern_status* derive(void* self, quern_str profile, const quern_op* op, const quern_table_sink* tables) {
  if (auto* s = maybe("derive", text(op->name))) return s;
  return inner.derive(self, profile, op, tables);
}
quern_status* compile(void* self, quern_str profile, const quern_op* op, uint32_t threads, quern_kernel** kernel) {
  if (auto* s = maybe("compile", text(op->name))) return s;
  quern_status* status = inner.compile(self, profile, op, threads, kernel);
  std::lock_guard lock(mutex);
  if (!status) names[*kernel] = text(op->name);
  return status;
}
quern_status* create_context(void* self, quern_kernel* kernel, quern_context** context) {
  quern_status* status = inner.create_context(self, kernel, context);
  std::lock_guard lock(mutex);
  if (!status) names[*context] = names[kernel];
  return status;
}

// Byte by byte, so that the page that may not be written is what stops it, and no library's memset.
void wipe(char* at, size_t bytes) {
  for (volatile char* p = at; bytes > 0; --bytes) *p++ = 0;
}

quern_status* execute(void* self, quern_context* context, const quern_tensor* inputs, uint32_t n_inputs, const quern_tensor* outputs,
                      uint32_t n_outputs, void* workspace) {
  std::string name;
  {
    std::lock_guard lock(mutex);
    name = names[context];
  }
  const std::string fault = fault_at("execute", name);
  quern_status* status = fault.empty() ? nullptr : misbehave(fault);
  if (!status) status = inner.execute(self, context, inputs, n_inputs, outputs, n_outputs, workspace);
  if (status) return status;
  auto* out = static_cast<char*>(outputs[0].data);
  if (fault == "nan" && outputs[0].dtype == QUERN_DTYPE_F32) *reinterpret_cast<float*>(out) = std::numeric_limits<float>::quiet_NaN();
  if (fault == "behind") out[outputs[0].bytes] ^= 1;
  if (fault == "before") out[-1] ^= 1;
  if (fault == "far_behind") wipe(out + outputs[0].bytes, 100000);
  if (fault == "far_before") wipe(out - 100000, 100000);
  if (fault == "input") *static_cast<char*>(inputs[0].data) ^= 1;
  return nullptr;
}

}  // namespace

quern_status* quern_plugin_entry_v1(const quern_host* h, quern_plugin* out) {
  host = h;
  if (auto* s = maybe("entry")) return s;
  const char* path = std::getenv("QUERN_TEST_INNER");
  void* library = path ? ::dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
  auto* entry = library ? reinterpret_cast<decltype(&quern_plugin_entry_v1)>(::dlsym(library, "quern_plugin_entry_v1")) : nullptr;
  if (!entry) return h->make_status(h->self, QUERN_NOT_FOUND, {"QUERN_TEST_INNER names no plugin", 32});
  if (quern_status* status = entry(h, out)) return status;
  inner = *out->target;
  table = inner;
  table.describe = describe;
  table.available = available;
  table.supports = supports;
  table.derive = derive;
  table.compile = compile;
  table.create_context = create_context;
  table.execute = execute;
  out->target = &table;
  return nullptr;
}
