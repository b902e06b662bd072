#include "core/pipeline/config.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/digest.hpp"
#include "core/base/parallel.hpp"
#include "core/dataset/plugin_data.hpp"
#include "core/pipeline/pot_config.hpp"
#include "core/pipeline/pot_names.hpp"
#include "core/pipeline/schema_walk.hpp"

namespace quern {
namespace {

const json::value& schema_json() {
  static const json::value schema = parse_json(config_schema(), "config.schema.json");
  return schema;
}

[[noreturn]] void throw_issue(const Document& document, const SchemaIssue& issue) {
  Error error = document.error(issue.pointer, issue.message, issue.at_key);
  if (issue.hint.empty()) throw error;
  throw std::move(error).hint(issue.hint);
}

std::vector<std::string> split_key(const std::string& path) {
  std::vector<std::string> parts(1);
  for (char c : path) {
    if (c == '.') parts.emplace_back();
    else parts.back() += c;
  }
  return parts;
}

std::string stage_name(const json::value& entry) {
  if (entry.is_string()) return std::string(entry.get_string());
  if (entry.is_object() && entry.get_object().size() == 1) return std::string(entry.get_object().begin()->key());
  return "";
}

json::array default_pipeline() {
  return {json::object{{std::string(default_alignment_stage), json::object{}}}, json::object{{"quantize", json::object{}}},
          json::object{{std::string(default_bias_stage), json::object{}}}};
}

// One --set: walks down the path, making mappings on the way, and puts the value there.
void apply_set(Document& document, const std::string& text) {
  const size_t equals = text.find('=');
  const std::string source = "--set " + (text.size() > 200 ? text.substr(0, 197) + "..." : text);
  const auto bad = [&](const std::string& message) { return Error(ErrorCode::usage, message).at_file(source); };
  if (equals == std::string::npos || equals == 0) throw bad("should be key.path=value, for example target.preset=performance");
  const auto parts = split_key(text.substr(0, equals));
  if (parts.size() > static_cast<size_t>(yaml_depth_limit)) throw bad(fmt::format("has a key of {} parts; nothing lies deeper than {} levels", parts.size(), yaml_depth_limit));
  json::value value;
  if (equals + 1 < text.size()) value = parse_yaml(text.substr(equals + 1), source).value;
  json::value* at = &document.value;
  if (parts.size() > 1 && parts[0] == "pipeline" && at->is_object() && !at->get_object().contains("pipeline"))
    at->get_object()["pipeline"] = default_pipeline();
  std::string pointer;
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::string& part = parts[i];
    if (part.empty()) throw bad("has an empty key between two dots");
    if (at->is_array()) {
      auto& list = at->get_array();
      size_t index = list.size();
      if (part.find_first_not_of("0123456789") == std::string::npos && part.size() < 6) {
        index = static_cast<size_t>(std::stoul(part));
      } else {
        for (size_t k = 0; k < list.size(); ++k) if (stage_name(list[k]) == part) index = k;
      }
      if (index >= list.size()) throw bad(fmt::format("there is no element '{}' in '{}'", part, pointer.empty() ? "" : pointer.substr(1)));
      pointer = child(pointer, index);
      at = &list[index];
      if (stage_name(*at) == part) {  // by stage name: step into its parameters
        if (at->is_string()) *at = json::object{{part, json::object{}}};
        at = &at->get_object().begin()->value();
        pointer = child(pointer, part);
      }
    } else {
      if (at->is_null()) *at = json::object{};
      if (!at->is_object()) throw bad(fmt::format("'{}' is a value, not a mapping; nothing can be set inside", pointer.empty() ? "" : pointer.substr(1)));
      pointer = child(pointer, part);
      at = &at->get_object()[part];
    }
    document.keys[pointer] = {0, 0, source};
    if (i + 1 == parts.size()) {
      *at = value;
      // Positions of what stood there before are gone with it.
      std::erase_if(document.values, [&](const auto& p) { return p.first.starts_with(pointer + "/"); });
      document.values[pointer] = {0, 0, source};
    }
  }
}

// The `range` of a block as {estimator, parameters}; POT's blocks name no estimator.
RangeSpec range_spec(const json::object& block, const std::string& pointer, std::string_view fallback) {
  RangeSpec spec;
  spec.pointer = child(pointer, "range");
  if (const auto* levels = block.if_contains("levels"))
    spec.levels = Levels{levels->at("low").to_number<int64_t>(), levels->at("high").to_number<int64_t>()};
  const auto* range = block.if_contains("range");
  if (!range) {
    spec.estimator = fallback;
  } else if (range->is_string()) {
    spec.estimator = range->get_string();
  } else {
    spec.parameters = range->get_object();
    if (const auto* name = spec.parameters.if_contains("estimator")) {
      spec.estimator = name->get_string();
      spec.parameters.erase("estimator");
    } else {
      spec.estimator = "pot";
    }
  }
  return spec;
}

Narrowing::Entry narrowing_entry(const json::object& block) {
  Narrowing::Entry entry;
  if (const auto* bits = block.if_contains("bits")) entry.bits = static_cast<int>(bits->to_number<int64_t>());
  if (const auto* mode = block.if_contains("mode")) entry.symmetric = mode->get_string() == "symmetric";
  if (const auto* g = block.if_contains("granularity")) entry.per_channel = g->get_string() == "perchannel";
  return entry;
}
bool says_something(const Narrowing::Entry& e) { return e.bits || e.symmetric || e.per_channel; }

std::vector<std::string> texts(const json::value& list) {
  std::vector<std::string> out;
  for (const auto& e : list.get_array()) out.emplace_back(e.get_string());
  return out;
}

void read_stages(Config& c) {
  if (!c.effective.contains("pipeline")) {
    c.effective["pipeline"] = default_pipeline();
    c.effective = apply_schema(schema_json(), c.effective).value.get_object();
  }
  auto& list = c.effective["pipeline"].get_array();
  size_t quantize_stages = 0;
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string at = child("/pipeline", i);
    if (list[i].is_string()) list[i] = json::object{{std::string(list[i].get_string()), json::object{}}};
    auto& entry = list[i].get_object();
    if (entry.size() != 1)
      throw c.error(at, entry.empty() ? "an empty stage; write its name"
                                      : "a stage is one name with its parameters; begin a new list element ('- ') for each stage");
    StageEntry stage;
    stage.name = entry.begin()->key();
    stage.pointer = child(at, stage.name);
    if (entry.begin()->value().is_null()) entry.begin()->value() = json::object{};
    stage.parameters = entry.begin()->value().get_object();
    if (stage.name == "quantize") {
      if (++quantize_stages > 1) throw c.error(at, "the stage 'quantize' stands twice in the pipeline");
      // Once more through the schema: a bare name has got its defaults only now.
      const json::value whole = json::object{{"quern", 1}, {"model", "m"}, {"pipeline", json::array{entry}}};
      stage.parameters = apply_schema(schema_json(), whole).value.at("pipeline").at(0).at("quantize").as_object();
    }
    c.stages.push_back(std::move(stage));
  }
  if (quantize_stages == 0) throw c.error("/pipeline", "the pipeline lacks the stage 'quantize'").hint("add '- quantize' to the list");
}

