// Attention of single rows over paged keys and values, and the write of new ones.
//
//     out = softmax(softcap(scaling * q K^T) + slope * position) V      per row and query head
//
// over the positions of the row's sequence up to its own, at most `window` of them. Keys and values
// lie as [token slot, kv head, dim] of one layer; a block table says which slots are a sequence's.
// The softmax runs over tiles of positions with a running maximum (arXiv 2205.14135), in float32.
// The torch twin is `attend` of model/attention.py.

#pragma once

#include "vectors.h"

namespace {

constexpr int64_t kTile = 32;         // positions at a time
constexpr int64_t kMaxTotal = 16384;  // floats of unfinished output that one task keeps on its stack

struct Row {
  int32_t row;       // of the flattened batch
  int32_t position;  // in its sequence
  int32_t table;     // where its block table begins in `blocks`
};

// Neighbouring rows of one sequence, at most `kChunkRows` of them.
struct Chunk {
  int32_t row, position, table, num_rows;
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
  const Row* rows;      // those that attend one by one
  const Chunk* chunks;  // those that attend together, see attention_chunks.h
  const int32_t* blocks;
  const int64_t* slots;  // [num_new], where each new key and value goes
  View query, key, value;
  void* keys;
  void* values;
  void* out;            // [T, heads, value_dim]
  const float* slopes;  // [heads] or null
  const float* sinks;   // [heads] or null
  int64_t num_rows, num_chunks, num_new, heads, kv_heads, key_dim, value_dim, block_size;
  int64_t window;  // 0 = none
  float scaling;
  float softcap;  // 0 = none
  int64_t num_threads;
};

// What one query head has seen so far: total / sum is its output.
struct Softmax {
  float largest;
  float sum;

