// Running a unit on the plugin, in memory that the kit lays out, and comparing with the contract's word.
#pragma once
#include "sdk/conformance/probe.hpp"
#include "sdk/conformance/trial.hpp"

namespace quern::conform {

struct Conditions {
  int threads = 1;
  size_t offset = 0;                 // of every tensor from a page's begin; a multiple of 64
  bool channels_last = false;        // what a kernel that goes by strides is given
  bool guarded = false;              // guard pages, and everything looked at afterwards
  Guarded::Side side = Guarded::Side::end;
  unsigned char fill = 0xA5;         // of outputs, workspaces and whatever lies beside tensors
};

struct Ran {
  Tensor output;                     // row major
  uint64_t saturations = 0;
  std::string complaint;             // guarded: the first thing it did that it must not
};

// One compiled kernel with one context.
class Prepared {
 public:
  Prepared(const Target& target, const std::string& profile, const Trial& trial, int threads);
  Ran run(const Trial& trial, const Conditions& conditions);
  const TargetKernel& kernel() const { return *kernel_; }
  void renew_context();

 private:
  std::unique_ptr<TargetKernel> kernel_;
  std::unique_ptr<TargetKernel::Context> context_;
};

// Compiles and runs once.
Ran execute(const Target& target, const std::string& profile, const Trial& trial, const Conditions& conditions = {});

// "" when equal; else the first element that differs, and by how much. `largest`: the largest difference, in steps of the output.
std::string difference(const Tensor& expected, const Tensor& got, double* largest = nullptr);

// Asks supports, derives, interprets and runs, with the verdict of the whole.
enum class Verdict { pass, approximate, refused, skipped, fail };
struct Outcome {
  Verdict verdict = Verdict::pass;
  std::string text;                  // of a refusal, a skip or a failure
  std::string unit;                  // what was run
};
// `offered`: the rules allow this unit, so that refusing in derive or compile is a failure. Fills the trial's tables.
Outcome prove(const Target& target, const std::string& profile, Trial& trial, bool offered, const Conditions& conditions = {});

// supports and derive alone: none when all is well and the tables are there.
std::optional<Outcome> derive_tables(const Target& target, const std::string& profile, Trial& trial, bool offered);

}  // namespace quern::conform
