#include "core/pipeline/pot_config.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/error.hpp"
#include "core/base/files.hpp"
#include "core/base/parallel.hpp"
#include "core/pipeline/pot_reader.hpp"
#include "core/pipeline/pot_words.hpp"
#include "core/rules/pot/import.hpp"
#include "core/rules/pot/positions.hpp"

namespace quern {
namespace {

constexpr const char* data_advice =
    "write a native configuration with data.calibration, data.evaluation and metric (docs/configuration.md), or engine {type: quern, data: ..., metric: ...}";

class PotConverter : PotReader {
 public:
  PotConverter(const Document& in, Words* notes) : PotReader(in), notes_(notes) { out_.file = in.file; }

  Document run() {
    const json::object& root = mapping(in_.value, "");
    only(root, "", {"model", "engine", "compression"});
    for (const char* group : {"model", "engine", "compression"})
      if (!root.contains(group)) throw in_.error("", fmt::format("the group '{}' is missing; a POT configuration has model, engine and compression", group));
    out_.value = json::object{{"quern", 1}};
    read_model(mapping(root.at("model"), "/model"));
    read_compression(mapping(root.at("compression"), "/compression"));
    read_engine(mapping(root.at("engine"), "/engine"));
    return std::move(out_);
  }

 private:
  Words* notes_;
  Document out_;
  std::string device_ = "ANY";
  int64_t subset_ = 0;
  std::string subset_at_;

  json::object& top() { return out_.value.get_object(); }
  void note(const std::string& text) { if (notes_) notes_->push_back(text); }
  void place(const std::string& ours, const std::string& theirs) { out_.values[ours] = out_.keys[ours] = in_.position(theirs); }

  // ---- model

  std::string model_file(const json::object& o, const std::string& at) {
    const auto* v = o.if_contains("model");
    if (!v) throw in_.error(at, "the key 'model' is missing; it names the network");
    std::string path = text(*v, child(at, "model"));
    place("/model", child(at, "model"));
    if (path.ends_with(".xml")) {
      const std::string onnx = path.substr(0, path.size() - 4) + ".onnx";
      note(fmt::format("model: '{}' is taken for the network of '{}'", onnx, path));
      path = onnx;
    }
    if (const auto* w = o.if_contains("weights")) {
      text(*w, child(at, "weights"));
      note("weights: an ONNX file names its weights itself");
    }
    return path;
  }

  void read_model(const json::object& o) {
    only(o, "/model", {"model_name", "model", "weights", "cascade", "output_dir", "direct_dump", "keep_uncompressed_weights"});
    std::string path, name;
    if (const auto* c = o.if_contains("cascade")) {
      if (o.contains("model")) throw in_.error("/model/cascade", "stands beside 'model'; write one of them");
      if (!c->is_array() || c->get_array().empty()) throw in_.error("/model/cascade", "'cascade' should be a list of networks");
      if (c->get_array().size() > 1) refuse("/model/cascade", "a cascade of several networks", "quantize each with a configuration of its own");
      const json::object& one = mapping(c->get_array()[0], "/model/cascade/0");
      only(one, "/model/cascade/0", {"name", "model", "weights"});
      path = model_file(one, "/model/cascade/0");
      if (const auto* n = one.if_contains("name")) name = text(*n, "/model/cascade/0/name");
    } else {
      path = model_file(o, "/model");
    }
    if (const auto* n = o.if_contains("model_name")) name = text(*n, "/model/model_name");
    if (name.empty()) name = fs::path(path).stem().string();
    if (name == "." || name == ".." || name.find('/') != std::string::npos)
      throw in_.error("/model/model_name", fmt::format("'{}' can't be the name of a folder", name));
    top()["model"] = path;
    only_false(o, "/model", "keep_uncompressed_weights", "a package always holds its weights as integers");
    std::string folder = "results";
    if (const auto* d = o.if_contains("output_dir")) folder = text(*d, "/model/output_dir");
    const auto* direct = o.if_contains("direct_dump");
    top()["output"] = direct && boolean(*direct, "/model/direct_dump") ? folder : (fs::path(folder) / name).string();
    place("/output", o.contains("output_dir") ? "/model/output_dir" : "/model");
  }

