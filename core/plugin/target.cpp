#include "core/plugin/target.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "core/base/error.hpp"
#include "core/plugin/abi_op.hpp"
#include "core/plugin/profiles.hpp"
#include "core/plugin/sinks.hpp"

namespace quern {
namespace {

// Sinks: called by the plugin during a call, so nothing may be thrown out of them.
void append_text(void* self, quern_str text) noexcept {
  try {
    static_cast<std::string*>(self)->append(text_of(text));
  } catch (...) {  // the text is lost, not the call
  }
}
quern_text_sink text_sink(std::string& to) {
  auto sink = abi_struct<quern_text_sink>();
  sink.self = &to;
  sink.write = append_text;
  return sink;
}

class PluginKernel : public TargetKernel {
 public:
  PluginKernel(const LoadedPlugin& plugin, quern_kernel* kernel, std::string unit, size_t inputs, int threads)
      : plugin_(plugin), table_(plugin.target), kernel_(kernel), unit_(std::move(unit)), threads_(threads) {
    auto info = abi_struct<quern_kernel_info>();
    info.n_inputs = static_cast<uint32_t>(inputs);
    try {
      call_plugin(plugin_.id, unit_, [&] { return table_.kernel_info(table_.self, kernel_, &info); });
      constexpr size_t listed = std::size(decltype(info.input_layouts){});
      for (size_t i = 0; i < inputs; ++i) layouts_.push_back(check_layout(info.input_layouts[std::min(i, listed - 1)]));
      output_layout_ = check_layout(info.output_layout);
      workspace_ = info.workspace_bytes;
      name_ = text_of(info.kernel_name);
      if (workspace_ > (uint64_t{1} << 40))
        throw Error(ErrorCode::plugin, fmt::format("plugin {}: {}: a kernel wants {} bytes of workspace", plugin_.id, unit_, workspace_));
    } catch (...) {
      table_.destroy_kernel(table_.self, kernel_);
      throw;
    }
  }
  ~PluginKernel() override { table_.destroy_kernel(table_.self, kernel_); }

  uint64_t workspace_bytes() const override { return workspace_; }
  std::string name() const override { return name_; }
  std::vector<uint32_t> input_layouts() const override { return layouts_; }
  uint32_t output_layout() const override { return output_layout_; }

  struct PluginContext : Context {
    const PluginKernel* owner = nullptr;
    quern_context* context = nullptr;
    std::vector<quern_tensor> inputs, outputs;  // reused from call to call
    ~PluginContext() override {
      if (context) owner->table_.destroy_context(owner->table_.self, context);
    }
  };
  std::unique_ptr<Context> make_context() const override {
    auto c = std::make_unique<PluginContext>();
    c->owner = this;
    call_plugin(plugin_.id, unit_, [&] { return table_.create_context(table_.self, kernel_, &c->context); });
    return c;
  }

  void execute(Context& context, std::span<const TensorView> inputs, std::span<const TensorView> outputs, void* workspace) const override {
    auto& c = static_cast<PluginContext&>(context);
    if (inputs.size() != layouts_.size())
      throw Error(ErrorCode::internal, fmt::format("{}: {} inputs are given, its kernel has {}", unit_, inputs.size(), layouts_.size()));
    c.inputs.resize(inputs.size());
    c.outputs.resize(outputs.size());
    for (size_t i = 0; i < inputs.size(); ++i) fill(c.inputs[i], inputs[i], layouts_[i]);
    for (size_t i = 0; i < outputs.size(); ++i) fill(c.outputs[i], outputs[i], output_layout_);
    const PluginThreads scope(threads_);
    call_plugin(plugin_.id, unit_, [&] {
      return table_.execute(table_.self, c.context, c.inputs.data(), static_cast<uint32_t>(c.inputs.size()), c.outputs.data(),
                            static_cast<uint32_t>(c.outputs.size()), workspace);
    });
  }

  uint64_t saturations(Context& context) const override {
    uint64_t count = 0;
    if (table_.saturations)
      call_plugin(plugin_.id, unit_, [&] { return table_.saturations(table_.self, static_cast<PluginContext&>(context).context, &count); });
    return count;
  }

 private:
  uint32_t check_layout(uint32_t layout) const {
    if (layout > QUERN_LAYOUT_ANY)
      throw Error(ErrorCode::plugin, fmt::format("plugin {}: {}: a kernel wants layout {}, which there is not", plugin_.id, unit_, layout));
    return layout;
  }
  static void fill(quern_tensor& t, const TensorView& view, uint32_t layout) {
    t = abi_struct<quern_tensor>();
    t.data = view.data;
    t.dtype = static_cast<uint32_t>(view.type);
    t.rank = static_cast<uint32_t>(view.dims.size());
    t.dims = view.dims.data();
    t.strides = view.strides.data();
    t.bytes = static_cast<uint64_t>(view.count()) * size_of(view.type);
    const size_t n = view.dims.size();
    if (layout == QUERN_LAYOUT_ANY)  // told by the strides; where both orders are the same, row major
      layout = n >= 3 && view.dims[1] > 1 && view.strides[1] == 1 && view.strides[n - 1] != 1 ? QUERN_LAYOUT_CHANNELS_LAST
                                                                                                : QUERN_LAYOUT_ROW_MAJOR;
    t.layout = layout;
  }

