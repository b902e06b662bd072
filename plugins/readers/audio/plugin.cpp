// The reader `audio`: a folder of sound files, as samples or as features.
#include <sndfile.h>

#include <algorithm>

#include "features.hpp"

namespace {

using namespace quern_readers;

struct Audio {
  static constexpr std::string_view name = "audio";
  static constexpr std::string_view parameters = R"j({
    "type": "object", "additionalProperties": false, "required": ["path", "rate"],
    "properties": {
      "path": {"type": "string", "minLength": 1, "format": "path", "description": "the folder of wav and flac files; those in folders below it count"},
      "input": {"type": "string", "default": "", "description": "the input that is fed; the only one"},
      "rate": {"type": "integer", "minimum": 1, "description": "samples a second; a file of another rate is an error"},
      "length": {"type": "integer", "minimum": 1, "description": "samples a file: longer ones are cut, shorter ones end with zeros; all of it when left out"},
      "annotations": {"type": "object", "additionalProperties": false, "required": ["format"], "properties": {
        "format": {"enum": ["list", "csv", "folders"], "description": "list: lines `file class`; csv: file, then numbers; folders: one a class, in order of their names"},
        "path": {"type": "string", "format": "path"}}},
      "features": {"type": "object", "additionalProperties": false, "description": "what is fed: raw samples, or frames of features", "properties": {
        "type": {"enum": ["raw", "magnitude", "power", "log_mel", "mfcc"], "default": "raw"},
        "window": {"type": "integer", "minimum": 2, "default": 400},
        "hop": {"type": "integer", "minimum": 1, "default": 160},
        "fft": {"type": "integer", "minimum": 2, "maximum": 65536, "description": "512, or the window where that is longer"},
        "mels": {"type": "integer", "minimum": 1, "default": 40},
        "coefficients": {"type": "integer", "minimum": 1, "default": 13},
        "low": {"type": "number", "minimum": 0, "default": 0},
        "high": {"type": "number", "description": "half the rate"},
        "scale": {"enum": ["htk", "slaney"], "default": "htk"},
        "log": {"enum": ["natural", "decibels"], "default": "natural"},
        "floor": {"type": "number", "exclusiveMinimum": 0, "default": 1e-6},
        "center": {"type": "boolean", "default": false, "description": "frames are centred, the ends mirrored"},
        "bands_first": {"type": "boolean", "default": false, "description": "[bands, frames] in place of [frames, bands]"}}},
      "on_error": {"enum": ["stop", "skip"], "default": "stop", "description": "skip: files that can't be read are named and left out"}}})j";

  struct Data {
    std::string input;
    int64_t rate = 0, length = 0;
    bool bands_first = false, raw = true;
    std::vector<int64_t> dims;  // of the input without its batch, -1 where open
    std::unique_ptr<Features> features;
    std::vector<Entry> items;
  };

  std::unique_ptr<Data> open(const Json& p, std::string_view folder, const std::vector<InputView>& inputs) {
    auto d = std::make_unique<Data>();
    const InputView& input = input_of(p, inputs, name);
    d->input = std::string(input.name);
    for (size_t i = 1; i < input.dims.size(); ++i) d->dims.push_back(input.dims[i]);
    d->rate = p.integer("rate", 0);
    d->length = p.integer("length", 0);
    const FeatureOptions options(p["features"], static_cast<double>(d->rate));
    d->raw = options.kind == "raw";
    d->bands_first = p["features"].flag("bands_first", false);
    d->features = std::make_unique<Features>(options);
    d->items = entries_of(p["annotations"], folder, joined(folder, p.text("path", "")), {".wav", ".flac", ".ogg", ".aiff", ".aif"});
    if (p.text("on_error", "stop") == "skip") {
      std::vector<Entry> kept;
      for (size_t i : readable(d->items.size(), [&](size_t i) { return d->items[i].path; }, [&](size_t i) { read(*d, i); })) kept.push_back(d->items[i]);
      d->items = std::move(kept);
    }
    return d;
  }
  int64_t size(const Data& d) { return static_cast<int64_t>(d.items.size()); }

  void sample(const Data& d, int64_t index, TableSink& tensors) {
    const std::vector<float> sound = read(d, static_cast<size_t>(index));
    std::vector<float> v = d.features->of(sound);
    const int64_t bands = d.features->width(), frames = static_cast<int64_t>(v.size()) / bands;
    if (frames == 0) refuse(d.items[static_cast<size_t>(index)].path + ": has " + std::to_string(sound.size()) + " samples, less than one frame");
    if (d.bands_first) {
      std::vector<float> turned(v.size());
      for (int64_t f = 0; f < frames; ++f)
        for (int64_t b = 0; b < bands; ++b) turned[static_cast<size_t>(b * frames + f)] = v[static_cast<size_t>(f * bands + b)];
      v = std::move(turned);
    }
    std::vector<int64_t> dims{frames, bands};
    if (d.bands_first) std::swap(dims[0], dims[1]);
    if (d.raw) dims = {frames};
    tensors.emit(d.input, v, shaped(d, dims));
  }
  void label(const Data& d, int64_t index, TableSink& label) {
    const auto& marks = d.items[static_cast<size_t>(index)].label;
    if (marks.size() == 1 && marks[0] == std::floor(marks[0])) label.emit("class", static_cast<int64_t>(marks[0]));
    else if (!marks.empty()) label.emit("labels", std::vector<float>(marks.begin(), marks.end()));
  }

 private:
  // Axes of one element where the input has them: [1, frames, bands], [frames, bands, 1], [1, samples].
  static std::vector<int64_t> shaped(const Data& d, const std::vector<int64_t>& dims) {
    if (d.dims.size() <= dims.size()) return dims;
    std::vector<int64_t> out;
    size_t next = 0, extra = d.dims.size() - dims.size();
    for (int64_t want : d.dims) {
      const bool fits = next < dims.size() && (want < 0 || want == dims[next]);
      if (extra > 0 && (want == 1 || !fits)) { out.push_back(1); --extra; }
      else if (next < dims.size()) out.push_back(dims[next++]);
    }
    return next == dims.size() ? out : dims;
  }

  static std::vector<float> read(const Data& d, size_t index) {
    const std::string& path = d.items[index].path;
    bytes_of(path);  // names the file where there is none, or an empty one
    SF_INFO info{};
    struct Close { void operator()(SNDFILE* f) const { sf_close(f); } };
    const std::unique_ptr<SNDFILE, Close> file(sf_open(path.c_str(), SFM_READ, &info));
    if (!file) refuse(path + ": is no sound that can be read (" + sf_strerror(nullptr) + ")");
    if (info.samplerate != d.rate)
      refuse(path + ": has " + std::to_string(info.samplerate) + " samples a second, not " + std::to_string(d.rate) + "; resample it, or say its rate");
    if (info.frames <= 0 || info.channels <= 0 || info.frames > (int64_t{1} << 31)) refuse(path + ": holds no sound, or more than can be read");
    const int64_t wanted = d.length > 0 ? std::min<int64_t>(d.length, info.frames) : info.frames;
    std::vector<float> all(static_cast<size_t>(wanted * info.channels)), out(static_cast<size_t>(d.length > 0 ? d.length : wanted));
    if (sf_readf_float(file.get(), all.data(), wanted) != wanted) refuse(path + ": ends before its header says");
    for (int64_t i = 0; i < wanted; ++i) {  // channels are averaged
      double sum = 0;
      for (int c = 0; c < info.channels; ++c) sum += static_cast<double>(all[static_cast<size_t>(i * info.channels + c)]);
      out[static_cast<size_t>(i)] = static_cast<float>(sum / info.channels);
    }
    return out;
  }
};

}  // namespace

QUERN_SDK_ALGORITHMS(quern_sdk::Readers<Audio>)