void read_quantize(Config& c) {
  const StageEntry& stage = c.stages[c.quantize_index()];
  const json::object& p = stage.parameters;
  if (const auto* preset = p.if_contains("preset")) c.preset = preset->get_string();
  const json::object& activations = p.at("activations").get_object();
  const json::object& weights = p.at("weights").get_object();
  c.activation_range = range_spec(activations, child(stage.pointer, "activations"), default_activation_estimator);
  c.weight_range = range_spec(weights, child(stage.pointer, "weights"), default_weight_estimator);
  const std::string_view fix = weights.at("saturation_fix").get_string();
  c.saturation_fix = fix == "all" ? SaturationFix::all : fix == "first_layer" ? SaturationFix::first_layer : SaturationFix::no;
  auto& o = c.placement;
  o.narrowing.preset = c.preset;
  if (auto e = narrowing_entry(activations); says_something(e)) o.narrowing.activations.push_back(e);
  if (auto e = narrowing_entry(weights); says_something(e)) o.narrowing.weights.push_back(e);
  o.pin = texts(p.at("pin"));
  o.forbid = texts(p.at("forbid"));
  o.ignored_nodes = texts(p.at("ignored").at("nodes"));
  o.ignored_ops = texts(p.at("ignored").at("operations"));
}

// Absolute, and without a slash at the end.
fs::path absolute_from(const fs::path& folder, const fs::path& path) {
  const fs::path out = (folder / path).lexically_normal();
  return out.has_filename() ? out : out.parent_path();
}

