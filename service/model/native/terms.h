// The row-wise terms of the adapters of a step at one site:
//
//     y = c * y + (x A^T) B^T + d        x [rows, in], y [rows, out], both row-major
//
// Rows come in runs of one slot each. Sums are float32 and rounded once; a term that is absent is a
// null pointer. Every byte of an adapter comes from memory once per run, in the order in which it
// lies there. The torch twin is operator/terms.py.

#pragma once

#include <omp.h>

#include "term_tiles.h"

namespace {

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

constexpr int64_t kShrinkRows = 16;  // rows of x that one task takes
constexpr int64_t kOutputs = 64;     // outputs that one task takes

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
        by_rows<kRowTile>(
            first, least(first + kShrinkRows, run.num_rows()), [&](int64_t row, auto count) {
              shrink<count()>(entry, task / num_parts * kRanks, x + (run.start + row) * site.in,
                              site.in, hidden + offset + row * hidden_size(entry));
            });
      });
}

// This thread's share of y = c * y + hidden B^T + d, when all of `hidden` is there.
template <typename T>
void expand_rows(const SiteTable& site, const RunList& list, const float* hidden, T* y) {
  Panel panel;
  share(
      site, list,
      [&](const Run& run, const Entry& entry) {
        const int64_t num_parts = parts(run.num_rows(), kExpandRows);
        return entry.is_empty() ? 0 : parts(site.out, kOutputs) * num_parts;
      },
      [&](const Run& run, const Entry& entry, int64_t offset, int64_t task) {
        const int64_t num_parts = parts(run.num_rows(), kExpandRows);
        const int64_t row = task % num_parts * kExpandRows, o = task / num_parts * kOutputs;
        expand_part(entry, least(kExpandRows, run.num_rows() - row),
                    hidden + offset + row * hidden_size(entry), y + (run.start + row) * site.out,
                    site.out, o, least(o + kOutputs, site.out), panel);
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
