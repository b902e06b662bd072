#include <chrono>
#include <cstdlib>

#include "core/base/error.hpp"
#include "core/base/parallel.hpp"
#include "core/engine/engine_state.hpp"
#include "core/engine/reorder.hpp"
#include "core/engine/threads.hpp"

namespace quern {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

void* allocate(size_t bytes) {
  const size_t rounded = (bytes + arena_alignment - 1) / arena_alignment * arena_alignment + arena_padding;
  void* p = std::aligned_alloc(arena_alignment, rounded);
  if (!p) throw Error(ErrorCode::memory, "out of memory: " + std::to_string(bytes) + " bytes for the values of a run");
  return p;
}

// Like Tensor(type, dims) without the zeroing: it is written whole right away.
Tensor unfilled_tensor(DType type, const Dims& dims) {
  std::shared_ptr<void> memory(allocate(static_cast<size_t>(element_count(dims)) * size_of(type)), std::free);
  return Tensor(type, dims, memory, memory.get());
}

TensorView view_of(const Tensor& tensor, const Buffer& buffer) {
  return {const_cast<void*>(tensor.data()), buffer.type, buffer.dims, buffer.strides};
}

// The caller's tensors are looked at during a run only.
struct Forget {
  std::vector<const Tensor*>& inputs;
  ~Forget() { inputs.clear(); }
};

}  // namespace

void Runner::State::Free::operator()(void* p) const { std::free(p); }

Runner::Runner(std::unique_ptr<State> state) : state_(std::move(state)) {}
Runner::~Runner() = default;
Runner::Runner(Runner&&) noexcept = default;

TensorView Runner::State::view(int buffer) const {
  if (buffer < 0) return {};
  const Buffer& b = plan->buffers[static_cast<size_t>(buffer)];
  if (b.constant) return view_of(*b.constant, b);
  if (b.input >= 0) return inputs.empty() ? TensorView{nullptr, b.type, b.dims, b.strides} : view_of(*inputs[static_cast<size_t>(b.input)], b);
  return {static_cast<char*>(arena.get()) + plan->storages[static_cast<size_t>(b.storage)].offset, b.type, b.dims, b.strides};
}

void Runner::State::bind(std::shared_ptr<Plan> to) {
  const bool same = to == plan;
  complete = complete && same;
  plan = std::move(to);
  bound_epoch = plan->epoch;
  if (plan->arena_bytes > arena_size || !arena) {
    arena.reset();
    arena.reset(allocate(plan->arena_bytes));
    arena_size = plan->arena_bytes;
  }
  if (plan->workspace_bytes > workspace_size || !workspace) {
    workspace.reset();
    workspace.reset(allocate(plan->workspace_bytes));
    workspace_size = plan->workspace_bytes;
  }
  const size_t n = plan->steps.size();
  if (!same) {
    states.clear();
    states.resize(n);
    versions.assign(n, -1);
  }
  views.clear();
  bound.clear();
  prepared_anew.assign(n, 0);
  inputs.clear();
  for (size_t i = 0; i < n; ++i) {
    const Step& step = plan->steps[i];
    BoundStep b;
    b.inputs = views.size();
    for (int buffer : step.inputs) views.push_back(view(buffer));
    b.outputs = views.size();
    for (int buffer : step.outputs) views.push_back(view(buffer));
    bound.push_back(b);
    if (versions[i] == step.version) continue;
    states[i] = step.kernel ? step.kernel->make_state() : nullptr;
    prepared_anew[i] = versions[i] >= 0;
    versions[i] = step.version;
  }
}

void Runner::State::copy_buffer(const BufferCopy& copy) const { reorder(view(copy.from), view(copy.to)); }

void Runner::State::make_copies(size_t step, const std::vector<BufferCopy>& copies) {
  if (copies.empty()) return;
  const auto begin = profiling ? Clock::now() : Clock::time_point{};
  for (const BufferCopy& copy : copies) copy_buffer(copy);
  if (profiling) times.copies[step] += seconds_since(begin);
}

void Runner::State::reset_times() {
  times = {};
  times.kernels.assign(plan->steps.size(), 0);
  times.copies.assign(plan->steps.size(), 0);
}

void Runner::State::run_kernel(const Step& step, size_t index) const {
  try {
    const BoundStep& b = bound[index];
    step.kernel->run(std::span(views).subspan(b.inputs, step.inputs.size()), std::span(views).subspan(b.outputs, step.outputs.size()),
                     workspace.get(), states[index].get());
  } catch (Error& e) {
    if (e.node().empty()) e.set_node(engine->graph.node(step.members[0]).name);
    throw;
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& e) {
    throw Error(ErrorCode::internal, std::string("kernel ") + step.kernel_name + " failed: " + e.what())
        .at_node(engine->graph.node(step.members[0]).name);
  }
}

void Runner::State::run_step(size_t index, const TapFunction& tap) {
  const Step& step = plan->steps[index];
  if (cancel_requested()) throw_if_cancelled();
  if (step.kernel) {
    if (profiling) {
      const auto begin = Clock::now();
      run_kernel(step, index);
      times.kernels[index] = seconds_since(begin);
    } else {
      run_kernel(step, index);
    }
  }
  if (tap)
    for (int buffer : step.taps) tap(engine->graph.value(plan->buffers[static_cast<size_t>(buffer)].value).name, view(buffer));
}

