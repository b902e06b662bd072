// Element by element: pairs, moves, functions by a table, Concat, selections. kernels/rows.cl.
#include <algorithm>
#include <climits>

#include "plugins/common/derive.hpp"
#include "plugins/common/select.hpp"
#include "plugins/gpu_opencl/kernel.hpp"

namespace quern_gpu {
namespace {

constexpr int copy_mode = 0, map_mode = 1, look_up_mode = 2;

cl_int8 eight(const Dims& v) {
  cl_int8 out{};
  for (size_t i = 0; i < v.size(); ++i) out.s[i] = static_cast<cl_int>(v[i]);
  return out;
}

// A walk as kernels take it: rows, parts of a row.
struct Rows {
  Walk walk;
  int64_t rows = 1, length = 1, part = 1;
  cl_int rank() const { return static_cast<cl_int>(walk.dims.size()); }
  Items items() const { return {rows, (length + part - 1) / part, 1}; }
};
Rows rows_of(const Dims& dims, const Dims& out, const std::vector<Dims>& in) {
  Rows r{make_walk(dims, out, in)};
  if (r.walk.dims.size() > 8) throw Failure(QUERN_UNIMPLEMENTED, "a tensor of more than 8 axes that can't be joined");
  for (size_t i = 0; i + 1 < r.walk.dims.size(); ++i) r.rows *= r.walk.dims[i];
  r.length = r.walk.dims.back();
  r.part = device().is_cpu() ? 4096 : 16;
  return r;
}

// What happens to a code on its way.
struct Change {
  int mode = copy_mode;
  Source source;
  Sink sink;
  cl_mem table = nullptr;
};
void run_rows(Context& context, cl_command_queue queue, cl_mem in, int64_t in_base, const Dims& from, cl_mem out, int64_t out_base, const Dims& dims, const Dims& to, const Change& c) {
  const Rows r = rows_of(dims, to, {from});
  const size_t last = r.walk.dims.size() - 1;
  const cl_int2 steps{{cl_int(r.walk.out[last]), cl_int(r.walk.in[0][last])}};
  launch(context, queue, "rows", r.items(), in, cl_int(in_base), out, cl_int(out_base), cl_int(c.mode), r.rank(), eight(r.walk.dims), eight(r.walk.out), eight(r.walk.in[0]),
         cl_int(r.length), cl_int(r.part), steps, c.source.flip, c.source.zero, c.source.ratio, c.table ? c.table : in, c.sink);
}

class PairKernel : public Kernel {
 public:
  explicit PairKernel(const OpView& op) : Kernel(std::string(op.op()), op, QUERN_LAYOUT_ANY, QUERN_LAYOUT_ANY), sink_(sink_of(op)) {
    static const std::pair<const char*, int> kinds[] = {{"Add", 0}, {"Sub", 0}, {"Mul", 1}, {"Max", 2}, {"Min", 3}};
    for (const auto& [name, number] : kinds)
      if (op.op() == name) kind_ = number;
    if (kind_ < 0) throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": no kernel for " + std::string(op.op()));
    for (size_t k = 0; k < 2; ++k) {
      const std::string role = k == 0 ? "a" : "b";
      const OperandView o = op.input(role);
      Side& s = sides_[k];
      s.source = source_of(op, o, op.table<float>(kind_ == 1 ? "ratio" : role + "_ratio")[0]);
      s.input = place_of(op, role);
      s.dims = dims_of(o);
      s.strides = row_major_strides(s.dims);
      if (o.is_constant()) s.constant = constant_memory(o);
    }
  }

  void enqueue(Context& context, cl_command_queue queue, Span<const View> inputs, const View& output) const override {
    cl_mem memory[2];
    std::vector<Dims> strides;
    for (size_t k = 0; k < 2; ++k) {
      const Side& s = sides_[k];
      auto t = quern_sdk::make<quern_tensor>();
      t.rank = static_cast<uint32_t>(s.dims.size());
      t.dims = s.dims.data();
      t.strides = s.strides.data();
      memory[k] = s.constant.get();
      if (s.input >= 0) {
        t = *inputs[static_cast<size_t>(s.input)].tensor;
        memory[k] = inputs[static_cast<size_t>(s.input)].memory;
      }
      strides.push_back(broadcast_strides(t, output.dims()));
    }
    const Rows r = rows_of(output.dims(), output.strides(), strides);
    const Walk& w = r.walk;
    const size_t last = w.dims.size() - 1;
    const Source &a = sides_[0].source, &b = sides_[1].source;
    launch(context, queue, "pair", r.items(), memory[0], memory[1], output.memory, cl_int(kind_), r.rank(), eight(w.dims), eight(w.out), eight(w.in[0]), eight(w.in[1]), cl_int(r.length),
           cl_int(r.part), cl_int4{{cl_int(w.out[last]), cl_int(w.in[0][last]), cl_int(w.in[1][last]), 0}}, cl_uint2{{a.flip, b.flip}}, cl_int2{{a.zero, b.zero}}, cl_float2{{a.ratio, b.ratio}}, sink_);
  }

