// The row-wise terms of an adapter at one site, for the few rows of a decode step:
//
//     y = c * y + (x A^T) B^T + d        x [rows, in], y [rows, out], both row-major
//
// Rows come in runs of one slot each. Sums are float32 and rounded once; a term that is absent is a
// null pointer. Every byte of an adapter comes from memory once per run, in the order in which it
// lies there. The torch twin is operator/terms.py.

#pragma once

#include <omp.h>

#include "vectors.h"

namespace {

struct Entry {
  const void* a;   // [rank, in]
  const void* b;   // [out, rank]
  const float* c;  // [out]
  const float* d;  // [out]
  int64_t rank;

  bool is_empty() const { return !b && !c && !d; }
};

struct Run {
  int32_t slot, start, stop;

  int64_t num_rows() const { return stop - start; }
};

struct SiteTable {
  const Entry* entries;  // by slot
  int64_t num_slots, in, out;

  // A slot that is beyond the table does nothing at this site.
  Entry at(int64_t slot) const { return slot < num_slots ? entries[slot] : Entry{}; }
};

struct RunList {
  const Run* runs;
  int64_t num_runs;
};

constexpr int64_t kRanks = 4;        // rows of A at a time
constexpr int64_t kShrinkRows = 8;   // rows of x that one task takes
constexpr int64_t kOutputs = 64;     // outputs that one task takes
constexpr int64_t kHiddenAlign = 8;  // as many ranks as a `Quad` of B has at most

// Floats of x A^T that one row takes; those beyond the rank are zero.
inline int64_t hidden_size(const Entry& entry) {
  return entry.b ? parts(entry.rank, kHiddenAlign) * kHiddenAlign : 0;
}

// hidden[row][k] = A[k] . x[row] for `kRanks` rows of A from `k` on and kRows rows of x.
template <int kRows, typename T>
void shrink(const Entry& entry, int64_t k, const T* x, int64_t in, float* hidden) {
  using P = Product<T>;
  const T* a[kRanks];
  for (int64_t j = 0; j < kRanks; j++)
    a[j] = static_cast<const T*>(entry.a) + (k + j < entry.rank ? k + j : entry.rank - 1) * in;
  Floats sums[kRanks][kRows] = {};
  int64_t i = 0;
  for (; i + P::kStep <= in; i += P::kStep) {
    typename P::Operand rows[kRows];
    for (int row = 0; row < kRows; row++) rows[row] = P::get(x + row * in + i);
    for (int64_t j = 0; j < kRanks; j++) {
      typename P::Operand weights = P::get(a[j] + i);
      for (int row = 0; row < kRows; row++) sums[j][row] = P::add(sums[j][row], weights, rows[row]);
    }
  }
  for (int row = 0; row < kRows; row++)
    for (int64_t j = 0; j < kRanks; j++) {
      float sum = total(sums[j][row]);
      for (int64_t rest = i; rest < in; rest++) sum += widen(a[j][rest]) * widen(x[row * in + rest]);
      hidden[row * hidden_size(entry) + k + j] = k + j < entry.rank ? sum : 0;
    }
  if (k + kRanks >= entry.rank)
    for (int row = 0; row < kRows; row++)
      for (int64_t j = k + kRanks; j < hidden_size(entry); j++)
        hidden[row * hidden_size(entry) + j] = 0;
}

// y = c * y + sum + d for up to `kLanes` outputs from `o` on.
template <typename T>
inline void finish(const Entry& entry, Floats sum, T* y, int64_t o, int64_t n) {
  T some[kLanes] = {};
  T* place = n < kLanes ? some : y;
  if (n < kLanes) std::memcpy(some, y, n * sizeof(T));
  Floats old = load(place);
  if (entry.c) old *= load_some(entry.c + o, n);
  sum += old;
  if (entry.d) sum += load_some(entry.d + o, n);
  store(sum, place);
  if (n < kLanes) std::memcpy(y, some, n * sizeof(T));
}

// `kRows` rows of y, `kLanes` outputs from `o` on.
template <int kRows, typename T>
void expand(const Entry& entry, const float* hidden, T* y, int64_t out, int64_t o) {
  constexpr int64_t per_quad = sizeof(Quad) / sizeof(T);
  const int64_t n = out - o, size = hidden_size(entry);
  // What lies beyond the outputs repeats the last one.
  const T* weights[kLanes];
  for (int64_t lane = 0; lane < kLanes; lane++)
    weights[lane] =
        static_cast<const T*>(entry.b) + (o + (lane < n ? lane : n - 1)) * entry.rank;
  Floats sums[kRows] = {};
  for (int64_t k = 0; k < (entry.b ? entry.rank : 0); k += per_quad) {
    Floats columns[per_quad];
    load_columns(weights, k, entry.rank - k, columns);
    for (int64_t j = 0; j < per_quad; j++)
      for (int row = 0; row < kRows; row++) sums[row] += columns[j] * hidden[row * size + k + j];
  }
  for (int row = 0; row < kRows; row++) finish(entry, sums[row], y + row * out + o, o, n);
}

// Calls `work(run, entry, its first float of hidden, task)` for this thread's share of all tasks.
template <typename Count, typename Work>
inline void share(const SiteTable& site, const RunList& list, Count count, Work work) {
  int64_t num_tasks = 0;
  for (int64_t i = 0; i < list.num_runs; i++)
    num_tasks += count(list.runs[i], site.at(list.runs[i].slot));
  const int64_t me = omp_get_thread_num(), threads = omp_get_num_threads();
  const int64_t first = num_tasks * me / threads, last = num_tasks * (me + 1) / threads;
  int64_t begin = 0, offset = 0;
  for (int64_t i = 0; i < list.num_runs && begin < last; i++) {
    const Run& run = list.runs[i];
    const Entry entry = site.at(run.slot);
    const int64_t end = begin + count(run, entry);
    for (int64_t task = begin < first ? first : begin; task < (end < last ? end : last); task++)
      work(run, entry, offset, task - begin);
    begin = end;
    offset += run.num_rows() * hidden_size(entry);
  }
}

// This thread's share of hidden = x A^T. `hidden` has room for the `hidden_size` of every row, in the
// order of the runs.
template <typename T>
void shrink_rows(const SiteTable& site, const RunList& list, const T* x, float* hidden) {
  share(
      site, list,
      [](const Run& run, const Entry& entry) {
        return entry.b ? parts(entry.rank, kRanks) * parts(run.num_rows(), kShrinkRows) : 0;
      },
      [&](const Run& run, const Entry& entry, int64_t offset, int64_t task) {
        const int64_t num_parts = parts(run.num_rows(), kShrinkRows);
        const int64_t first = task % num_parts * kShrinkRows;
        const int64_t last = first + kShrinkRows;
        by_rows<kHasManyRegisters ? 4 : 2>(
            first, last < run.num_rows() ? last : run.num_rows(), [&](int64_t row, auto count) {
              shrink<count()>(entry, task / num_parts * kRanks, x + (run.start + row) * site.in,
                              site.in, hidden + offset + row * hidden_size(entry));
            });
      });
}

// This thread's share of y = c * y + hidden B^T + d, when all of `hidden` is there.
template <typename T>
void expand_rows(const SiteTable& site, const RunList& list, const float* hidden, T* y) {
  share(
      site, list,
      [&](const Run&, const Entry& entry) {
        return entry.is_empty() ? 0 : parts(site.out, kOutputs);
      },
      [&](const Run& run, const Entry& entry, int64_t offset, int64_t task) {
        const int64_t first = task * kOutputs, last = first + kOutputs;
        for (int64_t o = first; o < (last < site.out ? last : site.out); o += kLanes)
          by_rows<kHasManyRegisters ? 8 : 4>(0, run.num_rows(), [&](int64_t row, auto count) {
            expand<count()>(entry, hidden + offset + row * hidden_size(entry),
                            y + (run.start + row) * site.out, site.out, o);
          });
      });
}

template <typename T>
void apply(const SiteTable& site, const RunList& list, const T* x, T* y, float* hidden,
           int num_threads) {
#pragma omp parallel num_threads(num_threads)
  {
    shrink_rows(site, list, x, hidden);
#pragma omp barrier
    expand_rows(site, list, hidden, y);
  }
}

}  // namespace
