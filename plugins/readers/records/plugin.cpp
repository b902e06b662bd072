// The readers `files` (one sample a file, of bare numbers) and `tokens` (one sample a line, of token numbers).
#include <algorithm>
#include <limits>
#include <map>

#include "../common/listing.hpp"

namespace {

using namespace quern_readers;

const std::map<std::string, uint32_t>& types() {
  static const std::map<std::string, uint32_t> t{{"float32", QUERN_DTYPE_F32}, {"f32", QUERN_DTYPE_F32}, {"float64", QUERN_DTYPE_F64}, {"f64", QUERN_DTYPE_F64},
      {"uint8", QUERN_DTYPE_U8}, {"u8", QUERN_DTYPE_U8}, {"int8", QUERN_DTYPE_S8}, {"s8", QUERN_DTYPE_S8}, {"int16", QUERN_DTYPE_S16}, {"s16", QUERN_DTYPE_S16},
      {"uint16", QUERN_DTYPE_U16}, {"u16", QUERN_DTYPE_U16}, {"int32", QUERN_DTYPE_S32}, {"s32", QUERN_DTYPE_S32}, {"int64", QUERN_DTYPE_S64}, {"s64", QUERN_DTYPE_S64}};
  return t;
}

template <class T>
void emit_as(const std::string& input, const std::vector<uint8_t>& bytes, const std::vector<int64_t>& dims, TableSink& tensors) {
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  tensors.emit(input, values, dims);
}

// A folder an input: files of bare numbers as numpy's tofile writes them, taken in the order of their names. With several inputs
// the folders hold equally many files.
struct Files {
  static constexpr std::string_view name = "files";
  static constexpr std::string_view parameters = R"j({
    "type": "object", "additionalProperties": false,
    "properties": {
      "path": {"type": "string", "minLength": 1, "format": "path", "default": ".", "description": "the folder above those of the inputs, or of the only input"},
      "dtype": {"type": "string", "default": "float32", "description": "of the only input's files"},
      "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "description": "of one sample; the model's"},
      "inputs": {"type": "object", "additionalProperties": {"type": "object", "additionalProperties": false, "required": ["path"], "properties": {
        "path": {"type": "string"}, "dtype": {"type": "string"}, "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}}}}, "description": "by input: its folder, below path"},
      "labels": {"type": "string", "description": "a text file of a number a line, in the order of the files; below path"},
      "on_error": {"enum": ["stop", "skip"], "default": "stop", "description": "skip: samples with a file of another size are named and left out"}}})j";

  struct Source { std::string input, dtype; uint32_t type; std::vector<int64_t> dims; std::vector<std::string> files; };
  struct Data { std::vector<Source> sources; std::vector<double> labels; std::vector<size_t> kept; };

  std::unique_ptr<Data> open(const Json& p, std::string_view folder, const std::vector<InputView>& inputs) {
    auto d = std::make_unique<Data>();
    const std::string above = joined(folder, p.text("path", "."));
    const Json& named = p["inputs"];
    for (const auto& [key, value] : named.members()) {
      if (std::none_of(inputs.begin(), inputs.end(), [&, &key = key](const InputView& i) { return i.name == key; })) refuse("inputs: the network has no input '" + key + "'");
    }
    for (const InputView& input : inputs) {
      const std::string called(input.name);
      if (named.is_object() && !named.has(called)) refuse("inputs: the folder of input '" + called + "' is missing");
      if (!named.is_object() && inputs.size() > 1) refuse("the network has several inputs: name a folder for each under inputs");
      const Json& own = named.is_object() ? named[called] : p;
      Source s{called, own.text("dtype", "float32"), 0, {}, {}};
      const auto type = types().find(s.dtype);
      if (type == types().end()) refuse("input '" + called + "': there is no dtype '" + s.dtype + "'");
      s.type = type->second;
      for (const Json& n : own["shape"].items()) s.dims.push_back(static_cast<int64_t>(n.number()));
      if (s.dims.empty())
        for (size_t i = 1; i < input.dims.size(); ++i) {
          if (input.dims[i] < 0) refuse("input '" + called + "': the network leaves its shape open; say the shape of a sample");
          s.dims.push_back(input.dims[i]);
        }
      s.files = files_below(named.is_object() ? joined(above, own.text("path", "")) : above, {});
      if (!d->sources.empty() && s.files.size() != d->sources.front().files.size())
        refuse("input '" + called + "' has " + std::to_string(s.files.size()) + " files, input '" + d->sources.front().input + "' " + std::to_string(d->sources.front().files.size()));
      d->sources.push_back(std::move(s));
    }
    if (d->sources.empty()) refuse("the network has no inputs");
    const size_t count = d->sources.front().files.size();
    if (p.has("labels")) {
      const std::string path = joined(above, p.text("labels", ""));
      int line = 0;
      for (const std::string& text : lines_of(path)) {
        ++line;
        double v = 0;
        if (text.empty()) continue;
        if (!parse_number(split(text, '\n')[0], v)) refuse(path + ":" + std::to_string(line) + ": '" + text.substr(0, 40) + "' is no number");
        d->labels.push_back(v);
      }
      for (Source& s : d->sources) s.files.erase(std::remove(s.files.begin(), s.files.end(), path), s.files.end());
      if (d->labels.size() != d->sources.front().files.size())
        refuse(path + ": has " + std::to_string(d->labels.size()) + " labels for " + std::to_string(d->sources.front().files.size()) + " samples");
    }
    if (p.text("on_error", "stop") == "skip") {
      d->kept = readable(d->sources.front().files.size(), [&](size_t i) { return d->sources.front().files[i]; }, [&](size_t i) { for (const Source& s : d->sources) read(s, i); });
    } else {
      for (size_t i = 0; i < std::min(count, d->sources.front().files.size()); ++i) d->kept.push_back(i);
    }
    return d;
  }
  int64_t size(const Data& d) { return static_cast<int64_t>(d.kept.size()); }

  void sample(const Data& d, int64_t index, TableSink& tensors) {
    for (const Source& s : d.sources) {
      const auto bytes = read(s, d.kept[static_cast<size_t>(index)]);
      switch (s.type) {
        case QUERN_DTYPE_F32: emit_as<float>(s.input, bytes, s.dims, tensors); break;
        case QUERN_DTYPE_F64: emit_as<double>(s.input, bytes, s.dims, tensors); break;
        case QUERN_DTYPE_U8: emit_as<uint8_t>(s.input, bytes, s.dims, tensors); break;
        case QUERN_DTYPE_S8: emit_as<int8_t>(s.input, bytes, s.dims, tensors); break;
        case QUERN_DTYPE_U16: emit_as<uint16_t>(s.input, bytes, s.dims, tensors); break;
        case QUERN_DTYPE_S16: emit_as<int16_t>(s.input, bytes, s.dims, tensors); break;
        case QUERN_DTYPE_S32: emit_as<int32_t>(s.input, bytes, s.dims, tensors); break;
        default: emit_as<int64_t>(s.input, bytes, s.dims, tensors); break;
      }
    }
  }
  void label(const Data& d, int64_t index, TableSink& label) {
    if (d.labels.empty()) return;
    const double v = d.labels[d.kept[static_cast<size_t>(index)]];
    if (v == std::floor(v)) label.emit("class", static_cast<int64_t>(v));
    else label.emit("label", static_cast<float>(v));
  }

 private:
  static std::vector<uint8_t> read(const Source& s, size_t index) {
    std::vector<uint8_t> bytes = bytes_of(s.files[index]);
    size_t wanted = quern_sdk::size_of(s.type);
    std::string shape;
    for (int64_t d : s.dims) wanted *= static_cast<size_t>(d), shape += (shape.empty() ? "" : "x") + std::to_string(d);
    if (bytes.size() == wanted) return bytes;
    std::string hint;
    for (const auto& [dtype, type] : types())
      if (hint.empty() && bytes.size() * quern_sdk::size_of(s.type) == wanted * quern_sdk::size_of(type)) hint = "; as " + dtype + " its size would fit";
    refuse(s.files[index] + ": holds " + std::to_string(bytes.size()) + " bytes; a sample of " + shape + " " + s.dtype + " has " + std::to_string(wanted) + hint);
  }
};

// A text file with the token numbers of a sample a line, separated by spaces or commas.
struct Tokens {
  static constexpr std::string_view name = "tokens";
  static constexpr std::string_view parameters = R"j({
    "type": "object", "additionalProperties": false, "required": ["path"],
    "properties": {
      "path": {"type": "string", "minLength": 1, "format": "path", "description": "the text file: a sample a line"},
      "labelled": {"type": "boolean", "default": false, "description": "the first number of a line is its class"},
      "ids": {"type": "string", "description": "the input of the tokens; input_ids, or the only input"},
      "mask": {"type": "string", "description": "the input that is 1 where there is a token; attention_mask, where the network has it"},
      "types": {"type": "string", "description": "an input of zeros, or of the part of the text behind the first separator; token_type_ids, where the network has it"},
      "separator": {"type": "integer", "description": "the token that parts two texts"},
      "length": {"type": "integer", "minimum": 1, "description": "tokens a sample; the network's"},
      "pad": {"type": "integer", "default": 0, "description": "stands behind the last token"}}})j";

