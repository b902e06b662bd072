// Makes a call of the process it is preloaded into fail: the n-th allocation, or the n-th write, fsync, close, rename, mkdir, creation of
// a file or start of a thread. For tests of what a program does then.
//
//   LD_PRELOAD=libquern_fault.so QUERN_FAULT=new:1234 quern quantize ...           # std::bad_alloc
//   QUERN_FAULT=malloc:1234                                                        # C's functions give null, those of C++ throw
//   QUERN_FAULT=malloc:1234:7                                                      # and six more after it
//   QUERN_FAULT=write:3:28                                                         # errno 28, "No space left on device"
//   QUERN_FAULT=short:3                                                            # the third write takes half; the next says ENOSPC
//   QUERN_FAULT=kill:rename:3                                                      # SIGKILL at the third rename
//   QUERN_FAULT_REPORT=FILE                                                        # counts, at the end: "new 5321 malloc 8000 write 12 ..."
//
// Counting begins with main(): what fails before is the loader's. Standard output and standard error never fail. What oneDNN and libgomp
// ask malloc for is always given: without memory the one crashes and the other ends the process, whatever their caller does.
#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
}

namespace {

enum Kind { kind_new, kind_malloc, kind_write, kind_fsync, kind_close, kind_rename, kind_mkdir, kind_open, kind_thread, kinds };
const char* const names[kinds] = {"new", "malloc", "write", "fsync", "close", "rename", "mkdir", "open", "thread"};

std::atomic<bool> armed{false};
std::atomic<long> counts[kinds];
int wanted = -1, number = ENOSPC;
long first = 0, last = 0;
bool halves = false, kills = false;

bool hit(Kind kind) {
  if (!armed.load(std::memory_order_relaxed)) return false;
  const long n = counts[kind].fetch_add(1, std::memory_order_relaxed) + 1;
  if (kind != wanted || n < first || n > last) return false;
  if (kills) ::raise(SIGKILL);
  return true;
}

bool fails(Kind kind) {
  if (!hit(kind)) return false;
  errno = number;
  return true;
}

// Where the libraries lie that get all they ask for.
struct Range { uintptr_t begin, end; };
Range spared[8];
int n_spared = 0;
int note(dl_phdr_info* info, size_t, void*) {
  const bool spare = info->dlpi_name && (std::strstr(info->dlpi_name, "libdnnl") || std::strstr(info->dlpi_name, "libgomp"));
  for (int i = 0; spare && i < info->dlpi_phnum && n_spared < 8; ++i)
    if (info->dlpi_phdr[i].p_type == PT_LOAD && info->dlpi_phdr[i].p_flags & PF_X) {
      const uintptr_t begin = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
      spared[n_spared++] = {begin, begin + info->dlpi_phdr[i].p_memsz};
    }
  return 0;
}
bool no_memory(const void* caller) {
  const auto at = reinterpret_cast<uintptr_t>(caller);
  for (int i = 0; i < n_spared; ++i)
    if (at >= spared[i].begin && at < spared[i].end) return false;
  return fails(kind_malloc);
}

void read_wish() {
  const char* text = std::getenv("QUERN_FAULT");
  if (!text) return;
  if (std::strncmp(text, "kill:", 5) == 0) { kills = true; text += 5; }
  char word[16] = {};
  long n = 0, more = 0;
  if (std::sscanf(text, "%15[a-z]:%ld:%ld", word, &n, &more) < 2) return;
  if (std::strcmp(word, "short") == 0) { halves = true; std::strcpy(word, "write"); }
  for (int k = 0; k < kinds; ++k)
    if (std::strcmp(names[k], word) == 0) wanted = k;
  const bool memory = wanted == kind_new || wanted == kind_malloc;
  first = last = n;
  if (memory) number = ENOMEM;
  if (memory && more > 0) last = n + more - 1;
  if (!memory && more > 0) number = static_cast<int>(more);
}

template <class F> F real(const char* name) { return reinterpret_cast<F>(::dlsym(RTLD_NEXT, name)); }

void report() {
  const char* path = std::getenv("QUERN_FAULT_REPORT");
  if (!path) return;
  armed = false;
  if (std::FILE* f = std::fopen(path, "w")) {
    for (int k = 0; k < kinds; ++k) std::fprintf(f, "%s %ld\n", names[k], counts[k].load());
    std::fclose(f);
  }
}

using Main = int (*)(int, char**, char**);
Main real_main;
int armed_main(int argc, char** argv, char** environment) {
  read_wish();
  ::dl_iterate_phdr(note, nullptr);
  std::atexit(report);
  armed = true;
  return real_main(argc, argv, environment);
}

// C++ allocates through its own count when "new" is asked for, and through malloc's in any case.
void* allocate(size_t size, size_t align) {
  if (fails(kind_new)) return nullptr;
  return align > 16 ? ::aligned_alloc(align, (size + align - 1) / align * align) : std::malloc(size ? size : 1);
}
void* allocate_or_throw(size_t size, size_t align) {
  if (void* p = allocate(size, align)) return p;
  throw std::bad_alloc();
}

bool result(int fd) { return fd != STDOUT_FILENO && fd != STDERR_FILENO; }

}  // namespace

