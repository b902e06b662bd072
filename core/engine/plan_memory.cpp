// Buffers of a plan: layouts, copies between them, lifetimes, sharing in place, and the arena.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "core/base/error.hpp"
#include "core/engine/plan.hpp"
#include "core/engine/reorder.hpp"

namespace quern {

int Plan::add_buffer(ValueId value, Layout layout) {
  const auto v = static_cast<size_t>(value);
  const Tensor* constant = known(*graph_, value);
  Buffer b;
  b.value = value;
  b.type = constant ? constant->type() : table_.dtype[v];
  if (!constant && !table_.dims[v])
    throw Error(ErrorCode::model, "the shape of '" + graph_->value(value).name + "' is not known");
  b.dims = constant ? constant->dims() : *table_.dims[v];
  b.layout = b.dims.size() < 3 ? Layout::row_major : layout;
  b.strides = strides_of(b.dims, b.layout);
  buffers.push_back(std::move(b));
  const int id = static_cast<int>(buffers.size()) - 1;
  buffers_of_[v].push_back(id);
  return id;
}

int Plan::in_new_storage(int buffer) {
  Buffer& b = buffers[static_cast<size_t>(buffer)];
  const size_t size = size_of(b.type);
  if (size == 0)
    throw Error(ErrorCode::model, "tensor '" + graph_->value(b.value).name + "' has type " + std::string(name_of(b.type)) +
                                      ", which can't be computed with");
  const int step = static_cast<int>(steps.size());
  storages.push_back({.bytes = static_cast<size_t>(element_count(b.dims)) * size, .first = step, .last = step});
  b.storage = static_cast<int>(storages.size()) - 1;
  b.last = step;
  return buffer;
}

// The layout in which a value was made; a caller's tensor is row major.
Layout Plan::primary_layout(ValueId value) const {
  const auto& made = buffers_of_[static_cast<size_t>(value)];
  return made.empty() ? Layout::row_major : buffers[static_cast<size_t>(made[0])].layout;
}

bool Plan::has_layout(ValueId value, Layout layout) const {
  for (int b : buffers_of_[static_cast<size_t>(value)]) {
    const Buffer& buffer = buffers[static_cast<size_t>(b)];
    if (buffer.layout == layout || layouts_coincide(buffer.dims)) return true;
  }
  return false;
}

// A buffer with the value in this layout that the step about to be added can read; makes one, and the copy into it, where
// there is none. A caller's tensor is always taken into the arena: kernels may rely on alignment and readable padding.
int Plan::want(ValueId value, Layout layout, Step& step) {
  const auto v = static_cast<size_t>(value);
  if (known(*graph_, value)) {
    if (buffers_of_[v].empty()) {
      const int b = add_buffer(value, Layout::row_major);
      const auto& owner = graph_->value(value).constant;
      buffers[static_cast<size_t>(b)].constant = owner ? owner : table_.data[v];
    }
    return buffers_of_[v][0];
  }
  int source = -1;
  for (int b : buffers_of_[v]) {
    const Buffer& buffer = buffers[static_cast<size_t>(b)];
    if ((buffer.storage >= 0 || buffer.steady) && (buffer.layout == layout || buffer.dims.size() < 3)) return b;
    if (source < 0) source = b;
  }
  if (source < 0)
    throw Error(ErrorCode::internal, "value '" + graph_->value(value).name + "' is used before it is computed");
  for (int b : buffers_of_[v]) {  // the same bytes under other strides
    if (buffers[static_cast<size_t>(b)].storage < 0 && !buffers[static_cast<size_t>(b)].steady) continue;
    if (!layouts_coincide(buffers[static_cast<size_t>(b)].dims)) continue;
    const auto alias = static_cast<size_t>(add_buffer(value, layout));
    const Buffer& same = buffers[static_cast<size_t>(b)];
    buffers[alias].storage = same.storage;
    buffers[alias].input = same.input;
    buffers[alias].steady = same.steady;
    return static_cast<int>(alias);
  }
  const int made = in_new_storage(add_buffer(value, layout));
  step.copies.push_back({source, made});
  if (!layouts_coincide(buffers[static_cast<size_t>(made)].dims) &&
      buffers[static_cast<size_t>(source)].layout != buffers[static_cast<size_t>(made)].layout)
    ++reorders;
  return made;
}

// `any` inputs of one rank must come alike: the layout that costs the fewest bytes of copying, channels last when equal.
std::vector<Layout> Plan::resolve_any(const Step& step) const {
  std::vector<Layout> layouts = step.input_layouts;
  std::map<size_t, std::pair<int64_t, int64_t>> lacking;  // rank -> elements without row major, without channels last
  auto dims_of = [&](size_t i) -> const Dims& { return *table_.dims[static_cast<size_t>(step.input_values[i])]; };
  for (size_t i = 0; i < layouts.size(); ++i) {
    const ValueId v = step.input_values[i];
    if (layouts[i] != Layout::any || known(*graph_, v)) continue;
    auto& [rows, last] = lacking[dims_of(i).size()];
    if (!has_layout(v, Layout::row_major)) rows += element_count(dims_of(i));
    if (!has_layout(v, Layout::channels_last)) last += element_count(dims_of(i));
  }
  for (size_t i = 0; i < layouts.size(); ++i) {
    if (layouts[i] != Layout::any) continue;
    layouts[i] = Layout::row_major;
    if (known(*graph_, step.input_values[i]) || dims_of(i).size() < 3) continue;
    const auto& [rows, last] = lacking[dims_of(i).size()];
    // Nothing to copy either way (one pixel, or both layouts exist): as it was made.
    if (rows == 0 && last == 0) layouts[i] = primary_layout(step.input_values[i]);
    else layouts[i] = last <= rows ? Layout::channels_last : Layout::row_major;
  }
  // One layout per rank also where nothing has to be copied.
  std::map<size_t, Layout> of_rank;
  for (size_t i = 0; i < layouts.size(); ++i) {
    if (step.input_layouts[i] != Layout::any || known(*graph_, step.input_values[i])) continue;
    const size_t rank = dims_of(i).size();
    layouts[i] = of_rank.emplace(rank, layouts[i]).first->second;
  }
  return layouts;
}

void Plan::add_step(Step step, const PreparedKernel& prepared) {
  step.kernel_name = prepared.name;
  step.portable = prepared.portable;
  step.view = prepared.view;
  step.may_alias = prepared.may_alias;
  step.alias_input = prepared.alias_input;
  step.input_layouts = prepared.input_layouts;
  step.output_layouts = prepared.output_layouts;
  std::vector<Layout> layouts = resolve_any(step);
  const int now = static_cast<int>(steps.size());
  // A step with nothing to compute reads nothing either.
  const bool reads = step.kernel || step.view;
  for (size_t i = 0; i < layouts.size() && reads; ++i) {
    const int b = want(step.input_values[i], layouts[i], step);
    step.inputs.push_back(b);
    buffers[static_cast<size_t>(b)].last = now;
  }
  for (const BufferCopy& copy : step.copies) buffers[static_cast<size_t>(copy.from)].last = now;
  if (step.data_sized) {
    step.first_made = static_cast<int>(made.size());
    made.insert(made.end(), step.output_values.begin(), step.output_values.end());
  }
  for (size_t o = 0; o < step.output_values.size(); ++o) {
    const ValueId v = step.output_values[o];
    if (v == no_value || step.data_sized) { step.outputs.push_back(-1); continue; }
    const Dims& dims = *table_.dims[static_cast<size_t>(v)];
    Layout layout = step.output_layouts[o];
    if (layout == Layout::any) {
      layout = Layout::row_major;
      for (size_t i = 0; i < step.input_values.size(); ++i) {
        if (known(*graph_, step.input_values[i]) || table_.dims[static_cast<size_t>(step.input_values[i])]->size() != dims.size()) continue;
        layout = layouts[i];
        break;
      }
    }
    const int b = add_buffer(v, layout);
    Buffer& buffer = buffers[static_cast<size_t>(b)];
    if (step.view && o == 0) {
      const Buffer& source = buffers[static_cast<size_t>(step.inputs.at(0))];
      buffer.storage = source.storage;
      buffer.input = source.input;
      buffer.steady = source.steady;
      buffer.last = now;
      if (source.constant)
        buffer.constant = std::make_shared<Tensor>(source.constant->reshaped(dims));
    } else {
      in_new_storage(b);
    }
    step.outputs.push_back(b);
    if (facts_->is_tap[static_cast<size_t>(v)]) step.taps.push_back(b);
  }
  if (step.kernel) workspace_bytes = std::max(workspace_bytes, step.kernel->workspace_bytes());
  steps.push_back(std::move(step));
}

// A kernel that may write over an input does so when nothing else will read that memory.
void Plan::share_in_place() {
  std::vector<int> last(storages.size(), 0), merged(storages.size());
  for (size_t s = 0; s < storages.size(); ++s) merged[s] = static_cast<int>(s);
  for (const Buffer& b : buffers)
    if (b.storage >= 0) last[static_cast<size_t>(b.storage)] = std::max(last[static_cast<size_t>(b.storage)], b.last);
  auto root = [&](int s) {
    while (merged[static_cast<size_t>(s)] != s) {  // halves the way for the next time: chains may be long
      int& up = merged[static_cast<size_t>(s)];
      up = merged[static_cast<size_t>(up)];
      s = up;
    }
    return s;
  };
  for (size_t i = 0; i < steps.size() && !options_->keep_all; ++i) {
    const Step& step = steps[i];
    if (!step.may_alias || step.view || !step.kernel || step.outputs.empty() || step.outputs[0] < 0) continue;
    const auto slot = static_cast<size_t>(step.alias_input);
    if (slot >= step.inputs.size()) continue;
    const Buffer &in = buffers[static_cast<size_t>(step.inputs[slot])], &out = buffers[static_cast<size_t>(step.outputs[0])];
    if (in.storage < 0 || in.dims != out.dims || in.strides != out.strides || size_of(in.type) != size_of(out.type)) continue;
    const int from = root(in.storage), to = root(out.storage);
    if (from == to || last[static_cast<size_t>(from)] != static_cast<int>(i)) continue;
    bool others = false;
    for (size_t k = 0; k < step.inputs.size(); ++k) {
      const int s = buffers[static_cast<size_t>(step.inputs[k])].storage;
      others = others || (k != slot && s >= 0 && root(s) == from);
    }
    if (others) continue;
    merged[static_cast<size_t>(to)] = from;
    last[static_cast<size_t>(from)] = last[static_cast<size_t>(to)];
  }
  for (Buffer& b : buffers)
    if (b.storage >= 0) b.storage = root(b.storage);
  for (size_t s = 0; s < storages.size(); ++s) storages[s].last = last[s];
}

// Of the last segment: where the graph's outputs lie.
void Plan::place_outputs() {
  const int end = static_cast<int>(steps.size());
  for (ValueId v : graph_->outputs()) {
    const auto id = static_cast<size_t>(v);
    if (known(*graph_, v) && buffers_of_[id].empty()) {
      Step unused;
      output_places.push_back({want(v, Layout::row_major, unused), -1});
      continue;
    }
    if (const auto at = std::find(made.begin(), made.end(), v); at != made.end()) {
      output_places.push_back({-1, static_cast<int>(at - made.begin())});
      continue;
    }
    if (buffers_of_[id].empty())
      throw Error(ErrorCode::model, "nothing computes the output '" + graph_->value(v).name + "' of the model");
    int best = buffers_of_[id][0];
    for (int b : buffers_of_[id])
      if (buffers[static_cast<size_t>(b)].storage >= 0 && buffers[static_cast<size_t>(b)].layout == Layout::row_major) best = b;
    Buffer& b = buffers[static_cast<size_t>(best)];
    b.last = end;
    if (b.layout != Layout::row_major && !layouts_coincide(b.dims)) ++reorders;
    output_places.push_back({best, -1});
  }
}

void Plan::finish() {
  const int end = static_cast<int>(steps.size());
  if (last()) place_outputs();
  else keep_leaving();
  if (options_->keep_all)
    for (Buffer& b : buffers) b.last = end;
  share_in_place();
  // Storages that were merged away take no place.
  std::vector<bool> used(storages.size(), false);
  for (const Buffer& b : buffers)
    if (b.storage >= 0) used[static_cast<size_t>(b.storage)] = true;
  std::vector<ArenaSpan> live;
  std::vector<int> renumbered(storages.size(), -1);
  for (size_t s = 0; s < storages.size(); ++s)
    if (used[s]) {
      renumbered[s] = static_cast<int>(live.size());
      live.push_back(storages[s]);
    }
  for (Buffer& b : buffers)
    if (b.storage >= 0) b.storage = renumbered[static_cast<size_t>(b.storage)];
  storages = std::move(live);
  arena_bytes = assign_offsets(storages);
  check_memory(arena_bytes, no_value);
}

void Plan::check_memory(size_t bytes, ValueId value) const {
  static const size_t machine = static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t limit = options_->memory_limit ? options_->memory_limit : machine;
  if (bytes <= limit) return;
  const std::string what = value == no_value ? "the values of the model"
                                             : "'" + describe(*graph_, value, table_.dtype[static_cast<size_t>(value)],
                                                              table_.dims[static_cast<size_t>(value)].value_or(Dims{})) + "'";
  Error error(ErrorCode::memory, fmt::format("{} would take {:.3g} GB of memory; the limit is {:.3g} GB", what, static_cast<double>(bytes) * 1e-9,
                                           static_cast<double>(limit) * 1e-9));
  if (value != no_value && graph_->value(value).producer != no_node) error.set_node(graph_->node(graph_->value(value).producer).name);
  throw std::move(error).hint("the shape follows from the shapes of the inputs, or from what the model computed before: check both");
}

}  // namespace quern
