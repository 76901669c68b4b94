// What attention over paged keys and values is made of, and the write of new ones.
//
//     out = softmax(softcap(scaling * q K^T) + slope * position) V      per row and query head
//
// over the positions of the row's sequence up to its own, at most `window` of them. Keys and values
// lie as [token slot, kv head, dim] of one layer; a block table says which slots are a sequence's.
// The softmax runs over tiles of positions with a running maximum (arXiv 2205.14135), in float32.
// The torch twin is `attend` of model/attention.py.

#pragma once

#include "functions.h"

namespace {

constexpr int64_t kKeys = 64;  // positions at a time

// Neighbouring rows of one sequence.
struct Segment {
  int32_t row;       // the first, of the flattened batch
  int32_t position;  // of that row in its sequence
  int32_t table;     // where the sequence's block table begins in `blocks`
  int32_t num_rows;

  // At most `num` of its rows, from number `first` on.
  Segment part(int64_t first, int64_t num) const {
    const int64_t left = num_rows - first;
    return {static_cast<int32_t>(row + first), static_cast<int32_t>(position + first), table,
            static_cast<int32_t>(num < left ? num : left)};
  }
};

// A view of [rows, heads, dim] whose last dimension is contiguous; strides are in elements.
struct View {
  const void* data;
  int64_t row_stride, head_stride;

  template <typename T>
  const T* at(int64_t row, int64_t head) const {
    return static_cast<const T*>(data) + row * row_stride + head * head_stride;
  }
};

struct AttentionCall {
  const Segment* segments;
  const int32_t* blocks;
  const int64_t* slots;  // [num_new], where each new key and value goes
  View query, key, value;
  void* keys;
  void* values;
  void* out;            // [T, heads, value_dim]
  const float* slopes;  // [heads] or null
  const float* sinks;   // [heads] or null
  int64_t num_segments, num_new, heads, kv_heads, key_dim, value_dim, block_size;
  int64_t window;  // 0 = none
  float scaling;
  float softcap;  // 0 = none
  int64_t num_threads;

  int64_t group() const { return heads / kv_heads; }

  // The first that a row at `position` sees.
  int64_t oldest(int64_t position) const {
    return window && position >= window ? position - window + 1 : 0;
  }
};

// Reads a line of each 64 bytes, in order. A processor fetches ahead of such a reader, but of none who
// looks at one head after the other, or says what to prefetch.
inline void touch(const void* from, int64_t num_bytes) {
  for (int64_t byte = 0; byte < num_bytes; byte += 64)
    static_cast<void>(static_cast<const volatile char*>(from)[byte]);
}

// What one query has seen so far: its output is total / sum.
struct Softmax {
  float largest;  // of the scores
  Floats sum;     // of the weights, by lane

  // The factor by which `total` shrinks when a new largest score comes.
  float raise(float score) {
    if (score <= largest) return 1;
    const float factor = exp_negative(largest - score);
    largest = score;
    sum *= factor;
    return factor;
  }

  // What `total` is to be multiplied by when everything has been seen.
  float finish(const float* sink) {
    const float factor = sink ? raise(*sink) : 1;
    return factor / (total(sum) + (sink ? exp_negative(*sink - largest) : 0));
  }
};

// A finite number, since scores of what is hidden are less.
constexpr Softmax kNothingSeen = {-3e38f, {}};

// Up to `kKeys` positions of a sequence, from `first` on, and where they lie.
struct Tile {
  int64_t first, num;
  int64_t slots[kKeys];

  Tile(const AttentionCall& call, int64_t table, int64_t first, int64_t end)
      : first(first), num(end - first < kKeys ? end - first : kKeys) {
    int64_t block = table + first / call.block_size, offset = first % call.block_size;
    for (int64_t t = 0; t < num; block++, offset = 0)
      for (; offset < call.block_size && t < num; offset++)
        slots[t++] = call.blocks[block] * call.block_size + offset;
  }
};

// The same for one kv head. Pointers beyond the last position repeat it.
template <typename T>
struct Rows {
  const T* keys[kKeys];
  const T* values[kKeys];

