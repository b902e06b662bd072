// A small target whose one fault, if any, is named by QUERN_MUTANT. Without a fault it passes every level of the kit.
#include <fcntl.h>
#include <unistd.h>

#include <cfenv>
#include <clocale>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <thread>

#include "derive.hpp"
#include "fault.hpp"
#include "kernels.hpp"
#include "rules.hpp"

namespace mutant {
namespace {

struct Target {
  using Kernel = mutant::Kernel;
  using Context = mutant::Context;

  std::string_view describe() {
    static const std::string text = is("other-id") ? changed("org.quern.test.mutant", "org.quern.test.other")
                                    : is("broken-reference") ? changed("\"contract\": \"add\"", "\"contract\": \"sum\"")
                                    : is("not-json") ? changed("\"quern_rules\": 1,", "\"quern_rules\": 1")
                                    : is("unknown-key") ? changed("\"passthrough\"", "\"passtrough\"")
                                    : is("lying-contract") ? changed("half_up", "half_down")
                                                     : std::string(rules_text);
    static const std::string other = text + " ";
    static int calls = 0;
    return is("rules-that-change") && ++calls % 7 == 0 ? other : text;
  }
  bool available(std::string_view profile, std::string& reason) {
    static int calls = 0;
    if (is("available-moody") && ++calls % 5 == 4) return reason = "not now", false;
    if (is("available-anything") || profile == "default") return true;
    if (!is("empty-errors")) reason = "there is no such profile";
    return false;
  }
  bool supports(std::string_view, const OpView& op, std::string& reason) { return mutant::supports(op, reason); }
  void derive(std::string_view profile, const OpView& op, quern_sdk::TableSink& tables) {
    know(profile);
    mutant::derive(op, tables);
  }
  std::unique_ptr<Kernel> compile(std::string_view profile, const OpView& op, uint32_t threads) {
    know(profile);
    if (is("compile-locale")) std::setlocale(LC_NUMERIC, "C.UTF-8");
    if (is("leaks")) lost = new char[100];
    if (is("leaks-malloc") && !std::malloc(48)) return nullptr;
    if (is("leaks-files")) (void)::open("/dev/null", O_RDONLY);
    if (is("compile-thread")) std::thread([] { for (;;) ::sleep(1); }).detach();
    std::string reason;
    if (!is("supports-anything") && !mutant::supports(op, reason)) throw Failure(QUERN_UNIMPLEMENTED, reason.empty() ? "not supported" : reason);
    if (op.op() == "Conv") return make_conv(op, threads);
    if (op.op() == "Gemm") return make_dense(op, threads);
    return make_simple(op, threads);
  }
  void info(const Kernel& kernel, quern_kernel_info& out) {
    out.workspace_bytes = kernel.workspace_bytes();
    out.kernel_name = quern_sdk::str(kernel.name());
  }
  std::unique_ptr<Context> create_context(const Kernel&) { return std::make_unique<Context>(); }
  void execute(const Kernel& kernel, Context& context, Span<const quern_tensor> in, Span<const quern_tensor> out, void* workspace) {
    if (is("rounding-mode")) std::fesetround(FE_DOWNWARD);
    if (is("signal-handler")) std::signal(SIGUSR2, SIG_IGN);
    if (is("prints")) std::puts("running");
    if (is("changes-folder") && ::chdir("/") != 0) return;
    kernel.run(context, in, out[0], workspace);
    ++context.runs;
    if (is("every-fifth-run") && context.runs % 5 == 0) static_cast<uint8_t*>(out[0].data)[0] ^= 1;
    static int64_t total = 0;
    if (is("after-many-runs") && ++total % 331 == 330) static_cast<uint8_t*>(out[0].data)[0] ^= 1;
  }
  uint64_t saturations(const Context& context) { return context.saturations + (is("counts-always") ? 1 : 0); }
  const void* extension(std::string_view) { return is("any-extension") ? this : nullptr; }

 private:
  static std::string changed(std::string_view from, std::string_view to) {
    std::string text = rules_text;
    text.replace(text.find(from), from.size(), to);
    return text;
  }
  char* volatile lost = nullptr;
  static void know(std::string_view profile) {
    if (profile == "default" || is("any-profile")) return;
    if (is("empty-errors")) throw Failure(QUERN_INVALID_ARGUMENT, "");
    throw Failure(QUERN_INVALID_ARGUMENT, "there is no profile '" + std::string(profile) + "'");
  }
};

// Thrown past the table, which no exception may cross.
quern_status* throwing(void*, quern_context*, const quern_tensor*, uint32_t, const quern_tensor*, uint32_t, void*) { throw std::runtime_error("thrown"); }

}  // namespace
}  // namespace mutant

extern "C" QUERN_EXPORT quern_status* quern_plugin_entry_v1(const quern_host* host, quern_plugin* out) {
  using namespace mutant;
  misbehave_at_entry();
  if (is("refuses-newer-host") && host->h.minor > QUERN_ABI_MINOR) {
    static constexpr char text[] = "too new";
    return host->make_status(host->self, QUERN_UNIMPLEMENTED, {text, sizeof text - 1});
  }
  static quern_target table = *quern_sdk::TargetPlugin<Target>::table();
  if (is("throws")) table.execute = throwing;
  quern_status* status = quern_sdk::enter(host, out, [](quern_plugin& p) {
    p.kind = is("wrong-kind") ? QUERN_KIND_ALGORITHM : QUERN_KIND_TARGET;
    p.target = &table;
  });
  if (is("writes-beyond-struct")) reinterpret_cast<unsigned char*>(out)[out->h.struct_size + 3] = 1;
  return status;
}