  // ---- engine

  void read_engine(const json::object& o) {
    std::string type = "accuracy_checker";
    if (const auto* t = o.if_contains("type")) type = one_of(*t, "/engine/type", {"simplified", "accuracy_checker", "data_free", "quern"});
    if (type == "data_free") refuse("/engine/type", "the engine 'data_free'", "calibration data is needed", false);
    if (type == "accuracy_checker") {
      for (const RefusedWord& w : refused_of_accuracy_checker)
        if (o.contains(w.word)) throw in_.error(child("/engine", w.word), fmt::format("'{}' is not taken: {}", w.word, w.instead), true).hint(data_advice);
      throw in_.error(o.contains("type") ? "/engine/type" : "/engine", "the engine 'accuracy_checker' is not taken: its files are not read").hint(data_advice);
    }
    json::object data;
    if (type == "quern") {
      only(o, "/engine", {"type", "data", "metric", "stat_requests_number", "eval_requests_number"});
      const auto* d = o.if_contains("data");
      if (!d) throw in_.error("/engine", "the key 'data' is missing; it is written as in a native configuration");
      data = mapping(*d, "/engine/data");
      copy_places("/engine/data", "/data");
      if (const auto* m = o.if_contains("metric")) { top()["metric"] = *m; copy_places("/engine/metric", "/metric"); }
    } else {
      only(o, "/engine", {"type", "data_source", "layout", "central_fraction", "device", "stat_requests_number", "eval_requests_number", "batch_dim"});
      const auto* source = o.if_contains("data_source");
      if (!source) throw in_.error("/engine", "the key 'data_source' is missing; it names the folder of the pictures");
      json::object pictures{{"reader", "images"}, {"path", text(*source, "/engine/data_source")}};
      for (const char* part : {"", "/reader", "/path"}) place(std::string("/data/calibration") + part, "/engine/data_source");
      if (const auto* f = o.if_contains("central_fraction")) {
        const double fraction = number(*f, "/engine/central_fraction");
        if (!(fraction > 0 && fraction <= 1)) throw in_.error("/engine/central_fraction", "'central_fraction' should be above 0 and at most 1");
        pictures["central_fraction"] = fraction;
        place("/data/calibration/central_fraction", "/engine/central_fraction");
      }
      if (const auto* l = o.if_contains("layout")) {
        one_of(*l, "/engine/layout", {"NCHW", "NHWC", "CHW", "HWC"});
        note("engine.layout: the layout follows from the shape of the model's input");
      }
      if (const auto* d = o.if_contains("device"); d && text(*d, "/engine/device") != "CPU")
        refuse("/engine/device", "a device other than CPU", "the float network runs on the CPU", false);
      if (const auto* b = o.if_contains("batch_dim"); b && whole(*b, "/engine/batch_dim", 0) != 0)
        refuse("/engine/batch_dim", "a batch on another axis than 0", "axis 0 is the sample", false);
      data["calibration"] = std::move(pictures);
    }
    if (subset_ > 0) {
      auto* calibration = data.if_contains("calibration");
      if (!calibration || !calibration->is_object()) throw in_.error(subset_at_, "'stat_subset_size' needs calibration data in the engine");
      if (calibration->get_object().contains("samples")) throw in_.error(subset_at_, "the number of samples is said in engine.data too; say it once");
      calibration->get_object()["samples"] = subset_;
      place("/data/calibration/samples", subset_at_);
    }
    top()["data"] = std::move(data);
    // Requests at a time are samples at a time here.
    int64_t threads = 0;
    for (const char* key : {"eval_requests_number", "stat_requests_number"})
      if (const auto* n = o.if_contains(key)) {
        threads = std::min<int64_t>(whole(*n, child("/engine", key), 0), usable_cores());
        place("/threads", child("/engine", key));
      }
    if (threads > 0) top()["threads"] = threads;
  }
  void copy_places(const std::string& theirs, const std::string& ours) {
    for (auto* from : {&in_.values, &in_.keys})
      for (const auto& [pointer, position] : *from)
        if (pointer == theirs || pointer.starts_with(theirs + "/")) (from == &in_.values ? out_.values : out_.keys)[ours + pointer.substr(theirs.size())] = position;
  }