 private:
  struct Side {
    Source source;
    int input = -1;
    Dims dims, strides;
    Memory constant;
  };
  int kind_ = -1;
  Sink sink_;
  Side sides_[2];
};

// The contracts "move" and "move_float": codes as they are where the numbers are the same.
Change change_of(const OpView& op) {
  Change c;
  c.sink = sink_of(op);
  const bool maps = c.sink.floats || op.find_table("ratio");
  c.mode = maps ? map_mode : copy_mode;
  c.source = source_of(op, op.input("input"), maps ? op.table<float>("ratio")[0] : 1.f);
  return c;
}

// Which layout of a tensor whose elements keep their row-major order while its shape changes.
uint32_t layout_of_shape_change(const OpView& op) {
  return op.op() == "Transpose" || dims_of(op.input("input")) == dims_of(op.output()) ? QUERN_LAYOUT_ANY : QUERN_LAYOUT_ROW_MAJOR;
}

class MoveKernel : public Kernel {
 public:
  explicit MoveKernel(const OpView& op) : Kernel("move", op, layout_of_shape_change(op), op.op() == "Transpose" ? QUERN_LAYOUT_ROW_MAJOR : layout_of_shape_change(op)) {
    const OperandView input = op.input("input");
    if (input.is_constant()) throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": the input is a constant");
    const Dims in = dims_of(input), out = dims_of(op.output());
    if (count_of(in) != count_of(out)) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": input and output differ in size");
    if (op.op() == "Transpose") {
      Dims reversed;
      for (size_t i = in.size(); i-- > 0;) reversed.push_back(static_cast<int64_t>(i));
      order_ = op.node(0).integers("perm", reversed);
      Dims sorted = order_;
      std::sort(sorted.begin(), sorted.end());
      std::reverse(sorted.begin(), sorted.end());
      bool fits = sorted == reversed && out.size() == in.size();
      for (size_t i = 0; fits && i < out.size(); ++i) fits = in[static_cast<size_t>(order_[i])] == out[i];
      if (!fits) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": perm is not a permutation that gives the output's shape");
    }
    if (op.contract() != "table") {
      change_ = change_of(op);
      return;
    }
    name_ = "gpu_opencl.table";
    change_.mode = look_up_mode;
    change_.sink = sink_of(op);
    // By the byte as it lies: a signed code -128..-1 is a byte 128..255.
    const size_t turn = activation_quant(op, input).is_signed() ? 128 : 0;
    std::vector<int32_t> entries(256);
    const auto put = [&](const auto& values) {
      if (values.size() != 256) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": the table has not 256 entries");
      for (size_t i = 0; i < 256; ++i) {
        int32_t& to = entries[(i + turn) % 256];
        if (sizeof(values[0]) == 4) std::memcpy(&to, &values[i], 4);
        else to = static_cast<int32_t>(values[i]);
      }
    };
    if (change_.sink.floats) put(op.table<float>("table"));
    else if (op.output().dtype() == QUERN_DTYPE_S8) put(op.table<int8_t>("table"));
    else put(op.table<uint8_t>("table"));
    table_ = device().memory(entries.size() * sizeof(int32_t), entries.data());
    change_.table = table_.get();
  }

  void enqueue(Context& context, cl_command_queue queue, Span<const View> inputs, const View& output) const override {
    const View& in = inputs[0];
    const Dims strides = in.strides();
    if (!order_.empty()) {
      Dims turned;
      for (int64_t a : order_) turned.push_back(strides[static_cast<size_t>(a)]);
      return run_rows(context, queue, in.memory, 0, turned, output.memory, 0, output.dims(), output.strides(), change_);
    }
    if (in.dims() == output.dims()) return run_rows(context, queue, in.memory, 0, strides, output.memory, 0, output.dims(), output.strides(), change_);
    const Dims flat{quern_sdk::TensorView(*in.tensor).count()}, one{1};
    run_rows(context, queue, in.memory, 0, one, output.memory, 0, flat, one, change_);
  }

 private:
  Change change_;
  Dims order_;
  Memory table_;
};