  // The factor by which `total` shrinks when a new largest score comes.
  float raise(float score) {
    if (score <= largest) return 1;
    float factor = sum == 0 ? 0 : exp_negative(largest - score);
    largest = score;
    sum *= factor;
    return factor;
  }
};

// An adapter may overflow. What it leaves is read beside other sequences' rows by the torch path,
// whose mask hides neither NaN nor a product that becomes infinite.
template <typename T>
inline void write_bounded(T* to, const T* from, int64_t n) {
  constexpr float limit = 1e15f;
  for (int64_t i = 0; i < n; i++) {
    float value = widen(from[i]);
    value = value != value ? 0 : value > limit ? limit : value < -limit ? -limit : value;
    narrow(value, to[i]);
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

// query . key for `n` keys that lie `stride` elements apart.
template <typename T>
inline void multiply(const T* query, const T* keys, int64_t stride, int64_t dim, int64_t n,
                     float* products) {
  using P = Product<T>;
  for (int64_t first = 0; first < n; first += kLanes) {
    const int64_t count = n - first < kLanes ? n - first : kLanes;
    Floats sums[kLanes] = {};
    int64_t d = 0;
    for (; d + P::kStep <= dim; d += P::kStep) {
      const typename P::Operand part = P::get(query + d);
      for (int64_t t = 0; t < kLanes; t++)
        sums[t] = P::add(sums[t], part, P::get(keys + (first + (t < count ? t : 0)) * stride + d));
    }
    float found[kLanes];
    store(totals(sums), found);
    for (int64_t t = 0; t < count; t++) {
      for (int64_t rest = d; rest < dim; rest++)
        found[t] += widen(query[rest]) * widen(keys[(first + t) * stride + rest]);
      products[first + t] = found[t];
    }
  }
}

template <typename T>
inline float score(const AttentionCall& call, float product, int64_t head, int64_t position) {
  float found = product * call.scaling;
  if (call.softcap) found = __builtin_tanhf(found / call.softcap) * call.softcap;
  if (call.slopes) found += rounded<T>(call.slopes[head] * position);
  return found;
}

// total += the `n` values, which lie `stride` elements apart, each times its weight.
template <typename T>
inline void accumulate(float* total, const float* weights, const T* values, int64_t stride,
                       int64_t dim, int64_t n) {
  int64_t c = 0;
  for (; c + kLanes <= dim; c += kLanes) {
    Floats sum = load(total + c);
    for (int64_t t = 0; t < n; t++) sum += weights[t] * load(values + t * stride + c);
    store(sum, total + c);
  }
  for (; c < dim; c++)
    for (int64_t t = 0; t < n; t++) total[c] += weights[t] * widen(values[t * stride + c]);
}

// `n` positions from `first` on, whose slots follow each other from `slot` on.
template <typename T>
void see_tile(const AttentionCall& call, const Row& row, int64_t kv_head, int64_t group,
              int64_t slot, int64_t first, int64_t n, Softmax* softmax, float* total) {
  const T* keys = static_cast<const T*>(call.keys) + (slot * call.kv_heads + kv_head) * call.key_dim;
  const T* values =
      static_cast<const T*>(call.values) + (slot * call.kv_heads + kv_head) * call.value_dim;
  for (int64_t g = 0; g < group; g++, softmax++, total += call.value_dim) {
    int64_t head = kv_head * group + g;
    const T* query = call.query.at<T>(row.row, head);
    float weights[kTile], largest = -__builtin_inff();
    multiply(query, keys, call.kv_heads * call.key_dim, call.key_dim, n, weights);
    for (int64_t t = 0; t < n; t++) {
      weights[t] = score<T>(call, weights[t], head, first + t);
      largest = weights[t] > largest ? weights[t] : largest;
    }
    float factor = softmax->raise(largest), sum = 0;
    if (factor != 1)
      for (int64_t i = 0; i < call.value_dim; i++) total[i] *= factor;
#pragma omp simd reduction(+ : sum)
    for (int64_t t = 0; t < n; t++) {
      weights[t] = exp_negative(weights[t] - softmax->largest);
      sum += weights[t];
    }
    softmax->sum += sum;
    accumulate(total, weights, values, call.kv_heads * call.value_dim, call.value_dim, n);
  }
}

// The query heads of the kv heads `first_head` to `last_head` of one row.
template <typename T>
void attend(const AttentionCall& call, const Row& row, int64_t first_head, int64_t last_head) {
  const int64_t group = call.heads / call.kv_heads;
  const int64_t num_heads = (last_head - first_head) * group;
  float total[kMaxTotal];
  Softmax softmax[kMaxTotal / 8];
  for (int64_t h = 0; h < num_heads; h++) softmax[h] = {-__builtin_inff(), 0};
  for (int64_t i = 0; i < num_heads * call.value_dim; i++) total[i] = 0;
  int64_t end = row.position + 1;
  int64_t first = call.window && end > call.window ? end - call.window : 0;
  for (int64_t n = 0; first < end; first += n) {
    int64_t offset = first % call.block_size;
    n = call.block_size - offset;
    if (n > kTile) n = kTile;
    if (n > end - first) n = end - first;
    int64_t block = call.blocks[row.table + first / call.block_size];
    int64_t slot = block * call.block_size + offset;
    for (int64_t head = first_head; head < last_head; head++)
      see_tile<T>(call, row, head, group, slot, first, n, softmax + (head - first_head) * group,
                  total + (head - first_head) * group * call.value_dim);
  }
  T* out = static_cast<T*>(call.out) +
           (row.row * call.heads + first_head * group) * call.value_dim;
  for (int64_t h = 0; h < num_heads; h++) {
    float* mine = total + h * call.value_dim;
    float scale = 1;
    if (call.sinks) {
      float sink = call.sinks[first_head * group + h];
      scale = softmax[h].raise(sink);
      softmax[h].sum += exp_negative(sink - softmax[h].largest);
    }
    scale /= softmax[h].sum;
    for (int64_t i = 0; i < call.value_dim; i++) narrow(mine[i] * scale, out[h * call.value_dim + i]);
  }
}

// So that few rows still keep every thread busy, and a task's totals fit on its stack.
inline int64_t heads_per_task(const AttentionCall& call) {
  int64_t parts = (4 * call.num_threads + call.num_rows - 1) / call.num_rows;
  int64_t heads = (call.kv_heads + parts - 1) / parts;
  int64_t most = kMaxTotal / (call.heads / call.kv_heads * call.value_dim);
  return heads < most ? heads : most;
}

}  // namespace
