// A target in C++17: write a class, get the table of functions.
//
//   struct MyNpu {
//     struct Kernel { uint64_t workspace_bytes() const; ... };            // shared by threads, never changed after compile
//     struct Context { std::vector<int32_t> scratch; };                   // of one thread
//
//     std::string_view describe();                                        // rules, JSON; the same text on every call
//     bool available(std::string_view profile, std::string& reason);
//     void derive(std::string_view profile, const OpView& op, TableSink& tables);
//     std::unique_ptr<Kernel> compile(std::string_view profile, const OpView& op, uint32_t threads);
//     void info(const Kernel& kernel, quern_kernel_info& out);            // zeroed, header set; layouts, workspace, name
//     std::unique_ptr<Context> create_context(const Kernel& kernel);
//     void execute(const Kernel& kernel, Context& context, Span<const quern_tensor> inputs,
//                  Span<const quern_tensor> outputs, void* workspace);
//     // optional, found by their presence:
//     bool supports(std::string_view profile, const OpView& op, std::string& reason);
//     bool cost(std::string_view profile, const OpView& op, double& cycles, double& bytes);   // false: no model
//     uint64_t saturations(const Context& context);
//     void save_kernel(const Kernel& kernel, std::vector<uint8_t>& blob);
//     std::unique_ptr<Kernel> load_kernel(Span<const uint8_t> blob);
//     const void* extension(std::string_view name);
//     void shutdown();
//   };
//   QUERN_SDK_TARGET(MyNpu)
//
// Throw Failure(QUERN_..., "sentence") to refuse; no exception gets across. Except for execute (one thread per context)
// functions are called by several threads at once.
#pragma once
#include <memory>

#include "quern/views.hpp"

namespace quern_sdk {

template <class T>
class TargetPlugin {
 public:
  static const quern_target* table() {
    static T instance;
    static const quern_target t = make_table(&instance);
    return &t;
  }

 private:
  using Kernel = typename T::Kernel;
  using Context = typename T::Context;
  struct Prepared { std::unique_ptr<Kernel> kernel; };
  struct Running { const Kernel* kernel; std::unique_ptr<Context> context; };

  static T& of(void* self) { return *static_cast<T*>(self); }
  static Prepared& of(quern_kernel* k) { return *reinterpret_cast<Prepared*>(k); }
  static Running& of(quern_context* c) { return *reinterpret_cast<Running*>(c); }
  static void tell(const quern_text_sink* sink, const std::string& text) {
    if (sink && !text.empty()) sink->write(sink->self, str(text));
  }

  // Which of the optional functions T has.
  template <class U, class = void> struct has_supports : std::false_type {};
  template <class U> struct has_supports<U, std::void_t<decltype(&U::supports)>> : std::true_type {};
  template <class U, class = void> struct has_cost : std::false_type {};
  template <class U> struct has_cost<U, std::void_t<decltype(&U::cost)>> : std::true_type {};
  template <class U, class = void> struct has_saturations : std::false_type {};
  template <class U> struct has_saturations<U, std::void_t<decltype(&U::saturations)>> : std::true_type {};
  template <class U, class = void> struct has_save : std::false_type {};
  template <class U> struct has_save<U, std::void_t<decltype(&U::save_kernel), decltype(&U::load_kernel)>> : std::true_type {};
  template <class U, class = void> struct has_extension : std::false_type {};
  template <class U> struct has_extension<U, std::void_t<decltype(&U::extension)>> : std::true_type {};
  template <class U, class = void> struct has_shutdown : std::false_type {};
  template <class U> struct has_shutdown<U, std::void_t<decltype(&U::shutdown)>> : std::true_type {};