class ConcatKernel : public Kernel {
 public:
  explicit ConcatKernel(const OpView& op) : Kernel("concat", op, QUERN_LAYOUT_ANY, QUERN_LAYOUT_ANY) {
    std::string reason;
    if (!supports(op, reason)) throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": " + reason);
    const Dims out = dims_of(op.output());
    axis_ = op.node(0).integer("axis", 0);
    if (axis_ < 0) axis_ += static_cast<int64_t>(out.size());
    if (axis_ < 0 || axis_ >= static_cast<int64_t>(out.size())) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": axis is outside of the rank");
    int64_t begin = 0;
    // In the order of the operator's inputs: one operand may come twice.
    for (int32_t index : op.node(0).inputs()) {
      if (index < 0 || static_cast<size_t>(index) >= op.inputs()) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": an input is missing");
      const OperandView o = op.input_at(static_cast<size_t>(index));
      Piece p;
      p.dims = dims_of(o);
      p.begin = begin;
      Dims other = p.dims;
      if (other.size() == out.size()) other[static_cast<size_t>(axis_)] = out[static_cast<size_t>(axis_)];
      if (other != out) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": an input does not fit the output");
      begin += p.dims[static_cast<size_t>(axis_)];
      if (o.is_constant()) p.constant = constant_memory(o);
      else p.input = place_of(op, o.role());
      pieces_.push_back(std::move(p));
    }
    if (begin != out[static_cast<size_t>(axis_)]) throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": the inputs do not fill the output");
  }

  void enqueue(Context& context, cl_command_queue queue, Span<const View> inputs, const View& output) const override {
    const Dims to = output.strides();
    for (const Piece& p : pieces_) {
      const View* in = p.input >= 0 ? &inputs[static_cast<size_t>(p.input)] : nullptr;
      run_rows(context, queue, in ? in->memory : p.constant.get(), 0, in ? in->strides() : row_major_strides(p.dims), output.memory, p.begin * to[static_cast<size_t>(axis_)], p.dims, to, Change{});
    }
  }

 private:
  struct Piece {
    int input = -1;
    int64_t begin = 0;
    Dims dims;
    Memory constant;
  };
  int64_t axis_ = 0;
  std::vector<Piece> pieces_;
};

