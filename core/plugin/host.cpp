#include "core/plugin/host.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <map>
#include <mutex>
#include <new>

#include "core/base/error.hpp"
#include "core/base/log.hpp"
#include "core/base/parallel.hpp"

namespace quern {
namespace {

struct HostEntry {
  std::string id;
  quern_host table;
};

std::atomic<int> default_threads{1};
std::atomic<uint64_t> seed{0};
thread_local int scoped_threads = 0;  // 0: the default

// Given out when memory is short: a status that can't be allocated must still be one.
quern_status out_of_memory{QUERN_RESOURCE_EXHAUSTED, "out of memory"};

void release(quern_status* status) {
  if (status != &out_of_memory) delete status;
}

// A failed body, on its way through the host's loop.
struct BodyFailed { std::shared_ptr<quern_status> status; };

quern_status* make_status(void*, int32_t code, quern_str message) noexcept {
  try {
    return new quern_status{code == 0 ? QUERN_UNKNOWN : code, text_of(message)};
  } catch (...) {
    return &out_of_memory;
  }
}

void write_log(void* self, int32_t level, quern_str message) noexcept {
  try {
    const auto clamped = static_cast<log::Level>(std::clamp<int32_t>(level, QUERN_LOG_ERROR, QUERN_LOG_DEBUG));
    log::write(clamped, static_cast<HostEntry*>(self)->id + ": " + text_of(message));
  } catch (...) {  // a line that can't be written is lost
  }
}

void* allocate(void*, uint64_t size, uint64_t align) noexcept {
  if ((align & (align - 1)) != 0 || align > (uint64_t{1} << 21) || size > (uint64_t{1} << 46)) return nullptr;
  align = std::max<uint64_t>(align, 64);
  return std::aligned_alloc(align, std::max(align, (size + align - 1) / align * align));
}
void deallocate(void*, void* memory) noexcept { std::free(memory); }

int32_t is_cancelled(void*) noexcept { return cancel_requested() ? 1 : 0; }

quern_status* run_parallel(void*, int64_t count, quern_status* (*body)(void*, int64_t), void* arg) noexcept {
  const int threads = scoped_threads > 0 ? scoped_threads : default_threads.load();
  quern_status* failed = nullptr;
  try {
    parallel_for(count, threads, [&](int64_t i, int) {
      PluginThreads nested(1);
      if (quern_status* status = body(arg, i)) throw BodyFailed{std::shared_ptr<quern_status>(status, release)};
    });
  } catch (const BodyFailed& e) {
    failed = new_status(e.status->code, e.status->message);
  } catch (...) {
    failed = status_of_exception();
  }
  return failed;
}

uint64_t mix(uint64_t z) {  // the finalizer of splitmix64
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}
// A number per (seed, stream, index): splitmix64 started at a hash of seed and stream, advanced to index.
uint64_t random_number(void*, quern_str stream, uint64_t index) noexcept {
  uint64_t hash = 0xCBF29CE484222325u;  // FNV-1a
  for (uint64_t i = 0; i < stream.size && stream.data; ++i)
    hash = (hash ^ static_cast<unsigned char>(stream.data[i])) * 0x100000001B3u;
  return mix(mix(hash ^ mix(seed.load() + 0x9E3779B97F4A7C15u)) + (index + 1) * 0x9E3779B97F4A7C15u);
}

const void* no_extension(void*, quern_str) noexcept { return nullptr; }
int32_t code_of(void*, const quern_status* status) noexcept { return status ? status->code : 0; }
quern_str message_of(void*, const quern_status* status) noexcept { return status ? str_of(status->message) : quern_str{nullptr, 0}; }
void release_status(void*, quern_status* status) noexcept { release(status); }

const char* word_for(int32_t code) {
  switch (code) {
    case QUERN_CANCELLED: return "cancelled";
    case QUERN_INVALID_ARGUMENT: return "invalid argument";
    case QUERN_NOT_FOUND: return "not found";
    case QUERN_RESOURCE_EXHAUSTED: return "out of resources";
    case QUERN_FAILED_PRECONDITION: return "not in this state";
    case QUERN_OUT_OF_RANGE: return "out of range";
    case QUERN_UNIMPLEMENTED: return "not implemented";
    case QUERN_INTERNAL: return "a fault of the plugin";
    case QUERN_UNAVAILABLE: return "unavailable";
    default: return "failed";
  }
}

}  // namespace

quern_status* new_status(int32_t code, std::string message) noexcept {
  try {
    return new quern_status{code, std::move(message)};
  } catch (...) {
    return &out_of_memory;
  }
}

quern_status* status_of_exception() noexcept {
  try {
    throw;
  } catch (const Error& e) {
    const int32_t code = e.code() == ErrorCode::interrupted ? QUERN_CANCELLED
                         : e.code() == ErrorCode::memory    ? QUERN_RESOURCE_EXHAUSTED
                         : e.code() == ErrorCode::internal  ? QUERN_INTERNAL
                                                            : QUERN_INVALID_ARGUMENT;
    try {
      return new_status(code, e.what());
    } catch (...) {
      return &out_of_memory;
    }
  } catch (const std::bad_alloc&) {
    return &out_of_memory;
  } catch (const std::exception& e) {
    try {
      return new_status(QUERN_INTERNAL, e.what());
    } catch (...) {
      return &out_of_memory;
    }
  } catch (...) {
    return new_status(QUERN_INTERNAL, "an exception of unknown type");
  }
}

PluginThreads::PluginThreads(int threads) : before_(scoped_threads) { scoped_threads = std::max(1, threads); }
PluginThreads::~PluginThreads() { scoped_threads = before_; }

void set_plugin_threads(int threads) { default_threads = std::max(1, threads); }
void set_plugin_seed(uint64_t value) { seed = value; }
uint64_t plugin_seed() { return seed; }

const quern_host* host_table(const std::string& plugin_id) {
  static std::mutex mutex;
  static auto* entries = new std::map<std::string, std::unique_ptr<HostEntry>>;  // for ever: plugins keep the pointer
  std::lock_guard lock(mutex);
  auto& entry = (*entries)[plugin_id];
  if (!entry) {
    entry = std::make_unique<HostEntry>();
    entry->id = plugin_id;
    quern_host& t = entry->table;
    t = abi_struct<quern_host>();
    t.self = entry.get();
    t.make_status = make_status;
    t.log = write_log;
    t.alloc = allocate;
    t.release = deallocate;
    t.cancelled = is_cancelled;
    t.parallel_for = run_parallel;
    t.random = random_number;
    t.extension = no_extension;
    t.status_code = code_of;
    t.status_message = message_of;
    t.release_status = release_status;
  }
  return &entry->table;
}

void throw_if_failed(quern_status* status, const std::string& plugin, const std::string& doing) {
  if (!status) return;
  const std::unique_ptr<quern_status, void (*)(quern_status*)> owned(status, release);
  if (status->code == QUERN_CANCELLED && cancel_requested()) throw_if_cancelled();
  const std::string why = status->message.empty() ? word_for(status->code) : status->message;
  const auto code = status->code == QUERN_RESOURCE_EXHAUSTED ? ErrorCode::memory : ErrorCode::plugin;
  throw Error(code, fmt::format("plugin {}: {}: {}", plugin, doing, why));
}

}  // namespace quern
