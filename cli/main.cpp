// The `quern` command: options of every verb, signals, and the one place where an error becomes a message and an exit code.
#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <functional>
#include <new>
#include <system_error>
#include <malloc.h>
#include <unistd.h>

#include "cli/verbs.hpp"
#include "core/base/error.hpp"
#include "core/base/log.hpp"
#include "core/base/parallel.hpp"

namespace {

using namespace quern;
using namespace quern::cli;

// The first Ctrl-C or SIGTERM asks the work to stop and clean up; a second one does not wait, unless results are just being put
// into place.
extern "C" void on_signal(int) {
  if (cancel_requested() && !committing()) _exit(static_cast<int>(ErrorCode::interrupted));
  request_cancel();
}

void watch_signals() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);  // a file beyond the user's limit is an error of write(), after which the work cleans up
}

void common_options(CLI::App& verb, Common& common, bool threads = true, bool json = true) {
  verb.add_option("--plugin", common.plugins, "a plugin file, or a folder of them, looked at first (may be repeated)")->type_name("PATH");
  if (threads) verb.add_flag("--isolated", common.isolated, "each target plugin in a process of its own (plugins.isolated)");
  if (threads) verb.add_option("--threads", common.threads, "worker threads; 0: all cores. Results do not depend on it")->check(CLI::Range(0, 1024))->type_name("N");
  if (json) verb.add_flag("--json", common.json, "the result as JSON on one line");
}