Config interpret(Document document, const fs::path& folder, const ConfigOverrides& overrides) {
  Config c;
  c.document = std::move(document);
  c.file = c.document.file;
  c.folder = fs::absolute(folder).lexically_normal();
  for (const auto& s : overrides.set) apply_set(c.document, s);
  if (c.document.value.is_object() && !c.document.value.get_object().contains("quern"))
    throw c.error("", "the key 'quern' is missing; a configuration of this version begins with 'quern: 1'");
  SchemaResult checked = apply_schema(schema_json(), c.document.value);
  if (!checked.issues.empty() && checked.issues.front().hint.empty()) {
    SchemaIssue& first = checked.issues.front();
    const auto* found = first.pointer == "/target" ? c.document.value.as_object().if_contains("target") : nullptr;
    if (found && found->is_string()) first.hint = fmt::format("write target: {{device: {}}}", std::string_view(found->get_string()));
    if (first.pointer == "/quern" && !first.at_key) first.hint = "this Quern reads version 1 of the format";
    if (first.pointer == "/pipeline") first.hint = "leave it out to take the default; else list the stages, at least '- quantize'";
  }
  if (!checked.issues.empty()) throw_issue(c.document, checked.issues.front());
  c.effective = checked.value.get_object();

  auto& target = c.effective["target"].get_object();
  if (json::value& device = target["device"]; device.is_array()) {
    if (overrides.target.empty() && device.get_array().size() > 1)
      throw c.error("/target/device", "names several targets, which `quantize` alone can do").hint("name one with --target");
    const std::string one(device.get_array()[0].get_string());
    const size_t colon = one.find(':');
    device = one.substr(0, colon);
    if (colon != std::string::npos) target["profile"] = one.substr(colon + 1);
  }
  if (!overrides.target.empty()) {
    const size_t colon = overrides.target.find(':');
    const std::string device = overrides.target.substr(0, colon);
    if (device != target["device"].get_string()) target["profile"] = "";
    target["device"] = device;
    for (const char* key : {"/target/device", "/target/profile"}) c.document.values[key] = {0, 0, "--target " + overrides.target};
    if (colon != std::string::npos) target["profile"] = overrides.target.substr(colon + 1);
  }
  c.device = target["device"].get_string();
  c.profile = target["profile"].get_string();
  c.preset = target["preset"].get_string();
  read_stages(c);
  if (!overrides.preset.empty()) {
    c.preset = overrides.preset;
    c.document.values["/target/preset"] = {0, 0, "--preset " + overrides.preset};
    c.stages[c.quantize_index()].parameters.erase("preset");
  }
  read_quantize(c);

  c.model = absolute_from(c.folder, std::string(c.effective["model"].get_string()));
  c.output = overrides.output.empty() ? absolute_from(c.folder, std::string(c.effective["output"].get_string()))
                                      : absolute_from(fs::current_path(), overrides.output);
  const auto& data = c.effective["data"].get_object();
  if (const auto* s = data.if_contains("calibration")) c.calibration = s->get_object();
  if (const auto* s = data.if_contains("evaluation")) c.evaluation = s->get_object();
  if (const auto* m = c.effective.if_contains("metric")) c.metric = *m;
  json::value& files = c.effective["export"].get_object()["qdq"];
  if (files.is_string()) files = json::array{files};
  for (QdqProfile profile : {QdqProfile::plain, QdqProfile::ort, QdqProfile::openvino})
    for (const json::value& name : files.get_array())
      if (qdq_profile_from_name(std::string(name.get_string())) == profile && (c.qdq.empty() || c.qdq.back() != profile)) c.qdq.push_back(profile);
  c.threads = static_cast<int>(overrides.threads >= 0 ? overrides.threads : c.effective["threads"].to_number<int64_t>());
  c.seed = c.effective["seed"].to_number<int64_t>();
  c.isolated = c.effective["plugins"].at("isolated").get_bool();
  c.deadline_seconds = c.effective["plugins"].at("deadline").to_number<double>();
  return c;
}

// Parameters against a plugin's schema, with defaults.
json::object complete_parameters(const Config& c, const json::value& schema, const json::object& parameters, const std::string& pointer) {
  if (!schema.is_object()) return parameters;
  SchemaResult r = apply_schema(schema, parameters, pointer);
  if (!r.issues.empty()) throw_issue(c.document, r.issues.front());
  return r.value.is_object() ? r.value.get_object() : parameters;
}