NamedTensors Runner::State::outputs() const {
  const auto& ids = engine->graph.outputs();
  NamedTensors result;
  result.reserve(ids.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    const Buffer& b = plan->buffers[static_cast<size_t>(plan->output_buffers[i])];
    Tensor out = unfilled_tensor(b.type, b.dims);
    const Dims strides = row_major_strides(b.dims);
    reorder(view(plan->output_buffers[i]), TensorView{out.mutable_bytes(), b.type, b.dims, strides});
    result.emplace_back(engine->graph.value(ids[i]).name, std::move(out));
  }
  return result;
}

NamedTensors Runner::run(const NamedTensors& given, const TapFunction& tap) {
  State& s = *state_;
  const auto begin = s.profiling ? Clock::now() : Clock::time_point{};
  std::vector<const Tensor*> matched;
  s.engine->match_inputs(given, matched);
  bool fits = s.plan && s.engine->up_to_date(*s.plan) && s.bound_epoch == s.plan->epoch;
  for (size_t i = 0; fits && i < matched.size(); ++i) fits = s.plan->input_dims[i] == matched[i]->dims();
  if (!fits) {
    std::vector<Dims> dims;
    for (const Tensor* t : matched) dims.push_back(t->dims());
    s.bind(s.engine->plan(s.threads, dims));
  }
  OperatorThreads scope(s.threads);
  s.complete = false;
  s.inputs = std::move(matched);
  Forget forget{s.inputs};
  if (tap)
    for (size_t i = 0; i < s.inputs.size(); ++i)
      if (s.engine->facts.is_tap[static_cast<size_t>(s.engine->graph.inputs()[i])])
        tap(s.engine->graph.value(s.engine->graph.inputs()[i]).name, s.view(static_cast<int>(i)));
  if (s.profiling) s.reset_times();
  for (size_t i = 0; i < s.plan->steps.size(); ++i) {
    s.make_copies(i, s.plan->steps[i].copies);
    s.run_step(i, tap);
  }
  std::fill(s.prepared_anew.begin(), s.prepared_anew.end(), 0);
  const auto end = s.profiling ? Clock::now() : Clock::time_point{};
  NamedTensors result = s.outputs();
  s.complete = s.engine->options.keep_all;
  if (s.complete) s.kept_inputs = given;
  if (s.profiling) {
    s.times.outputs = seconds_since(end);
    s.times.total = seconds_since(begin);
  }
  return result;
}

NamedTensors Runner::rerun(const std::vector<NodeId>& changed, const TapFunction& tap) {
  State& s = *state_;
  if (!s.engine->options.keep_all) throw Error(ErrorCode::internal, "rerun needs an engine with keep_all");
  if (!s.complete || !s.plan) throw Error(ErrorCode::internal, "rerun needs a complete run before it");
  if (!s.engine->up_to_date(*s.plan) || s.bound_epoch != s.plan->epoch) {
    const std::shared_ptr<Plan> before = s.plan;
    s.bind(s.engine->plan(s.threads, before->input_dims));
    // The new constants change shapes or layouts: nothing that was kept fits the new plan.
    if (s.plan != before) return run(NamedTensors(s.kept_inputs), tap);
  }
  OperatorThreads scope(s.threads);
  const NamedTensors& given = s.kept_inputs;
  s.engine->match_inputs(given, s.inputs);
  Forget forget{s.inputs};
  s.complete = false;
  const auto begin = Clock::now();
  if (s.profiling) s.reset_times();
  std::vector<char> dirty(s.plan->storages.size(), 0), is_changed(s.engine->graph.node_slots(), 0);
  for (NodeId id : changed) is_changed.at(static_cast<size_t>(id)) = 1;
  auto is_dirty = [&](int buffer) {
    const int storage = s.plan->buffers[static_cast<size_t>(buffer)].storage;
    return storage >= 0 && dirty[static_cast<size_t>(storage)];
  };
  for (size_t i = 0; i < s.plan->steps.size(); ++i) {
    const Step& step = s.plan->steps[i];
    bool again = s.prepared_anew[i];
    for (NodeId id : step.members) again = again || is_changed[static_cast<size_t>(id)];
    for (const BufferCopy& copy : step.copies) {
      if (!is_dirty(copy.from)) continue;
      s.make_copies(i, {copy});
      dirty[static_cast<size_t>(s.plan->buffers[static_cast<size_t>(copy.to)].storage)] = 1;
    }
    for (int buffer : step.inputs) again = again || is_dirty(buffer);
    if (!again) continue;
    s.run_step(i, tap);
    for (int buffer : step.outputs)
      if (buffer >= 0 && s.plan->buffers[static_cast<size_t>(buffer)].storage >= 0)
        dirty[static_cast<size_t>(s.plan->buffers[static_cast<size_t>(buffer)].storage)] = 1;
  }
  std::fill(s.prepared_anew.begin(), s.prepared_anew.end(), 0);
  NamedTensors result = s.outputs();
  s.complete = true;
  if (s.profiling) s.times.total = seconds_since(begin);
  return result;
}

void Runner::profile(bool on) { state_->profiling = on; }
const RunProfile& Runner::last_profile() const { return state_->times; }

}  // namespace quern