  struct Data {
    std::string ids, mask, types;
    std::map<std::string, uint32_t> dtypes;
    int64_t length = -1, pad = 0, separator = std::numeric_limits<int64_t>::min();
    std::vector<std::vector<int64_t>> lines;
    std::vector<int64_t> labels;
  };

  std::unique_ptr<Data> open(const Json& p, std::string_view folder, const std::vector<InputView>& inputs) {
    auto d = std::make_unique<Data>();
    const auto there = [&](const std::string& input) { return std::any_of(inputs.begin(), inputs.end(), [&](const InputView& i) { return i.name == input; }); };
    const auto chosen = [&](const char* key, const char* usual) {
      const std::string input = p.text(key, there(usual) ? usual : "");
      if (!input.empty() && !there(input)) refuse(std::string(key) + ": the network has no input '" + input + "'");
      return input;
    };
    d->ids = chosen("ids", "input_ids");
    if (d->ids.empty() && inputs.size() == 1) d->ids = std::string(inputs[0].name);
    if (d->ids.empty()) refuse("name the input of the tokens under ids");
    d->mask = chosen("mask", "attention_mask");
    d->types = chosen("types", "token_type_ids");
    d->length = p.integer("length", -1);
    d->pad = p.integer("pad", 0);
    if (p.has("separator")) d->separator = p.integer("separator", 0);
    for (const InputView& i : inputs) {
      d->dtypes[std::string(i.name)] = i.dtype;
      if (i.name != d->ids && i.name != d->mask && i.name != d->types) refuse("tokens does not feed input '" + std::string(i.name) + "'; name it under ids, mask or types");
      if (i.name == d->ids && d->length < 0 && i.dims.size() > 0) d->length = i.dims[i.dims.size() - 1];
    }
    const bool labelled = p.flag("labelled", false);
    const std::string path = joined(folder, p.text("path", ""));
    int number = 0;
    for (std::string line : lines_of(path)) {
      ++number;
      const std::string where = path + ":" + std::to_string(number) + ": ";
      std::replace_if(line.begin(), line.end(), [](char c) { return c == ',' || c == '\t'; }, ' ');
      std::vector<int64_t> tokens;
      for (const std::string& field : split(line, ' ')) {
        double v = 0;
        if (field.empty()) continue;
        if (!parse_number(field, v) || v != std::floor(v) || std::fabs(v) > 2147483647) refuse(where + "'" + field.substr(0, 40) + "' is no token");
        tokens.push_back(static_cast<int64_t>(v));
      }
      if (tokens.empty()) continue;
      if (labelled) {
        d->labels.push_back(tokens.front());
        tokens.erase(tokens.begin());
        if (tokens.empty()) refuse(where + "has a class and no token");
      }
      if (d->length > 0 && static_cast<int64_t>(tokens.size()) > d->length)
        refuse(where + "has " + std::to_string(tokens.size()) + " tokens; a sample has " + std::to_string(d->length));
      d->lines.push_back(std::move(tokens));
    }
    if (d->lines.empty()) refuse(path + ": holds no tokens");
    return d;
  }
  int64_t size(const Data& d) { return static_cast<int64_t>(d.lines.size()); }

