#include "core/engine/onednn_kernel.hpp"

#include <cstdlib>
#include <cstring>
#include <new>

#include "core/base/error.hpp"
#include "core/engine/arena.hpp"

namespace quern::onednn {
namespace {

std::shared_ptr<void> allocate(size_t bytes) {
  void* p = std::aligned_alloc(arena_alignment, (bytes + arena_alignment - 1) / arena_alignment * arena_alignment + arena_padding);
  if (!p) throw Error(ErrorCode::memory, "out of memory: " + std::to_string(bytes) + " bytes for weights");
  return {p, std::free};
}

class OnednnKernel final : public Kernel {
 public:
  explicit OnednnKernel(Recipe recipe) : r_(std::move(recipe)) {
    for (const Repack& p : r_.repacks)
      reorders_.emplace_back(dnnl::reorder::primitive_desc(cpu(), p.from, cpu(), p.to));
  }

  size_t workspace_bytes() const override { return r_.workspace_bytes; }

  // Memory objects carry the addresses of a run, so they belong to a runner.
  struct State final : KernelState {
    dnnl::stream stream{cpu()};
    std::vector<dnnl::memory> memories, repack_from, repack_to;
    std::vector<dnnl_exec_arg_t> arguments;
  };

  std::unique_ptr<KernelState> make_state() const override {
    auto s = std::make_unique<State>();
    for (const Argument& a : r_.arguments) {
      s->memories.emplace_back(a.desc, cpu(), a.fixed);
      s->arguments.push_back({a.id, s->memories.back().get()});
    }
    for (const Repack& p : r_.repacks) {
      s->repack_from.emplace_back(p.from, cpu(), nullptr);
      s->repack_to.emplace_back(p.to, cpu(), nullptr);
    }
    return s;
  }

  void run(std::span<const TensorView> inputs, std::span<const TensorView> outputs, void* workspace, KernelState* state) const override {
    std::unique_ptr<KernelState> own;
    if (!state) state = (own = make_state()).get();
    State& s = *static_cast<State*>(state);
    for (size_t i = 0; i < r_.repacks.size(); ++i) {
      const Repack& p = r_.repacks[i];
      set(s.repack_from[i], inputs[p.input].data);
      set(s.repack_to[i], static_cast<char*>(workspace) + p.workspace_offset);
      const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, s.repack_from[i].get()}, {DNNL_ARG_TO, s.repack_to[i].get()}};
      execute(reorders_[i], s, args, 2);
    }
    if (r_.before) r_.before(inputs, outputs);
    for (size_t i = 0; i < r_.arguments.size(); ++i) {
      const Argument& a = r_.arguments[i];
      switch (a.from) {
        case Argument::From::input: set(s.memories[i], inputs[a.slot].data); break;
        case Argument::From::output: set(s.memories[i], outputs[0].data); break;
        case Argument::From::workspace: set(s.memories[i], static_cast<char*>(workspace) + a.slot); break;
        case Argument::From::fixed: break;
      }
    }
    execute(r_.primitive, s, s.arguments.data(), static_cast<int>(s.arguments.size()));
  }

 private:
  static void set(const dnnl::memory& memory, void* data) {
    if (dnnl_memory_set_data_handle(memory.get(), data) != dnnl_success) throw Error(ErrorCode::internal, "oneDNN refused an address");
  }
  // Through the C interface: the C++ one builds a hash map per call.
  static void execute(const dnnl::primitive& primitive, const State& s, const dnnl_exec_arg_t* args, int count) {
    const dnnl_status_t status = dnnl_primitive_execute(primitive.get(), s.stream.get(), count, args);
    if (status != dnnl_success) throw Error(ErrorCode::internal, "oneDNN failed with status " + std::to_string(status));
  }

  Recipe r_;
  std::vector<dnnl::reorder> reorders_;
};

}  // namespace

void require_memory() {
  constexpr size_t enough = size_t{32} << 20;  // of addresses, not of memory; several times what the code generated until the next look takes
  thread_local int primitives = 0;             // a look costs system calls: for networks of thousands of nodes most of the planning
  if (primitives++ % 32 != 0) return;
  void* volatile probe = std::malloc(enough);
  if (!probe) throw std::bad_alloc();
  std::free(probe);
}

