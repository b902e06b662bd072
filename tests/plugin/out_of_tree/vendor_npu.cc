// The smallest target that compiles: C++17, the installed SDK and nothing else.
#include <quern/plugin.hpp>

namespace {
using namespace quern_sdk;
struct VendorNpu {
  struct Kernel { std::vector<int32_t> multiplier; };
  struct Context { std::vector<int32_t> accumulators; };
  std::string_view describe() { return R"({"quern_rules": 1, "id": "com.vendor.npu", "types": {}, "ops": [], "contracts": {}})"; }
  bool available(std::string_view, std::string& reason) { reason = "no board"; return false; }
  void derive(std::string_view, const OpView& op, TableSink& tables) {
    const QuantView x = op.input("input").quant();
    tables.emit("multiplier", std::vector<int32_t>(1, static_cast<int32_t>(x.scale() * 65536)));
  }
  std::unique_ptr<Kernel> compile(std::string_view, const OpView& op, uint32_t) {
    const auto table = op.table<int32_t>("multiplier");
    return std::make_unique<Kernel>(Kernel{{table.begin(), table.end()}});
  }
  void info(const Kernel&, quern_kernel_info& out) { out.kernel_name = str("vendor"); }
  std::unique_ptr<Context> create_context(const Kernel&) { return std::make_unique<Context>(); }
  void execute(const Kernel&, Context&, Span<const quern_tensor>, Span<const quern_tensor>, void*) {}
};
}  // namespace

QUERN_SDK_TARGET(VendorNpu)
