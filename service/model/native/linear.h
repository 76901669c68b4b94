// Linear modules on the rows of a step that decodes, with the adapters' terms of the site:
//
//     y = x W^T + b, then as in terms.h        x [rows, in], y [rows, out], both row-major
//
// The weight is read where oneDNN keeps it for its own products: `kBlock` outputs make a block, and a
// block has the words of all its outputs for one word of inputs after the other. A word is a float32,
// or two bfloat16 that follow each other in the sum. All rows share one pass over the weight; each has
// its own sums, in the order of the inputs, whatever rows stand beside it.

#pragma once

#include <omp.h>

#include "terms.h"
#include "vectors.h"

namespace {

constexpr int64_t kBlock = 64;  // outputs
constexpr int64_t kBlockParts = kBlock / kLanes;
constexpr int64_t kLinearRows = 128;   // at most
constexpr int64_t kChunk = 64;         // words of inputs that stay in the first cache for all rows
constexpr int64_t kAhead = kChunk;     // words of inputs that are asked for before it is their turn
constexpr int64_t kLine = 16;          // words that come from memory together
// Rows and vectors of outputs whose sums fit into the registers. A single row takes memory in order.
constexpr int kTileRows = kHasManyRegisters ? 4 : 3;
constexpr int kTileParts = 4;
constexpr int kRowParts = kBlockParts < 8 ? kBlockParts : 8;

struct Weight {
  const uint32_t* blocks;  // what fills up the last one is read, and counts for nothing
  const void* bias;        // [out] or null
  int64_t in, out;
  int64_t block_size;  // words
};

template <typename T>
struct WeightWord {
  static constexpr int64_t kSize = 1;  // elements
  static Floats add(Floats sum, Words weights, Words x) { return sum + (Floats)weights * (Floats)x; }
};

template <>
struct WeightWord<bfloat16> {
  static constexpr int64_t kSize = 2;
  static Floats add(Floats sum, Words weights, Words x) {
    if constexpr (Word<bfloat16>::kSize == 2) return Word<bfloat16>::add(sum, weights, x);
    constexpr uint32_t second = 0xffff0000;
    sum += (Floats)(weights << 16) * (Floats)(x << 16);
    return sum + (Floats)(weights & second) * (Floats)(x & second);
  }
};

// totals[row][o] += `num_words` words of inputs, for kParts vectors of outputs. Rows of x lie `in`
// elements apart.
template <int kRows, int kParts, typename T>
inline void add_words(const uint32_t* weights, int64_t num_words, const T* x, int64_t in,
                      float* totals) {
  using W = WeightWord<T>;
  Floats sums[kRows][kParts];
  const auto each = [&](const auto& work) __attribute__((always_inline)) {
    repeat<kRows>([&](auto row) __attribute__((always_inline)) {
      repeat<kParts>([&](auto part) __attribute__((always_inline)) {
        work(sums[row][part], totals + row * kBlock + part * kLanes);
      });
    });
  };
  each([](Floats& sum, const float* total) { sum = load(total); });
  for (int64_t k = 0; k < num_words; k++, weights += kBlock) {
    // For a single row the processor itself looks ahead far enough.
    if constexpr (kRows > 1)
      for (int64_t line = 0; line < kParts * kLanes; line += kLine)
        __builtin_prefetch(weights + kAhead * kBlock + line);
    Words columns[kParts];
    repeat<kParts>([&](auto part) __attribute__((always_inline)) {
      std::memcpy(&columns[part], weights + part * kLanes, sizeof(Words));
    });
    repeat<kRows>([&](auto row) __attribute__((always_inline)) {
      uint32_t word;
      std::memcpy(&word, x + row * in + k * W::kSize, sizeof word);
      const Words factor = Words{} + word;
      repeat<kParts>([&](auto part) __attribute__((always_inline)) {
        sums[row][part] = W::add(sums[row][part], columns[part], factor);
      });
    });
  }
  each([](Floats sum, float* total) { store(sum, total); });
}

// The same for all rows and the vectors `first` to `last` of a block.
template <typename T>
inline void add_chunk(const uint32_t* weights, int64_t num_words, const T* x, int64_t in,
                      int64_t num_rows, int64_t first, int64_t last, float* totals) {
  by_rows<kTileRows>(0, num_rows, [&](int64_t row, auto count) {
    by_rows<count() == 1 ? kRowParts : kTileParts>(first, last, [&](int64_t part, auto num_parts) {
      add_words<count(), num_parts()>(weights + part * kLanes, num_words, x + row * in, in,
                                      totals + row * kBlock + part * kLanes);
    });
  });
}

template <typename T>
inline void finish_outputs(const float* totals, const T* bias, int64_t n, T* y) {
  int64_t o = 0;
  for (; o + kLanes <= n; o += kLanes)
    store(bias ? load(totals + o) + load(bias + o) : load(totals + o), y + o);
  for (; o < n; o++) narrow(bias ? totals[o] + widen(bias[o]) : totals[o], y[o]);
}

// The vectors `first` to `last` of one block.
template <typename T>
void multiply_block(const Weight& weight, int64_t block, int64_t first, int64_t last, const T* x,
                    int64_t num_rows, T* y) {
  constexpr int64_t size = WeightWord<T>::kSize;
  const uint32_t* weights = weight.blocks + block * weight.block_size;
  const int64_t num_words = weight.in / size, in = weight.in;
  float totals[kLinearRows * kBlock] = {};
  for (int64_t k = 0; k < num_words; k += kChunk)
    add_chunk(weights + k * kBlock, num_words - k < kChunk ? num_words - k : kChunk, x + k * size,
              in, num_rows, first, last, totals);
  if (in % size) {
    T rest[kLinearRows * size] = {};
    for (int64_t row = 0; row < num_rows; row++) rest[row * size] = x[row * in + in - 1];
    add_chunk(weights + num_words * kBlock, 1, rest, size, num_rows, first, last, totals);
  }
  const int64_t o = block * kBlock + first * kLanes, end = block * kBlock + last * kLanes;
  const int64_t n = (end < weight.out ? end : weight.out) - o;
  const T* bias = weight.bias ? static_cast<const T*>(weight.bias) + o : nullptr;
  for (int64_t row = 0; row < num_rows; row++)
    finish_outputs(totals + row * kBlock + first * kLanes, bias, n, y + row * weight.out + o);
}

// This thread's share of y = x W^T + b: neighbouring vectors of outputs.
template <typename T>
void multiply_rows(const Weight& weight, const T* x, int64_t num_rows, T* y) {
  const int64_t me = omp_get_thread_num(), threads = omp_get_num_threads();
  const int64_t num_parts = parts(weight.out, kLanes);
  const int64_t end = num_parts * (me + 1) / threads;
  for (int64_t part = num_parts * me / threads, next; part < end; part = next) {
    const int64_t block = part / kBlockParts, begin = block * kBlockParts;
    next = begin + kBlockParts < end ? begin + kBlockParts : end;
    multiply_block(weight, block, part - begin, next - begin, x, num_rows, y);
  }
}

// `site`, `runs` and `hidden` are null when no row has an adapter. y is rounded before the terms come to
// it, as when they are applied by a call of their own.
template <typename T>
void linear(const Weight& weight, const SiteTable* site, const RunList* runs, float* hidden,
            const T* x, T* y, int64_t num_rows, int num_threads) {
#pragma omp parallel num_threads(num_threads)
  {
    if (site) shrink_rows(*site, *runs, x, hidden);
    multiply_rows(weight, x, num_rows, y);
    if (site) {
#pragma omp barrier
      expand_rows(*site, *runs, hidden, y);
    }
  }
}

}  // namespace
