// A data reader and a metric, as small as they can be.
//
//   data: {calibration: {reader: csv_rows, path: train.csv}, evaluation: {reader: csv_rows, path: test.csv, labels: true}}
//   metric: mean_reciprocal_rank
#include <quern/plugin.hpp>

#include <fstream>
#include <locale>
#include <sstream>

namespace {

using namespace quern_sdk;

// A text file with a sample a line, numbers separated by commas; with `labels` the first number of a line is the class.
struct CsvRows {
  static constexpr std::string_view name = "csv_rows";
  static constexpr std::string_view parameters = R"({
    "type": "object", "additionalProperties": false, "required": ["path"],
    "properties": {"path": {"type": "string", "format": "path", "description": "the file; relative to the configuration's folder"},
                   "labels": {"type": "boolean", "default": false, "description": "the first number of a line is its class"}}})";
  struct Data {
    std::string input;
    std::vector<int64_t> dims;          // of one sample, without the batch axis
    std::vector<std::vector<float>> rows;
    std::vector<int64_t> labels;
  };

  std::unique_ptr<Data> open(const Json& p, std::string_view folder, const std::vector<InputView>& inputs) {
    if (inputs.size() != 1) throw Failure(QUERN_INVALID_ARGUMENT, "csv_rows feeds networks with one input; this one has " + std::to_string(inputs.size()));
    auto data = std::make_unique<Data>();
    data->input = std::string(inputs[0].name);
    int64_t wanted = 1;
    for (size_t i = 1; i < inputs[0].dims.size(); ++i) {
      if (inputs[0].dims[i] < 0) throw Failure(QUERN_INVALID_ARGUMENT, "csv_rows needs to know the shape of a sample; the network leaves it open");
      data->dims.push_back(inputs[0].dims[i]);
      wanted *= inputs[0].dims[i];
    }
    std::string path = p.text("path", "");
    if (path.empty() || path[0] != '/') path = std::string(folder) + "/" + path;
    const bool labelled = p.flag("labels", false);
    std::ifstream file(path);
    if (!file) throw Failure(QUERN_NOT_FOUND, path + " can't be opened");
    std::string line;
    for (int64_t number = 1; std::getline(file, line); ++number) {
      if (!line.empty() && line.back() == '\r') line.pop_back();
      if (line.empty()) continue;
      const std::string where = path + ":" + std::to_string(number) + ": ";
      std::vector<float> row;
      std::istringstream fields(line);
      for (std::string field; std::getline(fields, field, ',');) row.push_back(number_in(field, where));
      if (labelled) {
        const auto mark = static_cast<int64_t>(row.at(0));
        if (static_cast<float>(mark) != row[0] || mark < 0) throw Failure(QUERN_INVALID_ARGUMENT, where + "the first number is no class");
        data->labels.push_back(mark);
        row.erase(row.begin());
      }
      if (static_cast<int64_t>(row.size()) != wanted)
        throw Failure(QUERN_INVALID_ARGUMENT, where + std::to_string(row.size()) + " numbers; the network takes " + std::to_string(wanted));
      data->rows.push_back(std::move(row));
    }
    return data;
  }
  int64_t size(const Data& d) { return static_cast<int64_t>(d.rows.size()); }
  void sample(const Data& d, int64_t index, TableSink& tensors) { tensors.emit(d.input, d.rows[static_cast<size_t>(index)], d.dims); }
  void label(const Data& d, int64_t index, TableSink& label) {
    if (!d.labels.empty()) label.emit("class", d.labels[static_cast<size_t>(index)]);
  }

 private:
  // With a decimal point wherever the program runs, whatever the locale.
  static float number_in(const std::string& field, const std::string& where) {
    std::istringstream text(field);
    text.imbue(std::locale::classic());
    float v = 0;
    if (!(text >> v) || !(text >> std::ws).eof()) throw Failure(QUERN_INVALID_ARGUMENT, where + "'" + field.substr(0, 20) + "' is no number");
    return v;
  }
};

// 1 for a label in the first place, 1/2 in the second, ...; the mean over the samples.
struct MeanReciprocalRank {
  static constexpr std::string_view name = "mean_reciprocal_rank";
  static constexpr std::string_view parameters = R"({"type": "object", "additionalProperties": false, "properties": {}})";
  static constexpr bool higher_is_better = true;
  static constexpr uint32_t needs = QUERN_METRIC_NEEDS_LABELS;
  struct Meter { double sum = 0, last = 0; int64_t samples = 0; };

  std::unique_ptr<Meter> create(const Json&) { return std::make_unique<Meter>(); }
  void update(Meter& m, int64_t sample, const OutputsView& outputs, const quern_tensor* label, const OutputsView&) {
    if (outputs.size() < 1) throw Failure(QUERN_INVALID_ARGUMENT, "the network has no output");
    const Span<const float> scores = outputs[0].values<const float>();
    const int64_t mark = TensorView(*label).values<const int64_t>()[0];
    if (mark < 0 || mark >= static_cast<int64_t>(scores.size()))
      throw Failure(QUERN_OUT_OF_RANGE, "sample " + std::to_string(sample) + " has the class " + std::to_string(mark) + " of " + std::to_string(scores.size()));
    int64_t rank = 1;
    for (size_t i = 0; i < scores.size(); ++i) {
      const bool before = static_cast<int64_t>(i) < mark;  // of equal scores the first counts as better
      rank += scores[i] > scores[static_cast<size_t>(mark)] || (before && scores[i] == scores[static_cast<size_t>(mark)]);
    }
    m.last = 1.0 / static_cast<double>(rank);
    m.sum += m.last;
    ++m.samples;
  }
  double sample_value(const Meter& m) { return m.last; }
  double result(const Meter& m) { return m.samples > 0 ? m.sum / static_cast<double>(m.samples) : 0; }
};

}  // namespace

QUERN_SDK_ALGORITHMS(quern_sdk::Readers<CsvRows>, quern_sdk::Metrics<MeanReciprocalRank>)