  // ---- compression

  void read_compression(const json::object& o) {
    const std::string at = "/compression";
    if (o.contains("optimizer")) refuse(at + "/optimizer", "'optimizer'", "hyper-parameter search is not done; write the parameters wanted");
    only(o, at, {"target_device", "model_type", "inplace_statistics", "dump_intermediate_model", "algorithms"});
    if (const auto* d = o.if_contains("target_device")) device_ = text(*d, at + "/target_device");
    top()["target"] = json::object{{"device", device_}};
    for (const char* p : {"/target", "/target/device", "/target/profile"}) place(p, o.contains("target_device") ? at + "/target_device" : at);
    if (const auto* m = o.if_contains("model_type"); m && !m->is_null())
      if (one_of(*m, at + "/model_type", {"None", "transformer"}) == "transformer")
        refuse(at + "/model_type", "'transformer'", "the preset performance gives every matrix product symmetric activations where the target has them", false);
    if (const auto* i = o.if_contains("inplace_statistics")) {
      boolean(*i, at + "/inplace_statistics");
      note("compression.inplace_statistics: statistics are taken while the network runs, with the same values");
    }
    only_false(o, at, "dump_intermediate_model", "`quern run --tap` writes what flows inside a network");
    const auto* list = o.if_contains("algorithms");
    if (!list || !list->is_array() || list->get_array().empty()) throw in_.error(list ? at + "/algorithms" : at, "'algorithms' should be a list of at least one algorithm");
    json::array stages;
    for (size_t i = 0; i < list->get_array().size(); ++i) read_algorithm(list->get_array()[i], child(at + "/algorithms", i), stages);
    if (std::none_of(stages.begin(), stages.end(), [](const json::value& s) { return s.get_object().contains("quantize"); }))
      throw in_.error(at + "/algorithms", "no algorithm quantizes").hint("add MinMaxQuantization, or write DefaultQuantization alone");
    place("/pipeline", at + "/algorithms");
    top()["pipeline"] = std::move(stages);
  }

  void add(json::array& stages, const std::string& name, json::object parameters, const std::string& at) {
    for (const auto& s : stages)
      if (s.get_object().contains(name)) throw in_.error(at, fmt::format("does what an algorithm before it does ('{}'); write one of them", name));
    const bool quantized = std::any_of(stages.begin(), stages.end(), [](const json::value& s) { return s.get_object().contains("quantize"); });
    if (name == "channel_alignment" && quantized) throw in_.error(at, "stands behind the algorithm that quantizes; channels are aligned before");
    if (name == "bias_correction" && !quantized) throw in_.error(at, "stands before the algorithm that quantizes; biases are corrected after");
    const std::string ours = child("/pipeline", stages.size());
    place(ours, at);
    place(child(ours, name), at);
    stages.push_back(json::object{{name, std::move(parameters)}});
  }