  Rows(const AttentionCall& call, const Tile& tile, int64_t kv_head) {
    for (int64_t t = 0; t < kKeys; t++) {
      const int64_t slot = tile.slots[t < tile.num ? t : tile.num - 1];
      const int64_t place = slot * call.kv_heads + kv_head;
      keys[t] = static_cast<const T*>(call.keys) + place * call.key_dim;
      values[t] = static_cast<const T*>(call.values) + place * call.value_dim;
    }
  }
};

// Rows of one head lie apart from each other, where the processor does not expect them.
template <typename T>
inline void prefetch(const T* const* rows, int64_t num, int64_t dim) {
  constexpr int64_t line = 64 / sizeof(T);
  for (int64_t t = 0; t < num; t++)
    for (int64_t d = 0; d < dim; d += line) __builtin_prefetch(rows[t] + d, 0, 2);
}

template <typename T>
inline void prefetch(const AttentionCall& call, const Tile& tile, int64_t kv_head) {
  if (tile.num <= 0) return;
  const Rows<T> rows(call, tile, kv_head);
  prefetch(rows.keys, tile.num, call.key_dim);
  prefetch(rows.values, tile.num, call.value_dim);
}

// Products of a query with `num` keys from position `first` on → `put(t, weights)` of `kLanes` of them
// at a time; what the query's total shrinks by. Those from `begin` up to `end` are visible, counted
// from `first`.
template <typename T, typename Put>
inline float weigh(const AttentionCall& call, int64_t head, int64_t first, int64_t begin,
                   int64_t end, int64_t num, float* products, Softmax& softmax, Put put) {
  const float scaling = call.scaling, softcap = call.softcap;
  const float slope = call.slopes ? call.slopes[head] : 0;
  const Floats hidden = Floats{} - __builtin_inff();
  Floats most = hidden;
  for (int64_t t = 0; t < num; t += kLanes) {
    Floats scores = load(products + t) * scaling;
    if (softcap) scores = tanh(scores / softcap) * softcap;
    if (slope) scores += rounded<T>((lane_numbers() + static_cast<float>(first + t)) * slope);
    if (t < begin) scores = lane_numbers() >= static_cast<float>(begin - t) ? scores : hidden;
    if (t + kLanes > end) scores = lane_numbers() < static_cast<float>(end - t) ? scores : hidden;
    most = scores > most ? scores : most;
    store(scores, products + t);
  }
  const float factor = softmax.raise(largest(most));
  Floats sum = softmax.sum;
  for (int64_t t = 0; t < num; t += kLanes) {
    const Floats weights = exp_negative(load(products + t) - softmax.largest);
    sum += weights;
    put(t, weights);
  }
  softmax.sum = sum;
  return factor;
}

template <typename T>
inline void write_out(const AttentionCall& call, int64_t row, int64_t head, const float* total,
                      Softmax softmax) {
  const float scale = softmax.finish(call.sinks ? call.sinks + head : nullptr);
  T* out = static_cast<T*>(call.out) + (row * call.heads + head) * call.value_dim;
  for (int64_t c = 0; c < call.value_dim; c += kLanes)
    store_some(load_some(total + c, call.value_dim - c) * scale, out + c, call.value_dim - c);
}

// An adapter may overflow. What it leaves is read beside other sequences' rows by the torch path,
// whose mask hides neither NaN nor a product that becomes infinite.
template <typename T>
inline void write_bounded(T* to, const T* from, int64_t dim) {
  constexpr float limit = 1e15f;
  for (int64_t i = 0; i < dim; i += kLanes) {
    Floats some = load_some(from + i, dim - i);
    some = some == some ? some : Floats{};
    some = some > limit ? Floats{} + limit : some < -limit ? Floats{} - limit : some;
    store_some(some, to + i, dim - i);
  }
}

template <typename T>
void write_new(const AttentionCall& call, int64_t row) {
  T* keys = static_cast<T*>(call.keys) + call.slots[row] * call.kv_heads * call.key_dim;
  T* values = static_cast<T*>(call.values) + call.slots[row] * call.kv_heads * call.value_dim;
  for (int64_t head = 0; head < call.kv_heads; head++) {
    write_bounded(keys + head * call.key_dim, call.key.at<T>(row, head), call.key_dim);
    write_bounded(values + head * call.value_dim, call.value.at<T>(row, head), call.value_dim);
  }
}

}  // namespace