  static quern_status* describe(void* self, quern_str* rules) noexcept {
    return guarded([&] { *rules = str(of(self).describe()); });
  }
  static quern_status* available(void* self, quern_str profile, int32_t* yes, const quern_text_sink* reason) noexcept {
    return guarded([&] {
      std::string why;
      *yes = of(self).available(view(profile), why) ? 1 : 0;
      tell(reason, why);
    });
  }
  static quern_status* supports(void* self, quern_str profile, const quern_op* op, int32_t* yes, const quern_text_sink* reason) noexcept {
    return guarded([&] {
      std::string why;
      *yes = of(self).supports(view(profile), OpView(*op), why) ? 1 : 0;
      tell(reason, why);
    });
  }
  static quern_status* derive(void* self, quern_str profile, const quern_op* op, const quern_table_sink* sink) noexcept {
    return guarded([&] {
      TableSink tables(*sink);
      of(self).derive(view(profile), OpView(*op), tables);
    });
  }
  static quern_status* compile(void* self, quern_str profile, const quern_op* op, uint32_t threads, quern_kernel** kernel) noexcept {
    return guarded([&] { *kernel = wrap(of(self).compile(view(profile), OpView(*op), threads)); });
  }
  static quern_kernel* wrap(std::unique_ptr<Kernel> kernel) {
    if (!kernel) throw Failure(QUERN_INTERNAL, "compile gave no kernel");
    auto prepared = std::make_unique<Prepared>();
    prepared->kernel = std::move(kernel);
    return reinterpret_cast<quern_kernel*>(prepared.release());
  }
  static quern_status* kernel_info(void* self, quern_kernel* kernel, quern_kernel_info* info) noexcept {
    return guarded([&] {
      auto own = make<quern_kernel_info>();
      of(self).info(*of(kernel).kernel, own);
      const uint32_t known = info->h.struct_size;  // never write beyond what the host has
      if (known < own.h.struct_size) own.h.struct_size = known;
      std::memcpy(static_cast<void*>(info), &own, own.h.struct_size);
    });
  }
  static quern_status* create_context(void* self, quern_kernel* kernel, quern_context** context) noexcept {
    return guarded([&] {
      auto running = std::make_unique<Running>();
      running->kernel = of(kernel).kernel.get();
      running->context = of(self).create_context(*running->kernel);
      *context = reinterpret_cast<quern_context*>(running.release());
    });
  }
  static quern_status* execute(void* self, quern_context* context, const quern_tensor* inputs, uint32_t n_inputs,
                               const quern_tensor* outputs, uint32_t n_outputs, void* workspace) noexcept {
    return guarded([&] {
      Running& r = of(context);
      of(self).execute(*r.kernel, *r.context, Span<const quern_tensor>(inputs, n_inputs),
                       Span<const quern_tensor>(outputs, n_outputs), workspace);
    });
  }
  static void destroy_context(void*, quern_context* context) noexcept { delete reinterpret_cast<Running*>(context); }
  static void destroy_kernel(void*, quern_kernel* kernel) noexcept { delete reinterpret_cast<Prepared*>(kernel); }

  static quern_target make_table(T* instance) {
    auto t = make<quern_target>();
    t.self = instance;
    t.describe = describe;
    t.available = available;
    t.derive = derive;
    t.compile = compile;
    t.kernel_info = kernel_info;
    t.create_context = create_context;
    t.execute = execute;
    t.destroy_context = destroy_context;
    t.destroy_kernel = destroy_kernel;
    if constexpr (has_supports<T>::value) t.supports = supports;
    if constexpr (has_cost<T>::value) {
      t.cost = [](void* self, quern_str profile, const quern_op* op, quern_cost* cost) noexcept -> quern_status* {
        return guarded([&] {
          if (!of(self).cost(view(profile), OpView(*op), cost->cycles, cost->bytes))
            throw Failure(QUERN_UNIMPLEMENTED, "no cost model for this operator");
        });
      };
    }
    if constexpr (has_saturations<T>::value) {
      t.saturations = [](void* self, quern_context* context, uint64_t* count) noexcept -> quern_status* {
        return guarded([&] { *count = of(self).saturations(*of(context).context); });
      };
    }
    if constexpr (has_save<T>::value) {
      t.save_kernel = [](void* self, quern_kernel* kernel, const quern_blob_sink* sink) noexcept -> quern_status* {
        return guarded([&] {
          std::vector<uint8_t> blob;
          of(self).save_kernel(*of(kernel).kernel, blob);
          check(sink->write(sink->self, blob.data(), blob.size()));
        });
      };
      t.load_kernel = [](void* self, const void* blob, uint64_t size, quern_kernel** kernel) noexcept -> quern_status* {
        return guarded([&] {
          *kernel = wrap(of(self).load_kernel(Span<const uint8_t>(static_cast<const uint8_t*>(blob), static_cast<size_t>(size))));
        });
      };
    }
    if constexpr (has_extension<T>::value) {
      t.extension = [](void* self, quern_str name) noexcept -> const void* {
        const void* found = nullptr;
        if (quern_status* failed = guarded([&] { found = of(self).extension(view(name)); })) HostFailure{failed};
        return found;
      };
    }
    if constexpr (has_shutdown<T>::value) {
      t.shutdown = [](void* self) noexcept {
        if (quern_status* failed = guarded([&] { of(self).shutdown(); })) HostFailure{failed};
      };
    }
    return t;
  }
};

}  // namespace quern_sdk

#define QUERN_SDK_TARGET(T)                                                                                \
  extern "C" QUERN_EXPORT quern_status* quern_plugin_entry_v1(const quern_host* host, quern_plugin* out) { \
    return quern_sdk::enter(host, out, [](quern_plugin& p) {                                               \
      p.kind = QUERN_KIND_TARGET;                                                                          \
      p.target = quern_sdk::TargetPlugin<T>::table();                                                      \
    });                                                                                                    \
  }
