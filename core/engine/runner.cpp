#include <chrono>
#include <cstdlib>

#include "core/base/error.hpp"
#include "core/base/parallel.hpp"
#include "core/engine/engine_state.hpp"
#include "core/engine/reorder.hpp"
#include "core/engine/saturations.hpp"
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

bool Runner::State::Segment::is_dirty(int buffer) const {
  const Buffer& b = plan->buffers[static_cast<size_t>(buffer)];
  if (b.storage >= 0) return dirty[static_cast<size_t>(b.storage)];
  return b.input >= 0 && !b.constant && dirty_entry[static_cast<size_t>(b.input)];
}

// Of a caller's tensor outside of a run, and of a tensor not made yet: no data.
TensorView Runner::State::entry(const Entry& at) const {
  const auto i = static_cast<size_t>(at.index);
  if (at.from == Entry::From::buffer) return view(*segments[static_cast<size_t>(at.segment)], at.index);
  if (at.from == Entry::From::caller) return inputs.empty() ? TensorView{} : TensorView{const_cast<void*>(inputs[i]->data()), inputs[i]->type(), {}, {}};
  const auto& made = segments[static_cast<size_t>(at.segment)]->made;
  return i < made.size() ? TensorView{const_cast<void*>(made[i].data()), made[i].type(), {}, {}} : TensorView{};
}

TensorView Runner::State::view(const Segment& s, int buffer) const {
  if (buffer < 0) return {};
  const Buffer& b = s.plan->buffers[static_cast<size_t>(buffer)];
  if (b.constant) return {const_cast<void*>(b.constant->data()), b.type, b.dims, b.strides};
  if (b.input >= 0) return {entry(s.plan->entries[static_cast<size_t>(b.input)]).data, b.type, b.dims, b.strides};
  return {static_cast<char*>(s.arena.get()) + s.plan->storages[static_cast<size_t>(b.storage)].offset, b.type, b.dims, b.strides};
}

void Runner::State::bind(size_t segment, std::shared_ptr<Plan> to) {
  while (segments.size() <= segment) segments.push_back(std::make_unique<Segment>());
  Segment& s = *segments[segment];
  const bool same = to == s.plan;
  s.complete = s.complete && same;
  s.plan = std::move(to);
  s.bound_epoch = s.plan->epoch;
  s.binding = ++bindings;
  auto grow = [](Memory& memory, size_t& size, size_t wanted) {
    if (wanted <= size && memory) return;
    memory.reset();
    memory.reset(allocate(wanted));
    size = wanted;
  };
  grow(s.arena, s.arena_size, s.plan->arena_bytes);
  grow(s.workspace, s.workspace_size, s.plan->workspace_bytes);
  const size_t n = s.plan->steps.size();
  if (!same) {
    s.states.clear();
    s.states.resize(n);
    s.versions.assign(n, -1);
    s.made.clear();
  }
  s.made.resize(s.plan->made.size());
  s.views.clear();
  s.bound.clear();
  s.prepared_anew.assign(n, 0);
  for (size_t i = 0; i < n; ++i) {
    const Step& step = s.plan->steps[i];
    BoundStep b;
    b.inputs = s.views.size();
    for (int buffer : step.inputs) s.views.push_back(view(s, buffer));
    b.outputs = s.views.size();
    for (int buffer : step.outputs) s.views.push_back(view(s, buffer));
    s.bound.push_back(b);
    if (s.versions[i] == step.version) continue;
    s.states[i] = step.kernel ? step.kernel->make_state() : nullptr;
    s.prepared_anew[i] = s.versions[i] >= 0;
    s.versions[i] = step.version;
  }
}

void Runner::State::copy_buffer(const Segment& s, const BufferCopy& copy) const { reorder(view(s, copy.from), view(s, copy.to)); }

void Runner::State::make_copies(const Segment& s, size_t step, std::span<const BufferCopy> copies) {
  if (copies.empty()) return;
  const auto begin = profiling ? Clock::now() : Clock::time_point{};
  for (const BufferCopy& copy : copies) copy_buffer(s, copy);
  if (profiling) times.copies[times.copies.size() - s.plan->steps.size() + step] += seconds_since(begin);
}

