// Attention of many rows of one sequence: the same as in attention.h, where a key is looked at once
// for a block of queries. What is multiplied lies in a scratch area as words: one float32 each, or two
// bfloat16 that follow each other in the sum, where the processor multiplies such pairs. Keys are
// transposed, so that scores have a lane for each position.

#pragma once

#include "attention.h"
#include "vectors.h"

namespace {

constexpr int64_t kChunkRows = 32;
constexpr int64_t kQueries = 32;   // rows x heads that share keys, at most
constexpr int64_t kKeys = 64;      // positions at a time
constexpr int64_t kMaxDim = 256;   // of a head
constexpr int kBlockQueries = kHasManyRegisters ? 8 : 4;
constexpr int64_t kPair = 2 * kLanes;

struct Scratch {
  uint32_t query[kQueries * kMaxDim];  // [queries, words of key_dim]
  uint32_t keys[kMaxDim * kKeys];      // [words of key_dim, kKeys]
  uint32_t values[kKeys * kMaxDim];    // [words of kKeys, width]
  uint32_t weights[kQueries * kKeys];  // [queries, words of kKeys]
  float scores[kQueries * kKeys];
  float totals[kQueries * kMaxDim];  // [queries, width]
  float factors[kQueries];           // by which totals shrink
  Softmax softmax[kQueries];
};

template <typename T>
inline void put_words(const T* from, int64_t n, uint32_t* to) {
  if constexpr (Word<T>::kSize == 2) {
    to[n / 2] = 0;  // One word more than there is when n is even.
    std::memcpy(to, from, n * sizeof(T));
  } else {
    for (int64_t i = 0; i < n; i++) {
      float value = widen(from[i]);
      std::memcpy(to + i, &value, sizeof value);
    }
  }
}

// As many values for the words at `first` and, where words are pairs, at `second`.
template <typename T>
inline Words value_words(const T* first, const T* second, int64_t n) {
  Words low = (Words)(n > 0 ? load_some(first, n) : Floats{});
  if constexpr (Word<T>::kSize == 1) return low;
  return (Words)(n > 0 && second ? load_some(second, n) : Floats{}) | low >> 16;
}

// Queries of the rows `first_row` to `first_row + num_rows` of the batch and one kv head; query
// number i is head i % group of row i / group.
struct Block {
  int64_t first_row, position, table, num_rows, kv_head, group;
  int64_t width;  // value_dim, rounded up to whole pairs of vectors

