// Every fault of the test target has to be found, and at the level that is for it. Prints the list and the count.
//
//   quern_conform_mutants PROGRAM FOLDER [fault ...]
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

struct Mutant { const char* name; int level; bool by_chance = false; };  // level -1: sound; by_chance: a race, a time or an address decides whether it shows

const std::vector<Mutant> mutants = {
    {"", -1},
    // The file and its loading.
    {"second-symbol", 0}, {"static-prints", 0}, {"static-crash", 0}, {"static-hang", 0}, {"static-exit", 0}, {"static-thread", 0},
    {"static-folder", 0}, {"dies-at-exit", 0}, {"exit-code", 0}, {"entry-locale", 0}, {"entry-rounding", 0}, {"entry-signal", 0},
    {"entry-environment", 0}, {"entry-file", 0}, {"entry-prints", 0}, {"entry-crash", 0}, {"refuses-newer-host", 0}, {"wrong-kind", 0},
    {"writes-beyond-struct", 0}, {"any-extension", 0},
    // Rules.
    {"other-id", 1}, {"broken-reference", 1}, {"not-json", 1}, {"unknown-key", 1}, {"rules-that-change", 1}, {"available-anything", 1},
    {"available-moody", 1},
    // Arithmetic.
    {"floor", 2}, {"ceiling", 2}, {"to-zero", 2}, {"even-as-up", 2}, {"even-as-away", 2}, {"even-as-down", 2}, {"up-as-even", 2}, {"away-as-up", 2},
    {"lying-contract", 2}, {"wraps", 2}, {"clamp-low-off", 2}, {"clamp-high-off", 2}, {"no-zero-point", 2}, {"zero-before-rounding", 2},
    {"two-roundings", 2}, {"float-multiplier", 2}, {"sums-in-float", 2}, {"bias-of-16-bits", 2}, {"channels-beyond-16", 2}, {"relu-at-0", 3},
    {"no-relu", 2}, {"saturation-wraps", 2}, {"saturates-late", 2}, {"saturates-often", 2}, {"add-no-zero-b", 2}, {"sums-of-8-bits", 2},
    {"one-entry", 2}, {"late-piece", 2}, {"pieces-rounded", 2}, {"unknown-table", 2}, {"crash", 2}, {"hang", 2}, {"exit", 2}, {"throws", 2},
    // Operators.
    {"pads-with-code-0", 3}, {"padding-left", 3}, {"ignores-dilation", 3}, {"one-stride", 3}, {"wrong-group", 3}, {"flipped-kernel", 3},
    {"odd-tail", 3}, {"first-batch-only", 3}, {"rules-wider", 3}, {"supports-anything", 3}, {"refuses-silently", 3}, {"config-that-never-runs", 3},
    // Robustness.
    {"writes-behind", 4}, {"writes-before", 4}, {"reads-behind", 4}, {"small-workspace", 4}, {"changes-input", 4}, {"leaves-last", 3},
    {"rounding-mode", 4}, {"compile-locale", 4}, {"signal-handler", 4}, {"changes-folder", 4}, {"prints", 4}, {"derive-prints", 4}, {"leaks", 4},
    {"leaks-malloc", 4}, {"leaks-files", 4}, {"compile-thread", 4}, {"keeps-host-memory", 4}, {"unchecked-memory", 4}, {"swallows-failures", 4},
    {"ignores-cancel", 4}, {"empty-errors", 4}, {"any-profile", 4}, {"sink-ignored", 4}, {"missing-table-crash", 4},
    // Determinism.
    {"shared-buffer", 5, true}, {"many-threads", 5, true}, {"odd-runs", 5}, {"every-fifth-run", 4}, {"needs-128-bytes", 4}, {"latest-kernel", 6, true},
    {"derive-address", 5, true}, {"derive-time", 5, true}, {"counts-on", 5}, {"counts-threads", 5, true}, {"counts-always", 5},
    // Networks.
    {"by-name", 6}};

// The level of the first failure; -1: it conforms; -2: the kit itself failed.
int first_failure(const std::string& program, const std::string& folder, const Mutant& m, std::string& text) {
  const std::string plugin = folder + (std::strcmp(m.name, "second-symbol") == 0 ? "/test_mutant_symbols.so" : "/test_mutant.so");
  const std::string command = "QUERN_MUTANT='" + std::string(m.name) + "' '" + program + "' '" + plugin + "' --first --deadline 5 2>&1";
  FILE* pipe = ::popen(command.c_str(), "r");
  if (!pipe) return -2;
  char buffer[4096];
  text.clear();
  while (const size_t n = std::fread(buffer, 1, sizeof buffer, pipe)) text.append(buffer, n);
  const int status = ::pclose(pipe);
  if (!WIFEXITED(status)) return -2;
  if (WEXITSTATUS(status) == 0) return -1;
  const size_t at = text.find("first at L");
  return WEXITSTATUS(status) == 8 && at != std::string::npos ? text[at + 10] - '0' : -2;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  int caught = 0, faults = 0, wrong = 0;
  for (const Mutant& m : mutants) {
    bool wanted = argc == 3;
    for (int i = 3; i < argc; ++i) wanted = wanted || std::strcmp(argv[i], m.name) == 0;
    if (!wanted) continue;
    std::string text;
    const int level = first_failure(argv[1], argv[2], m, text);
    const bool right = level == m.level || (m.by_chance && level >= -1);  // a run may miss it, or see it elsewhere
    faults += m.level >= 0 && !(m.by_chance && level == -1);
    caught += m.level >= 0 && level >= 0;
    wrong += !right;
    const std::string found = level == -2 ? "the kit fails" : level == -1 ? "conforms" : "L" + std::to_string(level);
    std::string reason;
    if (const size_t at = text.find("FAIL "); at != std::string::npos) {
      const size_t line = text.find('\n', at) + 3;
      reason = text.substr(line, text.find('\n', line) - line).substr(0, 120);
    }
    std::printf("%-24s %-10s %s%s\n", *m.name ? m.name : "(sound)", found.c_str(), right ? "" : m.level < 0 ? "WRONG, it is sound: " : "WRONG, expected elsewhere: ", reason.c_str());
    if (!right) std::printf("%s\n", text.c_str());
    std::fflush(stdout);
  }
  std::printf("%d of %d mutants caught\n", caught, faults);
  return wrong == 0 && caught == faults && faults > 0 ? 0 : 1;
}
