// Attention of many rows of one sequence, where a key is looked at once for a block of queries. What
// is multiplied lies in a scratch area as words, see `Word`. Keys are transposed, so that scores have
// a lane for each position.

#pragma once

#include "attention.h"

namespace {

constexpr int64_t kQueries = 128;     // rows x heads that share keys, at most
constexpr int64_t kMaxDim = 256;      // of a head
constexpr int64_t kMaxBlock = 16384;  // queries x dim of a block
constexpr int kTileQueries = kHasManyRegisters ? 8 : 4;
constexpr int64_t kPair = 2 * kLanes;

struct alignas(64) Scratch {
  uint32_t keys[kMaxDim * kKeys];    // [words of key_dim, kKeys]
  uint32_t values[kKeys * kMaxDim];  // [words of kKeys, width]
  uint32_t query[kMaxBlock];         // [queries, words of key_dim]
  float totals[kMaxBlock];           // [queries, width]
  // Of `kTileQueries` queries:
  float scores[kTileQueries * kKeys];
  uint32_t weights[kTileQueries * kKeys];  // [queries, words of kKeys]
  float factors[kTileQueries];             // by which totals shrink
  Softmax softmax[kQueries];
};

// How many queries a block has at most; 0 = the scratch area is too small for these heads.
inline int64_t max_queries(int64_t key_dim, int64_t value_dim) {
  const int64_t dim = parts(key_dim > value_dim ? key_dim : value_dim, kPair) * kPair;
  const int64_t room = dim > kMaxDim ? 0 : kMaxBlock / dim / kTileQueries * kTileQueries;
  return room < kQueries ? room : kQueries;
}

// The queries of some rows of a sequence and one kv head; number i is head i % group of row
// i / group.
struct Block {
  Segment rows;
  int64_t kv_head, group, num_queries;
  int64_t width;  // value_dim, rounded up to whole pairs of vectors

  Block(const AttentionCall& call, const Segment& rows, int64_t kv_head)
      : rows(rows),
        kv_head(kv_head),
        group(call.group()),
        num_queries(rows.num_rows * group),
        width(parts(call.value_dim, kPair) * kPair) {}