  int64_t num_queries() const { return num_rows * group; }
  int64_t position_of(int64_t query) const { return position + query / group; }
};

template <typename T>
inline int64_t words_of(int64_t elements) {
  return parts(elements, Word<T>::kSize);
}

template <typename T>
void load_queries(const AttentionCall& call, const Block& block, Scratch& scratch) {
  const int64_t size = words_of<T>(call.key_dim);
  for (int64_t i = 0; i < parts(block.num_queries(), kBlockQueries) * kBlockQueries; i++) {
    // The last block is filled up with its last query.
    const int64_t query = i < block.num_queries() ? i : block.num_queries() - 1;
    put_words(call.query.at<T>(block.first_row + query / block.group,
                               block.kv_head * block.group + query % block.group),
              call.key_dim, scratch.query + i * size);
    scratch.softmax[i] = {-__builtin_inff(), 0};
    for (int64_t c = 0; c < block.width; c++) scratch.totals[i * block.width + c] = 0;
  }
}

// `n` positions from `first` on. Keys beyond them repeat the last one, and count for no query.
template <typename T>
void load_tile(const AttentionCall& call, const Block& block, int64_t first, int64_t n,
               Scratch& scratch) {
  constexpr int64_t per_quad = sizeof(Quad) / sizeof(T), size = Word<T>::kSize;
  const T* keys[kKeys];
  const T* values[kKeys + 1] = {};
  for (int64_t t = 0; t < kKeys; t++) {
    const int64_t position = first + (t < n ? t : n - 1);
    const int64_t slot = call.blocks[block.table + position / call.block_size] * call.block_size +
                         position % call.block_size;
    const int64_t place = slot * call.kv_heads + block.kv_head;
    keys[t] = static_cast<const T*>(call.keys) + place * call.key_dim;
    if (t < n) values[t] = static_cast<const T*>(call.values) + place * call.value_dim;
  }
  for (int64_t t = 0; t < n; t += size)
    for (int64_t c = 0; c < block.width; c += kLanes) {
      const T* second = values[t + 1] ? values[t + 1] + c : nullptr;
      const Words words = value_words(values[t] + c, second, call.value_dim - c);
      std::memcpy(scratch.values + t / size * block.width + c, &words, sizeof words);
    }
  for (int64_t t = 0; t < kKeys; t += kLanes)
    for (int64_t d = 0; d < call.key_dim; d += per_quad) {
      Words words[per_quad];
      if constexpr (size * 4 == per_quad)
        load_words(keys + t, d, call.key_dim - d, words);
      else
        load_columns(keys + t, d, call.key_dim - d, (Floats*)words);
      for (int64_t j = 0; j < per_quad / size && d + j * size < call.key_dim; j++)
        std::memcpy(scratch.keys + (d / size + j) * kKeys + t, &words[j], sizeof(Words));
    }
}

// `kBlockQueries` rows of left [., depth] times right [depth, right_stride], two vectors wide.
template <typename T>
inline void multiply(const uint32_t* left, int64_t left_stride, const uint32_t* right,
                     int64_t right_stride, int64_t depth, Floats (*sums)[2]) {
  for (int64_t d = 0; d < depth; d++) {
    Words first, second;
    std::memcpy(&first, right + d * right_stride, sizeof first);
    std::memcpy(&second, right + d * right_stride + kLanes, sizeof second);
#pragma GCC unroll 8
    for (int q = 0; q < kBlockQueries; q++) {
      const Words factor = Words{} + left[q * left_stride + d];
      sums[q][0] = Word<T>::add(sums[q][0], first, factor);
      sums[q][1] = Word<T>::add(sums[q][1], second, factor);
    }
  }
}

// Scores of one query → weights of the positions, and what its total shrinks by.
template <typename T>
void weigh(const AttentionCall& call, const Block& block, int64_t query, int64_t first,
           Scratch& scratch) {
  float* scores = scratch.scores + query * kKeys;
  Softmax& softmax = scratch.softmax[query];
  const int64_t position = block.position_of(query);
  const int64_t oldest = call.window ? position - call.window + 1 : 0;
  for (int64_t t = 0; t < kKeys; t++) scores[t] *= call.scaling;
  if (call.softcap)
    for (int64_t t = 0; t < kKeys; t++)
      scores[t] = __builtin_tanhf(scores[t] / call.softcap) * call.softcap;
  if (call.slopes) {
    const float slope = call.slopes[block.kv_head * block.group + query % block.group];
    for (int64_t t = 0; t < kKeys; t++) scores[t] += rounded<T>(slope * (first + t));
  }
  const int64_t begin = oldest > first ? oldest - first : 0;  // of what is visible
  const int64_t end = position + 1 - first;
  float largest = -__builtin_inff();
  for (int64_t t = begin; t < (end < kKeys ? end : kKeys); t++)
    largest = scores[t] > largest ? scores[t] : largest;
  scratch.factors[query] = softmax.raise(largest);
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t t = 0; t < kKeys; t++) {
    const float weight = exp_negative(scores[t] - softmax.largest);
    scores[t] = t >= begin && t < end ? weight : 0;
    sum += scores[t];
  }
  softmax.sum += sum;
  uint32_t* weights = scratch.weights + query * words_of<T>(kKeys);
  if constexpr (Word<T>::kSize == 2) {
    T narrowed[kKeys];
    for (int64_t t = 0; t < kKeys; t += kLanes) store(load(scores + t), narrowed + t);
    std::memcpy(weights, narrowed, sizeof narrowed);
  } else {
    std::memcpy(weights, scores, kKeys * sizeof(float));
  }
}

// The positions from `first` on, for all queries of the block.
template <typename T>
void see_tile(const AttentionCall& call, const Block& block, int64_t first, int64_t n,
              Scratch& scratch) {
  load_tile<T>(call, block, first, n, scratch);
  const int64_t key_words = words_of<T>(call.key_dim), weight_words = words_of<T>(kKeys);
  for (int64_t i = 0; i < block.num_queries(); i += kBlockQueries) {
    for (int64_t t = 0; t < kKeys; t += kPair) {
      Floats sums[kBlockQueries][2] = {};
      multiply<T>(scratch.query + i * key_words, key_words, scratch.keys + t, kKeys, key_words,
                  sums);
      for (int q = 0; q < kBlockQueries; q++)
        for (int half = 0; half < 2; half++)
          store(sums[q][half], scratch.scores + (i + q) * kKeys + t + half * kLanes);
    }
    for (int64_t q = 0; q < kBlockQueries; q++) weigh<T>(call, block, i + q, first, scratch);
    for (int64_t c = 0; c < block.width; c += kPair) {
      float* totals = scratch.totals + i * block.width + c;
      Floats sums[kBlockQueries][2];
      for (int q = 0; q < kBlockQueries; q++)
        for (int half = 0; half < 2; half++)
          sums[q][half] = load(totals + q * block.width + half * kLanes) * scratch.factors[i + q];
      multiply<T>(scratch.weights + i * weight_words, weight_words, scratch.values + c, block.width,
                  words_of<T>(n), sums);
      for (int q = 0; q < kBlockQueries; q++)
        for (int half = 0; half < 2; half++)
          store(sums[q][half], totals + q * block.width + half * kLanes);
    }
  }
}