int run_command(int argc, char** argv) {
  CLI::App app("Quern quantizes float ONNX networks for a target, so that the target computes exactly what was simulated.", "quern");
  app.set_version_flag("--version", std::string(version()));
  app.require_subcommand(1);
  app.fallthrough();
  std::string log_level = "info";
  app.add_option("--log-level", log_level, "error, warning, info or debug")->check(CLI::IsMember({"error", "warning", "info", "debug"}))->type_name("LEVEL");
  app.footer("Exit codes: 0 done, 1 a fault of Quern, 2 command line, 3 configuration, 4 model, 5 data, 6 plugin, 7 files, 8 verification\n"
             "failed, 9 out of memory, 130 interrupted. More in docs/command.md.");
  std::function<int()> chosen;

  QuantizeArguments quantize;
  {
    auto* v = app.add_subcommand("quantize", "quantize a network as a configuration says");
    v->add_option("config", quantize.config, "configuration file (YAML; POT's JSON)")->required()->type_name("CONFIG");
    v->add_option("-o,--output", quantize.output, "folder to write")->type_name("DIR");
    v->add_option("--target", quantize.target, "in place of target.device; DEVICE:PROFILE names a profile too; several with commas between")->type_name("T");
    v->add_option("--preset", quantize.preset, "in place of target.preset")->type_name("P");
    v->add_option("--set", quantize.set, "key.path=value, over what the file says (may be repeated)")->type_name("KEY=VALUE");
    v->add_option("--statistics", quantize.statistics, "statistics of `quern calibrate`, in place of the calibration data")->type_name("FILE.qstat");
    v->add_flag("--dry-run", quantize.dry_run, "say what would be done; run no data, write nothing");
    v->add_flag("--skip-evaluation", quantize.skip_evaluation, "no metric and no signal-to-noise ratio at the end");
    common_options(*v, quantize);
    v->callback([&] { chosen = [&] { return quantize_verb(quantize); }; });
  }
  CalibrateArguments calibrate;
  {
    auto* v = app.add_subcommand("calibrate", "take the statistics that quantizing needs, to a file");
    v->add_option("config", calibrate.config, "configuration file (YAML; POT's JSON)")->required()->type_name("CONFIG");
    v->add_option("-o,--output", calibrate.output, "file to write")->required()->type_name("FILE.qstat");
    v->add_option("--shard", calibrate.shard, "the i-th of n parts of the samples alone")->type_name("I/N");
    v->add_option("--statistics", calibrate.statistics, "merged file of the round before, where a stage changes the network between two passes")->type_name("FILE.qstat");
    v->add_option("--target", calibrate.target, "in place of target.device; several with commas between")->type_name("T");
    v->add_option("--preset", calibrate.preset, "in place of target.preset")->type_name("P");
    v->add_option("--set", calibrate.set, "key.path=value, over what the file says (may be repeated)")->type_name("KEY=VALUE");
    common_options(*v, calibrate);
    v->callback([&] { chosen = [&] { return calibrate_verb(calibrate); }; });
  }
  MergeArguments merge;
  {
    auto* v = app.add_subcommand("merge", "files of `quern calibrate` put together");
    v->add_option("files", merge.files, "the files, in any order")->required()->type_name("FILE.qstat");
    v->add_option("-o,--output", merge.output, "file to write")->required()->type_name("FILE.qstat");
    common_options(*v, merge, false);
    v->callback([&] { chosen = [&] { return merge_verb(merge); }; });
  }
  EvaluateArguments evaluate;
  {
    auto* v = app.add_subcommand("evaluate", "the metric of a model over the evaluation data");
    v->add_option("config", evaluate.config, "configuration file with data.evaluation and metric")->required()->type_name("CONFIG");
    v->add_option("--model", evaluate.model, "ONNX file, or folder written by quantize (default: what the configuration names)")->type_name("FILE_OR_DIR");
    v->add_option("--as", evaluate.as, "float, simulated or integer")->required()->type_name("HOW");
    common_options(*v, evaluate);
    v->callback([&] { chosen = [&] { return evaluate_verb(evaluate); }; });
  }
  VerifyArguments verify;
  {
    auto* v = app.add_subcommand("verify", "prove that simulated and integer give the same bytes");
    v->add_option("folder", verify.folder, "folder written by quantize")->required()->type_name("DIR");
    v->add_option("--samples", verify.samples, "the first N samples (default: all)")->check(CLI::Range(int64_t{1}, int64_t{1} << 40))->type_name("N");
    v->add_option("--min-coverage", verify.min_coverage, "least share of multiply-accumulates that run as integers")->check(CLI::Range(0.0, 1.0))->type_name("X");
    common_options(*v, verify);
    v->callback([&] { chosen = [&] { return verify_verb(verify); }; });
  }
  RunArguments run;
  {
    auto* v = app.add_subcommand("run", "feed a model with named arrays and write its outputs");
    v->add_option("model", run.model, "ONNX file, or folder written by quantize")->required()->type_name("FILE_OR_DIR");
    v->add_option("--inputs", run.inputs, "npz with an array per input name")->required()->type_name("IN.npz");
    v->add_option("--as", run.as, "float, simulated or integer")->type_name("HOW");
    v->add_option("--outputs", run.outputs, "npz to write, an array per output name")->required()->type_name("OUT.npz");
    v->add_flag("--each", run.each, "axis 0 holds samples: one run each, outputs stacked");
    v->add_option("--tap", run.taps, "a tensor inside to write as well (may be repeated)")->type_name("NAME");
    common_options(*v, run, true, false);
    v->callback([&] { chosen = [&] { return run_verb(run); }; });
  }
  BenchArguments bench;
  {
    auto* v = app.add_subcommand("bench", "time of one inference");
    v->add_option("model", bench.model, "ONNX file, or folder written by quantize")->required()->type_name("FILE_OR_DIR");
    v->add_option("--as", bench.as, "float, simulated or integer")->type_name("HOW");
    v->add_option("--batch", bench.batch, "samples in one inference")->check(CLI::Range(int64_t{1}, int64_t{1} << 20))->type_name("B");
    v->add_option("--seconds", bench.seconds, "how long to measure")->check(CLI::Range(0.01, 3600.0))->type_name("S");
    v->add_option("--shape", bench.shapes, "NAME=1x3x224x224, for inputs with more than the batch unknown")->type_name("SHAPE");
    v->add_option("--inputs", bench.inputs, "npz with an array per input name, as for run (default: noise)")->type_name("IN.npz");
    auto* profile = v->add_flag("--profile", bench.profile, "where the time goes: a line per step, with copies, and shares of the machine's peak");
    v->add_flag("--paced", bench.paced, "runs when told: answers every line of standard input, a number of runs, with their times")->excludes(profile);
    common_options(*v, bench);
    v->callback([&] { chosen = [&] { return bench_verb(bench); }; });
  }
  ExplainArguments explain;
  {
    auto* v = app.add_subcommand("explain", "why every quantizer is where it is, and why nodes stay float");
    v->add_option("config", explain.config, "configuration file, or folder written by quantize")->required()->type_name("CONFIG_OR_DIR");
    v->add_option("--target", explain.target, "in place of target.device")->type_name("T");
    v->add_option("--preset", explain.preset, "in place of target.preset")->type_name("P");
    v->add_option("--set", explain.set, "key.path=value, over what the file says (may be repeated)")->type_name("KEY=VALUE");
    common_options(*v, explain, false);
    v->callback([&] { chosen = [&] { return explain_verb(explain); }; });
  }
  InspectArguments inspect;
  {
    auto* v = app.add_subcommand("inspect", "what is in a model");
    v->add_option("model", inspect.model, "ONNX file, or folder written by quantize")->required()->type_name("FILE_OR_DIR");
    common_options(*v, inspect, false);
    v->callback([&] { chosen = [&] { return inspect_verb(inspect); }; });
  }
  PluginsArguments plugins;
  {
    auto* v = app.add_subcommand("plugins", "every plugin file looked at, with state and reason");
    common_options(*v, plugins, false);
    v->callback([&] { chosen = [&] { return plugins_verb(plugins); }; });
  }
  ConformArguments conform;
  {
    app.add_subcommand("conform", "test whether a target plugin is what it says it is (quern-conform; its --help lists the options)");
  }
  SchemaArguments schema;
  {
    auto* v = app.add_subcommand("schema", "the JSON Schema of a file format: config, rules or manifest");
    v->add_option("name", schema.name, "config, rules or manifest")->required()->type_name("NAME");
    v->callback([&] { chosen = [&] { return schema_verb(schema); }; });
  }

  NewArguments fresh;
  {
    auto* v = app.add_subcommand("new", "a folder with a plugin to start from: a target or an algorithm");
    v->add_option("kind", fresh.kind, "target or algorithm")->required()->type_name("KIND");
    v->add_option("name", fresh.name, "its name: lower-case letters, digits and _")->required()->type_name("NAME");
    v->add_option("folder", fresh.folder, "the folder to make (default: the name)")->type_name("DIR");
    v->callback([&] { chosen = [&] { return new_verb(fresh); }; });
  }
  ImportHardwareArguments import_hardware;
  {
    auto* v = app.add_subcommand("import-hardware", "POT's hardware file as rules of a target");
    v->add_option("file", import_hardware.file, "hardware file (JSON; comments and trailing commas are accepted)")->required()->type_name("POT.json");
    v->add_option("-o,--output", import_hardware.output, "file to write (default: standard output)")->type_name("RULES.json");
    v->callback([&] { chosen = [&] { return import_hardware_verb(import_hardware); }; });
  }

  ConvertConfigArguments convert_config;
  {
    auto* v = app.add_subcommand("convert-config", "a configuration of POT in our words; quantize takes it as it is too");
    v->add_option("file", convert_config.file, "POT's configuration (JSON with comments and trailing commas, or YAML)")->required()->type_name("POT.json");
    v->add_option("-o,--output", convert_config.output, "file to write, in the same folder (default: standard output)")->type_name("QUERN.yaml");
    v->callback([&] { chosen = [&] { return convert_config_verb(convert_config); }; });
  }

  // A misspelt verb gets a suggestion.
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--log-level") { ++i; continue; }
    if (word.empty() || word[0] == '-') continue;
    std::vector<std::string> names;
    for (const auto* s : app.get_subcommands({})) names.push_back(s->get_name());
    if (word == "conform") {  // the rest is for the other program, its --help too
      conform.rest.assign(argv + i + 1, argv + argc);
      return conform_verb(conform);
    }
    if (std::find(names.begin(), names.end(), word) == names.end())
      throw Error(ErrorCode::usage, fmt::format("there is no verb '{}'{}", word, did_you_mean(word, names))).hint("verbs: " + list_of(names));
    break;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // --help, --version
    const auto verbs = app.get_subcommands();
    const std::string help = verbs.empty() ? "`quern --help` lists the verbs" : fmt::format("`quern {} --help` lists the options", verbs.front()->get_name());
    std::vector<std::string> options;
    if (!verbs.empty())
      for (const CLI::Option* o : verbs.front()->get_options())
        for (const auto& name : o->get_lnames()) options.push_back("--" + name);
    for (const auto& word : app.remaining(true))
      if (word.starts_with("-"))
        throw Error(ErrorCode::usage, fmt::format("there is no option '{}' here{}", word, did_you_mean(word.substr(0, word.find('=')), options))).hint(help);
    throw Error(ErrorCode::usage, e.what()).hint(help);
  }
  log::set_level(log_level);
  throw_if_cancelled();
  return chosen ? chosen() : static_cast<int>(ErrorCode::usage);
}

int out_of_memory() {
  std::fputs("quern: out of memory\n", stderr);
  return static_cast<int>(ErrorCode::memory);
}

}  // namespace

int main(int argc, char** argv) {
  // Fixed, where glibc's thresholds would grow with the first large tensor: memory that is freed goes back, and the peak of
  // a run stays near what it holds.
  ::mallopt(M_MMAP_THRESHOLD, 256 << 10);
  ::mallopt(M_TRIM_THRESHOLD, 1 << 20);
  watch_signals();
  try {
    return run_command(argc, argv);
  } catch (const Error& e) {
    std::fprintf(stderr, "quern: %s\n", e.what());
    return static_cast<int>(e.code());
  } catch (const std::bad_alloc&) {
    return out_of_memory();
  } catch (const std::system_error& e) {
    if (e.code() == std::errc::not_enough_memory) return out_of_memory();
    std::fprintf(stderr, "quern: an unexpected failure: %s\n", e.what());
  } catch (const std::exception& e) {
    std::fprintf(stderr, "quern: an unexpected failure: %s\n", e.what());
  }
  return static_cast<int>(ErrorCode::internal);
}