// Gives an error of the plugin room the place in the file that it is about.
template <class F> auto at_place(const Config& c, const std::string& pointer, bool key, F&& f) {
  try {
    return f();
  } catch (Error& e) {
    const bool about_a_name = e.code() == ErrorCode::config || (e.code() == ErrorCode::plugin && e.file().empty());
    if (!about_a_name || e.line() > 0) throw;
    const Position p = c.document.position(pointer, key);
    throw std::move(e).at_file(p.source.empty() ? c.file : p.source, p.line, p.column);
  }
}

json::value range_json(const RangeSpec& spec) {
  json::object out{{"estimator", spec.estimator}};
  for (const auto& [key, value] : spec.parameters) out[key] = value;
  return out;
}

// A path of the configuration as seen from `folder`.
std::string path_from(const Config& c, const fs::path& folder, std::string_view path) {
  const fs::path absolute = fs::weakly_canonical(c.folder / std::string(path));
  const fs::path relative = absolute.lexically_relative(fs::weakly_canonical(fs::absolute(folder)));
  return relative.empty() ? absolute.string() : relative.string();
}

void relocate_source(const Config& c, const fs::path& folder, json::value& source, bool text_is_path) {
  if (source.is_object()) source.get_object()["path"] = path_from(c, folder, source.at("path").as_string());
  else if (text_is_path) source = path_from(c, folder, source.as_string());
}

// Parameters of a reader whose schema says {"type": "string", "format": "path"}, also in mappings of parameters: "annotations/path".
void path_parameters(const json::value& schema, const std::string& above, std::vector<std::string>& out) {
  const auto* o = schema.if_object();
  const auto* properties = o ? o->if_contains("properties") : nullptr;
  if (!properties || !properties->is_object()) return;
  for (const auto& [key, property] : properties->get_object()) {
    const auto* p = property.if_object();
    const auto* format = p ? p->if_contains("format") : nullptr;
    if (format && format->is_string() && format->get_string() == "path") out.push_back(above + std::string(key));
    path_parameters(property, above + std::string(key) + "/", out);
  }
}
std::vector<std::string> path_parameters(const json::value& schema) {
  std::vector<std::string> out;
  path_parameters(schema, "", out);
  return out;
}

// `key`: with "/" where it stands in a mapping.
void relocate_parameter(const Config& c, const fs::path& folder, json::object& in, const std::string& key) {
  const size_t slash = key.find('/');
  auto* value = in.if_contains(key.substr(0, slash));
  if (!value) return;
  if (slash == std::string::npos && value->is_string()) *value = path_from(c, folder, value->get_string());
  if (slash != std::string::npos && value->is_object()) relocate_parameter(c, folder, value->get_object(), key.substr(slash + 1));
}

void relocate_dataset(const Config& c, const fs::path& folder, const std::string& part, json::object& section) {
  if (std::find(own_readers().begin(), own_readers().end(), std::string(section.at("reader").as_string())) == own_readers().end()) {
    if (const auto paths = c.reader_paths.find(part); paths != c.reader_paths.end())
      for (const std::string& key : paths->second)
        relocate_parameter(c, folder, section, key);
    return;
  }
  const bool npz = section.at("reader").as_string() == "npz";
  if (auto* path = section.if_contains("path")) *path = path_from(c, folder, path->as_string());
  if (auto* inputs = section.if_contains("inputs"))
    for (auto& entry : inputs->get_object()) relocate_source(c, folder, entry.value(), !npz);
  if (auto* labels = section.if_contains("labels"); labels && labels->is_array())
    for (auto& entry : labels->get_array()) relocate_source(c, folder, entry, !npz);
  else if (labels) relocate_source(c, folder, *labels, !npz);
}

}  // namespace

std::string_view version() { return QUERN_VERSION; }

size_t Config::quantize_index() const {
  for (size_t i = 0; i < stages.size(); ++i) if (stages[i].name == "quantize") return i;
  return 0;
}
int Config::thread_count() const { return threads > 0 ? threads : usable_cores(); }

Config load_config_text(std::string_view text, const std::string& file_name, const fs::path& folder, const ConfigOverrides& overrides) {
  return interpret(parse_configuration(text, file_name), folder, overrides);
}

