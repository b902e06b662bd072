// The verbs of the command: what each is asked (filled by main.cpp), and the function that does it. A verb returns the exit
// code; errors are thrown as quern::Error and turned into a message and a code in main.cpp alone.
#pragma once
#include <string>
#include <vector>

#include "core/base/files.hpp"
#include "core/pipeline/pipeline.hpp"

namespace quern::cli {

struct Common {
  std::vector<std::string> plugins;  // --plugin
  int threads = -1;                  // --threads; -1: not given
  bool json = false;
  bool isolated = false;             // --isolated

  PluginOptions plugin_options() const;
  int thread_count(int fallback) const;  // 0 on the command line: all cores
};

struct QuantizeArguments : Common {
  std::string config, output, target, preset, statistics;
  std::vector<std::string> set;
  bool dry_run = false, skip_evaluation = false;
};
struct CalibrateArguments : Common {
  std::string config, output, target, preset, shard, statistics;
  std::vector<std::string> set;
};
struct MergeArguments : Common { std::vector<std::string> files; std::string output; };
struct EvaluateArguments : Common { std::string config, model, as; };
struct VerifyArguments : Common { std::string folder; int64_t samples = 0; double min_coverage = 0.95; };
struct RunArguments : Common {
  std::string model, inputs, as = "float", outputs;
  bool each = false;
  std::vector<std::string> taps;
};
struct BenchArguments : Common {
  std::string model, as = "float";
  int64_t batch = 1;
  double seconds = 2;
  std::vector<std::string> shapes;
  std::string inputs;
  bool profile = false, paced = false;
};
struct ExplainArguments : Common { std::string config, target, preset; std::vector<std::string> set; };
struct InspectArguments : Common { std::string model; };
struct PluginsArguments : Common {};
struct ConformArguments { std::vector<std::string> rest; };
struct SchemaArguments { std::string name; };
struct NewArguments { std::string kind, name, folder; };
struct ImportHardwareArguments { std::string file, output; };
struct ConvertConfigArguments { std::string file, output; };

int quantize_verb(const QuantizeArguments& arguments);
int calibrate_verb(const CalibrateArguments& arguments);
int merge_verb(const MergeArguments& arguments);
int evaluate_verb(const EvaluateArguments& arguments);
int verify_verb(const VerifyArguments& arguments);
int run_verb(const RunArguments& arguments);
int bench_verb(const BenchArguments& arguments);
int explain_verb(const ExplainArguments& arguments);
int inspect_verb(const InspectArguments& arguments);
int plugins_verb(const PluginsArguments& arguments);
int conform_verb(const ConformArguments& arguments);
int schema_verb(const SchemaArguments& arguments);
int new_verb(const NewArguments& arguments);
int import_hardware_verb(const ImportHardwareArguments& arguments);
int convert_config_verb(const ConvertConfigArguments& arguments);

// The arrays of an npz as the model's inputs: each has to be there, and nothing else. Error(data) otherwise.
NamedTensors read_inputs(const std::string& path, const std::vector<InputSpec>& specs);

// bench --profile: where the time of an inference goes, measured for `seconds` (bench_profile.cpp).
int print_profile(Engine& engine, Runner& runner, const NamedTensors& inputs, double seconds, int threads, bool as_json);

// Results go to standard output, whole or not at all: Error(io) when it can't be written (a closed pipe is no error).
void print(const std::string& text);
// For JSON, which has no infinity.
json::value number(double value);

}  // namespace quern::cli