  int64_t row_of(int64_t query) const { return rows.row + query / group; }
  int64_t head_of(int64_t query) const { return kv_head * group + query % group; }
  int64_t position_of(int64_t query) const { return rows.position + query / group; }
};

template <typename T>
inline int64_t words_of(int64_t elements) {
  return parts(elements, Word<T>::kSize);
}

template <typename T>
inline void put_words(const T* from, int64_t num, uint32_t* to) {
  if constexpr (Word<T>::kSize == 2) {
    if (num % 2) to[num / 2] = 0;
    std::memcpy(to, from, num * sizeof(T));
  } else {
    for (int64_t i = 0; i < num; i++) {
      const float value = widen(from[i]);
      std::memcpy(to + i, &value, sizeof value);
    }
  }
}

template <typename T>
void load_queries(const AttentionCall& call, const Block& block, Scratch& scratch) {
  const int64_t size = words_of<T>(call.key_dim);
  const int64_t num = parts(block.num_queries, kTileQueries) * kTileQueries;
  for (int64_t i = 0; i < num; i++) {
    // The last tile is filled up with the last query.
    const int64_t query = i < block.num_queries ? i : block.num_queries - 1;
    put_words(call.query.at<T>(block.row_of(query), block.head_of(query)), call.key_dim,
              scratch.query + i * size);
    scratch.softmax[i] = kNothingSeen;
  }
  for (int64_t i = 0; i < num * block.width; i++) scratch.totals[i] = 0;
}

template <typename T>
void load_keys(const AttentionCall& call, const T* const* keys, int64_t num, Scratch& scratch) {
  constexpr int64_t per_quad = sizeof(Quad) / sizeof(T), size = Word<T>::kSize;
  for (int64_t t = 0; t < num; t += kLanes)
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

// As many values for the words at `first` and, where words are pairs, at `second`.
template <typename T>
inline Words value_words(const T* first, const T* second, int64_t num) {
  const Words low = (Words)(num > 0 ? load_some(first, num) : Floats{});
  if constexpr (Word<T>::kSize == 1) return low;
  return (Words)(num > 0 && second ? load_some(second, num) : Floats{}) | low >> 16;
}

template <typename T>
void load_values(const AttentionCall& call, const Block& block, const T* const* values, int64_t num,
                 Scratch& scratch) {
  constexpr int64_t size = Word<T>::kSize;
  for (int64_t t = 0; t < num; t += size)
    for (int64_t c = 0; c < block.width; c += kLanes) {
      const T* second = t + 1 < num ? values[t + 1] + c : nullptr;
      const Words words = value_words(values[t] + c, second, call.value_dim - c);
      std::memcpy(scratch.values + t / size * block.width + c, &words, sizeof words);
    }
}

// `kTileQueries` rows of left [., depth] times right [depth, right_stride], two vectors wide.
template <typename T>
inline void multiply(const uint32_t* left, int64_t left_stride, const uint32_t* right,
                     int64_t right_stride, int64_t depth, Floats (*sums)[2]) {
  for (int64_t d = 0; d < depth; d++) {
    Words first, second;
    std::memcpy(&first, right + d * right_stride, sizeof first);
    std::memcpy(&second, right + d * right_stride + kLanes, sizeof second);
#pragma GCC unroll 8
    for (int q = 0; q < kTileQueries; q++) {
      const Words factor = Words{} + left[q * left_stride + d];
      sums[q][0] = Word<T>::add(sums[q][0], first, factor);
      sums[q][1] = Word<T>::add(sums[q][1], second, factor);
    }
  }
}

// Scores of the queries from `i` on with the first `num` keys of a tile, in whole pairs of vectors.
template <typename T>
inline void score(const AttentionCall& call, int64_t i, int64_t num, Scratch& scratch) {
  const int64_t size = words_of<T>(call.key_dim);
  for (int64_t t = 0; t < num; t += kPair) {
    Floats sums[kTileQueries][2] = {};
    multiply<T>(scratch.query + i * size, size, scratch.keys + t, kKeys, size, sums);
    for (int q = 0; q < kTileQueries; q++)
      for (int half = 0; half < 2; half++)
        store(sums[q][half], scratch.scores + q * kKeys + t + half * kLanes);
  }
}

template <typename T>
inline void weigh(const AttentionCall& call, const Block& block, int64_t i, int64_t first,
                  int64_t num, Scratch& scratch) {
  using Weight = std::conditional_t<Word<T>::kSize == 2, T, float>;
  for (int64_t q = 0; q < kTileQueries; q++) {
    const int64_t query = i + q, position = block.position_of(query);
    Weight* weights = reinterpret_cast<Weight*>(scratch.weights + q * words_of<T>(kKeys));
    scratch.factors[q] = weigh<T>(
        call, block.head_of(query), first, call.oldest(position) - first, position + 1 - first,
        parts(num, kPair) * kPair, scratch.scores + q * kKeys, scratch.softmax[query],
        [&](int64_t t, Floats some) { store(some, weights + t); });
  }
}

template <typename T>
inline void accumulate(const Block& block, int64_t i, int64_t num, Scratch& scratch) {
  for (int64_t c = 0; c < block.width; c += kPair) {
    float* totals = scratch.totals + i * block.width + c;
    Floats sums[kTileQueries][2];
    for (int q = 0; q < kTileQueries; q++)
      for (int half = 0; half < 2; half++)
        sums[q][half] = load(totals + q * block.width + half * kLanes) * scratch.factors[q];
    multiply<T>(scratch.weights, words_of<T>(kKeys), scratch.values + c, block.width,
                words_of<T>(num), sums);
    for (int q = 0; q < kTileQueries; q++)
      for (int half = 0; half < 2; half++)
        store(sums[q][half], totals + q * block.width + half * kLanes);
  }
}

template <typename T>
void see_tile(const AttentionCall& call, const Block& block, const Tile& tile, Scratch& scratch) {
  const Rows<T> rows(call, tile, block.kv_head);
  load_keys(call, rows.keys, tile.num, scratch);
  load_values(call, block, rows.values, tile.num, scratch);
  for (int64_t i = 0; i < block.num_queries; i += kTileQueries) {
    const int64_t visible = block.position_of(i + kTileQueries - 1) + 1 - tile.first;
    const int64_t num = visible < tile.num ? visible : tile.num;
    if (num <= 0 || call.oldest(block.position_of(i)) >= tile.first + tile.num) continue;
    score<T>(call, i, num, scratch);
    weigh<T>(call, block, i, tile.first, num, scratch);
    accumulate<T>(block, i, num, scratch);
  }
}

template <typename T>
void attend(const AttentionCall& call, const Block& block) {
  Scratch scratch;
  load_queries<T>(call, block, scratch);
  const Segment& rows = block.rows;
  const int64_t end = rows.position + rows.num_rows;
  Tile tile(call, rows.table, call.oldest(rows.position), end);
  while (tile.num > 0) {
    const Tile next(call, rows.table, tile.first + kKeys, end);
    prefetch<T>(call, next, block.kv_head);
    see_tile<T>(call, block, tile, scratch);
    tile = next;
  }
  for (int64_t i = 0; i < block.num_queries; i++)
    write_out<T>(call, block.row_of(i), block.head_of(i), scratch.totals + i * block.width,
                 scratch.softmax[i]);
}

}  // namespace