  void read_algorithm(const json::value& value, const std::string& at, json::array& stages) {
    const json::object& entry = mapping(value, at);
    only(entry, at, {"name", "params"});
    const auto* n = entry.if_contains("name");
    if (!n) throw in_.error(at, "the key 'name' is missing; it names the algorithm");
    const std::string name = text(*n, at + "/name");
    for (const RefusedWord& w : refused_algorithms)
      if (name == w.word) refuse(at + "/name", fmt::format("'{}'", name), w.instead, false);
    Words names(std::begin(usable_algorithms), std::end(usable_algorithms));
    if (std::find(names.begin(), names.end(), name) == names.end())
      throw in_.error(at + "/name", fmt::format("there is no algorithm '{}'{}", name, did_you_mean(name, names))).hint("there are: " + list_of(names));
    static const json::object none;
    const json::object& p = entry.contains("params") ? mapping(entry.at("params"), at + "/params") : none;
    const std::string inside = at + "/params";
    refuse_words(p, inside, refused_parameters);
    const bool whole_set = name == "DefaultQuantization", quantizes = whole_set || name == "MinMaxQuantization", bias = whole_set || name.ends_with("BiasCorrection");
    Words known = {"stat_subset_size", "shuffle_data", "seed", "stat_batch_size", "ignored"};
    if (quantizes) for (const char* k : {"preset", "range_estimator", "weights", "activations", "saturation_fix"}) known.push_back(k);
    if (bias) for (const char* k : {"threshold", "apply_for_all_nodes"}) known.push_back(k);
    if (whole_set) for (const char* k : {"use_fast_bias", "use_layerwise_tuning"}) known.push_back(k);
    only(p, inside, known);
    read_common(p, inside);
    bool fast = name != "BiasCorrection";
    if (const auto* f = p.if_contains("use_fast_bias")) fast = boolean(*f, inside + "/use_fast_bias");
    only_false(p, inside, "use_layerwise_tuning", "layers are not tuned by training; leave it out");
    only_false(p, inside, "apply_for_all_nodes", "a correction is kept where the measured error of its layer falls; leave it out");
    if (const auto* t = p.if_contains("threshold"); t && number(*t, inside + "/threshold") != (fast ? 2.0 : 1000.0))
      refuse(inside + "/threshold", "a threshold against the old bias", "a correction is kept where the measured error of its layer falls; leave it out");
    if (p.contains("ignored") && !quantizes) refuse(inside + "/ignored", "'ignored' here", "write it at the algorithm that quantizes");

    if (whole_set || name == "ActivationChannelAlignment") add(stages, "channel_alignment", {}, at);
    if (quantizes) {
      json::object parameters = quantize(p, inside, child("/pipeline", stages.size()) + "/quantize");
      add(stages, "quantize", std::move(parameters), at);
    }
    if (bias) {
      json::object parameters{{"mode", fast ? "fast" : "full"}};
      if (!fast && subset_ > 0) parameters["samples"] = std::max<int64_t>(1, subset_ / 5);  // POT's share for the full correction
      add(stages, "bias_correction", std::move(parameters), at);
    }
  }

  void read_common(const json::object& p, const std::string& at) {
    if (const auto* s = p.if_contains("stat_subset_size")) {
      const int64_t size = whole(*s, at + "/stat_subset_size", 1);
      if (subset_ > 0 && size != subset_) throw in_.error(at + "/stat_subset_size", fmt::format("says {} samples where an algorithm before says {}; all stages share one pass", size, subset_));
      subset_ = size;
      subset_at_ = at + "/stat_subset_size";
    }
    only_false(p, at, "shuffle_data", "the first samples are taken; put the data in the order wanted");
    if (const auto* s = p.if_contains("seed")) {
      const int64_t seed = whole(*s, at + "/seed", 0);
      if (const auto* before = top().if_contains("seed"); before && before->get_int64() != seed) throw in_.error(at + "/seed", "differs from that of an algorithm before; there is one seed");
      top()["seed"] = seed;
      place("/seed", at + "/seed");
    }
    if (const auto* b = p.if_contains("stat_batch_size"); b && whole(*b, at + "/stat_batch_size", 1) != 1)
      refuse(at + "/stat_batch_size", "statistics by batch", "they are taken by sample; leave it out", false);
  }