const dnnl::engine& cpu() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

size_t Recipe::take_workspace(size_t bytes) {
  const size_t at = workspace_bytes;
  workspace_bytes += (bytes + arena_alignment - 1) / arena_alignment * arena_alignment;
  return at;
}

void Recipe::add_scratchpad(const dnnl::memory::desc& desc) {
  if (desc.get_size() == 0) return;
  const size_t at = take_workspace(desc.get_size());
  arguments.push_back({DNNL_ARG_SCRATCHPAD, desc, Argument::From::workspace, at, nullptr});
}

void Recipe::add_fixed(int id, const dnnl::memory::desc& desc, std::shared_ptr<const void> memory, const void* data) {
  arguments.push_back({id, desc, Argument::From::fixed, 0, const_cast<void*>(data)});
  owned.push_back(std::move(memory));
}

void Recipe::add_weights(int id, const dnnl::memory::desc& given, const dnnl::memory::desc& wanted, const TensorSpec& spec, size_t slot) {
  if (!spec.constant) {
    if (given == wanted) { add_input(id, given, slot); return; }
    const size_t at = take_workspace(wanted.get_size());
    repacks.push_back({given, wanted, slot, at});
    arguments.push_back({id, wanted, Argument::From::workspace, at, nullptr});
    return;
  }
  // One copy where the order is as given and the memory is aligned (a mapped file may not be).
  const bool aligned = reinterpret_cast<uintptr_t>(spec.constant->data()) % arena_alignment == 0;
  if (given == wanted && (aligned || (spec.constant->bytes() >= large_weights && usable_as_it_lies(*spec.constant)))) {
    add_fixed(id, given, std::make_shared<Tensor>(*spec.constant), spec.constant->data());
    return;
  }
  auto packed = allocate(wanted.get_size());
  auto source = allocate(spec.constant->bytes());  // aligned
  std::memcpy(source.get(), spec.constant->data(), spec.constant->bytes());
  dnnl::memory from(given, cpu(), source.get()), to(wanted, cpu(), packed.get());
  dnnl::stream stream(cpu());
  dnnl::reorder(from, to).execute(stream, from, to);
  stream.wait();
  add_fixed(id, wanted, packed, packed.get());
}

bool usable_as_it_lies(const Tensor& weights) {
  const auto at = reinterpret_cast<uintptr_t>(weights.data());
  return at % arena_alignment == 0 || (at % sizeof(float) == 0 && dnnl::get_effective_cpu_isa() != dnnl::cpu_isa::sse41);
}

std::unique_ptr<Kernel> make_kernel(Recipe recipe) { return std::make_unique<OnednnKernel>(std::move(recipe)); }

bool is_fast(const std::string& implementation) {
  return implementation.rfind("ref", 0) != 0 && implementation.find(":ref") == std::string::npos;
}

dnnl::memory::desc strided(const Dims& dims, const Dims& strides) { return {dims, dnnl::memory::data_type::f32, strides}; }

size_t slot_of(const KernelRequest& request, ValueId value) {
  for (size_t i = 0; i < request.input_values.size(); ++i)
    if (request.input_values[i] == value) return i;
  throw Error(ErrorCode::internal, "an operand is not among the group's inputs");
}

void add_residual(const KernelRequest& request, const Fused& fused, Recipe& recipe, PreparedKernel& made) {
  if (fused.residual == no_value) return;
  const size_t slot = slot_of(request, fused.residual);
  const size_t bytes = static_cast<size_t>(element_count(request.outputs[0].dims)) * sizeof(float);
  recipe.before = [slot, bytes](std::span<const TensorView> inputs, std::span<const TensorView> outputs) {
    if (inputs[slot].data != outputs[0].data) std::memcpy(outputs[0].data, inputs[slot].data, bytes);
  };
  // Not when the primitive reads the same tensor as data: it would be overwritten while it is read.
  for (ValueId v : request.graph.node(request.members[0]).inputs)
    if (v == fused.residual) return;
  made.may_alias = true;
  made.alias_input = static_cast<int>(slot);
}

}  // namespace quern::onednn