extern "C" {
int __libc_start_main(Main main, int argc, char** argv, void (*init)(), void (*fini)(), void (*rtld_fini)(), void* stack_end) {
  real_main = main;
  return real<int (*)(Main, int, char**, void (*)(), void (*)(), void (*)(), void*)>("__libc_start_main")(armed_main, argc, argv, init, fini, rtld_fini, stack_end);
}

void* malloc(size_t size) { return no_memory(__builtin_return_address(0)) ? nullptr : __libc_malloc(size); }
void* calloc(size_t n, size_t size) { return no_memory(__builtin_return_address(0)) ? nullptr : __libc_calloc(n, size); }
void* realloc(void* p, size_t size) { return no_memory(__builtin_return_address(0)) ? nullptr : __libc_realloc(p, size); }
void* aligned_alloc(size_t align, size_t size) { return no_memory(__builtin_return_address(0)) ? nullptr : __libc_memalign(align, size); }
void* memalign(size_t align, size_t size) { return no_memory(__builtin_return_address(0)) ? nullptr : __libc_memalign(align, size); }
int posix_memalign(void** p, size_t align, size_t size) {
  if (no_memory(__builtin_return_address(0))) return ENOMEM;
  *p = __libc_memalign(align, size);
  return *p ? 0 : ENOMEM;
}

ssize_t write(int fd, const void* data, size_t size) {
  static const auto next = real<ssize_t (*)(int, const void*, size_t)>("write");
  if (result(fd) && hit(kind_write)) {
    if (halves && counts[kind_write] == first && size > 1) {
      last = first + 1;
      return next(fd, data, size / 2);
    }
    errno = number;
    return -1;
  }
  return next(fd, data, size);
}
int fsync(int fd) {
  static const auto next = real<int (*)(int)>("fsync");
  return fails(kind_fsync) ? -1 : next(fd);
}
int close(int fd) {
  static const auto next = real<int (*)(int)>("close");
  const int done = next(fd);
  return result(fd) && fails(kind_close) ? -1 : done;
}
int rename(const char* from, const char* to) {
  static const auto next = real<int (*)(const char*, const char*)>("rename");
  return fails(kind_rename) ? -1 : next(from, to);
}
int mkdir(const char* path, mode_t mode) {
  static const auto next = real<int (*)(const char*, mode_t)>("mkdir");
  return fails(kind_mkdir) ? -1 : next(path, mode);
}
int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*body)(void*), void* argument) {
  static const auto next = real<int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*)>("pthread_create");
  return fails(kind_thread) ? EAGAIN : next(thread, attributes, body, argument);
}
int open(const char* path, int flags, ...) {
  static const auto next = real<int (*)(const char*, int, ...)>("open");
  va_list more;
  va_start(more, flags);
  const mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
  va_end(more);
  if (flags & O_CREAT && fails(kind_open)) return -1;
  return next(path, flags, mode);
}
}

void* operator new(size_t size) { return allocate_or_throw(size, 16); }
void* operator new[](size_t size) { return allocate_or_throw(size, 16); }
void* operator new(size_t size, std::align_val_t align) { return allocate_or_throw(size, static_cast<size_t>(align)); }
void* operator new[](size_t size, std::align_val_t align) { return allocate_or_throw(size, static_cast<size_t>(align)); }
void* operator new(size_t size, const std::nothrow_t&) noexcept { return allocate(size, 16); }
void* operator new[](size_t size, const std::nothrow_t&) noexcept { return allocate(size, 16); }
void* operator new(size_t size, std::align_val_t align, const std::nothrow_t&) noexcept { return allocate(size, static_cast<size_t>(align)); }
void* operator new[](size_t size, std::align_val_t align, const std::nothrow_t&) noexcept { return allocate(size, static_cast<size_t>(align)); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }
void operator delete[](void* p, size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, size_t, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, size_t, std::align_val_t) noexcept { std::free(p); }
