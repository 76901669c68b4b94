// The row-wise terms of an adapter at one site, for the few rows of a decode step:
//
//     y = c * y + (x A^T) B^T + d        x [rows, in], y [rows, out], both row-major
//
// Rows come in runs of one slot each. Sums are float32 and rounded once; a term that is absent is a
// null pointer. Every byte of an adapter is read once per run. The torch twin is operator/terms.py.

#pragma once

#include "scalars.h"

namespace {

struct Entry {
  const void* a;   // [rank, in]
  const void* b;   // [out, rank]
  const float* c;  // [out]
  const float* d;  // [out]
  int64_t rank;
};

struct Table {
  const Entry* entries;  // by slot
  int64_t size;

  // A slot that is beyond the table does nothing at this site.
  Entry at(int64_t slot) const { return slot < size ? entries[slot] : Entry{}; }
};

struct Run {
  int32_t slot, start, stop;
};

constexpr int64_t kBlock = 64;  // outputs that one thread takes at a time

template <typename T>
void shrink(const Entry& entry, const Run& run, const T* x, int64_t in, float* hidden, int64_t k) {
  const T* a = static_cast<const T*>(entry.a) + k * in;
  for (int64_t row = run.start; row < run.stop; row++)
    hidden[(row - run.start) * entry.rank + k] = dot(a, x + row * in, in);
}

template <typename T>
void expand(const Entry& entry, const Run& run, T* y, int64_t out, const float* hidden,
            int64_t first) {
  int64_t last = first + kBlock < out ? first + kBlock : out;
  const T* b = static_cast<const T*>(entry.b);
  for (int64_t o = first; o < last; o++)
    for (int64_t row = run.start; row < run.stop; row++) {
      float sum = widen(y[row * out + o]);
      if (entry.c) sum *= entry.c[o];
      if (b) sum += weighted(b + o * entry.rank, hidden + (row - run.start) * entry.rank, entry.rank);
      if (entry.d) sum += entry.d[o];
      narrow(sum, y[row * out + o]);
    }
}

inline bool is_empty(const Entry& entry) { return !entry.b && !entry.c && !entry.d; }

// `hidden` has room for the rank of every row, in the order of the runs.
template <typename T>
void apply(Table table, const Run* runs, int64_t num_runs, const T* x, T* y, int64_t in,
           int64_t out, float* hidden, int num_threads) {
  int64_t num_blocks = (out + kBlock - 1) / kBlock;
#pragma omp parallel num_threads(num_threads)
  {
    int64_t offset = 0;
    for (int64_t i = 0; i < num_runs; i++) {
      const Entry entry = table.at(runs[i].slot);
#pragma omp for schedule(static) nowait
      for (int64_t k = 0; k < (entry.b ? entry.rank : 0); k++)
        shrink(entry, runs[i], x, in, hidden + offset, k);
      offset += (runs[i].stop - runs[i].start) * entry.rank;
    }
#pragma omp barrier
    offset = 0;
    for (int64_t i = 0; i < num_runs; i++) {
      const Entry entry = table.at(runs[i].slot);
#pragma omp for schedule(static) nowait
      for (int64_t block = 0; block < (is_empty(entry) ? 0 : num_blocks); block++)
        expand(entry, runs[i], y, out, hidden + offset, block * kBlock);
      offset += (runs[i].stop - runs[i].start) * entry.rank;
    }
  }
}

}  // namespace