  void sample(const Data& d, int64_t index, TableSink& tensors) {
    const auto& tokens = d.lines[static_cast<size_t>(index)];
    const size_t length = d.length > 0 ? static_cast<size_t>(d.length) : tokens.size();
    std::vector<int64_t> ids(length, d.pad), mask(length, 0), kinds(length, 0);
    bool second = false;
    for (size_t i = 0; i < tokens.size(); ++i) {
      ids[i] = tokens[i];
      mask[i] = 1;
      kinds[i] = second;
      second = second || tokens[i] == d.separator;
    }
    emit(d, d.ids, ids, tensors);
    if (!d.mask.empty()) emit(d, d.mask, mask, tensors);
    if (!d.types.empty()) emit(d, d.types, kinds, tensors);
  }
  void label(const Data& d, int64_t index, TableSink& label) {
    if (!d.labels.empty()) label.emit("class", d.labels[static_cast<size_t>(index)]);
  }

 private:
  static void emit(const Data& d, const std::string& input, const std::vector<int64_t>& values, TableSink& tensors) {
    const uint32_t type = d.dtypes.at(input);
    if (type == QUERN_DTYPE_F32) tensors.emit(input, std::vector<float>(values.begin(), values.end()));
    else tensors.emit(input, values);
  }
};

}  // namespace

QUERN_SDK_ALGORITHMS(quern_sdk::Readers<Files, Tokens>)