Config load_config(const fs::path& path, const ConfigOverrides& overrides) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored))
    throw Error(ErrorCode::config, "is a folder; give a configuration file").at_file(path.string())
        .hint(fs::exists(path / "effective.yaml", ignored) ? "this folder has one: " + (path / "effective.yaml").string() : "");
  const std::string text = read_text(path, size_t{1} << 20);
  return interpret(parse_configuration(text, path.string()), fs::absolute(path).parent_path(), overrides);
}

namespace {

// What --target or the file lists; empty where it is one target, or none that can be read here.
std::vector<std::string> listed_targets(const fs::path& path, const ConfigOverrides& overrides) {
  std::vector<std::string> out;
  if (!overrides.target.empty()) {
    for (size_t begin = 0; begin <= overrides.target.size();) {
      const size_t end = std::min(overrides.target.find(',', begin), overrides.target.size());
      if (end > begin) out.push_back(overrides.target.substr(begin, end - begin));
      begin = end + 1;
    }
    return out;
  }
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return out;
  Document document = parse_configuration(read_text(path, size_t{1} << 20), path.string());
  for (const auto& s : overrides.set) apply_set(document, s);
  const auto* root = document.value.if_object();
  const auto* target = root ? root->if_contains("target") : nullptr;
  const auto* device = target && target->is_object() ? target->get_object().if_contains("device") : nullptr;
  if (!device || !device->is_array()) return out;
  for (const json::value& v : device->get_array())
    if (v.is_string()) out.emplace_back(v.get_string());
  return out;
}

}  // namespace

std::vector<Config> load_configs(const fs::path& path, const ConfigOverrides& overrides) {
  const std::vector<std::string> targets = listed_targets(path, overrides);
  std::vector<Config> out;
  if (targets.size() < 2) {
    ConfigOverrides one = overrides;
    if (targets.size() == 1) one.target = targets[0];
    out.push_back(load_config(path, one));
    return out;
  }
  for (size_t i = 0; i < targets.size(); ++i) {
    ConfigOverrides one = overrides;
    one.target = targets[i];
    Config c = load_config(path, one);
    if (std::find(targets.begin(), targets.begin() + static_cast<std::ptrdiff_t>(i), targets[i]) != targets.begin() + static_cast<std::ptrdiff_t>(i))
      throw c.error("/target/device", fmt::format("the target '{}' is listed twice", targets[i]));
    std::string folder = targets[i];
    std::replace(folder.begin(), folder.end(), ':', '_');
    c.output /= folder;
    out.push_back(std::move(c));
  }
  return out;
}

void apply_isolation(const Config& c, PluginRegistry& registry) {
  registry.isolation(c.isolated, c.deadline_seconds);
}

namespace {

// A metric of a plugin gets what its schema has as defaults.
void complete_metric(Config& c, PluginRegistry& registry) {
  json::object parameters;
  std::string name;
  if (c.metric.is_string()) {
    name = std::string(c.metric.get_string());
  } else if (const auto* mapping = c.metric.if_object()) {
    const auto* type = mapping->if_contains("type");
    if (!type || !type->is_string()) return;
    name = std::string(type->get_string());
    parameters = *mapping;
    parameters.erase("type");
  }
  const auto own = metric_names(), others = registry.metric_names();
  if (std::find(own.begin(), own.end(), name) != own.end() || std::find(others.begin(), others.end(), name) == others.end()) return;
  const MetricHandle handle = at_place(c, "/metric", false, [&] { return registry.metric(name); });
  json::object completed{{"type", name}};
  for (auto& [key, value] : complete_parameters(c, handle.parameters_schema, parameters, "/metric")) completed[key] = std::move(value);
  c.metric = completed;
  c.effective["metric"] = std::move(completed);
}

}  // namespace

