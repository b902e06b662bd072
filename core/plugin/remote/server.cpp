#include "core/plugin/remote/server.hpp"

#include <fmt/format.h>

#include <map>
#include <mutex>
#include <thread>

#include "core/base/error.hpp"
#include "core/plugin/host.hpp"
#include "core/plugin/manifest.hpp"
#include "core/plugin/remote/codec.hpp"
#include "core/plugin/remote/process.hpp"
#include "core/plugin/remote/shared.hpp"
#include "core/plugin/target.hpp"

namespace quern::remote {
namespace {

struct Stale {};

// Runs `f`, which gives the bytes of the answer; an Error becomes `failed`.
template <class F>
void answer(Channel& channel, F&& f) {
  try {
    channel.send(answered, f(), never);
  } catch (const Stale&) {
    channel.send(stale, {}, never);
  } catch (const Error& e) {
    channel.send(failed, Writer().number(static_cast<int32_t>(e.code())).text(e.what()).bytes(), never);
  } catch (const std::bad_alloc&) {
    channel.send(failed, Writer().number(static_cast<int32_t>(ErrorCode::memory)).text("out of memory").bytes(), never);
  } catch (const std::exception& e) {
    channel.send(failed, Writer().number(static_cast<int32_t>(ErrorCode::plugin)).text(e.what()).bytes(), never);
  }
}

struct Operand { DType type; Dims dims, strides; TensorView view(void* data) const { return {data, type, dims, strides}; } };

std::vector<Operand> read_operands(Reader& r) {
  std::vector<Operand> out(r.number<uint32_t>());
  for (Operand& o : out) {
    o.type = static_cast<DType>(r.number<int32_t>());
    o.dims = r.dims();
    o.strides = r.dims();
  }
  return out;
}

size_t bytes_of(const Operand& o) { return static_cast<size_t>(element_count(o.dims)) * size_of(o.type); }

class Server {
 public:
  Server(const fs::path& plugin, Channel& channel) : channel_(channel) {
    const Manifest manifest = inspect_plugin(plugin);
    if (manifest.targets.empty()) throw Error(ErrorCode::plugin, "is no target");
    target_ = make_target(load_plugin(plugin, manifest), manifest);
  }

  void run() {
    Message m;
    while (channel_.receive(m, never) == Transfer::done) {
      answer(channel_, [&] { return handle(m); });
    }
  }

 private:
  std::string handle(Message& m) {
    Reader r(m.bytes);
    set_plugin_seed(r.number<uint64_t>());
    Writer w;
    switch (m.what) {
      case rules_request: return w.text(target_->rules_text()).bytes();
      case available_request: {
        std::string reason;
        const bool yes = target_->available(r.text(), &reason);
        return w.number(static_cast<uint8_t>(yes)).text(reason).bytes();
      }
      case supports_request: {
        const std::string profile = r.text();
        std::string reason;
        const bool yes = target_->supports(profile, r.unit(), &reason);
        return w.number(static_cast<uint8_t>(yes)).text(reason).bytes();
      }
      case derive_request: {
        const std::string profile = r.text();
        return w.tables(target_->derive(profile, r.unit())).bytes();
      }
      case cost_request: {
        const std::string profile = r.text();
        double cycles = 0, bytes = 0;
        const bool yes = target_->cost(profile, r.unit(), &cycles, &bytes);
        return w.number(static_cast<uint8_t>(yes)).number(cycles).number(bytes).bytes();
      }
      case compile_request: return compile(r);
      case forget_request: {
        std::lock_guard lock(mutex_);
        kernels_.erase(r.number<uint64_t>());
        return "";
      }
      case context_request: return open_context(r, m.files);
      default: throw Error(ErrorCode::plugin, fmt::format("request {} is unknown", m.what));
    }
  }

  std::string compile(Reader& r) {
    const std::string profile = r.text();
    const auto number = r.number<uint64_t>();
    const int threads = r.number<int32_t>();
    std::vector<Dims> inputs(r.number<uint32_t>());
    for (Dims& d : inputs) d = r.dims();
    const Dims output = r.dims();
    std::shared_ptr<const TargetKernel> kernel = target_->compile(profile, r.unit(), inputs, output, threads);
    Writer w;
    w.number(kernel->workspace_bytes()).text(kernel->name()).numbers<uint32_t>(kernel->input_layouts()).number(kernel->output_layout());
    std::lock_guard lock(mutex_);
    kernels_[number] = std::move(kernel);
    return w.bytes();
  }

  // kernel, inputs, outputs; files: the channel and the memory.
  std::string open_context(Reader& r, std::vector<File>& files) {
    std::shared_ptr<const TargetKernel> kernel;
    {
      std::lock_guard lock(mutex_);
      const auto at = kernels_.find(r.number<uint64_t>());
      if (at == kernels_.end()) throw Stale();
      if (files.size() != 2) throw Error(ErrorCode::plugin, "a context without its memory");
      kernel = at->second;
    }
    auto inputs = read_operands(r), outputs = read_operands(r);
    std::vector<SharedMemory::Place> places;
    for (const Operand& o : inputs) places.push_back({bytes_of(o), false});
    for (const Operand& o : outputs) places.push_back({bytes_of(o), true});
    places.push_back({static_cast<size_t>(kernel->workspace_bytes()), true});
    auto memory = SharedMemory::open(std::move(files[1]), places);
    auto context = kernel->make_context();
    std::thread([kernel = std::move(kernel), context = std::move(context), memory = std::move(memory), inputs = std::move(inputs),
                 outputs = std::move(outputs), channel = Channel(std::move(files[0]))]() mutable {
      std::vector<TensorView> in, out;
      size_t place = 0;
      for (const Operand& o : inputs) in.push_back(o.view(memory.data(place++)));
      for (const Operand& o : outputs) out.push_back(o.view(memory.data(place++)));
      Message m;
      while (channel.receive(m, never) == Transfer::done)
        answer(channel, [&] {
          kernel->execute(*context, in, out, memory.data(place));
          return Writer().number(kernel->saturations(*context)).bytes();
        });
      context.reset();  // before its kernel
    }).detach();
    return "";
  }

  Channel& channel_;
  std::shared_ptr<const Target> target_;
  std::mutex mutex_;
  std::map<uint64_t, std::shared_ptr<const TargetKernel>> kernels_;
};

}  // namespace

void serve(const fs::path& plugin, File socket) {
  Channel channel(std::move(socket));
  std::unique_ptr<Server> server;
  answer(channel, [&] {
    server = std::make_unique<Server>(plugin, channel);
    return std::string();
  });
  if (server) server->run();
}

}  // namespace quern::remote
