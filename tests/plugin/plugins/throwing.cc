// A target on the C++ wrappers whose functions throw everything there is.
#include <quern/plugin.hpp>

#include <stdexcept>

namespace {
struct Throws {
  struct Kernel {};
  struct Context {};
  std::string_view describe() {
    return R"({"quern_rules": 1, "id": "test.throws", "types": {}, "ops": [], "contracts": {}, "default_profile": "p", "profiles": {"p": {}}})";
  }
  bool available(std::string_view, std::string&) { throw std::runtime_error("a runtime_error"); }
  void derive(std::string_view, const quern_sdk::OpView& op, quern_sdk::TableSink&) {
    if (op.name() == "int") throw 42;
    if (op.name() == "bad_alloc") throw std::bad_alloc();
    if (op.name() == "parallel") {
      quern_sdk::parallel_for(100, [](int64_t i) {
        if (i >= 7) throw quern_sdk::Failure(QUERN_OUT_OF_RANGE, "index " + std::to_string(i));
      });
    }
    if (op.name() == "handled") {  // a failure of the host that the plugin deals with itself
      try {
        quern_sdk::parallel_for(1, [](int64_t) { throw quern_sdk::Failure(QUERN_NOT_FOUND, "nobody sees this"); });
      } catch (const quern_sdk::HostFailure& e) {
        if (e.code() != QUERN_NOT_FOUND || e.message() != "nobody sees this") throw quern_sdk::Failure(QUERN_INTERNAL, "lost in between");
        return;
      }
    }
    throw quern_sdk::Failure(QUERN_UNIMPLEMENTED, "not this one");
  }
  std::unique_ptr<Kernel> compile(std::string_view, const quern_sdk::OpView&, uint32_t) { return nullptr; }
  void info(const Kernel&, quern_kernel_info&) {}
  std::unique_ptr<Context> create_context(const Kernel&) { return nullptr; }
  void execute(const Kernel&, Context&, quern_sdk::Span<const quern_tensor>, quern_sdk::Span<const quern_tensor>, void*) {}
  bool cost(std::string_view, const quern_sdk::OpView&, double& cycles, double& bytes) {
    cycles = 3;
    bytes = 4;
    return true;
  }
};
}  // namespace

QUERN_SDK_TARGET(Throws)