// Where an output element comes from, as a sum over the output's axes: list[axis][place] is an offset along axes of the input, or nothing (a fill).
// Offsets are kept as (axis of the input, index) pairs until the strides are known.
class SelectKernel : public Kernel {
 public:
  explicit SelectKernel(const OpView& op) : Kernel("select", op, QUERN_LAYOUT_ANY, QUERN_LAYOUT_ANY), change_(change_of(op)) {
    const OperandView input = op.input("input");
    std::string reason;
    if (input.is_constant()) reason = "the input is a constant";
    if (!reason.empty() || !can_select(op, reason)) throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": " + reason);
    const Dims in = dims_of(input), out = dims_of(op.output());
    if (out.size() > 8) throw Failure(QUERN_UNIMPLEMENTED, std::string(op.name()) + ": more than 8 axes");
    places_.resize(out.size());
    if (op.op() == "DepthToSpace" || op.op() == "SpaceToDepth") {
      blocks(op, in, out);
      return;
    }
    const Selection s = selection_of(op, in, out);
    dropped_ = s.dropped;
    for (size_t a = 0; a < out.size(); ++a)
      for (const Run& r : s.axes[a])
        for (int64_t i = 0; i < r.count; ++i) {
          if (r.fill) places_[a].push_back({Step{-1, 0}});
          else if (s.input_axis[a] < 0) places_[a].push_back({});
          else places_[a].push_back({Step{s.input_axis[a], r.in + i * r.step}});
        }
    if (op.op() == "Pad") fill_ = pad_code(op);
  }

  void enqueue(Context& context, cl_command_queue queue, Span<const View> inputs, const View& output) const override {
    const Dims from = inputs[0].strides(), to = output.strides(), dims = output.dims();
    int64_t base = 0;
    for (size_t a = 0; a < dropped_.size(); ++a) base += dropped_[a] > 0 ? dropped_[a] * from[a] : 0;
    // The axis that lies densely in the output comes last.
    std::vector<size_t> order;
    for (size_t a = 0; a < dims.size(); ++a) order.push_back(a);
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return to[a] > to[b]; });
    Dims d, so, begin;
    std::vector<int32_t> table;
    for (size_t a : order) {
      d.push_back(dims[a]);
      so.push_back(to[a]);
      begin.push_back(static_cast<int64_t>(table.size()));
      for (const auto& steps : places_[a]) {
        int64_t at = 0;
        for (const Step& s : steps) at = s.axis < 0 ? INT_MIN : at + s.index * from[static_cast<size_t>(s.axis)];
        table.push_back(static_cast<int32_t>(at));
      }
    }
    if (d.empty()) {
      d = so = {1};
      begin = {0};
      table = {0};
    }
    int64_t rows = 1;
    for (size_t i = 0; i + 1 < d.size(); ++i) rows *= d[i];
    launch(context, queue, "gather", {rows, 1, 1}, inputs[0].memory, cl_int(base), output.memory, context.numbers(0, queue, table), cl_int(d.size()), eight(d), eight(so), eight(begin), cl_int(d.back()),
           cl_int(change_.mode == map_mode), cl_uint(fill_), change_.source.flip, change_.source.zero, change_.source.ratio, change_.sink);
  }

 private:
  struct Step {
    int axis;       // of the input; -1: a fill
    int64_t index;
  };

  // out[n, c, y, x] of DepthToSpace takes in[n, block channel(y % b, x % b, c), y / b, x / b]: a sum over the output's axes; likewise the other way.
  void blocks(const OpView& op, const Dims& in, const Dims& out) {
    const bool to_space = op.op() == "DepthToSpace", by_columns = op.node(0).text("mode", "DCR") == "CRD";
    const int64_t b = op.node(0).integer("blocksize", 0);
    const Dims &deep = to_space ? in : out, &wide = to_space ? out : in;
    if (in.size() != 4 || out.size() != 4 || b < 1 || deep[0] != wide[0] || deep[1] != wide[1] * b * b || deep[2] * b != wide[2] || deep[3] * b != wide[3])
      throw Failure(QUERN_INVALID_ARGUMENT, std::string(op.name()) + ": input, output and blocksize do not fit each other");
    const int64_t c = wide[1];
    const int64_t row = by_columns ? b : b * c, column = by_columns ? 1 : c, channel = by_columns ? b * b : 1;  // steps of the deep channel
    for (int64_t n = 0; n < out[0]; ++n) places_[0].push_back({Step{0, n}});
    for (int64_t k = 0; k < out[1]; ++k) {
      if (to_space) {
        places_[1].push_back({Step{1, k * channel}});
      } else {
        const int64_t by = k / row % b, bx = k / column % b, from = by_columns ? k / channel : k % c;
        places_[1].push_back({Step{1, from}, Step{2, by}, Step{3, bx}});
      }
    }
    for (int axis = 2; axis < 4; ++axis)
      for (int64_t k = 0; k < out[static_cast<size_t>(axis)]; ++k) {
        auto& list = places_[static_cast<size_t>(axis)];
        if (to_space) list.push_back({Step{axis, k / b}, Step{1, k % b * (axis == 2 ? row : column)}});
        else list.push_back({Step{axis, k * b}});
      }
  }

  Change change_;
  std::vector<std::vector<std::vector<Step>>> places_;  // by axis of the output and place
  Dims dropped_;
  uint8_t fill_ = 0;
};

}  // namespace

void copy_elements(Context& context, cl_command_queue queue, const View& from, const View& to) {
  Dims dims = to.dims(), in = from.strides(), out = to.strides();
  const auto size = static_cast<int64_t>(quern_sdk::size_of(to.tensor->dtype));
  if (size != 1) {  // in bytes, as one more axis
    for (Dims* s : {&in, &out})
      for (int64_t& v : *s) v *= size;
    dims.push_back(size);
    in.push_back(1);
    out.push_back(1);
  }
  run_rows(context, queue, from.memory, 0, in, to.memory, 0, dims, out, Change{});
}

std::unique_ptr<Kernel> compile_pair(const OpView& op) { return std::make_unique<PairKernel>(op); }
std::unique_ptr<Kernel> compile_move(const OpView& op) { return std::make_unique<MoveKernel>(op); }
std::unique_ptr<Kernel> compile_concat(const OpView& op) { return std::make_unique<ConcatKernel>(op); }
std::unique_ptr<Kernel> compile_select(const OpView& op) { return std::make_unique<SelectKernel>(op); }

}  // namespace quern_gpu