template <typename T>
void write_out(const AttentionCall& call, const Block& block, Scratch& scratch) {
  for (int64_t i = 0; i < block.num_queries(); i++) {
    const int64_t head = block.kv_head * block.group + i % block.group;
    Softmax& softmax = scratch.softmax[i];
    float scale = 1;
    if (call.sinks) {
      scale = softmax.raise(call.sinks[head]);
      softmax.sum += exp_negative(call.sinks[head] - softmax.largest);
    }
    scale /= softmax.sum;
    T* out = static_cast<T*>(call.out) +
             ((block.first_row + i / block.group) * call.heads + head) * call.value_dim;
    for (int64_t c = 0; c < call.value_dim; c++)
      narrow(scratch.totals[i * block.width + c] * scale, out[c]);
  }
}

template <typename T>
void attend(const AttentionCall& call, const Block& block) {
  Scratch scratch;
  load_queries<T>(call, block, scratch);
  const int64_t end = block.position + block.num_rows;
  const int64_t oldest = block.position - call.window + 1;
  int64_t first = call.window && oldest > 0 ? oldest : 0;
  for (; first < end; first += kKeys)
    see_tile<T>(call, block, first, end - first < kKeys ? end - first : kKeys, scratch);
  write_out<T>(call, block, scratch);
}

// Whether the scratch area is large enough; otherwise the rows of chunks attend one by one.
inline bool fits(const AttentionCall& call) {
  return call.heads / call.kv_heads <= kQueries && call.key_dim <= kMaxDim &&
         call.value_dim <= kMaxDim;
}

// How many of a chunk's rows one task takes.
inline int64_t rows_per_task(const AttentionCall& call) {
  return fits(call) ? kQueries / (call.heads / call.kv_heads) : 1;
}

// Task number `task` of a chunk: some of its rows and one kv head.
template <typename T>
void attend(const AttentionCall& call, const Chunk& chunk, int64_t task) {
  const int64_t most = rows_per_task(call), head = task % call.kv_heads;
  const int64_t first = task / call.kv_heads * most, left = chunk.num_rows - first;
  if (left <= 0) return;
  if (fits(call))
    attend<T>(call, Block{chunk.row + first, chunk.position + first, chunk.table,
                          left < most ? left : most, head, call.heads / call.kv_heads,
                          parts(call.value_dim, kPair) * kPair});
  else
    attend<T>(call, Row{static_cast<int32_t>(chunk.row + first),
                        static_cast<int32_t>(chunk.position + first), chunk.table},
              head, head + 1);
}

template <typename T>
void write_and_attend(const AttentionCall& call) {
  const int64_t heads = call.num_rows ? heads_per_task(call) : 1;
  const int64_t num_parts = parts(call.kv_heads, heads);
  const int64_t chunk_tasks = parts(kChunkRows, rows_per_task(call)) * call.kv_heads;
#pragma omp parallel num_threads(call.num_threads)
  {
#pragma omp for schedule(static)
    for (int64_t row = 0; row < call.num_new; row++) write_new<T>(call, row);
#pragma omp for schedule(dynamic, 1) nowait
    for (int64_t task = 0; task < call.num_chunks * chunk_tasks; task++)
      attend<T>(call, call.chunks[task / chunk_tasks], task % chunk_tasks);
#pragma omp for schedule(dynamic, 1)
    for (int64_t task = 0; task < call.num_rows * num_parts; task++) {
      const int64_t first = task % num_parts * heads;
      const int64_t last = first + heads < call.kv_heads ? first + heads : call.kv_heads;
      attend<T>(call, call.rows[task / num_parts], first, last);
    }
  }
}

}  // namespace
