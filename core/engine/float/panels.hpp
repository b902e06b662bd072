// Rows times a matrix that is used again and again: its columns are packed into panels of 32, depth after depth, so that a
// product reads memory in one direction and keeps its sums in registers.
//
//   Panels<float> w(columns, depth);
//   pack(weights, w);                                   // weights [columns, depth], as W and R of a recurrent node lie
//   multiply(w.view(), rows, count);                    // rows[i].out[0 .. padded) += rows[i].in[0 .. depth) * w
//
// Every sum runs over the depth in ascending order, one multiplication and one addition a step, beginning with what `out`
// holds: a vector's lanes are columns, so the bytes are the same for every width of vector.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace quern::own {

inline constexpr int64_t panel_columns = 32;
constexpr int64_t padded(int64_t columns) { return (columns + panel_columns - 1) / panel_columns * panel_columns; }

template <class T>
struct PanelView {
  const T* data = nullptr;  // [padded(columns) / 32][depth][32]
  int64_t columns = 0, depth = 0;
};

template <class T>
struct Panels {
  Panels() = default;
  Panels(int64_t columns, int64_t depth) : columns(columns), depth(depth), data(static_cast<size_t>(padded(columns) * depth)) {}
  PanelView<T> view() const { return {data.data(), columns, depth}; }
  int64_t columns = 0, depth = 0;
  std::vector<T> data;
};

// `weights` [columns, depth] to panels; columns that fill up the last one are 0. `to` has padded(columns) * depth elements.
template <class T> void pack(const T* weights, int64_t columns, int64_t depth, T* to);

template <class T> struct RowPair { const T* in; T* out; };

// Vectors the f32 product can be computed with; the best that this CPU has is taken unless a test asks for another.
enum class Lanes { four = 4, eight = 8, sixteen = 16 };
Lanes best_lanes();

void multiply(const PanelView<float>& panels, const RowPair<float>* rows, int64_t count, Lanes lanes = best_lanes());
void multiply(const PanelView<double>& panels, const RowPair<double>* rows, int64_t count);

}  // namespace quern::own