  json::object quantize(const json::object& p, const std::string& at, const std::string& ours) {
    // As POT's command renames it: on CPU and GPU weights are symmetric, accuracy means mixed.
    std::string preset = "performance";
    if (const auto* v = p.if_contains("preset")) preset = one_of(*v, at + "/preset", {"performance", "mixed", "accuracy", "symmetric", "asymmetric"});
    if (preset == "symmetric") preset = "performance";
    if (preset == "asymmetric") preset = "accuracy";
    std::string upper = device_;
    for (char& c : upper) if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
    if (preset == "accuracy" && (upper == "ANY" || upper == "GPU" || upper.starts_with("CPU"))) {
      preset = "mixed";
      note("preset: accuracy means mixed on CPU and GPU, as in POT's command");
    }
    if (preset == "mixed" && upper.starts_with("GNA")) preset = "accuracy";
    if (p.contains("preset")) {
      top()["target"].get_object()["preset"] = preset;
      place("/target/preset", at + "/preset");
    } else if (!upper.starts_with("GNA")) {
      top()["target"].get_object()["preset"] = preset;  // POT's default
    }
    if (const auto* s = p.if_contains("saturation_fix"))
      if (one_of(*s, at + "/saturation_fix", {"first_layer", "all", "no"}) != "first_layer")
        refuse(at + "/saturation_fix", "a choice of saturation_fix", "the profile of the target says which sums can saturate; name one with target_device, for example CPU_SPR", false);
    json::object out;
    for (const char* group : {"activations", "weights"}) {
      const bool weights = group == std::string_view("weights");
      json::object block, range{{"estimator", "pot"}};
      place(child(child(ours, group), "range"), at);
      if (const auto* r = p.if_contains("range_estimator")) read_range(*r, at + "/range_estimator", weights, range, child(ours, group) + "/range");
      if (const auto* g = p.if_contains(group)) read_group(mapping(*g, child(at, group)), child(at, group), weights, block, range, child(ours, group));
      block["range"] = std::move(range);
      out[group] = std::move(block);
    }
    if (const auto* i = p.if_contains("ignored")) out["ignored"] = ignored(mapping(*i, at + "/ignored"), at + "/ignored", ours + "/ignored");
    return out;
  }

  void read_group(const json::object& g, const std::string& at, bool weights, json::object& block, json::object& range, const std::string& ours) {
    for (const char* key : {"level_low", "level_high"})
      if (g.contains(key)) refuse(child(at, key), fmt::format("'{}'", key), "the levels follow from the target's types; narrow them with bits and mode");
    only(g, at, {"bits", "mode", "granularity", "range_estimator"});
    if (const auto* b = g.if_contains("bits")) {
      if (whole(*b, at + "/bits", 2) > 32) throw in_.error(at + "/bits", "'bits' should be at most 32");
      block["bits"] = *b;
      place(ours + "/bits", at + "/bits");
    }
    if (const auto* m = g.if_contains("mode")) {
      block["mode"] = one_of(*m, at + "/mode", {"symmetric", "asymmetric"});
      place(ours + "/mode", at + "/mode");
    }
    if (const auto* v = g.if_contains("granularity")) {
      const std::string word = one_of(*v, at + "/granularity", {"pertensor", "perchannel"});
      if (!weights && word == "perchannel")
        refuse(at + "/granularity", "one range per channel of an activation", "the target's rules say where that can be", false);
      if (weights) { block["granularity"] = word; place(ours + "/granularity", at + "/granularity"); }
    }
    if (const auto* r = g.if_contains("range_estimator")) read_range(*r, at + "/range_estimator", weights, range, ours + "/range");
  }

  void read_range(const json::value& value, const std::string& at, bool weights, json::object& range, const std::string& ours) {
    const json::object& o = mapping(value, at);
    only(o, at, {"preset", "min", "max"});
    place(ours, at);
    if (const auto* p = o.if_contains("preset")) {
      range["preset"] = one_of(*p, at + "/preset", {"default", "quantile"});
      place(ours + "/preset", at + "/preset");
    }
    for (const char* side : {"min", "max"}) {
      const auto* v = o.if_contains(side);
      if (!v) continue;
      const std::string here = child(at, side);
      const json::object& s = mapping(*v, here);
      if (s.contains("granularity")) refuse(here + "/granularity", "'granularity' of a range", "write it beside bits and mode");
      if (weights && s.contains("aggregator")) refuse(here + "/aggregator", "an aggregator for weights", "weights are one sample; leave it out");
      only(s, here, {"type", "outlier_prob", "clipping_value", "aggregator"});
      json::object out;
      if (const auto* t = s.if_contains("type"))
        out["type"] = one_of(*t, here + "/type", side == std::string_view("min") ? Words{"min", "quantile"} : Words{"max", "abs_max", "quantile", "abs_quantile"});
      if (const auto* q = s.if_contains("outlier_prob")) {
        if (const double x = number(*q, here + "/outlier_prob"); !(x >= 0 && x < 1)) throw in_.error(here + "/outlier_prob", "'outlier_prob' should be at least 0 and below 1");
        out["outlier_prob"] = *q;
      }
      if (const auto* c = s.if_contains("clipping_value")) { number(*c, here + "/clipping_value"); out["clipping_value"] = *c; }
      if (const auto* a = s.if_contains("aggregator"))
        out["aggregator"] = one_of(*a, here + "/aggregator", {"mean", "max", "min", "median", "mean_no_outliers", "median_no_outliers", "hl_estimator"});
      range[side] = std::move(out);
      copy_places(here, child(ours, side));
    }
  }