Rules complete_config(Config& c, PluginRegistry& registry) {
  apply_isolation(c, registry);
  const std::string named = target_of_pot_name(c.device, registry.target_names());
  const size_t colon = named.find(':');
  c.device = named.substr(0, colon);
  if (colon != std::string::npos && c.profile.empty()) c.profile = named.substr(colon + 1);
  auto target = at_place(c, "/target/device", false, [&] { return registry.target(c.device); });
  Rules rules = at_place(c, "/target/profile", false, [&] { return target->rules(c.profile); });
  c.profile = rules.profile;
  if (c.preset.empty() && !rules.presets.empty()) {
    for (const char* wanted : {"mixed", "performance"})
      if (c.preset.empty() && rules.presets.count(wanted)) c.preset = wanted;
    if (c.preset.empty()) c.preset = rules.presets.begin()->first;
  }
  if (!rules.presets.empty() && !rules.presets.count(c.preset)) {
    std::vector<std::string> names;
    for (const auto& [name, preset] : rules.presets) names.push_back(name);
    const bool own = c.stages[c.quantize_index()].parameters.contains("preset");
    throw c.error(own ? child(c.stages[c.quantize_index()].pointer, "preset") : "/target/preset",
                  fmt::format("the target '{}' has no preset '{}'{}", c.device, c.preset, did_you_mean(c.preset, names)))
        .hint("it has: " + list_of(names));
  }
  c.placement.narrowing.preset = c.preset;

  for (RangeSpec* spec : {&c.activation_range, &c.weight_range}) {
    const bool named = c.document.values.count(child(spec->pointer, "estimator")) != 0;
    EstimatorHandle e = at_place(c, named ? child(spec->pointer, "estimator") : spec->pointer, false,
                                 [&] { return registry.estimator(spec->estimator); });
    spec->parameters = complete_parameters(c, e.parameters_schema, spec->parameters, spec->pointer);
  }
  for (StageEntry& stage : c.stages) {
    if (stage.name == "quantize") continue;
    StageHandle handle = at_place(c, stage.pointer, true, [&] { return registry.stage(stage.name); });
    stage.parameters = complete_parameters(c, handle.parameters_schema, stage.parameters, stage.pointer);
  }

  for (const char* part : {"calibration", "evaluation"}) {
    std::optional<json::object>& section = part == std::string_view("calibration") ? c.calibration : c.evaluation;
    if (!section) continue;
    const std::string name(section->at("reader").get_string()), pointer = std::string("/data/") + part;
    const auto others = registry.reader_names();
    if (std::find(others.begin(), others.end(), name) == others.end()) continue;  // the host's own, or an error when it is opened
    ReaderHandle handle = at_place(c, pointer + "/reader", false, [&] { return registry.reader(name); });
    for (auto& [key, value] : complete_parameters(c, handle.parameters_schema, reader_parameters(*section), pointer)) (*section)[key] = std::move(value);
    c.effective["data"].at(part) = *section;
    c.reader_paths[part] = path_parameters(handle.parameters_schema);
  }
  complete_metric(c, registry);

  // Back into the effective configuration.
  json::object target_section{{"device", c.device}, {"profile", c.profile}, {"preset", c.preset}};
  c.effective["target"] = std::move(target_section);
  json::array pipeline;
  for (StageEntry& stage : c.stages) {
    if (stage.name == "quantize") {
      stage.parameters.erase("preset");  // it has become target.preset
      // First of its keys, wherever the file has it: the digest goes by order.
      const auto lead = [](json::object& block, json::value range) {
        json::object out{{"range", std::move(range)}};
        for (const auto& [key, value] : block)
          if (key != "range") out[key] = value;
        block = std::move(out);
      };
      lead(stage.parameters["activations"].get_object(), range_json(c.activation_range));
      lead(stage.parameters["weights"].get_object(), range_json(c.weight_range));
    }
    pipeline.push_back(json::object{{stage.name, stage.parameters}});
  }
  c.effective["pipeline"] = std::move(pipeline);
  return rules;
}

std::string effective_yaml(const Config& c, const fs::path& folder) {
  json::object out = c.effective;
  out["model"] = path_from(c, folder, out["model"].get_string());
  auto& data = out["data"].get_object();
  for (auto& section : data) relocate_dataset(c, folder, std::string(section.key()), section.value().get_object());
  out["output"] = ".";
  return "# Written by quern " + std::string(version()) + ": every default filled in. `quern quantize` on this file gives this folder again.\n" +
         to_yaml(out);
}

std::string config_digest(const Config& c, const std::string& calibration_digest) {
  json::object out;
  for (const char* key : {"quern", "target", "pipeline", "seed"}) out[key] = c.effective.at(key);
  out["calibration"] = calibration_digest;
  return sha256(to_text(out, false));
}

}  // namespace quern