  const LoadedPlugin& plugin_;
  const quern_target& table_;
  quern_kernel* kernel_;
  std::string unit_, name_;
  int threads_;
  std::vector<uint32_t> layouts_;
  uint32_t output_layout_ = 0;
  uint64_t workspace_ = 0;
};

class PluginTarget : public ProfiledTarget {
 public:
  PluginTarget(const LoadedPlugin& plugin, const Manifest& manifest)
      : ProfiledTarget(plugin.id), plugin_(plugin), table_(plugin.target), name_(manifest.targets.front()), version_(manifest.version) {}

  std::string name() const override { return name_; }
  std::string version() const override { return version_; }
  fs::path path() const override { return plugin_.path; }

  std::string rules_text() const override {
    quern_str text{};
    call("its rules", [&] { return table_.describe(table_.self, &text); });
    if (!text.data || text.size == 0) throw Error(ErrorCode::plugin, fmt::format("plugin {}: it describes no rules", plugin_.id));
    return text_of(text);
  }

  bool available(const std::string& profile, std::string* reason) const override {
    const std::string p = resolved(profile);
    std::string why;
    const auto sink = text_sink(why);
    int32_t yes = 0;
    call("available", [&] { return table_.available(table_.self, str_of(p), &yes, &sink); });
    if (reason) *reason = why;
    return yes != 0;
  }
  bool supports(const std::string& profile, const IntegerUnit& unit, std::string* reason) const override {
    if (!table_.supports) return true;
    const std::string p = resolved(profile);
    std::string why;
    const auto sink = text_sink(why);
    const AbiOp op(unit);
    int32_t yes = 0;
    call(unit.name, [&] { return table_.supports(table_.self, str_of(p), op.get(), &yes, &sink); });
    if (reason) *reason = why;
    return yes != 0;
  }
  std::map<std::string, Tensor> derive(const std::string& profile, const IntegerUnit& unit) const override {
    const std::string p = resolved(profile);
    const AbiOp op(unit);
    std::map<std::string, Tensor> tables;
    const auto sink = tensor_sink(tables);
    call(unit.name, [&] { return table_.derive(table_.self, str_of(p), op.get(), &sink); });
    return tables;
  }
  std::unique_ptr<TargetKernel> compile(const std::string& profile, const IntegerUnit& unit, const std::vector<Dims>& input_dims,
                                        const Dims& output_dims, int threads) const override {
    const std::string p = resolved(profile);
    const AbiOp op(unit, input_dims, output_dims);
    const PluginThreads scope(threads);
    quern_kernel* kernel = nullptr;
    call(unit.name, [&] {
      return table_.compile(table_.self, str_of(p), op.get(), static_cast<uint32_t>(std::max(1, threads)), &kernel);
    });
    if (!kernel) throw Error(ErrorCode::plugin, fmt::format("plugin {}: {}: compile gave no kernel", plugin_.id, unit.name));
    return std::make_unique<PluginKernel>(plugin_, kernel, unit.name, input_dims.size(), std::max(1, threads));
  }
  bool cost(const std::string& profile, const IntegerUnit& unit, double* cycles, double* bytes) const override {
    if (!table_.cost) return false;
    const std::string p = resolved(profile);
    const AbiOp op(unit);
    auto cost = abi_struct<quern_cost>();
    quern_status* status = table_.cost(table_.self, str_of(p), op.get(), &cost);
    if (status && status->code == QUERN_UNIMPLEMENTED) {
      const quern_host* host = host_table(plugin_.id);
      host->release_status(host->self, status);
      return false;
    }
    throw_if_failed(status, plugin_.id, unit.name);
    *cycles = cost.cycles;
    *bytes = cost.bytes;
    return true;
  }

 private:
  template <class F>
  void call(const std::string& doing, F&& f) const { call_plugin(plugin_.id, doing, std::forward<F>(f)); }

  const LoadedPlugin& plugin_;
  const quern_target& table_;
  std::string name_, version_;
};

}  // namespace

std::shared_ptr<const Target> make_target(const LoadedPlugin& plugin, const Manifest& manifest) {
  return std::make_shared<PluginTarget>(plugin, manifest);
}

}  // namespace quern