  json::object ignored(const json::object& o, const std::string& at, const std::string& ours) {
    only(o, at, {"skip_model", "scope", "operations"});
    only_false(o, at, "skip_model", "a network that is not to be quantized needs no configuration");
    json::array nodes, operations;
    if (const auto* scope = o.if_contains("scope")) {
      if (!scope->is_array()) throw in_.error(at + "/scope", "'scope' should be a list of node names");
      for (size_t i = 0; i < scope->get_array().size(); ++i) {
        const std::string here = child(at + "/scope", i);
        if (scope->get_array()[i].is_array()) refuse(here, "a path into a sub-graph", "name the node of the outer network", false);
        nodes.emplace_back(text(scope->get_array()[i], here));
        place(child(ours + "/nodes", i), here);
      }
    }
    if (const auto* list = o.if_contains("operations")) {
      if (!list->is_array()) throw in_.error(at + "/operations", "'operations' should be a list of {type, attributes}");
      for (size_t i = 0; i < list->get_array().size(); ++i) {
        const std::string here = child(at + "/operations", i);
        const json::object& entry = mapping(list->get_array()[i], here);
        only(entry, here, {"type", "attributes"});
        if (!entry.contains("type")) throw in_.error(here, "the key 'type' is missing");
        const auto* attributes = entry.if_contains("attributes");
        if (attributes && !mapping(*attributes, here + "/attributes").empty())
          refuse(here + "/attributes", "an operation by its attributes", "list the nodes in ignored.scope");
        operations.emplace_back(onnx_operator(text(entry.at("type"), here + "/type"), here + "/type"));
        place(child(ours + "/operations", i), here + "/type");
      }
    }
    return {{"nodes", std::move(nodes)}, {"operations", std::move(operations)}};
  }

  // The operator of ONNX for a type of POT; a name that POT does not have is taken for one of ONNX.
  std::string onnx_operator(const std::string& type, const std::string& at) const {
    static const json::value table = parse_json(pot_operators(), "operators.json");
    const auto* entry = table.get_object().if_contains(type);
    if (!entry) return type;
    const auto& e = entry->get_object();
    const json::array& names = e.at("op").get_array();
    if (e.contains("attributes")) refuse(at, fmt::format("the type '{}'", type), "it is a part of an operator of ONNX; list the nodes in ignored.scope", false);
    if (names.size() == 1) return std::string(names[0].get_string());
    Words words;
    for (const auto& n : names) words.emplace_back(n.get_string());
    refuse(at, fmt::format("the type '{}'", type), fmt::format("in ONNX it is {}; list the nodes in ignored.scope", list_of(words)), false);
  }
};

bool is_json(std::string_view text, const std::string& file) {
  const std::string_view name = file;
  if (!name.ends_with(".json")) return false;
  return text.find_first_not_of(" \t\r\n") != std::string_view::npos;
}

}  // namespace

bool is_pot_configuration(const json::value& value) {
  const auto* o = value.if_object();
  return o && !o->contains("quern") && (o->contains("compression") || o->contains("engine"));
}

Document convert_pot(const Document& pot, std::vector<std::string>* notes) { return PotConverter(pot, notes).run(); }

Document parse_configuration(std::string_view text, const std::string& file_name, std::vector<std::string>* notes) {
  Document document;
  if (is_json(text, file_name)) {
    document.file = file_name;
    document.value = parse_json(text, file_name, true);
    for (const auto& [pointer, p] : positions_in_json(text)) document.values[pointer] = {p.line, p.column, {}};
  } else {
    document = parse_yaml(text, file_name);
  }
  return is_pot_configuration(document.value) ? convert_pot(document, notes) : document;
}

}  // namespace quern