void Runner::State::run_kernel(Segment& s, const Step& step, size_t index) {
  try {
    const BoundStep& b = s.bound[index];
    const auto in = std::span<const TensorView>(s.views).subspan(b.inputs, step.inputs.size());
    if (step.data_sized) {
      std::vector<Tensor> made = step.data_sized->make(in, s.workspace.get(), s.states[index].get());
      if (made.size() != step.output_values.size()) throw Error(ErrorCode::internal, "the kernel made another number of outputs");
      std::move(made.begin(), made.end(), s.made.begin() + step.first_made);
      return;
    }
    step.kernel->run(in, std::span<const TensorView>(s.views).subspan(b.outputs, step.outputs.size()), s.workspace.get(), s.states[index].get());
    if (const auto* state = dynamic_cast<const SaturatingState*>(s.states[index].get()); state && state->saturations)
      saturations[engine->graph.node(step.members[0]).name] += state->saturations;
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

void Runner::State::run_step(Segment& s, size_t index, const TapFunction& tap) {
  const Step& step = s.plan->steps[index];
  if (cancel_requested()) throw_if_cancelled();
  if (step.kernel) {
    if (profiling) {
      const auto begin = Clock::now();
      run_kernel(s, step, index);
      times.kernels[times.kernels.size() - s.plan->steps.size() + index] = seconds_since(begin);
    } else {
      run_kernel(s, step, index);
    }
  }
  if (!tap) return;
  for (int buffer : step.taps) tap(engine->graph.value(s.plan->buffers[static_cast<size_t>(buffer)].value).name, view(s, buffer));
  for (size_t o = 0; step.data_sized && o < step.output_values.size(); ++o) {
    const ValueId v = step.output_values[o];
    if (v == no_value || !engine->facts.is_tap[static_cast<size_t>(v)]) continue;
    const Tensor& made = s.made[static_cast<size_t>(step.first_made) + o];
    const Dims strides = row_major_strides(made.dims());
    tap(engine->graph.value(v).name, {const_cast<void*>(made.data()), made.type(), made.dims(), strides});
  }
}

void Runner::State::run_all(Segment& s, const TapFunction& tap) {
  for (size_t i = 0; i < s.plan->steps.size(); ++i) {
    make_copies(s, i, s.plan->steps[i].copies);
    run_step(s, i, tap);
  }
  if (!engine->options.keep_all) return;
  s.dirty.assign(s.plan->storages.size(), 1);
  s.dirty_made.assign(s.made.size(), 1);
  s.dirty_entry.assign(s.plan->entries.size(), 1);
}

void Runner::State::run_dirty(Segment& s, const std::vector<char>& is_changed, const TapFunction& tap) {
  s.dirty.assign(s.plan->storages.size(), 0);
  s.dirty_made.assign(s.made.size(), 0);
  s.dirty_entry.assign(s.plan->entries.size(), 0);
  for (size_t e = 0; e < s.plan->entries.size(); ++e) {
    const Entry& at = s.plan->entries[e];
    if (at.from == Entry::From::caller) continue;
    const Segment& there = *segments[static_cast<size_t>(at.segment)];
    s.dirty_entry[e] = at.from == Entry::From::made ? there.dirty_made[static_cast<size_t>(at.index)] : there.is_dirty(at.index);
  }
  for (size_t i = 0; i < s.plan->steps.size(); ++i) {
    const Step& step = s.plan->steps[i];
    bool again = s.prepared_anew[i];
    for (NodeId id : step.members) again = again || is_changed[static_cast<size_t>(id)];
    for (const BufferCopy& copy : step.copies) {
      if (!s.is_dirty(copy.from)) continue;
      make_copies(s, i, {&copy, 1});
      s.dirty[static_cast<size_t>(s.plan->buffers[static_cast<size_t>(copy.to)].storage)] = 1;
    }
    for (int buffer : step.inputs) again = again || s.is_dirty(buffer);
    if (!again) continue;
    run_step(s, i, tap);
    if (step.data_sized) std::fill_n(s.dirty_made.begin() + step.first_made, step.output_values.size(), char{1});
    for (int buffer : step.outputs)
      if (buffer >= 0 && s.plan->buffers[static_cast<size_t>(buffer)].storage >= 0)
        s.dirty[static_cast<size_t>(s.plan->buffers[static_cast<size_t>(buffer)].storage)] = 1;
  }
}

Found Runner::State::find(const Segment& s) const {
  Found found;
  for (const Tensor& t : s.made) found.made.push_back(t.dims());
  for (const auto& [value, buffer] : s.plan->asked) {
    const Buffer& b = s.plan->buffers[static_cast<size_t>(buffer)];
    auto data = std::make_shared<Tensor>(b.type, b.dims);
    const Dims strides = row_major_strides(b.dims);
    if (data->count()) reorder(view(s, buffer), TensorView{data->mutable_bytes(), b.type, b.dims, strides});
    found.asked.push_back(std::move(data));
  }
  return found;
}

NamedTensors Runner::State::outputs() const {
  const auto& ids = engine->graph.outputs();
  const Segment& s = *segments[segments_run - 1];
  NamedTensors result;
  result.reserve(ids.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    const OutputPlace& at = s.plan->output_places[i];
    const std::string& name = engine->graph.value(ids[i]).name;
    if (at.made >= 0) {
      result.emplace_back(name, s.made[static_cast<size_t>(at.made)]);  // nobody writes to it: a kernel makes new ones
      continue;
    }
    const Buffer& b = s.plan->buffers[static_cast<size_t>(at.buffer)];
    Tensor out = unfilled_tensor(b.type, b.dims);
    const Dims strides = row_major_strides(b.dims);
    reorder(view(s, at.buffer), TensorView{out.mutable_bytes(), b.type, b.dims, strides});
    result.emplace_back(name, std::move(out));
  }
  return result;
}

bool Runner::State::fits_after(size_t segment, const Found& found) const {
  if (segment >= segments.size() || !segments[segment]->plan) return false;
  const Segment& s = *segments[segment];
  if (s.plan->before != segments[segment - 1]->plan || !engine->up_to_date(*s.plan) || s.bound_epoch != s.plan->epoch) return false;
  for (size_t k = 0; k < segment; ++k)  // its views point into memory of earlier segments
    if (segments[k]->binding > s.binding) return false;
  return s.plan->found == found;
}

NamedTensors Runner::State::execute(const std::vector<NodeId>* changed, const TapFunction& tap) {
  OperatorThreads scope(threads);
  const auto begin = profiling ? Clock::now() : Clock::time_point{};
  std::vector<char> is_changed;
  if (changed) {
    is_changed.assign(engine->graph.node_slots(), 0);
    for (NodeId id : *changed) is_changed.at(static_cast<size_t>(id)) = 1;
  }
  if (profiling) times = {};
  const bool keep = engine->options.keep_all;
  bool all = !changed;
  segments_run = 0;  // until all of them have
  for (size_t k = 0;; ++k) {
    Segment& s = *segments[k];
    all = all || !s.complete;
    s.complete = false;
    if (profiling) {
      times.kernels.resize(times.kernels.size() + s.plan->steps.size(), 0);
      times.copies.resize(times.kernels.size(), 0);
    }
    if (all) run_all(s, tap);
    else run_dirty(s, is_changed, tap);
    std::fill(s.prepared_anew.begin(), s.prepared_anew.end(), 0);
    s.complete = keep;
    if (s.plan->last()) {
      segments_run = k + 1;
      const auto end = profiling ? Clock::now() : Clock::time_point{};
      NamedTensors result = outputs();
      if (profiling) {
        times.outputs = seconds_since(end);
        times.total = seconds_since(begin);
      }
      return result;
    }
    Found found = find(s);
    if (!fits_after(k + 1, found)) bind(k + 1, engine->plan_after(s.plan, std::move(found)));
  }
}

NamedTensors Runner::run(const NamedTensors& given, const TapFunction& tap) {
  State& s = *state_;
  std::vector<const Tensor*> matched;
  s.engine->match_inputs(given, matched);
  const Plan* bound = s.segments.empty() ? nullptr : s.segments[0]->plan.get();
  bool fits = bound && s.engine->up_to_date(*bound) && s.segments[0]->bound_epoch == bound->epoch;
  for (size_t i = 0; fits && i < matched.size(); ++i) fits = bound->input_dims[i] == matched[i]->dims();
  if (!fits) {
    std::vector<Dims> dims;
    for (const Tensor* t : matched) dims.push_back(t->dims());
    s.bind(0, s.engine->plan(s.threads, dims));
  }
  s.inputs = std::move(matched);
  Forget forget{s.inputs};
  if (tap)
    for (size_t i = 0; i < s.inputs.size(); ++i)
      if (s.engine->facts.is_tap[static_cast<size_t>(s.engine->graph.inputs()[i])])
        tap(s.engine->graph.value(s.engine->graph.inputs()[i]).name, s.view(*s.segments[0], static_cast<int>(i)));
  s.kept_inputs.clear();
  NamedTensors result = s.execute(nullptr, tap);
  if (s.engine->options.keep_all) s.kept_inputs = given;
  return result;
}

NamedTensors Runner::rerun(const std::vector<NodeId>& changed, const TapFunction& tap) {
  State& s = *state_;
  if (!s.engine->options.keep_all) throw Error(ErrorCode::internal, "rerun needs an engine with keep_all");
  if (!s.segments_run || !s.segments[s.segments_run - 1]->complete)
    throw Error(ErrorCode::internal, "rerun needs a complete run before it");
  const std::shared_ptr<Plan> bound = s.segments[0]->plan;
  if (!s.engine->up_to_date(*bound) || s.segments[0]->bound_epoch != bound->epoch) {
    s.bind(0, s.engine->plan(s.threads, bound->input_dims));
    // The new constants change shapes or layouts: nothing that was kept fits the new plan.
    if (s.segments[0]->plan != bound) return run(NamedTensors(s.kept_inputs), tap);
  }
  s.engine->match_inputs(s.kept_inputs, s.inputs);
  Forget forget{s.inputs};
  return s.execute(&changed, tap);
}

void Runner::profile(bool on) { state_->profiling = on; }
const RunProfile& Runner::last_profile() const { return state_->times; }
const std::map<std::string, uint64_t>& Runner::saturations() const { return state_->saturations; }

PlanInfo Runner::plan_info() const {
  PlanInfo all;
  for (size_t k = 0; k < state_->segments_run; ++k) {
    PlanInfo one = state_->segments[k]->plan->info(state_->engine->graph);
    std::move(one.steps.begin(), one.steps.end(), std::back_inserter(all.steps));
    all.arena_bytes += one.arena_bytes;
    all.workspace_bytes += one.workspace_bytes;
    all.reorders += one.reorders;
    all.segments = static_cast<int>(k) + 1;
  }
  return all;
}

}  // namespace quern
